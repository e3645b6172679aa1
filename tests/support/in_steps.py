"""The reference that the replay pipeline is compared with: a history in memory, in steps, through the live processor.

It reads files line by line, sorts the events, and moves time for all customers together, as live does with settled
decisions. Nothing is shuffled, merged or resumed: it is short enough to be believed.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from models.customer.state import Customer
from models.engine.decide import Engine
from models.errors import BadRecord, UnusableInput
from models.events import Topic, content_of, order_of
from models.instants import MAX_INSTANT, MIN_INSTANT, parse_instant
from models.outputs import CareAction, TierChange, TierCutoffs
from models.policy.cutoff_timeline import ranked
from models.policy.timeline import Timeline
from models.wire import Wire
from streams.history.files import listed, write_atomically
from streams.history.formats import Numbered, read_values
from streams.kafka.partitioner import partition_for
from streams.partition.cutoff_coordinator import REQUEST_KEY, cutoff_coordinator
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import PROGRESS_KEY, Partition
from streams.partition.step import Timing
from streams.replay.coupled import advance_all
from streams.replay.outputs import (
    Figures,
    count_customers,
    count_decisions,
    dead_letter,
    encode_summary,
    final_line,
    summarise,
)

#: A customer's events that one slice may hold: well under what the engine lets wait.
SLICE_PER_CUSTOMER = 1_000


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
    """Everything a replay decided. `customers` are the final states, in order of their ids.

    `timeline` has the cut-offs that hold in the end, where any were computed.
    """

    timeline: Timeline
    until: int | None = None
    events: Counter[str] = field(default_factory=Counter)
    after_until: int = 0
    changes: list[TierChange] = field(default_factory=list)
    actions: list[CareAction] = field(default_factory=list)
    cutoffs: list[TierCutoffs] = field(default_factory=list)
    bad_lines: list[BadLine] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    customers: list[Customer] = field(default_factory=list)


def replay(  # what is read, and what is decided beside it, by name
    timeline: Timeline,
    inputs: Mapping[Topic, Path | Sequence[Path]],
    until: int | None = None,
    *,
    cutoffs_at: Iterable[int] = (),
    partitions: int = 1,
) -> Result:
    """Return what the events of the files decide up to and including `until` (ms; default: the last event).

    `cutoffs_at` are instants (ms) at which cut-offs are computed besides the days' ends, as if they were asked for.
    `partitions`: among so many the budgets of care are shared; customers are in the partition that their key hashes to.
    Raises UnusableInput if a file cannot be read.
    """
    timing = Timing(settled=True, ahead=MAX_INSTANT, wall_decides=False)
    # Only shared budgets make it matter which partition a customer is in.
    count = partitions if timeline.budgeted else 1
    coordinator = cutoff_coordinator(timeline, partitions=count)
    processor = Processor(timeline, timing, Encoder("/replay"), coordinator=coordinator, partitions=count)
    if coordinator is not None:
        for at in cutoffs_at:
            coordinator.hear(REQUEST_KEY, msgspec.msgpack.encode(at))
    result = Result(processor.engine.timeline, until)
    given = [(topic, path) for topic, paths in sorted(inputs.items()) for path in listed(paths)]
    values = ((topic, path, read_values(path, topic, {})) for topic, path in given)
    lines, last = _read(timeline, values, result)
    parts = [processor.open_partition(number) for number in range(count)]
    if result.until is None and last >= MIN_INSTANT:
        result.until = last
    step_through(processor, parts, lines, result.until, partial(_collect, result))
    rows = sorted((key, row) for part in parts for key, row in part.rows.items() if not key.startswith(PROGRESS_KEY))
    result.customers = [Customer.from_row(key.decode(), row) for key, row in rows]
    return result


#: The instant (ms), rank, type and id of an event, then its content: ties do not follow the order of lines.
Order = tuple[int, int, str, int, bytes]
#: An event's time (ms), its topic, and its record.
Line = tuple[int, Topic, Any]


def step_through(
    processor: Processor,
    parts: Sequence[Partition],
    lines: list[Line],
    until: int | None,
    collect: Callable[[Effects], None],
) -> None:
    """Decide about all customers together, slice by slice of lines in order, then up to `until` (ms).

    `parts` are all partitions there are. `collect` is called with the effects of each step.
    """
    for batch in _slices(lines):
        for topic in Topic:
            records = [record for _, rank, record in batch if rank is topic]
            for partition, share in zip(parts, _shares(topic, records, len(parts)), strict=True):
                collect(processor.process(partition, topic, topic.label, share, now=0))
        advance_all(processor, parts, batch[-1][0], collect)
    if until is not None:
        advance_all(processor, parts, until + 1, collect)


def _shares(topic: Topic, records: list[Any], count: int) -> list[list[Any]]:
    """Return the records of each of `count` partitions: campaigns go to all, others to the one their key hashes to."""
    if count == 1 or topic is Topic.CAMPAIGNS:
        return [records] * count
    shares: list[list[Any]] = [[] for _ in range(count)]
    for record in records:
        shares[partition_for(record.key, count)].append(record)
    return shares


def _read(
    timeline: Timeline, inputs: Iterable[tuple[Topic, Path, Iterator[Numbered]]], result: Result
) -> tuple[list[Line], int]:
    """Return every good line in merged order: by time, ties by topic and content; and the latest time."""
    wire = Wire(timeline.latest.money)
    lines: list[tuple[Order, Line]] = []
    last = MIN_INSTANT - 1
    for topic, path, values in inputs:
        for number, value in values:
            try:
                customer_id, at, order = _identify(wire, topic, value)
            except BadRecord as bad:
                result.bad_lines.append(BadLine(path.name, number, bad, value))
                continue
            if result.until is not None and at > result.until:
                result.after_until += 1
                continue
            last = max(last, at)
            result.events[topic.label] += 1
            lines.append((order, (at, topic, FileRecord(number, at, customer_id.encode(), value))))
    lines.sort(key=itemgetter(0))
    merged = [line for _, line in lines]
    return [(at, topic, record._replace(offset=place)) for place, (at, topic, record) in enumerate(merged)], last


def _identify(wire: Wire, topic: Topic, value: bytes) -> tuple[str, int, Order]:
    """Return whose an event is, when (ms) it happened, and its place in the order. Raises BadRecord."""
    if topic is Topic.CAMPAIGNS:
        campaign = wire.decode_campaign(value)
        return campaign.campaign, campaign.at, (campaign.at, topic, campaign.campaign, 0, content_of(campaign))
    customer_id, event = wire.decode(topic, None, value)
    order = order_of(event)
    return customer_id, order[0], (*order, content_of(event))


def _slices(lines: list[Line]) -> Iterator[list[Line]]:
    """Cut the merged lines where there is enough of some customer, or of campaigns; never within an instant."""
    start = 0
    seen: Counter[bytes] = Counter()
    for index, (at, topic, record) in enumerate(lines):
        announced = topic is Topic.CAMPAIGNS
        whose, most = (b"\0", 1) if announced else (record.key, SLICE_PER_CUSTOMER)
        if seen[whose] >= most and at != lines[index - 1][0]:
            yield lines[start:index]
            start = index
            seen.clear()
        seen[whose] += 1
    if start < len(lines):
        yield lines[start:]


def _collect(result: Result, effects: Effects) -> None:
    result.changes += effects.decisions.changes
    result.actions += effects.decisions.actions
    result.cutoffs += effects.decisions.cutoffs
    result.notes += effects.decisions.counts
    result.refusals += effects.decisions.refusals


def write_result(result: Result, timeline: Timeline, directory: Path) -> dict[str, Any]:
    """Write the files into a directory, each by atomic rename; return the summary. Raises UnusableInput.

    `tier-cutoffs.jsonl` is there only where the policy has cut-offs computed.
    """
    summary = summarise(figures_of(result), result.until, timeline)
    engine = Engine(timeline)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(directory / "tier-changes.jsonl", map(msgspec.json.encode, sorted(result.changes, key=_change_order)))
        _write(directory / "care-actions.jsonl", map(msgspec.json.encode, sorted(result.actions, key=_action_order)))
        cutoffs = directory / "tier-cutoffs.jsonl"
        cutoffs.unlink(missing_ok=True)  # of an earlier replay by another policy
        if ranked(timeline):
            _write(cutoffs, map(msgspec.json.encode, result.cutoffs))
        customers = (final_line(engine, customer, result.until) for customer in result.customers)
        _write(directory / "customers.jsonl", customers)
        _write(directory / "dead-letters.jsonl", (orjson.dumps(_dead_letter(bad)) for bad in result.bad_lines))
        write_atomically(directory / "summary.json", lambda file: file.write(encode_summary(summary)))
    except OSError as error:
        raise UnusableInput(f"{directory} cannot be written: {error.strerror}") from None
    return summary


def figures_of(result: Result) -> Figures:
    """Return the counts of a replay."""
    figures = Figures(
        events=dict(result.events),
        after_until=result.after_until,
        by_reason=dict(Counter(bad.bad.reason.value for bad in result.bad_lines)),
        notes=dict(result.notes),
    )
    figures.add(count_decisions(result.changes, result.actions, result.refusals))
    figures.add(count_customers(result.customers))
    return figures


def _change_order(change: TierChange) -> tuple[int, str, str, int]:
    return parse_instant(change.effective_at), change.customer_id, change.scheme, change.sequence


def _action_order(action: CareAction) -> tuple[int, str, str, str]:
    return parse_instant(action.due_at), action.customer_id, action.rule, action.action_id


def _dead_letter(line: BadLine) -> dict[str, Any]:
    place = {"file": line.file, "line": line.line}
    return dead_letter(place, line.bad.reason, line.bad.detail, line.value)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    write_atomically(path, lambda file: file.writelines(line + b"\n" for line in lines))
