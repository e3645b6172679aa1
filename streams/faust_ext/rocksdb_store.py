"""The store whose rows are on disk: partitions are opened as they are assigned, and recovered from where they were.

It overrides what differs from memory (`streams.faust_ext.memory_store`). The files of a partition are
`streams.faust_ext.rocksdb_rows`'.
"""

import asyncio
import logging
import shutil
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

from aiokafka import ConsumerRecord
from faust.types import TP

from streams.faust_ext.memory_store import PartitionStore
from streams.faust_ext.rocksdb_rows import RocksRows, RowsUnwritable, lock_directory

log = logging.getLogger(__name__)


class RocksStore(PartitionStore):
    """Rows of the partitions that this worker holds, one RocksDB directory each."""

    def __init__(self, directory: Path, *args: Any, **kwargs: Any) -> None:
        """Lock `directory` for this process. Raises UnusableInput as `lock_directory` does."""
        super().__init__(*args, **kwargs)
        self._directory = directory
        self._lock = lock_directory(directory)

    def path(self, number: int) -> Path:
        """Return the directory of a partition's rows."""
        return self._directory / f"state-{number}"

    def settle(self, number: int) -> None:
        """Write the micro-batch that the changelog has acknowledged to disk, with its offset. Raises RowsUnwritable."""
        if number in self._partitions:
            self._rows_on_disk(number).acknowledge(self._offsets[number], self.fence(number).stale)

    async def on_stop(self) -> None:
        """Note when the rows were last complete. They stay open: a batch may still be under way."""
        for number in self._partitions:
            try:
                self._rows_on_disk(number).stamp()
            except RowsUnwritable as error:
                log.warning("%s", error)  # they then count as older than they are, which is safe

    def close(self) -> None:
        """Close the files and release the directory, for another store of the same process."""
        for number in self._rows:
            self._rows_on_disk(number).close()
        self._lock.close()

    def _recover(self, number: int, records: list[ConsumerRecord]) -> None:
        rows = self._rows_on_disk(number)
        for record in self._admitted(number, records):
            rows.put(record.key, record.value)
        rows.flush(records[0].offset, records[-1].offset, self.fence(number).stale)

    def _drop(self, rows: MutableMapping[bytes, bytes]) -> None:
        cast("RocksRows", rows).erase()

    async def _open_rows(self) -> None:
        """Open assigned partitions. Other rows on disk are removed: out of date, they may hold erased customers."""
        for number in self._assigned - self._rows.keys():
            self._rows[number] = await asyncio.to_thread(RocksRows, self.path(number))
        for stray in self._directory.glob("state-*"):
            if stray not in {self.path(number) for number in self._assigned}:
                await asyncio.to_thread(shutil.rmtree, stray, ignore_errors=True)
        topic = cast("Any", self.table).changelog_topic_name
        tps = {TP(topic, number) for number in self._assigned - self._offsets.keys()}
        ends = await self.app.consumer.highwaters(*tps) if tps else {}
        for tp in tps:
            self._trust(tp.partition, ends.get(tp) or 0)

    def _trust(self, number: int, end: int) -> None:
        """Continue from the rows on disk, if they can belong to the changelog, which ends at offset `end`."""
        rows = self._rows_on_disk(number)
        if not rows.belongs_to(end):
            log.warning("the rows on disk belong to another changelog and are removed", extra={"partition": number})
            rows.erase()
            rows = self._rows[number] = RocksRows(self.path(number))
        if rows.offset is not None:
            log.info(
                "the rows on disk reach to this changelog offset", extra={"partition": number, "offset": rows.offset}
            )
            self._offsets[number] = rows.offset
            self.fence(number).resume(rows.stale)

    def _rows_on_disk(self, number: int) -> RocksRows:
        return cast("RocksRows", self._rows[number])
