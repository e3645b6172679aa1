"""Rows on a disk that is full: told in a line, never ahead of the changelog, whole again when there is room."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.faust_ext.rocksdb_rows import RocksRows, RowsUnwritable

#: The files that RocksDB begins with are smaller.
ROOM = 64 * 2**10


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size (bytes)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_reported_and_earlier_rows_are_kept_with_their_offset(tmp_path: Path) -> None:
    rows = RocksRows(tmp_path / "rows")
    rows[b"ann"] = b"1"
    rows.flush(0, 0, {})
    rows[b"ann"], rows[b"bob"] = b"2", b"x" * 2 * ROOM
    with files_of_at_most(ROOM), pytest.raises(RowsUnwritable) as told:
        rows.flush(1, 2, {})
    assert str(told.value).startswith(f"{tmp_path / 'rows'} cannot be written: ")
    assert "\n" not in str(told.value)
    rows.close()

    again = RocksRows(tmp_path / "rows")
    assert (again.offset, dict(again.items())) == (0, {b"ann": b"1"})
    again.put(b"bob", b"y" * 2 * ROOM)
    again.flush(1, 2, {})
    assert (again.offset, len(again)) == (2, 2)
    again.close()
