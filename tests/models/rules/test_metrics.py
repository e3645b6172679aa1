"""Each metric by examples computed by hand, and `next_change` against looking at every single millisecond."""

from fractions import Fraction
from random import Random

import pytest

from models.instants import DAY_MS
from models.policy.compile_schemes import GaugeBook
from models.rules.comparisons import Op
from models.rules.metrics import METRICS, Facts, Reading
from tests.models.build import cancel, compared, compared_all, contact, day, facts, order, refund
from tests.models.draw import random_facts, random_threshold

WINDOW = 100 * DAY_MS


def read(name: str, known: Facts, at: int, window: int = WINDOW) -> Reading:
    return METRICS[name].value(known, at, window)


def number(name: str, known: Facts, at: int, window: int = WINDOW) -> Fraction | None:
    reading = read(name, known, at, window)
    return None if reading is None else Fraction(*reading)


THREE = facts(
    order(day(0), "a", 10_000, 3_000),
    order(day(60), "b", 20_000, -500),
    order(day(90), "c", 5_000),
)


@pytest.mark.parametrize(
    ("at", "frequency", "monetary", "margin"),
    [
        (day(90), 3, 35_000, 2_500),
        (day(100, -1), 3, 35_000, 2_500),
        (day(100), 2, 25_000, -500),  # the window is (T − W, T]: what was placed at t has left at t + W
        (day(160), 1, 5_000, 0),
        (day(190, -1), 1, 5_000, 0),
        (day(190), 0, 0, 0),
    ],
)
def test_what_the_window_holds(at: int, frequency: int, monetary: int, margin: int) -> None:
    assert read("frequency", THREE, at) == (frequency, 1)
    assert read("monetary", THREE, at) == (monetary, 1)
    assert read("margin", THREE, at) == (margin, 1)


def test_margin_if_no_order_has_one() -> None:
    assert read("margin", facts(order(day(0), "a")), day(1)) == (0, 1)


def test_recency_counts_from_the_last_counted_order_whatever_the_window() -> None:
    assert number("recency_days", THREE, day(90)) == 0
    assert number("recency_days", THREE, day(500, 7)) == 410 * DAY_MS + 7
    void = facts(order(day(0), "a", 100), order(day(5), "b", 100), cancel(day(6), "b"))
    assert number("recency_days", void, day(10)) == 10 * DAY_MS
    refunded = facts(order(day(0), "a", 100), order(day(5), "b", 100), refund(day(6), "r", "b", 100))
    assert number("recency_days", refunded, day(10)) == 10 * DAY_MS
    assert read("recency_days", facts(), day(10)) is None


def test_average_order_value_is_exact_and_undefined_without_orders() -> None:
    assert number("average_order_value", THREE, day(90)) == Fraction(35_000, 3)
    assert number("average_order_value", THREE, day(160)) == 5_000
    assert read("average_order_value", THREE, day(190)) is None


def test_a_partial_refund_lowers_the_average_and_keeps_the_count() -> None:
    known = facts(order(day(0), "a", 10_000), order(day(1), "b", 10_000), refund(day(2), "r", "a", 4_000))
    assert number("average_order_value", known, day(3)) == 8_000
    assert read("frequency", known, day(3)) == (2, 1)


def test_tenure_counts_from_its_start_and_never_below_zero() -> None:
    assert number("tenure_days", facts(since=day(3)), day(10, 1)) == 7 * DAY_MS + 1
    assert number("tenure_days", facts(since=day(30)), day(10)) == 0


def test_repurchase_rate_is_the_share_of_orders_that_were_not_the_first() -> None:
    assert number("repurchase_rate", THREE, day(90)) == Fraction(2, 3)
    assert number("repurchase_rate", THREE, day(100)) == 1  # the first order has left the window
    assert number("repurchase_rate", facts(order(day(0), "a")), day(1)) == 0
    assert read("repurchase_rate", THREE, day(190)) is None


def test_growth_is_this_half_window_over_the_one_before() -> None:
    known = facts(order(day(10), "a", 4_000), order(day(60), "b", 5_000), order(day(80), "c", 1_000))
    assert number("growth", known, day(90)) == Fraction(6_000, 4_000)
    # At day 110 `a` has left the whole window and `b` the later half.
    assert number("growth", known, day(110)) == Fraction(1_000, 5_000)
    # At day 60 `a`, of day 10, is just in the earlier half; a millisecond before, it is in the later one.
    early = facts(order(day(10), "a", 4_000))
    assert read("growth", early, day(60, -1)) is None
    assert number("growth", early, day(60)) == 0


def test_engagement_satisfaction_and_referrals_look_at_interactions_in_the_window() -> None:
    known = facts(
        contacts=(
            contact(day(0), "a", "visit"),
            contact(day(0), "b", "survey", 9_000),
            contact(day(50), "c", "survey", 6_500),
            contact(day(60), "d", "complaint"),
            contact(day(70), "e", "referral"),
            contact(day(71), "f", "sings"),
        ),
        weights={"visit": 1_500, "complaint": -2_000},
    )
    assert number("engagement", known, day(100, -1)) == Fraction(-1, 2)
    assert number("engagement", known, day(100)) == -2
    assert number("satisfaction", known, day(100, -1)) == Fraction(31, 4)
    assert number("satisfaction", known, day(100)) == Fraction(13, 2)
    assert read("satisfaction", known, day(150)) is None
    assert [number("referrals", known, at) for at in (day(170, -1), day(170))] == [1, 0]


