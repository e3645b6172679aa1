"""Listening to the reports and cut-offs of other partitions: every worker reads the whole internal topic.

Its consumer belongs to no group and reads from the beginning: the topic is compacted, and holds the latest cut-offs and
one report for each partition.
"""

from collections.abc import AsyncIterator

from aiokafka import TopicPartition

from config.settings import Settings
from streams.kafka.clients import make_consumer
from streams.kafka.topics import populations_label
from streams.partition.cutoff_coordinator import CutoffCoordinator

_FETCH_MS = 500


async def listen_to_cutoffs(settings: Settings, coordinator: CutoffCoordinator) -> AsyncIterator[list[bytes]]:
    """Have the coordinator hear every record, for ever; yield the keys of those that are news.

    The coordinator is current once the topic was read to its end. Raises KafkaError if the broker refuses.
    """
    name = settings.topic(populations_label(settings))
    consumer = make_consumer(settings)
    try:
        await consumer.start()
        tps = [TopicPartition(name, number) for number in range(settings.partitions)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        while True:
            chunks = await consumer.getmany(timeout_ms=_FETCH_MS)
            records = [record for chunk in chunks.values() for record in chunk]
            news = [record.key for record in records if coordinator.hear(record.key, record.value)]
            if not coordinator.current and all([await consumer.position(tp) >= ends[tp] for tp in tps]):
                coordinator.mark_current()
            if news:
                yield news
    finally:
        await consumer.stop()
