"""The changelog-backed table: raw rows in one dictionary a partition, recovered by micro-batches.

A Faust table and a Faust store, so that assignment, standby and recovery are Faust's. Rows are written by the
worker in batches (`streams.sender`), not one by one through the table.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

from faust.stores import memory
from faust.tables.table import Table
from faust.types import TP, EventT

from streams.partition import Partition
from streams.transport import Chunk


class PartitionStore(memory.Store[bytes, bytes]):
    """Rows of the partitions that this worker holds, active and standby, in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, dict[bytes, bytes]] = {}
        self._offsets: dict[int, int] = {}
        self._assigned: set[int] = set()
        self._partitions: dict[int, Partition] = {}

    def partition(self, number: int) -> Partition | None:
        """Return the recovered state of an active partition; None while it is not ours or not recovered."""
        return self._partitions.get(number)

    @property
    def partitions(self) -> dict[int, Partition]:
        """The recovered active partitions by number."""
        return self._partitions

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the last changelog offset that the rows in memory include; only what is later is recovered."""
        return self._offsets.get(tp.partition)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Note the changelog offset that the rows in memory include."""
        self._offsets[tp.partition] = offset

    async def need_active_standby_for(self, tp: TP) -> bool:  # noqa: ARG002  # Faust's signature
        """Memory is lost with the process, so a standby is always worth having."""
        return True

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT[Any]],
        to_key: Callable[[Any], Any],  # noqa: ARG002  # Faust's signature
        to_value: Callable[[Any], Any],  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Apply recovered chunks: the latest row of a key wins, a tombstone removes it.

        Once a partition is open its rows are ahead of the changelog, and what is read of it is old news. What comes
        of a partition that was given away must not be kept either: it would pass for the beginning of its rows.
        """
        for event in batch:
            message = event.message
            if message.partition in self._partitions or message.partition not in self._assigned:
                continue
            rows = self._rows.setdefault(message.partition, {})
            chunk = cast("Chunk", message.value)
            for record in chunk.records:
                if record.value is None:
                    rows.pop(record.key, None)
                else:
                    rows[record.key] = record.value
            self._offsets[message.partition] = message.offset

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002  # Faust's signature
        newly_assigned: set[TP],  # noqa: ARG002  # Faust's signature
        generation_id: int = 0,  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Drop the rows of partitions that went to somebody else."""
        topic = cast("StateTable", self.table).changelog_topic_name
        self._assigned = {tp.partition for tp in assigned if tp.topic == topic}
        for number in self._rows.keys() - self._assigned:
            del self._rows[number]
            self._offsets.pop(number, None)
        self._partitions.clear()

    async def on_recovery_completed(
        self,
        active_tps: set[TP],
        standby_tps: set[TP],  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Open the active partitions: progress and due index are built from their rows."""
        self._partitions = {
            tp.partition: Partition(
                tp.partition,
                self._rows.setdefault(tp.partition, {}),
                timeline=cast("StateTable", self.table).timeline,
            )
            for tp in active_tps
        }


class StateTable(Table[bytes, bytes]):
    """The table of customer rows."""

    data: PartitionStore
    #: The fingerprint of the policy versions in force.
    timeline: int

    def _new_store(self) -> PartitionStore:
        return PartitionStore("memory://", self.app, self, table_name=self.name, loop=self.loop)
