"""Rows of a partition on disk, in RocksDB, for more customers than memory holds (`TIDEMARK_STORE=rocksdb`).

The rows on disk are never ahead of the acknowledged changelog: writes wait in memory until the changelog has them, and
`flush` writes them in one atomic batch together with their last changelog offset. So a crash at any point leaves rows
and offset that belong together, and recovery reads only later records.

Damaged rows are never used: a directory is checked whole when it is opened, and every later read is checked too. It is
removed, and recovery reads the changelog from its beginning.

Faust's own RocksDB store does not fit: it finds the partition by the event being processed, writes each row and the
offset separately, and leaves closing to the garbage collector.
"""

import contextlib
import fcntl
import logging
import shutil
import time
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar

import msgspec

from models.errors import TidemarkError, UnusableInput
from models.instants import HOUR_MS

if TYPE_CHECKING:
    from rocksdict import Cache, Options, Rdict

log = logging.getLogger(__name__)

#: Rows without an update for longer (ms) are not used: the changelog drops its tombstones a day after they were written
#: (`delete.retention.ms`), and a customer who was erased meanwhile would be back.
FRESH_MS = 12 * HOUR_MS
#: The key of the mark. It is no row's key: a customer_id contains no NUL, and the progress has another key.
MARK_KEY = b"\x00mark"
#: Blocks of rows kept in memory (bytes), shared by all partitions of the process.
_CACHE_BYTES = 64 * 2**20
#: Size of the buffer (bytes) of writes that RocksDB gathers before it writes a file; at most two for each partition.
_BUFFER_BYTES = 8 * 2**20
#: The number of rows read since the last flush that are kept, so that writing one need not look for it again.
_READ_AT_MOST = 20_000

_INSTALL = "TIDEMARK_STORE: found 'rocksdb', but rocksdict is not installed: run pip install 'tidemark[rocksdb]'"


class RowsUnreadable(TidemarkError):
    """Rows on disk cannot be opened or read. Make room, or remove the directory: they are in the changelog."""


class RowsDamaged(TidemarkError):
    """Rows on disk were damaged, and were removed. Start again: they are read from the changelog. Check the disk."""


class RowsUnwritable(TidemarkError):
    """Rows cannot be written to disk. Make room and start again: what is missing there is in the changelog."""


class FlushMark(msgspec.Struct, array_like=True):
    """The changelog offsets of the last flush, which the rows on disk include, and when it was (ms).

    `stale` are the keys whose latest record there does not count (`streams.partition.fencing`), `damaged` the offsets
    of those of them that cannot be read.
    """

    first: int
    last: int
    at: int
    stale: list[bytes] = []
    damaged: dict[bytes, int] = {}


def lock_directory(directory: Path) -> IO[str]:
    """Return the lock of a data directory, which is held while the file is open.

    Raises UnusableInput: rocksdict is not installed, or the directory is locked or unwritable.
    """
    try:
        import rocksdict  # noqa: F401  # an optional extra: its absence is reported before anything starts
    except ImportError:
        raise UnusableInput(_INSTALL) from None
    lock = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        why = error.strerror
        if lock is not None:
            lock.close()
            why = "another worker uses it"
        raise UnusableInput(f"TIDEMARK_DATA_DIR: {directory} cannot be used: {why}") from None
    return lock


