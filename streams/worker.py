"""The worker: takes micro-batches and ticks from Faust's stream, has them processed and performed, in order.

One stream, one batch at a time: outputs acknowledged, state acknowledged, then the offset is free to be committed.
What Faust delivers is checked against the progress that travels with the state: what was applied is skipped, what
is missing is fetched again. An error of the broker ends the worker; whoever supervises it starts it anew.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from faust.types import TP

from config.settings import Settings
from models.events import Topic
from streams.metrics import Metrics
from streams.partition import Partition
from streams.processor import Effects, Processor
from streams.sender import Sender
from streams.store import PartitionStore
from streams.ticker import decode_tick
from streams.transport import Chunk, MicroBatchConsumer

log = logging.getLogger(__name__)


def wall_clock_ms() -> int:
    """Return the wall clock as an instant (ms)."""
    return time.time_ns() // 1_000_000


class Worker:
    """Processes the partitions that are ours. `clock` gives the wall clock in ms (a test controls it)."""

    def __init__(
        self,
        settings: Settings,
        processor: Processor,
        metrics: Metrics,
        *,
        store: Callable[[], PartitionStore],
        consumer: Callable[[], MicroBatchConsumer],
        sender: Callable[[], Sender],
        changelog: str,
        ticks: str,
        clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.metrics = metrics
        self._processor = processor
        self._store = store
        self._consumer = consumer
        self._sender = sender
        self._changelog = changelog
        self._ticks = ticks
        self._clock = clock
        self._topics = {settings.topic(topic.label): topic for topic in Topic}
        self.busy = asyncio.Lock()
        self._probes: dict[TP, tuple[int, int]] = {}
        self.last_event_at = clock()

    @property
    def input_topics(self) -> dict[str, Topic]:
        """The input topics by full name."""
        return self._topics

    async def run(self, events: AsyncIterator[Any]) -> None:
        """Take up the messages of a Faust stream until it ends."""
        async for event in events:
            message = event.message
            async with self.busy:
                partition = self._store().partition(message.partition)
                if partition is None or not self._is_ours(message.tp):
                    continue  # revoked meanwhile: the next owner reads it
                if message.topic == self._ticks:
                    await self._tick(partition, message.tp, message.value)
                else:
                    await self._batch(partition, message.tp, message.value)

    async def quiesce(self) -> None:
        """Return once no batch is in flight: called before partitions are given away."""
        async with self.busy:
            self._probes.clear()

    async def _batch(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        topic = self._topics[tp.topic]
        if await self._has_gap(partition.next_offset(topic), tp, chunk):
            return
        started = time.monotonic()
        effects = self._processor.process(partition, topic, tp.topic, chunk.records, self._clock())
        await self._perform(partition, effects)
        self._consumer().mark_applied(tp, partition.next_offset(topic))
        self.last_event_at = self._clock()
        self._observe(topic.label, effects, chunk, started)

    async def _tick(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        tick = decode_tick(chunk.records[-1].value)
        more = tick is not None
        while more and tick is not None:
            effects = self._processor.tick(partition, tick, self._clock())
            if effects.changelog:
                await self._perform(partition, effects)
                self.metrics.observe("ticks", effects)
            more = effects.more
        self._consumer().mark_applied(tp, chunk.records[-1].offset + 1)
        self.metrics.ticks.inc()
        if partition.progress.stream_time is not None:
            self.metrics.stream_time.labels(partition.number).set(partition.progress.stream_time / 1000)

    async def _perform(self, partition: Partition, effects: Effects) -> None:
        written = await self._sender().perform(partition.number, effects)
        if written is not None:
            self._store().set_persisted_offset(TP(self._changelog, partition.number), written)

    async def _has_gap(self, expected: int, tp: TP, chunk: Chunk) -> bool:
        """Whether records before the chunk are missing; has them fetched again, once: a hole in the log is no gap."""
        first = chunk.records[0].offset
        probed, epoch = self._probes.get(tp, (-1, 0))
        if first <= expected or (probed == expected and chunk.epoch >= epoch):
            self._probes.pop(tp, None)
            return False
        if probed != expected:
            log.info("fetching again: %s[%d] expected %d, found %d", tp.topic, tp.partition, expected, first)
            await self.rewind(tp, expected)
        return True

    async def rewind(self, tp: TP, offset: int) -> None:
        """Have a partition fetched again from `offset` on."""
        self.metrics.rewinds.inc()
        self._probes[tp] = (offset, await self._consumer().rewind(tp, offset))

    def _is_ours(self, tp: TP) -> bool:
        return tp in self._consumer().assignment()

    def _observe(self, topic: str, effects: Effects, chunk: Chunk, started: float) -> None:
        metrics = self.metrics
        metrics.observe(topic, effects)
        metrics.batch_size.observe(len(chunk.records))
        metrics.batch_seconds.observe(time.monotonic() - started)
        metrics.latency.observe(max(0, self._clock() - chunk.records[-1].timestamp) / 1000)
