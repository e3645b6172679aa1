"""Reading ranges of partitions with a consumer that belongs to no group."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from config.settings import Settings
from streams.kafka.clients import TIMEOUT_S, make_consumer
from streams.kafka.topics import BrokerError, partition_counts

_FETCH_MS = 200


async def read_range(settings: Settings, topic: str, partition: int, offsets: range) -> list[ConsumerRecord]:
    """Return the records of a partition at `offsets`, without those that compaction has removed.

    Raises TimeoutError if the broker does not send them in time, KafkaError if it refuses.
    """
    if not offsets:
        return []
    consumer = make_consumer(settings)
    tp = TopicPartition(topic, partition)
    records: list[ConsumerRecord] = []
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await consumer.start()
            consumer.assign([tp])
            consumer.seek(tp, offsets.start)
            while await consumer.position(tp) < offsets.stop:
                fetched = await consumer.getmany(tp, timeout_ms=_FETCH_MS)
                records += [record for record in fetched.get(tp, []) if record.offset < offsets.stop]
    finally:
        await consumer.stop()
    return records


async def ends_of(settings: Settings, name: str) -> dict[int, int]:
    """Return the next offset of each partition of a topic. Raises BrokerError."""
    tps = await partitions_of(settings, [name])
    async with consumer_of(settings) as consumer:
        _, ends = await bounds(consumer, tps)
    return {tp.partition: end for tp, end in ends.items()}


async def partitions_of(settings: Settings, names: Iterable[str]) -> list[TopicPartition]:
    """Return the partitions of topics. Raises TopicsError, BrokerError."""
    counts = await partition_counts(settings, list(names))
    return [TopicPartition(name, number) for name, count in counts.items() for number in range(count)]


async def bounds(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition]
) -> tuple[Mapping[TopicPartition, int], Mapping[TopicPartition, int]]:
    """Return the first and the next offsets of partitions. Raises TimeoutError, KafkaError.

    The ends are last stable offsets: an open transaction is not read. They come from a fetch, which is exact; the
    broker's list of offsets may lag.
    """
    consumer.assign(tps)
    begins = await consumer.beginning_offsets(tps)
    await consumer.seek_to_end(*tps)
    ends: dict[TopicPartition, int] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while len(ends) < len(tps):
        await consumer.getmany(timeout_ms=20)
        ends = {tp: end for tp in tps if (end := consumer.last_stable_offset(tp)) is not None}
        if time.monotonic() > deadline:
            raise TimeoutError
    return begins, ends


@asynccontextmanager
async def consumer_of(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer that belongs to no group. Raises BrokerError if it cannot connect, or the broker refuses."""
    consumer = make_consumer(settings, auto_offset_reset="none")
    try:
        await asyncio.wait_for(consumer.start(), TIMEOUT_S)
        yield consumer
    except (KafkaError, OSError, TimeoutError) as error:
        why = str(error) or "it does not answer"
        raise BrokerError(f"the broker at {settings.broker} cannot be read: {why}") from None
    finally:
        await consumer.stop()
