"""A compiled policy: what the core evaluates. It is built once from a `PolicySpec` and only read after that.

Properties are computed on first use. Two threads may compute one twice; the results are equal, and one is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from zoneinfo import ZoneInfo

from models.codegen.change_details import ChangeDetails
from models.codegen.evaluate_rules import RenderMetrics, compile_evaluate_rules, compile_render_metrics
from models.codegen.outlook import Outlook
from models.events import KNOWN_KINDS
from models.identity import id64
from models.instants import MIN_INSTANT, format_instant, parse_instant, zone
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
from models.policy.compile_schemes import GaugeBook, compile_scheme
from models.policy.spec import PolicySpec
from models.rules.metrics import Gauge
from models.rules.periods import longest, parse_window
from models.rules.scheme import EvaluateRules, Scheme


@dataclass(frozen=True)
class Policy:
    """Everything that decides from `effective_from` (ms) on. Windows in ms, weights in thousandths.

    `digest` is the specification as text; it is equal for equal policies. `content` is a hash of what it says beyond
    defaults: it is also equal if a release adds keys.
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
    content: str

    @cached_property
    def evaluate_rules(self) -> EvaluateRules:
        """The ranks of all schemes, then of the care rules that have a ladder, and when one may next change.

        The rank of a condition is 1 if it holds, else 0.
        """
        ladders = [[tier.rule for tier in scheme.tiers] for scheme in self.schemes]
        for rule in self.care:
            if isinstance(rule, ConditionRule):
                ladders.append([None, rule.rule])
            elif isinstance(rule, NearUpgradeRule):
                ladders.append([None, *rule.near])
        return compile_evaluate_rules(self.gauges, ladders)

    @cached_property
    def ladders(self) -> tuple[tuple[Scheme, str, tuple[str, ...]], ...]:
        """Each scheme with its name and its tiers' names, lowest first, for every evaluation."""
        return tuple((scheme, scheme.name, tuple(tier.name for tier in scheme.tiers)) for scheme in self.schemes)

    @cached_property
    def outlooks(self) -> Mapping[str, Outlook]:
        """What time alone does in each scheme, by the scheme's name."""
        return {scheme.name: Outlook(scheme, self.gauges) for scheme in self.schemes}

    @cached_property
    def render_metrics(self) -> RenderMetrics:
        """Metrics as `customer-tiers` shows them."""
        return compile_render_metrics(self._shown, self.money)

    @property
    def _shown(self) -> list[Gauge]:
        """The gauges that `customer-tiers` shows. If two schemes show one metric, the first scheme's window wins."""
        first: dict[str, Gauge] = {}
        for scheme in self.schemes:
            for index in scheme.shown:
                first.setdefault(self.gauges[index].metric.name, self.gauges[index])
        return list(first.values())

    @cached_property
    def render_scheme_metrics(self) -> Mapping[str, RenderMetrics]:
        """Metrics as each scheme shows them, by the scheme's name."""
        return {
            scheme.name: compile_render_metrics([self.gauges[index] for index in scheme.shown], self.money)
            for scheme in self.schemes
        }

    @cached_property
    def change_details(self) -> Mapping[str, ChangeDetails]:
        """The details of tier changes, by the scheme's name."""
        return {scheme.name: ChangeDetails(scheme, self.gauges, self.money) for scheme in self.schemes}

    @cached_property
    def kept_kinds(self) -> frozenset[str]:
        """Interaction kinds that a metric may read or a care rule answers; these must be kept to recognise repeats."""
        weighed = (kind for kind, weight in self.weights.items() if weight)
        return frozenset({"survey", "referral", *weighed, *self._answered_kinds})

    @cached_property
    def _answered_kinds(self) -> frozenset[str]:
        return frozenset(rule.interaction for rule in self.care if isinstance(rule, InteractionRule))

    @cached_property
    def actions(self) -> dict[str, Action]:
        """The action of each care rule, by the rule's name."""
        return {rule.action.rule: rule.action for rule in self.care}

    @cached_property
    def campaign_subjects(self) -> frozenset[str]:
        """The campaign subjects that some care rule handles."""
        return frozenset[str]().union(*(rule.subjects for rule in self.care if isinstance(rule, CampaignRule)))

    @cached_property
    def known_kinds(self) -> frozenset[str]:
        """Interaction kinds that are not counted as unknown."""
        converting = (action.converts for action in self.actions.values())
        return KNOWN_KINDS.union(self.weights, self._answered_kinds, self.governance.watched, *converting)

    @cached_property
    def horizon(self) -> int:
        """How far (ms) any gauge looks back at most."""
        return max(longest(gauge.window) for gauge in self.gauges)


def compile_policy(spec: PolicySpec) -> Policy:
    """Return the policy that a checked specification describes."""
    money = Money(spec.currency, {currency: Fraction(rate) for currency, rate in spec.rates.items()})
    place = zone(spec.timezone)
    window = parse_window(spec.window, place)
    book = GaugeBook(money.scale)
    schemes = tuple(compile_scheme(name, scheme, window, book, place) for name, scheme in spec.schemes.items())
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
        place,
        weights,
        schemes,
        care,
        governance,
        book.gauges(),
        digest,
        f"{id64(spec.model_dump_json(exclude_defaults=True)):016x}",
    )


def describe(policy: Policy) -> str:
    """Return a version and its start as text for people."""
    since = "" if policy.effective_from == MIN_INSTANT else f" from {format_instant(policy.effective_from)}"
    return f"{policy.version}{since}"
