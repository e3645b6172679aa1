"""Compiled care rules and governance: frozen data in a policy. The triggers in `models.care` apply them.

Durations are in ms, shares in millionths.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from enum import StrEnum
from fractions import Fraction
from typing import Literal

from models.policy.care_specs import DEFAULT
from models.rules.comparisons import Rule

MILLION = 1_000_000


class Refusal(StrEnum):
    """The closed list of reasons why a proposed action is not emitted."""

    WITHOUT_CONSENT = "without_consent"
    EXPIRED = "expired"
    OUTDATED = "outdated"
    CROWDED = "crowded"
    EXCLUDED = "excluded"
    COOLING_DOWN = "cooling_down"
    CAPPED = "capped"
    OVER_BUDGET = "over_budget"


@dataclass(frozen=True, slots=True)
class Action:
    """The action of a care rule. It names the customer's tier in `scheme`; `channels` are by tier.

    `tiers` None means any. `valid_for`, `cooldown` and `attribution` are durations, `holdout` is a share; 0 means none.
    """

    rule: str
    kind: str
    scheme: str
    tiers: frozenset[str] | None
    template: str
    channels: Mapping[str, tuple[str, ...]]
    priority: int
    valid_for: int
    needs_consent: bool
    to_customer: bool
    group: str | None
    cooldown: int
    holdout: int
    attribution: int
    converts: frozenset[str]
    cost: int

    def channels_of(self, tier: str | None) -> tuple[str, ...]:
        """Return the channels for customers in a tier, the preferred one first."""
        return self.channels.get(tier or DEFAULT) or self.channels[DEFAULT]


@dataclass(frozen=True, slots=True)
class BirthdayRule:
    """Fires once a year at a local time near the customer's birthday. `leap_day` is (month, day) in common years."""

    action: Action
    at: time
    days_before: int
    leap_day: tuple[int, int]
    leap_month: bool


@dataclass(frozen=True, slots=True)
class AnniversaryRule:
    """Fires once a year, near the anniversary of the registration."""

    action: Action
    at: time
    days_before: int
    leap_day: tuple[int, int]


@dataclass(frozen=True, slots=True)
class HolidayRule:
    """Fires near the first day of each named holiday. `calendars` are by the value of `attribute`, if any."""

    action: Action
    at: time
    days_before: int
    holidays: tuple[str, ...]
    attribute: str | None
    calendars: Mapping[str, str]
    default: str | None


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """Fires on days of the week (0 is Monday) and of the month."""

    action: Action
    at: time
    weekdays: frozenset[int]
    month_days: frozenset[int]


@dataclass(frozen=True, slots=True)
class TierMoveRule:
    """Fires when the customer rises or falls to a tier."""

    action: Action
    direction: Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class AtRiskRule:
    """Fires `ahead` before a fall by time alone."""

    action: Action
    ahead: int


@dataclass(frozen=True, slots=True)
class NearUpgradeRule:
    """Fires when an eased rule of a tier above the held one begins to hold. `near` are the rules eased by `share`."""

    action: Action
    near: tuple[Rule, ...]
    share: Fraction


@dataclass(frozen=True, slots=True)
class WelcomeRule:
    """Fires once: at the first order, or `wait` after the registration if there is no order yet."""

    action: Action
    after_order: bool
    wait: int


@dataclass(frozen=True, slots=True)
class ChurnRule:
    """Fires when the silence since the last order reaches multiples of the rhythm: `levels` by name, lowest first.

    The rhythm is shrunk towards `prior`: (rhythm in ms, its weight in gaps). None: the customer's own rhythm only.
    """

    action: Action
    levels: tuple[tuple[str, Fraction], ...]
    prior: tuple[int, Fraction] | None


@dataclass(frozen=True, slots=True)
class SilenceRule:
    """Fires `after` the last order or contact of a kind in `contacts`, then at intervals of `every`, up to `times`.

    `orders` says whether an order ends the silence, `tenure` whether it may begin with the customer's tenure, `stay`
    whether a new tier starts it over.
    """

    action: Action
    after: int
    every: int
    times: int
    contacts: frozenset[str]
    orders: bool
    tenure: bool
    stay: bool


@dataclass(frozen=True, slots=True)
class InteractionRule:
    """Fires at each interaction of a kind whose value (thousandths) lies within the bounds; None means no bound."""

    action: Action
    interaction: str
    at_most: int | None
    at_least: int | None


@dataclass(frozen=True, slots=True)
class CampaignRule:
    """Fires at campaigns on the given subjects."""

    action: Action
    subjects: frozenset[str]


@dataclass(frozen=True, slots=True)
class ConditionRule:
    """Fires when `rule` begins to hold."""

    action: Action
    rule: Rule


CareRule = (
    BirthdayRule
    | AnniversaryRule
    | HolidayRule
    | CalendarRule
    | TierMoveRule
    | AtRiskRule
    | NearUpgradeRule
    | WelcomeRule
    | ChurnRule
    | SilenceRule
    | InteractionRule
    | CampaignRule
    | ConditionRule
)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Local times between which nothing goes out through the given channels (None: any)."""

    since: time
    until: time
    channels: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `at_most` actions of the given kinds (None: all) in any window (T − per, T]."""

    at_most: int
    per: int
    kinds: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `at_most` of cost in a calendar period, for the given tiers and kinds (None: all)."""

    name: str
    at_most: int
    period: Literal["day", "week", "month", "quarter", "year"]
    tiers: frozenset[str] | None
    kinds: frozenset[str] | None

    def covers(self, tier: str | None, kind: str) -> bool:
        """Whether an action counts against the budget."""
        return (self.tiers is None or tier in self.tiers) and (self.kinds is None or kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Governance:
    """Limits over all rules of a policy. `apart` is the least time between actions of a group.

    `members` lists the rules of each group, `staff` the rules whose actions do not go to the customer. Actions are
    remembered for `memory`, 0 if no rule needs it. `watched` lists the kinds of interactions whose latest instant is
    kept.
    """

    quiet: QuietHours | None
    caps: tuple[Cap, ...]
    budgets: tuple[Budget, ...]
    apart: Mapping[str, int]
    members: Mapping[str, frozenset[str]]
    staff: frozenset[str]
    memory: int
    watched: frozenset[str]

    def remembers(self, action: Action) -> bool:
        """Whether an emitted action must be remembered: for later actions, or for its outcome."""
        return bool(action.group or action.cooldown or action.attribution or (self.caps and action.to_customer))
