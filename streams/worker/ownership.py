"""Owning a partition: it is claimed before the first write, written under the claim, and defended.

A group gives a partition to another process when its owner is silent for longer than the session. An owner that only
slept may still write. `streams.partition.fencing` says which records then count. Here the owner makes its claim,
notices other writers, and writes rows again that were written over. It notices them because its own records are
contiguous unless another process writes: there are no transactions in this topic.
"""

import logging
import os
import time
from collections.abc import Iterator

from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from faust.types import TP

from streams.metrics.collectors import Metrics
from streams.partition.effects import Effects
from streams.partition.fencing import ChangelogLost, Fenced, flaw_of
from streams.partition.processor import Processor
from streams.partition.state import CLAIM_KEY, Partition
from streams.worker.committer import Committer
from streams.worker.context import WorkerContext

log = logging.getLogger(__name__)

#: The interval (seconds) at which the owner of an idle partition writes to it, and so notices other writers.
RENEW_S = 60.0
#: How often a claim is repeated if other claims come in between.
_CLAIMS = 5
#: How long (seconds) a partition may stay without an owner after it was dropped.
_UNSETTLED_S = 60.0
#: The number of damaged rows that are logged with their offsets; the dead letters name all of them.
_LOG_DAMAGED = 20
#: Damaged rows that lie no further apart (offsets) are read together.
_READ_TOGETHER = 1_000


