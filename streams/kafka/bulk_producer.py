"""Producing many records as fast as the broker takes them: batches are filled directly, partition by partition.

Memory is bounded: a partition's next batch waits until the one before is on its way. What is produced must be harmless
to produce again: a failure leaves a part of it behind.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2  # Java's default partitioner

from config.settings import Settings
from streams.kafka.clients import client_options
from streams.kafka.records import Headers
from streams.kafka.topics import MAX_ROW_BYTES, TIMEOUT_S, BrokerError

_BATCH_BYTES = 262_144
#: So many batches may wait for their acknowledgement.
_IN_FLIGHT = 64
_KNOWN_KEYS = 1 << 18


class Bulk:
    """Produces records to partitions of topics. `count` is how many were handed over."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._batches: dict[tuple[str, int], Any] = {}
        self._sent: set[asyncio.Future[Any]] = set()
        self.count = 0

    async def add(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = [],  # noqa: B006  # nobody appends to it
        timestamp: int | None = None,
    ) -> None:
        """Add a record; `timestamp` in ms (default: now). Raises KafkaError where an earlier one was refused."""
        place = topic, partition
        batch = self._batches.get(place)
        if batch is None:
            batch = self._batches[place] = self._producer.create_batch()
        if batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            await self._send(topic, partition, batch)
            batch = self._batches[place] = self._producer.create_batch()
            batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
        self.count += 1

    async def flush(self) -> None:
        """Send what is left, and wait until everything is acknowledged. Raises KafkaError where something is not."""
        for (topic, partition), batch in self._batches.items():
            if batch.record_count():
                await self._send(topic, partition, batch)
        self._batches.clear()
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has. Raises KafkaError where the broker does not know it."""
        return len(await self._producer.partitions_for(topic))

    async def _send(self, topic: str, partition: int, batch: Any) -> None:
        self._sent.add(await self._producer.send_batch(batch, topic, partition=partition))
        if len(self._sent) >= _IN_FLIGHT:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()


@asynccontextmanager
async def bulk_producer(settings: Settings) -> AsyncIterator[Bulk]:
    """Open a producer; when it is left in peace, everything is acknowledged. Raises BrokerError."""
    producer = AIOKafkaProducer(
        **client_options(settings),
        acks="all",
        max_batch_size=_BATCH_BYTES,
        max_request_size=MAX_ROW_BYTES,
        request_timeout_ms=TIMEOUT_S * 1000,
    )
    try:
        await asyncio.wait_for(producer.start(), TIMEOUT_S)
        bulk = Bulk(producer)
        yield bulk
        await bulk.flush()
    except (KafkaError, OSError, TimeoutError) as error:
        told = str(error) or "it does not answer"
        raise BrokerError(f"the broker at {settings.broker} refused: {told}") from None
    finally:
        await producer.stop()


def home_among(partitions: int) -> Callable[[bytes], int]:
    """Return the function that gives the partition of a key, as Kafka's default partitioner does."""

    @lru_cache(maxsize=_KNOWN_KEYS)
    def partition_for(key: bytes) -> int:
        return int((murmur2(key) & 0x7FFFFFFF) % partitions)

    return partition_for
