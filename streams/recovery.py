"""Recovery that begins where the rows end, whatever of an earlier assignment is still on its way.

Faust keeps, per changelog partition, the last offset it has seen, and seeks there. A chunk that was fetched before a
rebalance and is taken from the queue after it moves that offset on, though its rows do not count any more: what lies
before it would never be read, and customers would lose rows. So such chunks are dropped before Faust sees them, and
every recovery asks the store anew how far its rows go. Which rows count is `streams.store`'s business.
"""

from collections import Counter
from typing import Any

from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, AppT, EventT
from faust.types.transports import ConsumerT
from mode.utils.queues import ThrowableQueue


class ChangelogQueue(ThrowableQueue[EventT[Any]]):
    """Chunks of the changelog on their way to recovery; those of an earlier assignment are dropped."""

    def __init__(self, app: AppT, **kwargs: Any) -> None:
        super().__init__(flow_control=app.flow_control, **kwargs)
        self._app = app

    async def get(self) -> EventT[Any]:
        """Return the next chunk of the assignment that holds."""
        while True:
            event: EventT[Any] = await super().get()
            if event.message.generation_id == self._app.consumer_generation_id:
                return event


class StateRecovery(Recovery):
    """Faust's recovery, beginning at the end of the rows that the store has."""

    async def _build_offsets(self, consumer: ConsumerT, tps: set[TP], destination: "Counter[TP]", title: str) -> None:
        for tp in tps:
            destination[tp] = self.tp_to_table[tp].persisted_offset(tp)  # type: ignore[assignment]  # None: from the start
        await super()._build_offsets(consumer, tps, destination, title)


class StateTables(TableManager):
    """Faust's tables with this queue and this recovery."""

    @property
    def changelog_queue(self) -> ThrowableQueue[Any]:
        """The queue between the consumer and recovery."""
        if self._changelog_queue is None:
            size = self.app.conf.stream_buffer_maxsize
            self._changelog_queue = ChangelogQueue(self.app, maxsize=size, clear_on_resume=True)
        return self._changelog_queue

    @property
    def recovery(self) -> Recovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
