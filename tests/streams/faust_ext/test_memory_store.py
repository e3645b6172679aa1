"""The table's store, by one contract for rows in memory and on disk."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.policy_files import load_timeline
from models.customer.state import ROW_VERSION, Customer
from models.events import Topic
from models.instants import MIN_INSTANT
from streams.partition.fencing import Claim
from streams.partition.state import CLAIM_KEY, NewerRows, Partition
from tests.support.tables import Held, Rows, held, row


@pytest.fixture(params=["memory", "rocksdb"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Held], Any]], None]:
    """Runs a scenario on a store of each kind."""

    def run(scenario: Callable[[Held], Any]) -> None:
        async def check() -> None:
            async with held(tmp_path, request.param) as each:
                await scenario(each)

        asyncio.run(check())

    return run


def test_recovery_brings_the_latest_rows_and_opens_the_partitions(run: Any) -> None:
    async def scenario(held: Held) -> None:
        before = Partition(1)
        before.applied(Topic.ORDERS, 42, 1_000)
        assigned = await held.rebalance(0, 1)
        assert held.table.persisted_offset(held.tp(1)) is None
        ann, bob = row("ann"), row("bob")
        held.recover(1, 0, [(b"ann", b"old"), (b"bob", bob), (b"eve", b"x")])
        held.recover(1, 3, [(b"ann", ann), (b"eve", None), before.progress_row()])
        assert held.table.data.partition(1) is None
        await held.table.on_recovery_completed(assigned, set())
        partition = held.partition(1)
        assert partition.customers == 2
        assert partition.rows[b"ann"] == ann
        assert b"eve" not in partition.rows
        assert sorted(partition.rows) == sorted([b"ann", b"bob", partition.progress_key])
        assert partition.next_offset(Topic.ORDERS) == 42
        assert held.partition(0).customers == 0
        assert held.table.data.partition(2) is None
        assert held.table.persisted_offset(held.tp(1)) == 5

    run(scenario)


def test_the_fingerprint_of_the_policy_reaches_the_partitions(run: Any) -> None:
    async def scenario(held: Held) -> None:
        fingerprint = load_timeline(Path("demo")).fingerprint
        known, outdated = Customer("known"), Customer("outdated")
        known.timeline, known.due, outdated.timeline = fingerprint, 70, fingerprint ^ 1
        assigned = await held.rebalance(0, 1, 2)
        for number, customers in ((0, [known]), (1, [known, outdated])):
            held.recover(number, 0, [(customer.customer_id.encode(), customer.to_row()) for customer in customers])
        await held.table.on_recovery_completed(assigned, set())
        due = [held.partition(number).timers for number in (0, 1, 2)]
        first = [list(index.pop_due(MIN_INSTANT, lambda _: MIN_INSTANT)) for index in due]
        assert first == [[], [b"outdated"], []]
        assert [len(index) for index in due] == [1, 1, 0]

    run(scenario)


def test_what_is_read_of_the_changelog_of_an_open_partition_is_ignored(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.opened(1)
        newer = row("ann")
        held.partition(1).rows[b"ann"] = newer
        held.recover(1, 0, [(b"ann", b"older")])
        assert held.partition(1).rows[b"ann"] == newer

    run(scenario)


def test_what_comes_while_partitions_are_opened_waits_until_they_are_claimed(run: Any) -> None:
    """A step that the owner before us wrote late: its rows and its progress are taken over together."""

    async def scenario(held: Held) -> None:
        late = Partition(1)
        late.applied(Topic.ORDERS, 42, 1_000)
        earlier = Customer("ann")
        earlier.due = 70
        before, after, claimed = earlier.to_row(), row("ann"), Claim(1, b"us".ljust(8))
        assert before != after
        rows: Rows = [(b"ann", after), late.progress_row()]
        assigned = await held.rebalance(1, 2)
        held.recover(1, 0, [(b"ann", before)])
        data, opening = held.table.data, held.table.data._open

        def late_rows_come(number: int) -> Partition:
            partition = opening(number)
            if number == 1:
                held.recover(1, 1, rows)
            return partition

        data._open = late_rows_come
        await held.table.on_recovery_completed(assigned, set())
        data._open = opening
        partition = held.partition(1)
        assert (partition.rows[b"ann"], partition.next_offset(Topic.ORDERS)) == (before, 0)
        assert held.table.persisted_offset(held.tp(1)) == 0

        ours = [*rows, (CLAIM_KEY + b"1", claimed.encoded)]
        headers: Any = [(), (), claimed.headers]
        records = [
            SimpleNamespace(offset=place + 1, key=key, value=value, headers=headers[place])
            for place, (key, value) in enumerate(ours)
        ]
        partition = await data.catch_up(1, records)
        assert (partition.rows[b"ann"], partition.next_offset(Topic.ORDERS)) == (after, 42)

    run(scenario)


def test_what_is_kept_in_a_rebalance_is_not_recovered_again_and_what_is_lost_is(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.opened(1, 2)
        for number in (1, 2):
            held.partition(number).rows[b"ann"] = row("ann")
            held.acknowledge(number, 9)
        assigned = await held.rebalance(1, 3)
        assert (held.table.persisted_offset(held.tp(1)), held.table.persisted_offset(held.tp(2))) == (9, None)
        assert held.table.data.partition(1) is None
        await held.table.on_recovery_completed(assigned, set())
        assert held.partition(1).customers == 1
        await held.opened(2)
        assert held.partition(2).customers == 0

    run(scenario)


def test_a_late_chunk_of_a_partition_that_was_given_away_does_not_pass_for_its_beginning(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.rebalance(1)
        held.recover(1, 0, [(b"ann", row("ann"))])
        await held.rebalance(2)
        held.recover(1, 1, [(b"bob", row("bob"))])
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) is None
        await held.table.on_recovery_completed(assigned, set())
        assert held.partition(1).customers == 0

    run(scenario)


def test_a_late_chunk_of_a_partition_that_came_back_does_not_pass_for_its_beginning(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.rebalance(1)
        await held.rebalance(2)
        held.app.consumer_generation_id = 1
        await held.rebalance(1)
        held.recover(1, 5, [(b"ann", row("ann"))])
        assert held.table.persisted_offset(held.tp(1)) is None
        held.recover(1, 0, [(b"bob", row("bob"))], generation=1)
        assert held.table.persisted_offset(held.tp(1)) == 0

    run(scenario)


def test_an_acknowledgement_that_comes_after_the_partition_went_says_nothing(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.opened(1)
        await held.rebalance(2)
        held.acknowledge(1, 7)
        await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) is None

    run(scenario)


def test_rows_count_and_behave_as_a_mapping(run: Any) -> None:
    async def scenario(held: Held) -> None:
        await held.opened(1)
        rows = held.partition(1).rows
        rows[b"ann"], rows[b"bob"] = b"1", b"2"
        held.acknowledge(1, 1)
        rows[b"ann"], rows[b"eve"] = b"3", b"4"
        assert rows.pop(b"bob", None) == b"2"
        assert rows.pop(b"bob", None) is None
        assert (len(rows), dict(rows.items()), sorted(rows)) == (2, {b"ann": b"3", b"eve": b"4"}, [b"ann", b"eve"])
        assert (rows.get(b"bob"), b"bob" in rows, b"eve" in rows, rows[b"ann"]) == (None, False, True, b"3")
        with pytest.raises(KeyError):
            del rows[b"bob"]

    run(scenario)


def test_a_damaged_row_leaves_the_one_before_it_and_is_remembered(run: Any) -> None:
    async def scenario(held: Held) -> None:
        assigned = await held.rebalance(1)
        held.recover(1, 0, [(b"ann", row("ann")), (b"ann", b"x"), (b"bob", b"x"), (b"bob", row("bob")), (b"eve", b"")])
        await held.table.on_recovery_completed(assigned, set())
        assert dict(held.partition(1).rows.items()) == {b"ann": row("ann"), b"bob": row("bob")}
        assert held.table.data.fence(1).stale == {b"ann": 1, b"eve": 4}

    run(scenario)


def test_rows_of_a_newer_release_end_the_worker_before_it_is_ready(run: Any) -> None:
    """Faust would log it, and serve the partitions as if they were not there."""

    async def scenario(held: Held) -> None:
        crashed = []

        async def crash(error: BaseException) -> None:
            crashed.append(type(error).__name__)

        held.app.crash = crash
        assigned = await held.rebalance(1)
        held.recover(1, 0, [(b"ann", bytes([ROW_VERSION + 1]) + row("ann")[1:])])
        with pytest.raises(NewerRows, match=f"partition 1: found a row of version {ROW_VERSION + 1} in the changelog"):
            await held.table.on_recovery_completed(assigned, set())
        await held.table.data._failure
        assert crashed == ["NewerRows"]

    run(scenario)
