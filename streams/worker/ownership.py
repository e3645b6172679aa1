"""Owning a partition: claimed before its first write, written under the claim, and defended.

A group hands a partition on when its owner is silent for longer than the session. An owner that only slept may still
write. `streams.partition.fencing` says which records then count; here the owner makes its claim, notices whoever
writes beside it (its own records no longer lie side by side), and says anew what was written over. All records that
are ours are contiguous: nobody else may write, and there are no transactions in this topic.
"""

import logging
import os
import time

from aiokafka.errors import KafkaError
from faust.types import TP

from streams.metrics.collectors import Metrics
from streams.partition.effects import Effects
from streams.partition.fencing import CLAIM_KEY, Fenced
from streams.partition.processor import Processor
from streams.partition.state import Partition
from streams.worker.committer import Committer
from streams.worker.context import WorkerContext

log = logging.getLogger(__name__)

#: A quiet partition says so often (seconds) that it is owned, and so notices whoever wrote over it.
RENEW_S = 60.0
#: How often a claim is made where others come in between.
_CLAIMS = 5
#: How long (seconds) a partition that was dropped may stay without an owner.
_UNSETTLED_S = 60.0


class Ownership:
    """The partitions of one process, as their changelog sees them."""

    def __init__(self, context: WorkerContext, processor: Processor, metrics: Metrics) -> None:
        self._context = context
        self._processor = processor
        self._metrics = metrics
        self._owner = os.urandom(8)
        self._written_at: dict[int, float] = {}
        self._dropped: dict[int, float] = {}

    async def claimed(self, partition: Partition) -> Partition | None:
        """Return the partition once it is claimed, opened anew where its changelog had grown; None if it is not ours.

        Raises Fenced where others claim it again and again although it is ours.
        """
        number, store = partition.number, self._context.store()
        if number in store.claims:
            return partition
        for _ in range(_CLAIMS):
            if not await self._is_member(partition):
                self._drop(partition)
                return None
            claim = store.fence(number).next_claim(self._owner)
            offsets = await self._committer().write(number, [(CLAIM_KEY + str(number).encode(), claim.encoded)], claim)
            # What lies before the claim and was not recovered was written by the owner before us, and counts.
            unread = range(self._next_offset(number), offsets.stop)
            partition = await store.catch_up(number, await self._context.read_changelog(number, unread))
            self._written(number, offsets)
            if store.fence(number).holder == claim:
                store.claims[number] = claim
                if store.fence(number).stale:
                    await self._restate(partition)
                return store.partition(number)
        raise Fenced(f"partition {number} is claimed by other workers again and again")

    async def perform(self, partition: Partition, effects: Effects) -> None:
        """Reserve what is spent, produce the outputs, write the state.

        A partition that turns out to be another's by now is dropped; where it does before anything went out, nothing
        does.
        """
        number, store = partition.number, self._context.store()
        try:
            if effects.reserve is not None and not await self._write(partition, [effects.reserve]):
                return
            await self._committer().produce(number, effects.outputs)
            if not effects.changelog:
                return
            owned = await self._write(partition, effects.changelog)
        except KafkaError as error:
            self._metrics.refused(error)
            raise
        self._metrics.changelog_bytes.inc(effects.row_bytes)
        if owned and store.fence(number).stale:  # not before: what is said anew is the state after the outputs
            await self._restate(partition)
        if store.partition(number) is partition:
            store.settle(number)

    async def _write(self, partition: Partition, rows: list[tuple[bytes, bytes | None]]) -> bool:
        """Write rows of a partition; return whether it is ours still. Raises KafkaError, Fenced."""
        number, store = partition.number, self._context.store()
        expected = self._next_offset(number)
        offsets = await self._committer().write(number, rows, store.claims[number])
        self._written(number, offsets)
        if offsets.start != expected or len(offsets) != len(rows):
            await self._defend(partition, range(expected, offsets.stop))
        return store.partition(number) is partition

    async def renew(self, partition: Partition) -> None:
        """Write something where nothing was written for long."""
        if time.monotonic() - self._written_at.get(partition.number, 0.0) >= RENEW_S:
            await self.perform(partition, Effects(changelog=[partition.progress_row()]))

    async def _defend(self, partition: Partition, offsets: range) -> None:
        """Look at what lies between our records: who is to go, we or they?"""
        store, number = self._context.store(), partition.number
        fence = store.fence(number)
        for record in await self._context.read_changelog(number, offsets):
            fence.admits(record.key, record.headers)
        if fence.holder != store.claims[number]:
            if await self._is_member(partition):
                raise Fenced(f"partition {number} was taken by a worker that is not its owner")
            log.warning("another worker owns it: what was written late does not count", extra={"partition": number})
            self._drop(partition)

    async def _restate(self, partition: Partition) -> None:
        stale = self._context.store().fence(partition.number).stale
        log.warning("%d rows of a replaced owner are written over", len(stale), extra={"partition": partition.number})
        effects = self._processor.restate(partition, list(stale))
        stale.clear()
        await self.perform(partition, effects)

    def check(self) -> None:
        """Raise Fenced where a partition was dropped, and no rebalance has settled for long whose it is."""
        store, assigned = self._context.store(), self._context.consumer().assignment()
        for number, since in list(self._dropped.items()):
            if store.partition(number) is not None or TP(self._context.ticks, number) not in assigned:
                del self._dropped[number]
            elif time.monotonic() - since > _UNSETTLED_S:
                raise Fenced(f"partition {number} is assigned here, and the group does not confirm it")

    def _drop(self, partition: Partition) -> None:
        # Where a rebalance came meanwhile, its rows are under recovery already, from where they end.
        if self._context.store().partition(partition.number) is partition:
            self._context.store().drop(partition.number)
            self._dropped[partition.number] = time.monotonic()

    async def _is_member(self, partition: Partition) -> bool:
        """Whether the group still takes us for the owner: a commit is refused where it does not."""
        name, topic = next(iter(self._context.inputs.items()))
        return await self._context.consumer().still_owner(TP(name, partition.number), partition.next_offset(topic))

    def _next_offset(self, number: int) -> int:
        known = self._context.store().persisted_offset(TP(self._context.changelog, number))
        return 0 if known is None else known + 1

    def _written(self, number: int, offsets: range) -> None:
        self._context.store().set_persisted_offset(TP(self._context.changelog, number), offsets.stop - 1)
        self._written_at[number] = time.monotonic()

    def _committer(self) -> Committer:
        return Committer(self._context.producer(), self._context.name_of, self._context.changelog)
