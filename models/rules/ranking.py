"""Ranking customers by a metric, and the cut-offs for given shares of a population.

A customer is ranked if their reading is not zero, that is, if they bought, visited or earned something in the window. A
share is rounded down to whole customers, but to at least one. A cut-off is the lower edge of the bucket that holds the
last customer of the share. Customers with an equal reading are therefore admitted too, and the cut-off is at most 1 %
below that reading. A reading of zero or less never admits.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import msgspec

from models.customer.interactions import Interactions
from models.customer.ledger import Ledger
from models.instants import DAY_MS
from models.rules.metrics import Edges, Facts, Metric
from models.rules.sketch import BELOW, EDGES, FIRST_EDGES, Sketch, bucket_of, lower_edge

#: Metrics that rise with time alone: ranking by them would mean evaluating every customer every day.
RISING = frozenset({"recency_days", "first_order_days", "tenure_days", "overdue"})
#: The bucket of customers who are not ranked.
UNRANKED = len(EDGES) + 1

#: A *place* is one integer, to save memory: a customer's bucket in the low BUCKET_BITS bits and above them the *bag*,
#: the UTC day (since 1970) on which time alone may change the bucket.
BUCKET_BITS = 13
BUCKET = (1 << BUCKET_BITS) - 1
#: The bag of customers whom time alone does not change: later than any instant plus the longest window.
NO_BAG = 1 << 22
#: The place of customers in no bucket and no bag; it is not stored.
NOT_COUNTED = (NO_BAG << BUCKET_BITS) + UNRANKED

#: `record_place(key, times, paid, at)` stores a customer's place from the arrays of their ledger. `at` is in ms.
RecordPlace = Callable[[bytes, "array[int]", "array[int]", int], None]

#: Metrics whose readings are whole numbers; other readings are counted in thousandths.
_WHOLE = frozenset({"monetary", "margin", "frequency", "referrals"})
#: Metrics that time alone never raises, because no entry in a window counts as negative.
_ONLY_FALLING = frozenset({"monetary", "frequency", "referrals"})
#: Metrics that read interactions.
_OF_CONTACTS = frozenset({"engagement", "satisfaction", "referrals"})
#: Metrics that follow from the `times` and `paid` of a ledger alone.
_OF_SUMS = frozenset({"monetary", "frequency"})
_NO_EDGES = Edges.of([])
_NO_INTERACTIONS = Interactions()


class Cuts(msgspec.Struct, array_like=True, frozen=True):
    """The cut-offs of one scheme for the tiers above the lowest, lowest first.

    `label` identifies the ranking. `numbers` are readings times `Measure.scale`. `admitted` counts the customers,
    out of `population`, who reached each.
    """

    label: str
    numbers: list[int]
    admitted: list[int]
    population: int


class CutoffSet(msgspec.Struct, array_like=True, frozen=True):
    """The cut-offs of all schemes that hold from an instant (ms) on."""

    at: int
    schemes: dict[str, Cuts]


@dataclass(frozen=True, slots=True)
class Measure:
    """What customers are ranked by: a metric over a window (ms)."""

    metric: Metric
    window: int

    @property
    def label(self) -> str:
        """A text that identifies the measure."""
        return f"{self.metric.name}/{self.window}"

    @property
    def scale(self) -> int:
        """The factor from a reading in the metric's native unit to the integer that is counted."""
        return 1 if self.metric.name in _WHOLE else 1_000

    @property
    def of_contacts(self) -> bool:
        """Whether the metric reads interactions."""
        return self.metric.name in _OF_CONTACTS

    @property
    def of_sums(self) -> bool:
        """Whether `times` and `paid` of the ledger suffice, so that the rest of a row need not be decoded."""
        return self.metric.name in _OF_SUMS

    def place(self, facts: Facts, at: int) -> int:
        """Return the place of a customer as of an instant (ms), for a measure that is not `of_sums`."""
        reading = self.metric.value(facts, at, self.window)
        changes = self.metric.next_change(facts, at, self.window, _NO_EDGES)
        bag = NO_BAG if changes is None else min(changes // DAY_MS, NO_BAG)
        bucket = bucket_of(reading[0] * self.scale // reading[1]) if reading and reading[0] else UNRANKED
        return (bag << BUCKET_BITS) + bucket

    def place_recorder(self, places: dict[bytes, int]) -> RecordPlace:
        """Return the function that stores places in `places`, for a measure `of_sums`. It runs at every event.

        A customer in no bucket and no bag is removed from `places`.
        """
        window, monetary = self.window, self.metric.name == "monetary"

        def record_place(key: bytes, times: "array[int]", paid: "array[int]", at: int) -> None:
            first, count = 0, len(times)
            if count and times[0] <= at - window:
                first = bisect_right(times, at - window)
            if first == count:
                places.pop(key, None)
                return
            bucket, value = UNRANKED, paid[-1] - paid[first] if monetary else count - first
            if value:
                bits = value.bit_length()  # narrows the bisection
                bucket = bisect_right(EDGES, value, FIRST_EDGES[bits], FIRST_EDGES[bits + 1])
            places[key] = ((times[first] + window) // DAY_MS << BUCKET_BITS) + bucket

        return record_place

    def falls_at(self, ledger: Ledger, at: int, edges: Edges) -> int | None:
        """Return when (ms) after `at` time alone carries the reading over an edge; for a measure `of_sums`."""
        return self.metric.next_change(Facts(ledger, _NO_INTERACTIONS, at, {}), at, self.window, edges)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a scheme ranks: the measure, and for each tier above the lowest the share that it and higher tiers take."""

    measure: Measure
    shares: tuple[Fraction, ...]

    @property
    def label(self) -> str:
        """A text that identifies the ranking."""
        return f"{self.measure.label}/{','.join(map(str, self.shares))}"

    def edge(self, number: int) -> Fraction:
        """Return the cut-off for a counted number, in the metric's native unit."""
        return Fraction(number, self.measure.scale)

    def edges(self, cuts: Iterable[Fraction | None]) -> Edges:
        """Return the cut-offs (native unit) as edges that a reading may fall over."""
        return Edges.of((">=", cut) for cut in cuts if cut is not None)

    def falls_from(self, cuts: Iterable[Fraction | None]) -> int:
        """Return the least bucket from which time alone may carry a customer over one of the cut-offs (native unit)."""
        known = [cut for cut in cuts if cut is not None]
        if self.measure.metric.name not in _ONLY_FALLING or not known:
            return BELOW
        return bucket_of(floor(min(known) * self.measure.scale))

    def cut(self, sketch: Sketch) -> Cuts | None:
        """Return the cut-offs of a population; None if nobody is ranked."""
        if not sketch.total:
            return None
        buckets = [max(BELOW + 1, sketch.nth_from_top(heads(sketch.total, share))) for share in self.shares]
        return Cuts(
            self.label,
            [lower_edge(bucket) for bucket in buckets],
            [sketch.at_least(bucket) for bucket in buckets],
            sketch.total,
        )


class Span(NamedTuple):
    """Buckets from `low` to `high`, both included."""

    low: int
    high: int


def heads(population: int, share: Fraction) -> int:
    """Return the number of customers in a share: rounded down, at least one."""
    return max(1, floor(population * share))


def crossed(ranking: Ranking, before: Iterable[Fraction | None], after: Iterable[Fraction | None]) -> list[Span]:
    """Return the buckets whose customers may qualify for another tier when cut-offs (native unit, or None) change."""
    spans = []
    for old, new in zip(before, after, strict=True):
        if old != new:
            known = [edge * ranking.measure.scale for edge in (old, new) if edge is not None]
            high = bucket_of(ceil(max(known)) - 1) if len(known) == 2 else len(EDGES)
            spans.append(Span(bucket_of(floor(min(known))), high))
    return spans
