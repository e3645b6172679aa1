"""The details of a change: the numbers of `why`, `next` and `at_risk`, and that they are true."""

from itertools import pairwise
from typing import Any

import pytest

from models.instants import parse_instant
from models.money import Money
from models.outputs import AtRisk, Need, Next, TierChange, Why
from models.rules.metrics import Unit
from tests.models.build import Run, contact, day, order, policy, refund, tiers

SHOP = {
    "tiers": [
        {"name": "regular"},
        {"name": "silver", "when": {"monetary": ">= 300", "frequency": ">= 3"}},
        {"name": "gold", "when": {"any": [{"monetary": ">= 800"}, {"frequency": ">= 12"}]}},
    ],
    "demotion": {"grace": "30d"},
}


def last(scheme: dict[str, Any], *events: Any, until: int | None = None, **more: Any) -> TierChange:
    run = Run(policy(scheme, **more)).take(*events)
    return (run if until is None else run.until(until)).changes[-1]


def three_orders() -> list[Any]:
    return [order(day(10 * number), f"o{number}", 12_000) for number in range(3)]


def test_on_entering_at_the_bottom_why_is_what_fails_of_the_next_tier() -> None:
    change = last(SHOP, order(day(0), "a", 12_050))
    assert change.why == [
        Why("monetary", "120.50", ">=", "300.00", met=False),
        Why("frequency", 1, ">=", 3, met=False),
    ]
    assert change.next == Next("silver", [Need("monetary", "179.50"), Need("frequency", 2)])
    assert change.at_risk is None


def test_upwards_why_is_what_holds_of_the_new_tier() -> None:
    change = last(SHOP, *three_orders())
    assert (change.from_tier, change.to_tier, change.direction) == ("regular", "silver", "up")
    assert change.why == [Why("monetary", "360.00", ">=", "300.00", met=True), Why("frequency", 3, ">=", 3, met=True)]
    assert change.metrics == {"recency_days": 0.0, "frequency": 3, "monetary": "360.00"}
    assert change.next == Next("gold", [Need("monetary", "440.00")])  # 55 % of 800 is nearer than 9 of 12 orders, 75 %


def test_at_risk_names_the_end_of_the_grace_after_the_window() -> None:
    change = last(SHOP, *three_orders())
    assert change.at_risk == AtRisk("regular", "2026-05-11T00:00:00Z")  # day 100, when the first order leaves, and 30
    assert parse_instant("2026-05-11T00:00:00Z") == day(130)


def test_downwards_why_is_what_fails_of_every_tier_above_the_new_one() -> None:
    change = last(SHOP, order(day(0), "a", 90_000), until=day(500))
    assert (change.from_tier, change.to_tier, change.direction) == ("gold", "regular", "down")
    assert [(why.metric, why.op, why.threshold, why.met) for why in change.why] == [
        ("monetary", ">=", "300.00", False),
        ("frequency", ">=", 3, False),
        ("monetary", ">=", "800.00", False),
        ("frequency", ">=", 12, False),
    ]
    assert change.metrics["recency_days"] == 130.0


def test_downwards_why_says_nothing_of_tiers_that_were_not_held() -> None:
    change = last(SHOP, *three_orders(), until=day(500))
    assert (change.from_tier, change.to_tier) == ("silver", "regular")
    assert [(why.metric, why.threshold) for why in change.why] == [("monetary", "300.00"), ("frequency", 3)]


def test_at_the_top_nothing_is_next() -> None:
    change = last(SHOP, order(day(0), "a", 90_000))
    assert change.why == [Why("monetary", "900.00", ">=", "800.00", met=True)]
    assert change.next is None


def test_a_comparison_that_two_rules_share_is_listed_once() -> None:
    scheme = tiers({"frequency": ">= 1", "monetary": ">= 5"}, {"frequency": ">= 1", "monetary": ">= 6"})
    change = last(scheme, order(day(0), "a", 700), until=day(200))
    assert (change.from_tier, change.to_tier) == ("t2", "t0")
    assert [why.metric for why in change.why] == ["frequency", "monetary", "monetary"]


@pytest.mark.parametrize(
    ("rule", "missing"),
    [
        ({"frequency": ">= 4"}, 2),
        ({"frequency": "> 4"}, 3),
        ({"frequency": "> 3.5"}, 2),
        ({"frequency": ">= 3.5"}, 2),
        ({"frequency": "< 2"}, 1),
        ({"frequency": "<= 1"}, 1),
        ({"monetary": ">= 50"}, "20.00"),
        ({"monetary": "> 50"}, "20.01"),
        ({"monetary": ">= 50.005"}, "20.01"),
        ({"average_order_value": ">= 15.01"}, "0.01"),
        ({"average_order_value": ">= 15.005"}, "0.00500000"),
        ({"recency_days": ">= 2.5"}, 2.5),
        ({"tenure_days": ">= 30"}, 29.0),
        ({"satisfaction": ">= 8"}, 8.0),
        ({"satisfaction": "<= 8"}, None),
        ({"engagement": ">= 1.5"}, 1.5),
    ],
)
def test_what_is_missing_in_displayed_units(rule: dict[str, str], missing: object) -> None:
    change = last(tiers({"frequency": ">= 2"}, rule), order(day(0), "a", 1_000), order(day(1), "b", 2_000))
    assert change.next == Next("t2", [Need(next(iter(rule)), missing)])


