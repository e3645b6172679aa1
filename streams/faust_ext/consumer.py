"""Micro-batches inside Faust: one stream event per fetched chunk of a partition, and commits that follow the state.

Stock Faust pays several asyncio hops a record; here `getmany` yields one message whose value is a `Chunk` of
records. What is committed is not what was acknowledged but what the worker says it has applied, so a commit can
never outrun the state. The rest of Faust (assignment, recovery, rebalance) is untouched. The contract tests in
tests/streams/faust_ext/test_consumer.py pin every internal of Faust that this relies on.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple, cast

import faust
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.faust_ext.fetched_records import hand_on_as_decoded

log = logging.getLogger(__name__)

#: How long (ms) a broker may hold a fetch that finds nothing. Faust fixes it at 1,500, which is as good where the
#: broker answers as soon as something comes, as Kafka does; Tansu looks again only after half of it.
FETCH_WAIT_MS = 50

#: How long (seconds) a fetch may wait until it looks again what is wanted: the fetcher does not tell of that. The
#: shorter is for while a partition is held back until the stream's queue has drained, which takes a batch or two.
#: Meanwhile its records, fetched already, keep the fetcher from asking that broker for others.
LOOK_S, LOOK_HELD_BACK_S = 0.1, 0.005

#: About how long (seconds) processing a batch may take: it is waited for when partitions are given away. Until it is
#: known how fast that goes, so many records a second are reckoned with.
BATCH_S, FIRST_PACE = 5.0, 4_000.0

#: How often (a second apart) the group is asked whether a partition is ours.
_ATTEMPTS = 30


class Chunk(NamedTuple):
    """Consecutive records of one partition. They were fetched after seek `epoch`, as chunk `number` (from 0).

    So whoever takes chunks in knows whether one was lost on its way. Offsets do not tell: logs have holes.
    """

    records: list[ConsumerRecord]
    epoch: int
    number: int = 0


class FetchFilter:
    """The partitions whose records are wanted, as of when it is asked. What is not wanted stays in the fetcher.

    A fetch may wait for a second, and a whole rebalance passes meanwhile. Faust hands it the set of active partitions,
    which is empty then. To aiokafka that means all: it would give out what Faust drops, and read on behind it.
    """

    def __init__(self, consumer: Any, active: Container[TP]) -> None:
        self._consumer = consumer
        self._active = active

    def __contains__(self, tp: object) -> bool:
        return self._consumer.flow_active and tp in self._active and tp not in self._consumer.set_aside

    @property
    def look_s(self) -> float:
        """How long (seconds) to wait before what is wanted is looked at again."""
        consumer = self._consumer
        held_back = consumer.set_aside or consumer._buffered_partitions  # noqa: SLF001  # Faust tells nobody
        return LOOK_HELD_BACK_S if held_back else LOOK_S


class SinglePartitionFilter:
    """Of what is wanted the first partition that is asked for, which is `found`, and none that is `passed` over."""

    def __init__(self, wanted: FetchFilter, passed: Container[object]) -> None:
        self._wanted = wanted
        self._passed = passed
        self.found: object = None

    def __contains__(self, tp: object) -> bool:
        if self.found is None and tp not in self._passed and tp in self._wanted:
            self.found = tp
        return self.found is not None and tp == self.found


class RawSchema(faust.Schema[Any, Any]):
    """Hands keys and values on as they came: what they mean is not Faust's business here."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the key untouched."""
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002  # Faust's signature
        """Return the value untouched."""
        return message.value


