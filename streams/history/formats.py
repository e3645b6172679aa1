"""Event files: JSON lines, CSV and Parquet, plain or compressed; the suffix says which. Values come out as JSON.

`orders.jsonl`, `orders.csv.gz`, `orders.jsonl.zst`, `orders.parquet`. What has no known suffix is taken for JSON lines.
A file that cannot be read to its end is one line of error: a truncated file must not pass for a short one.
"""

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from models.errors import UnusableInput
from models.events import Topic
from streams.history.columns import Mapped, RowMapper

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_TABLES = {".csv": ",", ".tsv": "\t"}
_PARQUET = frozenset({".parquet", ".pq"})
_CHUNK = 1 << 20
#: So many bytes show in which encoding a file is, and whether it is JSON lines.
_HEAD = 4_096
_BOM = b"\xef\xbb\xbf"
#: A cell, or a line, may be longer than any record that is accepted, and is then refused as a record.
_LONGEST = 1 << 26


class FileError(UnusableInput):
    """An input file cannot be read. The message names it, says why, and where."""


class Format(NamedTuple):
    """How a file is written: `kind` is `lines`, `table` or `parquet`."""

    kind: str
    compression: str | None
    delimiter: str


#: Where a value is, lines and rows counted from 1, and the value.
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
            if written.kind == "table":
                yield from _table_values(path.name, file, topic, mapped, written.delimiter)
            else:
                yield from _lines(file, start, stop)


def check_header(path: Path, topic: Topic, mapped: Mapped) -> None:
    """Raise where a file cannot be opened, or a table lacks a column. Only its beginning is read."""
    written = format_of(path)
    with _one_line_errors(path):
        if written.kind == "parquet":
            RowMapper(path.name, topic, _parquet(path).schema_arrow.names, mapped)
            return
        with open_bytes(path, written) as file:
            _check_text(path, file.read(_HEAD), written)
        if written.kind == "table":
            with open_bytes(path, written) as file:
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
    except UnicodeDecodeError:
        raise FileError(
            f"{path}, line {_line_not_utf8(path)} is not UTF-8; {_CONVERT.format('WINDOWS-1252')}"
        ) from None
    except (OSError, zlib.error, csv.Error, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise FileError(f"{path} cannot be read: {reason}") from None
    except Exception as error:
        if type(error).__name__ == "ZstdError":  # its base is Exception, and its module an extra
            raise FileError(f"{path} cannot be read: {error}") from None
        raise


_CONVERT = "convert the file: iconv -f {} -t UTF-8"


def _check_text(path: Path, head: bytes, written: Format) -> None:
    """Raise FileError for text in UTF-16, and for JSON that is no JSON lines, given the first bytes of a file."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:64]:
        raise FileError(f"{path} is in UTF-16, allowed is UTF-8; {_CONVERT.format('UTF-16')}")
    if written.kind == "lines":
        first = head.removeprefix(_BOM).lstrip()
        if first.startswith(b"["):
            raise FileError(f"{path} is a JSON array, allowed are JSON lines; convert it: jq -c '.[]' {path.name}")
        if first.partition(b"\n")[0].rstrip() == b"{":
            raise FileError(
                f"{path} has objects over several lines, allowed are JSON lines; convert it: jq -c . {path.name}"
            )


def _line_not_utf8(path: Path) -> int:
    with open_bytes(path, format_of(path)) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _lines(file: IO[bytes], start: int, stop: int | None) -> Iterator[Numbered]:
    """Yield what lies between line ends in the bytes from `start` to `stop`, without empty lines."""
    if start:
        file.seek(start)
    left = sys.maxsize if stop is None else stop - start
    number, rest = 1, b""
    while left and (chunk := file.read(min(_CHUNK, left))):
        left -= len(chunk)
        if not start and number == 1 and not rest:
            chunk = chunk.removeprefix(_BOM)
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST:
            raise FileError(f"{file.name} has a line of more than {_LONGEST:,} bytes; is it JSON lines?")
        for place, line in enumerate(lines, start=number):
            value = line.rstrip(b"\r")
            if value:
                yield place, value
        number += len(lines)
    value = rest.rstrip(b"\r")
    if value:
        yield number, value


def _table_values(name: str, file: IO[bytes], topic: Topic, mapped: Mapped, delimiter: str) -> Iterator[Numbered]:
    csv.field_size_limit(_LONGEST)
    with io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        header = next(rows, None)
        if header is None:
            raise FileError(f"{name} is empty; its first line must name the columns")
        mapper = RowMapper(name, topic, header, mapped)
        try:
            for row in rows:
                if row:
                    yield rows.line_num, mapper.value(row)
        except csv.Error as error:
            raise FileError(
                f"{name}, line {rows.line_num}: {error}; a quote is closed in its cell, and written twice within it"
            ) from None


def _parquet_values(path: Path, topic: Topic, mapped: Mapped, start: int, stop: int | None) -> Iterator[Numbered]:
    file = _parquet(path)
    names = file.schema_arrow.names
    mapper = RowMapper(path.name, topic, names, mapped)
    number = 0
    groups = range(start, file.metadata.num_row_groups if stop is None else stop)
    for batch in file.iter_batches(row_groups=list(groups)):
        columns = [_to_microseconds(column).to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            number += 1
            yield number, mapper.value(row)


def _to_microseconds(column: Any) -> Any:
    """Return a column whose instants are no finer than Python's."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
    return column
