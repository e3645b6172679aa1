"""The kinds of schemes, compiled: the tier at every boundary, and gauges that rules share."""

from fractions import Fraction
from typing import Any

import pytest

from models.instants import DAY_MS
from models.policy.compile_schemes import BASE_METRICS, GaugeBook
from models.rules.comparisons import Junction
from models.rules.metrics import METRICS, Edges, Facts
from models.rules.scheme import NEVER_HOLDS
from tests.models.build import contact, day, facts, order, policy, read, tiers

WINDOW = 100 * DAY_MS


def tier(scheme: dict[str, Any], known: Facts, at: int) -> str:
    """Return the name of the qualified tier."""
    compiled = policy(schemes={"s": scheme})
    (only,) = compiled.schemes
    (rank,), _ = compiled.evaluate_rules(known, at)
    return only.tiers[rank].name


def spent(*amounts: int) -> Facts:
    """Return orders of amounts (minor units), one a day from day 0 on."""
    return facts(*(order(day(number), str(number), amount) for number, amount in enumerate(amounts)))


# --- gauges -------------------------------------------------------------------------------------------


def test_comparisons_of_one_metric_and_window_share_a_gauge() -> None:
    book = GaugeBook(100)
    first = book.compare("monetary", ">=", Fraction(3), WINDOW)
    second = book.compare("monetary", "<", Fraction("0.5"), WINDOW)
    other_window = book.compare("monetary", ">=", Fraction(3), WINDOW + 1)
    other_metric = book.compare("margin", ">=", Fraction(3), WINDOW)
    assert [one.gauge for one in (first, second, other_window, other_metric)] == [0, 0, 1, 2]
    assert book.index("margin", WINDOW) == 2
    gauges = book.gauges()
    assert [(gauge.metric.name, gauge.window) for gauge in gauges] == [
        ("monetary", WINDOW),
        ("monetary", WINDOW + 1),
        ("margin", WINDOW),
    ]
    assert gauges[0].edges == Edges.of([(">=", Fraction(300)), ("<", Fraction(50))])


@pytest.mark.parametrize(
    ("metric", "scale", "edge"),
    [("monetary", 1, 3), ("monetary", 1_000, 3_000), ("recency_days", 100, 3 * DAY_MS), ("growth", 100, 3)],
)
def test_edges_are_in_the_native_unit(metric: str, scale: int, edge: int) -> None:
    comparison = GaugeBook(scale).compare(metric, ">=", Fraction(3), WINDOW)
    assert (comparison.edge, comparison.threshold, comparison.metric) == (edge, 3, METRICS[metric])


def test_schemes_and_care_rules_share_gauges() -> None:
    care = {"name": "c", "kind": "c", "trigger": "condition", "when": {"monetary": ">= 9"}}
    schemes = {"a": tiers({"monetary": ">= 1"}), "b": tiers({"monetary": ">= 2", "margin": "> 0"})}
    compiled = policy(None, care, schemes=schemes)
    assert sorted(gauge.metric.name for gauge in compiled.gauges) == sorted({*BASE_METRICS, "margin"})
    assert [gauge.metric.name for gauge in compiled.gauges if gauge.edges.compared] == ["monetary", "margin"]
    (money,) = (gauge for gauge in compiled.gauges if gauge.metric.name == "monetary")
    assert money.edges.reached == (100, 200, 900)


def test_a_scheme_shows_the_base_metrics_and_what_it_compares() -> None:
    compiled = policy(tiers({"margin": ">= 1", "monetary": ">= 1"}))
    (scheme,) = compiled.schemes
    assert [compiled.gauges[index].metric.name for index in scheme.shown] == [*BASE_METRICS, "margin"]
    assert {compiled.gauges[index].metric.name for index in scheme.gauges} == {"margin", "monetary"}


def test_stages_and_segments_are_no_ladder() -> None:
    kinds = {
        "s": SCORE,
        "p": PERCENTILE,
        "m": MATRIX,
        "l": {"kind": "lifecycle"},
        "g": SEGMENTS,
        "t": tiers({"margin": "> 0"}),
    }
    ladders = {scheme.name: scheme.ladder for scheme in policy(schemes=kinds).schemes}
    assert ladders == {"s": True, "p": True, "m": True, "l": False, "g": False, "t": True}


