"""The table of an app that is never started, and what a rebalance and a recovery do to it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from faust.types import TP

from config.settings import load_settings
from models.customer.state import Customer
from streams.faust_ext.chunk import Chunk
from streams.faust_ext.rocksdb_store import RocksStore
from streams.faust_ext.table import StateTable
from streams.partition.state import Partition
from streams.worker.app import build
from streams.worker.faust_app import TidemarkApp

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


def row(customer_id: str) -> bytes:
    return Customer(customer_id).to_row()