class RocksRows(MutableMapping[bytes, bytes]):
    """The rows of one partition: flushed rows are on disk; pending ones, in memory, hide them."""

    _cache: ClassVar["Cache | None"] = None
    _disk: "Rdict | None"
    _mark: FlushMark | None

    def __init__(self, path: Path) -> None:
        """Open or create the directory `path`; begin with no rows if it is damaged. Raises RowsUnreadable."""
        self._path = path
        self._pending: dict[bytes, bytes | None] = {}
        self._read: dict[bytes, bytes | None] = {}
        self._count: int | None = None
        damage = self._open()
        if damage is not None:
            log.warning("%s is damaged (%s) and is built again: the changelog is read from its beginning", path, damage)
            self._begin_again()
        elif self._mark is not None and not 0 <= _now() - self._mark.at <= FRESH_MS:
            log.info("%s was not updated for too long: the changelog is read from its beginning", path)
            self._begin_again()

    def _begin_again(self) -> None:
        self.erase()
        damage = self._open()
        if damage is not None:
            raise RowsUnreadable(f"{self._path} cannot be made again: {damage}; remove it, and check the disk")

    def _open(self) -> str | None:
        """Open the files and read all of them; return what is damaged, None if nothing is. Raises RowsUnreadable."""
        from rocksdict import Rdict

        self._disk = self._mark = None
        had_rows = any(self._path.glob("*.sst"))
        try:
            self._disk = Rdict(str(self._path), self._options())
            stored = self._disk.get(MARK_KEY)
            for _ in _rows_of(self._disk):
                pass
            self._mark = None if stored is None else msgspec.msgpack.decode(stored, type=FlushMark)
        except msgspec.MsgspecError:
            return "its offset cannot be decoded"
        except Exception as error:  # rocksdict has no narrower one
            if _is_damage(error):
                return _in_one_line(error)
            raise RowsUnreadable(
                f"{self._path} cannot be opened: {_in_one_line(error)}; make room there, or remove it: its rows are in "
                "the changelog"
            ) from error
        return "its offset is missing" if had_rows and stored is None else None

    @property
    def offset(self) -> int | None:
        """The last changelog offset that the rows on disk include; None if there are no rows."""
        return None if self._mark is None else self._mark.last

    def belongs_to(self, end: int) -> bool:
        """Return whether a changelog that ends at offset `end` can be the one that these rows belong to."""
        # The embedded broker lists an end that may be one produce batch too low.
        return self._mark is None or end >= self._mark.first

    @property
    def stale(self) -> dict[bytes, int | None]:
        """The keys whose latest record in the changelog does not count, and its offset if it is damaged."""
        return {} if self._mark is None else dict.fromkeys(self._mark.stale) | self._mark.damaged

    def flush(self, first: int, last: int, stale: Mapping[bytes, int | None]) -> None:
        """Write pending rows; the changelog has them at the offsets from `first` to `last`. Raises RowsUnwritable."""
        damaged = {key: offset for key, offset in stale.items() if offset is not None}
        self._write(FlushMark(first, last, _now(), sorted(stale), damaged))

    def _write(self, mark: FlushMark) -> None:
        from rocksdict import WriteBatch

        self._mark = mark
        batch = WriteBatch(raw_mode=True)
        for key, row in self._pending.items():
            if row is None:
                batch.delete(key)
            else:
                batch.put(key, row)
        batch.put(MARK_KEY, msgspec.msgpack.encode(self._mark))
        try:
            self._files.write(batch)
        except Exception as error:  # rocksdict has no narrower one
            if _is_damage(error):
                raise self._failed(error) from error  # it was found as files were merged
            raise RowsUnwritable(
                f"{self._path} cannot be written: {_in_one_line(error)}; make room there: what is missing is in the "
                "changelog"
            ) from error
        self._pending.clear()
        self._read.clear()

    def acknowledge(self, last: int, stale: Mapping[bytes, int | None]) -> None:
        """Flush a micro-batch whose changelog records, one a pending row, end at `last`. Raises RowsUnwritable."""
        self.flush(min(last, max(0, last - len(self._pending) + 1)), last, stale)

    def put(self, key: bytes, row: bytes | None) -> None:
        """Set a row of the changelog (None: a tombstone) without looking up the one before."""
        self._pending[key] = row
        self._count = None

    def stamp(self) -> None:
        """Note that the rows on disk are complete as of now, unless some are pending. Raises RowsUnwritable."""
        if self._mark is not None and not self._pending:
            self._write(msgspec.structs.replace(self._mark, at=_now()))

    def close(self) -> None:
        """Close the files. Pending rows were not acknowledged, and are dropped."""
        if self._disk is not None:
            with contextlib.suppress(Exception):  # it raises a failed write again; rocksdict has no narrower one
                self._disk.close()

    def erase(self) -> None:
        """Close, and remove the directory."""
        self.close()
        self._disk = self._mark = None
        self._pending.clear()
        self._read.clear()
        shutil.rmtree(self._path, ignore_errors=True)

    @property
    def _files(self) -> "Rdict":
        if self._disk is None:
            raise RowsUnreadable(f"{self._path} was removed")
        return self._disk

    def _failed(self, error: Exception) -> TidemarkError:
        """Return the error of a read. If it is damage, remove the directory: the next start may not see the damage."""
        why = _in_one_line(error)
        if not _is_damage(error):
            return RowsUnreadable(
                f"{self._path} cannot be read: {why}; check the disk, or remove it: its rows are in the changelog"
            )
        self.erase()
        return RowsDamaged(f"{self._path} is damaged ({why}) and was removed: start again, the changelog has its rows")

    # --- the mapping ---

    def __getitem__(self, key: bytes) -> bytes:
        row = self._find(key)
        if row is None:
            raise KeyError(key)
        return row

    def __setitem__(self, key: bytes, row: bytes) -> None:
        if self._count is not None and self._find(key) is None:
            self._count += 1
        self._pending[key] = row

    def __delitem__(self, key: bytes) -> None:
        if self._find(key) is None:
            raise KeyError(key)
        if self._count is not None:
            self._count -= 1
        self._pending[key] = None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and self._find(key) is not None

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        if self._count is None:
            for _ in self:  # a scan to the end counts
                pass
        return self._count or 0

    def items(self) -> ItemsView[bytes, bytes]:
        """Return a view that scans the files once, in key order, instead of looking up each row."""
        return _Items(self)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, row) for all rows. Nothing may be written meanwhile."""
        count, pending, files = 0, self._pending, self._files
        try:
            for key, row in _rows_of(files):
                if key != MARK_KEY and key not in pending:
                    count += 1
                    yield key, row
        except Exception as error:  # rocksdict has no narrower one
            raise self._failed(error) from error
        for key, waiting in pending.items():
            if waiting is not None:
                count += 1
                yield key, waiting
        self._count = count

    def _find(self, key: bytes) -> bytes | None:
        if key in self._pending:
            return self._pending[key]
        if key in self._read:
            return self._read[key]
        if len(self._read) >= _READ_AT_MOST:
            self._read.clear()
        files = self._files
        try:
            row: bytes | None = files.get(key)
        except Exception as error:  # rocksdict has no narrower one
            raise self._failed(error) from error
        self._read[key] = row
        return row

    @classmethod
    def _options(cls) -> "Options":
        from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options

        if RocksRows._cache is None:
            RocksRows._cache = Cache(_CACHE_BYTES)
        blocks = BlockBasedOptions()
        blocks.set_block_cache(RocksRows._cache)
        blocks.set_bloom_filter(10, block_based=False)  # a new customer is recognised without reading a file
        blocks.set_cache_index_and_filter_blocks(True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(DBCompressionType.lz4())
        options.set_write_buffer_size(_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(64)
        options.set_keep_log_file_num(2)
        return options


class _Items(ItemsView[bytes, bytes]):
    _mapping: RocksRows

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._mapping.scan()


def _rows_of(disk: "Rdict") -> Iterator[tuple[bytes, bytes]]:
    """Yield all that is on disk. Raises what rocksdict does: at damage, an iterator only looks as if it were done."""
    from rocksdict import ReadOptions

    from_disk = ReadOptions()
    # A scan would drive out what is read often. The stub lacks the argument.
    from_disk.fill_cache(False)  # type: ignore[call-arg]
    place = disk.iter(from_disk)
    place.seek_to_first()
    while place.valid():
        yield place.key(), place.value()
        place.next()
    place.status()


def _is_damage(error: Exception) -> bool:
    """Return whether files are damaged or missing; otherwise there is no room or no permission, or they are in use."""
    return any(sign in str(error) for sign in ("Corruption", "No such file or directory"))


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _now() -> int:
    return time.time_ns() // 1_000_000
