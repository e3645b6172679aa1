"""Reading a stretch of one partition with a consumer of one's own, beside the group."""

import asyncio

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from config.settings import Settings
from streams.kafka.clients import client_options
from streams.kafka.topics import MAX_ROW_BYTES, TIMEOUT_S

_FETCH_MS = 200


async def read_stretch(settings: Settings, topic: str, partition: int, offsets: range) -> list[ConsumerRecord]:
    """Return the records of a partition at `offsets`, without those that compaction took.

    Raises TimeoutError where the broker does not bring them, KafkaError where it refuses.
    """
    if not offsets:
        return []
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_ROW_BYTES,
        request_timeout_ms=TIMEOUT_S * 1000,
    )
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
