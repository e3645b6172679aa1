"""Uplift: intervals against published figures, who is counted, and what counts as following an action."""

from typing import Any

import pytest

from models.care.statistics import MIN_GROUP, contrast, newcombe, wilson
from models.care.uplift import Acted, Attribution, Conduct, Uplift, uplift
from models.instants import DAY_MS
from tests.models.build import day

#: Newcombe (1998), table II, method 10.
PUBLISHED = [
    ((56, 70), (48, 80), 0.0524, 0.3339),
    ((9, 10), (3, 10), 0.1705, 0.8090),
    ((6, 7), (2, 7), 0.0582, 0.8062),
    ((5, 56), (0, 29), -0.0381, 0.1926),
    ((0, 10), (0, 20), -0.1611, 0.2775),
    ((10, 10), (0, 20), 0.6791, 1.0),
]


@pytest.mark.parametrize(("first", "second", "low", "high"), PUBLISHED)
def test_intervals_of_differences_are_those_published(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    assert newcombe(first, second) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_shares_are_those_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@pytest.mark.parametrize(
    ("treated", "held", "verdict"),
    [
        ((300, 1_000), (200, 1_000), "helps"),
        ((200, 1_000), (300, 1_000), "harms"),
        ((250, 1_000), (240, 1_000), "no_difference"),
        ((1_000, 1_000), (0, MIN_GROUP - 1), "not_enough_data"),
        ((0, MIN_GROUP - 1), (1_000, 1_000), "not_enough_data"),
        ((0, 0), (0, 5), "not_enough_data"),
        ((5, 9), (0, 0), "no_holdout"),
        ((0, 0), (0, 0), "no_holdout"),
    ],
)
def test_the_verdict_is_plain(treated: tuple[int, int], held: tuple[int, int], verdict: str) -> None:
    found = contrast(treated, held)
    assert found.verdict == verdict
    assert (found.uplift is None) is (not treated[1] or not held[1])


def acted(number: int, when: float = 1, rule: str = "r", customer: str = "c", **more: Any) -> Acted:
    return Acted(f"a{number}", rule, more.get("tier", "low"), customer, day(when), more.get("holdout", False))


def of_rule(found: list[Uplift], rule: str = "r", tier: str | None = None) -> Uplift:
    (effect,) = [effect for effect in found if (effect.rule, effect.tier) == (rule, tier)]
    return effect


@pytest.mark.parametrize(
    ("bought", "counts"),
    [(1, 0), (1.0001, 1), (31, 1), (31.0001, 0), (0.5, 0)],
)
def test_an_order_converts_within_the_window_after_the_action(bought: float, counts: int) -> None:
    found = uplift([acted(1)], {}, {"c": Conduct([day(bought)])}, {}, day(400))
    effect = of_rule(found)
    assert (effect.converted, effect.repurchase.treated, effect.repurchase.treated_of) == (counts, counts, 1)


def test_a_rule_that_names_what_converts_is_measured_by_it_and_by_orders_beside() -> None:
    measures = {"r": Attribution(10 * DAY_MS, frozenset({"coupon"}))}
    conducts = {"c": Conduct([day(5)]), "d": Conduct([], {"coupon": [day(3)], "click": [day(3)]})}
    effect = of_rule(uplift([acted(1), acted(2, customer="d")], {}, conducts, measures, day(400)))
    assert (effect.sent, effect.converted) == (2, 1)
    assert (effect.repurchase.treated, effect.conversion.treated) == (1, 1)


def test_answers_count_for_what_was_sent_only() -> None:
    answers = {"a1": frozenset({"delivered", "opened"}), "a2": frozenset({"delivered"}), "a9": frozenset({"clicked"})}
    effect = of_rule(uplift([acted(1), acted(2, holdout=True, customer="d")], answers, {}, {}, day(400)))
    assert (effect.sent, effect.held_out, effect.delivered, effect.opened, effect.clicked) == (1, 1, 1, 1, 0)


def test_each_customer_counts_once_with_the_first_action_whose_window_is_over() -> None:
    actions = [acted(2, 50), acted(1, 1), acted(3, 90, customer="d"), acted(4, 2, customer="e", holdout=True)]
    conducts = {"c": Conduct([day(60)]), "e": Conduct([day(3)])}
    effect = of_rule(uplift(actions, {}, conducts, {}, day(100)))
    assert (effect.sent, effect.converted, effect.open) == (3, 1, 1)
    assert (effect.repurchase.treated, effect.repurchase.treated_of) == (0, 1)
    assert (effect.repurchase.held, effect.repurchase.held_of) == (1, 1)


def test_rules_are_measured_over_all_and_by_tier() -> None:
    actions = [acted(1), acted(2, tier="high", customer="d"), acted(3, rule="q", tier="")]
    found = uplift(actions, {}, {}, {}, day(400))
    assert [(effect.rule, effect.tier, effect.sent) for effect in found] == [
        ("q", None, 1),
        ("q", "", 1),
        ("r", None, 2),
        ("r", "high", 1),
        ("r", "low", 1),
    ]
