"""Ranking customers by a metric: what of a customer is counted, and the cut-offs that shares of a population come to.

Ranked is who has a reading other than zero: who has bought, visited or earned something in the window. A share is
rounded down to whole customers, but never to none, so that even a few have a first among them. A cut-off is the least
number of the bucket that holds the last customer of the share: who equals them is admitted with them, and it is at most
1 % below their reading. Nobody is admitted with a reading of zero or less.
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

#: Metrics that time alone raises, all the time: ranking by them would mean looking at everybody, every day.
RISING = frozenset({"recency_days", "first_order_days", "tenure_days", "overdue"})
#: The bucket of those who are not ranked.
UNRANKED = len(EDGES) + 1

#: A *place* is one number, so that a million of them take little room: the bucket of a customer in these bits, and
#: above them the *bag*, which is the (UTC) day on which time alone may change the bucket.
BUCKET_BITS = 13
BUCKET = (1 << BUCKET_BITS) - 1
#: The bag of those whom time alone does not change: later than any instant and the longest window.
NO_BAG = 1 << 22
#: The place of those who are in no bucket and no bag, which is not noted.
NOT_COUNTED = (NO_BAG << BUCKET_BITS) + UNRANKED

#: `note_place(key, times, paid, at)`: notes the place of a customer with these arrays of a ledger, as of an instant
#: (ms).
NotePlace = Callable[[bytes, "array[int]", "array[int]", int], None]

#: Metrics whose readings are whole numbers; of others, thousandths are counted.
_WHOLE = frozenset({"monetary", "margin", "frequency", "referrals"})
#: Metrics that time alone never raises: nothing in a window counts against a customer.
_ONLY_FALLING = frozenset({"monetary", "frequency", "referrals"})
#: Metrics that look at interactions.
_OF_CONTACTS = frozenset({"engagement", "satisfaction", "referrals"})
#: Metrics that the ledger's sums tell.
_OF_SUMS = frozenset({"monetary", "frequency"})
_NO_EDGES = Edges.of([])
_NO_INTERACTIONS = Interactions()


class Cuts(msgspec.Struct, array_like=True, frozen=True):
    """The cut-offs of one scheme, tiers above the lowest, lowest first.

    `label` names what is ranked and which shares. `numbers` are counted as the ranking counts; `admitted` says how many
    of the `population` reached each.
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
        """What tells it from other measures, as a text."""
        return f"{self.metric.name}/{self.window}"

    @property
    def scale(self) -> int:
        """What a reading in the metric's native unit is multiplied by before it is counted."""
        return 1 if self.metric.name in _WHOLE else 1_000

    @property
    def of_contacts(self) -> bool:
        """Whether interactions are looked at, and not orders alone."""
        return self.metric.name in _OF_CONTACTS

    @property
    def of_sums(self) -> bool:
        """Whether the sums of the ledger tell the reading, so that a row need not be decoded any further."""
        return self.metric.name in _OF_SUMS

    def place(self, facts: Facts, at: int) -> int:
        """Return the place of a customer as of an instant (ms), by a measure that is not `of_sums`."""
        reading = self.metric.value(facts, at, self.window)
        changes = self.metric.next_change(facts, at, self.window, _NO_EDGES)
        bag = NO_BAG if changes is None else min(changes // DAY_MS, NO_BAG)
        bucket = bucket_of(reading[0] * self.scale // reading[1]) if reading and reading[0] else UNRANKED
        return (bag << BUCKET_BITS) + bucket

    def looker(self, places: dict[bytes, int]) -> NotePlace:
        """Return the function that looks by a measure `of_sums`: it is called at every event of every customer.

        It notes places there, and who is in none is not.
        """
        window, monetary = self.window, self.metric.name == "monetary"

        def note_place(key: bytes, times: "array[int]", paid: "array[int]", at: int) -> None:
            first, count = 0, len(times)
            if count and times[0] <= at - window:
                first = bisect_right(times, at - window)
            if first == count:
                places.pop(key, None)
                return
            bucket, value = UNRANKED, paid[-1] - paid[first] if monetary else count - first
            if value:
                bits = value.bit_length()  # half of the way
                bucket = bisect_right(EDGES, value, FIRST_EDGES[bits], FIRST_EDGES[bits + 1])
            places[key] = ((times[first] + window) // DAY_MS << BUCKET_BITS) + bucket

        return note_place

    def falls_at(self, ledger: Ledger, at: int, edges: Edges) -> int | None:
        """Return when (ms) after an instant time alone carries a customer over an edge; of a measure `of_sums`."""
        return self.metric.next_change(Facts(ledger, _NO_INTERACTIONS, at, {}), at, self.window, edges)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How a scheme ranks: by what, and the shares that each tier above the lowest, and those above it, take."""

    measure: Measure
    shares: tuple[Fraction, ...]

    @property
    def label(self) -> str:
        """What tells it from other rankings, as a text."""
        return f"{self.measure.label}/{','.join(map(str, self.shares))}"

    def edge(self, number: int) -> Fraction:
        """Return a cut-off in the metric's native unit."""
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
        """Return the cut-offs of a population; None where nobody is ranked."""
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
    """Return how many customers a share is: rounded down, at least one."""
    return max(1, floor(population * share))


def crossed(ranking: Ranking, before: Iterable[Fraction | None], after: Iterable[Fraction | None]) -> list[Span]:
    """Return the buckets in which another tier may be qualified for, as cut-offs (native unit; None: none) change."""
    spans = []
    for old, new in zip(before, after, strict=True):
        if old != new:
            known = [edge * ranking.measure.scale for edge in (old, new) if edge is not None]
            high = bucket_of(ceil(max(known)) - 1) if len(known) == 2 else len(EDGES)
            spans.append(Span(bucket_of(floor(min(known))), high))
    return spans