def test_what_is_missing_is_just_enough() -> None:
    for threshold in ("> 50", ">= 50.005"):
        rule = tiers({"frequency": ">= 2"}, {"monetary": threshold})
        events = [order(day(0), "a", 1_000), order(day(1), "b", 2_000)]
        change = last(rule, *events)
        assert change.next is not None
        enough = Money("USD").minor(str(change.next.needs[0].missing))
        assert last(rule, *events, order(day(2), "c", enough)).to_tier == "t2"
        assert last(rule, *events, order(day(2), "c", enough - 1)).to_tier == "t1"


def test_events_show_every_metric_that_their_scheme_reads() -> None:
    scheme = tiers({"satisfaction": ">= 8", "any": [{"overdue": "< 2"}, {"growth": ">= 1"}, {"tenure_days": ">= 9"}]})
    change = last(scheme, order(day(0), "a", 1_999))
    assert change.metrics == {
        "recency_days": 0.0,
        "frequency": 1,
        "monetary": "19.99",
        "satisfaction": None,
        "overdue": None,
        "growth": None,
        "tenure_days": 0.0,
    }


def test_metrics_are_shown_over_the_schemes_own_window() -> None:
    scheme = tiers({"frequency": ">= 2"}, window="10d")
    change = last(scheme, order(day(0), "a"), order(day(9), "b"), until=day(50))
    assert change.to_tier == "t0"
    assert change.metrics == {"recency_days": 1.0, "frequency": 1, "monetary": "10.00"}


def test_days_are_fractions_to_the_millisecond() -> None:
    change = last(tiers({"recency_days": "<= 1.5"}), order(day(0), "a"), until=day(9))
    (why,) = change.why
    assert parse_instant(change.effective_at) == day(1.5, 1)
    assert isinstance(why.value, float)
    assert why.value > why.threshold == 1.5


@pytest.mark.parametrize("step", ["qualified", "one"])
@pytest.mark.parametrize("grace", ["0d", "7d"])
def test_a_customer_at_risk_falls_at_that_very_instant(step: str, grace: str) -> None:
    scheme = tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}, {"recency_days": "<= 40"}, grace=grace, step=step)
    run = (
        Run(policy(scheme))
        .take(order(day(0), "a"), order(day(20), "b"), refund(day(30), "r", "a", 400))
        .until(day(999))
    )
    assert run.moves[-1][1] == "t0"
    falls = run.changes[1:]  # after the last event: nothing more happens
    assert len(falls) == 3
    for change, following in pairwise(falls):
        assert change.at_risk == AtRisk(following.to_tier, following.effective_at)
    assert run.changes[-1].at_risk is None


def test_at_risk_looks_past_a_rise_by_time_alone() -> None:
    scheme = tiers({"recency_days": "<= 60"}, {"tenure_days": ">= 30", "recency_days": "<= 60"})
    run = Run(policy(scheme)).take(order(day(0), "a"))
    assert run.changes[0].at_risk == AtRisk("t0", "2026-03-02T00:00:00.001Z")
    run.until(day(99))
    assert [move[:3] for move in run.moves[1:]] == [("t1", "t2", day(30)), ("t2", "t0", day(60, 1))]


def test_at_risk_of_a_customer_who_never_bought() -> None:
    assert last(tiers({"tenure_days": ">= 0"}), contact(day(0), "i")).at_risk is None


def test_shows_counts_as_integers_and_numbers_as_floats() -> None:
    from models.rules.explain import render_reading

    money = Money("JPY")
    assert render_reading((7, 1), Unit.COUNT, money) == 7
    assert render_reading((7, 2), Unit.NUMBER, money) == 3.5
    assert render_reading((129_600_000, 1), Unit.DAYS, money) == 1.5
    assert render_reading((7, 2), Unit.MONEY, money) == "3.500000"
    assert render_reading(None, Unit.MONEY, money) is None


def test_at_risk_sees_the_next_step_of_a_fall_at_the_same_instant() -> None:
    scheme = tiers({"average_order_value": ">= 1"}, {"average_order_value": ">= 2"}, step="one")
    *_, first, second = Run(policy(scheme)).take(order(day(0), "a")).until(day(200)).changes
    assert (first.to_tier, second.to_tier, first.effective_at) == ("t1", "t0", second.effective_at)
    assert (first.at_risk, second.at_risk) == (AtRisk("t0", second.effective_at), None)
