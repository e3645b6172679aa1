"""Recovery that begins where the rows end and misses no chunk, whatever Faust makes of those on their way.

Compaction leaves holes in a changelog, so that offsets do not tell whether a chunk is missing between two others. If
one is, customers lose rows. Three ways in which that could happen are closed:

* A chunk that was fetched before a rebalance and taken from the queue after it moved on the offset from which Faust
  goes on reading. Such chunks are dropped before Faust sees them, and each recovery asks the store how far its rows go.
* A fetch that was under way as recovery sought a partition took the first chunk from there, and Faust dropped it.
  `streams.faust_ext.consumer` leaves in the fetcher what is not wanted yet.
* Faust empties this queue as it resumes the flow, which standby partitions are in by then. It is not emptied here.

Besides, chunks are numbered: where one is missing all the same, the partition is read again from the end of the last.
Which rows count is `streams.faust_ext.memory_store`'s business.
"""

import logging
from collections import Counter
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, AppT, EventT
from faust.types.transports import ConsumerT
from mode.utils.queues import ThrowableQueue

from streams.faust_ext.consumer import Chunk, MicroBatchConsumer

log = logging.getLogger(__name__)


class ChangelogQueue(ThrowableQueue[EventT[Any]]):
    """Chunks of the changelog on their way to recovery, which is given each partition's without a gap."""

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(flow_control=app.flow_control, **kwargs)
        self._app = app
        self._next: dict[TP, tuple[int, int]] = {}

    async def get(self) -> EventT[Any]:
        """Return the next chunk of the assignment, and of the place it was sought to, that hold."""
        while True:
            event: EventT[Any] = await super().get()
            if await self._follows(event.message):
                return event

    async def _follows(self, message: Any) -> bool:
        """Whether a chunk is the next one; where it comes too soon, the partition is rewound to the end of the last."""
        tp, chunk = message.tp, cast("Chunk", message.value)
        consumer = cast("MicroBatchConsumer", self._app.consumer)
        if message.generation_id != self._app.consumer_generation_id or chunk.epoch != consumer.epoch(tp):
            return False
        epoch, number = self._next.get(tp, (chunk.epoch, 0))
        if chunk.number != (number if epoch == chunk.epoch else 0):
            read = cast("StateTables", self._app.tables).read_to(tp)
            log.warning("a chunk of the changelog was lost: reading again", extra={"partition": tp.partition})
            await consumer.seek_back(tp, read + 1)
            return False
        self._next[tp] = (chunk.epoch, chunk.number + 1)
        return True


class StateRecovery(Recovery):
    """Faust's recovery, beginning at the end of the rows that the store has."""

    async def _build_offsets(self, consumer: ConsumerT, tps: set[TP], destination: "Counter[TP]", title: str) -> None:
        for tp in tps:
            destination[tp] = self.tp_to_table[tp].persisted_offset(tp)  # type: ignore[assignment]  # None: from the start
        await super()._build_offsets(consumer, tps, destination, title)


class StateTables(TableManager):
    """Faust's tables with this queue and this recovery."""

    def read_to(self, tp: TP) -> int:
        """Return the last changelog offset that recovery was given of a partition, or that its rows reach to; or -1."""
        recovery = self.recovery
        offsets = recovery.active_offsets if tp in recovery.active_tps else recovery.standby_offsets
        known = offsets.get(tp)
        return -1 if known is None else known

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
