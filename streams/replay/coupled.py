"""Customers who depend on each other: decided about together, in steps, over events that were decoded before.

`streams.replay.decide` takes one customer after another; that does where nobody's tier depends on anybody else. Where
customers are *coupled*, as those who are ranked against each other at each day's end or served from one budget, they go
through the worker's processor in the order of event time, all of them, in memory.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from models.events import Topic, rank
from models.instants import MAX_INSTANT
from models.policy.cutoff_timeline import ranked
from models.policy.timeline import Timeline
from streams.partition.cutoff_coordinator import cutoff_coordinator
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import Partition
from streams.partition.step import Timing
from streams.replay.decide import histories
from streams.replay.shuffle import BEGINNING
from streams.replay.stepwise import Line, step_through
from streams.replay.workspace import Work


def coupled(timeline: Timeline) -> bool:
    """Whether some version of a policy makes what one customer gets depend on others: a rank, or a shared budget."""
    return ranked(timeline) or timeline.budgeted


class DecodedRecord(NamedTuple):
    """An event in the place of a consumed record: `value` is what decoding came to. `timestamp` in ms."""

    offset: int
    timestamp: int
    key: bytes
    value: Any


class _Decoded:
    """Stands in for the wire where events are decoded already."""

    def decode(self, _topic: Topic, _key: bytes | None, value: Any, _latest: int = MAX_INSTANT) -> tuple[str, Any]:
        return "", value

    def decode_campaign(self, value: Any, _latest: int = MAX_INSTANT) -> Any:
        return value


def decide_together(
    work: Work,
    timeline: Timeline,
    until: int | None,
    collect: Callable[[Effects], None],
) -> tuple[Processor, Partition]:
    """Decide about all customers of a backfill up to `until` (ms); return who decided, and the rows that it led to.

    `collect` is given the effects of each step. Whoever was erased counts only with what came after.
    """
    timing = Timing(settled=True, ahead=MAX_INSTANT, wall_decides=False)
    processor = Processor(
        timeline, timing, Encoder("/replay"), coordinator=cutoff_coordinator(timeline), wire=_Decoded()
    )
    partition = processor.open_partition(0)
    step_through(processor, [partition], _lines(work), until, collect)
    return processor, partition


def _lines(work: Work) -> list[Line]:
    """Return the events of all shards in order: by time, ties by topic; of one customer, as they came."""
    lines: list[Line] = []
    for shard in range(work.plan.shards):
        for customer_id, events, _ in histories(work, shard):
            key = customer_id.encode()
            for event in events:
                at = BEGINNING if event.at is None else event.at
                lines.append((at, Topic(rank(event)), DecodedRecord(0, at, key, event)))
    lines.sort(key=lambda line: line[:2])
    return [(at, topic, record._replace(offset=place)) for place, (at, topic, record) in enumerate(lines)]
