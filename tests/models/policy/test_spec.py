"""What a policy's author may write, and that every mistake is reported with the path of its key."""

import copy
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from models.policy.spec import PolicySpec
from models.policy.spec_types import parse_comparison

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
    assert (rule.template, rule.channel, rule.priority, rule.valid_for) == ("{kind}", {"default": ["email"]}, 50, "7d")
    assert rule.consent == "required"


def test_several_mistakes_are_reported_at_once_each_with_its_path() -> None:
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
        "schemes.loyalty.thresholds.tiers.0.name",
        "schemes.loyalty.thresholds.tiers.1.when",
        "schemes.loyalty.thresholds.demotion.grace",
        "schemes.loyalty.thresholds.demotion.step",
        "care.0.birthday.days_before",
        "care.0.birthday.surprise",
    }


@pytest.mark.parametrize(
    ("path", "value", "key", "expected"),
    [
        (("version",), None, "version", "string"),
        (("window",), "0d", "window", "is empty"),
        (("window",), 365, "window", "string"),
        (("schemes", "loyalty", "window"), "0ms", "schemes.loyalty.thresholds.window", "is empty"),
        (("schemes",), {}, "schemes", "at least 1"),
        (("schemes", "loyalty", "kind"), "quantile", "schemes.loyalty", "'thresholds', 'score', 'percentile'"),
        (("schemes", "loyalty", "tiers"), [{"name": "low"}], "schemes.loyalty.thresholds.tiers", "at least 2"),
        (("schemes", "loyalty", "tiers", 1, "when"), {}, "schemes.loyalty.thresholds.tiers.1.when", "mapping"),
        (("schemes", "loyalty", "tiers", 1, "when"), ">= 3", "schemes.loyalty.thresholds.tiers.1.when", "mapping"),
        (("rates",), {"EUR": "0"}, "rates.EUR", "more than zero"),
        (("rates",), {"EUR": "-1"}, "rates.EUR", "more than zero"),
        (("rates",), {"eur": "1"}, "rates.eur.[key]", "pattern"),
        (("care", 0, "trigger"), "whim", "care.0", "'birthday', 'anniversary'"),
        (("care", 0, "leap_day"), "02-29", "care.0.birthday.leap_day", "'02-28' or '03-01'"),
        (("care", 0, "at"), 630, "care.0.birthday.at", "quotes"),  # what YAML makes of an unquoted 10:30
        (("care", 0, "at"), "24:00", "care.0.birthday.at", "pattern"),
        (("care", 0, "priority"), 101, "care.0.birthday.priority", "less than or equal to 100"),
        (("care", 0, "valid_for"), "36526d", "care.0.birthday.valid_for", "century"),
    ],
)
def test_a_mistake_is_reported_at_its_key(path: tuple[str | int, ...], value: Any, key: str, expected: str) -> None:
    found = mistakes(changed(*path, to=value))
    assert list(found) == [key]
    assert expected in found[key]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"money": ">= 3"}, "money: unknown metric"),
        ({"monetary": "300"}, "monetary: found '300'"),
        ({"monetary": 300}, "monetary: found '300'"),
        ({"monetary": ">= 1_000"}, "monetary: found '>= 1_000'"),
        ({"monetary": "=> 3"}, "monetary: found '=> 3'"),
        ({"any": []}, "any: allowed is a list"),
        ({"any": {"monetary": ">= 3"}}, "any: allowed is a list"),
        ({"any": [{"monetary": ">= 3"}, {"all": [{"frequency": "3"}]}]}, "any.1.all.0.frequency: found '3'"),
    ],
)
def test_a_mistake_in_a_rule_is_reported_with_its_place_in_the_rule(rule: dict[str, Any], expected: str) -> None:
    (message,) = mistakes(changed("schemes", "loyalty", "tiers", 1, "when", to=rule)).values()
    assert expected in message


def test_tiers_must_make_sense_as_a_whole() -> None:
    rule = {"frequency": ">= 1"}
    path = ("schemes", "loyalty", "tiers")
    for tiers, expected in (
        ([{"name": "low", "when": rule}, {"name": "high", "when": rule}], "tiers.0.when"),
        ([{"name": "low"}, {"name": "mid"}, {"name": "high", "when": rule}], "tiers.1.when"),
        ([{"name": "low"}, {"name": "low", "when": rule}], "'low' occurs twice"),
    ):
        assert expected in mistakes(changed(*path, to=tiers))["schemes.loyalty.thresholds"]


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