class MicroBatchThread(driver.AIOKafkaConsumerThread):
    """The consumer thread: gives each chunk the epoch of its partition and its number, atomically with the fetch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epochs: dict[TP, int] = {}
        self._fetched: Counter[TP] = Counter()
        self._last: set[TP] = set()  # the partitions of which the last fetch had records
        #: Records a second that are processed, as of late.
        self.pace = FIRST_PACE

    async def on_start(self) -> None:
        """Start the consumer."""
        await super().on_start()
        hand_on_as_decoded(self._ensure_consumer())

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001  # read when it starts; Faust has no setting for it
        return consumer

    async def _fetch_records(  # type: ignore[override]  # chunks take the place of lists of records
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  # Faust's
        max_records: int | None = None,
    ) -> dict[TP, Chunk]:
        wanted = FetchFilter(self.consumer, active_partitions)
        until = time.monotonic() + (timeout or 0.0)
        chunks: dict[TP, Chunk] = {}
        while not chunks and self.consumer.flow_active and (left := until - time.monotonic()) > 0:
            # In recovery all that was fetched, so that the last produce batch of a changelog is never taken in part.
            most = None if self.app.in_recovery else self._most(max_records)
            if most is not None:
                chunks = await self._in_turn(consumer, wanted, most)
            if not chunks:
                chunks = await self._take(consumer, wanted, min(left, wanted.look_s), most)
        self._last = set(chunks)
        return chunks

    async def _take(
        self, consumer: AIOKafkaConsumer, wanted: Container[object], wait_s: float, most: int | None
    ) -> dict[TP, Chunk]:
        """Return what comes of the wanted partitions within `wait_s` (seconds), at most so many records, numbered."""
        fetched: Mapping[Any, list[ConsumerRecord]]
        fetched = await super()._fetch_records(consumer, cast("Any", wanted), wait_s, most)
        return {
            (tp := TP(partition.topic, partition.partition)): self._chunk(tp, records)
            for partition, records in fetched.items()
        }

    def _most(self, max_records: int | None) -> int | None:
        """Return how many records to take at once: as many as are processed in a few seconds."""
        return max_records and min(max_records, max(1, int(self.pace * BATCH_S)))

    async def _in_turn(self, consumer: AIOKafkaConsumer, wanted: FetchFilter, most: int) -> dict[TP, Chunk]:
        """Return what is at hand of partitions that the last fetch had nothing of, and one after another.

        A batch waits until the one before of its own partition is acknowledged; that of another can be processed
        meanwhile. And what is left of `most` (records) is no reason to tear the next partition's in two: the larger a
        batch, the oftener its customers come in it.
        """
        chunks: dict[TP, Chunk] = {}
        passed: set[object] = set(self._last)
        left = most
        while left > most // 2:
            turn = SinglePartitionFilter(wanted, passed)
            try:
                taken = await self._take(consumer, turn, 0.0, left)
            except KafkaError:
                if not chunks:
                    raise
                break  # the next fetch tells it: what was taken by now must not be lost
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
        """Return how often a partition was sought: only chunks of this epoch were fetched from where it was."""
        return self._epochs.get(tp, 0)

    def _sought(self, tp: TP) -> None:
        self._epochs[tp] = self.epoch(tp) + 1
        del self._fetched[tp]

    async def _seek_wait(self, consumer: AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        """Seek where recovery begins to read. What was fetched before, and is still on its way, is of another epoch."""
        for tp in partitions:
            self._sought(tp)
        await super()._seek_wait(consumer, partitions)  # which seeks before it first waits

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; what fails is told and left to the next commit. Faust would end the worker.

        Committed offsets are a hint where to begin reading: what is applied is known from the state.
        """
        assigned = self.assignment()
        ours = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items() if tp in assigned}
        if not ours:
            return False
        try:
            await self._ensure_consumer().commit(ours)
        except KafkaError as error:
            log.warning("offsets could not be committed, the next commit will do: %r", error)
            cast("Any", self.app).metrics.commit_errors.inc()
            return False
        return True

    async def still_owner(self, tp: TP, offset: int) -> bool:
        """Commit an offset, and say whether the group took it: it refuses whoever is no member any more.

        Raises KafkaError where there is neither yes nor no for long.
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
        """Seek to the committed offsets; where partitions are being taken away, the next rebalance does it."""
        try:
            return await super().seek_to_committed()
        except IllegalStateError as error:
            log.info("partitions moved while they were sought: %r", error)
            return {}

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        """Return the end offsets, or what a fetch has told where that is later (Tansu's list of offsets is behind)."""
        ends: Mapping[TP, int] = await super()._highwaters(partitions)
        consumer, assigned = self._ensure_consumer(), self.assignment()
        told = {tp: consumer.highwater(tp) or 0 if tp in assigned else 0 for tp in ends}
        return {tp: max(end, told[tp]) for tp, end in ends.items()}

    async def seek_back(self, tp: TP, offset: int) -> int:
        """Seek in the thread that fetches; return the epoch of what is fetched from now on."""
        return await self.call_thread(self._seek_back, tp, offset)  # type: ignore[no-any-return]  # untyped upstream

    async def _seek_back(self, tp: TP, offset: int) -> int:
        if tp in self.assignment():  # else it was given away meanwhile: the next owner fetches it
            self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)
            self._sought(tp)
        return self.epoch(tp)

    async def reached_end(self, tp: TP, end: int) -> bool:
        """Whether reading has come to `end` since the last rewind without a single record."""
        return await self.call_thread(self._reached_end, tp, end)  # type: ignore[no-any-return]  # untyped upstream

    async def _reached_end(self, tp: TP, end: int) -> bool:
        try:
            position: int = await self._ensure_consumer().position(driver.ensure_aiokafka_TP(tp))
        except IllegalStateError:  # it is being given to somebody else
            return False
        # Where the position is does not say it alone: records that are on their way have moved it.
        return position >= end and not self._fetched[tp]


