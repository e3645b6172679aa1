"""A whole group without a broker: several partitions and workers, one internal topic, and crashes at any point.

Effects are performed as a worker performs them: outputs, then the changelog. A crash between or within them loses what
was not acknowledged; the partition is built again from the changelog, perhaps on another worker. Records of the
internal topic reach each worker at a time of its own.
"""

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from models.customer.state import Counters, Customer
from models.events import Topic
from models.policy.timeline import Timeline
from streams.kafka.partitioner import partition_for
from streams.kafka.records import CARE_ACTIONS, TIER_CHANGES, TIER_CUTOFFS
from streams.partition.cutoff_coordinator import cutoff_coordinator
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import PROGRESS_KEY, Partition, Watermark
from streams.partition.step import Timing
from tests.support.driver import Record


class Group:
    """`partitions` partitions, each owned by one of `workers` workers. `draw` decides what happens next."""

    def __init__(self, timeline: Timeline, timing: Timing, draw: Random, partitions: int = 3, workers: int = 2) -> None:
        self.timeline, self.draw = timeline, draw
        self.processors = [
            Processor(
                timeline,
                timing,
                Encoder("/group"),
                coordinator=cutoff_coordinator(timeline, "populations", partitions),
                partitions=partitions,
            )
            for _ in range(workers)
        ]
        #: What went out on `care-actions`, repetitions included.
        self.actions: list[dict[str, Any]] = []
        self.changelogs: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
        self.inputs: list[list[tuple[bytes, bytes, int]]] = [[] for _ in range(partitions)]
        self.records: list[tuple[bytes | None, bytes | None]] = []
        self.heard = [0] * workers
        self.outputs: dict[str, dict[str, Any]] = {TIER_CHANGES: {}, TIER_CUTOFFS: {}}
        self.crashes = 0
        self.owners = [0] * partitions
        self.partitions = [self._recover(number) for number in range(partitions)]

    def produce(self, at: int, key: bytes, value: bytes) -> None:
        """Put an order into the partition of its customer."""
        self.inputs[partition_for(key, len(self.inputs))].append((key, value, at))

    def consume(self, number: int, most: int, now: int = 0) -> bool:
        """Have a partition process at most `most` unread records at `now` (ms); return whether any was applied."""
        partition = self.partitions[number]
        first = partition.next_offset(Topic.ORDERS)
        batch = [
            Record(first + place, at, key, value)
            for place, (key, value, at) in enumerate(self.inputs[number][first : first + most])
        ]
        if batch:
            self.perform(number, self._processor(number).process(partition, Topic.ORDERS, "orders", batch, now))
        return self.partitions[number].next_offset(Topic.ORDERS) > first

    def advance(self, number: int, time: int | None) -> None:
        """Move the time of a partition, and let it do all it can."""
        self._listen(self.owners[number])
        more = True
        while more:
            effects = self._processor(number).advance(self.partitions[number], Watermark(time), 0)
            more = self.perform(number, effects) and effects.more

    def unread(self, number: int) -> int:
        """Return how many records of a partition are not applied."""
        return len(self.inputs[number]) - self.partitions[number].next_offset(Topic.ORDERS)

    def settle(self, time: int) -> None:
        """Consume everything and move time until nothing more happens."""
        before: Any = None
        while before != (before := (sum(map(len, self.outputs.values())), len(self.records), self.crashes)):
            for number in range(len(self.partitions)):
                while self.consume(number, 100):
                    pass
            for _ in range(3):
                for number in range(len(self.partitions)):
                    self.advance(number, time)

    @property
    def customers(self) -> dict[str, bytes]:
        """The rows of all customers, without what counts repetitions."""
        return rows_of(
            Customer.from_row(key.decode(), row)
            for rows in self.changelogs
            for key, row in rows.items()
            if not key.startswith(PROGRESS_KEY)
        )

    def crash(self, number: int) -> None:
        """Have a partition recovered, perhaps by another worker."""
        self.crashes += 1
        self.owners[number] = self.draw.randrange(len(self.processors))
        self.partitions[number] = self._recover(number)

    def _processor(self, number: int) -> Processor:
        return self.processors[self.owners[number]]

    def _recover(self, number: int) -> Partition:
        return Partition(number, dict(self.changelogs[number]), timeline=self.timeline.fingerprint)

    def perform(self, number: int, effects: Effects) -> bool:
        """Perform effects; return False if the partition crashed."""
        assert not effects.reasons
        rate = self.crash_rate
        if self.draw.random() < rate:
            self.crash(number)
            return False
        if effects.reserve is not None:
            key, row = effects.reserve
            self.changelogs[number][key] = row
            if self.draw.random() < rate:
                self.crash(number)
                return False
        self.actions += [msgspec.json.decode(out.value or b"") for out in effects.outputs.get(CARE_ACTIONS, ())]
        for topic, identity in ((TIER_CHANGES, "event_id"), (TIER_CUTOFFS, "event_id")):
            for out in effects.outputs.get(topic, ()):
                value = msgspec.json.decode(out.value or b"")
                assert self.outputs[topic].setdefault(value[identity], value) == value
        self.records += [(out.key, out.value) for out in effects.outputs.get("populations", ())]
        for key, row in effects.changelog:
            if self.draw.random() < rate / 10:
                self.crash(number)
                return False
            if row is None:
                self.changelogs[number].pop(key, None)
            else:
                self.changelogs[number][key] = row
        if self.draw.random() < self.listening:
            self._listen(self.owners[number])
        return True

    #: The probabilities that a step ends in a crash, and that a worker listens after one.
    crash_rate = 0.0
    listening = 0.5

    def _listen(self, worker: int) -> None:
        coordinator = self.processors[worker].coordinator
        for key, value in self.records[self.heard[worker] :]:
            assert coordinator is not None
            coordinator.hear(key, value)
        self.heard[worker] = len(self.records)


def rows_of(customers: Iterable[Customer]) -> dict[str, bytes]:
    """Return the rows of customers by their ids, with the counters at zero: a crash repeats events."""
    rows = {}
    for customer in customers:
        customer.counters = Counters()
        rows[customer.customer_id] = customer.to_row()
    return rows


def write_lines(path: Path, values: list[bytes]) -> Path:
    path.write_bytes(b"".join(value + b"\n" for value in values))
    return path
