"""Care rules and their governance as a policy file writes them: shapes, allowed values, defaults.

`models.policy.compile_care` compiles them. `models.policy.spec` checks whether they fit the schemes.
"""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from models.policy.holidays import calendar_mistake, holiday_mistake
from models.policy.spec_types import (
    Condition,
    Duration,
    LocalTime,
    Name,
    Number,
    Positive,
    Spec,
    Window,
)

#: The key of the channels for tiers that are not named.
DEFAULT = "default"

Kind = Annotated[str, Field(min_length=1, max_length=64)]
Part = Annotated[str, Field(pattern=r"^\d{1,2}(\.\d{1,4})?%$", examples=["10%"])]
_CHANNEL_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


def _channels(value: Any) -> Any:
    """Return the channels by tier, each a list in the order of preference, from any of the allowed forms."""
    by_tier = value if isinstance(value, dict) else {DEFAULT: value}
    return {tier: [one] if isinstance(one, str) else one for tier, one in by_tier.items()}


def _has_default(channels: dict[str, list[str]]) -> dict[str, list[str]]:
    if DEFAULT not in channels:
        raise ValueError(f"{DEFAULT}: missing, allowed is a channel for the tiers that are not named")
    return channels


Channel = Annotated[str, Field(min_length=1, max_length=32)]
Channels = Annotated[
    dict[Name, Annotated[list[Channel], Field(min_length=1, max_length=8)]],
    BeforeValidator(_channels),
    AfterValidator(_has_default),
    WithJsonSchema({"anyOf": [*_CHANNEL_SCHEMA["anyOf"], {"type": "object", "additionalProperties": _CHANNEL_SCHEMA}]}),
]


class CareRuleSpec(Spec):
    """The keys of every care rule: its name and its action."""

    name: Name
    kind: Name
    scheme: Name | None = None
    tiers: Annotated[list[Name], Field(min_length=1, max_length=32)] | None = None
    template: Annotated[str, Field(max_length=64)] = "{kind}"
    channel: Channels = Field(default={DEFAULT: ["email"]})
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    valid_for: Duration = "7d"
    consent: Literal["required", "not_needed"] = "required"
    audience: Literal["customer", "staff"] = "customer"
    group: Name | None = None
    cooldown: Window | None = None
    holdout: Part | None = None
    attribution: Window | None = None
    converts: Annotated[list[Kind], Field(max_length=16)] = Field(default=[])
    cost: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class DatedSpec(CareRuleSpec):
    """The keys of every rule on dates: a local time, and the number of days before."""

    at: LocalTime = "09:00"
    days_before: Annotated[int, Field(ge=0, le=60)] = 0


class BirthdaySpec(DatedSpec):
    """Once a year, at a local time on (or some days before) the customer's birthday.

    A `lunar:` birthday is kept in the Chinese calendar: in the regular month, or in the leap month if there is one.
    """

    trigger: Literal["birthday"]
    leap_day: Literal["02-28", "03-01"] = "02-28"
    leap_month: Literal["regular", "leap"] = "regular"


class AnniversarySpec(DatedSpec):
    """Once a year, on (or some days before) the day of the registration."""

    trigger: Literal["anniversary"]
    leap_day: Literal["02-28", "03-01"] = "02-28"


class CalendarsSpec(Spec):
    """A calendar for each value of an attribute, and one for everybody else."""

    attribute: Annotated[str, Field(min_length=1, max_length=64)]
    values: Annotated[dict[str, str], Field(min_length=1, max_length=64)]
    default: str | None = None


class HolidaySpec(DatedSpec):
    """On (or some days before) the first day of a public holiday, by the calendars of the `holidays` library."""

    trigger: Literal["holiday"]
    calendar: str | CalendarsSpec
    holidays: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _calendars_know_the_holidays(self) -> "HolidaySpec":
        written = self.calendar
        if isinstance(written, str):
            named = [("calendar", written)]
        else:
            named = [(f"calendar.values.{value}", name) for value, name in written.values.items()]
            named += [("calendar.default", written.default)] if written.default is not None else []
        mistakes = [f"{path}: {mistake}" for path, name in named if (mistake := calendar_mistake(name))]
        if not mistakes:
            names = sorted({name for _, name in named})
            found = ((index, holiday_mistake(names, name)) for index, name in enumerate(self.holidays))
            mistakes = [f"holidays.{index}: {mistake}" for index, mistake in found if mistake]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


