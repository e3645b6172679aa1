"""One step of a partition: the records that it takes, how it takes time, and what it has happen.

Plain data, and the ways to go through it. What is decided is `streams.partition.processor`'s business.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, TypeVar

from models.customer.state import NEVER
from models.events import Campaign, Event, Topic
from streams.partition.effects import Effects

T = TypeVar("T")
#: So many customers are decided about, and then written down: few enough for the machine's caches to hold them, and
#: enough for its code to stay there, too.
_AT_A_TIME = 64


class Record(Protocol):
    """What is read of a consumed record (a record of aiokafka's)."""

    @property
    def offset(self) -> int:
        """Where the record stands in its partition."""

    @property
    def timestamp(self) -> int:
        """The record's own timestamp (ms)."""

    @property
    def key(self) -> bytes | None:
        """The key, untouched."""

    @property
    def value(self) -> bytes | None:
        """The value, untouched."""


class Decoder(Protocol):
    """What makes events of values: `models.wire.Wire`, or whoever has decoded them before. `latest` (ms): no later."""

    def decode(self, topic: Topic, key: bytes | None, value: bytes | None, latest: int) -> tuple[str, Event]:
        """Return (customer_id, event) of a record of a customer's. Raises BadRecord."""

    def decode_campaign(self, value: bytes | None, latest: int) -> Campaign:
        """Return the campaign that a record announces. Raises BadRecord."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How time is taken: `lateness` (ms) is waited for where decisions are settled, `ahead` (ms) bounds the future.

    `wall_decides`: `decided_at` is the wall clock's; otherwise it is the instant decided about. `read_beyond` (ms): how
    far beyond a day's end records are still taken up, to wait in the rows of their customers, until it is decided.
    """

    settled: bool = False
    lateness: int = 0
    ahead: int = 86_400_000
    wall_decides: bool = True
    read_beyond: int = NEVER


def few_at_a_time(ones: Iterable[T]) -> Iterator[T]:
    """Yield what an iterator makes, which makes a few before the first of them is yielded."""
    several = iter(ones)
    while few := list(islice(several, _AT_A_TIME)):
        yield from few


def unapplied(records: Iterable[Record], next_offset: int, effects: Effects) -> Iterator[Record]:
    """Yield the records from an offset on; what was applied before is counted as skipped."""
    for record in records:
        if record.offset < next_offset:
            effects.skipped += 1
            continue
        next_offset = record.offset + 1
        yield record
