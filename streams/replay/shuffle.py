"""The first half of a replay: a part of the input is decoded once, and its events are shuffled to shards by customer.

A shard holds events in the order of the input. Campaigns are nobody's own and stay with their part. A record that
cannot be decoded is kept as a dead letter, with its place.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from config.settings import Settings
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
from models.instants import MAX_INSTANT
from models.wire import Wire
from streams.history.formats import read_values
from streams.replay.plan import Part, Plan, Request
from streams.replay.segments import write_segments
from streams.replay.topic_input import read_range
from streams.replay.workspace import Work

#: Events that are held in memory before they are written.
CHUNK_EVENTS = 250_000


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
    """What a part held. `last` (ms) is the latest instant of its events, None where there is none."""

    events: int = 0
    before: int = 0
    after: int = 0
    last: int | None = None
    chunks: int = 0
    letters: int = 0


Decoded = tuple[str, Any]


def shuffle(work: Work, number: int) -> PartReport:
    """Read a part of the plan and write its events by shard; return what it held. Raises FileError, RangeError."""
    plan = work.plan
    part = plan.parts[number]
    report, letters = PartReport(), list[Letter]()
    wire = Wire(work.timeline().latest.money)
    decode = _campaign_decoder(wire) if part.topic is Topic.CAMPAIGNS else partial(wire.decode, part.topic)
    if part.partition is None:
        values = _file_values(plan, part, decode, letters)
    else:
        values = _topic_values(work.settings, part, decode, letters)
    within = _within(values, plan.request, report)
    campaigns: list[Any] = []
    if part.topic is Topic.CAMPAIGNS:
        campaigns = [campaign for _, campaign in within]
    else:
        for spread in _spread(within, plan.shards):
            path = work.chunk(number, report.chunks)
            write_segments(path, map(encode_events, spread), PartReport)
            report.chunks += 1
    report.letters = len(letters)
    segments = [msgspec.msgpack.encode(letters), msgspec.msgpack.encode(campaigns)]
    write_segments(work.part(number), segments, lambda: report)
    return report


def _campaign_decoder(wire: Wire) -> Callable[[bytes | None, bytes | None], Decoded]:
    return lambda _key, value: ("", wire.decode_campaign(value))


def _file_values(
    plan: Plan, part: Part, decode: Callable[[bytes | None, bytes | None], Decoded], letters: list[Letter]
) -> Iterator[Decoded]:
    columns = plan.request.columns.get(part.topic.label, {})
    for line, value in read_values(Path(part.source), part.topic, columns, part.start, part.stop):
        try:
            yield decode(None, value)
        except BadRecord as bad:
            letters.append(Letter(line, bad.reason.value, bad.detail, value))


def _topic_values(
    settings: Settings, part: Part, decode: Callable[[bytes | None, bytes | None], Decoded], letters: list[Letter]
) -> Iterator[Decoded]:
    for record in read_range(settings, part):
        try:
            customer_id, event = decode(record.key or b"", record.value)
        except BadRecord as bad:
            letters.append(
                Letter(record.offset, bad.reason.value, bad.detail, record.value, record.key, record.timestamp)
            )
            continue
        yield customer_id, Forgotten(record.timestamp) if type(event) is Erasure else event


def _within(values: Iterator[Decoded], request: Request, report: PartReport) -> Iterator[Decoded]:
    """Yield the events within the bounds of a request, of the one customer that it names if it does; count them."""
    since = BEGINNING if request.since is None else request.since
    limit = MAX_INSTANT if request.limit is None else request.limit
    only = request.only
    last, count = BEGINNING, 0
    for decoded in values:
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
        if only is None or decoded[0] == only or not decoded[0]:
            count += 1
            yield decoded
    report.events = count
    report.last = None if last == BEGINNING else last


def _spread(events: Iterator[Decoded], shards: int) -> Iterator[list[list[Decoded]]]:
    """Yield events chunk by chunk, by shard."""
    while chunk := list(islice(events, CHUNK_EVENTS)):
        spread: list[list[Decoded]] = [[] for _ in range(shards)]
        for decoded in chunk:
            spread[crc32(decoded[0].encode()) % shards].append(decoded)
        yield spread
