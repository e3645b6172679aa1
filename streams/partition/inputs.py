"""What the processor reads: consumed records, what decodes their values, and where a bad one goes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from models.errors import BadRecord
from models.events import Campaign, Event, Topic
from streams.kafka.records import DEAD_LETTERS
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder


class Record(Protocol):
    """The attributes that are read of a consumed record; aiokafka's records have them."""

    @property
    def offset(self) -> int:
        """The record's offset in its partition."""

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
    """Decodes values: `models.wire.Wire`, or a stand-in for values that were decoded before.

    An event later than `latest` (ms) is refused.
    """

    def decode_batch(
        self, topic: Topic, values: Sequence[bytes | None], keys: Sequence[bytes | None], latest: int
    ) -> Sequence[tuple[str, Event] | BadRecord]:
        """Return (customer_id, event) of each customer's record, or why it is refused."""

    def decode_campaign(self, value: bytes | None, latest: int) -> Campaign:
        """Return the campaign that a record announces. Raises BadRecord."""


def unapplied(records: Iterable[Record], next_offset: int, effects: Effects) -> Iterator[Record]:
    """Yield the records from an offset on, and count those that were applied before as skipped."""
    for record in records:
        if record.offset < next_offset:
            effects.skipped += 1
            continue
        next_offset = record.offset + 1
        yield record


class DeadLetters:
    """Turns bad records into dead letters."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def add(self, effects: Effects, bad: BadRecord, name: str, partition: int, record: Record) -> None:
        """Have a bad record of a topic (its full name) and partition produced to `dead-letters`, and count it."""
        effects.reasons[bad.reason] += 1
        coordinates = (name, partition, record.offset, record.timestamp)
        effects.produce(DEAD_LETTERS, self._encoder.dead_letter(bad, *coordinates, record.key, record.value))
