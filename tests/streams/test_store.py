"""The table's store, by one contract for rows in memory and on disk, and what only rows on disk must keep."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from faust.types import TP

from config.policy_files import load_timeline
from config.settings import load_settings
from models.customer import Customer
from models.errors import UnusableInput
from models.events import Topic
from models.instants import MIN_INSTANT
from streams import rocks
from streams.app import TidemarkApp, build
from streams.fence import CLAIM_KEY, Claim
from streams.partition import Partition
from streams.rocks_store import RocksStore
from streams.store import StateTable
from streams.transport import Chunk

Rows = list[tuple[bytes, bytes | None]]


class Held(NamedTuple):
    """An app that is built and never started, and what a rebalance and a recovery do to its table."""

    app: TidemarkApp
    table: StateTable
    ends: dict[int, int]

    def tp(self, number: int) -> TP:
        return TP(self.table.changelog_topic_name, number)

    async def rebalance(self, *numbers: int) -> set[TP]:
        assigned = {self.tp(number) for number in numbers}
        inputs = {TP("orders", number) for number in numbers}
        await self.table.on_rebalance(assigned | inputs, set(), assigned, 1)
        return assigned

    async def opened(self, *numbers: int) -> None:
        await self.table.on_recovery_completed(await self.rebalance(*numbers), set())

    def recover(self, number: int, first: int, rows: Rows, headers: Any = (), generation: int = 0) -> None:
        """Apply a chunk of the changelog, as recovery does."""
        records = [
            SimpleNamespace(offset=first + place, key=key, value=row, headers=headers)
            for place, (key, row) in enumerate(rows)
        ]
        last = first + len(rows) - 1
        message = SimpleNamespace(
            tp=self.tp(number), partition=number, offset=last, value=Chunk(records, 0), generation_id=generation
        )
        self.table.apply_changelog_batch([SimpleNamespace(message=message, key=b"", value=message.value)])

    def acknowledge(self, number: int, offset: int) -> None:
        """The changelog has what was written, up to an offset, and it counts."""
        self.table.data.set_persisted_offset(self.tp(number), offset)
        self.table.data.settle(number)

    def partition(self, number: int) -> Partition:
        found = self.table.data.partition(number)
        assert found is not None
        return found


@contextlib.asynccontextmanager
async def held(directory: Path, store: str) -> AsyncIterator[Held]:
    app = build(load_settings(data_dir=directory, policy="demo", partitions=4, store=store))
    ends: dict[int, int] = {}

    async def highwaters(*tps: TP) -> dict[TP, int]:
        return {tp: ends.get(tp.partition, 10**9) for tp in tps}

    app.consumer.highwaters = highwaters
    table = app.tables["state"]
    try:
        yield Held(app, table, ends)
    finally:
        if isinstance(table.data, RocksStore):
            table.data.close()


@pytest.fixture(params=["memory", "rocksdb"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Callable[[Held], Any]], None]:
    """Runs a scenario on a store of each kind."""

    def run(scenario: Callable[[Held], Any]) -> None:
        async def check() -> None:
            async with held(tmp_path, request.param) as each:
                await scenario(each)

        asyncio.run(check())

    return run


def row(customer_id: str) -> bytes:
    return Customer(customer_id).to_row()


# --- the same for both ---------------------------------------------------------------------------------------


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
        assert held.table.timeline == fingerprint
        known, outdated = Customer("known"), Customer("outdated")
        known.timeline, known.due, outdated.timeline = fingerprint, 70, fingerprint ^ 1
        assigned = await held.rebalance(0, 1, 2)
        for number, customers in ((0, [known]), (1, [known, outdated])):
            held.recover(number, 0, [(customer.customer_id.encode(), customer.to_row()) for customer in customers])
        await held.table.on_recovery_completed(assigned, set())
        due = [held.partition(number).due for number in (0, 1, 2)]
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


def test_rows_that_cannot_be_read_end_the_worker(run: Any) -> None:
    """Faust would log it, and serve the partitions as if they were not there."""

    async def scenario(held: Held) -> None:
        crashed = []

        async def crash(error: BaseException) -> None:
            crashed.append(type(error).__name__)

        held.app.crash = crash
        assigned = await held.rebalance(1)
        held.recover(1, 0, [(b"ann", b"x")])
        with pytest.raises(Exception, match="buffer"):
            await held.table.on_recovery_completed(assigned, set())
        await held.table.data._failure
        assert crashed == ["error"]

    run(scenario)


# --- on disk -------------------------------------------------------------------------------------------------


def on_disk(directory: Path, *scenarios: Callable[[Held], Any]) -> None:
    """Run scenarios one after the other on the same directory, as processes that were killed would."""

    async def check() -> None:
        for scenario in scenarios:
            async with held(directory, "rocksdb") as each:
                await scenario(each)

    asyncio.run(check())


async def wrote_two_batches(held: Held) -> None:
    """One micro-batch that the changelog acknowledged at offsets 0 to 1, and one that it did not."""
    await held.opened(1)
    rows = held.partition(1).rows
    rows[b"ann"], rows[b"bob"] = row("ann"), row("bob")
    held.acknowledge(1, 1)
    rows[b"ann"], rows[b"eve"] = b"not acknowledged", b"not acknowledged"
    del rows[b"bob"]


def test_what_the_changelog_acknowledged_is_on_disk_and_nothing_else(tmp_path: Path) -> None:
    async def after(held: Held) -> None:
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) == 1
        await held.table.on_recovery_completed(assigned, set())
        assert dict(held.partition(1).rows.items()) == {b"ann": row("ann"), b"bob": row("bob")}
        assert held.partition(1).customers == 2

    on_disk(tmp_path, wrote_two_batches, after)


def test_recovery_goes_on_from_what_is_on_disk(tmp_path: Path) -> None:
    newer = Customer("ann")
    newer.due = 5

    async def after(held: Held) -> None:
        assigned = await held.rebalance(1)
        held.recover(1, 2, [(b"ann", newer.to_row()), (b"bob", None)])
        assert held.table.persisted_offset(held.tp(1)) == 3
        await held.table.on_recovery_completed(assigned, set())
        assert dict(held.partition(1).rows.items()) == {b"ann": newer.to_row()}

    on_disk(tmp_path, wrote_two_batches, after, after)


def test_a_recovery_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    async def cut_short(held: Held) -> None:
        await held.rebalance(1)
        held.recover(1, 0, [(b"ann", row("ann")), (b"bob", row("bob"))])

    async def after(held: Held) -> None:
        await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) == 1

    on_disk(tmp_path, cut_short, after)


def test_a_customer_who_was_erased_is_not_on_disk_after_it(tmp_path: Path) -> None:
    async def erased(held: Held) -> None:
        await held.opened(1)
        held.partition(1).rows.pop(b"ann", None)
        held.acknowledge(1, 2)

    async def after(held: Held) -> None:
        await held.opened(1)
        assert list(held.partition(1).rows) == [b"bob"]

    on_disk(tmp_path, wrote_two_batches, erased, after)


def test_rows_of_another_changelog_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The topics were made anew: what is on disk is ahead of them."""

    async def another(held: Held) -> None:
        held.ends[1] = 0
        await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) == 1  # the embedded broker may list a batch too low

    async def longer(held: Held) -> None:
        await held.opened(1)
        held.partition(1).rows[b"ann"] = row("ann")
        held.acknowledge(1, 50)

    async def after(held: Held) -> None:
        held.ends[1] = 30
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) is None
        await held.table.on_recovery_completed(assigned, set())
        assert held.partition(1).customers == 0

    with caplog.at_level(logging.WARNING):
        on_disk(tmp_path, wrote_two_batches, another, longer, after)
    assert "another changelog" in caplog.text


