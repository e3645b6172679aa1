"""The micro-batched transport: what is delivered and committed, and what the worker makes of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from config.settings import load_settings
from models.events import Topic
from streams.app import TidemarkApp, build
from streams.metrics import Metrics
from streams.partition import Partition
from streams.shell import Shell
from streams.step import Effects
from streams.transport import Chunk, MicroBatchConsumer
from streams.worker import Worker

ORDERS = TP("orders", 0)


@contextlib.asynccontextmanager
async def app_in(directory: Path) -> AsyncIterator[TidemarkApp]:
    """An app that is built and never started: nothing connects."""
    yield build(load_settings(data_dir=directory, policy="demo", partitions=4))


def chunk(first: int, last: int, epoch: int = 0, number: int = 0, topic: str = "orders") -> Chunk:
    def record(offset: int) -> Any:
        return SimpleNamespace(
            topic=topic, partition=0, offset=offset, timestamp=1_000, timestamp_type=0, headers=(), key=b"k", value=b"v"
        )

    return Chunk([record(offset) for offset in range(first, last + 1)], epoch, number)


def offsets(message: Any) -> list[int]:
    return [record.offset for record in message.value.records]


# --- the consumer -------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def fed_consumer(
    directory: Path, fetches: list[dict[TP, Chunk]]
) -> AsyncIterator[tuple[MicroBatchConsumer, list[Any]]]:
    """A consumer that is given fetches in turn and delivers to a list; it stops when there are no more."""
    async with app_in(directory) as app:
        consumer, delivered = app.consumer, []

        async def wait_next_records(_timeout: float) -> Any:
            if fetches:
                return fetches.pop(0), {ORDERS}
            consumer._stopped.set()
            return None, None

        async def deliver(message: Any) -> None:
            delivered.append(message)

        consumer._wait_next_records = wait_next_records
        consumer.highwater = lambda _tp: 100
        consumer.callback = deliver
        yield consumer, delivered


async def drain(consumer: MicroBatchConsumer) -> None:
    """Run Faust's own loop over what is fetched."""
    await consumer._drain_messages(SimpleNamespace(_stopped=asyncio.Event()))


def test_faust_delivers_one_message_a_chunk(tmp_path: Path) -> None:
    async def check() -> None:
        foreign = TP("orders", 1)
        fetches = [{ORDERS: chunk(0, 4), foreign: chunk(0, 9)}, {ORDERS: chunk(9, 9)}]
        async with fed_consumer(tmp_path, fetches) as (consumer, delivered):
            await drain(consumer)
            assert [offsets(message) for message in delivered] == [[0, 1, 2, 3, 4], [9]]
            assert [(message.tp, message.offset) for message in delivered] == [(ORDERS, 4), (ORDERS, 9)]
            assert delivered[0].timestamp == 1.0

    asyncio.run(check())


def test_what_is_left_of_a_fetch_after_a_rebalance_is_not_delivered(tmp_path: Path) -> None:
    async def check() -> None:
        fetches = [{ORDERS: chunk(0, 4), TP("customers", 0): chunk(0, 1)}]
        async with fed_consumer(tmp_path, fetches) as (consumer, delivered):
            deliver = consumer.callback

            async def rebalance(message: Any) -> None:
                await deliver(message)
                consumer.app.consumer_generation_id += 1

            consumer.callback = rebalance
            consumer._buffered_partitions.add(TP("customers", 0))
            await drain(consumer)
            assert [message.tp for message in delivered] == [ORDERS]

    asyncio.run(check())


def test_a_rewound_chunk_arrives_although_a_later_one_was_on_its_way(tmp_path: Path) -> None:
    """While 20–29 is being delivered the worker, which misses 0–9, rewinds. Faust must not take 0–9 for old."""

    async def check() -> None:
        fetches = [
            {ORDERS: chunk(10, 19)},
            {ORDERS: chunk(20, 29)},
            {ORDERS: chunk(0, 9, 1)},
            {ORDERS: chunk(10, 29, 1)},
        ]
        async with fed_consumer(tmp_path, fetches) as (consumer, delivered):
            deliver = consumer.callback

            async def rewound(_tp: TP, _offset: int) -> int:
                return 1

            async def rewind_meanwhile(message: Any) -> None:
                await deliver(message)
                if offsets(message)[0] == 20:
                    assert await consumer.rewind(ORDERS, 0) == 1

            consumer._thread.rewind = rewound
            consumer.callback = rewind_meanwhile
            await drain(consumer)
            assert [(offsets(message)[0], message.value.epoch) for message in delivered] == [
                (10, 0),
                (20, 0),
                (0, 1),
                (10, 1),
            ]

    asyncio.run(check())