# --- score ----------------------------------------------------------------------------------------------

SCORE: dict[str, Any] = {
    "kind": "score",
    "metrics": {"monetary": {"breaks": ["100", "300"], "weight": "3"}, "recency_days": {"breaks": ["60", "30"]}},
    "tiers": [{"name": "low"}, {"name": "mid", "at_least": "1.75"}, {"name": "top", "at_least": "3"}],
}


@pytest.mark.parametrize(
    ("amount", "at", "name"),
    [
        (9_999, day(30), "low"),  # levels 1 and 3: (3 + 3) / 4
        (10_000, day(60, 1), "mid"),  # levels 2 and 1: (6 + 1) / 4, just enough
        (30_000, day(30), "top"),  # levels 3 and 3
        (30_000, day(30, 1), "mid"),
        (29_999, day(30), "mid"),
    ],
)
def test_a_score_is_the_weighted_mean_of_levels(amount: int, at: int, name: str) -> None:
    assert tier(SCORE, spent(amount), at) == name


def test_a_metric_that_is_undefined_has_the_first_level() -> None:
    assert tier(SCORE, facts(), day(1)) == "low"


@pytest.mark.parametrize(("metric", "op"), [("recency_days", "<="), ("overdue", "<="), ("monetary", ">=")])
def test_a_single_break_goes_the_way_that_is_better(metric: str, op: str) -> None:
    scheme = {**SCORE, "metrics": {metric: {"breaks": ["3"]}}, "tiers": [{"name": "a"}, {"name": "b", "at_least": 2}]}
    rule = policy(schemes={"s": scheme}).schemes[0].tiers[1].rule
    assert rule is not None
    assert [leaf.op for leaf in rule.leaves()] == [op]


# --- percentile -------------------------------------------------------------------------------------------

PERCENTILE: dict[str, Any] = {
    "kind": "percentile",
    "tiers": [{"name": "rest"}, {"name": "a", "top": "20%", "cut": "100"}, {"name": "b", "top": "5%", "cut": "300"}],
}


@pytest.mark.parametrize(("amount", "name"), [(9_999, "rest"), (10_000, "a"), (29_999, "a"), (30_000, "b")])
def test_a_cut_admits_from_itself_on(amount: int, name: str) -> None:
    assert tier(PERCENTILE, spent(amount), day(1)) == name


def test_without_a_cut_nobody_is_admitted() -> None:
    scheme = {"kind": "percentile", "tiers": [{"name": "rest"}, {"name": "a", "top": "20%"}]}
    assert tier(scheme, spent(10**9), day(1)) == "rest"
    assert policy(schemes={"s": scheme}).schemes[0].tiers[1].rule is NEVER_HOLDS
    assert not NEVER_HOLDS.holds([])
    assert (NEVER_HOLDS.decisive([]), NEVER_HOLDS.lacks([])) == ([], [])


# --- matrix -----------------------------------------------------------------------------------------------

MATRIX: dict[str, Any] = {
    "kind": "matrix",
    "rows": {"metric": "monetary", "cuts": ["100", "300"]},
    "columns": {"metric": "recency_days", "cuts": ["60", "30"]},
    "cells": [["r1c1", "r1c2", "r1c3"], ["r2c1", "r2c2", "r2c3"], ["r3c1", "r3c2", "r3c3"]],
    "tiers": [f"r{row}c{column}" for row in (1, 2, 3) for column in (1, 2, 3)],
}


@pytest.mark.parametrize(("amount", "row"), [(0, 1), (9_999, 1), (10_000, 2), (29_999, 2), (30_000, 3)])
@pytest.mark.parametrize(("at", "column"), [(day(0), 3), (day(30), 3), (day(30, 1), 2), (day(60), 2), (day(60, 1), 1)])
def test_everybody_is_in_exactly_one_cell(amount: int, row: int, at: int, column: int) -> None:
    known = spent(amount)
    assert tier(MATRIX, known, at) == f"r{row}c{column}"
    compiled = policy(schemes={"s": MATRIX})
    (scheme,) = compiled.schemes
    readings = read(compiled.gauges, known, at)
    held = [one.name for one in scheme.tiers if one.rule is not None and one.rule.holds(readings)]
    assert held == [name for name in [f"r{row}c{column}"] if name != "r1c1"]


