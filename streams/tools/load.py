"""Loads events from files into an input topic, keyed by customer, as fast as the broker accepts them.

A record's timestamp is the event's own instant, so that topics can be searched by time. Values are sent as they are:
events keep their ids, so loading a file again changes nothing, and only the worker validates them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from config.settings import Settings
from models.errors import BadRecord, Unreadable, UnusableInput
from models.events import Topic
from models.identity import check_ids
from models.instants import from_datetime
from streams.history.columns import Mapped
from streams.history.formats import check_header, read_values
from streams.kafka.bulk_producer import bulk_producer
from streams.kafka.partitioner import partitioner
from streams.report.console import progress_bar

_When = int | Annotated[datetime, msgspec.Meta(tz=True)] | None
_PROGRESS_EVERY = 10_000


class LoadError(UnusableInput):
    """A file cannot be loaded. The message names the line. That line and those after it were not sent."""


@dataclass
class Skipped:
    """How many lines were left out, and what was wrong with the first."""

    count: int = 0
    first: str = ""

    def add(self, bad: str) -> None:
        """Count a line, given where it is and what is wrong with it."""
        self.count, self.first = self.count + 1, self.first or bad


class _Keyed(msgspec.Struct, gc=False):
    customer_id: str | int
    order_id: Any = None
    refund_id: Any = None
    interaction_id: Any = None
    action_id: Any = None


class _Timed(_Keyed, gc=False):
    occurred_at: _When = None
    updated_at: _When = None
    registered_at: _When = None


class _Announced(msgspec.Struct, gc=False):
    campaign_id: str | int
    occurred_at: _When = None


class KeyedLine(msgspec.Struct, frozen=True, gc=False):
    """An event to produce. `timestamp` is in ms, None if the event has no instant that Kafka can hold."""

    key: bytes
    value: bytes
    timestamp: int | None


def keyed_lines(
    path: Path, topic: Topic, columns: Mapping[str, Mapped] = MappingProxyType({}), skipped: Skipped | None = None
) -> Iterator[KeyedLine]:
    """Yield each event of a file. Raises LoadError if a line is no event of a customer, FileError if it cannot be read.

    If `skipped` is given, lines that are no event of a customer are counted there instead.
    """
    timed, keyed = msgspec.json.Decoder(_Timed), msgspec.json.Decoder(_Keyed)
    for number, value in read_values(path, topic, columns.get(topic.label, {})):
        try:
            yield _keyed_line(value, timed, keyed)
        except (msgspec.DecodeError, UnicodeDecodeError, BadRecord) as error:
            allowed = "" if isinstance(error, BadRecord) else "; allowed is JSON with a customer_id"
            bad = f"{path}, line {number}: {error}{allowed}"
            if skipped is None:
                raise LoadError(f"{bad}. With --skip-invalid such lines are left out and counted") from None
            skipped.add(bad)


def _keyed_line(value: bytes, timed: msgspec.json.Decoder[_Timed], keyed: msgspec.json.Decoder[_Keyed]) -> KeyedLine:
    """Return an event to produce. Raises DecodeError, UnicodeDecodeError or BadRecord if it has no customer."""
    if isinstance(value, Unreadable):
        raise BadRecord(value.reason, value.detail)
    event: _Keyed
    try:
        event = dated = timed.decode(value)
        timestamp = _timestamp(dated.occurred_at, dated.updated_at, dated.registered_at)
    except (msgspec.DecodeError, UnicodeDecodeError):
        event, timestamp = keyed.decode(value), None
    check_ids(event, _Keyed.__struct_fields__)
    return KeyedLine(str(event.customer_id).encode(), value, timestamp)


def campaign_lines(path: Path) -> Iterator[KeyedLine]:
    """Yield each campaign of a file. Raises LoadError if a line has no campaign_id, FileError if it cannot be read."""
    announced = msgspec.json.Decoder(_Announced)
    for number, value in read_values(path, Topic.CAMPAIGNS, {}):
        try:
            campaign = announced.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LoadError(f"{path}, line {number}: {error}; allowed is JSON with a campaign_id") from None
        yield KeyedLine(str(campaign.campaign_id).encode(), value, _timestamp(campaign.occurred_at))


def _timestamp(*whens: _When) -> int | None:
    when = next((when for when in whens if when is not None), None)
    instant = from_datetime(when) if isinstance(when, datetime) else when
    return instant if instant is not None and 0 <= instant < 2**62 else None


async def load_files(
    settings: Settings,
    files: Sequence[Path],
    topic: str,
    columns: Mapping[str, Mapped] = MappingProxyType({}),
    skipped: Skipped | None = None,
) -> int:
    """Produce every event of the files to an input topic; return their number. `skipped` is as in `keyed_lines`.

    A campaign concerns all customers, so it is produced to every partition. Raises LoadError, FileError, BrokerError.
    """
    topics = {known.label: known for known in Topic}
    if topic not in topics:
        raise LoadError(f"--topic: found {topic!r}, allowed are {', '.join(topics)}")
    announces = topics[topic] is Topic.CAMPAIGNS
    for path in files:
        check_header(path, topics[topic], columns.get(topic, {}))
    name, total, read, count = settings.topic(topic), sum(path.stat().st_size for path in files), 0, 0
    async with bulk_producer(settings) as bulk:
        partitions = await bulk.partitions(name)
        partition_for = partitioner(partitions)
        with progress_bar(f"loading {topic}") as progress:
            for path in files:
                size = 0
                for line in campaign_lines(path) if announces else keyed_lines(path, topics[topic], columns, skipped):
                    for home in range(partitions) if announces else (partition_for(line.key),):
                        await bulk.add(name, home, line.key, line.value, timestamp=line.timestamp)
                    count, size = count + 1, size + len(line.value) + 1
                    if count % _PROGRESS_EVERY == 0:
                        progress(count, max(count, count * total // max(1, read + size)))
                read += path.stat().st_size
        await bulk.flush()
        return count