def test_commits_follow_what_was_applied_and_never_what_was_acknowledged(tmp_path: Path) -> None:
    async def check() -> None:
        async with app_in(tmp_path) as app:
            consumer = app.consumer
            consumer._acked[ORDERS] += [5, 9]
            consumer._acked_index[ORDERS] |= {5, 9}
            assert list(consumer._filter_tps_with_pending_acks()) == [ORDERS]
            assert consumer._filter_committable_offsets([ORDERS]) == {}

            consumer._acked[ORDERS].append(12)
            consumer.mark_applied(ORDERS, 7)
            assert list(consumer._filter_tps_with_pending_acks()) == [ORDERS]
            assert consumer._filter_committable_offsets([ORDERS]) == {ORDERS: 7}
            assert not consumer._acked[ORDERS]
            assert not consumer._acked_index[ORDERS]

            consumer._committed_offset[ORDERS] = 7
            assert consumer._filter_committable_offsets([ORDERS]) == {}
            consumer.mark_applied(ORDERS, 8)
            assert consumer._filter_committable_offsets([ORDERS]) == {ORDERS: 8}
            consumer.forget([ORDERS])
            assert consumer._filter_committable_offsets([ORDERS]) == {}

            await consumer._add_gap(ORDERS, 3, 10**12)
            assert not consumer._gap[ORDERS]

    asyncio.run(check())


def test_a_worker_that_cannot_go_on_does_not_wait_for_a_commit_that_nobody_makes(tmp_path: Path) -> None:
    async def check() -> None:
        async with app_in(tmp_path) as app:
            committed = []

            async def commit(offsets: Any) -> bool:
                committed.append(offsets)
                return True

            app.consumer._thread.commit = commit
            assert await app.consumer._commit({ORDERS: 7})
            app._crash(RuntimeError("no broker"))
            assert not await app.consumer._commit({ORDERS: 8})
            assert committed == [{ORDERS: 7}]

    asyncio.run(check())


# --- what the worker makes of chunks ------------------------------------------------------------------------


class Broker:
    """Consumer, ownership and store in one, for a worker without a broker."""

    def __init__(self) -> None:
        self.open = {0: Partition(0)}
        self.rewound: list[int] = []
        self.applied: dict[TP, int] = {}
        self.assigned = {ORDERS}

    def partition(self, number: int) -> Partition | None:
        return self.open.get(number)

    def assignment(self) -> set[TP]:
        return self.assigned

    async def rewind(self, _tp: TP, offset: int) -> int:
        self.rewound.append(offset)
        return len(self.rewound)

    def mark_applied(self, tp: TP, next_offset: int) -> None:
        self.applied[tp] = next_offset

    async def claimed(self, partition: Partition) -> Partition:
        return partition

    async def perform(self, _partition: Partition, _effects: Any) -> None:
        """Outputs and state are acknowledged."""

    def suspend(self) -> None:
        self.open.clear()


def worker_of(broker: Broker) -> tuple[Worker, list[int]]:
    """Return a worker, and the list of offsets that it processes."""
    processed: list[int] = []

    class Counting:
        def process(self, partition: Partition, topic: Topic, _name: str, records: list[Any], _now: int) -> Effects:
            fresh = [record.offset for record in records if record.offset >= partition.next_offset(topic)]
            processed.extend(fresh)
            partition.applied(topic, max([partition.next_offset(topic), records[-1].offset + 1]), None)
            return Effects()

    shell = Shell(
        store=lambda: broker,
        consumer=lambda: broker,
        producer=lambda: broker,
        inputs={topic.label: topic for topic in Topic},
        name_of=str,
        changelog="changelog",
        ticks="ticks",
        read_changelog=lambda *_: None,
    )
    worker = Worker(shell, Counting(), Metrics())
    worker._ownership = broker
    return worker, processed


def event(one: Chunk) -> Any:
    return SimpleNamespace(message=SimpleNamespace(topic="orders", partition=0, tp=ORDERS, value=one))


async def stream(*chunks: Chunk) -> AsyncIterator[Any]:
    for one in chunks:
        yield event(one)


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
        giving_away = asyncio.create_task(worker.quiesce())
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
