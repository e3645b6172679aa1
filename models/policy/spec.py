"""The policy file as its author writes it: shapes, allowed values, defaults. JSON Schema comes from here.

`models.policy.compiled` compiles it. Every mistake is reported with the path of its key.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from models.policy.care_specs import AnyCareRule, GovernanceSpec, care_mistakes
from models.policy.scheme_specs import AnyScheme, is_ladder, tier_names
from models.policy.spec_types import (
    Currency,
    Instant,
    Name,
    Number,
    Positive,
    Spec,
    Window,
    Zone,
    text,
)


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
    care: Annotated[list[AnyCareRule], Field(max_length=64)] = Field(default=[])
    governance: GovernanceSpec = GovernanceSpec()

    @model_validator(mode="after")
    def _care_makes_sense(self) -> "PolicySpec":
        tiers = {name: tier_names(scheme) for name, scheme in self.schemes.items()}
        ladders = frozenset(name for name, scheme in self.schemes.items() if is_ladder(scheme))
        mistakes = care_mistakes(list(self.care), self.governance, tiers, ladders)
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self
