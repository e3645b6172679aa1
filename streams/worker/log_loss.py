"""Input logs that lost records: topics that begin again, and records that retention took before they were read.

An offset that is applied beyond the end of the log proves that the log is another one: a topic that was deleted and
created again, a broker that lost its disk, an unclean election. Nothing may be decided in that partition until an
operator accepts the loss: its orders may be gone, and new ones have offsets that pass for applied.
"""

import logging
import time
from collections.abc import Iterable, Mapping

from faust.types import TP

from streams.worker.context import WorkerContext
from streams.worker.loop import Worker

log = logging.getLogger(__name__)


class LogLoss:
    """Finds input logs that end before what is applied of them."""

    def __init__(self, context: WorkerContext, worker: Worker) -> None:
        self._context = context
        self._worker = worker
        self._suspected: dict[TP, int] = {}
        self._unassigned: set[int] = set()

    async def held(self, applied: Mapping[int, Mapping[str, int]], tps: list[TP]) -> set[int]:
        """Return the partitions whose time must not move, and have new losses noted in their progress.

        Those are partitions that lost records, may have lost some, or are not assigned all of the input topics.
        `applied` are the applied offsets by partition and topic before the ends of the logs were read, `tps` the
        assigned input partitions. Raises KafkaError.
        """
        held = self._without_topics(applied, tps)
        ends = await self._context.consumer().log_ends(tps)
        now = time.time_ns() // 1_000_000
        for tp, (listed, fetched, fetched_at) in ends.items():
            known = applied[tp.partition].get(self._context.inputs[tp.topic].label, 0)
            if listed >= known or tp in self._worker.paused:  # records beyond what is applied are here, but not fetched
                self._suspected.pop(tp, None)
            # The embedded broker lists an end that is too low; what a later fetch says is exact.
            elif fetched_at <= self._suspected.setdefault(tp, now):
                held.add(tp.partition)
            elif fetched < known:
                await self._lose(tp, known, fetched)
        partitions = self._context.store().partitions
        return held | {number for number, partition in partitions.items() if partition.progress.lost}

    async def _lose(self, tp: TP, applied: int, end: int) -> None:
        label = self._context.inputs[tp.topic].label
        if await self._worker.note_loss(tp, end):
            log.error(
                "the log of this input ends at offset %d, but the records before %d are applied: it is another log, or "
                "lost records. Nothing is decided in this partition until `tidemark topics accept-loss %s`; see "
                "TidemarkLogLost in docs/runbook.md",
                end,
                applied,
                label,
                extra={"topic": tp.topic, "partition": tp.partition, "offset": applied},
            )

    def _without_topics(self, numbers: Iterable[int], tps: list[TP]) -> set[int]:
        """Return the partitions of which some input topic is not assigned: its orders would be missed."""
        assigned, missing = set(tps), dict[int, list[str]]()
        for number in numbers:
            if names := [name for name in self._context.inputs if TP(name, number) not in assigned]:
                missing[number] = names
                if number not in self._unassigned:
                    log.warning("time stands still: not assigned are %s", ", ".join(names), extra={"partition": number})
        self._unassigned = set(missing)
        return set(missing)
