"""The micro-batched transport: what is fetched, delivered and committed, and what the worker makes of it."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from config.settings import load_settings
from models.events import Topic
from streams.app import TidemarkApp, build
from streams.metrics import Metrics
from streams.partition import Partition
from streams.processor import Effects
from streams.shell import Shell
from streams.transport import Chunk, MicroBatchConsumer, MicroBatchThread
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


# --- the thread that fetches --------------------------------------------------------------------------------


class FakeKafka:
    """What the thread asks aiokafka's consumer for."""

    def __init__(self) -> None:
        self._closed = False
        self._max_poll_records = 7
        self._fetcher = SimpleNamespace(
            _closed=False,
            _subscriptions=SimpleNamespace(fetch_context=contextlib.nullcontext),
            fetched_records=self.fetched_records,
        )
        self.fetched: dict[Any, list[Any]] = {}
        self.asked: list[int | None] = []
        self.sought: list[tuple[Any, int]] = []
        self.positions: dict[Any, int] = {}
        self.listed: dict[TP, int] = {}
        self.told: dict[TP, int | None] = {}

    async def fetched_records(self, _partitions: Any, *, max_records: int | None, **_: Any) -> Any:
        self.asked.append(max_records)
        return self.fetched

    async def end_offsets(self, partitions: Any) -> dict[TP, int]:
        return {tp: self.listed[tp] for tp in partitions}

    def highwater(self, tp: TP) -> int | None:
        return self.told[tp]

    def assignment(self) -> set[TP]:
        return set(self.told)

    def seek(self, tp: Any, offset: int) -> None:
        self.sought.append((tp, offset))
        self.positions[tp] = offset

    async def position(self, tp: Any) -> int:
        if tp not in self.told:
            raise IllegalStateError(f"{tp} is not assigned")
        return self.positions[tp]


@contextlib.asynccontextmanager
async def thread_in(directory: Path) -> AsyncIterator[tuple[MicroBatchThread, FakeKafka]]:
    async with app_in(directory) as app:
        thread, kafka = app.consumer._thread, FakeKafka()

        async def at_once(method: Any, *args: Any, **kwargs: Any) -> Any:
            answer = method(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        thread.call_thread, thread._consumer = at_once, kafka
        app.in_recovery = False
        yield thread, kafka


def test_what_is_fetched_comes_as_one_chunk_a_partition_with_epoch_and_number(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            records = chunk(3, 5).records
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): records}
            kafka.told[ORDERS] = 6
            assert [await thread.getmany({ORDERS}, 1.0) for _ in range(2)] == [
                {ORDERS: Chunk(records, 0, 0)},
                {ORDERS: Chunk(records, 0, 1)},
            ]
            assert await thread.rewind(ORDERS, 3) == 1
            assert await thread.rewind(ORDERS, 3) == 2
            assert kafka.sought == [(driver.ensure_aiokafka_TP(ORDERS), 3)] * 2
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 2, 0)}
            # Recovery seeks too, and what was fetched before it is of another epoch.
            await thread.seek_wait({ORDERS: 3})
            assert thread.epoch(ORDERS) == 3
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 3, 0)}

    asyncio.run(check())


