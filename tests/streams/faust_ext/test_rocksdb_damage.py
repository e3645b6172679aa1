"""Rows on disk that are damaged: built again from the changelog when they are opened, never used in part."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.faust_ext.rocksdb_rows import MARK_KEY, RocksRows, RowsDamaged, RowsUnreadable, RowsUnwritable

ROWS = {b"c%05d" % number: os.urandom(100) for number in range(5_000)}


def written(path: Path) -> RocksRows:
    """Write rows, and open them again: they are then in a file of several blocks."""
    rows = RocksRows(path)
    for key, row in ROWS.items():
        rows.put(key, row)
    rows.flush(0, len(ROWS) - 1, {})
    rows.close()
    return RocksRows(path)


def overwrite(file: Path, share: float = 0.5) -> None:
    """Write other bytes into a file, at a share of its length."""
    with file.open("r+b") as opened:
        opened.seek(int(file.stat().st_size * share))
        opened.write(b"damaged!" * 4)


def table(path: Path) -> Path:
    return max(path.glob("*.sst"), key=lambda file: file.stat().st_size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a block": lambda path: overwrite(table(path)),
    "the first block": lambda path: overwrite(table(path), 0.0),
    "the index": lambda path: overwrite(table(path), 0.999),
    "half a table": lambda path: os.truncate(table(path), table(path).stat().st_size // 2),
    "no table": lambda path: table(path).unlink(),
    "the manifest": lambda path: next(path.glob("MANIFEST*")).write_text("no manifest"),
    "a part of the manifest": lambda path: overwrite(next(path.glob("MANIFEST*"))),
    "no manifest": lambda path: next(path.glob("MANIFEST*")).unlink(),
    "what names the manifest": lambda path: (path / "CURRENT").write_text("no manifest"),
    "nothing names the manifest": lambda path: (path / "CURRENT").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_as_rows_are_opened_and_they_are_built_again(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path / "rows").close()
    damage(tmp_path / "rows")
    with caplog.at_level(logging.WARNING):
        rows = RocksRows(tmp_path / "rows")
    assert (rows.offset, dict(rows.items()), rows.get(b"c00000")) == (None, {}, None)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / 'rows'} is damaged (")
    assert line.endswith("is built again: the changelog is read from its beginning")
    assert "\n" not in line
    rows.put(b"ann", b"1")
    rows.flush(0, 0, {})
    rows.close()
    again = RocksRows(tmp_path / "rows")
    assert (again.offset, dict(again.items())) == (0, {b"ann": b"1"})
    again.close()


def test_an_offset_that_cannot_be_decoded_is_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = written(tmp_path / "rows")
    rows._files.put(MARK_KEY, b"\xc1")
    rows.close()
    rows = RocksRows(tmp_path / "rows")
    assert (rows.offset, len(rows)) == (None, 0)
    assert "its offset cannot be decoded" in caplog.text
    rows.close()


def test_whole_rows_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = written(tmp_path / "rows")
    assert (rows.offset, dict(rows.items()), caplog.messages) == (len(ROWS) - 1, ROWS, [])
    rows.close()


def read_one(rows: RocksRows) -> None:
    for key in ROWS:
        rows.get(key)


def read_all(rows: RocksRows) -> None:
    for _ in rows.items():
        pass


@pytest.mark.parametrize("read", [read_one, read_all])
def test_damage_that_comes_later_ends_the_worker_and_the_next_start_builds_them_again(
    tmp_path: Path, read: Callable[[RocksRows], None]
) -> None:
    rows = written(tmp_path / "rows")
    overwrite(table(tmp_path / "rows"))
    with pytest.raises(RowsDamaged, match=r"rows is damaged \(Corruption: .*\) and was removed: start again"):
        read(rows)
    assert not (tmp_path / "rows").exists()
    rows.stamp()  # the worker stops, and writes nothing
    with pytest.raises(RowsUnreadable, match="was removed"):
        rows.get(b"c00000")
    del rows
    after = RocksRows(tmp_path / "rows")
    assert (after.offset, len(after)) == (None, 0)
    after.close()


def test_damage_that_a_write_finds_is_no_lack_of_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        def __init__(self, message: str) -> None:
            self.message = message

        def write(self, _: object) -> None:
            raise Exception(self.message)  # noqa: TRY002  # rocksdict raises no narrower one

        def close(self) -> None:
            pass

    rows = RocksRows(tmp_path / "rows")
    rows.close()
    monkeypatch.setattr(rows, "_disk", Disk("IO error: No space left on device"))
    with pytest.raises(RowsUnwritable, match="make room"):
        rows.flush(0, 0, {})
    monkeypatch.setattr(rows, "_disk", Disk("Corruption: block checksum mismatch"))
    with pytest.raises(RowsDamaged, match="was removed"):
        rows.flush(0, 0, {})
