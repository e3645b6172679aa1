"""The policy file as its author writes it: shapes, allowed values, defaults. JSON Schema comes from here.

`models.policy.compiled` compiles it. Every mistake is reported with the path of its key.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from models.policy.care_specs import AnyCareRule, GovernanceSpec, care_mistakes
from models.policy.scheme_specs import AnyScheme, PercentileSpec, is_ladder, tier_names
from models.policy.spec_types import (
    Currency,
    Instant,
    MetricWindow,
    Name,
    Number,
    Positive,
    Spec,
    Zone,
    text,
)
from models.rules.periods import is_rolling


def _reads(part: Any, metric: str) -> bool:
    """Whether a part of a policy file reads a metric: as a key, or under the key `metric`."""
    if isinstance(part, dict):
        return metric in part or part.get("metric") == metric or any(_reads(each, metric) for each in part.values())
    return isinstance(part, list) and any(_reads(each, metric) for each in part)


class PolicySpec(Spec):
    """A whole policy file."""

    version: Annotated[str, BeforeValidator(text), Field(min_length=1, max_length=64)]
    currency: Currency
    rates: dict[Currency, Positive] = Field(default={})
    timezone: Zone = "UTC"
    window: MetricWindow = "365d"
    effective_from: Instant | None = None
    weights: dict[Annotated[str, Field(max_length=64)], Number] = Field(default={})
    schemes: Annotated[dict[Name, AnyScheme], Field(min_length=1, max_length=16)]
    care: Annotated[list[AnyCareRule], Field(max_length=64)] = Field(default=[])
    governance: GovernanceSpec = GovernanceSpec()

    @model_validator(mode="after")
    def _windows_fit(self) -> "PolicySpec":
        mistakes = []
        for name, scheme in self.schemes.items():
            window = scheme.window or self.window
            if is_rolling(window):
                continue
            if isinstance(scheme, PercentileSpec) and scheme.cutoffs == "daily":
                mistakes.append(
                    f"schemes.{name}: found window {window}, allowed with daily cut-offs is one such as 365d"
                )
            if _reads(scheme.model_dump(), "growth"):
                mistakes.append(f"schemes.{name}: found window {window}, allowed with growth is one such as 365d")
        if not is_rolling(self.window) and any(_reads(rule.model_dump(), "growth") for rule in self.care):
            mistakes.append(f"care: found window {self.window}, allowed with growth is one such as 365d")
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @model_validator(mode="after")
    def _care_makes_sense(self) -> "PolicySpec":
        tiers = {name: tier_names(scheme) for name, scheme in self.schemes.items()}
        ladders = frozenset(name for name, scheme in self.schemes.items() if is_ladder(scheme))
        mistakes = care_mistakes(list(self.care), self.governance, tiers, ladders)
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self
