from collections import Counter
from fractions import Fraction

import pytest

from models.instants import DAY_MS
from models.rules.metrics import METRICS, Facts
from models.rules.ranking import (
    BUCKET,
    BUCKET_BITS,
    NO_BAG,
    NOT_COUNTED,
    RISING,
    UNRANKED,
    Cuts,
    Measure,
    Ranking,
    Span,
    crossed,
    heads,
)
from models.rules.sketch import EDGES, Sketch, bucket_of
from tests.models.build import contact, day, facts, order, refund

WINDOW = 10 * 86_400_000
SPENT = Measure(METRICS["monetary"], WINDOW)
TOP = Ranking(SPENT, (Fraction(1, 4), Fraction(1, 20)))


def sketch(*values: int) -> Sketch:
    return Sketch(dict(Counter(map(bucket_of, values))))


def seen(measure: Measure, known: Facts, at: int) -> tuple[int, int | None]:
    """Return the bucket, and the day (ms) of the bag."""
    ledger = known.ledger
    places: dict[bytes, int] = {}
    if measure.of_sums:
        measure.place_recorder(places)(b"", ledger.times, ledger.paid, at)
    place = places.get(b"", NOT_COUNTED) if measure.of_sums else measure.place(known, at)
    bag = place >> BUCKET_BITS
    return place & BUCKET, None if bag == NO_BAG else bag * DAY_MS


# --- what is counted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "value"),
    [("monetary", 1_500), ("frequency", 2), ("margin", 250), ("average_order_value", 750_000), ("engagement", 2_000)],
)
def test_a_customer_is_counted_by_the_reading_until_the_next_expiry(metric: str, value: int) -> None:
    known = facts(
        order(day(1), "a", 1_000, 200),
        order(day(3), "b", 500, 50),
        contacts=(contact(day(1), "i"), contact(day(3), "j")),
        weights={"visit": 1_000},
    )
    assert seen(Measure(METRICS[metric], WINDOW), known, day(4)) == (bucket_of(value), day(11) // DAY_MS * DAY_MS)


def test_who_has_nothing_in_the_window_is_not_ranked() -> None:
    known = facts(order(day(1), "a"))
    assert seen(SPENT, known, day(11, -1)) == (bucket_of(1_000), day(11) // DAY_MS * DAY_MS)
    assert seen(SPENT, known, day(11)) == (UNRANKED, None)
    assert seen(SPENT, facts(), day(1)) == (UNRANKED, None)


def test_a_free_order_is_no_money_but_a_visit() -> None:
    known = facts(order(day(1), "a", 0))
    assert seen(SPENT, known, day(2)) == (UNRANKED, day(11) // DAY_MS * DAY_MS)
    assert seen(Measure(METRICS["frequency"], WINDOW), known, day(2)) == (bucket_of(1), day(11) // DAY_MS * DAY_MS)


def test_a_loss_is_ranked_below_everybody() -> None:
    bucket, _ = seen(Measure(METRICS["margin"], WINDOW), facts(order(day(1), "a", 1_000, -300)), day(2))
    assert bucket == 0


def test_a_refund_in_full_takes_a_customer_out() -> None:
    known = facts(order(day(1), "a", 1_000), refund(day(2), "r", "a", 1_000))
    assert seen(SPENT, known, day(3)) == (UNRANKED, None)


def test_every_metric_that_time_alone_raises_is_known() -> None:
    known = facts(order(day(1), "a"), order(day(2), "b"), order(day(4), "c"))
    for name, metric in METRICS.items():
        values = [Fraction(*(metric.value(known, day(at), 10 * WINDOW) or (0, 1))) for at in (5, 6, 7)]
        assert (values[0] < values[1] < values[2]) is (name in RISING), name


# --- shares, small populations, ties ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("population", "share", "found"),
    [(2_469, "0.01", 24), (2_469, "0.25", 617), (100, "0.01", 1), (99, "0.01", 1), (1, "0.01", 1), (7, "0.5", 3)],
)
def test_a_share_is_rounded_down_but_never_to_nobody(population: int, share: str, found: int) -> None:
    assert heads(population, Fraction(share)) == found


def test_the_cut_is_what_the_last_of_the_share_has() -> None:
    cuts = TOP.cut(sketch(*range(1, 101)))
    assert cuts == Cuts(TOP.label, [76, 96], [25, 5], 100)


def test_one_customer_is_the_first_of_one() -> None:
    assert TOP.cut(sketch(50)) == Cuts(TOP.label, [50, 50], [1, 1], 1)


def test_of_a_few_the_first_is_in_the_highest_tier() -> None:
    """Of ten, 5 % is none and counts as one; 25 % are two."""
    assert TOP.cut(sketch(*range(1, 11))) == Cuts(TOP.label, [9, 10], [2, 1], 10)


def test_equals_are_admitted_together() -> None:
    cuts = TOP.cut(sketch(*[1] * 90, *[2] * 9, 3))
    assert cuts == Cuts(TOP.label, [1, 2], [100, 10], 100)


def test_nobody_is_admitted_with_a_loss() -> None:
    assert TOP.cut(sketch(-5, -5, -5, -5, 7)) == Cuts(TOP.label, [7, 7], [1, 1], 5)
    assert TOP.cut(sketch(-5, -6)) == Cuts(TOP.label, [1, 1], [0, 0], 2)


def test_nobody_ranked_has_no_cut() -> None:
    assert TOP.cut(Sketch()) is None


# --- whom other cut-offs move -------------------------------------------------------------------------------


def test_only_buckets_between_the_old_cut_off_and_the_new_one_are_looked_at() -> None:
    assert crossed(TOP, [Fraction(100), Fraction(500)], [Fraction(100), Fraction(500)]) == []
    assert crossed(TOP, [Fraction(100), Fraction(150)], [Fraction(120), Fraction(150)]) == [Span(100, 119)]
    assert crossed(TOP, [Fraction(120), Fraction(150)], [Fraction(100), Fraction(150)]) == [Span(100, 119)]


def test_where_there_was_no_cut_off_everybody_above_the_new_one_is() -> None:
    assert crossed(TOP, [None, None], [Fraction(100), Fraction(150)]) == [
        Span(100, len(EDGES)),
        Span(150, len(EDGES)),
    ]
