"""A policy, compiled: what the core evaluates. Built once from a `PolicySpec`, then only read.

A `Timeline` is the versions of a policy by the instants from which they hold.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

from models.codegen.change_details import Tales
from models.codegen.look import Look, Show, compile_look, compile_show
from models.codegen.outlook import Outlook
from models.codegen.snapshot import Snapshot, compile_snapshot
from models.codegen.unchanged import Steady, compile_steady
from models.errors import PolicyError
from models.events import KNOWN_KINDS
from models.identity import id64
from models.instants import MIN_INSTANT, format_instant, parse_duration, parse_instant, zone
from models.money import Money
from models.policy.care_rules import (
    Action,
    CampaignRule,
    CareRule,
    ConditionRule,
    Governance,
    InteractionRule,
    NearUpgradeRule,
)
from models.policy.compile_care import compile_care, compile_governance
from models.policy.compile_schemes import GaugeBook, Scheme, compile_scheme
from models.policy.spec import PolicySpec
from models.rules.metrics import Gauge


@dataclass(frozen=True)
class Policy:
    """Everything that decides from `effective_from` (ms) on. Windows in ms, weights in thousandths.

    `digest` is the specification as text: equal for equal policies.
    """

    version: str
    effective_from: int
    money: Money
    zone: ZoneInfo
    weights: Mapping[str, int]
    schemes: tuple[Scheme, ...]
    care: tuple[CareRule, ...]
    governance: Governance
    gauges: tuple[Gauge, ...]
    digest: str

    @cached_property
    def look(self) -> Look:
        """Ranks of all schemes, then those of the care rules that stand on rules, and when they may change.

        A condition's rank is 1 where it holds, else 0.
        """
        ladders = [[tier.rule for tier in scheme.tiers] for scheme in self.schemes]
        for rule in self.care:
            if isinstance(rule, ConditionRule):
                ladders.append([None, rule.rule])
            elif isinstance(rule, NearUpgradeRule):
                ladders.append([None, *rule.near])
        return compile_look(self.gauges, ladders)

    @cached_property
    def steady(self) -> Steady | None:
        """What evaluates customers for whom no scheme moves; None where care, or a rule, asks for more."""
        if self.care:
            return None
        return compile_steady(self.schemes, self.gauges, self.version, self.horizon)

    @cached_property
    def ladders(self) -> tuple[tuple[Scheme, str, tuple[str, ...]], ...]:
        """Each scheme, its name and its tiers' names, lowest first: they are asked for at every evaluation."""
        return tuple((scheme, scheme.name, tuple(tier.name for tier in scheme.tiers)) for scheme in self.schemes)

    @cached_property
    def outlooks(self) -> Mapping[str, Outlook]:
        """What time alone does in each scheme, by its name."""
        return {scheme.name: Outlook(scheme, self.gauges) for scheme in self.schemes}

    @cached_property
    def show(self) -> Show:
        """Metrics as `customer-tiers` shows them."""
        return compile_show(self._shown, self.money)

    @cached_property
    def snapshot(self) -> Snapshot:
        """A customer's tiers and metrics as JSON."""
        return compile_snapshot([scheme.name for scheme in self.schemes], self._shown, self.money, self.version)

    @property
    def _shown(self) -> list[Gauge]:
        """The gauges that `customer-tiers` shows; where two schemes show one metric, the first scheme's window wins."""
        first: dict[str, Gauge] = {}
        for scheme in self.schemes:
            for index in scheme.shown:
                first.setdefault(self.gauges[index].metric.name, self.gauges[index])
        return list(first.values())

    @cached_property
    def shows(self) -> Mapping[str, Show]:
        """Metrics as each scheme shows them, by its name."""
        return {
            scheme.name: compile_show([self.gauges[index] for index in scheme.shown], self.money)
            for scheme in self.schemes
        }

    @cached_property
    def tales(self) -> Mapping[str, Tales]:
        """What the tier changes of each scheme tell, by its name."""
        return {scheme.name: Tales(scheme, self.gauges, self.money) for scheme in self.schemes}

    @cached_property
    def kept_kinds(self) -> frozenset[str]:
        """Interaction kinds that some metric may read, or care answers: one that is read again must be known."""
        weighed = (kind for kind, weight in self.weights.items() if weight)
        return frozenset({"survey", "referral", *weighed, *self._answered_kinds})

    @cached_property
    def _answered_kinds(self) -> frozenset[str]:
        return frozenset(rule.interaction for rule in self.care if isinstance(rule, InteractionRule))

    @cached_property
    def actions(self) -> dict[str, Action]:
        """What each care rule leads to, by its name."""
        return {rule.action.rule: rule.action for rule in self.care}

    @cached_property
    def campaign_subjects(self) -> frozenset[str]:
        """The subjects of campaigns that some care rule attends to."""
        return frozenset[str]().union(*(rule.subjects for rule in self.care if isinstance(rule, CampaignRule)))

    @cached_property
    def known_kinds(self) -> frozenset[str]:
        """Interaction kinds that are not counted as unknown."""
        converting = (action.converts for action in self.actions.values())
        return KNOWN_KINDS.union(self.weights, self._answered_kinds, self.governance.watched, *converting)

    @cached_property
    def horizon(self) -> int:
        """The longest window (ms) of any gauge."""
        return max(gauge.window for gauge in self.gauges)


