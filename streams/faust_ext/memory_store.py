"""The changelog-backed table: raw rows in one mapping a partition, recovered by micro-batches.

A Faust table and a Faust store, so that assignment, standby and recovery are Faust's. Rows are written by the
worker in batches (`streams.worker.committer`), not one by one through the table. They are in memory, or on disk
(`streams.faust_ext.rocksdb_rows`); the rest is the same.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any, cast

from aiokafka import ConsumerRecord
from faust.stores import memory
from faust.types import TP, EventT

from streams.faust_ext.consumer import Chunk
from streams.partition.fencing import CLAIM_KEY, NOBODY, Claim, Fence
from streams.partition.state import Partition


class PartitionStore(memory.Store[bytes, bytes]):
    """Rows of the partitions that this worker holds, active and standby, in memory."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, MutableMapping[bytes, bytes]] = {}
        self._opening = asyncio.Lock()
        self._offsets: dict[int, int] = {}
        self._assigned: set[int] = set()
        self._partitions: dict[int, Partition] = {}
        self._complete: set[int] = set()
        self._fences: dict[int, Fence] = {}
        #: The claims under which we write, by partition; empty again after each rebalance.
        self.claims: dict[int, Claim] = {}

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
        """Note that the changelog has acknowledged all that was written to an open partition, up to `offset`.

        For one that was given away meanwhile it says nothing: its next rows are others.
        """
        if tp.partition in self._partitions:
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

        Once a partition's recovery is complete nothing is applied to it. While it is being opened, its rows would hold
        what came and its progress would not, and the step be applied twice; it is read as the partition is claimed.
        When it is open, its rows are ahead of the changelog, and what is read of it is old news.

        What comes of a partition that was given away must not be kept either, even where it is ours again by now
        (Faust keeps a chunk or two over a rebalance): it would pass for the beginning of its rows.
        """
        for event in batch:
            message = event.message
            if message.partition in self._complete or message.partition not in self._assigned:
                continue
            if message.generation_id != self.app.consumer_generation_id:
                continue  # recovery begins anew where the rows end, and reads it again
            try:
                self._recover(message.partition, cast("Chunk", message.value).records)
            except Exception as error:
                self._fail(error)
                raise
            self._offsets[message.partition] = message.offset

    def _recover(self, number: int, records: list[ConsumerRecord]) -> None:
        rows = self._rows.setdefault(number, {})
        for record in self._admitted(number, records):
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value

    def _admitted(self, number: int, records: Iterable[ConsumerRecord]) -> Iterator[ConsumerRecord]:
        """Yield the records that count: what a replaced owner wrote late does not."""
        fence = self.fence(number)
        return (record for record in records if fence.admits(record.key, record.headers))

    def fence(self, number: int) -> Fence:
        """Return the verdict on a partition's changelog as far as it has been read; the rows know the last claim."""
        fence = self._fences.get(number)
        if fence is None:
            claim = self._rows.setdefault(number, {}).get(CLAIM_KEY + str(number).encode())
            fence = self._fences[number] = Fence(NOBODY if claim is None else Claim.decode(claim))
        return fence

    def drop(self, number: int) -> None:
        """Forget a partition that is another's by now; if it comes back to us it is recovered from the beginning."""
        for known in (self._offsets, self._fences, self._partitions, self.claims):
            cast("dict[int, Any]", known).pop(number, None)
        self._drop(self._rows.pop(number))

    async def catch_up(self, number: int, records: list[ConsumerRecord]) -> Partition:
        """Take over what came into the changelog between recovery and our claim, the claim included.

        Returns the partition, opened anew where there was more than the claim.
        """
        rows, changed = self._rows[number], False
        for record in self._admitted(number, records):
            changed = changed or not record.key.startswith(CLAIM_KEY)
            if record.value is None:
                rows.pop(record.key, None)
            else:
                rows[record.key] = record.value
        if changed:
            self._partitions[number] = await asyncio.to_thread(self._open, number)
        return self._partitions[number]

    def _fail(self, error: Exception) -> None:
        """End the worker: Faust logs what goes wrong in recovery, and goes on without it."""
        self._failure = asyncio.ensure_future(self.app.crash(error))

    def settle(self, number: int) -> None:
        """Let what the changelog holds of us, and counts, be kept: in memory there is nothing to do."""

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002  # Faust's signature
        newly_assigned: set[TP],  # noqa: ARG002  # Faust's signature
        generation_id: int = 0,  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Drop the rows of partitions that went to somebody else."""
        async with self._opening:
            topic = cast("Any", self.table).changelog_topic_name
            self._assigned = {tp.partition for tp in assigned if tp.topic == topic}
            self.suspend()
            self._complete.clear()
            for number in self._rows.keys() - self._assigned:
                self._offsets.pop(number, None)
                self._fences.pop(number, None)
                self._drop(self._rows.pop(number))
            await self._take_up()

    def suspend(self) -> None:
        """Close all partitions: whose they are is being settled, and nothing may be processed until it is."""
        self._partitions.clear()
        self.claims.clear()

    def _drop(self, rows: MutableMapping[bytes, bytes]) -> None:
        """Let go of the rows of a partition: in memory there is nothing to do."""

    async def _take_up(self) -> None:
        """Find what is left of the rows of partitions that are assigned: in memory there is nothing."""

    async def on_recovery_completed(
        self,
        active_tps: set[TP],
        standby_tps: set[TP],  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Open the active partitions: progress and due index are built from their rows, beside the event loop."""
        async with self._opening:
            self.claims.clear()
            self._complete = {tp.partition for tp in active_tps} & self._assigned
            try:
                self._partitions = {
                    number: await asyncio.to_thread(self._open, number) for number in sorted(self._complete)
                }
            except Exception as error:
                self._fail(error)
                raise

    def _open(self, number: int) -> Partition:
        timeline = cast("Any", self.table).timeline
        return Partition(number, self._rows.setdefault(number, {}), timeline=timeline)
