"""The policy file as its author writes it: shapes, allowed values, defaults. JSON Schema comes from here.

What the words mean is compiled in `models.policy`. Every mistake is reported with the path of its key.
"""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models.instants import parse_duration, zone
from models.metrics import METRICS
from models.rules import OPS

_COMPARISON = re.compile(r"\s*(>=|<=|==|>|<)\s*([+-]?\d{1,18}(?:\.\d{1,9})?)\s*", re.ASCII)


def _zone_name(name: str) -> str:
    zone(name)
    return name


def _duration_text(text: str) -> str:
    parse_duration(text)
    return text


def _window_text(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError(f"{text!r} is no time at all; a window is longer than nothing")
    return text


def _local_time(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError("write the time in quotes, as in '09:00': YAML reads 9:00 as a number")  # noqa: TRY004
    return value


def _rate(text: str) -> str:
    if Fraction(text) <= 0:
        raise ValueError("a rate is more than nothing")
    return text


def _text(value: Any) -> Any:
    # YAML reads `version: 2026-11-01` as a date and `amount: 300` as a number; both are meant as written.
    return str(value) if not isinstance(value, str | dict | list | None) else value


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", examples=["gold"])]
Duration = Annotated[str, AfterValidator(_duration_text), Field(examples=["30d", "12h"])]
Window = Annotated[str, AfterValidator(_window_text), Field(examples=["365d", "12w"])]
LocalTime = Annotated[
    str, BeforeValidator(_local_time), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", examples=["09:00"])
]
Zone = Annotated[str, AfterValidator(_zone_name), Field(examples=["Europe/Paris"])]
Number = Annotated[str, BeforeValidator(_text), Field(pattern=r"^[+-]?\d{1,12}(\.\d{1,9})?$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]


def parse_comparison(text: str) -> tuple[str, Fraction]:
    """Return (operator, threshold) of a text such as `>= 300`. Raises ValueError."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise ValueError(f"found {text!r}, allowed is one of {' '.join(OPS)} and a number, as in '>= 300'")
    return match[1], Fraction(match[2])


def _condition(value: Any) -> Any:
    """Check a rule: a mapping of metric to comparison (all hold), with nested lists under `all` and `any`."""
    if not isinstance(value, dict) or not value:
        raise ValueError("allowed is a mapping such as {monetary: '>= 300'}, and lists of them under all and any")
    for key, part in value.items():
        if key in ("all", "any"):
            if not isinstance(part, list) or not part:
                raise ValueError(f"{key}: allowed is a list of at least one rule")
            for index, nested in enumerate(part):
                try:
                    _condition(nested)
                except ValueError as error:
                    raise ValueError(f"{key}.{index}: {error}") from None
        elif key not in METRICS:
            raise ValueError(f"{key}: unknown metric, allowed are {', '.join(METRICS)}, all, any")
        else:
            try:
                parse_comparison(str(part))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
    return value


Condition = Annotated[dict[str, Any], BeforeValidator(_condition)]


class Spec(BaseModel):
    """Base of all parts: unknown keys are mistakes, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tier(Spec):
    """A tier, and the rule that admits to it. The lowest has none."""

    name: Name
    when: Condition | None = None


class Demotion(Spec):
    """How a customer falls: after staying below for `grace`, to the qualified tier or by one step."""

    grace: Duration = "0d"
    step: Literal["qualified", "one"] = "qualified"


class Thresholds(Spec):
    """A scheme of tiers, lowest first, each with a rule."""

    tiers: Annotated[list[Tier], Field(min_length=2, max_length=32)]
    window: Window | None = None
    demotion: Demotion = Demotion()

    @model_validator(mode="after")
    def _tiers_make_sense(self) -> "Thresholds":
        names = [tier.name for tier in self.tiers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tiers: the name {name!r} occurs twice")
        if self.tiers[0].when is not None:
            raise ValueError("tiers.0.when: the lowest tier has no rule: everybody is at least there")
        for index, tier in enumerate(self.tiers[1:], start=1):
            if tier.when is None:
                raise ValueError(f"tiers.{index}.when: every tier above the lowest has a rule")
        return self


class CareRule(Spec):
    """What every care rule says about the action it leads to."""

    name: Name
    kind: Name
    scheme: Name | None = None
    template: Annotated[str, Field(max_length=64)] = "{kind}"
    channel: Annotated[str, Field(max_length=32)] = "email"
    priority: Annotated[int, Field(ge=0, le=100)] = 50
    valid_for: Duration = "7d"
    consent: Literal["required", "not_needed"] = "required"


class Birthday(CareRule):
    """Once a year, at a local time on (or some days before) the customer's birthday."""

    trigger: Literal["birthday"]
    at: LocalTime = "09:00"
    days_before: Annotated[int, Field(ge=0, le=60)] = 0
    leap_day: Literal["02-28", "03-01"] = "02-28"


class OnCondition(CareRule):
    """Once, at the instant at which a rule begins to hold; again only after it has stopped holding."""

    trigger: Literal["condition"]
    when: Condition


class PolicySpec(Spec):
    """A whole policy file."""

    version: Annotated[str, BeforeValidator(_text), Field(min_length=1, max_length=64)]
    currency: Currency
    rates: dict[Currency, Annotated[Number, AfterValidator(_rate)]] = {}
    timezone: Zone = "UTC"
    window: Window = "365d"
    weights: dict[Annotated[str, Field(max_length=64)], Number] = {}
    schemes: Annotated[dict[Name, Thresholds], Field(min_length=1, max_length=16)]
    care: Annotated[list[Annotated[Birthday | OnCondition, Field(discriminator="trigger")]], Field(max_length=64)] = []

    @model_validator(mode="after")
    def _care_makes_sense(self) -> "PolicySpec":
        names = [rule.name for rule in self.care]
        for index, rule in enumerate(self.care):
            if names.count(rule.name) > 1:
                raise ValueError(f"care.{index}.name: {rule.name!r} occurs twice")
            if rule.scheme is not None and rule.scheme not in self.schemes:
                raise ValueError(f"care.{index}.scheme: found {rule.scheme!r}, allowed: {', '.join(self.schemes)}")
        return self
