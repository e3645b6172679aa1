"""Stretches of the input topics: found by instants or given as offsets, and read beside the group.

Only reads: no consumer group is joined, no offset is committed. Bounds in time are those of the events. A record is
looked for from where the log's own times reach the first of them, less what an event may lie ahead of its record. What
retention has cut cannot be read, and is refused rather than passed over.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from config.settings import Settings
from models.errors import UnusableInput
from models.events import Topic
from models.instants import format_instant
from streams.kafka.clients import TIMEOUT_S
from streams.kafka.range_reader import bounds, consumer_of, partitions_of
from streams.kafka.topics import BrokerError
from streams.replay.plan import Part

#: A part of a partition has so many offsets.
PART_OFFSETS = 250_000
_FETCH_MS = 200
_OFFSETS = re.compile(r"(?P<topic>[a-z]+)(:(?P<partition>\d+))?=(?P<start>\d*)\.\.(?P<stop>\d*)", re.ASCII)

#: What is asked for of a topic's partition (None: of each), start and stop; None where it has no bound.
Asked = dict[tuple[Topic, int | None], tuple[int | None, int | None]]


class RangeError(UnusableInput):
    """A stretch of a topic cannot be read as asked. The message says which, and what there is."""


def parse_offsets(texts: Iterable[str]) -> Asked:
    """Return what texts such as `orders:0=100..200` and `customers=..` ask for. Raises RangeError."""
    asked: Asked = {}
    topics = {topic.label: topic for topic in Topic}
    for text in texts:
        match = _OFFSETS.fullmatch(text.strip())
        if match is None or match["topic"] not in topics:
            raise RangeError(
                f"--offsets: found {text!r}; allowed is TOPIC[:PARTITION]=START..STOP with {', '.join(topics)}"
            )
        partition = None if match["partition"] is None else int(match["partition"])
        start, stop = (int(bound) if bound else None for bound in (match["start"], match["stop"]))
        asked[topics[match["topic"]], partition] = start, stop
    return asked


def find_parts(
    settings: Settings, since: int | None, asked: Asked, *, campaigns: bool
) -> tuple[tuple[Part, ...], dict[str, dict[int, int]]]:
    """Return the parts of the topics from an instant (ms) on, or at the offsets asked for, to their ends now.

    Also return where they stop, by topic and partition. `campaigns` are read only if some rule answers them. Raises
    RangeError, TopicsError, BrokerError.
    """
    return asyncio.run(_find_parts(settings, since, asked, campaigns))


async def _find_parts(
    settings: Settings, since: int | None, asked: Asked, campaigns: bool
) -> tuple[tuple[Part, ...], dict[str, dict[int, int]]]:
    parts: list[Part] = []
    stops: dict[str, dict[int, int]] = {topic.label: {} for topic in Topic}
    topics = {settings.topic(topic.label): topic for topic in Topic if not asked or _names(asked, topic)}
    tps = sorted(await partitions_of(settings, topics), key=lambda tp: (topics[tp.topic], tp.partition))
    async with consumer_of(settings) as consumer:
        begins, ends = await bounds(consumer, tps)
        looked = dict.fromkeys(tps, (since or 0) - settings.ahead)
        found = {} if since is None else await consumer.offsets_for_times(looked)
        for tp in tps:
            topic, begin, end = topics[tp.topic], begins[tp], ends[tp]
            if topic is Topic.CAMPAIGNS and not campaigns:
                stretch = range(end, end)
            elif asked:
                stretch = _asked_of(asked, topic, tp, begin, end)
            else:
                await _check_kept(consumer, tp, since, begin, end)
                first = found.get(tp)
                stretch = range(end if since is not None and first is None else first.offset if first else begin, end)
            stops[topic.label][tp.partition] = stretch.stop
            for start in range(stretch.start, stretch.stop, PART_OFFSETS):
                stop = min(stretch.stop, start + PART_OFFSETS)
                parts.append(Part(len(parts), topic, tp.topic, start, stop, stop - start, tp.partition))
    return tuple(parts), stops


def _names(asked: Asked, topic: Topic) -> bool:
    return any(each is topic for each, _ in asked)


def _asked_of(asked: Asked, topic: Topic, tp: TopicPartition, begin: int, end: int) -> range:
    stretch = asked.get((topic, tp.partition), asked.get((topic, None)))
    if stretch is None:
        return range(begin, begin)
    start, stop = (begin if stretch[0] is None else stretch[0]), (end if stretch[1] is None else stretch[1])
    if start < begin:
        raise RangeError(f"{tp.topic}[{tp.partition}]: offset {start} is cut by retention; {begin} is the first left")
    if stop > end:
        raise RangeError(f"{tp.topic}[{tp.partition}]: found the offsets up to {stop}, allowed is up to {end}")
    return range(start, stop)


async def _check_kept(consumer: AIOKafkaConsumer, tp: TopicPartition, since: int | None, begin: int, end: int) -> None:
    """Raise RangeError where retention may have taken events from `since` (ms) on."""
    if begin == 0:
        return
    place = f"{tp.topic}[{tp.partition}]"
    if begin == end:
        raise RangeError(f"{place}: retention has cut all of it; nothing tells whether that is in the range")
    consumer.assign([tp])
    consumer.seek(tp, begin)
    async with asyncio.timeout(TIMEOUT_S):
        while not (fetched := (await consumer.getmany(tp, timeout_ms=_FETCH_MS, max_records=1)).get(tp)):
            pass
    left = fetched[0].timestamp
    if since is None or left > since:
        raise RangeError(
            f"{place}: retention has cut a part of the range; the first record left is offset {fetched[0].offset} "
            f"of {format_instant(left)}, so --from may be that or later"
        )


def read_range(settings: Settings, part: Part) -> Iterator[ConsumerRecord]:
    """Yield the records of a part, without those that compaction took. Raises RangeError, BrokerError."""
    tp, stop, position = TopicPartition(part.source, part.partition), part.stop or 0, part.start
    with asyncio.Runner() as runner:
        opened = consumer_of(settings)
        consumer = runner.run(opened.__aenter__())
        try:
            runner.run(_seek(consumer, tp, position))
            while position < stop:
                position, records = runner.run(_fetch(consumer, tp, settings))
                yield from (record for record in records if record.offset < stop)
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def _seek(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> None:
    consumer.assign([tp])
    consumer.seek(tp, offset)


async def _fetch(
    consumer: AIOKafkaConsumer, tp: TopicPartition, settings: Settings
) -> tuple[int, list[ConsumerRecord]]:
    """Return the next position, and the records before it; waits until there is something."""
    before = await consumer.position(tp)
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fetched = await consumer.getmany(tp, timeout_ms=_FETCH_MS)
        except OffsetOutOfRangeError:
            raise RangeError(f"{tp.topic}[{tp.partition}]: retention has cut offset {before} meanwhile") from None
        except KafkaError as error:
            raise BrokerError(f"the broker at {settings.broker} cannot be read: {error}") from None
        position = await consumer.position(tp)
        if position > before:
            return position, fetched.get(tp, [])
    raise BrokerError(f"the broker at {settings.broker} stopped answering for {tp.topic}[{tp.partition}]")
