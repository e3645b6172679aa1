"""A sketch of whole numbers in logarithmic buckets: counts that can be merged and take few bytes.

Up to 200, each number has its own bucket. Above that, a bucket is at most 1 % wide, so its lower edge is within 1 % of
every number in it. The idea is that of DDSketch (Masson, Rim and Lee, "DDSketch", VLDB 2019), with whole numbers as
edges, so that every machine has the same ones. Merging adds counts. It is associative and commutative, so the result
does not depend on how a population is partitioned. `models.rules.ranking` decides who is counted.
"""

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

#: A bucket is at most 1/PRECISION of its lower edge wide.
PRECISION = 100
#: The bucket of numbers below one. They count as customers, but no cut-off ever lies there.
BELOW = 0
#: More than 10,000 orders of the largest amount; anything larger is in the last bucket.
_HIGHEST = 2**63


def _edges() -> tuple[int, ...]:
    edges = [1]
    while edges[-1] < _HIGHEST:
        edges.append(edges[-1] + max(1, edges[-1] // PRECISION))
    return tuple(edges)


#: The lower edges of the buckets from the first, which is bucket 1.
EDGES = _edges()
#: By bit length: the number of edges below every number of that length. Sums of a ledger have up to 63 bits.
FIRST_EDGES = tuple(bisect_right(EDGES, (1 << bits) // 2 - 1) for bits in range(65))


def bucket_of(value: int) -> int:
    """Return the bucket of a number; `BELOW` if it is less than one."""
    return bisect_right(EDGES, value)


def lower_edge(bucket: int) -> int:
    """Return the least number of a bucket; 1 for `BELOW`."""
    return EDGES[max(bucket, 1) - 1]


class Sketch:
    """Counts by bucket; empty buckets take no memory."""

    __slots__ = ("counts", "total")

    def __init__(self, counts: dict[int, int] | None = None) -> None:
        self.counts: dict[int, int] = {} if counts is None else counts
        self.total = sum(self.counts.values())

    def __eq__(self, other: object) -> bool:
        """Whether the other holds the same counts."""
        return isinstance(other, Sketch) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # mutable

    def at_least(self, bucket: int) -> int:
        """Return the count of a bucket and all buckets above it."""
        return sum(count for each, count in self.counts.items() if each >= bucket)

    def nth_from_top(self, n: int) -> int:
        """Return the bucket of the n-th largest, counted from 1. Raises IndexError if there are fewer."""
        for bucket in sorted(self.counts, reverse=True):
            n -= self.counts[bucket]
            if n <= 0:
                return bucket
        raise IndexError("the sketch holds fewer")

    def encode(self) -> bytes:
        """Return the counts as msgpack: alternating distances between buckets and counts."""
        flat, before = [], 0
        for bucket in sorted(self.counts):
            flat += [bucket - before, self.counts[bucket]]
            before = bucket
        return msgspec.msgpack.encode(flat)

    @classmethod
    def decode(cls, data: bytes) -> "Sketch":
        """Return the sketch that `encode` wrote. Raises msgspec.MsgspecError for other bytes."""
        flat = msgspec.msgpack.decode(data, type=list[int])
        counts, bucket = {}, 0
        for distance, count in zip(flat[::2], flat[1::2], strict=True):
            bucket += distance
            counts[bucket] = count
        return cls(counts)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Return the sum of sketches."""
    counts: dict[int, int] = {}
    for sketch in sketches:
        for bucket, count in sketch.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
    return Sketch(counts)
