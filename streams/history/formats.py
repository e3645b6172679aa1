"""Event files: JSON lines, CSV and Parquet, plain or compressed; the suffix says which. Values come out as JSON.

`orders.jsonl`, `orders.csv.gz`, `orders.jsonl.zst`, `orders.parquet`. What has no known suffix is taken for JSON lines.
A file that cannot be read to its end is one line of error: a truncated file must not pass for a short one.
"""

import csv
import gzip
import io
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import IO, Any, NamedTuple

from models.errors import UnusableInput
from models.events import Topic
from streams.history.columns import Mapped, RowMapper

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_TABLES = {".csv": ",", ".tsv": "\t"}
_PARQUET = frozenset({".parquet", ".pq"})
_CHUNK = 1 << 20
#: The beginning of a file that says how it is written.
_HEAD = 1 << 12
#: A cell, or a line, may be longer than any record that is accepted, and is then refused as a record.
_LONGEST = 1 << 26


class FileError(UnusableInput):
    """An input file cannot be read. The message names it, says why, and where."""


class Format(NamedTuple):
    """How a file is written: `kind` is `lines`, `table` or `parquet`."""

    kind: str
    compression: str | None
    delimiter: str


#: Where a value is, lines and rows counted from 1, and the value; `Unreadable` if a row of a table is no event.
Numbered = tuple[int, bytes]


def format_of(path: Path) -> Format:
    """Return how a file is written, by its suffixes."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    last = suffixes[-2 if compression else -1 :][:1]
    suffix = last[0] if last else ""
    if suffix in _PARQUET and compression is None:
        return Format("parquet", None, "")
    return Format("table" if suffix in _TABLES else "lines", compression, _TABLES.get(suffix, ""))


def read_values(
    path: Path, topic: Topic, mapped: Mapped, start: int = 0, stop: int | None = None
) -> Iterator[Numbered]:
    """Yield the values of a file, or of a stretch of it: bytes of plain JSON lines, row groups of Parquet.

    Lines are counted from the start of the stretch. Raises FileError, ColumnsError.
    """
    written = format_of(path)
    with _one_line_errors(path):
        if written.kind == "parquet":
            yield from _parquet_values(path, topic, mapped, start, stop)
            return
        with open_bytes(path, written) as file:
            if not start:
                _check_beginning(path, file, written)
            if written.kind == "table":
                yield from _table_values(path.name, file, topic, mapped, written.delimiter)
            else:
                yield from _lines(file, start, stop)


def check_header(path: Path, topic: Topic, mapped: Mapped) -> None:
    """Raise if a file cannot be opened, is written otherwise, or lacks a column. Only its beginning is read."""
    written = format_of(path)
    with _one_line_errors(path):
        if written.kind == "parquet":
            RowMapper(path.name, topic, _names(_parquet(path)), mapped)
            return
        with open_bytes(path, written) as file:
            _check_beginning(path, file, written)
            if written.kind == "table":
                next(_table_values(path.name, file, topic, mapped, written.delimiter), None)


def row_groups(path: Path) -> list[int]:
    """Return the bytes of each row group of a Parquet file. Raises FileError."""
    with _one_line_errors(path):
        metadata = _parquet(path).metadata
        return [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]


def lines_before(path: Path, start: int) -> int:
    """Return how many lines, or rows of Parquet, lie before a stretch of a file that begins at `start`."""
    if format_of(path).kind == "parquet":
        metadata = _parquet(path).metadata
        return sum(metadata.row_group(index).num_rows for index in range(start))
    lines = 0
    with path.open("rb") as file:
        while start and (chunk := file.read(min(_CHUNK, start))):
            lines += chunk.count(b"\n")
            start -= len(chunk)
    return lines


def open_bytes(path: Path, written: Format) -> IO[bytes]:
    """Open a file for reading what was compressed into it. Raises OSError, FileError."""
    if written.compression == "gzip":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # a BufferedIOBase, which reads as IO[bytes] does
    if written.compression == "zstd":
        opened: IO[bytes] = _zstd().open(path, "rb")
        return opened
    return path.open("rb")


def _zstd() -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        raise FileError("zst files want the extra: pip install 'tidemark[files]'") from None
    return zstd


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise FileError("Parquet files want the extra: pip install 'tidemark[files]'") from None
    return parquet.ParquetFile(path)


@contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading a file into one line that names it."""
    try:
        yield
    except UnusableInput:
        raise
    except EOFError:
        raise FileError(f"{path} is cut off: its compressed data ends before its end") from None
    except (OSError, zlib.error, ValueError, OverflowError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileError(f"{path} cannot be read: {reason}") from None
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # its base is Exception, and its module an extra
            raise FileError(f"{path} cannot be read: {error}") from None
        raise


def _check_beginning(path: Path, file: Any, written: Format) -> None:
    """Raise FileError if a file begins like UTF-16 or UTF-32, or like JSON that is not one object a line."""
    head: bytes = file.peek(_HEAD)[:_HEAD]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:4]:
        wide = "UTF-32" if b"\0\0" in head[:4] else "UTF-16"
        order = "" if head[:1] > b"\xf0" else "BE" if head.startswith(b"\0") else "LE"
        problem = f"is {wide}, allowed is UTF-8"
        raise FileError(f"{path} {problem}: convert it, as with `iconv -f {wide}{order} -t UTF-8`")
    if written.kind != "lines":
        return
    text = head.removeprefix(BOM_UTF8).lstrip()
    if text.startswith(b"["):
        raise FileError(f"{path} is a JSON array, not JSON lines: convert it, as with `jq -c '.[]'`")
    if text[1:].lstrip(b" \t\r")[:1] == b"\n" and text.startswith(b"{"):
        raise FileError(f"{path} has JSON objects over several lines, not JSON lines: convert it, as with `jq -c .`")