def test_rows_on_disk_know_whose_writes_count(tmp_path: Path) -> None:
    """A replaced owner's late row comes after the restart: it is as stale as it would have been before."""
    old, new = Claim(3, b"replaced"), Claim(4, b"the-next")
    ann, late = row("ann"), row("late")

    async def before(held: Held) -> None:
        await held.rebalance(1)
        held.recover(1, 0, [(b"ann", late)], old.headers)
        held.recover(1, 1, [(CLAIM_KEY + b"1", new.encoded), (b"ann", ann)], new.headers)
        held.recover(1, 3, [(b"bob", late)], old.headers)

    async def after(held: Held) -> None:
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) == 3
        assert held.table.data.fence(1).stale == {b"bob"}
        held.recover(1, 4, [(b"ann", late)], old.headers)
        await held.table.on_recovery_completed(assigned, set())
        assert held.partition(1).rows[b"ann"] == ann
        assert held.partition(1).customers == 1
        assert held.table.data.fence(1).next_claim(b"x").epoch == 5

    on_disk(tmp_path, before, after)


def test_rows_left_alone_for_too_long_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changelog may have forgotten a tombstone by then."""
    now = rocks._now()

    async def stopped_later(held: Held) -> None:
        await held.opened(1)
        monkeypatch.setattr(rocks, "_now", lambda: now + rocks.FRESH_MS - 60_000)
        await held.table.data.on_stop()

    async def in_time(held: Held) -> None:
        monkeypatch.setattr(rocks, "_now", lambda: now + 2 * rocks.FRESH_MS - 120_000)
        await held.opened(1)
        assert held.partition(1).customers == 2

    async def too_late(held: Held) -> None:
        monkeypatch.setattr(rocks, "_now", lambda: now + 2 * rocks.FRESH_MS)
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) is None
        await held.table.on_recovery_completed(assigned, set())
        assert held.partition(1).customers == 0

    on_disk(tmp_path, wrote_two_batches, stopped_later, in_time, too_late)


def test_rows_that_nobody_keeps_up_to_date_are_removed(tmp_path: Path) -> None:
    async def elsewhere(held: Held) -> None:
        assert held.table.data.path(1).is_dir()
        await held.opened(2)
        assert not held.table.data.path(1).exists()
        await held.opened(3)
        assert not held.table.data.path(2).exists()

    on_disk(tmp_path, wrote_two_batches, elsewhere)


def test_a_directory_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    async def second(first: Held) -> None:
        with pytest.raises(UnusableInput, match=r"^TIDEMARK_DATA_DIR: .* cannot be used: another worker uses it$"):
            build(load_settings(data_dir=tmp_path, policy="demo", store="rocksdb"))

    on_disk(tmp_path, second)


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_a_directory_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path, store: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnusableInput, match=r"^TIDEMARK_DATA_DIR: .* cannot be used: Not a directory$"):
        build(load_settings(data_dir=tmp_path / "file", policy="demo", store=store))


def test_a_missing_extra_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(UnusableInput, match=r"rocksdict is not installed: run pip install 'tidemark\[rocksdb\]'$"):
        build(load_settings(data_dir=tmp_path, policy="demo", store="rocksdb"))


def test_files_that_are_damaged_are_told_with_what_to_do(tmp_path: Path) -> None:
    async def damaged(held: Held) -> None:
        (held.table.data.path(1) / "CURRENT").write_text("no manifest")
        with pytest.raises(rocks.RowsUnreadable, match="cannot be opened"):
            await held.rebalance(1)

    on_disk(tmp_path, wrote_two_batches, damaged)