# --- each kind of scheme ------------------------------------------------------------------------------

KINDS: dict[str, dict[str, Any]] = {
    "score": {
        "metrics": {"monetary": {"breaks": ["1", "2"]}},
        "tiers": [{"name": "a"}, {"name": "b", "at_least": "2"}, {"name": "c", "at_least": "3"}],
    },
    "percentile": {"tiers": [{"name": "a"}, {"name": "b", "top": "20%"}, {"name": "c", "top": "5%"}]},
    "matrix": {
        "rows": {"metric": "monetary", "cuts": ["1"]},
        "columns": {"metric": "recency_days", "cuts": ["60"]},
        "cells": [["a", "b"], ["b", "c"]],
        "tiers": ["a", "b", "c"],
    },
    "lifecycle": {},
    "segments": {
        "recency": ["60", "30"],
        "frequency": ["2"],
        "monetary": ["1"],
        "segments": [{"name": "a"}, {"name": "b", "r": "2-3"}],
    },
}


def of_kind(kind: str, **more: Any) -> dict[str, Any]:
    return {**GOOD, "schemes": {"s": {"kind": kind, **KINDS[kind], **more}}, "care": []}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_valid_example(kind: str) -> None:
    assert PolicySpec.model_validate(of_kind(kind)).schemes["s"].kind == kind  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("kind", "more", "key", "expected"),
    [
        ("score", {"metrics": {}}, "metrics", "at least 1"),
        ("score", {"metrics": {"money": {"breaks": ["1"]}}}, "metrics.money.[key]", "unknown metric"),
        ("score", {"metrics": {"margin": {"breaks": ["1", "2"], "weight": 0}}}, "metrics.margin.weight", "zero"),
        ("score", {"metrics": {"margin": {"breaks": ["1", "3", "2"]}}}, "metrics.margin", "only rise or only fall"),
        ("score", {"metrics": {"margin": {"breaks": ["1", "1"]}}}, "metrics.margin", "only rise or only fall"),
        ("score", {"tiers": [{"name": "a"}, {"name": "b", "at_least": "3.1"}]}, "", "tiers.1.at_least: unreachable"),
        ("score", {"tiers": [{"name": "a", "at_least": 1}, {"name": "b", "at_least": 2}]}, "", "tiers.0.at_least"),
        ("score", {"tiers": [{"name": "a"}, {"name": "b"}]}, "", "tiers.1.at_least: every tier"),
        (
            "score",
            {"tiers": [{"name": "a"}, {"name": "b", "at_least": 2}, {"name": "c", "at_least": 2}]},
            "",
            "tiers.2.at_least: found 2, allowed is more than the 2",
        ),
        ("percentile", {"tiers": [{"name": "a", "top": "9%"}, {"name": "b", "top": "5%"}]}, "", "tiers.0.top"),
        ("percentile", {"tiers": [{"name": "a"}, {"name": "b"}]}, "", "tiers.1.top: every tier"),
        ("percentile", {"tiers": [{"name": "a"}, {"name": "b", "top": "20"}]}, "tiers.1.top", "pattern"),
        (
            "percentile",
            {"tiers": [{"name": "a"}, {"name": "b", "top": "5%"}, {"name": "c", "top": "5%"}]},
            "",
            "tiers.2.top: found 5%, allowed is less than 5%",
        ),
        (
            "percentile",
            {"tiers": [{"name": "a"}, {"name": "b", "top": "9%", "cut": 3}, {"name": "c", "top": "5%"}]},
            "",
            "tiers.2.cut: every tier",
        ),
        ("matrix", {"cells": [["a", "b"]]}, "", "cells: found 1 lists of [2], allowed are 2 lists of 2"),
        ("matrix", {"cells": [["a", "b"], ["b"]]}, "", "cells: found 2 lists of [1, 2]"),
        ("matrix", {"tiers": ["a", "b"]}, "", "tiers: c stands in only one of tiers and cells"),
        ("matrix", {"tiers": ["b", "a", "c"]}, "", "cells.0.0: found 'a', allowed is the lowest tier, 'b'"),
        ("matrix", {"tiers": ["a", "b", "c", "c"]}, "", "'c' occurs twice"),
        ("lifecycle", {"dormant_for": "90d"}, "", "dormant_for: found 90d, allowed is more than active_for"),
        ("lifecycle", {"new_for": "soon"}, "new_for", "not a duration"),
        ("lifecycle", {"tiers": []}, "tiers", "not permitted"),
        ("segments", {"recency": ["30", "60"]}, "", "recency: allowed are falling breaks"),
        ("segments", {"monetary": ["3", "1"]}, "", "monetary: allowed are rising breaks"),
        ("segments", {"segments": [{"name": "a"}, {"name": "b", "f": "3"}]}, "", "segments.1.f: found 3"),
        ("segments", {"segments": [{"name": "a"}, {"name": "b", "r": "3-2"}]}, "", "segments.1.r: found 3-2"),
        ("segments", {"segments": [{"name": "a"}, {"name": "b", "r": "0"}]}, "segments.1.r", "pattern"),
        ("segments", {"segments": [{"name": "a"}, {"name": "b"}]}, "", "segments.1: above the lowest"),
        ("segments", {"segments": [{"name": "a"}, {"name": "a", "r": "1"}]}, "", "'a' occurs twice"),
        ("lifecycle", {"demotion": {"keep": "month"}}, "demotion.keep", "'calendar_year' or 'anniversary'"),
        ("lifecycle", {"demotion": {"min_stay": "1y"}}, "demotion.min_stay", "not a duration"),
    ],
)
def test_a_mistake_in_a_kind_is_reported_at_its_key(kind: str, more: dict[str, Any], key: str, expected: str) -> None:
    found = mistakes(of_kind(kind, **more))
    assert list(found) == [f"schemes.s.{kind}.{key}".rstrip(".")]
    assert expected in next(iter(found.values()))


