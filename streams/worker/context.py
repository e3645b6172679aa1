"""The parts of a running Faust app that the worker uses.

Store, consumer and producer exist only once the app has started, hence the callables. Tests put fakes here.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiokafka import AIOKafkaProducer, ConsumerRecord

from models.events import Topic
from streams.faust_ext.consumer import MicroBatchConsumer
from streams.faust_ext.memory_store import PartitionStore


def wall_clock_ms() -> int:
    """Return the wall clock as an instant (ms)."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class WorkerContext:
    """The running parts. `inputs` maps full topic names to input topics; `name_of(label)` is a full name.

    `ticks` is the name of the topic of watermarks. `read_changelog(partition, offsets)` returns the records at those
    offsets that compaction has left. `clock` is the wall clock (ms).
    """

    store: Callable[[], PartitionStore]
    consumer: Callable[[], MicroBatchConsumer]
    producer: Callable[[], AIOKafkaProducer]
    inputs: dict[str, Topic]
    name_of: Callable[[str], str]
    changelog: str
    ticks: str
    read_changelog: Callable[[int, range], Awaitable[list[ConsumerRecord]]]
    clock: Callable[[], int] = wall_clock_ms
