"""One step of a partition: the records that it takes, how it takes time, and what it has happen. Plain data."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from models.errors import Reason
from models.events import Campaign, Event, Topic
from models.outputs import Decisions
from streams.encode import Out


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


@dataclass
class Effects:
    """What is to happen because of one step, in order: `reserve`, `outputs` (per topic), `changelog`, then the commit.

    `reserve` is a row for the changelog that says what the outputs spend, where they do.
    """

    reserve: tuple[bytes, bytes] | None = None
    outputs: dict[str, list[Out]] = field(default_factory=dict)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    decisions: Decisions = field(default_factory=Decisions)
    reasons: Counter[Reason] = field(default_factory=Counter)
    events: int = 0
    skipped: int = 0
    evaluated: int = 0
    row_bytes: int = 0
    more: bool = False

    def produce(self, topic: str, out: Out) -> None:
        """Add a record for an output topic."""
        self.outputs.setdefault(topic, []).append(out)


@dataclass(frozen=True, slots=True)
class Timing:
    """How time is taken: `lateness` (ms) is waited for where decisions are settled, `ahead` (ms) bounds the future.

    `wall_decides`: `decided_at` is the wall clock's; otherwise it is the instant decided about.
    """

    settled: bool = False
    lateness: int = 0
    ahead: int = 86_400_000
    wall_decides: bool = True
