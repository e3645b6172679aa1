"""The worker: takes micro-batches and ticks from Faust's stream, has them processed and performed, in order.

A batch's outputs are acknowledged, then its state, then its offset is free to be committed.
What Faust delivers is checked against the progress that travels with the state: what was applied is skipped, what
is missing is fetched again. An error of the broker ends the worker; whoever supervises it starts it anew.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from faust.types import TP

from streams.faust_ext.consumer import Chunk
from streams.metrics.collectors import Metrics
from streams.partition.cutoff_coordinator import CUTOFFS_KEY, LEADER
from streams.partition.effects import Effects
from streams.partition.processor import Processor
from streams.partition.state import Partition, Watermark, decode_watermark
from streams.worker.context import WorkerContext
from streams.worker.ownership import Ownership
from streams.worker.paused import Paused, parted

log = logging.getLogger(__name__)

#: Batches of up to so many records are processed in the event loop: a thread would take longer to be handed them.
SMALL_BATCH = 32
#: Dead letters of a partition are logged once in so many seconds.
TELL_S = 10.0


class Worker:
    """Processes the partitions that are ours, one batch or tick at a time, beside the event loop unless it is small.

    While the effects of a batch wait for the broker, in *flight*, other partitions go on; the next batch of the same
    partition waits for it. `quiet` is the state in which nothing is under way.
    """

    def __init__(self, context: WorkerContext, processor: Processor, metrics: Metrics) -> None:
        self.metrics = metrics
        self._turn = asyncio.Lock()
        self._flights: dict[int, asyncio.Task[None]] = {}
        self.last_event_at = context.clock()
        #: When (monotonic seconds) each partition had its last tick applied.
        self.ticked_at: dict[int, float] = {}
        #: By (input topic, partition): unread records as of the last tick, and since when none was applied.
        self.waiting: dict[tuple[str, int], tuple[int, float]] = {}
        self._context = context
        self._processor = processor
        self._ownership = Ownership(context, processor, metrics)
        self._probes: dict[TP, tuple[int, int]] = {}
        self._told_at: dict[TP, float] = {}
        self.paused = Paused(lambda tp, yes: context.consumer().pause(tp, yes))

    async def run(self, events: AsyncIterator[Any]) -> None:
        """Take up the messages of a Faust stream until it ends."""
        async for event in events:
            message = event.message
            async with self._turn:
                partition = await self._at_hand(message.tp)
                if partition is None:
                    continue
                if message.topic == self._context.ticks:
                    await self._tick(partition, message.tp, message.value)
                elif message.tp in self.paused:
                    self.paused.append(message.tp, message.value)
                else:
                    await self._batch(partition, message.tp, message.value)
            for tp in self.paused.of(message.partition):
                await self._take_up(tp)

    async def _take_up(self, tp: TP) -> None:
        """Process what is parked of a partition, as far as its time has come, a turn each."""
        while tp in self.paused:
            async with self._turn:
                partition = await self._at_hand(tp)
                topic, now = self._context.inputs[tp.topic], self._context.clock()
                if partition is None or tp not in self.paused or self._processor.waits(partition, topic, now):
                    return
                await self._batch(partition, tp, self.paused.take(tp))

    async def _at_hand(self, tp: TP) -> Partition | None:
        """Return the state of a partition that nothing is in flight of; None where it is another's by now."""
        await self._landed(tp.partition)
        partition = self._context.store().partition(tp.partition)
        if partition is None or not self._is_ours(tp):
            return None  # revoked meanwhile: the next owner reads it
        return await self._ownership.claimed(partition)  # else a rebalance is on its way

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Wait until all that was taken up is acknowledged, and let nothing begin meanwhile.

        Raises what a flight raised: the worker must not go on.
        """
        async with self._turn:
            for number in list(self._flights):
                await self._landed(number)
            yield

    async def _landed(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is not None:
            await flight  # one that failed stays: its rows are not in the changelog, and nothing may build on them
            self._flights.pop(number, None)

    def check(self) -> None:
        """Raise Fenced where it is not settled for long whose a partition is."""
        self._ownership.check()

    async def quiesce(self) -> None:
        """Return once no batch is in flight, and none can begin: called before partitions are given away.

        What was at hand is not taken up any more. It is fetched again, by us or by another.
        """
        async with self.quiet():
            self._context.store().suspend()
            self._probes.clear()
            self.paused.clear()
            self.ticked_at.clear()
            self.waiting.clear()
            self.metrics.lag = {}

    async def _batch(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        topic = self._context.inputs[tp.topic]
        if await self._has_gap(partition.next_offset(topic), tp, chunk):
            return
        started = time.monotonic()
        call = partial(self._processor.process, partition, topic, tp.topic, chunk.records, self._context.clock())
        effects = call() if len(chunk.records) <= SMALL_BATCH else await asyncio.to_thread(call)
        chunk, rest = parted(chunk, partition.next_offset(topic))
        if rest.records:
            self.paused.put_back(tp, rest)
        if not chunk.records:
            return
        if len(chunk.records) > SMALL_BATCH:
            self._context.consumer().note_pace(len(chunk.records), time.monotonic() - started)
        flight = self._finish(partition, tp, chunk, effects, started)
        self._flights[partition.number] = asyncio.create_task(flight, name=f"flight-{partition.number}")

    async def _finish(self, partition: Partition, tp: TP, chunk: Chunk, effects: Effects, started: float) -> None:
        topic = self._context.inputs[tp.topic]
        await self._ownership.perform(partition, effects)
        if self._context.store().partition(tp.partition) is partition:
            self._context.consumer().mark_applied(tp, partition.next_offset(topic))
        self.last_event_at = self._context.clock()
        self._observe(topic.label, effects, chunk, started)
        if effects.reasons:
            self._tell_dead_letters(tp, effects, chunk)

    async def _tick(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        tick = self._latest_tick(partition, chunk)
        more = tick is not None
        while more and tick is not None:
            effects = await asyncio.to_thread(self._processor.advance, partition, tick, self._context.clock())
            if effects.changelog:
                await self._ownership.perform(partition, effects)
                self.metrics.observe("ticks", effects)
                if (days := self._processor.coordinator) is not None:
                    await self.nudge(out.key for out in effects.outputs.get(days.topic, ()) if days.hear(*out[:2]))
                if self._context.store().partition(tp.partition) is not partition:
                    return  # it turned out to be another's
            more = effects.more
        await self._ownership.renew(partition)
        self._context.consumer().mark_applied(tp, chunk.records[-1].offset + 1)
        self.metrics.ticks.inc()
        self.ticked_at[partition.number] = time.monotonic()

    def _latest_tick(self, partition: Partition, chunk: Chunk) -> Watermark | None:
        """Return the last tick of this claim. What another owner had read, or we before a rebalance, proves nothing."""
        claim = self._context.store().claims[partition.number].encoded
        ticks = (decode_watermark(record.value) for record in reversed(chunk.records))
        ours = [tick for tick in ticks if tick is not None and tick.claim == claim]
        return next((tick for tick in ours if tick.time is not None), ours[0] if ours else None)

    async def nudge(self, keys: Iterable[bytes | None]) -> None:
        """Have partitions of ours go on at once, where records of other partitions may have been waited for."""
        news = set(keys)
        for number, claim in list(self._context.store().claims.items()):
            if CUTOFFS_KEY in news or (news and number == LEADER):
                tick = Watermark(None, claim.encoded)
                await self._context.producer().send(self._context.ticks, msgspec.json.encode(tick), partition=number)

    async def _has_gap(self, expected: int, tp: TP, chunk: Chunk) -> bool:
        """Whether records before the chunk are missing; has them fetched again. A hole in the log is no gap.

        It is a hole where the very first chunk fetched from there begins beyond it. A later one proves nothing: the
        first may have been lost again.
        """
        first = chunk.records[0].offset
        probed, epoch = self._probes.get(tp, (-1, 0))
        again = probed == expected
        if again and chunk.epoch < epoch:
            return True  # it was on its way when the partition was rewound
        if first <= expected or (again and chunk.number == 0):
            self._probes.pop(tp, None)
            return False
        log.info("fetching again: expected offset %d, found %d", expected, first, extra=_place(tp, expected))
        await self._seek_back(tp, expected)
        return True

    async def resume(self, tp: TP) -> None:
        """Have a partition that stands still fetched again from where its state is."""
        partition = self._context.store().partition(tp.partition)
        if partition is not None:
            await self._seek_back(tp, partition.next_offset(self._context.inputs[tp.topic]))

    async def _seek_back(self, tp: TP, offset: int) -> None:
        self.metrics.rewinds.inc()
        self.paused.drop(tp)
        self._probes[tp] = (offset, await self._context.consumer().seek_back(tp, offset))

    def _is_ours(self, tp: TP) -> bool:
        return tp in self._context.consumer().assignment()

    def _observe(self, topic: str, effects: Effects, chunk: Chunk, started: float) -> None:
        metrics = self.metrics
        metrics.observe(topic, effects)
        metrics.batch_size.observe(len(chunk.records))
        metrics.batch_seconds.observe(time.monotonic() - started)
        metrics.latency.observe(max(0, self._context.clock() - chunk.records[-1].timestamp) / 1000)

    def _tell_dead_letters(self, tp: TP, effects: Effects, chunk: Chunk) -> None:
        """Log that a batch held dead letters, now and then: a flood of them is counted, not told one by one."""
        now = time.monotonic()
        if now - self._told_at.get(tp, float("-inf")) >= TELL_S:
            self._told_at[tp] = now
            reasons = ", ".join(f"{reason.value} {count}" for reason, count in effects.reasons.items())
            log.warning(
                "dead letters in a batch up to this offset: %s", reasons, extra=_place(tp, chunk.records[-1].offset)
            )


def _place(tp: TP, offset: int) -> dict[str, Any]:
    return {"topic": tp.topic, "partition": tp.partition, "offset": offset}
