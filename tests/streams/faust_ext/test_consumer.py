"""The micro-batched transport: what is delivered and committed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from config.settings import load_settings
from streams.faust_ext.chunk import Chunk
from streams.faust_ext.consumer import MicroBatchConsumer
from streams.worker.app import build
from streams.worker.faust_app import TidemarkApp
from tests.support.worker_context import chunk

ORDERS = TP("orders", 0)


@contextlib.asynccontextmanager
async def app_in(directory: Path) -> AsyncIterator[TidemarkApp]:
    """An app that is built and never started: nothing connects."""
    yield build(load_settings(data_dir=directory, policy="demo", partitions=4))


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


def test_a_chunk_sought_again_arrives_although_a_later_one_was_on_its_way(tmp_path: Path) -> None:
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
                    assert await consumer.seek_back(ORDERS, 0) == 1

            consumer._thread.seek_back = rewound
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


def test_a_crashed_worker_does_not_wait_for_a_commit(tmp_path: Path) -> None:
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
