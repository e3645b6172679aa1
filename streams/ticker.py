"""The ticker: tells every partition of ours, in regular intervals, how far time may go.

A tick says what lagged when it was made: if nothing did, all that was in the input topics before it has been
applied, and stream time may follow the clock. Ticks travel through an internal co-partitioned topic, because a
table is written only from its partition's stream. The ticker also notices a partition that stands still with records
unread, and has it fetched again.
"""

import logging
from collections.abc import Callable

import msgspec
from aiokafka import AIOKafkaProducer
from faust.types import TP

from config.settings import Settings
from streams.metrics import Metrics
from streams.partition import Partition, Tick
from streams.store import PartitionStore
from streams.transport import MicroBatchConsumer

log = logging.getLogger(__name__)


def decode_tick(value: bytes | None) -> Tick | None:
    """Return the tick in a record's value; None where there is none (somebody else wrote to the topic)."""
    try:
        return msgspec.json.decode(value or b"", type=Tick)
    except msgspec.DecodeError:
        log.warning("a record on the ticks topic is not a tick and is ignored")
        return None


class Ticker:
    """Makes the ticks of one worker. `rewind(tp, offset)` has a stalled partition fetched again."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        topic: str,
        store: Callable[[], PartitionStore],
        consumer: Callable[[], MicroBatchConsumer],
        producer: Callable[[], AIOKafkaProducer],
        clock: Callable[[], int],
        last_event_at: Callable[[], int],
        inputs: dict[str, str],
    ) -> None:
        """`inputs` maps the full names of the input topics to their labels."""
        self._settings = settings
        self._metrics = metrics
        self._topic = topic
        self._store = store
        self._consumer = consumer
        self._producer = producer
        self._clock = clock
        self._last_event_at = last_event_at
        self._inputs = inputs
        self._idle: dict[TP, tuple[int, int]] = {}

    async def tick(self) -> list[TP]:
        """Produce one tick a partition; return the partitions that stand still although records are unread."""
        now = self._clock()
        partitions = dict(self._store().partitions)
        assigned = self._consumer().assignment()
        tps = [TP(name, number) for name in self._inputs for number in partitions if TP(name, number) in assigned]
        if not tps:
            return []
        ends = await self._consumer().highwaters(*tps)
        lagging: dict[int, list[str]] = {number: [] for number in partitions}
        stalled = []
        for tp in tps:
            lag = await self._lag(partitions[tp.partition], tp, ends.get(tp) or 0)
            self._metrics.lag.labels(self._inputs[tp.topic], tp.partition).set(lag)
            if lag:
                lagging[tp.partition].append(self._inputs[tp.topic])
                if self._stands_still(tp, partitions[tp.partition]):
                    stalled.append(tp)
        for number, partition in partitions.items():
            tick = Tick(self._clock_of(partition, partitions, lagging, now), tuple(lagging[number]))
            await self._producer().send(self._topic, msgspec.json.encode(tick), partition=number)
            self._metrics.customers.labels(number).set(partition.customers)
            self._metrics.due.labels(number).set(len(partition.due))
        return stalled

    async def _lag(self, partition: Partition, tp: TP, end: int) -> int:
        """Records that are not applied. Offsets at the end that hold none (transaction markers) are no lag."""
        consumer = self._consumer()
        applied = partition.progress.applied.get(self._inputs[tp.topic], 0)
        if applied >= end:
            return 0
        in_flight = consumer.delivered.get(tp, applied) > applied
        position = await consumer.position(tp)
        passed = position is not None and position >= end and not in_flight
        return 0 if passed and self._idle.get(tp, (0, 0))[1] >= 3 else end - applied

    def _stands_still(self, tp: TP, partition: Partition) -> bool:
        """Whether nothing was applied for three ticks; after a rewind the count goes on, so it is asked for once."""
        applied = partition.progress.applied.get(self._inputs[tp.topic], 0)
        seen, count = self._idle.get(tp, (-1, 0))
        count = count + 1 if seen == applied else 0
        self._idle[tp] = (applied, count)
        return count == 2 or (count > 2 and count % 20 == 0)

    def _clock_of(
        self, partition: Partition, partitions: dict[int, Partition], lagging: dict[int, list[str]], now: int
    ) -> int | None:
        if self._settings.clock == "wall":
            return now - self._settings.grace
        if any(lagging.values()):
            return partition.latest_event
        latest = max((p.latest_event for p in partitions.values() if p.latest_event is not None), default=None)
        idle = self._settings.idle_after
        if latest is not None and idle is not None and now - self._last_event_at() >= idle:
            # Nothing more comes: whatever waits for the lateness to pass need not wait any longer.
            return latest + self._settings.lateness + 1
        return latest
