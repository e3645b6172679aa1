"""Listening to what other partitions tell of their days: the internal topic, read whole by every worker.

A consumer of its own beside the group, from the beginning on: the topic is compacted, and holds a record a partition
and the latest cut-offs.
"""

from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, TopicPartition

from config.settings import Settings
from streams.kafka.clients import client_options
from streams.kafka.topics import TIMEOUT_S, populations_label
from streams.partition.cutoff_coordinator import CutoffCoordinator

_FETCH_MS = 500


async def listen_to_cutoffs(settings: Settings, days: CutoffCoordinator) -> AsyncIterator[list[bytes]]:
    """Have `days` hear all that is told, for ever; yield the keys of what is news.

    Raises KafkaError where the broker refuses.
    """
    name = settings.topic(populations_label(settings))
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=TIMEOUT_S * 1000,
    )
    try:
        await consumer.start()
        tps = [TopicPartition(name, number) for number in range(settings.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        while True:
            chunks = await consumer.getmany(timeout_ms=_FETCH_MS)
            records = [record for chunk in chunks.values() for record in chunk]
            news = [record.key for record in records if days.hear(record.key, record.value)]
            if not days.current and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
                days.mark_current()
            if news:
                yield news
    finally:
        await consumer.stop()
