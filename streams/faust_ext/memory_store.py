"""The store of the state table, in memory: raw rows in one mapping a partition, recovered by micro-batches.

It is a Faust store, so that assignment and standby are Faust's. The worker writes rows in batches
(`streams.worker.committer`), not one by one through the table. `streams.faust_ext.rocksdb_store` keeps the rows on
disk instead; the rest is the same.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, cast

from aiokafka import ConsumerRecord
from faust.stores import memory
from faust.types import TP, EventT

from streams.faust_ext.chunk import Chunk
from streams.partition.fencing import NOBODY, Claim, Fence
from streams.partition.state import CLAIM_KEY, Partition


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
        self._claims: dict[int, Claim] = {}

    def partition(self, number: int) -> Partition | None:
        """Return the recovered state of an active partition; None while it is not ours or not recovered."""
        return self._partitions.get(number)

    @property
    def partitions(self) -> dict[int, Partition]:
        """The recovered active partitions by number."""
        return self._partitions

    @property
    def claims(self) -> Mapping[int, Claim]:
        """The claims under which we write, by partition; none after a rebalance, until each is claimed again."""
        return self._claims

    def note_claim(self, number: int, claim: Claim) -> None:
        """Note that we hold a partition under a claim."""
        self._claims[number] = claim

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the last changelog offset that the rows include; only later records are recovered. None: no rows."""
        return self._offsets.get(tp.partition)

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Note that the changelog has acknowledged all that was written to an open partition, up to `offset`.

        This is ignored for a partition that was given away meanwhile: its next rows come from recovery.
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

        Nothing is applied to a partition whose recovery is complete. While it is being opened, its rows would include
        records that its progress does not, and the step would be applied twice; such records are read when the
        partition is claimed. When it is open, its rows are ahead of the changelog.

        Chunks of a partition that was given away are dropped too, even if it is ours again by now (Faust keeps a chunk
        or two over a rebalance): they would pass for the beginning of its rows.
        """
        for event in batch:
            message = event.message
            if message.partition in self._complete or message.partition not in self._assigned:
                continue
            if message.generation_id != self.app.consumer_generation_id:
                continue  # recovery restarts where the rows end, and reads it again
            try:
                self._recover(message.partition, cast("Chunk", message.value).records)
            except Exception as error:
                self._fail(error)
                raise
            self._offsets[message.partition] = message.offset

    def _recover(self, number: int, records: list[ConsumerRecord]) -> None:
        rows = self._rows.setdefault(number, {})
        for record in self._admitted(number, records):
            apply_record(rows, record)

    def _admitted(self, number: int, records: Iterable[ConsumerRecord]) -> Iterator[ConsumerRecord]:
        """Yield the records that count: those that a replaced owner wrote late do not."""
        fence = self.fence(number)
        return (record for record in records if fence.admits(record))

    def fence(self, number: int) -> Fence:
        """Return the verdict on a partition's changelog so far. It begins with the claim that is among the rows."""
        fence = self._fences.get(number)
        if fence is None:
            claim = self._rows.setdefault(number, {}).get(CLAIM_KEY + str(number).encode())
            fence = self._fences[number] = Fence(NOBODY if claim is None else Claim.decode(claim))
        return fence

    def drop(self, number: int) -> None:
        """Forget a partition that another process owns; if it comes back it is recovered from the beginning."""
        for known in (self._offsets, self._fences, self._partitions, self._claims):
            cast("dict[int, Any]", known).pop(number, None)
        self._drop(self._rows.pop(number))

    async def catch_up(self, number: int, records: list[ConsumerRecord]) -> Partition:
        """Apply what was written to the changelog between recovery and our claim, the claim included.

        Returns the partition, opened again if there was more than the claim.
        """
        rows, changed = self._rows[number], False
        for record in self._admitted(number, records):
            changed = changed or not record.key.startswith(CLAIM_KEY)
            apply_record(rows, record)
        if changed:
            self._partitions[number] = await asyncio.to_thread(self._open, number)
        return self._partitions[number]

    def _fail(self, error: Exception) -> None:
        """End the worker: Faust only logs an error in recovery, and continues without the chunk."""
        self._failure = asyncio.ensure_future(self.app.crash(error))

    def settle(self, number: int) -> None:
        """Keep what the changelog has acknowledged, on disk; in memory there is nothing to do."""

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002  # Faust's signature
        newly_assigned: set[TP],  # noqa: ARG002  # Faust's signature
        generation_id: int = 0,  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Drop the rows of partitions that were given away, and open what is left of the others."""
        async with self._opening:
            topic = cast("Any", self.table).changelog_topic_name
            self._assigned = {tp.partition for tp in assigned if tp.topic == topic}
            self.suspend()
            self._complete.clear()
            for number in self._rows.keys() - self._assigned:
                self._offsets.pop(number, None)
                self._fences.pop(number, None)
                self._drop(self._rows.pop(number))
            await self._open_rows()

    def suspend(self) -> None:
        """Close all partitions: nothing may be processed until their owners are settled."""
        self._partitions.clear()
        self._claims.clear()

    def _drop(self, rows: MutableMapping[bytes, bytes]) -> None:
        """Release the rows of a partition; in memory there is nothing to do."""

    async def _open_rows(self) -> None:
        """Open the rows of assigned partitions that an earlier process has left; in memory there are none."""

    async def on_recovery_completed(
        self,
        active_tps: set[TP],
        standby_tps: set[TP],  # noqa: ARG002  # Faust's signature
    ) -> None:
        """Open the active partitions: progress and timers are built from their rows, in a thread."""
        async with self._opening:
            self._claims.clear()
            self._complete = {tp.partition for tp in active_tps} & self._assigned
            try:
                self._partitions = {
                    number: await asyncio.to_thread(self._open, number) for number in sorted(self._complete)
                }
            except Exception as error:
                self._fail(error)
                raise

    def _open(self, number: int) -> Partition:
        opened: Partition = cast("Any", self.table).open_partition(number, self._rows.setdefault(number, {}))
        return opened


def apply_record(rows: MutableMapping[bytes, bytes], record: ConsumerRecord) -> None:
    """Apply a changelog record to rows: a row replaces the one before, a tombstone removes it."""
    if record.value is None:
        rows.pop(record.key, None)
    else:
        rows[record.key] = record.value
