"""What a load must come to: tier changes as comparable facts, by the peers' logic and by tidemark's processor."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.encode import TIER_CHANGES, Encoder
from streams.partition import Partition
from streams.processor import Processor
from streams.replay import FileRecord
from streams.step import Timing
from tests.bench.peers.rfm import Invalid, State, apply, parse
from tests.bench.workload import Order

POLICY = Path(__file__).with_name("rfm.yaml")


class Change(NamedTuple):
    """What two sides must agree on in a tier change; `effective_at` in ms."""

    customer: str
    scheme: str
    from_tier: str | None
    to_tier: str
    effective_at: int
    sequence: int

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Change":
        """Return the facts of a `tier-changes` value."""
        at = parse_instant(value["effective_at"])
        return cls(value["customer_id"], value["scheme"], value["from"], value["to"], at, value["sequence"])


def decided_by_peer(load: Iterable[Order]) -> set[Change]:
    """Return the tier changes that the peers' logic comes to."""
    states: dict[str, State] = {}
    found = set()
    for record in load:
        order = parse(record.key, record.value)
        states[order.customer_id], changes, _ = apply(states.get(order.customer_id), order)
        found |= {Change.of(change) for change in changes}
    return found


def decided_by_tidemark(load: Iterable[Order]) -> set[Change]:
    """Return the tier changes that tidemark's processor comes to, without a broker."""
    timeline = load_timeline(POLICY)
    processor = Processor(timeline, Timing(), Encoder("/bench"))
    records = [FileRecord(offset, order.at, order.key, order.value) for offset, order in enumerate(load)]
    partition = Partition(0, timeline=timeline.fingerprint)
    effects = processor.process(partition, Topic.ORDERS, "orders", records, now=2**42)
    return {Change.of(orjson.loads(out.value or b"")) for out in effects.outputs[TIER_CHANGES]}


class Course:
    """How far a run has come, told by how many tier changes each partition of its output shows.

    Both sides decide a partition's orders in their order, so the n-th change of a partition tells which order was
    decided last. `total` counts the records, broken ones too.
    """

    def __init__(self, load: Iterable[tuple[int, Order]], partitions: int) -> None:
        """`load` has each order with its partition."""
        self._positions: list[list[int]] = [[] for _ in range(partitions)]
        counts = [0] * partitions
        states: dict[str, State] = {}
        for partition, record in load:
            counts[partition] += 1
            try:
                order = parse(record.key, record.value)
            except Invalid:
                continue
            states[order.customer_id], changes, _ = apply(states.get(order.customer_id), order)
            self._positions[partition] += [counts[partition]] * len(changes)
        self.total = sum(counts)

    def done(self, changes: Iterable[int]) -> int:
        """Return how many records are worked off where partition by partition so many changes are out."""
        return sum(
            positions[min(count, len(positions)) - 1] if count else 0
            for positions, count in zip(self._positions, changes, strict=True)
        )
