"""The consumer thread: it fetches chunks, numbers them, seeks, commits, and asks the group who owns a partition."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any, cast

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.faust_ext.chunk import Chunk
from streams.faust_ext.fetch_filter import FetchFilter, FetchingConsumer, SinglePartitionFilter
from streams.faust_ext.fetched_records import return_decoded_records
from streams.kafka.bounded_batches import bound_batches

log = logging.getLogger(__name__)

#: How long (ms) a broker may hold a fetch that finds nothing. Faust fixes it at 1,500, which is as good if the broker
#: answers as soon as something comes, as Kafka does; Tansu looks again only after half of it.
FETCH_WAIT_MS = 50

#: About how long (seconds) processing a batch may take: a rebalance waits for it. Until the pace is measured, it is
#: assumed to be this number of records a second.
BATCH_S, FIRST_PACE = 5.0, 4_000.0

#: How often (a second apart) the group is asked whether a partition is ours.
_ATTEMPTS = 30


class MicroBatchThread(driver.AIOKafkaConsumerThread):
    """Faust's consumer thread; it gives each chunk its epoch and number, atomically with the fetch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epochs: dict[TP, int] = {}
        self._fetched: Counter[TP] = Counter()
        self._last: set[TP] = set()  # the partitions of which the last fetch had records
        self._listed: dict[TP, int] = {}
        self._pace = FIRST_PACE  # records a second that are processed, a running mean

    async def on_start(self) -> None:
        """Start the consumer."""
        await super().on_start()
        return_decoded_records(self._ensure_consumer())

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        bound_batches()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001  # read when it starts; Faust has no setting for it
        consumer._isolation_level = "read_committed"  # noqa: SLF001  # the same; with it, ends are last stable offsets
        return consumer

    async def _fetch_records(  # type: ignore[override]  # it returns chunks, not lists of records
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's
        max_records: int | None = None,
    ) -> dict[TP, Chunk]:
        to_fetch = FetchFilter(cast("FetchingConsumer", self.consumer), active_partitions)
        until = time.monotonic() + (timeout or 0.0)
        chunks: dict[TP, Chunk] = {}
        while not chunks and self.consumer.flow_active and (left := until - time.monotonic()) > 0:
            # In recovery everything fetched is taken, so that a changelog's last produce batch is never split.
            most = None if self.app.in_recovery else self._most(max_records)
            if most is not None:
                chunks = await self._in_turn(consumer, to_fetch, most)
            if not chunks:
                chunks = await self._take(consumer, to_fetch, min(left, to_fetch.look_s), most)
        self._last = set(chunks)
        return chunks

    async def _take(
        self, consumer: AIOKafkaConsumer, to_fetch: Container[object], wait_s: float, most: int | None
    ) -> dict[TP, Chunk]:
        """Return numbered chunks of some partitions: at most `most` records that come within `wait_s` (seconds)."""
        fetched: Mapping[Any, list[ConsumerRecord]]
        fetched = await super()._fetch_records(consumer, cast("Any", to_fetch), wait_s, most)
        return {
            (tp := TP(partition.topic, partition.partition)): self._chunk(tp, records)
            for partition, records in fetched.items()
        }

    def _most(self, max_records: int | None) -> int | None:
        """Return how many records to take at once: those that can be processed in a few seconds."""
        return max_records and min(max_records, max(1, int(self._pace * BATCH_S)))

    def note_pace(self, records: int, seconds: float) -> None:
        """Note how long (seconds) processing a batch took; the size of the next ones follows it."""
        self._pace = (self._pace + records / seconds) / 2

    async def _in_turn(self, consumer: AIOKafkaConsumer, to_fetch: FetchFilter, most: int) -> dict[TP, Chunk]:
        """Return records at hand of partitions that the last fetch had none of, one partition after another.

        A batch waits until the one before it of the same partition is acknowledged; a batch of another partition can
        be processed meanwhile. The rest of `most` (records) does not split the next partition's batch if it is small:
        in a large batch the same customers come more often, and each is read and written once.
        """
        chunks: dict[TP, Chunk] = {}
        passed: set[object] = set(self._last)
        left = most
        while left > most // 2:
            turn = SinglePartitionFilter(to_fetch, passed)
            try:
                taken = await self._take(consumer, turn, 0.0, left)
            except KafkaError:
                if not chunks:
                    raise
                break  # the next fetch raises it again: the records taken so far must not be lost
            if turn.found is None:
                break
            passed.add(turn.found)
            chunks |= taken
            left -= sum(len(chunk.records) for chunk in taken.values())
        return chunks

    def _chunk(self, tp: TP, records: list[ConsumerRecord]) -> Chunk:
        number = self._fetched[tp]
        self._fetched[tp] += 1
        return Chunk(records, self.epoch(tp), number)

    def epoch(self, tp: TP) -> int:
        """Return how often a partition was sought: chunks of another epoch were fetched from an earlier position."""
        return self._epochs.get(tp, 0)

    def _sought(self, tp: TP) -> None:
        self._epochs[tp] = self.epoch(tp) + 1
        del self._fetched[tp]

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Seek to where recovery begins. Records that were fetched before and still arrive are of another epoch."""
        for tp in partitions:
            self._sought(tp)
        await super()._seek_wait(consumer, partitions)  # it seeks before it first waits

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit. A failure is logged and left to the next commit; stock Faust would end the worker.

        Committed offsets are only a hint where to begin reading: the state says what is applied.
        """
        assigned = self.assignment()
        ours = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in assigned}
        if not ours:
            return False
        try:
            await self._ensure_consumer().commit(ours)
        except KafkaError as error:
            log.warning("offsets could not be committed; the next commit includes them: %r", error)
            cast("Any", self.app).metrics.commit_errors.inc()
            return False
        return True

    async def still_owner(self, tp: TP, offset: int) -> bool:
        """Commit an offset, and return whether the group took it: it refuses a process that is no longer a member.

        Raises KafkaError if the group does not answer for half a minute.
        """
        return await self.call_thread(self._still_owner, tp, offset)  # type: ignore[no-any-return]  # untyped upstream

    async def _still_owner(self, tp: TP, offset: int) -> bool:
        for attempt in range(_ATTEMPTS):
            if tp not in self.assignment():
                return False
            try:
                await self._ensure_consumer().commit({driver.ensure_aiokafka_TP(tp): offset})
            except (CommitFailedError, IllegalStateError):
                return False  # the client joins again by itself
            except KafkaError as error:
                log.warning("the group does not answer: %r", error)
                if attempt == _ATTEMPTS - 1:
                    raise
                await asyncio.sleep(1.0)
            else:
                return True
        return False

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to the committed offsets; if partitions are being taken away, the next rebalance does it."""
        try:
            return await super().seek_to_committed()
        except IllegalStateError as error:
            log.info("partitions moved while they were sought: %r", error)
            return {}

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        """Return the last stable offsets, or those of the last fetch if they are later (Tansu's list lags)."""
        ends: Mapping[TP, int] = await super()._highwaters(partitions)
        self._listed.update(ends)
        consumer, assigned = self._ensure_consumer(), self.assignment()
        fetched = {tp: consumer.last_stable_offset(tp) or 0 if tp in assigned else 0 for tp in ends}
        return {tp: max(end, fetched[tp]) for tp, end in ends.items()}

    async def open_records(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return how many offsets lie beyond the last stable one, by partition that has any, as of the last fetch."""
        return await self.call_thread(self._open_records, tps)  # type: ignore[no-any-return]  # untyped upstream

    async def _open_records(self, tps: Iterable[TP]) -> dict[TP, int]:
        consumer, assigned = self._ensure_consumer(), self.assignment()
        found: dict[TP, int] = {}
        for tp in tps:
            end = consumer.highwater(tp) if tp in assigned else None
            stable = consumer.last_stable_offset(tp) if end is not None else None
            # A broker without transactions answers None or -1.
            if end is not None and stable is not None and 0 <= stable < end:
                found[tp] = end - stable
        return found

    async def log_ends(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int, int]]:
        """Return the ends of logs: as listed last, as of the last fetch, and when that was (ms; 0: never)."""
        return await self.call_thread(self._log_ends, tps)  # type: ignore[no-any-return]  # untyped upstream

    async def _log_ends(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int, int]]:
        consumer, assigned = self._ensure_consumer(), self.assignment()
        ends: dict[TP, tuple[int, int, int]] = {}
        for tp in tps:
            if tp in assigned and tp in self._listed:
                stable = consumer.last_stable_offset(tp)
                # A broker without transactions answers None or -1.
                end = consumer.highwater(tp) if stable is None or stable < 0 else stable
                ends[tp] = self._listed[tp], end or 0, int(consumer.last_poll_timestamp(tp) or 0)
        return ends

    async def committed(self, tp: TP) -> int:
        """Return the offset that the group has committed of a partition; 0 if there is none."""
        return await self.call_thread(self._committed, tp)  # type: ignore[no-any-return]  # untyped upstream

    async def _committed(self, tp: TP) -> int:
        return await self._ensure_consumer().committed(driver.ensure_aiokafka_TP(tp)) or 0

    async def seek_back(self, tp: TP, offset: int) -> int:
        """Seek in the thread that fetches; return the epoch of the chunks fetched from now on."""
        return await self.call_thread(self._seek_back, tp, offset)  # type: ignore[no-any-return]  # untyped upstream

    async def _seek_back(self, tp: TP, offset: int) -> int:
        if tp in self.assignment():  # else it was given away meanwhile: the next owner fetches it
            self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)
            self._sought(tp)
        return self.epoch(tp)

    async def reached_end(self, tp: TP, end: int) -> bool:
        """Return whether reading has reached the offset `end` since the last seek without a single record."""
        return await self.call_thread(self._reached_end, tp, end)  # type: ignore[no-any-return]  # untyped upstream

    async def _reached_end(self, tp: TP, end: int) -> bool:
        try:
            position: int = await self._ensure_consumer().position(driver.ensure_aiokafka_TP(tp))
        except IllegalStateError:  # it is being given away
            return False
        # The position alone does not show it: records that are on their way have moved it.
        return position >= end and not self._fetched[tp]
