"""Micro-batches inside Faust: one stream event per fetched chunk of a partition, and commits that follow the state.

Stock Faust pays several asyncio hops a record; here `getmany` yields one message whose value is a `Chunk` of records.
A commit does not follow Faust's acknowledgements but what the worker has applied, so it never outruns the state.
Fetching, seeking and committing are in `streams.faust_ext.consumer_thread`, recovery in `streams.faust_ext.recovery`;
assignment and rebalance are Faust's. The contract tests in tests/streams/faust_ext pin every internal that this uses.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, ClassVar, cast

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.faust_ext.chunk import Chunk
from streams.faust_ext.consumer_thread import MicroBatchThread


class MicroBatchConsumer(driver.Consumer):
    """Faust's consumer; it yields one message a chunk and commits what was applied."""

    _thread: MicroBatchThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._applied: dict[TP, int] = {}
        self._paused: set[TP] = set()

    def is_paused(self, tp: TP) -> bool:
        """Return whether a partition of ours is not fetched for now."""
        return tp in self._paused

    @property
    def holds_back(self) -> bool:
        """Whether any partition is paused, here or by Faust because the stream's queue is full."""
        return bool(self._paused or self._buffered_partitions)

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
                return  # the rest is fetched again: the worker sees the gap and seeks back
            if tp in active or tp in self._buffered_partitions:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                # Faust would drop records before its own reading position, which may be wrong: a chunk that was on its
                # way during a seek sets it. The worker knows what is repeated or missing.
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
            cast("Any", chunk),  # not bytes: `RawSchema` leaves it as it is
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit, unless the app has crashed: the thread that commits has ended then, and would never answer."""
        return not self.app.crashed and await super()._commit(offsets)

    async def seek_back(self, tp: TP, offset: int) -> int:
        """Fetch a partition again from `offset` on; return the epoch of the chunks that will come."""
        return await self._thread.seek_back(tp, offset)

    def note_pace(self, records: int, seconds: float) -> None:
        """Note how long (seconds) processing a batch took; the size of the next ones follows it."""
        self._thread.note_pace(records, seconds)

    def epoch(self, tp: TP) -> int:
        """Return the epoch of the chunks that are fetched now."""
        return self._thread.epoch(tp)

    async def reached_end(self, tp: TP, end: int) -> bool:
        """Return whether reading has reached the offset `end` since the last seek without a single record."""
        return await self._thread.reached_end(tp, end)

    async def open_records(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Return how many offsets lie beyond the last stable one, by partition that has any, as of the last fetch."""
        return await self._thread.open_records(tps)

    async def log_ends(self, tps: Iterable[TP]) -> dict[TP, tuple[int, int, int]]:
        """Return the ends of logs: as listed last, as of the last fetch, and when that was (ms; 0: never)."""
        return await self._thread.log_ends(tps)

    async def committed(self, tp: TP) -> int:
        """Return the offset that the group has committed of a partition; 0 if there is none. Raises KafkaError."""
        return await self._thread.committed(tp)

    async def beginning(self, tp: TP) -> int:
        """Return the first offset of a log. Raises KafkaError."""
        begins: Mapping[TP, int] = await self._thread.earliest_offsets(tp)
        return begins[tp]

    async def still_owner(self, tp: TP, offset: int) -> bool:
        """Return whether the group still accepts us as the owner of a partition. Raises KafkaError."""
        return await self._thread.still_owner(tp, offset)

    def mark_applied(self, tp: TP, next_offset: int) -> None:
        """Note that everything before `next_offset` is in the acknowledged state, and so may be committed."""
        self._applied[tp] = next_offset

    def pause(self, tp: TP, yes: bool) -> None:
        """Stop fetching a partition, or fetch it again. Records that are on their way still come."""
        if yes:
            self._paused.add(tp)
        else:
            self._paused.discard(tp)

    def forget(self, tps: Iterable[TP]) -> None:
        """Drop the applied offsets of partitions that are no longer ours."""
        for tp in tps:
            self._applied.pop(tp, None)

    def _new_offset(self, tp: TP) -> int | None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._applied.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: the offsets inside a chunk are no gap, and commits do not follow acknowledgements."""


class MicroBatchTransport(driver.Transport):
    """Faust's Kafka transport with the micro-batched consumer."""

    Consumer: ClassVar[type[MicroBatchConsumer]] = MicroBatchConsumer