class Ownership:
    """Claims and defends the partitions of one process in their changelog."""

    def __init__(self, context: WorkerContext, processor: Processor, metrics: Metrics) -> None:
        self._context = context
        self._processor = processor
        self._metrics = metrics
        self._owner = os.urandom(8)
        self._written_at: dict[int, float] = {}
        self._dropped: dict[int, float] = {}

    async def claim(self, partition: Partition) -> Partition | None:
        """Claim a partition unless it is claimed, and return it; None if it is not ours.

        It is opened again if its changelog has grown. Raises Fenced if others keep claiming it although it is ours,
        KafkaError if the broker does not answer.
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
            # Records before the claim that were not recovered are the previous owner's, and count.
            self._check_log(number, self._next_offset(number), offsets)
            unread = range(self._next_offset(number), offsets.stop)
            partition = await store.catch_up(number, await self._context.read_changelog(number, unread))
            self._written(number, offsets)
            if store.fence(number).holder == claim:
                store.note_claim(number, claim)
                await self._check_state(partition)
                if store.fence(number).stale:
                    await self._restate(partition)
                return store.partition(number)
        raise Fenced(f"other workers keep claiming partition {number}")

    async def perform(self, partition: Partition, effects: Effects) -> None:
        """Reserve what is spent, produce the outputs, write the state.

        If the reservation shows that another process owns the partition, nothing is produced; if the state does, the
        partition is dropped. Raises KafkaError, Fenced.
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
        if owned and store.fence(number).stale:  # not before: the rows written again are those after the outputs
            await self._restate(partition)
        if store.partition(number) is partition:
            store.settle(number)

    async def _write(self, partition: Partition, rows: list[tuple[bytes, bytes | None]]) -> bool:
        """Write rows of a partition; return whether it is still ours. Raises KafkaError, Fenced."""
        number, store = partition.number, self._context.store()
        expected = self._next_offset(number)
        offsets = await self._committer().write(number, rows, store.claims[number])
        if offsets.start < expected:
            # The rows, and the progress among them, would pass for the whole state of the partition.
            await self._committer().write(number, [(key, None) for key, _ in rows], store.claims[number])
        self._check_log(number, expected, offsets)
        self._written(number, offsets)
        if offsets.start != expected or len(offsets) != len(rows):
            await self._defend(partition, range(expected, offsets.stop))
        return store.partition(number) is partition

    async def renew(self, partition: Partition) -> None:
        """Write the progress of a partition that was not written for `RENEW_S`. Raises KafkaError, Fenced."""
        if time.monotonic() - self._written_at.get(partition.number, 0.0) >= RENEW_S:
            await self.perform(partition, Effects(changelog=[partition.progress_row()]))

    async def _defend(self, partition: Partition, offsets: range) -> None:
        """Judge the records of others among ours: raise Fenced if we are the owner, else drop the partition."""
        store, number = self._context.store(), partition.number
        fence = store.fence(number)
        for record in await self._context.read_changelog(number, offsets):
            fence.admits(record)
        if fence.holder != store.claims[number]:
            if await self._is_member(partition):
                raise Fenced(f"partition {number} was taken by a worker that is not its owner")
            log.warning(
                "another worker owns the partition: records written late do not count", extra={"partition": number}
            )
            self._drop(partition)

    async def _restate(self, partition: Partition) -> None:
        """Write rows again whose latest record does not count; those that cannot be read become dead letters."""
        stale = self._context.store().fence(partition.number).take_stale()
        damaged = await self._read_damaged(partition.number, {at for at in stale.values() if at is not None})
        for record, flaw in damaged[:_LOG_DAMAGED]:
            log.warning(
                "a damaged row of the changelog becomes a dead letter, and the row before it counts: %s",
                flaw,
                extra={"topic": self._context.changelog, "partition": partition.number, "offset": record.offset},
            )
        log.warning(
            "writing %d rows again that a replaced owner or damage has written over",
            len(stale),
            extra={"partition": partition.number},
        )
        effects = self._processor.restate(partition, stale, self._context.changelog, damaged)
        self._metrics.count_dead_letters(effects)
        await self.perform(partition, effects)

    async def _read_damaged(self, number: int, offsets: set[int]) -> list[tuple[ConsumerRecord, str]]:
        """Return the damaged records at some offsets, unless compaction has removed them, and why they are damaged."""
        records = [
            record
            for stretch in _stretches(sorted(offsets))
            for record in await self._context.read_changelog(number, stretch)
            if record.offset in offsets
        ]
        return [(record, flaw) for record in records if (flaw := flaw_of(record)) is not None]

    def _check_log(self, number: int, expected: int, offsets: range) -> None:
        """Raise ChangelogLost if rows were written before where the changelog ended: it is another log."""
        if offsets.start < expected:
            raise ChangelogLost(
                f"{self._context.changelog}, partition {number}: a row was written at offset {offsets.start}, but the "
                f"changelog had ended at {expected}: it was deleted or lost records. Its state is incomplete: see "
                "docs/runbook.md#a-changelog-that-lost-records"
            )

    async def _check_state(self, partition: Partition) -> None:
        """Raise ChangelogLost if the state is gone although the group had read input, and cannot be read again."""
        consumer, number = self._context.consumer(), partition.number
        if partition.progress.applied:
            return
        for name in self._context.inputs:
            tp = TP(name, number)
            if tp in consumer.assignment() and (committed := await consumer.committed(tp)):
                if begin := await consumer.beginning(tp):
                    raise ChangelogLost(
                        f"{self._context.changelog}, partition {number}: it has no state, but {name} was read up "
                        f"to offset {committed}, and that begins at {begin}: it cannot be rebuilt. See "
                        "docs/runbook.md#a-changelog-that-lost-records"
                    )
                log.warning(
                    "the changelog has no state, but input was read: the state is rebuilt from the beginning of %s",
                    name,
                    extra={"partition": number},
                )

    def check(self) -> None:
        """Raise Fenced if a partition was dropped, and is still assigned here without being ours after a minute."""
        store, assigned = self._context.store(), self._context.consumer().assignment()
        for number, since in list(self._dropped.items()):
            if store.partition(number) is not None or TP(self._context.ticks, number) not in assigned:
                del self._dropped[number]
            elif time.monotonic() - since > _UNSETTLED_S:
                raise Fenced(f"partition {number} is assigned to this worker, but the group does not confirm it")

    def _drop(self, partition: Partition) -> None:
        # After a rebalance meanwhile, its rows are already being recovered from where they end.
        if self._context.store().partition(partition.number) is partition:
            self._context.store().drop(partition.number)
            self._dropped[partition.number] = time.monotonic()

    async def _is_member(self, partition: Partition) -> bool:
        """Return whether the group still accepts us as the owner: otherwise it refuses a commit."""
        consumer = self._context.consumer()
        for name, topic in self._context.inputs.items():
            if (tp := TP(name, partition.number)) in consumer.assignment():  # unless that topic is missing
                return await consumer.still_owner(tp, partition.next_offset(topic))
        return False

    def _next_offset(self, number: int) -> int:
        known = self._context.store().persisted_offset(TP(self._context.changelog, number))
        return 0 if known is None else known + 1

    def _written(self, number: int, offsets: range) -> None:
        self._context.store().set_persisted_offset(TP(self._context.changelog, number), offsets.stop - 1)
        self._written_at[number] = time.monotonic()

    def _committer(self) -> Committer:
        return Committer(self._context.producer(), self._context.name_of, self._context.changelog)


def _stretches(offsets: list[int]) -> Iterator[range]:
    """Yield ranges that hold sorted offsets, without the wide gaps between them."""
    while offsets:
        count = next((n for n in range(1, len(offsets)) if offsets[n] - offsets[n - 1] > _READ_TOGETHER), len(offsets))
        yield range(offsets[0], offsets[count - 1] + 1)
        offsets = offsets[count:]