class Timeline:
    """The versions of a policy. Before the first holds, the first holds all the same."""

    def __init__(self, versions: Sequence[Policy]) -> None:
        """Raises PolicyError where two versions have one name or begin at one instant, or count in other money."""
        self.versions = sorted(versions, key=lambda policy: policy.effective_from)
        self._starts = [policy.effective_from for policy in self.versions]
        self._only = self.versions[0] if len(self.versions) == 1 else None
        for what, values in (("version", [p.version for p in self.versions]), ("effective_from", self._starts)):
            if len(set(values)) < len(values):
                raise PolicyError(f"{what}: found the same twice, allowed is one for each version of the policy")
        if len({policy.money.currency for policy in self.versions}) > 1:
            raise PolicyError("currency: found several, allowed is one for all versions: amounts are kept in it")
        #: Changes with anything in any version, so that a row tells which timeline it was evaluated under.
        self.fingerprint = id64("|".join(policy.digest for policy in self.versions)) >> 32

    @property
    def latest(self) -> Policy:
        """The version that holds last."""
        return self.versions[-1]

    def at(self, instant: int) -> Policy:
        """Return the version that holds at an instant (ms)."""
        if self._only is not None:
            return self._only
        return self.versions[max(0, bisect_right(self._starts, instant) - 1)]

    def next_start(self, instant: int) -> int | None:
        """Return the next instant (ms) after one at which another version begins to hold, or None."""
        if self._only is not None:
            return None
        index = max(1, bisect_right(self._starts, instant))
        return self._starts[index] if index < len(self._starts) else None

    def steady(self, _instant: int) -> Steady | None:
        """Return what evaluates customers as of an instant (ms) for whom no scheme moves; None where more is asked."""
        return None if self._only is None else self._only.steady

    def catches_up(self, _instant: int) -> int | None:
        """Return as of when (ms) is to be decided again about who an event at an instant is found late for, or None."""
        return None

    @cached_property
    def horizon(self) -> int:
        """The longest window (ms) of any version."""
        return max(policy.horizon for policy in self.versions)

    @cached_property
    def kept_kinds(self) -> frozenset[str]:
        """Interaction kinds that some metric of some version may read."""
        return frozenset[str]().union(*(policy.kept_kinds for policy in self.versions))

    @cached_property
    def watched_kinds(self) -> frozenset[str]:
        """Interaction kinds whose latest instant some care rule of some version goes by."""
        return frozenset[str]().union(*(policy.governance.watched for policy in self.versions))

    @cached_property
    def budgeted(self) -> bool:
        """Whether some version has budgets, so that customers of a partition must be decided about in order of time."""
        return any(policy.governance.budgets for policy in self.versions)

    @cached_property
    def announces(self) -> bool:
        """Whether some care rule of some version attends to campaigns."""
        return any(policy.campaign_subjects for policy in self.versions)


def compile_policy(spec: PolicySpec) -> Policy:
    """Return the policy that a checked specification describes."""
    money = Money(spec.currency, {currency: Fraction(rate) for currency, rate in spec.rates.items()})
    window = parse_duration(spec.window)
    book = GaugeBook(money.scale)
    schemes = tuple(compile_scheme(name, scheme, window, book) for name, scheme in spec.schemes.items())
    weights = {kind: round(Fraction(weight) * 1000) for kind, weight in spec.weights.items()}
    by_name = {scheme.name: scheme for scheme in schemes}
    care = tuple(compile_care(rule, by_name, window, book) for rule in spec.care)
    governance = compile_governance(spec.governance, care)
    start = MIN_INSTANT if spec.effective_from is None else parse_instant(spec.effective_from)
    digest = spec.model_dump_json()
    return Policy(
        spec.version,
        start,
        money,
        zone(spec.timezone),
        weights,
        schemes,
        care,
        governance,
        book.gauges(),
        digest,
    )


def describe(policy: Policy) -> str:
    """Return a version and its start as people read them."""
    since = "" if policy.effective_from == MIN_INSTANT else f" from {format_instant(policy.effective_from)}"
    return f"{policy.version}{since}"
