"""The thread that fetches: what it takes from aiokafka, when, and what it knows of it."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.fetcher import Fetcher, FetchResult
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.errors import IllegalStateError, UnknownTopicOrPartitionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.faust_ext.chunk import Chunk
from streams.faust_ext.consumer_thread import MicroBatchThread
from streams.faust_ext.fetch_filter import LOOK_HELD_BACK_S, LOOK_S
from tests.streams.faust_ext.test_consumer import ORDERS, app_in, chunk


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
        self.arriving: list[dict[Any, list[Any]]] = []
        self.happening: list[Callable[[], object]] = []
        self.asked: list[int | None] = []
        self.waits: list[float] = []
        self.sought: list[tuple[Any, int]] = []
        self.positions: dict[Any, int] = {}
        self.listed: dict[TP, int] = {}
        self.told: dict[TP, int | None] = {}
        #: When (ms) the last fetch was answered, by partition.
        self.polled: dict[TP, float] = {}

    async def fetched_records(self, partitions: Any, *, timeout: float, max_records: int | None) -> Any:  # noqa: ASYNC109  # aiokafka's
        self.asked.append(max_records)
        self.waits.append(timeout)
        if timeout and self.arriving:
            self.fetched = self.arriving.pop(0)
        if self.happening:
            self.happening.pop(0)()
        drained: dict[Any, list[Any]] = {}
        for tp, records in self.fetched.items():
            if tp in partitions:
                drained[tp] = records
                if max_records is not None and (max_records := max_records - len(records)) <= 0:
                    break
        return drained

    async def end_offsets(self, partitions: Any) -> dict[TP, int]:
        return {tp: self.listed[tp] for tp in partitions}

    async def beginning_offsets(self, partitions: Any) -> dict[TP, int]:
        return dict.fromkeys(partitions, 3)

    async def committed(self, tp: TP) -> int | None:
        return self.told[tp]

    def last_poll_timestamp(self, tp: TP) -> float | None:
        return self.polled.get(tp)

    def highwater(self, tp: TP) -> int | None:
        return self.told[tp]

    def last_stable_offset(self, tp: TP) -> int | None:
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
            assert await thread.seek_back(ORDERS, 3) == 1
            assert await thread.seek_back(ORDERS, 3) == 2
            assert kafka.sought == [(driver.ensure_aiokafka_TP(ORDERS), 3)] * 2
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 2, 0)}
            # Recovery seeks too, and what was fetched before it is of another epoch.
            await thread.seek_wait({ORDERS: 3})
            assert thread.epoch(ORDERS) == 3
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 3, 0)}

    asyncio.run(check())


def test_an_end_reached_without_a_record_differs_from_records_on_their_way(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            tp = driver.ensure_aiokafka_TP(ORDERS)
            assert not await thread.reached_end(ORDERS, 6), "it is not even ours"
            kafka.told[ORDERS] = 6
            await thread.seek_back(ORDERS, 5)
            assert not await thread.reached_end(ORDERS, 6), "it is being fetched"
            kafka.positions[tp] = 6
            assert await thread.reached_end(ORDERS, 6)
            kafka.fetched = {tp: chunk(5, 5).records}
            await thread.getmany({ORDERS}, 1.0)
            assert not await thread.reached_end(ORDERS, 6), "there was a record, and nobody has had it yet"
            await thread.seek_back(ORDERS, 6)
            assert await thread.reached_end(ORDERS, 6)

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


def test_a_fetch_that_outlasts_a_rebalance_leaves_inactive_partitions_in_the_fetcher(tmp_path: Path) -> None:
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
            assert await thread.seek_back(ORDERS, 3) == 0
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


def test_a_fetch_looks_again_soon_while_a_partition_is_held_back(tmp_path: Path) -> None:
    """What was fetched of it keeps aiokafka from asking that broker for anything else."""

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            other = TP("orders", 1)
            kafka.arriving = [{driver.ensure_aiokafka_TP(other): chunk(0, 6).records}]
            active = thread.consumer._set_active_tps({ORDERS, other})
            thread.consumer.on_buffer_full(ORDERS)
            assert ORDERS not in active
            await thread.getmany(active, 1.0)
            thread.consumer.on_buffer_drop(ORDERS)
            assert ORDERS in active
            await thread.getmany(active, 1.0)
            assert kafka.waits == [0.0, LOOK_HELD_BACK_S, 0.0, LOOK_S]

    asyncio.run(check())


def test_partitions_with_a_backlog_take_turns(tmp_path: Path) -> None:
    """The next batch of a partition waits for the one before, so that of another one should come first."""

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            tps = [ORDERS, TP("orders", 1), TP("orders", 2)]
            kafka.fetched = {driver.ensure_aiokafka_TP(tp): chunk(0, 6).records for tp in tps}
            turns = [list(await thread.getmany(set(tps), 1.0)) for _ in range(6)]
            assert all(len(turn) == 1 for turn in turns), "seven records are a batch here"
            assert all(turn != before for turn, before in zip(turns[1:], turns, strict=False))
            kafka.fetched = {driver.ensure_aiokafka_TP(tp): chunk(0, 2).records for tp in tps}
            thread._last.clear()
            assert list(await thread.getmany(set(tps), 1.0)) == tps[:2], (
                "of a third batch but one record could be taken"
            )
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): chunk(7, 9).records}
            assert [list(await thread.getmany(set(tps), 1.0)) for _ in range(2)] == [[ORDERS]] * 2, (
                "nobody else is there"
            )

    asyncio.run(check())


def test_what_was_taken_of_one_partition_is_safe_from_what_happens_to_the_next(tmp_path: Path) -> None:
    def refuse() -> None:
        raise UnknownTopicOrPartitionError

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            records = chunk(0, 2).records
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): records}
            kafka.happening = [lambda: None, refuse]
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 0, 0)}
            thread._last.clear()
            kafka.happening = [lambda: None, lambda: thread._sought(ORDERS)]
            assert await thread.getmany({ORDERS}, 1.0) == {ORDERS: Chunk(records, 0, 1)}, "it was fetched before"
            thread._last.clear()
            kafka.happening = [refuse]
            with pytest.raises(UnknownTopicOrPartitionError):
                await thread.getmany({ORDERS}, 1.0)

    asyncio.run(check())


def test_a_batch_is_as_large_as_can_be_processed_in_a_few_seconds(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.fetched = {driver.ensure_aiokafka_TP(ORDERS): chunk(0, 6).records}
            for records, seconds in [(100, 1000.0)] * 20 + [(10_000, 0.5)] * 2:
                thread.consumer.note_pace(records, seconds)
                thread._last.clear()
                await thread.getmany({ORDERS}, 1.0)
            assert kafka.asked[0] == kafka._max_poll_records, "the first ones are reckoned to take no time"
            assert min(kafka.asked) == 1, "however slow, something is taken"
            assert kafka.asked[-1] == kafka._max_poll_records

    asyncio.run(check())


def test_the_end_of_a_fetch_counts_if_the_list_is_behind(tmp_path: Path) -> None:
    other, foreign, fresh = TP("orders", 1), TP("orders", 2), TP("orders", 3)

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.listed = {ORDERS: 5, other: 9, foreign: 4, fresh: 2}
            kafka.told = {ORDERS: 8, other: 7, fresh: None}
            assert await thread.highwaters(ORDERS, other, foreign, fresh) == {ORDERS: 8, other: 9, foreign: 4, fresh: 2}

    asyncio.run(check())


def test_the_ends_of_logs_are_those_listed_those_fetched_and_when(tmp_path: Path) -> None:
    other, foreign = TP("orders", 1), TP("orders", 2)

    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.listed = {ORDERS: 5, other: 6, foreign: 3}
            kafka.told = {ORDERS: 8, other: None}
            kafka.polled = {ORDERS: 17.0}
            await thread.highwaters(ORDERS, other, foreign)
            assert await thread.log_ends([ORDERS, other, foreign]) == {ORDERS: (5, 8, 17), other: (6, 0, 0)}
            kafka.last_stable_offset = lambda _: -1  # type: ignore[method-assign]  # a broker without transactions
            assert await thread.log_ends([ORDERS]) == {ORDERS: (5, 8, 17)}

    asyncio.run(check())


def test_where_a_log_begins_and_what_is_committed_is_asked_of_the_broker(tmp_path: Path) -> None:
    async def check() -> None:
        async with thread_in(tmp_path) as (thread, kafka):
            kafka.told = {ORDERS: 8, TP("orders", 1): None}
            assert (await thread.earliest_offsets(ORDERS))[ORDERS] == 3
            assert await thread.committed(ORDERS) == 8
            assert await thread.committed(TP("orders", 1)) == 0

    asyncio.run(check())