def _lines(file: IO[bytes], start: int, stop: int | None) -> Iterator[Numbered]:
    """Yield what lies between line ends in the bytes from `start` to `stop`, without empty lines and byte order marks.

    A line in the middle begins with such a mark if files were joined.
    """
    if start:
        file.seek(start)
    left = sys.maxsize if stop is None else stop - start
    number, rest = 1, b""
    while left and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        data = rest + chunk
        *lines, rest = data.split(b"\n")
        if len(rest) > _LONGEST:
            raise FileError(f"{file.name} has a line of more than {_LONGEST:,} bytes; is it JSON lines?")
        if BOM_UTF8 in data:
            lines = [line.removeprefix(BOM_UTF8) for line in lines]
        for place, line in enumerate(lines, start=number):
            value = line.rstrip(b"\r")
            if value:
                yield place, value
        number += len(lines)
    value = rest.removeprefix(BOM_UTF8).rstrip(b"\r")
    if value:
        yield number, value


def _table_values(name: str, file: IO[bytes], topic: Topic, mapped: Mapped, delimiter: str) -> Iterator[Numbered]:
    csv.field_size_limit(_LONGEST)
    with io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        rows = csv.reader(_checked_lines(name, text), delimiter=delimiter, strict=True)
        number, mapper = 1, None
        try:
            for row in rows:
                if row and mapper is None:
                    mapper = RowMapper(name, topic, row, mapped)
                elif row and mapper is not None:
                    yield number, mapper.value(row)
                number = rows.line_num + 1
        except csv.Error as error:
            remedy = "a cell with quotes is in quotes, and has each of its own twice"
            raise FileError(
                f"{name} cannot be read: {error} in the row that begins in line {number}; {remedy}"
            ) from None
        if mapper is None:
            raise FileError(f"{name} is empty; its first line must name the columns")


def _checked_lines(name: str, text: io.TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a table. Raises FileError for the first that is not UTF-8."""
    for number, line in enumerate(text, start=1):
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = ord(line[error.start]) - 0xDC00
                problem = f"cannot be read: the byte 0x{byte:02x} in line {number} is not UTF-8"
                raise FileError(f"{name} {problem}; convert it, as with `iconv -f WINDOWS-1252 -t UTF-8`") from None
        yield line


def _parquet_values(path: Path, topic: Topic, mapped: Mapped, start: int, stop: int | None) -> Iterator[Numbered]:
    import pyarrow

    file = _parquet(path)
    mapper = RowMapper(path.name, topic, _names(file), mapped)
    places, number = mapper.places, 0
    groups = range(start, file.metadata.num_row_groups if stop is None else stop)
    for batch in file.iter_batches(row_groups=list(groups)):
        columns = [
            _cells(column) if place in places else repeat(None, batch.num_rows)
            for place, column in enumerate(pyarrow.Table.from_batches([batch]).flatten().columns)
        ]
        for row in zip(*columns, strict=True):
            number += 1
            yield number, mapper.value(row)


def _names(file: Any) -> list[str]:
    """Return the columns of a Parquet file. Those of a struct are columns of their own, as `consent.marketing`."""
    names: list[str] = file.schema_arrow.empty_table().flatten().schema.names
    return names


def _cells(column: Any) -> list[Any]:
    """Return the cells of a column of Parquet. Nanoseconds, which Python's times do not hold, are cut off."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
    cells: list[Any] = column.to_pylist()
    return cells
