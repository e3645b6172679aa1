"""The basic types of policy files: names, durations, comparisons, conditions, with their checks.

`models.policy.spec`, `scheme_specs` and `care_specs` define the keys.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from models.instants import parse_duration, parse_instant, zone
from models.money import CURRENCIES
from models.rules.comparisons import OPS
from models.rules.metrics import METRICS
from models.rules.periods import parse_window

_MAX_DEPTH = 8
#: What people write for currencies.
_NICKNAMES = {"RMB": "CNY", "YUA": "CNY", "NTD": "TWD", "UKP": "GBP", "STG": "GBP", "YEN": "JPY", "SFR": "CHF"}
_COMPARISON = re.compile(r"\s*(>=|<=|==|>|<)\s*([+-]?\d{1,18}(?:\.\d{1,9})?)\s*", re.ASCII)


class Spec(BaseModel):
    """Base of all parts of a policy file: unknown keys are mistakes, and parts are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def did_you_mean(found: object, allowed: Iterable[str]) -> str:
    """Return a question for the allowed word that is nearest to what was found; nothing if none is near."""
    words = {word.lower(): word for word in allowed}
    near = get_close_matches(str(found).lower(), words, n=1, cutoff=0.7)
    return f"; did you mean {words[near[0]]!r}?" if near else ""


def allowed_words(found: object, allowed: Iterable[str]) -> str:
    """Return what is allowed instead of what was found, after the nearest of it; it continues a sentence."""
    question, words = did_you_mean(found, allowed), ", ".join(allowed)
    return f"{question} Allowed are {words}" if question else f"; allowed are {words}"


def _zone_name(name: str) -> str:
    try:
        zone(name)
    except ValueError as error:
        raise ValueError(f"{error}{did_you_mean(name, available_timezones())}") from None
    return name


def _currency_code(code: str) -> str:
    if code not in CURRENCIES:
        meant = _NICKNAMES.get(code)
        question = f"; did you mean {meant!r}?" if meant else did_you_mean(code, CURRENCIES)
        raise ValueError(f"found {code!r}, which ISO 4217 does not have{question}")
    return code


def _duration_text(text: str) -> str:
    parse_duration(text)
    return text


def _window_text(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError(f"{text!r} is empty; a window is longer than zero")
    return text


def _metric_window(text: str) -> str:
    parse_window(text, ZoneInfo("UTC"))
    return text


def _local_time(value: Any) -> Any:
    if isinstance(value, int):
        raise ValueError("write the time in quotes, as in '09:00': YAML reads 9:00 as a number")  # noqa: TRY004
    return value


def _instant_text(text: str) -> str:
    parse_instant(text)
    return text


def _positive(text: str) -> str:
    if Fraction(text) <= 0:
        raise ValueError("allowed is more than zero")
    return text


def _metric_name(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"unknown metric{allowed_words(name, METRICS)}")
    return name


def text(value: Any) -> Any:
    """Return scalars as texts: YAML reads `2026-11-01` as a date and `300` as a number; both are kept as written."""
    return str(value) if not isinstance(value, str | dict | list | None) else value


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", examples=["gold"])]
Duration = Annotated[str, AfterValidator(_duration_text), Field(examples=["30d", "12h"])]
Window = Annotated[str, AfterValidator(_window_text), Field(examples=["365d", "12w"])]
MetricWindow = Annotated[str, AfterValidator(_metric_window), Field(examples=["365d", "calendar_year", "12 months"])]
Instant = Annotated[str, BeforeValidator(text), AfterValidator(_instant_text), Field(examples=["2026-11-01T00:00:00Z"])]
LocalTime = Annotated[
    str, BeforeValidator(_local_time), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", examples=["09:00"])
]
Zone = Annotated[str, AfterValidator(_zone_name), Field(examples=["Europe/Paris"])]
Number = Annotated[
    str,
    BeforeValidator(text),
    Field(pattern=r"^[+-]?\d{1,12}(\.\d{1,9})?$"),
    WithJsonSchema({"type": ["number", "string"], "examples": [300, "0.25"]}),
]
Positive = Annotated[Number, AfterValidator(_positive)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"]), AfterValidator(_currency_code)]
MetricName = Annotated[str, AfterValidator(_metric_name), Field(examples=["monetary"])]


def parse_comparison(written: str) -> tuple[str, Fraction]:
    """Return (operator, threshold) of a text such as `>= 300`. Raises ValueError for any other text."""
    match = _COMPARISON.fullmatch(written)
    if match is None:
        raise ValueError(f"found {written!r}, allowed is one of {' '.join(OPS)} and a number, as in '>= 300'")
    return match[1], Fraction(match[2])


def condition_mistakes(value: Any, path: str = "", depth: int = 0) -> list[str]:
    """Return what is wrong with a rule: a mapping of metric to comparison, with nested lists under `all` and `any`."""
    if depth > _MAX_DEPTH:
        return [f"{path.rstrip('.')}: allowed are {_MAX_DEPTH} levels of all and any"]
    if not isinstance(value, dict) or not value:
        allowed = "allowed is a mapping such as {monetary: '>= 300'}, and lists of them under all and any"
        return [f"{path.rstrip('.') or 'rule'}: {allowed}"]
    mistakes = []
    for key, part in value.items():
        if key in ("all", "any"):
            if not isinstance(part, list) or not part:
                mistakes.append(f"{path}{key}: allowed is a list of at least one rule")
            else:
                for index, nested in enumerate(part):
                    mistakes += condition_mistakes(nested, f"{path}{key}.{index}.", depth + 1)
        elif key not in METRICS:
            mistakes.append(f"{path}{key}: unknown metric{allowed_words(key, (*METRICS, 'all', 'any'))}")
        else:
            try:
                parse_comparison(str(part))
            except ValueError as error:
                mistakes.append(f"{path}{key}: {error}")
    return mistakes


def _condition(value: Any) -> Any:
    mistakes = condition_mistakes(value)
    if mistakes:
        raise ValueError("\n".join(mistakes))
    return value


#: A rule as it is written. All its mistakes are reported together, one line each.
Condition = Annotated[dict[str, Any], BeforeValidator(_condition)]
