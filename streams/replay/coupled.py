"""Deciding customers who depend on each other: step by step in the order of event time.

Customers are *coupled* if they are ranked against each other at each day's end, or served from one budget. The shards
are sorted by time and merged, and what the merge yields goes through the processor that live partitions use. The rows
are held in memory, the events are not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from models.customer.state import Customer
from models.events import BEGINNING, Campaign, Topic, rank
from models.instants import MAX_INSTANT
from models.policy.cutoff_timeline import ranked
from models.policy.timeline import Timeline
from streams.kafka.partitioner import partition_for
from streams.partition.cutoff_coordinator import REQUEST_KEY, cutoff_coordinator
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import Partition, Watermark
from streams.partition.step import Timing
from streams.replay.collect import Collector, ShardReport
from streams.replay.decide import blocks
from streams.replay.histories import campaigns_of, histories
from streams.replay.segments import SegmentFile, write_segments
from streams.replay.shuffle import ShuffledEvent
from streams.replay.workspace import Work

#: Events that one step takes before time moves on.
SLICE_EVENTS = 200_000
#: Events of one customer that a step takes: well under what the engine lets wait.
SLICE_PER_CUSTOMER = 1_000
#: Events in one segment of a shard that is sorted by time; one segment of each shard is in memory.
FRAME_EVENTS = 512


def coupled(timeline: Timeline) -> bool:
    """Whether what one customer gets depends on others in some version of a policy: a rank, or a shared budget."""
    return ranked(timeline) or timeline.budgeted


class DecodedRecord(NamedTuple):
    """An event in the place of a consumed record: `value` is what decoding came to. `timestamp` in ms."""

    offset: int
    timestamp: int
    key: bytes
    value: Any


#: An event's time (ms), the rank of its topic, its customer, the partition of its topic (None: from files), itself.
Line = tuple[int, int, str, int | None, Any]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, int, str, int | None, ShuffledEvent]]).decode


class SortedReport(msgspec.Struct):
    """How many events a sorted shard holds."""

    events: int = 0


def sort_shard(work: Work, shard: int) -> SortedReport:
    """Write the events of a shard in the order of their instants; return the report."""
    lines: list[Line] = [
        (BEGINNING if event.at is None else event.at, rank(event), customer_id, partition, event)
        for customer_id, events, partition in histories(work, shard)
        for event in events
    ]
    lines.sort(key=itemgetter(0, 1, 2))  # the events of a customer stay in their order
    report, rest = SortedReport(len(lines)), iter(lines)
    frames = iter(lambda: list(islice(rest, FRAME_EVENTS)), [])
    write_segments(work.sorted(shard), map(_encode, frames), lambda: report)
    return report


def decide_coupled(
    work: Work, until: int | None, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> ShardReport:
    """Decide about all customers of a run up to `until` (ms), and write the runs as those of shard 0.

    `progress(done, total)` is called now and then, in events. The shards must be sorted.
    """
    collector = Collector(work, 0, until)

    def collect(effects: Effects) -> None:
        collector.decided(effects.decisions)

    processor, partitions = step_through(work, work.timeline(), until, collect, progress)
    for block in blocks(customers_of(partitions)):
        collector.finished(processor.engine, block)
    collector.report.progress = {partition.number: partition.progress_row()[1] for partition in partitions}
    return collector.close()


def customers_of(partitions: Sequence[Partition]) -> Iterator[tuple[int, Customer]]:
    """Yield the customers of partitions, each with the number of its partition, in the order of their ids."""
    keys = sorted(
        (key, place) for place, each in enumerate(partitions) for key in each.rows if not key.startswith(b"\0")
    )
    for key, place in keys:
        yield partitions[place].number, Customer.from_row(key.decode(), partitions[place].rows[key])


def step_through(
    work: Work,
    timeline: Timeline,
    until: int | None,
    collect: Callable[[Effects], None],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Processor, list[Partition]]:
    """Decide about all customers of a run by a policy, up to `until` (ms); return the processor and the partitions.

    `collect` is called with the effects of each step.
    """
    plan = work.plan
    timing = Timing(settled=True, ahead=MAX_INSTANT, wall_decides=False)
    coordinator = cutoff_coordinator(timeline, partitions=plan.partitions)
    processor = Processor(
        timeline,
        timing,
        Encoder("/replay"),
        coordinator=coordinator,
        partitions=plan.partitions,
        wire=_Decoded(),
    )
    if coordinator is not None:
        for at in plan.request.cutoffs_at:
            coordinator.hear(REQUEST_KEY, msgspec.msgpack.encode(at))
    partitions = [processor.open_partition(number) for number in range(plan.partitions)]
    done = 0
    total = sum(_sorted_events(work, shard) for shard in range(plan.shards))
    for lines in _slices(_merged(work)):
        _process(processor, partitions, lines, done, collect)
        advance_all(processor, partitions, lines[-1][0], collect)
        done += len(lines)
        progress(min(done, total), total)
    if until is not None:
        advance_all(processor, partitions, until + 1, collect)
    return processor, partitions


class _Decoded:
    """Stands in for the wire: events are decoded already."""

    def decode_batch(
        self, _topic: Topic, values: Sequence[Any], _keys: Sequence[bytes | None], _latest: int
    ) -> Sequence[tuple[str, Any]]:
        return [("", value) for value in values]

    def decode_campaign(self, value: Any, _latest: int = MAX_INSTANT) -> Campaign:
        campaign: Campaign = value
        return campaign


def _process(
    processor: Processor,
    partitions: Sequence[Partition],
    lines: Sequence[Line],
    offset: int,
    collect: Callable[[Effects], None],
) -> None:
    """Have the processor take events, topic by topic; the first of them gets an offset, the others those after it."""
    count = len(partitions)
    shares: dict[tuple[int, int], list[DecodedRecord]] = {}
    for place, (at, topic, customer_id, partition, event) in enumerate(lines, start=offset):
        record = DecodedRecord(place, at, customer_id.encode(), event)
        if topic == Topic.CAMPAIGNS and partition is None:  # it reaches all partitions
            homes: Iterable[int] = range(count)
        else:
            homes = (partition_for(record.key, count) if partition is None and count > 1 else partition or 0,)
        for home in homes:
            shares.setdefault((topic, home), []).append(record)
    for (rank_, home), records in sorted(shares.items(), key=itemgetter(0)):
        topic = Topic(rank_)
        collect(processor.process(partitions[home], topic, topic.label, records, now=0))


def advance_all(
    processor: Processor, partitions: Sequence[Partition], stream_time: int, collect: Callable[[Effects], None]
) -> None:
    """Move time (ms) in all partitions until nothing is left to do: at a day's end they wait for one another."""
    more = True
    while more:
        more = False
        for partition in partitions:
            effects = processor.advance(partition, Watermark(stream_time), now=0)
            collect(effects)
            more = more or effects.more
            if processor.coordinator is not None:
                for out in effects.outputs.get(processor.coordinator.topic, ()):
                    more = processor.coordinator.hear(out.key, out.value) or more


