"""The first half of a replay: a part of the input is decoded once, and its events are shuffled to shards by customer.

A shard holds events in the order of the input. Campaigns are nobody's own and stay with their part. A record that
cannot be decoded is kept as a dead letter, with its place.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from models.errors import BadRecord
from models.events import (
    BEGINNING,
    Campaign,
    Erasure,
    Interaction,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    Profile,
    Topic,
)
from models.wire import PartialProfile, Wire
from streams.history.formats import read_values
from streams.partition.inputs import Record
from streams.replay.plan import Part, Plan, Request
from streams.replay.segments import write_segments
from streams.replay.topic_input import read_range
from streams.replay.workspace import Work

#: Records that are decoded at once, and how many such batches are held in memory before they are written.
BATCH_EVENTS, CHUNK_BATCHES = 1_000, 250


class Forgotten(msgspec.Struct, array_like=True, frozen=True, tag="x", gc=False):
    """The customer was erased at `at` (ms): what happened to them before is not looked at."""

    at: int


ShuffledEvent = OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile | Forgotten
encode_events = msgspec.msgpack.Encoder().encode
decode_events = msgspec.msgpack.Decoder(list[tuple[str, ShuffledEvent]]).decode
decode_campaigns = msgspec.msgpack.Decoder(list[Campaign]).decode


class Letter(msgspec.Struct, array_like=True, frozen=True):
    """A record that cannot be processed. `place` is its line in the part, or its offset."""

    place: int
    reason: str
    detail: str
    value: bytes | None
    key: bytes | None = None
    timestamp: int | None = None


class PartReport(msgspec.Struct):
    """What a part held. `last` (ms) is the latest instant of its events, None where there is none.

    `after` events were too late to be read; `first_after` is the first of them: its place, and its instant (ms).
    """

    events: int = 0
    before: int = 0
    after: int = 0
    first_after: tuple[int, int] | None = None
    last: int | None = None
    chunks: int = 0
    letters: int = 0


Decoded = tuple[str, Any]
#: The places of some records, and what they came to; None for a dead letter.
Batch = tuple[Sequence[int], list[Decoded | None]]


def shuffle(work: Work, number: int) -> PartReport:
    """Read a part of the plan and write its events by shard; return what it held. Raises FileError, RangeError."""
    plan = work.plan
    part = plan.parts[number]
    report, letters = PartReport(), list[Letter]()
    wire = Wire(work.timeline().latest.money)
    batches = (
        _file_batches(plan, part, wire, letters)
        if part.partition is None
        else _topic_batches(work, part, wire, letters)
    )
    within = _within(batches, plan.request, report)
    campaigns: list[Any] = []
    if part.topic is Topic.CAMPAIGNS:
        campaigns = [campaign for batch in within for _, campaign in batch]
    else:
        for spread in _spread(within, plan.shards):
            path = work.chunk(number, report.chunks)
            write_segments(path, map(encode_events, spread), PartReport)
            report.chunks += 1
    report.letters = len(letters)
    segments = [msgspec.msgpack.encode(letters), msgspec.msgpack.encode(campaigns)]
    write_segments(work.part(number), segments, lambda: report)
    return report


def _file_batches(plan: Plan, part: Part, wire: Wire, letters: list[Letter]) -> Iterator[Batch]:
    columns = plan.request.columns.get(part.topic.label, {})
    lines = read_values(Path(part.source), part.topic, columns, part.start, part.stop)
    while block := list(islice(lines, BATCH_EVENTS)):
        decoded: list[Decoded | None] = []
        for (place, value), found in zip(block, _decode(wire, part.topic, [value for _, value in block]), strict=True):
            if isinstance(found, BadRecord):
                letters.append(Letter(place, found.reason.value, found.detail, bytes(value)))
                decoded.append(None)
                continue
            if isinstance(found, PartialProfile):
                letters.append(Letter(place, found.note.reason.value, found.note.detail, value))
            decoded.append(found)
        yield [place for place, _ in block], decoded


def _topic_batches(work: Work, part: Part, wire: Wire, letters: list[Letter]) -> Iterator[Batch]:
    records = read_range(work.settings, part)
    while block := list(islice(records, BATCH_EVENTS)):
        decoded: list[Decoded | None] = []
        values, keys = [record.value for record in block], [record.key for record in block]
        for record, found in zip(block, _decode(wire, part.topic, values, keys), strict=True):
            if isinstance(found, BadRecord):
                letters.append(_letter(record, found))
                decoded.append(None)
                continue
            if isinstance(found, PartialProfile):
                letters.append(_letter(record, found.note))
            customer_id, event = found
            decoded.append((customer_id, Forgotten(record.timestamp) if type(event) is Erasure else event))
        yield [record.offset for record in block], decoded


def _letter(record: Record, bad: BadRecord) -> Letter:
    value = None if record.value is None else bytes(record.value)
    return Letter(record.offset, bad.reason.value, bad.detail, value, record.key, record.timestamp)


def _decode(
    wire: Wire, topic: Topic, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
) -> Sequence[tuple[str, Any] | BadRecord]:
    if topic is not Topic.CAMPAIGNS:
        return wire.decode_batch(topic, values, keys)
    found: list[tuple[str, Any] | BadRecord] = []
    for value in values:
        try:
            found.append(("", wire.decode_campaign(value)))
        except BadRecord as bad:
            found.append(BadRecord(bad.reason, bad.detail))
    return found


def _within(batches: Iterator[Batch], request: Request, report: PartReport) -> Iterator[list[Decoded]]:
    """Yield the events within the bounds of a request, of the one customer that it names if it does; count them."""
    since = BEGINNING if request.since is None else request.since
    limit, only, last = request.latest, request.only, BEGINNING
    for places, batch in batches:
        within = []
        for index, decoded in enumerate(batch):
            if decoded is None:
                continue
            at = decoded[1].at
            if at is None:
                at = BEGINNING  # a profile without any time is within all bounds
            elif at > limit:
                report.after += 1
                report.first_after = report.first_after or (places[index], at)
                continue
            elif at < since:
                report.before += 1
                continue
            if at > last:  # noqa: PLR1730  # ten million calls of max are a second
                last = at
            if only is None or decoded[0] == only or not decoded[0]:
                within.append(decoded)
        report.events += len(within)
        yield within
    report.last = None if last == BEGINNING else last


def _spread(batches: Iterator[list[Decoded]], shards: int) -> Iterator[list[list[Decoded]]]:
    """Yield events chunk by chunk, by shard."""
    while chunk := list(islice(batches, CHUNK_BATCHES)):
        spread: list[list[Decoded]] = [[] for _ in range(shards)]
        for batch in chunk:
            for decoded in batch:
                spread[crc32(decoded[0].encode()) % shards].append(decoded)
        yield spread
