"""What streams/transport.py and streams/store.py rely on inside Faust. A Faust upgrade must pass here first."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.app.base import App
from faust.stores.memory import Store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.tables.table import Table
from faust.transport import consumer as upstream
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from config.policy_files import load_timeline
from config.settings import load_settings
from models.customer import NEVER, Customer
from models.events import Topic
from models.instants import MIN_INSTANT
from streams.app import TidemarkApp, build
from streams.metrics import Metrics
from streams.partition import Partition
from streams.processor import Effects
from streams.shell import Shell
from streams.store import PartitionStore, StateTable
from streams.transport import Chunk, MicroBatchConsumer, MicroBatchThread, MicroBatchTransport
from streams.worker import Worker

ORDERS = TP("orders", 0)


@contextlib.asynccontextmanager
async def app_in(directory: Path) -> AsyncIterator[TidemarkApp]:
    """An app that is built and never started: nothing connects."""
    yield build(load_settings(data_dir=directory, policy="demo", partitions=4))


def chunk(first: int, last: int, epoch: int = 0, topic: str = "orders") -> Chunk:
    def record(offset: int) -> Any:
        return SimpleNamespace(
            topic=topic, partition=0, offset=offset, timestamp=1_000, timestamp_type=0, headers=(), key=b"k", value=b"v"
        )

    return Chunk([record(offset) for offset in range(first, last + 1)], epoch)


def offsets(message: Any) -> list[int]:
    return [record.offset for record in message.value.records]


# --- names, signatures and the order of calls upstream ------------------------------------------------------


def test_faust_is_of_the_series_that_is_subclassed() -> None:
    assert version("faust-streaming").split(".")[:2] == ["0", "15"]


@pytest.mark.parametrize(
    ("ours", "theirs", "name", "parameters"),
    [
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "__post_init__", ["self"]),
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "_highwaters", ["self", "partitions"]),
        (
            MicroBatchThread,
            driver.AIOKafkaConsumerThread,
            "_fetch_records",
            ["self", "consumer", "active_partitions", "timeout", "max_records"],
        ),
        (MicroBatchConsumer, driver.Consumer, "_new_consumer_thread", ["self"]),
        (MicroBatchConsumer, driver.Consumer, "getmany", ["self", "timeout"]),
        (MicroBatchConsumer, driver.Consumer, "_new_offset", ["self", "tp"]),
        (MicroBatchConsumer, driver.Consumer, "_add_gap", ["self", "tp", "offset_from", "offset_to"]),
        (TidemarkApp, App, "_new_transport", ["self"]),
        (StateTable, Table, "_new_store", ["self"]),
        (PartitionStore, Store, "persisted_offset", ["self", "tp"]),
        (PartitionStore, Store, "set_persisted_offset", ["self", "tp", "offset"]),
        (PartitionStore, Store, "need_active_standby_for", ["self", "tp"]),
        (PartitionStore, Store, "apply_changelog_batch", ["self", "batch", "to_key", "to_value"]),
        (
            PartitionStore,
            Store,
            "on_rebalance",
            ["self", "assigned", "revoked", "newly_assigned", "generation_id"],
        ),
        (PartitionStore, Store, "on_recovery_completed", ["self", "active_tps", "standby_tps"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_overridden_exists_upstream_and_is_called_alike(
    ours: type, theirs: type, name: str, parameters: list[str]
) -> None:
    assert name in vars(ours)
    method, original = getattr(ours, name), getattr(theirs, name)
    assert list(inspect.signature(original).parameters) == parameters
    wrapped = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in inspect.signature(method).parameters.values())
    if not wrapped:
        assert list(inspect.signature(method).parameters) == parameters
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    assert [kind(method) for kind in kinds] == [kind(original) for kind in kinds]


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        # A chunk reaches the stream through these, and is committed through those.
        (upstream.Consumer._drain_messages, ["self.getmany", "getmany(timeout=", "callback(message)"]),
        (upstream.Consumer.getmany, ["await self._wait_next_records(timeout)", "self.flow_active", "perform_seek()"]),
        (upstream.Consumer._wait_next_records, ["await self._getmany(", "return records, active_partitions"]),
        (upstream.Consumer._filter_committable_offsets, ["self._new_offset(tp)", "self._should_commit(tp, offset)"]),
        (driver.AIOKafkaConsumerThread.getmany, ["self._fetch_records,", "max_records=_consumer._max_poll_records"]),
        (driver.AIOKafkaConsumerThread.highwaters, ["self._highwaters"]),
        # Flow is stopped and the queues are empty before the worker hears of a revocation.
        (
            App._on_partitions_revoked,
            ["stop_flow", "flow_control.suspend)()", "flow_control.clear)()", "self.on_partitions_revoked.send"],
        ),
        # The store forgets what it lost before recovery asks how far its rows go.
        (TableManager.on_rebalance, ["table.on_rebalance", "self.recovery.on_rebalance"]),
        (Recovery._add, ["table.persisted_offset(tp)"]),
        # The partitions are open before their events flow, and events flow from the committed offsets.
        (
            Recovery.on_recovery_completed,
            ["table.on_recovery_completed(", "consumer.resume_partitions(", "consumer.perform_seek()", "resume_flow()"],
        ),
    ],
    ids=lambda value: value.__qualname__ if callable(value) else "",
)
def test_upstream_calls_what_is_relied_on_in_this_order(function: Callable[..., Any], calls: list[str]) -> None:
    source = inspect.getsource(function)
    places = [source.find(call) for call in calls]
    assert -1 not in places, dict(zip(calls, places, strict=True))
    assert places == sorted(places), dict(zip(calls, places, strict=True))


def test_the_app_is_made_of_our_parts(tmp_path: Path) -> None:
    async def check() -> None:
        async with app_in(tmp_path) as app:
            assert type(app.transport) is MicroBatchTransport
            assert type(app.consumer) is MicroBatchConsumer
            assert type(app.consumer._thread) is MicroBatchThread
            table = app.tables["state"]
            assert type(table) is StateTable
            assert type(table.data) is PartitionStore
            assert not inspect.iscoroutinefunction(app.producer._ensure_producer)
            for name in ("flow_active", "_read_offset", "_buffered_partitions", "_acked", "_acked_index", "app"):
                assert hasattr(app.consumer, name), name

    asyncio.run(check())


def test_faust_does_not_go_on_reading_the_changelog_of_active_partitions(tmp_path: Path) -> None:
    # With a buffer of one it does, and would put old rows in the place of newer ones.
    assert "recovery_buffer_size == 1" in inspect.getsource(Recovery._restart_recovery.fun)

    async def check() -> None:
        async with app_in(tmp_path) as app:
            assert app.tables["state"].recovery_buffer_size > 1

    asyncio.run(check())


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


def test_what_is_fetched_comes_as_one_chunk_a_partition_with_the_epoch_of_its_fetch(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            records = chunk(3, 5).records
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): records}
            kafka.told[ORDERS] = 6
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 0)}
            assert await thread.rewind(ORDERS, 3) == 1
            assert await thread.rewind(ORDERS, 3) == 2
            assert kafka.sought == [(driver.ensure_aiokafka_TP(ORDERS), 3)] * 2
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 2)}

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
            assert consumer.delivered == {ORDERS: 10}

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


# --- the store ----------------------------------------------------------------------------------------------


def changelog_event(number: int, first: int, rows: list[tuple[bytes, bytes | None]], app: faust.App) -> Any:
    topic = app.tables["state"].changelog_topic_name
    records = [SimpleNamespace(offset=first + place, key=key, value=value) for place, (key, value) in enumerate(rows)]
    message = SimpleNamespace(
        tp=TP(topic, number), partition=number, offset=first + len(rows) - 1, value=Chunk(records, 0)
    )
    return SimpleNamespace(message=message, key=b"", value=message.value)


def row(customer_id: str) -> bytes:
    return Customer(customer_id).to_row()


@contextlib.asynccontextmanager
async def state_table(directory: Path) -> AsyncIterator[tuple[TidemarkApp, StateTable, Callable[..., Any]]]:
    async with app_in(directory) as app:
        table = app.tables["state"]
        topic = table.changelog_topic_name

        async def rebalance(*numbers: int) -> set[TP]:
            assigned = {TP(topic, number) for number in numbers}
            await table.on_rebalance(assigned | {TP("orders", number) for number in numbers}, set(), assigned, 1)
            return assigned

        yield app, table, rebalance


def test_recovery_brings_the_latest_rows_and_opens_the_partitions(tmp_path: Path) -> None:
    async def check() -> None:
        async with state_table(tmp_path) as (app, table, rebalance):
            before = Partition(1)
            before.applied(Topic.ORDERS, 42, 1_000)
            assigned = await rebalance(0, 1)
            assert table.persisted_offset(TP(table.changelog_topic_name, 1)) is None
            ann, bob = row("ann"), row("bob")
            table.apply_changelog_batch([changelog_event(1, 0, [(b"ann", b"old"), (b"bob", bob), (b"eve", b"x")], app)])
            table.apply_changelog_batch(
                [changelog_event(1, 3, [(b"ann", ann), (b"eve", None), before.progress_row()], app)]
            )
            assert table.data.partition(1) is None
            await table.on_recovery_completed(assigned, set())
            partition = table.data.partition(1)
            assert partition.customers == 2
            assert partition.rows[b"ann"] == ann
            assert partition.next_offset(Topic.ORDERS) == 42
            assert table.data.partition(0).customers == 0
            assert table.data.partition(2) is None
            assert table.persisted_offset(TP(table.changelog_topic_name, 1)) == 5

    asyncio.run(check())


def test_the_fingerprint_of_the_policy_reaches_the_partitions(tmp_path: Path) -> None:
    async def check() -> None:
        async with state_table(tmp_path) as (app, table, rebalance):
            fingerprint = load_timeline(Path("demo")).fingerprint
            assert table.timeline == fingerprint
            known, outdated = Customer("known"), Customer("outdated")
            known.timeline, known.due, outdated.timeline = fingerprint, 70, fingerprint ^ 1
            assigned = await rebalance(0, 1, 2)
            for number, customers in ((0, [known]), (1, [known, outdated])):
                rows = [(customer.customer_id.encode(), customer.to_row()) for customer in customers]
                table.apply_changelog_batch([changelog_event(number, 0, rows, app)])
            await table.on_recovery_completed(assigned, set())
            due = [table.data.partition(number).due for number in (0, 1, 2)]
            assert [(len(index), index.next_instant()) for index in due] == [(1, 70), (2, MIN_INSTANT), (0, NEVER)]

    asyncio.run(check())


def test_what_is_read_of_the_changelog_of_an_open_partition_is_ignored(tmp_path: Path) -> None:
    async def check() -> None:
        async with state_table(tmp_path) as (app, table, rebalance):
            assigned = await rebalance(1)
            await table.on_recovery_completed(assigned, set())
            newer = row("ann")
            table.data.partition(1).rows[b"ann"] = newer
            table.apply_changelog_batch([changelog_event(1, 0, [(b"ann", b"older")], app)])
            assert table.data.partition(1).rows[b"ann"] == newer

    asyncio.run(check())


def test_what_is_kept_in_a_rebalance_is_not_recovered_again_and_what_is_lost_is(tmp_path: Path) -> None:
    async def check() -> None:
        async with state_table(tmp_path) as (_, table, rebalance):
            kept, lost = (TP(table.changelog_topic_name, number) for number in (1, 2))
            await table.on_recovery_completed(await rebalance(1, 2), set())
            for tp in (kept, lost):
                table.data.partition(tp.partition).rows[b"ann"] = row("ann")
                table.data.set_persisted_offset(tp, 9)
            assigned = await rebalance(1, 3)
            assert (table.persisted_offset(kept), table.persisted_offset(lost)) == (9, None)
            assert table.data.partition(1) is None
            await table.on_recovery_completed(assigned, set())
            assert table.data.partition(1).customers == 1
            await table.on_recovery_completed(await rebalance(2), set())
            assert table.data.partition(2).customers == 0

    asyncio.run(check())


def test_a_late_chunk_of_a_partition_that_was_given_away_does_not_pass_for_its_beginning(tmp_path: Path) -> None:
    async def check() -> None:
        async with state_table(tmp_path) as (app, table, rebalance):
            tp = TP(table.changelog_topic_name, 1)
            await rebalance(1)
            table.apply_changelog_batch([changelog_event(1, 0, [(b"ann", row("ann"))], app)])
            await rebalance(2)
            table.apply_changelog_batch([changelog_event(1, 1, [(b"bob", row("bob"))], app)])
            await rebalance(1)
            assert table.persisted_offset(tp) is None
            assert 1 not in table.data._rows

    asyncio.run(check())


# --- what the worker makes of chunks ------------------------------------------------------------------------


class Broker:
    """Consumer, producer-side sender and store in one, for a worker without a broker."""

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

    def set_persisted_offset(self, _tp: TP, offset: int) -> None:
        self.persisted = offset

    async def perform(self, _partition: int, _effects: Any) -> int:
        return 1


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
    )
    worker = Worker(shell, Counting(), Metrics())
    worker._sender = lambda: broker

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