class CalendarDaysSpec(CareRuleSpec):
    """On certain days of the week, or of the month, at a local time."""

    trigger: Literal["calendar"]
    at: LocalTime = "09:00"
    weekdays: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(default=[])
    month_days: list[Annotated[int, Field(ge=1, le=31)]] = Field(default=[])

    @model_validator(mode="after")
    def _some_day(self) -> "CalendarDaysSpec":
        if not self.weekdays and not self.month_days:
            raise ValueError("weekdays: found none, and no month_days either; allowed is at least one day")
        return self


class TierMoveSpec(CareRuleSpec):
    """When the customer rises or falls to a tier. `tiers` are the tiers reached."""

    trigger: Literal["tier_up", "tier_down"]


class AtRiskSpec(CareRuleSpec):
    """`days_before` days before the customer falls, if nothing more happens."""

    trigger: Literal["at_risk"]
    days_before: Annotated[int, Field(ge=1, le=365)] = 14


class NearUpgradeSpec(CareRuleSpec):
    """When what is missing for a higher tier falls below a share of its thresholds."""

    trigger: Literal["near_upgrade"]
    within: Part = "10%"


class WelcomeSpec(CareRuleSpec):
    """Once: at the first counted order, or `wait` after the registration if no order has followed."""

    trigger: Literal["welcome"]
    after: Literal["order", "registration"] = "order"
    wait: Duration = "0d"


class PriorSpec(Spec):
    """A rhythm for customers with few orders. It counts as much as `weight` gaps between their own orders."""

    rhythm: Window
    weight: Positive = "2"


class ChurnSpec(CareRuleSpec):
    """When the silence since the last order reaches multiples of the customer's own rhythm, one for each level."""

    trigger: Literal["churn"]
    levels: Annotated[dict[Name, Positive], Field(min_length=1, max_length=8)]
    prior: PriorSpec | None = None

    @model_validator(mode="after")
    def _levels_rise(self) -> "ChurnSpec":
        multiples = [Fraction(multiple) for multiple in self.levels.values()]
        if multiples != sorted(set(multiples)):
            raise ValueError(f"levels: found {', '.join(self.levels.values())}, allowed are rising multiples")
        return self


class SilenceSpec(CareRuleSpec):
    """After a silence, once or several times: without an order, or (`no_contact`) without any contact."""

    trigger: Literal["dormant", "win_back", "no_contact"]
    after: Window
    every: Window | None = None
    times: Annotated[int, Field(ge=1, le=100)] = 1
    contacts: Annotated[list[Kind], Field(min_length=1, max_length=16)] = Field(
        default=["call", "visit", "support_ticket", "event_attended"]
    )

    @model_validator(mode="after")
    def _repeats_say_how_often(self) -> "SilenceSpec":
        if (self.every is None) is not (self.times == 1):
            raise ValueError("times: allowed with every, and more than 1 with it")
        return self


class CallBackSpec(CareRuleSpec):
    """Repeatedly: `every` after the last call, or after the tier was reached."""

    trigger: Literal["call_back"]
    every: Window
    contacts: Annotated[list[Kind], Field(min_length=1, max_length=16)] = Field(default=["call"])


class OnInteractionSpec(CareRuleSpec):
    """At each interaction of a kind, such as a complaint, a referral, or a survey with a low score."""

    trigger: Literal["interaction"]
    interaction: Kind
    at_most: Number | None = None
    at_least: Number | None = None


class OnCampaignSpec(CareRuleSpec):
    """At a campaign on one of the subjects, for the customers whom it addresses."""

    trigger: Literal["campaign"]
    subjects: Annotated[list[Kind], Field(min_length=1, max_length=16)]


class OnConditionSpec(CareRuleSpec):
    """Once, at the instant at which a rule begins to hold; again only after it has stopped holding."""

    trigger: Literal["condition"]
    when: Condition


AnyCareRule = Annotated[
    BirthdaySpec
    | AnniversarySpec
    | HolidaySpec
    | CalendarDaysSpec
    | TierMoveSpec
    | AtRiskSpec
    | NearUpgradeSpec
    | WelcomeSpec
    | ChurnSpec
    | SilenceSpec
    | CallBackSpec
    | OnInteractionSpec
    | OnCampaignSpec
    | OnConditionSpec,
    Field(discriminator="trigger"),
]


