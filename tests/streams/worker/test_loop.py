"""What the worker makes of the chunks that Faust delivers."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from faust.types import TP

from models.events import Topic
from streams.faust_ext.chunk import Chunk
from streams.metrics.collectors import Metrics
from streams.partition.effects import Effects
from streams.partition.state import Partition, Watermark
from streams.worker.loop import Worker
from tests.support.worker_context import chunk, context_of

ORDERS, TICKS = TP("orders", 0), TP("ticks", 0)
#: The epoch of chunks that are ticks.
TICKED = -1


class Broker:
    """Consumer, ownership and store in one, for a worker without a broker."""

    def __init__(self) -> None:
        self.open = {0: Partition(0)}
        self.rewound: list[int] = []
        self.applied: dict[TP, int] = {}
        self.assigned = {ORDERS, TICKS}
        self.paused: set[TP] = set()
        #: Of orders, the first offset that lies beyond the day's end.
        self.day_end = 1_000
        self.claims = {0: SimpleNamespace(encoded=None)}
        #: Where the log of orders begins.
        self.begin = 0

    def partition(self, number: int) -> Partition | None:
        return self.open.get(number)

    def assignment(self) -> set[TP]:
        return self.assigned

    async def beginning(self, _tp: TP) -> int:
        return self.begin

    async def seek_back(self, _tp: TP, offset: int) -> int:
        self.rewound.append(offset)
        return len(self.rewound)

    def mark_applied(self, tp: TP, next_offset: int) -> None:
        self.applied[tp] = next_offset

    async def claim(self, partition: Partition) -> Partition:
        return partition

    async def perform(self, _partition: Partition, _effects: Any) -> None:
        """Outputs and state are acknowledged."""

    async def renew(self, _partition: Partition) -> None:
        """We own it still."""

    def suspend(self) -> None:
        self.open.clear()

    def pause(self, tp: TP, yes: bool) -> None:
        (self.paused.add if yes else self.paused.discard)(tp)


def worker_of(broker: Broker) -> tuple[Worker, list[int]]:
    """Return a worker, and the list of offsets that it processes: those before a day's end that is the broker's."""
    processed: list[int] = []

    class Counting:
        def process(self, partition: Partition, topic: Topic, _name: str, records: list[Any], _now: int) -> Effects:
            fresh = [record.offset for record in records if record.offset >= partition.next_offset(topic)]
            fresh = [offset for offset in fresh if offset < broker.day_end]
            processed.extend(fresh)
            end = min(broker.day_end, records[-1].offset + 1)
            partition.applied(topic, max(partition.next_offset(topic), end), None)
            return Effects()

        def waits(self, partition: Partition, topic: Topic, _now: int) -> bool:
            return partition.next_offset(topic) >= broker.day_end

        def advance(self, _partition: Partition, watermark: Watermark, _now: int) -> Effects:
            broker.day_end = watermark.time
            return Effects()

    worker = Worker(context_of(broker), Counting(), Metrics())
    worker._ownership = broker
    return worker, processed


def event(one: Chunk, tp: TP) -> Any:
    return SimpleNamespace(message=SimpleNamespace(topic=tp.topic, partition=0, tp=tp, value=one))


def ticked(time: int) -> Chunk:
    """A chunk of one tick."""
    return Chunk([SimpleNamespace(offset=0, value=msgspec.json.encode(Watermark(time)))], TICKED)


async def stream(*chunks: Chunk) -> AsyncIterator[Any]:
    for one in chunks:
        yield event(one, TICKS if one.epoch == TICKED else ORDERS)


def take(broker: Broker, *chunks: Chunk) -> list[int]:
    """Have a worker take chunks of orders; return the offsets that it processed."""
    worker, processed = worker_of(broker)
    asyncio.run(worker.run(stream(*chunks)))
    return processed


def test_chunks_in_a_row_are_processed_and_committed() -> None:
    broker = Broker()
    assert take(broker, chunk(0, 4), chunk(5, 9)) == list(range(10))
    assert (broker.rewound, broker.applied) == ([], {ORDERS: 10})


def test_a_chunk_that_went_astray_is_fetched_again_and_nothing_is_processed_meanwhile() -> None:
    broker = Broker()
    chunks = [chunk(0, 4), chunk(10, 14), chunk(15, 19), chunk(5, 14, 1), chunk(15, 24, 1)]
    assert take(broker, *chunks) == list(range(25))
    assert (broker.rewound, broker.applied) == ([5], {ORDERS: 25})


def test_a_chunk_that_goes_astray_again_after_it_was_asked_for_is_no_hole() -> None:
    broker = Broker()
    chunks = [chunk(0, 4), chunk(10, 14, 0, 2), chunk(15, 19, 1, 1), chunk(20, 24, 1, 2), chunk(5, 24, 2)]
    assert take(broker, *chunks) == list(range(25))
    assert broker.rewound == [5, 5]


def test_a_hole_in_the_log_is_asked_for_once_and_then_passed() -> None:
    """Compaction and transaction markers leave holes: fetched again, the chunk begins where it did."""
    broker = Broker()
    assert take(broker, chunk(0, 4), chunk(8, 9), chunk(8, 12, 1), chunk(13, 13, 1)) == [0, 1, 2, 3, 4, *range(8, 14)]
    assert broker.rewound == [5]


@pytest.mark.parametrize(("begin", "lost"), [(0, 0), (5, 0), (7, 2), (8, 3), (9, 3)])
def test_what_was_deleted_before_it_was_read_is_counted_as_lost(
    begin: int, lost: int, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker()
    broker.begin = begin
    worker, processed = worker_of(broker)
    asyncio.run(worker.run(stream(chunk(0, 4), chunk(8, 9), chunk(8, 12, 1))))
    assert processed == [0, 1, 2, 3, 4, *range(8, 13)]
    assert worker.metrics.registry.get_sample_value("tidemark_lost_records_total", {"topic": "orders"}) == lost
    assert (f"{lost} records are lost" in caplog.text) is bool(lost)
    assert (f"The log begins at offset {5 + lost}, the records before 5 are applied" in caplog.text) is bool(lost)


def test_a_log_that_is_read_for_the_first_time_lost_nothing() -> None:
    broker = Broker()
    broker.begin = 8
    worker, processed = worker_of(broker)
    asyncio.run(worker.run(stream(chunk(8, 9), chunk(8, 12, 1))))
    assert processed == [*range(8, 13)]
    assert worker.metrics.registry.get_sample_value("tidemark_lost_records_total", {"topic": "orders"}) == 0


def test_nothing_of_a_lost_log_is_applied_until_the_loss_is_accepted() -> None:
    broker = Broker()
    worker, processed = worker_of(broker)

    def order(label: str) -> Chunk:
        value = msgspec.json.encode(Watermark(None, accept_loss=label))
        return Chunk([SimpleNamespace(offset=0, value=value)], TICKED)

    async def check() -> None:
        await worker.run(stream(chunk(0, 4)))
        await worker.run(stream(order("orders")))  # it lost nothing: the order is ignored
        assert broker.rewound == []
        assert await worker.note_loss(ORDERS, 2)
        assert not await worker.note_loss(ORDERS, 2)
        await worker.run(stream(chunk(0, 9)))
        await worker.run(stream(order("customers")))
        assert (processed, broker.rewound) == ([0, 1, 2, 3, 4], [])
        await worker.run(stream(order("orders")))
        assert broker.rewound == [0]
        await worker.run(stream(chunk(0, 9, 1)))

    asyncio.run(check())
    assert processed == [0, 1, 2, 3, 4, *range(10)]


def test_repeated_chunks_are_passed_over() -> None:
    broker = Broker()
    assert take(broker, chunk(0, 9), chunk(0, 9), chunk(5, 12)) == list(range(13))
    assert broker.rewound == []


def test_what_is_not_ours_any_more_is_left_to_the_next_owner() -> None:
    revoked, closed = Broker(), Broker()
    revoked.assigned = set()
    closed.open = {}
    for broker in (revoked, closed):
        assert take(broker, chunk(0, 4)) == []
        assert (broker.rewound, broker.applied) == ([], {})


def test_what_is_at_hand_as_partitions_are_given_away_is_not_taken_up() -> None:
    """Its rows would be in memory, and not in the changelog, as the partition is recovered there."""
    broker = Broker()
    worker, processed = worker_of(broker)

    async def check() -> None:
        acknowledged = asyncio.Event()

        async def perform(_partition: Partition, _effects: Any) -> None:
            await acknowledged.wait()

        broker.perform = perform
        await worker.run(stream(chunk(0, 4)))
        giving_away = asyncio.create_task(worker.release_partitions())
        await asyncio.sleep(0)
        at_hand = asyncio.create_task(worker.run(stream(chunk(5, 9))))
        await asyncio.sleep(0)
        acknowledged.set()
        await asyncio.gather(giving_away, at_hand)
        async with worker.quiet():
            pass

    asyncio.run(check())
    assert processed == [0, 1, 2, 3, 4]
    assert broker.applied == {ORDERS: 5}


def test_nothing_is_built_on_a_batch_whose_state_was_not_acknowledged() -> None:
    """However often it is asked for, by whom ever: the worker ends, and until it has the partition stands."""
    broker = Broker()
    worker, processed = worker_of(broker)

    async def refuse(_partition: Partition, _effects: Any) -> None:
        raise RuntimeError("no acknowledgement")

    broker.perform = refuse

    async def quiet() -> None:
        async with worker.quiet():
            raise AssertionError("there is something in flight")

    async def check() -> None:
        await worker.run(stream(chunk(0, 4)))
        for _ in range(2):
            with pytest.raises(RuntimeError, match="no acknowledgement"):
                await quiet()
        with pytest.raises(RuntimeError, match="no acknowledgement"):
            await worker.run(stream(chunk(5, 9)))

    asyncio.run(check())
    assert processed == [0, 1, 2, 3, 4]


def test_chunks_beyond_a_day_s_end_are_paused_until_time_has_come_to_it() -> None:
    broker = Broker()
    broker.day_end = 7
    worker, processed = worker_of(broker)

    async def check() -> None:
        await worker.run(stream(chunk(0, 4), chunk(5, 9, 0, 1), chunk(10, 14, 0, 2)))
        async with worker.quiet():
            assert processed == list(range(7))
            assert (broker.applied, broker.paused) == ({ORDERS: 7}, {ORDERS})
            assert worker.paused._watermark_needed.is_set()
        await worker.run(stream(ticked(12)))
        assert (processed, broker.paused) == (list(range(12)), {ORDERS})
        await worker.run(stream(ticked(100), chunk(15, 19, 0, 3)))

    asyncio.run(check())
    assert processed == list(range(20))
    assert (broker.paused, broker.rewound) == (set(), [])


def test_paused_chunks_are_dropped_when_fetched_again_or_given_away() -> None:
    broker = Broker()
    broker.day_end = 7
    worker, processed = worker_of(broker)

    async def check() -> None:
        await worker.run(stream(chunk(0, 9)))
        await worker.resume(ORDERS)
        assert (broker.rewound, broker.paused) == ([7], set())
        await worker.run(stream(ticked(100), chunk(7, 9, 1), chunk(20, 29, 1, 1)))
        assert (processed, broker.rewound) == (list(range(10)), [7, 10])
        broker.day_end = 12
        await worker.run(stream(chunk(10, 29, 2)))
        assert broker.paused == {ORDERS}
        await worker.release_partitions()
        assert broker.paused == set()

    asyncio.run(check())
    assert processed == list(range(12))