def _slices(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Cut lines in order into steps, never within an instant: bounded in all, by customer, and after a campaign."""
    batch: list[Line] = []
    seen: Counter[str] = Counter()
    full = False
    for line in lines:
        if full and line[0] != batch[-1][0]:
            yield batch
            batch, full = [], False
            seen.clear()
        batch.append(line)
        seen[line[2]] += 1
        full = full or (len(batch) >= SLICE_EVENTS or seen[line[2]] >= SLICE_PER_CUSTOMER or line[1] == Topic.CAMPAIGNS)
    if batch:
        yield batch


def _merged(work: Work) -> Iterator[Line]:
    """Yield all events of a run, and its campaigns, by time; ties by topic, then by customer."""
    sources: list[Iterable[Line]] = [_sorted_lines(work, shard) for shard in range(work.plan.shards)]
    for partition, campaigns in campaigns_of(work).items():
        sources.append([(each.at, int(Topic.CAMPAIGNS), "", partition, each) for each in campaigns])
    return merge(*sources, key=itemgetter(0, 1, 2))


def _sorted_lines(work: Work, shard: int) -> Iterator[Line]:
    frame = 0
    while True:
        # Opened for each frame: there may be more shards than files that a process may hold open.
        with SegmentFile(work.sorted(shard), SortedReport) as file:
            if frame == len(file):
                return
            lines = _decode(file.read(frame))
        frame += 1
        yield from lines


def _sorted_events(work: Work, shard: int) -> int:
    with SegmentFile(work.sorted(shard), SortedReport) as file:
        return file.report.events
