"""What streams/faust_ext/consumer.py, streams/faust_ext/memory_store.py and streams/worker/app.py rely on inside
Faust, and that Faust still does it.

A Faust upgrade must pass here first. Some of it is run; what cannot be run alone is told from names, signatures and the
order of calls upstream.
"""

import asyncio
import inspect
import re
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.app.base import App
from faust.assignor.partition_assignor import PartitionAssignor
from faust.stores.memory import Store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.tables.table import Table
from faust.transport import consumer as upstream
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.queues import ThrowableQueue
from packaging.requirements import Requirement

from config.settings import load_settings
from streams.faust_ext.assignor import AgreeingAssignor
from streams.faust_ext.chunk import Chunk
from streams.faust_ext.consumer import MicroBatchConsumer, MicroBatchTransport
from streams.faust_ext.consumer_thread import FETCH_WAIT_MS, MicroBatchThread
from streams.faust_ext.memory_store import PartitionStore
from streams.faust_ext.recovery import ChangelogQueue, StateRecovery
from streams.faust_ext.table import StateTable
from streams.worker.app import build
from streams.worker.faust_app import TidemarkApp
from tests.support.tables import row

ROOT = Path(__file__).parents[3]
ORDERS = TP("orders", 0)


@pytest.fixture
def app(tmp_path: Path) -> TidemarkApp:
    """An app that is built and never started: nothing connects."""
    return build(load_settings(data_dir=tmp_path, policy="demo", partitions=4))


# --- which Faust --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["faust-streaming", "aiokafka"])
def test_the_range_that_is_supported_is_the_one_that_is_required_stated_and_tested(package: str) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    required = next(each for each in map(Requirement, dependencies) if each.name == package)
    assert required.specifier.contains(version(package)), f"{package} {version(package)} is not what is required"
    bounds = {each.operator: each.version for each in required.specifier}
    assert set(bounds) == {">=", "<"}
    stated = re.search(rf"{package}[^(]*\(`([^`]+)`\)", (ROOT / "docs" / "operations.md").read_text())
    assert stated is not None
    assert stated[1] == f">={bounds['>=']},<{bounds['<']}"


def test_faust_is_of_one_minor_series() -> None:
    assert version("faust-streaming").split(".")[:2] == ["0", "15"]


