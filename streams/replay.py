"""Replay: history from files through the very processor that live partitions use, with outputs in files.

The inputs are merged by event time, taken in slices, and time is moved by ticks, as live does it with settled
decisions; so the result is what a live worker would have decided, to the byte, on every run. Nothing here
produces to a topic.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from models.customer import Customer
from models.errors import BadRecord, UnusableInput
from models.events import Topic
from models.instants import MAX_INSTANT, MIN_INSTANT
from models.outputs import CareAction, TierChange
from models.policy import Timeline
from models.wire import Wire
from streams.encode import Encoder
from streams.homes import home_of
from streams.partition import PROGRESS_KEY, Partition, Tick
from streams.processor import Effects, Processor, Timing

#: A customer's events that one slice may hold: well under what the engine lets wait.
SLICE_PER_CUSTOMER = 1_000


class ReplayError(UnusableInput):
    """The replay cannot begin. The message names the file or the argument."""


class FileRecord(NamedTuple):
    """One line of an input file, in the place of a consumed record. `timestamp` is its event time (ms)."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes


class BadLine(NamedTuple):
    """A line that cannot be processed, with its coordinates (`line` counts from 1)."""

    file: str
    line: int
    bad: BadRecord
    value: bytes


@dataclass
class Result:
    """Everything a replay decided. `customers` are the final states, in order of their ids."""

    until: int | None = None
    events: Counter[str] = field(default_factory=Counter)
    after_until: int = 0
    changes: list[TierChange] = field(default_factory=list)
    actions: list[CareAction] = field(default_factory=list)
    bad_lines: list[BadLine] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    customers: list[Customer] = field(default_factory=list)


def replay(
    timeline: Timeline,
    inputs: dict[Topic, Path],
    until: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    only: str | None = None,
    partitions: int = 1,
) -> Result:
    """Return what the events of the files decide up to and including `until` (ms; default: the last event).

    `partitions`: among so many the budgets of care are shared; customers are in the partition that their key hashes to.

    `only` one customer's events are decided about where one is named; the last event is still that of the files.
    `progress(done, total)` is called now and then, in events. Raises ReplayError where a file cannot be read.
    """
    result = Result(until=until)
    lines, last = _read(timeline, inputs, result, only)
    timing = Timing(settled=True, ahead=MAX_INSTANT, wall_decides=False)
    # Only shared budgets make it matter which partition a customer is in.
    count = partitions if timeline.budgeted else 1
    processor = Processor(timeline, timing, Encoder("/replay"), partitions=count)
    parts = [Partition(number, timeline=timeline.fingerprint) for number in range(count)]
    done = 0
    for batch in _slices(lines):
        latest = batch[-1][0]
        for topic in Topic:
            records = [record for _, rank, record in batch if rank is topic]
            for partition, share in zip(parts, _shares(topic, records, count), strict=True):
                _collect(result, processor.process(partition, topic, topic.label, share, now=0))
        for partition in parts:
            _advance(result, processor, partition, latest)
        done += len(batch)
        progress(done, len(lines))
    if result.until is None and last >= MIN_INSTANT:
        result.until = last
    if result.until is not None:
        for partition in parts:
            _advance(result, processor, partition, result.until + 1)
    rows = sorted((key, row) for part in parts for key, row in part.rows.items() if not key.startswith(PROGRESS_KEY))
    result.customers = [Customer.from_row(key.decode(), row) for key, row in rows]
    return result


def _shares(topic: Topic, records: list[FileRecord], count: int) -> list[list[FileRecord]]:
    """Return the records of each of `count` partitions: campaigns go to all, others to the one their key hashes to."""
    if count == 1 or topic is Topic.CAMPAIGNS:
        return [records] * count
    shares: list[list[FileRecord]] = [[] for _ in range(count)]
    for record in records:
        shares[home_of(record.key, count)].append(record)
    return shares


Line = tuple[int, Topic, FileRecord]


def _read(timeline: Timeline, inputs: dict[Topic, Path], result: Result, only: str | None) -> tuple[list[Line], int]:
    """Return every good line in merged order: by time, ties by topic rank, then as they came; and the latest time."""
    wire = Wire(timeline.latest.money)
    lines: list[Line] = []
    last = MIN_INSTANT - 1
    for topic, path in sorted(inputs.items()):
        for number, value in _lines(path):
            try:
                customer_id, at = _identify(wire, topic, value)
            except BadRecord as bad:
                result.bad_lines.append(BadLine(path.name, number, bad, value))
                continue
            if result.until is not None and at > result.until:
                result.after_until += 1
                continue
            last = max(last, at)
            if only is None or customer_id == only or topic is Topic.CAMPAIGNS:
                result.events[topic.label] += 1
                lines.append((at, topic, FileRecord(number, at, customer_id.encode(), value)))
    lines.sort(key=lambda line: line[:2])
    return [(at, topic, record._replace(offset=place)) for place, (at, topic, record) in enumerate(lines)], last


def _identify(wire: Wire, topic: Topic, value: bytes) -> tuple[str, int]:
    """Return whose an event is and when (ms) it happened. Raises BadRecord."""
    if topic is Topic.CAMPAIGNS:
        campaign = wire.decode_campaign(value)
        return campaign.campaign, campaign.at
    customer_id, event = wire.decode(topic, None, value)
    # A profile without any time holds from the beginning.
    return customer_id, MIN_INSTANT - 1 if event.at is None else event.at


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                value = line.rstrip(b"\r\n")
                if value:
                    yield number, value
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}") from None


def _slices(lines: list[Line]) -> Iterator[list[Line]]:
    """Cut the merged lines where some customer has enough of them, never within an instant."""
    start = 0
    seen: Counter[bytes] = Counter()
    for index, (at, _, record) in enumerate(lines):
        if seen[record.key] >= SLICE_PER_CUSTOMER and at != lines[index - 1][0]:
            yield lines[start:index]
            start = index
            seen.clear()
        seen[record.key] += 1
    if start < len(lines):
        yield lines[start:]


def _advance(result: Result, processor: Processor, partition: Partition, stream_time: int) -> None:
    more = True
    while more:
        effects = processor.tick(partition, Tick(stream_time), now=0)
        _collect(result, effects)
        more = effects.more


def _collect(result: Result, effects: Effects) -> None:
    result.changes += effects.decisions.changes
    result.actions += effects.decisions.actions
    result.notes += effects.decisions.notes
    result.refusals += effects.decisions.refusals