def test_an_end_that_was_reached_without_a_record_is_told_from_records_that_are_on_their_way(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            tp = driver.ensure_aiokafka_TP(ORDERS)
            assert not await thread.found_nothing(ORDERS, 6), "it is not even ours"
            kafka.told[ORDERS] = 6
            await thread.rewind(ORDERS, 5)
            assert not await thread.found_nothing(ORDERS, 6), "it is being fetched"
            kafka.positions[tp] = 6
            assert await thread.found_nothing(ORDERS, 6)
            kafka.fetched = {tp: chunk(5, 5).records}
            await thread.getmany({ORDERS}, 1.0)
            assert not await thread.found_nothing(ORDERS, 6), "there was a record, and nobody has had it yet"
            await thread.rewind(ORDERS, 6)
            assert await thread.found_nothing(ORDERS, 6)

    asyncio.run(check())


class Fetched:
    """What a fetcher of aiokafka holds of a partition, and its position in it."""

    def __init__(self, first: int, last: int) -> None:
        self.assignment = Assignment([driver.ensure_aiokafka_TP(ORDERS)])
        self.state = self.assignment.state_value(driver.ensure_aiokafka_TP(ORDERS))
        self.state.seek(first)
        self._records = iter(chunk(first, last).records)
        self.next_fetch_offset = first
        self.waiting: list[asyncio.Future[None]] = []

    def __iter__(self) -> "Fetched":
        return self

    def __next__(self) -> Any:
        record = next(self._records)
        self.next_fetch_offset = record.offset + 1
        return record

    def give(self, kafka: FakeKafka) -> None:
        """Put a fetcher of aiokafka's in the place of the fake one: nothing is there until it `arrives`."""
        kafka._fetcher._records = {}
        kafka._fetcher._subscriptions.reassignment_in_progress = False
        kafka._fetcher._subscriptions.is_assigned = lambda _tp: True
        kafka._fetcher._notify = lambda _future: None
        kafka._fetcher._wait_consume_future = None
        kafka._fetcher._create_fetch_waiter = self._waiter
        kafka._fetcher.fetched_records = partial(Fetcher.fetched_records, kafka._fetcher)

    def _waiter(self) -> "asyncio.Future[None]":
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    def arrives(self, kafka: FakeKafka) -> None:
        tp = driver.ensure_aiokafka_TP(ORDERS)
        kafka._fetcher._records[tp] = FetchResult(tp, assignment=self.assignment, partition_records=self, backoff=0.0)
        for waiter in self.waiting:
            waiter.set_result(None)
        self.waiting.clear()


def test_a_fetch_that_outlasts_a_rebalance_leaves_in_the_fetcher_what_nobody_wants_yet(tmp_path: Path) -> None:
    """Faust would drop it, and recovery, which has just sought the partition, would go on behind it."""

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            fetched, active = Fetched(5, 9), {ORDERS}
            fetched.give(kafka)
            outlasting = asyncio.ensure_future(thread.getmany(active, 0.5))
            for _ in range(10):
                await asyncio.sleep(0)
            assert fetched.waiting
            active.clear()  # a rebalance pauses all partitions
            fetched.arrives(kafka)
            assert await outlasting == {}
            assert fetched.state.position == 5

            active.add(ORDERS)
            thread.consumer.stop_flow()
            assert await thread.getmany(active, 0.01) == {}
            assert fetched.state.position == 5
            thread.consumer.resume_flow()
            taken = await thread.getmany(active, 0.01)
            assert [record.offset for record in taken[ORDERS].records] == [5, 6, 7, 8, 9]
            assert fetched.state.position == 10

    asyncio.run(check())


def test_a_partition_that_was_given_away_is_not_sought(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            assert await thread.rewind(ORDERS, 3) == 0
            assert kafka.sought == []

    asyncio.run(check())


def test_a_fetch_is_bounded_by_the_batch_size_except_in_recovery(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): chunk(0, 6).records}
            await thread.getmany({ORDERS}, 1.0)
            thread.app.in_recovery = True
            await thread.getmany({ORDERS}, 1.0)
            assert kafka.asked == [7, None]

    asyncio.run(check())


def test_an_end_that_a_fetch_told_counts_where_the_list_is_behind(tmp_path: Path) -> None:
    other, foreign, fresh = TP("orders", 1), TP("orders", 2), TP("orders", 3)

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.listed = {ORDERS: 5, other: 9, foreign: 4, fresh: 2}
            kafka.told = {ORDERS: 8, other: 7, fresh: None}
            assert await thread.highwaters(ORDERS, other, foreign, fresh) == {ORDERS: 8, other: 9, foreign: 4, fresh: 2}

    asyncio.run(check())


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


def take(broker: Broker, *chunks: Chunk) -> list[int]:
    """Have a worker take chunks of orders; return the offsets that it processed."""
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

    async def events() -> AsyncIterator[Any]:
        for one in chunks:
            message = SimpleNamespace(topic="orders", partition=0, tp=ORDERS, value=one)
            yield SimpleNamespace(message=message)

    asyncio.run(worker.run(events()))
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