# --- names, signatures and the order of calls upstream ------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs", "name", "parameters"),
    [
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "__post_init__", ["self"]),
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "on_start", ["self"]),
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "_highwaters", ["self", "partitions"]),
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "_seek_wait", ["self", "consumer", "partitions"]),
        (MicroBatchThread, driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
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
        (ChangelogQueue, ThrowableQueue, "get", ["self"]),
        (StateRecovery, Recovery, "_build_offsets", ["self", "consumer", "tps", "destination", "title"]),
        (StateTable, Table, "_new_store", ["self"]),
        (AgreeingAssignor, PartitionAssignor, "metadata", ["self", "topics"]),
        (AgreeingAssignor, PartitionAssignor, "_perform_assignment", ["self", "cluster", "member_metadata"]),
        (AgreeingAssignor, PartitionAssignor, "on_assignment", ["self", "assignment"]),
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
        # Recovery seeks, all at once, before anything else may be fetched.
        (driver.AIOKafkaConsumerThread._seek_wait, ["consumer.seek(tp, offset)", "await "]),
        (Recovery._seek_offsets, ["consumer.seek_wait(new_offsets)"]),
        # Of the partitions it is given, a fetch asks whether there are any, and whether one is among them.
        (Fetcher.fetched_records, ["if partitions and tp not in partitions", "if drained or not timeout"]),
        (
            upstream.Consumer._wait_next_records,
            ["self._get_active_partitions()", "active_partitions=active_partitions"],
        ),
        # Flow is stopped and the queues are empty before the worker hears of a revocation.
        (
            App._on_partitions_revoked,
            ["stop_flow", "flow_control.suspend)()", "flow_control.clear)()", "self.on_partitions_revoked.send"],
        ),
        # The store forgets what it lost before recovery asks how far its rows go.
        (TableManager.on_rebalance, ["table.on_rebalance", "self.recovery.on_rebalance"]),
        (Recovery._add, ["table.persisted_offset(tp)"]),
        # Recovery reads from the offset of the rows to the end that our thread lists, by batches for the store.
        (
            Recovery._restart_recovery.fun,
            ["self._build_highwaters", "self._build_offsets", "self._seek_offsets", "signal_recovery_end.wait()"],
        ),
        (Recovery._build_highwaters, ["consumer.highwaters(*tps)"]),
        (Recovery._build_offsets, ["consumer.earliest_offsets(*tps)", "max(last_value, new_value)"]),
        # What it drops is decided by the reading position, which is why ours is forgotten before each chunk.
        (
            upstream.Consumer._drain_messages,
            ["get_read_offset(tp)", "if r_offset is None or offset >= r_offset", "set_read_offset(tp, offset)"],
        ),
        # A commit asks for the offsets, has the producer flushed, and only then is made.
        (upstream.Consumer._commit_tps, ["self._filter_committable_offsets(tps)", "self._commit_offsets("]),
        (upstream.Consumer._commit_offsets, ["self.assignment()", "producer.flush()", "self._commit("]),
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


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        # Called, not overridden.
        (upstream.Consumer, "_wait_next_records", ["self", "timeout"]),
        (upstream.Consumer, "perform_seek", ["self"]),
        (upstream.Consumer, "commit", ["self", "topics", "start_new_transaction"]),
        (upstream.Consumer, "highwaters", ["self", "partitions"]),
        (driver.Consumer, "highwater", ["self", "tp"]),
        (driver.AIOKafkaConsumerThread, "_ensure_consumer", ["self"]),
        (driver.AIOKafkaConsumerThread, "call_thread", ["self", "fun", "args", "kwargs"]),
        (driver.AIOKafkaConsumerThread, "assignment", ["self"]),
        (driver.Producer, "_ensure_producer", ["self"]),
        (App, "crash", ["self", "reason"]),
        (AIOKafkaProducer, "create_batch", ["self"]),
        (AIOKafkaProducer, "send_batch", ["self", "batch", "topic", "partition"]),
        (BatchBuilder, "append", ["self", "timestamp", "key", "value", "headers"]),
        (BatchBuilder, "record_count", ["self"]),
        (AIOKafkaConsumer, "beginning_offsets", ["self", "partitions"]),
        (AIOKafkaConsumer, "committed", ["self", "partition"]),
        (AIOKafkaConsumer, "highwater", ["self", "partition"]),
        (AIOKafkaConsumer, "last_stable_offset", ["self", "partition"]),
        (AIOKafkaConsumer, "last_poll_timestamp", ["self", "partition"]),
        (AIOKafkaConsumer, "seek", ["self", "partition", "offset"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_called_upstream_takes_what_it_is_given(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_the_app_is_made_of_our_parts(app: TidemarkApp) -> None:
    async def check() -> None:
        assert type(app.transport) is MicroBatchTransport
        assert type(app.consumer) is MicroBatchConsumer
        assert type(app.consumer._thread) is MicroBatchThread
        table = app.tables["state"]
        assert type(table) is StateTable
        assert type(table.data) is PartitionStore
        assert not inspect.iscoroutinefunction(app.producer._ensure_producer)
        of_the_consumer = (
            "flow_active _read_offset _buffered_partitions _acked _acked_index app should_stop loop beacon"
        )
        for owner, names in (
            (app.consumer, of_the_consumer.split()),
            (app, ["consumer_generation_id", "in_recovery", "rebalancing", "monitor", "on_partitions_revoked"]),
            (app.tables, ["actives_ready", "changelog_queue", "recovery"]),
        ):
            assert [name for name in names if not hasattr(owner, name)] == []

    asyncio.run(check())


def test_the_broker_may_not_hold_a_fetch_for_long(app: TidemarkApp) -> None:
    async def check() -> None:
        consumer = app.consumer._thread._create_consumer(asyncio.get_running_loop())
        assert consumer._fetch_max_wait_ms == FETCH_WAIT_MS
        assert consumer._isolation_level == "read_committed"
        assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)
        assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)

    asyncio.run(check())


def test_faust_knows_every_setting_it_is_given(app: TidemarkApp) -> None:
    source = inspect.getsource(build.__globals__["faust_app"])
    given = set(re.findall(r"^        (\w+)=", source, re.MULTILINE)) - {"metrics", "policy_contents"}  # ours
    assert len(given) > 20
    assert [name for name in given if not hasattr(type(app.conf), name)] == []


# --- recovery, run ------------------------------------------------------------------------------------------


def recovered(
    app: TidemarkApp, *chunks: tuple[int, int], stale: tuple[int, int] | None = None, lost: int | None = None
) -> tuple[StateTable, list[list[int]]]:
    """Run Faust's recovery over chunks (first, last offset) of a changelog that ends with the last; say in which
    batches they came to the table. A `stale` chunk comes before them, of an earlier assignment. Chunk number `lost`
    does not come, until all are fetched again from where recovery says."""
    batches: list[list[int]] = []

    async def check() -> None:
        table, recovery = app.tables["state"], app.tables.recovery
        tp = TP(table.changelog_topic_name, 1)
        await table.data.on_rebalance({tp}, set(), {tp})
        recovery.active_tps.add(tp)
        recovery.tp_to_table[tp] = table
        recovery.active_offsets[tp], recovery.active_highwaters[tp] = -1, chunks[-1][1]
        recovery._set_recovery_started()
        app.flow_control.resume()
        apply = table.apply_changelog_batch

        def applied(events: list[Any]) -> None:
            if events:  # what is left at the end may be nothing
                batches.append([event.message.offset for event in events])
            apply(events)

        table.apply_changelog_batch = applied
        epoch = 0
        app.consumer.epoch = lambda _tp: epoch

        def comes(number: int, first: int, last: int, generation: int = 0) -> None:
            records = [
                SimpleNamespace(offset=at, key=b"k%d" % at, value=row("k"), headers=()) for at in range(first, last + 1)
            ]
            message = SimpleNamespace(tp=tp, partition=1, offset=last, value=Chunk(records, epoch, number))
            message.generation_id = generation
            app.tables.changelog_queue.force_put_nowait(SimpleNamespace(message=message))

        async def seek_back(_tp: TP, offset: int) -> None:
            nonlocal epoch
            epoch += 1
            for number, (first, last) in enumerate(chunk for chunk in chunks if chunk[1] >= offset):
                comes(number, max(first, offset), last)

        app.consumer.seek_back = seek_back
        if stale:
            comes(0, *stale, generation=-1)
        for number, chunk in enumerate(chunks):
            if number != lost:
                comes(number, *chunk)
        reading = asyncio.ensure_future(Recovery._slurp_changelogs.fun(recovery))
        try:
            await asyncio.wait_for(recovery.signal_recovery_end.wait(), timeout=12)
        finally:
            recovery._stopped.set()  # it may take a cancellation for a chunk that does not come, and go on
            reading.cancel()

    asyncio.run(check())
    return app.tables["state"], batches


def test_recovery_gives_micro_batches_to_the_table_and_counts_them_by_their_last_offset(app: TidemarkApp) -> None:
    table, batches = recovered(app, (0, 4), (5, 9), (10, 10))
    assert table.recovery_buffer_size == 2
    assert batches == [[4, 9], [10]], "two chunks at a time, and what is left in the buffer at the end"
    assert table.persisted_offset(TP(table.changelog_topic_name, 1)) == 10
    assert len(table.data._rows[1]) == 11


def test_recovery_passes_over_chunks_that_it_has_had(app: TidemarkApp) -> None:
    _, batches = recovered(app, (0, 4), (0, 4), (3, 9))
    assert batches == [[4, 9]], "a chunk that begins earlier and ends later is taken"


def test_recovery_does_not_go_on_from_a_chunk_of_an_earlier_assignment(app: TidemarkApp) -> None:
    table, batches = recovered(app, (0, 4), (5, 9), stale=(5, 12))
    assert batches == [[4, 9]]
    assert table.persisted_offset(TP(table.changelog_topic_name, 1)) == 9
    assert len(table.data._rows[1]) == 10


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_recovery_has_a_chunk_that_was_lost_on_its_way_fetched_again(app: TidemarkApp, lost: int) -> None:
    chunks = [(0, 4), (5, 9), (20, 24), (25, 25)]
    table, batches = recovered(app, *chunks, lost=lost)
    assert [last for batch in batches for last in batch] == [4, 9, 24, 25]
    assert sorted(table.data._rows[1]) == sorted(b"k%d" % at for at in [*range(10), *range(20, 26)])


def test_what_waits_for_recovery_stays_when_faust_resumes_the_flow(app: TidemarkApp) -> None:
    async def check() -> None:
        # Standby partitions are read by then.
        app.tables.changelog_queue.put_nowait("a chunk")
        app.flow_control.suspend()
        app.flow_control.clear()
        app.flow_control.resume()
        assert app.tables.changelog_queue.qsize() == 1

    asyncio.run(check())


def test_recovery_begins_at_the_end_of_the_rows_whatever_faust_has_seen(app: TidemarkApp) -> None:
    async def check() -> None:
        table, recovery = app.tables["state"], app.tables.recovery
        held, empty = (TP(table.changelog_topic_name, number) for number in (1, 2))
        await table.data.on_rebalance({held, empty}, set(), {held, empty})
        table.data._offsets[1] = 6
        recovery.tp_to_table.update({held: table, empty: table})
        recovery.active_offsets.update({held: 90, empty: 80})

        async def earliest_offsets(*tps: TP) -> dict[TP, int]:
            return dict.fromkeys(tps, 0)

        consumer = SimpleNamespace(earliest_offsets=earliest_offsets)
        await recovery._build_offsets(consumer, {held, empty}, recovery.active_offsets, "active")
        assert recovery.active_offsets == {held: 6, empty: -1}

    asyncio.run(check())


def test_recovery_goes_over_offsets_that_hold_nothing(app: TidemarkApp) -> None:
    table, batches = recovered(app, (0, 4), (70, 79))
    assert batches == [[4, 79]]
    assert len(table.data._rows[1]) == 15


def test_faust_does_not_go_on_reading_the_changelog_of_active_partitions(app: TidemarkApp) -> None:
    # With a buffer of one it does, and would put old rows in the place of newer ones.
    assert "recovery_buffer_size == 1" in inspect.getsource(Recovery._restart_recovery.fun)
    assert app.tables["state"].recovery_buffer_size > 1


# --- commits, run -------------------------------------------------------------------------------------------


def test_a_commit_of_faust_commits_what_was_applied(app: TidemarkApp) -> None:
    async def check() -> None:
        consumer, committed = app.consumer, []

        async def commit(offsets: dict[TP, int]) -> bool:
            committed.append(dict(offsets))
            return True

        async def flush() -> None:
            committed.append("flushed")

        consumer._commit, app.producer.flush = commit, flush
        consumer.assignment = lambda: {ORDERS}
        consumer._acked[ORDERS].append(99)
        await consumer.commit()
        assert committed == [], "nothing is applied yet"
        consumer._acked[ORDERS].append(99)
        consumer.mark_applied(ORDERS, 7)
        await consumer.commit()
        await consumer.commit()
        assert committed == ["flushed", {ORDERS: 7}]
        consumer.mark_applied(ORDERS, 8)
        consumer.assignment = set
        await consumer.commit()
        assert committed == ["flushed", {ORDERS: 7}], "what was given away is not committed"

    asyncio.run(check())