def test_rhythm_is_the_median_gap_and_needs_two_gaps() -> None:
    assert read("rhythm_days", facts(order(day(0), "a"), order(day(9), "b")), day(10)) is None
    odd = facts(*(order(day(at), str(at)) for at in (0, 10, 40, 45)))  # gaps 10, 30, 5
    assert number("rhythm_days", odd, day(50)) == 10 * DAY_MS
    even = facts(*(order(day(at), str(at)) for at in (0, 10, 40)))  # gaps 10, 30
    assert number("rhythm_days", even, day(50)) == 20 * DAY_MS


def test_rhythm_looks_at_the_latest_twelve_gaps() -> None:
    slow_then_fast = [0, 100, 200, 300, *range(302, 326, 2)]  # three gaps of 100, then twelve of 2
    assert number("rhythm_days", facts(*(order(day(at), str(at)) for at in slow_then_fast)), day(400)) == 2 * DAY_MS


def test_overdue_is_the_silence_in_units_of_the_rhythm() -> None:
    known = facts(*(order(day(at), str(at)) for at in (0, 10, 40, 45)))
    assert number("overdue", known, day(45)) == 0
    assert number("overdue", known, day(75)) == 3
    assert read("overdue", facts(order(day(0), "a")), day(75)) is None


def test_overdue_counts_in_days_at_least() -> None:
    hasty = facts(order(day(0), "a"), order(day(0, 1), "b"), order(day(0, 2), "c"))
    assert number("overdue", hasty, day(2, 2)) == 2


# --- when a comparison next changes ---------------------------------------------------------------


def test_recency_changes_one_millisecond_after_a_closed_bound_and_at_an_open_one() -> None:
    closed = compared("recency_days", "<=", Fraction(90), WINDOW)
    open_ = compared("recency_days", "<", Fraction(90), WINDOW)
    assert [closed.holds(THREE, at) for at in (day(180), day(180, 1))] == [True, False]
    assert [open_.holds(THREE, at) for at in (day(180, -1), day(180))] == [True, False]
    assert closed.next_change(THREE, day(180)) == day(180, 1)
    assert closed.next_change(THREE, day(180, 1)) is None
    assert open_.next_change(THREE, day(180, -1)) == day(180)


def test_frequency_and_monetary_change_when_the_order_that_matters_leaves() -> None:
    def change(name: str, op: Op, threshold: int, at: int) -> int | None:
        return compared(name, op, Fraction(threshold), WINDOW).next_change(THREE, at)

    assert change("frequency", ">=", 2, day(100)) == day(160)
    assert change("monetary", ">=", 250, day(100)) == day(160)
    assert change("monetary", ">", 250, day(90)) == day(100)
    assert change("frequency", ">=", 9, day(90)) is None


def test_of_several_edges_the_next_to_be_crossed_counts() -> None:
    def change(name: str, thresholds: list[int], at: int) -> int | None:
        return compared_all(name, [Fraction(one) for one in thresholds], WINDOW)[1].next_change(THREE, at)

    assert change("frequency", [1, 3, 9], day(90)) == day(100)
    assert change("frequency", [1, 3, 9], day(100)) == day(160)  # `> 1` changes as one order is left
    assert change("frequency", [3, 9], day(100)) is None
    assert change("monetary", [250, 40], day(90)) == day(100)
    assert change("monetary", [250, 40], day(160)) == day(190)
    assert [change("recency_days", [5, 90], at) for at in (day(90), day(95), day(95, 1))] == [
        day(95),
        day(95, 1),
        day(180),
    ]


def test_a_gauge_that_nothing_compares_never_changes() -> None:
    book = GaugeBook(100)
    book.index("recency_days", WINDOW)
    (gauge,) = book.gauges()
    assert gauge.next_change(THREE, day(90)) is None


@pytest.mark.parametrize("name", METRICS)
def test_nothing_changes_before_the_next_change(name: str) -> None:
    changes = 0
    for seed in range(200):
        random = Random(f"{name} {seed}")
        known, at = random_facts(random)
        window = random.choice([1, 40, 41, 80, 120])
        thresholds = [random_threshold(random, name, known, at, window) for _ in range(random.choice([1, 1, 2, 3]))]
        comparisons, gauge = compared_all(name, thresholds, window)

        def truths(instant: int) -> list[bool]:
            reading = gauge.read(known, instant)  # noqa: B023
            return [comparison.admits(reading) for comparison in comparisons]  # noqa: B023

        change, end, held = gauge.next_change(known, at), at + 250, truths(at)
        assert change is None or change > at
        for instant in range(at, end if change is None else min(change, end)):
            assert truths(instant) == held, (seed, thresholds, at, instant, change)
        changes += change is not None and sum(now is not then for now, then in zip(truths(change), held, strict=True))
    assert changes > 20 or name == "rhythm_days", "the examples do not reach what is to be shown"


@pytest.mark.parametrize("name", METRICS)
def test_following_the_changes_comes_to_an_end(name: str) -> None:
    for seed in range(50):
        random = Random(f"{name} {seed} end")
        known, at = random_facts(random)
        _, gauge = compared_all(name, [random_threshold(random, name, known, at, 40) for _ in range(1 + seed % 3)], 40)
        steps, instant = 0, gauge.next_change(known, at)
        while instant is not None:
            steps, instant = steps + 1, gauge.next_change(known, instant)
            assert steps < 40
