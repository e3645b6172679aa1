"""The worker: takes micro-batches and ticks from Faust's stream, has them processed and performed, in order.

One stream, one batch at a time: outputs acknowledged, state acknowledged, then the offset is free to be committed.
What Faust delivers is checked against the progress that travels with the state: what was applied is skipped, what
is missing is fetched again. An error of the broker ends the worker; whoever supervises it starts it anew.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from faust.types import TP

from streams.metrics import Metrics
from streams.partition import Partition, decode_tick
from streams.processor import Effects, Processor
from streams.sender import Sender
from streams.shell import Shell
from streams.transport import Chunk

log = logging.getLogger(__name__)


class Worker:
    """Processes the partitions that are ours. `busy` is held while a batch or a tick is in flight."""

    def __init__(self, shell: Shell, processor: Processor, metrics: Metrics) -> None:
        self.metrics = metrics
        self.busy = asyncio.Lock()
        self.last_event_at = shell.clock()
        self._shell = shell
        self._processor = processor
        self._probes: dict[TP, tuple[int, int]] = {}

    async def run(self, events: AsyncIterator[Any]) -> None:
        """Take up the messages of a Faust stream until it ends."""
        async for event in events:
            message = event.message
            async with self.busy:
                partition = self._shell.store().partition(message.partition)
                if partition is None or not self._is_ours(message.tp):
                    continue  # revoked meanwhile: the next owner reads it
                if message.topic == self._shell.ticks:
                    await self._tick(partition, message.tp, message.value)
                else:
                    await self._batch(partition, message.tp, message.value)

    async def quiesce(self) -> None:
        """Return once no batch is in flight: called before partitions are given away."""
        async with self.busy:
            self._probes.clear()

    async def _batch(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        topic = self._shell.inputs[tp.topic]
        if await self._has_gap(partition.next_offset(topic), tp, chunk):
            return
        started = time.monotonic()
        effects = self._processor.process(partition, topic, tp.topic, chunk.records, self._shell.clock())
        await self._perform(partition, effects)
        self._shell.consumer().mark_applied(tp, partition.next_offset(topic))
        self.last_event_at = self._shell.clock()
        self._observe(topic.label, effects, chunk, started)

    async def _tick(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        tick = decode_tick(chunk.records[-1].value)
        more = tick is not None
        while more and tick is not None:
            effects = self._processor.tick(partition, tick, self._shell.clock())
            if effects.changelog:
                await self._perform(partition, effects)
                self.metrics.observe("ticks", effects)
            more = effects.more
        self._shell.consumer().mark_applied(tp, chunk.records[-1].offset + 1)
        self.metrics.ticks.inc()
        if partition.progress.stream_time is not None:
            self.metrics.stream_time.labels(partition.number).set(partition.progress.stream_time / 1000)

    async def _perform(self, partition: Partition, effects: Effects) -> None:
        written = await self._sender().perform(partition.number, effects)
        if written is not None:
            self._shell.store().set_persisted_offset(TP(self._shell.changelog, partition.number), written)

    async def _has_gap(self, expected: int, tp: TP, chunk: Chunk) -> bool:
        """Whether records before the chunk are missing; has them fetched again, once: a hole in the log is no gap."""
        first = chunk.records[0].offset
        probed, epoch = self._probes.get(tp, (-1, 0))
        if first <= expected or (probed == expected and chunk.epoch >= epoch):
            self._probes.pop(tp, None)
            return False
        if probed != expected:
            log.info("fetching again: %s[%d] expected %d, found %d", tp.topic, tp.partition, expected, first)
            await self._rewind(tp, expected)
        return True

    async def resume(self, tp: TP) -> None:
        """Have a partition that stands still fetched again from where its state is."""
        partition = self._shell.store().partition(tp.partition)
        if partition is not None:
            await self._rewind(tp, partition.next_offset(self._shell.inputs[tp.topic]))

    async def _rewind(self, tp: TP, offset: int) -> None:
        self.metrics.rewinds.inc()
        self._probes[tp] = (offset, await self._shell.consumer().rewind(tp, offset))

    def _sender(self) -> Sender:
        return Sender(self._shell.producer(), self._shell.name_of, self._shell.changelog)

    def _is_ours(self, tp: TP) -> bool:
        return tp in self._shell.consumer().assignment()

    def _observe(self, topic: str, effects: Effects, chunk: Chunk, started: float) -> None:
        metrics = self.metrics
        metrics.observe(topic, effects)
        metrics.batch_size.observe(len(chunk.records))
        metrics.batch_seconds.observe(time.monotonic() - started)
        metrics.latency.observe(max(0, self._shell.clock() - chunk.records[-1].timestamp) / 1000)
