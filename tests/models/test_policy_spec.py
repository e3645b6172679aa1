"""What a policy's author may write, and that every mistake is told with the path of its key."""

import copy
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from models.policy_spec import PolicySpec, parse_comparison

GOOD: dict[str, Any] = {
    "version": "2026-11-01",
    "currency": "USD",
    "schemes": {"loyalty": {"tiers": [{"name": "low"}, {"name": "high", "when": {"frequency": ">= 1"}}]}},
    "care": [{"name": "birthday-offer", "kind": "birthday_offer", "trigger": "birthday"}],
}


def mistakes(spec: dict[str, Any]) -> dict[str, str]:
    """Return path of key → message."""
    with pytest.raises(ValidationError) as caught:
        PolicySpec.model_validate(spec)
    return {".".join(map(str, error["loc"])): error["msg"] for error in caught.value.errors()}


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    spec = copy.deepcopy(GOOD)
    inner: Any = spec
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return spec


def test_defaults() -> None:
    spec = PolicySpec.model_validate(GOOD)
    assert (spec.timezone, spec.window, spec.rates, spec.weights) == ("UTC", "365d", {}, {})
    demotion = spec.schemes["loyalty"].demotion
    assert (demotion.grace, demotion.step) == ("0d", "qualified")
    rule = spec.care[0]
    assert (rule.template, rule.channel, rule.priority, rule.valid_for) == ("{kind}", "email", 50, "7d")
    assert rule.consent == "required"


def test_several_mistakes_are_told_at_once_each_with_its_path() -> None:
    spec = {
        "version": "",
        "currency": "usd",
        "timezone": "Mars/Olympus",
        "window": "a year",
        "weights": {"visit": "much"},
        "schemes": {
            "loyalty": {
                "tiers": [{"name": "Low"}, {"name": "high", "when": {"money": ">= 3"}}],
                "demotion": {"grace": "-1d", "step": "two"},
            }
        },
        "care": [{"name": "b", "kind": "b", "trigger": "birthday", "days_before": 61, "surprise": 1}],
    }
    assert set(mistakes(spec)) == {
        "version",
        "currency",
        "timezone",
        "window",
        "weights.visit",
        "schemes.loyalty.tiers.0.name",
        "schemes.loyalty.tiers.1.when",
        "schemes.loyalty.demotion.grace",
        "schemes.loyalty.demotion.step",
        "care.0.birthday.days_before",
        "care.0.birthday.surprise",
    }


@pytest.mark.parametrize(
    ("path", "value", "key", "told"),
    [
        (("version",), None, "version", "string"),
        (("window",), "0d", "window", "no time at all"),
        (("window",), 365, "window", "string"),
        (("schemes", "loyalty", "window"), "0ms", "schemes.loyalty.window", "no time at all"),
        (("schemes",), {}, "schemes", "at least 1"),
        (("schemes", "loyalty", "kind"), "percentile", "schemes.loyalty.kind", "not permitted"),
        (("schemes", "loyalty", "tiers"), [{"name": "low"}], "schemes.loyalty.tiers", "at least 2"),
        (("schemes", "loyalty", "tiers", 1, "when"), {}, "schemes.loyalty.tiers.1.when", "mapping"),
        (("schemes", "loyalty", "tiers", 1, "when"), ">= 3", "schemes.loyalty.tiers.1.when", "mapping"),
        (("rates",), {"EUR": "0"}, "rates.EUR", "more than nothing"),
        (("rates",), {"EUR": "-1"}, "rates.EUR", "more than nothing"),
        (("rates",), {"eur": "1"}, "rates.eur.[key]", "pattern"),
        (("care", 0, "trigger"), "whim", "care.0", "'birthday', 'condition'"),
        (("care", 0, "leap_day"), "02-29", "care.0.birthday.leap_day", "'02-28' or '03-01'"),
        (("care", 0, "at"), 630, "care.0.birthday.at", "quotes"),  # what YAML makes of an unquoted 10:30
        (("care", 0, "at"), "24:00", "care.0.birthday.at", "pattern"),
        (("care", 0, "priority"), 101, "care.0.birthday.priority", "less than or equal to 100"),
        (("care", 0, "valid_for"), "36526d", "care.0.birthday.valid_for", "century"),
    ],
)
def test_a_mistake_is_told_at_its_key(path: tuple[str | int, ...], value: Any, key: str, told: str) -> None:
    found = mistakes(changed(*path, to=value))
    assert list(found) == [key]
    assert told in found[key]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"money": ">= 3"}, "money: unknown metric"),
        ({"monetary": "300"}, "monetary: found '300'"),
        ({"monetary": 300}, "monetary: found '300'"),
        ({"monetary": ">= 1_000"}, "monetary: found '>= 1_000'"),
        ({"monetary": "=> 3"}, "monetary: found '=> 3'"),
        ({"any": []}, "any: allowed is a list"),
        ({"any": {"monetary": ">= 3"}}, "any: allowed is a list"),
        ({"any": [{"monetary": ">= 3"}, {"all": [{"frequency": "3"}]}]}, "any.1: all.0: frequency: found '3'"),
    ],
)
def test_a_mistake_in_a_rule_is_told_with_its_place_in_the_rule(rule: dict[str, Any], told: str) -> None:
    (message,) = mistakes(changed("schemes", "loyalty", "tiers", 1, "when", to=rule)).values()
    assert told in message


def test_tiers_must_make_sense_as_a_whole() -> None:
    rule = {"frequency": ">= 1"}
    path = ("schemes", "loyalty", "tiers")
    for tiers, told in (
        ([{"name": "low", "when": rule}, {"name": "high", "when": rule}], "tiers.0.when"),
        ([{"name": "low"}, {"name": "mid"}, {"name": "high", "when": rule}], "tiers.1.when"),
        ([{"name": "low"}, {"name": "low", "when": rule}], "'low' occurs twice"),
    ):
        assert told in mistakes(changed(*path, to=tiers))["schemes.loyalty"]


def test_care_must_make_sense_as_a_whole() -> None:
    twice = {**GOOD, "care": GOOD["care"] * 2}
    assert "care.0.name: 'birthday-offer' occurs twice" in mistakes(twice)[""]
    assert "care.0.scheme: found 'vip', allowed: loyalty" in mistakes(changed("care", 0, "scheme", to="vip"))[""]


@pytest.mark.parametrize(
    ("text", "op", "threshold"),
    [
        (">= 300", ">=", 300),
        (" <90 ", "<", 90),
        ("== -1.5", "==", Fraction(-3, 2)),
        ("> +0.000000001", ">", Fraction(1, 10**9)),
    ],
)
def test_reads_comparisons(text: str, op: str, threshold: Fraction) -> None:
    assert parse_comparison(text) == (op, threshold)


@pytest.mark.parametrize("text", ["", "300", ">=", ">= 1e3", ">= 1,000", ">= .5", "!= 3", ">= ٣", ">= 3 days", "> = 3"])
def test_refuses_what_is_no_comparison(text: str) -> None:
    with pytest.raises(ValueError, match="allowed is one of"):
        parse_comparison(text)


def test_a_version_that_yaml_reads_as_a_date_or_number_is_meant_as_written() -> None:
    from datetime import date

    assert PolicySpec.model_validate({**GOOD, "version": date(2026, 11, 1)}).version == "2026-11-01"
    assert PolicySpec.model_validate({**GOOD, "version": 7}).version == "7"