class MicroBatchConsumer(driver.Consumer):
    """Faust's consumer, yielding one message a chunk and committing what was applied."""

    _thread: MicroBatchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied: dict[TP, int] = {}
        #: Partitions that are ours, and of which no records are wanted for now.
        self.set_aside: set[TP] = set()

    def _new_consumer_thread(self) -> MicroBatchThread:
        return MicroBatchThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109  # Faust's
        """Yield (partition, message) for each fetched chunk; the message's offset is that of its last record."""
        records, active = await self._wait_next_records(timeout)
        fetched: Any = records or {}  # of chunks: what our thread returns
        active = active or set()
        generation = self.app.consumer_generation_id
        if self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        for tp, chunk in fetched.items():
            if not self.flow_active or self.app.consumer_generation_id != generation:  # type: ignore[redundant-expr]  # others change it
                return  # what is left over is fetched again: the worker sees the gap and rewinds
            if tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                # Faust would drop what lies before its own reading position, and that may be stale: a chunk that was
                # on its way while the partition was rewound sets it. The worker knows what is repeated or missing.
                self._read_offset[tp] = None
                yield tp, self._message(tp, chunk)

    def _message(self, tp: TP, chunk: Chunk) -> ConsumerMessage:
        last = chunk.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            last.headers,
            None,
            cast("Any", chunk),  # not bytes: `RawSchema` hands it on
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, but not where the worker cannot go on: the thread that commits has ended, and would never answer."""
        return not self.app.crashed and await super()._commit(offsets)

    async def seek_back(self, tp: TP, offset: int) -> int:
        """Have a partition fetched again from `offset` on; return the epoch of the chunks that will come."""
        return await self._thread.seek_back(tp, offset)

    def note_pace(self, records: int, seconds: float) -> None:
        """Say how long processing a batch took: the next ones shall be as large as can be done in a few seconds."""
        self._thread.pace = (self._thread.pace + records / seconds) / 2

    def epoch(self, tp: TP) -> int:
        """Return the epoch of the chunks that are fetched now."""
        return self._thread.epoch(tp)

    async def reached_end(self, tp: TP, end: int) -> bool:
        """Whether reading has come to `end` since the last rewind without a single record."""
        return await self._thread.reached_end(tp, end)

    async def still_owner(self, tp: TP, offset: int) -> bool:
        """Say whether the group still takes us for the owner of a partition."""
        return await self._thread.still_owner(tp, offset)

    def mark_applied(self, tp: TP, next_offset: int) -> None:
        """Say that everything before `next_offset` is in the acknowledged state, and so may be committed."""
        self._applied[tp] = next_offset

    def pause(self, tp: TP, yes: bool) -> None:
        """Have a partition fetched no more, or again. What is on its way still comes."""
        if yes:
            self.set_aside.add(tp)
        else:
            self.set_aside.discard(tp)

    def forget(self, tps: Iterable[TP]) -> None:
        """Drop what is known of partitions that are no longer ours."""
        for tp in tps:
            self._applied.pop(tp, None)

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._applied.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: the offsets inside a chunk are no gap, and commits do not follow acknowledgements."""


class MicroBatchTransport(driver.Transport):
    """Faust's Kafka transport with the micro-batched consumer."""

    Consumer: ClassVar[type[MicroBatchConsumer]] = MicroBatchConsumer
