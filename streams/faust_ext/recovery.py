"""Recovery that begins where the rows end and misses no chunk.

Compaction leaves holes in a changelog, so offsets do not show whether a chunk is missing between two others. If one is,
customers lose rows. Stock Faust can lose chunks in three ways, which are closed here:

* A chunk that is fetched before a rebalance and taken from the queue after it moves the offset from which Faust
  continues. Such chunks are dropped before Faust sees them, and each recovery asks the store where its rows end.
* A fetch that is under way while recovery seeks a partition takes the first chunk from there, and Faust drops it.
  `streams.faust_ext.fetch_filter` leaves records of inactive partitions in the fetcher.
* Faust empties this queue when it resumes the flow, while chunks of standby partitions are in it. This queue is not
  emptied.

Besides, chunks are numbered: if one is missing all the same, the partition is read again from the end of the last one.
`streams.faust_ext.memory_store` decides which rows count.
"""

import logging
from collections import Counter
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, AppT, EventT
from faust.types.transports import ConsumerT
from mode.utils.queues import ThrowableQueue

from streams.faust_ext.chunk import Chunk
from streams.faust_ext.consumer import MicroBatchConsumer

log = logging.getLogger(__name__)


class ChangelogQueue(ThrowableQueue[EventT[Any]]):
    """Chunks of the changelog on their way to recovery, which gets those of each partition without a gap."""

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(flow_control=app.flow_control, **kwargs)
        self._app = app
        self._next: dict[TP, tuple[int, int]] = {}

    async def get(self) -> EventT[Any]:
        """Return the next chunk that belongs to the current assignment and the current seek."""
        while True:
            event: EventT[Any] = await super().get()
            if await self._follows(event.message):
                return event

    async def _follows(self, message: Any) -> bool:
        """Return whether a chunk is the next one; if one is missing before it, seek back to the end of the last one."""
        tp, chunk = message.tp, cast("Chunk", message.value)
        consumer = cast("MicroBatchConsumer", self._app.consumer)
        if message.generation_id != self._app.consumer_generation_id or chunk.epoch != consumer.epoch(tp):
            return False
        epoch, number = self._next.get(tp, (chunk.epoch, 0))
        if chunk.number != (number if epoch == chunk.epoch else 0):
            read = cast("StateTables", self._app.tables).read_to(tp)
            log.warning("a chunk of the changelog was lost: it is read again", extra={"partition": tp.partition})
            await consumer.seek_back(tp, read + 1)
            return False
        self._next[tp] = (chunk.epoch, chunk.number + 1)
        return True


class StateRecovery(Recovery):
    """Faust's recovery, which begins here at the end of the rows in the store."""

    async def _build_offsets(self, consumer: ConsumerT, tps: set[TP], destination: "Counter[TP]", title: str) -> None:
        for tp in tps:
            destination[tp] = self.tp_to_table[tp].persisted_offset(tp)  # type: ignore[assignment]  # None: from the start
        await super()._build_offsets(consumer, tps, destination, title)


class StateTables(TableManager):
    """Faust's tables with this queue and this recovery."""

    def read_to(self, tp: TP) -> int:
        """Return the last changelog offset of a partition that recovery got, or that its rows include; -1 if none."""
        recovery = self.recovery
        offsets = recovery.active_offsets if tp in recovery.active_tps else recovery.standby_offsets
        known = offsets.get(tp)
        return -1 if known is None else known

    def remaining(self) -> dict[int, int]:
        """Return how many changelog records recovery has still to read of each active partition, by its number."""
        return {tp.partition: count for tp, count in self.recovery.active_remaining().items()}

    @property
    def changelog_queue(self) -> ThrowableQueue[Any]:
        """The queue between the consumer and recovery."""
        if self._changelog_queue is None:
            self._changelog_queue = ChangelogQueue(self.app, maxsize=self.app.conf.stream_buffer_maxsize)
        return self._changelog_queue

    @property
    def recovery(self) -> Recovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
