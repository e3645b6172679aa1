"""The state table: Faust's table, with our store and the tombstones of the changelog."""

from pathlib import Path

from faust.tables.table import Table

from streams.faust_ext.memory_store import PartitionStore


class StateTable(Table[bytes, bytes]):
    """The table of customer rows."""

    data: PartitionStore
    #: The fingerprint of the policy versions in force.
    timeline: int

    #: Where rows are kept on disk; None: in memory.
    directory: Path | None = None

    def _new_store(self) -> PartitionStore:
        if self.directory is not None:
            from streams.faust_ext.rocksdb_store import RocksStore  # an optional extra

            return RocksStore(self.directory, "memory://", self.app, self, table_name=self.name, loop=self.loop)
        return PartitionStore("memory://", self.app, self, table_name=self.name, loop=self.loop)
