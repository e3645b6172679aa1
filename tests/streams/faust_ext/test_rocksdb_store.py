"""What only rows on disk must keep: from process to process, and where the directory is not what it should be."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from models.customer.state import Customer
from models.errors import UnusableInput
from streams.faust_ext import rocksdb_rows as rocks
from streams.partition.fencing import Claim
from streams.partition.state import CLAIM_KEY
from streams.worker.app import build
from tests.support.tables import Held, held, row


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
        held.recover(1, 3, [(b"bob", late), (b"eve", b"damaged")], old.headers)

    async def after(held: Held) -> None:
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) == 4
        assert held.table.data.fence(1).stale == {b"bob": None, b"eve": 4}
        held.recover(1, 5, [(b"ann", late)], old.headers)
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


def test_rows_of_partitions_not_assigned_are_removed(tmp_path: Path) -> None:
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


def test_a_missing_extra_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    with pytest.raises(UnusableInput, match=r"rocksdict is not installed: run pip install 'tidemark\[rocksdb\]'$"):
        build(load_settings(data_dir=tmp_path, policy="demo", store="rocksdb"))


def test_a_damaged_partition_is_recovered_from_the_beginning_of_the_changelog(tmp_path: Path) -> None:
    async def damaged(held: Held) -> None:
        (held.table.data.path(1) / "CURRENT").write_text("no manifest")
        assigned = await held.rebalance(1)
        assert held.table.persisted_offset(held.tp(1)) is None
        held.recover(1, 0, [(b"ann", row("ann"))])
        await held.table.on_recovery_completed(assigned, set())
        assert dict(held.partition(1).rows.items()) == {b"ann": row("ann")}

    on_disk(tmp_path, wrote_two_batches, damaged)


def test_a_directory_that_cannot_be_opened_is_reported_with_what_to_do(tmp_path: Path) -> None:
    async def in_the_way(held: Held) -> None:
        held.table.data.path(1).write_text("a file")
        with pytest.raises(rocks.RowsUnreadable, match=r"cannot be opened: .*; make room there, or remove it"):
            await held.rebalance(1)

    on_disk(tmp_path, in_the_way)
