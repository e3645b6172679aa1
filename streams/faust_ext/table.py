"""The state table: Faust's table, with our store and the tombstones of the changelog."""

from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from faust.tables.table import Table

from streams.faust_ext.memory_store import PartitionStore
from streams.partition.state import Partition


class StateTable(Table[bytes, bytes]):
    """The table of customer rows."""

    data: PartitionStore

    def __init__(
        self,
        *args: Any,
        open_partition: Callable[[int, MutableMapping[bytes, bytes]], Partition],
        directory: Path | None = None,
        **options: Any,
    ) -> None:
        """`open_partition(number, rows)` builds the state of a partition; rows are in `directory`, None: in memory."""
        self.open_partition = open_partition
        self._directory = directory
        super().__init__(*args, **options)

    def _new_store(self) -> PartitionStore:
        if self._directory is not None:
            from streams.faust_ext.rocksdb_store import RocksStore  # an optional extra

            return RocksStore(self._directory, "memory://", self.app, self, table_name=self.name, loop=self.loop)
        return PartitionStore("memory://", self.app, self, table_name=self.name, loop=self.loop)