def test_mistakes_of_several_kinds_are_reported_at_once() -> None:
    schemes = {
        "one": {"kind": "score", "metrics": {"monetary": {"breaks": []}}, "tiers": [{"name": "a"}]},
        "two": {"kind": "matrix", **KINDS["matrix"], "rows": {"metric": "money", "cuts": ["x"]}},
        "three": {"kind": "lifecycle", "active_for": "soon", "window": "0d"},
    }
    assert set(mistakes({**GOOD, "schemes": schemes, "care": []})) == {
        "schemes.one.score.metrics.monetary.breaks",
        "schemes.one.score.tiers",
        "schemes.two.matrix.rows.metric",
        "schemes.two.matrix.rows.cuts.0",
        "schemes.three.lifecycle.active_for",
        "schemes.three.lifecycle.window",
    }


def test_several_mistakes_of_one_rule_are_reported_together() -> None:
    rule = {"money": ">= 3", "all": [], "any": [{"margin": "3"}]}
    (message,) = mistakes(changed("schemes", "loyalty", "tiers", 1, "when", to=rule)).values()
    assert [line.split(": ")[0] for line in message.removeprefix("Value error, ").split("\n")] == [
        "money",
        "all",
        "any.0.margin",
    ]


@pytest.mark.parametrize(("below", "above"), [(">= 5", ">= 5"), (">= 5", ">= 4"), ("> 5", "> 4"), ("<= 5", "<= 6")])
def test_a_tier_that_another_always_outdoes_is_refused(below: str, above: str) -> None:
    tiers = [{"name": "a"}, {"name": "b", "when": {"margin": below}}, {"name": "c", "when": {"margin": above}}]
    (message,) = mistakes(changed("schemes", "loyalty", "tiers", to=tiers)).values()
    assert f"tiers.2.when.margin: found {above}" in message


@pytest.mark.parametrize("start", ["2027-01-01T00:00:00", "tomorrow", "2027-13-01T00:00:00Z"])
def test_the_start_of_a_version_has_an_offset(start: str) -> None:
    assert list(mistakes({**GOOD, "effective_from": start})) == ["effective_from"]
