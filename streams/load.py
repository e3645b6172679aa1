"""Loading: events from JSON-lines files to an input topic, keyed by customer, as fast as the producer takes them."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from config.settings import Settings
from models.errors import UnusableInput
from models.events import Topic
from streams.console import progress_bar
from streams.security import client_options
from streams.topics import BrokerError, unreachable


class LoadError(UnusableInput):
    """A file cannot be loaded. The message says where; nothing of that line was sent."""


class _Keyed(msgspec.Struct):
    customer_id: str


def keyed_lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of each line. Raises LoadError, with the line, where there is no customer_id."""
    decoder = msgspec.json.Decoder(_Keyed)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            value = line.strip()
            if value:
                try:
                    yield decoder.decode(value).customer_id.encode(), value
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise LoadError(f"{path}, line {number}: {error}; allowed is JSON with a customer_id") from None


async def load_files(settings: Settings, files: list[Path], topic: str) -> int:
    """Produce every line of the files to an input topic; return how many. Raises LoadError, BrokerError."""
    if topic not in {known.label for known in Topic}:
        raise LoadError(f"--topic: found {topic!r}, allowed are {', '.join(known.label for known in Topic)}")
    total = sum(path.stat().st_size for path in files)
    producer = AIOKafkaProducer(**client_options(settings), linger_ms=5, max_batch_size=262_144)
    count = done = 0
    try:
        await _start(producer, settings)
        with progress_bar(f"loading {topic} (bytes)") as progress:
            for path in files:
                for key, value in keyed_lines(path):
                    await producer.send(settings.topic(topic), value, key=key)
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


async def _start(producer: AIOKafkaProducer, settings: Settings) -> None:
    try:
        await producer.start()
    except (KafkaError, OSError):
        raise await unreachable(settings) from None