class QuietHoursSpec(Spec):
    """Local times between which nothing goes out; if `since` is later than `until`, they include midnight."""

    since: LocalTime
    until: LocalTime
    channels: Annotated[list[Channel], Field(min_length=1, max_length=16)] | None = None

    @model_validator(mode="after")
    def _some_time(self) -> "QuietHoursSpec":
        if self.since == self.until:
            raise ValueError(f"until: found {self.until}, allowed is another time than since")
        return self


class CapSpec(Spec):
    """At most `at_most` actions to a customer in any window of `per`, of the given kinds or of all."""

    at_most: Annotated[int, Field(ge=1, le=1_000)]
    per: Window
    kinds: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None


class BudgetSpec(Spec):
    """At most `at_most` of cost in a calendar period of the policy's time zone, by tiers and kinds or in all."""

    name: Name
    at_most: Annotated[int, Field(ge=0, le=1_000_000_000)]
    period: Literal["day", "week", "month", "quarter", "year"]
    tiers: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None
    kinds: Annotated[list[Name], Field(min_length=1, max_length=64)] | None = None


class GovernanceSpec(Spec):
    """Limits over all rules. `groups` holds the least time between actions of one group."""

    quiet_hours: QuietHoursSpec | None = None
    caps: Annotated[list[CapSpec], Field(max_length=16)] = Field(default=[])
    budgets: Annotated[list[BudgetSpec], Field(max_length=16)] = Field(default=[])
    groups: Annotated[dict[Name, Duration], Field(max_length=32)] = Field(default={})


def care_mistakes(
    care: list[CareRuleSpec], governance: GovernanceSpec, tiers: dict[str, list[str]], ladders: frozenset[str]
) -> list[str]:
    """Return what does not fit between care rules, governance and schemes, one line for each mistake.

    `tiers` are the names of the tiers by scheme, `ladders` the schemes whose tiers customers climb.
    """
    mistakes = []
    names = [rule.name for rule in care]
    first = next(iter(tiers))
    for index, rule in enumerate(care):
        path, scheme = f"care.{index}", rule.scheme or first
        if names.count(rule.name) > 1:
            mistakes.append(f"{path}.name: {rule.name!r} occurs twice")
        if scheme not in tiers:
            mistakes.append(f"{path}.scheme: found {scheme!r}, allowed: {', '.join(tiers)}")
            continue
        named = [("tiers", tier) for tier in rule.tiers or []]
        named += [("channel", tier) for tier in rule.channel if tier != DEFAULT]
        mistakes += [
            f"{path}.{key}: found {tier!r}, allowed: {', '.join(tiers[scheme])}"
            for key, tier in named
            if tier not in tiers[scheme]
        ]
        if rule.group is not None and rule.group not in governance.groups:
            known = ", ".join(governance.groups) or "none, governance.groups names them"
            mistakes.append(f"{path}.group: found {rule.group!r}, allowed: {known}")
        if isinstance(rule, NearUpgradeSpec) and scheme not in ladders:
            mistakes.append(f"{path}.scheme: {scheme!r} is not a ladder: nobody climbs it")
    return mistakes + _budget_mistakes(care, governance, tiers)


def _budget_mistakes(care: list[CareRuleSpec], governance: GovernanceSpec, tiers: dict[str, list[str]]) -> list[str]:
    mistakes = []
    names = [budget.name for budget in governance.budgets]
    kinds = {rule.kind for rule in care}
    known = {tier for each in tiers.values() for tier in each}
    for index, budget in enumerate(governance.budgets):
        path = f"governance.budgets.{index}"
        if names.count(budget.name) > 1:
            mistakes.append(f"{path}.name: {budget.name!r} occurs twice")
        mistakes += [
            f"{path}.tiers: no scheme has the tier {tier!r}" for tier in budget.tiers or [] if tier not in known
        ]
    named = [(f"governance.budgets.{index}", budget.kinds) for index, budget in enumerate(governance.budgets)]
    named += [(f"governance.caps.{index}", cap.kinds) for index, cap in enumerate(governance.caps)]
    for path, listed in named:
        mistakes += [
            f"{path}.kinds: no care rule is of the kind {kind!r}" for kind in listed or [] if kind not in kinds
        ]
    return mistakes
