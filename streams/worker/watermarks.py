"""Watermarks: at regular intervals every partition of ours gets a record that says where its stream time may move.

A watermark is made between two batches, against the end offsets read just before: if nothing lags, every record that
was in the input topics by then is in the acknowledged state, and stream time may follow the clock. Watermarks travel
through an internal co-partitioned topic (named ticks), because a table is written only from its partition's stream.
Partitions that make no progress although records are unread are noticed here too.
"""

import time
from typing import NamedTuple

import msgspec
from faust.types import TP

from config.settings import Settings
from models.instants import MAX_INSTANT
from streams.partition.state import Partition, Watermark
from streams.worker.context import WorkerContext
from streams.worker.log_loss import LogLoss
from streams.worker.loop import Worker


class Unread(NamedTuple):
    """The unread records: the labels of topics that lag, by partition, and the partitions that make no progress.

    `expected`: some will be applied without time moving, which is false for paused ones.
    """

    lagging: dict[int, list[str]]
    expected: bool
    stalled: list[TP]


class Watermarks:
    """Makes the watermarks of one worker process."""

    def __init__(self, settings: Settings, context: WorkerContext, worker: Worker) -> None:
        self._settings = settings
        self._context = context
        self._worker = worker
        self._metrics = worker.metrics
        self._inputs = {name: topic.label for name, topic in context.inputs.items()}
        self._losses = LogLoss(context, worker)
        self._idle: dict[TP, tuple[int, int]] = {}
        self._asked: dict[TP, tuple[int, int]] = {}
        self._applied: dict[tuple[str, int], int] = {}

    async def send(self) -> list[TP]:
        """Produce one watermark for each partition; return those that make no progress although records are unread.

        Raises KafkaError if the broker refuses.
        """
        async with self._worker.quiet():
            # Event times must be read before the end offsets: events that arrive between the two must not move time
            # past events of another topic that arrived with them.
            partitions = dict(self._context.store().partitions)
            seen = {number: dict(partition.progress.latest) for number, partition in partitions.items()}
            applied = {number: dict(partition.progress.applied) for number, partition in partitions.items()}
            claims = {number: claim.encoded for number, claim in self._context.store().claims.items()}
        now = self._context.clock()
        assigned = self._context.consumer().assignment()
        tps = [TP(name, number) for name in self._inputs for number in partitions if TP(name, number) in assigned]
        if not tps:
            return []
        ends = await self._context.consumer().highwaters(*tps)
        in_transaction = await self._context.consumer().open_records(tps)
        held = await self._losses.held(applied, tps)
        async with self._worker.quiet():
            unread = await self._unread(partitions, {tp: ends.get(tp) or 0 for tp in tps})
        self._hold_for_transactions(unread.lagging, in_transaction)
        for number in partitions.keys() - held:
            watermark = Watermark(self._time_of(number, seen, unread, now), claims.get(number))
            value = msgspec.json.encode(watermark)
            sent = await self._context.producer().send(self._context.ticks, value, partition=number)
            sent.add_done_callback(self._metrics.acknowledged)
        return unread.stalled

    async def _unread(self, partitions: dict[int, Partition], ends: dict[TP, int]) -> Unread:
        lagging: dict[int, list[str]] = {number: [] for number in partitions}
        expected, stalled = False, []
        lags: dict[TP, int] = {}
        for tp, end in ends.items():
            lags[tp] = lag = await self._lag(partitions[tp.partition], tp, end)
            if lag:
                lagging[tp.partition].append(self._inputs[tp.topic])
                if tp in self._worker.paused:
                    continue
                expected = True
                if self._makes_no_progress(tp, partitions[tp.partition]):
                    stalled.append(tp)
                    self._asked[tp] = (end - lag, end)
        self._note(lags, partitions)
        return Unread(lagging, expected, stalled)

    def _hold_for_transactions(self, lagging: dict[int, list[str]], in_transaction: dict[TP, int]) -> None:
        """Have time wait for open transactions, as for unread records: their orders may be committed yet.

        They are no backlog: nothing can be read until they end, at the latest at the broker's transaction timeout.
        """
        for tp in in_transaction:
            if (label := self._inputs[tp.topic]) not in lagging[tp.partition]:
                lagging[tp.partition].append(label)
        counts = {(self._inputs[tp.topic], tp.partition): count for tp, count in in_transaction.items()}
        self._metrics.note_in_transaction(counts)

    def _note(self, lags: dict[TP, int], partitions: dict[int, Partition]) -> None:
        """Have the worker note the lags, for metrics, and since when no record was applied, for readiness."""
        now, worker = time.monotonic(), self._worker
        unread, applied, waiting = {}, {}, {}
        for tp, lag in lags.items():
            key = self._inputs[tp.topic], tp.partition
            unread[key] = lag
            applied[key] = partitions[tp.partition].progress.applied.get(key[0], 0)
            if lag and tp not in worker.paused:
                _, since = worker.waiting.get(key, (0, now))
                waiting[key] = (lag, since if self._applied.get(key) == applied[key] else now)
        self._applied = applied
        worker.note_unread(unread, waiting)

    async def _lag(self, partition: Partition, tp: TP, end: int) -> int:
        """Return the number of records not applied. Offsets at the end that hold none (transaction markers) are no lag.

        They are distinguished from lost records by fetching again from the offset of the state: if the same end is then
        reached with nothing fetched, there are no records.
        """
        applied = partition.progress.applied.get(self._inputs[tp.topic], 0)
        if applied >= end:
            return 0
        if self._asked.get(tp) == (applied, end) and await self._context.consumer().reached_end(tp, end):
            return 0
        return end - applied

    def _makes_no_progress(self, tp: TP, partition: Partition) -> bool:
        """Return True when nothing was applied for three watermarks, and then for every twentieth."""
        applied = partition.progress.applied.get(self._inputs[tp.topic], 0)
        seen, count = self._idle.get(tp, (-1, 0))
        count = count + 1 if seen == applied else 0
        self._idle[tp] = (applied, count)
        return count == 2 or (count > 2 and count % 20 == 0)

    def _time_of(self, number: int, seen: dict[int, dict[str, int]], unread: Unread, now: int) -> int | None:
        """Return where (ms) a partition's stream time may move (`streams.partition.state` defines it), or None."""
        wall = now - self._settings.clock_grace if self._settings.clock == "wall" else MAX_INSTANT
        if lagging := unread.lagging[number]:
            oldest = _oldest(seen, {number: lagging})
            return None if oldest is None else min(wall, oldest)
        if self._settings.clock == "wall":
            return wall
        waiting = any(unread.lagging.values())
        scope = [seen[number]] if waiting else list(seen.values())
        known = [at for each in scope for at in each.values()]
        if waiting and not unread.expected and (paused := _oldest(seen, unread.lagging)) is not None:
            known.append(paused)  # partitions at a day's end wait for this one too: it advances to where they are
        newest = max(known, default=None)
        idle = self._settings.idle_after
        if newest is not None and idle is not None and not waiting and now - self._worker.last_event_at >= idle:
            # No more events come: decisions need not wait for the lateness to pass.
            return newest + self._settings.lateness + 1
        return newest


def _oldest(seen: dict[int, dict[str, int]], lagging: dict[int, list[str]]) -> int | None:
    """Return the oldest of the latest event times (ms) of all topics that lag; None if one has had no event."""
    lags = [(number, topic) for number, topics in lagging.items() for topic in topics]
    known = [at for number, topic in lags if (at := seen[number].get(topic)) is not None]
    return min(known) if len(known) == len(lags) else None
