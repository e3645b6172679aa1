"""A policy, compiled: what the core evaluates. Built once from a `PolicySpec`, then only read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import time
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

from models.events import KNOWN_KINDS
from models.instants import parse_duration, zone
from models.metrics import METRICS, Edge, Unit
from models.money import Money
from models.policy_spec import Birthday, CareRule, OnCondition, PolicySpec, Thresholds, parse_comparison
from models.rules import Comparison, Junction, Op, Rule

#: Shown in every tier change and in `customer-tiers`, whatever the rules read.
BASE_METRICS = ("recency_days", "frequency", "monetary")


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier and its rule; the lowest has none."""

    name: str
    rule: Rule | None


@dataclass(frozen=True)
class Scheme:
    """A threshold scheme: tiers lowest first, and how a customer falls (`grace` in ms)."""

    name: str
    tiers: tuple[Tier, ...]
    window: int
    grace: int
    step: Literal["qualified", "one"]

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The index of each tier by its name."""
        return {tier.name: index for index, tier in enumerate(self.tiers)}

    @cached_property
    def shown(self) -> tuple[Comparison, ...]:
        """One comparison per metric that events show: the base metrics, then those that the rules read."""
        own = {leaf.metric.name: leaf for tier in self.tiers if tier.rule for leaf in leaves(tier.rule)}
        base = [_comparison(name, ">=", Fraction(0), self.window, 1) for name in BASE_METRICS]
        return (*base, *(leaf for name, leaf in own.items() if name not in BASE_METRICS))


@dataclass(frozen=True, slots=True)
class CareAction:
    """What a care rule leads to. `valid_for` in ms; `scheme` is the one whose tier the action names."""

    rule: str
    kind: str
    scheme: str
    template: str
    channel: str
    priority: int
    valid_for: int
    needs_consent: bool


@dataclass(frozen=True, slots=True)
class BirthdayRule:
    """Fires once a year, at a local time near the customer's birthday. `leap_day`: (month, day) in common years."""

    action: CareAction
    at: time
    days_before: int
    leap_day: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ConditionRule:
    """Fires at the instant at which `rule` begins to hold."""

    action: CareAction
    rule: Rule


@dataclass(frozen=True)
class Policy:
    """Everything that decides. Windows and durations in ms, weights in thousandths."""

    version: str
    money: Money
    zone: ZoneInfo
    window: int
    weights: Mapping[str, int]
    schemes: tuple[Scheme, ...]
    care: tuple[BirthdayRule | ConditionRule, ...]

    @cached_property
    def kept_kinds(self) -> frozenset[str]:
        """Interaction kinds that some metric may read."""
        return frozenset({"survey", "referral", *(kind for kind, weight in self.weights.items() if weight)})

    @cached_property
    def known_kinds(self) -> frozenset[str]:
        """Interaction kinds that are not counted as unknown."""
        return KNOWN_KINDS | set(self.weights)

    @cached_property
    def horizon(self) -> int:
        """The longest window (ms) of any rule."""
        return max(self.window, *(leaf.window for rule in self._rules() for leaf in leaves(rule)))

    def _rules(self) -> Iterator[Rule]:
        for scheme in self.schemes:
            yield from (tier.rule for tier in scheme.tiers if tier.rule is not None)
        yield from (rule.rule for rule in self.care if isinstance(rule, ConditionRule))


def leaves(rule: Rule) -> Iterator[Comparison]:
    """Yield every comparison of a rule."""
    if isinstance(rule, Comparison):
        yield rule
    else:
        for part in rule.parts:
            yield from leaves(part)


def compile_policy(spec: PolicySpec) -> Policy:
    """Return the policy that a checked specification describes."""
    money = Money(spec.currency, {currency: Fraction(rate) for currency, rate in spec.rates.items()})
    window = parse_duration(spec.window)
    schemes = tuple(_scheme(name, scheme, window, money.scale) for name, scheme in spec.schemes.items())
    weights = {kind: round(Fraction(weight) * 1000) for kind, weight in spec.weights.items()}
    care = tuple(_care(rule, schemes[0].name, window, money.scale) for rule in spec.care)
    return Policy(spec.version, money, zone(spec.timezone), window, weights, schemes, care)


def _scheme(name: str, spec: Thresholds, window: int, scale: int) -> Scheme:
    own = window if spec.window is None else parse_duration(spec.window)
    tiers = tuple(Tier(tier.name, None if tier.when is None else _rule(tier.when, own, scale)) for tier in spec.tiers)
    return Scheme(name, tiers, own, parse_duration(spec.demotion.grace), spec.demotion.step)


def _care(spec: Birthday | OnCondition, scheme: str, window: int, scale: int) -> BirthdayRule | ConditionRule:
    action = _action(spec, scheme)
    if isinstance(spec, OnCondition):
        return ConditionRule(action, _rule(spec.when, window, scale))
    month, day = spec.leap_day.split("-")
    return BirthdayRule(action, time.fromisoformat(spec.at), spec.days_before, (int(month), int(day)))


def _action(spec: CareRule, scheme: str) -> CareAction:
    return CareAction(
        rule=spec.name,
        kind=spec.kind,
        scheme=spec.scheme or scheme,
        template=spec.template.replace("{kind}", spec.kind),
        channel=spec.channel,
        priority=spec.priority,
        valid_for=parse_duration(spec.valid_for),
        needs_consent=spec.consent == "required",
    )


def _rule(when: Mapping[str, Any], window: int, scale: int) -> Rule:
    parts: list[Rule] = []
    for key, value in when.items():
        if key in ("all", "any"):
            nested = tuple(_rule(part, window, scale) for part in value)
            parts.append(nested[0] if len(nested) == 1 else Junction(key == "all", nested))
        else:
            op, threshold = parse_comparison(str(value))
            parts.append(_comparison(key, cast("Op", op), threshold, window, scale))
    return parts[0] if len(parts) == 1 else Junction(True, tuple(parts))


def _comparison(name: str, op: Op, threshold: Fraction, window: int, scale: int) -> Comparison:
    metric = METRICS[name]
    return Comparison(metric, op, threshold, Edge.of(threshold, native_scale(metric.unit, scale)), window)


def native_scale(unit: Unit, money_scale: int) -> int:
    """Return how many native units (ms, minor units, …) make one displayed unit."""
    return {Unit.DAYS: 86_400_000, Unit.MONEY: money_scale}.get(unit, 1)
