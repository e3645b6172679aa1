"""The worker: takes micro-batches and watermarks from Faust's stream, has them processed and performed, in order.

A batch's outputs are acknowledged, then its state, then its offset may be committed. Faust's batches are checked
against the progress that travels with the state: records that were applied are skipped, missing ones are fetched again.
An error of the broker ends the worker, and its supervisor restarts it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
from faust.types import TP

from streams.faust_ext.chunk import Chunk
from streams.metrics.collectors import Metrics
from streams.partition.cutoff_coordinator import CUTOFFS_KEY, LEADER
from streams.partition.effects import Effects
from streams.partition.processor import Processor
from streams.partition.state import Partition, Watermark, decode_watermark
from streams.worker.context import WorkerContext
from streams.worker.ownership import Ownership
from streams.worker.paused import Paused, split_at

log = logging.getLogger(__name__)

#: Batches of at most this many records are processed in the event loop: handing them to a thread would take longer.
SMALL_BATCH = 32
#: Dead letters of a partition are logged at most once in this interval (seconds).
DEAD_LETTER_LOG_S = 10.0


class Worker:
    """Processes the partitions that are ours, one batch or watermark at a time; large ones in a thread.

    While the effects of a batch wait for the broker, in *flight*, other partitions go on; the next batch of the same
    partition waits for it. `quiet()` waits until nothing is in flight.
    """

    def __init__(self, context: WorkerContext, processor: Processor, metrics: Metrics) -> None:
        self.metrics = metrics
        self._turn = asyncio.Lock()
        self._flights: dict[int, asyncio.Task[None]] = {}
        self.last_event_at = context.clock()
        self._advanced_at: dict[int, float] = {}
        self._waiting: Mapping[tuple[str, int], tuple[int, float]] = {}
        self._context = context
        self._processor = processor
        self._ownership = Ownership(context, processor, metrics)
        self._probes: dict[TP, tuple[int, int]] = {}
        self._logged_at: dict[TP, float] = {}
        self.paused = Paused(lambda tp, yes: context.consumer().pause(tp, yes))

    @property
    def advanced_at(self) -> Mapping[int, float]:
        """When (monotonic seconds) each partition applied its last watermark."""
        return self._advanced_at

    @property
    def waiting(self) -> Mapping[tuple[str, int], tuple[int, float]]:
        """Unread records by (input topic, partition) as of the last watermark, and since when none was applied."""
        return self._waiting

    def note_unread(
        self, lags: Mapping[tuple[str, int], int], waiting: Mapping[tuple[str, int], tuple[int, float]]
    ) -> None:
        """Note the unread records by (input topic, partition); `waiting` is without paused ones, as the property."""
        self._waiting = waiting
        self.metrics.note_lag(lags)

    async def run(self, events: AsyncIterator[Any]) -> None:
        """Process the messages of a Faust stream until it ends. Raises KafkaError, Fenced."""
        async for event in events:
            message = event.message
            async with self._turn:
                partition = await self._owned(message.tp)
                if partition is None:
                    continue
                if message.topic == self._context.ticks:
                    await self._advance(partition, message.tp, message.value)
                elif self._context.inputs[message.topic].label in partition.progress.lost:
                    pass  # it is fetched again from the beginning of the log once the loss is accepted
                elif message.tp in self.paused:
                    self.paused.append(message.tp, message.value)
                else:
                    await self._batch(partition, message.tp, message.value)
            for tp in self.paused.of(message.partition):
                await self._process_paused(tp)

    async def _process_paused(self, tp: TP) -> None:
        """Process the paused chunks of a partition whose time has come, one a turn."""
        while tp in self.paused:
            async with self._turn:
                partition = await self._owned(tp)
                topic, now = self._context.inputs[tp.topic], self._context.clock()
                if partition is None or tp not in self.paused or self._processor.waits(partition, topic, now):
                    return
                await self._batch(partition, tp, self.paused.take(tp))

    async def _owned(self, tp: TP) -> Partition | None:
        """Return the state of a partition once nothing of it is in flight; None if it is not ours any more."""
        await self._landed(tp.partition)
        partition = self._context.store().partition(tp.partition)
        if partition is None or not self._is_ours(tp):
            return None  # revoked meanwhile: the next owner reads the message
        return await self._ownership.claim(partition)  # None: a rebalance is on its way

    @asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Wait until every batch in flight is acknowledged, and let none begin inside the context.

        Raises the error of a flight that failed: the worker must not go on.
        """
        async with self._turn:
            for number in list(self._flights):
                await self._landed(number)
            yield

    async def _landed(self, number: int) -> None:
        flight = self._flights.get(number)
        if flight is not None:
            await flight  # a failed one stays: its rows are not in the changelog, and nothing may follow them
            self._flights.pop(number, None)

    def check(self) -> None:
        """Raise Fenced if the owner of a partition has not been settled for a minute."""
        self._ownership.check()

    async def release_partitions(self) -> None:
        """Close all partitions once no batch is in flight; called before partitions are given away.

        Chunks that were not processed are dropped. They are fetched again, by us or by another process.
        """
        async with self.quiet():
            self._context.store().suspend()
            self._probes.clear()
            self.paused.clear()
            self._advanced_at.clear()
            self.note_unread({}, {})

    async def _batch(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        topic = self._context.inputs[tp.topic]
        if await self._has_gap(partition.next_offset(topic), tp, chunk):
            return
        started = time.monotonic()
        call = partial(self._processor.process, partition, topic, tp.topic, chunk.records, self._context.clock())
        effects = call() if len(chunk.records) <= SMALL_BATCH else await asyncio.to_thread(call)
        chunk, rest = split_at(chunk, partition.next_offset(topic))
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
            self._log_dead_letters(tp, effects, chunk)

    async def note_loss(self, tp: TP, end: int) -> bool:
        """Note that an input log ended at an offset before what is applied: nothing more of it is applied.

        Return whether that is news. Raises KafkaError, Fenced.
        """
        async with self.quiet():
            partition = await self._owned(tp)
            if partition is None or not partition.lose(self._context.inputs[tp.topic].label, end):
                return False
            self.paused.drop(tp)
            await self._ownership.perform(partition, Effects(changelog=[partition.progress_row()]))
            return True

    async def _accept_losses(self, partition: Partition, chunk: Chunk) -> None:
        """Do what operators order among some watermarks: go on with topics that lost records."""
        orders = [decode_watermark(record.value) for record in chunk.records]
        labels = {order.accept_loss for order in orders if order is not None and order.accept_loss is not None}
        for name, topic in self._context.inputs.items():
            if topic.label in labels and partition.accept_loss(topic.label):
                tp = TP(name, partition.number)
                log.warning("the loss is accepted: the log is read from its beginning", extra=_place(tp, 0))
                await self._ownership.perform(partition, Effects(changelog=[partition.progress_row()]))
                await self._seek_back(tp, 0)

    async def _advance(self, partition: Partition, tp: TP, chunk: Chunk) -> None:
        await self._accept_losses(partition, chunk)
        watermark = self._latest_watermark(partition, chunk)
        more = watermark is not None
        while more and watermark is not None:
            effects = await asyncio.to_thread(self._processor.advance, partition, watermark, self._context.clock())
            if effects.changelog:
                await self._ownership.perform(partition, effects)
                self.metrics.observe("ticks", effects)
                if (coordinator := self._processor.coordinator) is not None:
                    records = effects.outputs.get(coordinator.topic, ())
                    await self.advance_after([out.key for out in records if coordinator.hear(out.key, out.value)])
                if self._context.store().partition(tp.partition) is not partition:
                    return  # another process owns it
            more = effects.more
        await self._ownership.renew(partition)
        self._context.consumer().mark_applied(tp, chunk.records[-1].offset + 1)
        self.metrics.ticks.inc()
        self._advanced_at[partition.number] = time.monotonic()

    def _latest_watermark(self, partition: Partition, chunk: Chunk) -> Watermark | None:
        """Return the last watermark under our claim. Others may rest on records that are not in our state."""
        claim = self._context.store().claims[partition.number].encoded
        watermarks = (decode_watermark(record.value) for record in reversed(chunk.records))
        ours = [each for each in watermarks if each is not None and each.claim == claim and each.accept_loss is None]
        return next((each for each in ours if each.time is not None), ours[0] if ours else None)

    async def advance_after(self, keys: Iterable[bytes | None]) -> None:
        """Let our partitions continue at once if they may wait for records of the internal topic with these keys."""
        news = set(keys)
        for number, claim in list(self._context.store().claims.items()):
            if CUTOFFS_KEY in news or (news and number == LEADER):
                value = msgspec.json.encode(Watermark(None, claim.encoded))
                await self._context.producer().send(self._context.ticks, value, partition=number)

    async def _has_gap(self, expected: int, tp: TP, chunk: Chunk) -> bool:
        """Return whether records before the chunk are missing, and fetch them again. A hole in the log is no gap.

        It is a hole if the first chunk fetched from there begins after it. A later chunk does not show that: the first
        one may have been lost again.
        """
        first = chunk.records[0].offset
        probed, epoch = self._probes.get(tp, (-1, 0))
        again = probed == expected
        if again and chunk.epoch < epoch:
            return True  # it was on its way when the partition was sought
        if first <= expected or (again and chunk.number == 0):
            self._probes.pop(tp, None)
            if first > expected:
                await self._note_hole(tp, expected, first)
            return False
        log.info("fetching again: expected offset %d, found %d", expected, first, extra=_place(tp, expected))
        await self._seek_back(tp, expected)
        return True

    async def _note_hole(self, tp: TP, expected: int, first: int) -> None:
        """Say what retention took before it was read. Offsets of markers, and those compaction took, are no loss."""
        label = self._context.inputs[tp.topic].label
        partition = self._context.store().partition(tp.partition)
        if partition is None or label not in partition.progress.applied:
            return  # nothing was read of it before: it is read from where it begins
        lost = min(first, await self._context.consumer().beginning(tp)) - expected
        if lost > 0:
            self.metrics.lost_records.labels(label).inc(lost)
            log.warning(
                "%d records are lost: they were deleted before they were read. The log begins at offset %d, the "
                "records before %d are applied; see TidemarkRecordsLost in docs/runbook.md",
                lost,
                expected + lost,
                expected,
                extra=_place(tp, expected),
            )

    async def resume(self, tp: TP) -> None:
        """Fetch a partition that makes no progress again, from the offset of its state."""
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

    def _log_dead_letters(self, tp: TP, effects: Effects, chunk: Chunk) -> None:
        """Log that a batch held dead letters, at most once an interval: a flood of them is only counted."""
        now = time.monotonic()
        if now - self._logged_at.get(tp, float("-inf")) >= DEAD_LETTER_LOG_S:
            self._logged_at[tp] = now
            reasons = ", ".join(f"{reason.value} {count}" for reason, count in effects.reasons.items())
            log.warning(
                "dead letters in a batch up to this offset: %s", reasons, extra=_place(tp, chunk.records[-1].offset)
            )


def _place(tp: TP, offset: int) -> dict[str, Any]:
    return {"topic": tp.topic, "partition": tp.partition, "offset": offset}
