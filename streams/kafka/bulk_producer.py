"""Producing many records as fast as the broker takes them: batches are filled directly, partition by partition.

Memory is bounded: a partition's next batch waits until the one before is on its way. The records must be harmless to
produce again: a failure leaves a part of them behind.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from config.settings import Settings
from streams.kafka.clients import MAX_ROW_BYTES, TIMEOUT_S, make_producer
from streams.kafka.records import Headers
from streams.kafka.topics import BrokerError

_BATCH_BYTES = 262_144
#: The number of batches that may wait for their acknowledgement.
_IN_FLIGHT = 64


class Bulk:
    """Produces records to partitions of topics. `count` is the number of records added."""

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
        headers: Headers = [],  # noqa: B006  # it is never appended to
        timestamp: int | None = None,
    ) -> None:
        """Add a record; `timestamp` in ms (default: now). Raises KafkaError if an earlier one was refused."""
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
        """Send the rest, and wait until everything is acknowledged. Raises KafkaError if something is not."""
        for (topic, partition), batch in self._batches.items():
            if batch.record_count():
                await self._send(topic, partition, batch)
        self._batches.clear()
        await asyncio.gather(*self._sent)
        self._sent.clear()

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of a topic. Raises KafkaError if the broker does not know it."""
        return len(await self._producer.partitions_for(topic))

    async def _send(self, topic: str, partition: int, batch: Any) -> None:
        self._sent.add(await self._producer.send_batch(batch, topic, partition=partition))
        if len(self._sent) >= _IN_FLIGHT:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()


@asynccontextmanager
async def bulk_producer(settings: Settings) -> AsyncIterator[Bulk]:
    """Open a producer; if the block ends without an error, everything is acknowledged. Raises BrokerError."""
    producer = make_producer(settings, acks="all", max_batch_size=_BATCH_BYTES, max_request_size=MAX_ROW_BYTES)
    try:
        await asyncio.wait_for(producer.start(), TIMEOUT_S)
        bulk = Bulk(producer)
        yield bulk
        await bulk.flush()
    except (KafkaError, OSError, TimeoutError) as error:
        why = str(error) or "it does not answer"
        raise BrokerError(f"the broker at {settings.broker} refused: {why}") from None
    finally:
        await producer.stop()
