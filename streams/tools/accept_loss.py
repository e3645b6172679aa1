"""An operator's order to go on with an input topic that lost records, sent to the owners of its partitions."""

import msgspec

from config.settings import Settings
from models.errors import UnusableInput
from models.events import Topic
from streams.kafka.bulk_producer import bulk_producer
from streams.kafka.topics import partition_counts, ticks_name
from streams.partition.state import Watermark


async def accept_loss(settings: Settings, label: str, partition: int | None = None) -> int:
    """Order it for one partition of an input topic, or all; return their number.

    The order travels among the watermarks, so it reaches the owner, also if that starts later. Raises UnusableInput for
    an unknown topic or partition, TopicsError, BrokerError.
    """
    labels = [topic.label for topic in Topic]
    if label not in labels:
        raise UnusableInput(f"TOPIC: found {label!r}, allowed are {', '.join(labels)}")
    name = ticks_name(settings)
    count = (await partition_counts(settings, [name]))[name]
    if partition is not None and partition >= count:
        raise UnusableInput(f"--partition: found {partition}, allowed are 0 to {count - 1}")
    numbers = range(count) if partition is None else [partition]
    order = msgspec.json.encode(Watermark(None, accept_loss=label))
    async with bulk_producer(settings) as bulk:
        for number in numbers:
            await bulk.add(name, number, None, order)
    return len(numbers)
