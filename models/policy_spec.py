"""The policy file as its author writes it: shapes, allowed values, defaults. JSON Schema comes from here.

What the words mean is compiled in `models.policy`. Every mistake is reported with the path of its key.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from models.scheme_specs import AnyScheme
from models.spec_types import (
    Condition,
    Currency,
    Duration,
    Instant,
    LocalTime,
    Name,
    Number,
    Positive,
    Spec,
    Window,
    Zone,
    text,
)


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

    version: Annotated[str, BeforeValidator(text), Field(min_length=1, max_length=64)]
    currency: Currency
    rates: dict[Currency, Positive] = Field(default={})
    timezone: Zone = "UTC"
    window: Window = "365d"
    effective_from: Instant | None = None
    weights: dict[Annotated[str, Field(max_length=64)], Number] = Field(default={})
    schemes: Annotated[dict[Name, AnyScheme], Field(min_length=1, max_length=16)]
    care: Annotated[list[Annotated[Birthday | OnCondition, Field(discriminator="trigger")]], Field(max_length=64)] = (
        Field(default=[])
    )

    @model_validator(mode="after")
    def _care_makes_sense(self) -> "PolicySpec":
        names = [rule.name for rule in self.care]
        for index, rule in enumerate(self.care):
            if names.count(rule.name) > 1:
                raise ValueError(f"care.{index}.name: {rule.name!r} occurs twice")
            if rule.scheme is not None and rule.scheme not in self.schemes:
                raise ValueError(f"care.{index}.scheme: found {rule.scheme!r}, allowed: {', '.join(self.schemes)}")
        return self