def test_what_is_undefined_is_in_the_first_band() -> None:
    assert tier(MATRIX, facts(), day(1)) == "r1c1"
    mirrored = {**MATRIX, "rows": MATRIX["columns"], "columns": MATRIX["rows"]}
    assert tier(mirrored, facts(), day(1)) == "r1c1"


def test_a_tier_may_stand_in_several_cells() -> None:
    scheme = {
        "kind": "matrix",
        "rows": {"metric": "monetary", "cuts": ["100"]},
        "columns": {"metric": "frequency", "cuts": ["2"]},
        "cells": [["low", "some"], ["some", "low"]],
        "tiers": ["low", "some"],
    }
    assert [tier(scheme, known, day(5)) for known in (spent(1), spent(1, 1), spent(10_000), spent(10_000, 1))] == [
        "low",
        "some",
        "some",
        "low",
    ]


# --- lifecycle --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "name"),
    [
        (day(30), "new"),
        (day(30, 1), "active"),
        (day(90), "active"),
        (day(90, 1), "dormant"),
        (day(180), "dormant"),
        (day(180, 1), "churned"),
    ],
)
def test_the_stages_of_a_customer_of_one_order(at: int, name: str) -> None:
    assert tier({"kind": "lifecycle"}, spent(1), at) == name


def test_who_never_bought_is_a_prospect_whenever() -> None:
    assert tier({"kind": "lifecycle"}, facts(contacts=(contact(day(0), "i"),)), day(999)) == "prospect"


def test_a_customer_who_comes_back_is_active() -> None:
    known = facts(order(day(0), "a"), order(day(500), "b"))
    assert tier({"kind": "lifecycle"}, known, day(500)) == "active"


# --- segments ---------------------------------------------------------------------------------------------

SEGMENTS: dict[str, Any] = {
    "kind": "segments",
    "recency": ["60", "30"],
    "frequency": ["2", "3"],
    "monetary": ["100"],
    "segments": [
        {"name": "rest"},
        {"name": "lapsed", "r": "1", "f": "2-3"},
        {"name": "middle", "r": "2", "f": "2"},
        {"name": "rich", "m": "2"},
        {"name": "best", "r": "3", "f": "3", "m": "2"},
    ],
}


@pytest.mark.parametrize(
    ("amounts", "silence", "name"),
    [
        ((1,), 0, "rest"),
        ((1, 1), 30 * DAY_MS, "rest"),  # still at level 3 of recency
        ((1, 1), 30 * DAY_MS + 1, "middle"),
        ((1, 1), 60 * DAY_MS, "middle"),
        ((1, 1), 60 * DAY_MS + 1, "lapsed"),
        ((1, 1, 1), 60 * DAY_MS, "rest"),  # level 3 of frequency is none of the middle
        ((1, 1, 1), 60 * DAY_MS + 1, "lapsed"),
        ((5_000, 4_999), 30 * DAY_MS + 1, "middle"),
        ((5_000, 5_000), 30 * DAY_MS + 1, "rich"),  # if two fit, the one listed later wins
        ((5_000, 5_000, 0), 30 * DAY_MS, "best"),
        ((5_000, 5_000, 0), 30 * DAY_MS + 1, "rich"),
    ],
)
def test_segments_take_the_levels_that_they_name(amounts: tuple[int, ...], silence: int, name: str) -> None:
    assert tier(SEGMENTS, spent(*amounts), day(len(amounts) - 1) + silence) == name


def test_without_an_order_recency_is_at_its_first_level() -> None:
    scheme = {**SEGMENTS, "segments": [{"name": "rest"}, {"name": "gone", "r": "1"}]}
    assert tier(scheme, facts(), day(1)) == "gone"
    assert tier({**scheme, "segments": [{"name": "rest"}, {"name": "seen", "r": "2-3"}]}, facts(), day(1)) == "rest"


def test_levels_that_are_all_of_them_ask_for_nothing() -> None:
    scheme = {**SEGMENTS, "segments": [{"name": "rest"}, {"name": "all", "r": "1-3"}]}
    assert tier(scheme, facts(), day(1)) == "all"
    assert policy(schemes={"s": scheme}).schemes[0].tiers[1].rule == Junction(True, ())
