"""Loading: events from JSON-lines files to an input topic, keyed by customer, as fast as the producer takes them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from config.settings import Settings
from models.errors import UnusableInput
from models.events import Topic
from streams.console import progress_bar
from streams.topics import BrokerError

T = TypeVar("T")


class LoadError(UnusableInput):
    """A file cannot be loaded. The message says where; nothing of that line was sent."""


class _Keyed(msgspec.Struct):
    customer_id: str


class _Announced(msgspec.Struct):
    campaign_id: str


def keyed_lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of each line. Raises LoadError, with the line, where there is no customer_id."""
    yield from ((event.customer_id.encode(), value) for event, value in _decoded(path, _Keyed, "customer_id"))


def campaign_lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of each campaign. Raises LoadError, with the line, where there is no campaign_id."""
    yield from ((event.campaign_id.encode(), value) for event, value in _decoded(path, _Announced, "campaign_id"))


def _decoded(path: Path, kind: type[T], name: str) -> Iterator[tuple[T, bytes]]:
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            value = line.strip()
            if value:
                try:
                    yield decoder.decode(value), value
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise LoadError(f"{path}, line {number}: {error}; allowed is JSON with a {name}") from None


async def load_files(settings: Settings, files: list[Path], topic: str) -> int:
    """Produce every line of the files to an input topic; return how many. Raises LoadError, BrokerError.

    A campaign is for all customers, so each of its lines goes to every partition.
    """
    if topic not in {known.label for known in Topic}:
        raise LoadError(f"--topic: found {topic!r}, allowed are {', '.join(known.label for known in Topic)}")
    total = sum(path.stat().st_size for path in files)
    producer = AIOKafkaProducer(bootstrap_servers=settings.broker, linger_ms=5, max_batch_size=262_144)
    count = done = 0
    try:
        await producer.start()
        with progress_bar(f"loading {topic} (bytes)") as progress:
            name, announces = settings.topic(topic), topic == Topic.CAMPAIGNS.label
            targets = sorted(await producer.partitions_for(name)) if announces else [None]
            for path in files:
                for key, value in campaign_lines(path) if announces else keyed_lines(path):
                    for partition in targets:
                        await producer.send(name, value, key=key, partition=partition)
                    count, done = count + 1, done + len(value) + 1
                    if count % 5_000 == 0:
                        progress(done, total)
            await producer.flush()
            progress(total, total)
    except KafkaError as error:
        raise BrokerError(f"the broker at {settings.broker} refused: {error}") from None
    finally:
        await producer.stop()
    return count
