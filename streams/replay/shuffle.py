"""The first half of a backfill: a part of the input is decoded, once, and its events are spread over the shards.

Events lie in a shard in the order of the input. What cannot be decoded is kept as a dead letter, with its place.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from config.settings import Settings
from models.errors import BadRecord
from models.events import Erasure, Interaction, OrderCancelled, OrderPlaced, OrderRefunded, Profile
from models.instants import MAX_INSTANT, MIN_INSTANT
from models.wire import Wire
from streams.history.formats import read_values
from streams.replay.plan import Part, Plan
from streams.replay.segments import write_segments
from streams.replay.topic_input import read_range
from streams.replay.workspace import Work

#: So many events are held in memory before they are written.
CHUNK_EVENTS = 250_000
#: What has no instant holds from the beginning.
BEGINNING = MIN_INSTANT - 1


class Forgotten(msgspec.Struct, array_like=True, frozen=True, tag="x", gc=False):
    """The customer was erased at `at` (ms): what happened to them before is not looked at."""

    at: int


Spilled = OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile | Forgotten
encode_events = msgspec.msgpack.Encoder().encode
decode_events = msgspec.msgpack.Decoder(list[tuple[str, Spilled]]).decode


class Letter(msgspec.Struct, array_like=True, frozen=True):
    """A record that cannot be processed. `place` is its line in the part, or its offset."""

    place: int
    reason: str
    detail: str
    value: bytes | None
    key: bytes | None = None
    timestamp: int | None = None


class PartReport(msgspec.Struct):
    """What a part held. `last` (ms) is the latest instant of its events, None where there is none."""

    events: int = 0
    before: int = 0
    after: int = 0
    last: int | None = None
    chunks: int = 0
    letters: int = 0


def scatter(work: Work, number: int) -> PartReport:
    """Read a part of the plan and write its events by shard; return what it held. Raises FileError, RangeError."""
    plan = work.plan
    part = plan.parts[number]
    report, letters = PartReport(), list[Letter]()
    wire = Wire(work.timeline().latest.money)
    if part.partition is None:
        values = _file_values(plan, part, wire, letters)
    else:
        values = _topic_values(work.settings, part, wire, letters)
    for spread in _spread(values, plan, report):
        path = work.chunk(number, report.chunks)
        write_segments(path, map(encode_events, spread), PartReport)
        report.chunks += 1
    report.letters = len(letters)
    write_segments(work.part(number), [msgspec.msgpack.encode(letters)], lambda: report)
    return report


Decoded = tuple[str, Any]


def _file_values(plan: Plan, part: Part, wire: Wire, letters: list[Letter]) -> Iterator[Decoded]:
    decode, topic = wire.decode, part.topic
    columns = plan.request.columns.get(topic.label, {})
    for line, value in read_values(Path(part.source), topic, columns, part.start, part.stop):
        try:
            yield decode(topic, None, value)
        except BadRecord as bad:
            letters.append(Letter(line, bad.reason.value, bad.detail, value))


def _topic_values(settings: Settings, part: Part, wire: Wire, letters: list[Letter]) -> Iterator[Decoded]:
    decode, topic = wire.decode, part.topic
    for record in read_range(settings, part):
        try:
            customer_id, event = decode(topic, record.key or b"", record.value)
        except BadRecord as bad:
            letters.append(
                Letter(record.offset, bad.reason.value, bad.detail, record.value, record.key, record.timestamp)
            )
            continue
        yield customer_id, Forgotten(record.timestamp) if type(event) is Erasure else event


def _spread(events: Iterator[Decoded], plan: Plan, report: PartReport) -> Iterator[list[list[Decoded]]]:
    """Yield the events within the bounds of the request, chunk by chunk, by shard."""
    shards, request = plan.shards, plan.request
    since = BEGINNING if request.since is None else request.since
    limit = MAX_INSTANT if request.limit is None else request.limit
    last = BEGINNING
    while True:
        spread: list[list[Decoded]] = [[] for _ in range(shards)]
        room = CHUNK_EVENTS
        for decoded in events:
            at = decoded[1].at
            if at is None:
                at = BEGINNING  # a profile without any time is within all bounds
            elif at > limit:
                report.after += 1
                continue
            elif at < since:
                report.before += 1
                continue
            if at > last:  # noqa: PLR1730  # ten million calls of max are a second
                last = at
            spread[crc32(decoded[0].encode()) % shards].append(decoded)
            room -= 1
            if not room:
                break
        report.events += CHUNK_EVENTS - room
        report.last = None if last == BEGINNING else last
        if room == CHUNK_EVENTS:
            return
        yield spread
        if room:
            return
