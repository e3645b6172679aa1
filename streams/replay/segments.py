"""Files of the work that a backfill has done: numbered segments of bytes, and a report at the end.

A file appears by atomic rename once it is whole, so its being there says that this piece of work is done.
"""

import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Generic, Self, TypeVar

import msgspec

from streams.history.files import write_atomically

_TAIL = struct.Struct("<Q8s")
_MAGIC = b"tidemrk1"

R = TypeVar("R", bound=msgspec.Struct)


def write_segments(path: Path, segments: Iterable[bytes], report: Callable[[], msgspec.Struct]) -> None:
    """Write segments, and then the report, which is asked for when they are written."""

    def write(file: IO[bytes]) -> None:
        stops = []
        for segment in segments:
            file.write(segment)
            stops.append(file.tell())
        tail = msgspec.msgpack.encode((stops, msgspec.to_builtins(report())))
        file.write(tail + _TAIL.pack(len(tail), _MAGIC))

    write_atomically(path, write)


class SegmentFile(Generic[R]):
    """A file of segments, open for reading."""

    def __init__(self, path: Path, report: type[R]) -> None:
        """Raises OSError where there is no such file, ValueError where it is not one of ours, or not whole."""
        self._file = path.open("rb")
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - _TAIL.size))
        last = self._file.read()
        length, magic = _TAIL.unpack(last) if len(last) == _TAIL.size else (0, b"")
        if magic != _MAGIC:
            self._file.close()
            raise ValueError(f"{path} is not a whole file of segments")
        self._file.seek(size - _TAIL.size - length)
        stops, found = msgspec.msgpack.decode(self._file.read(length), type=tuple[list[int], dict[str, object]])
        self._stops = [0, *stops]
        self.report: R = msgspec.convert(found, report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """Return how many segments there are."""
        return len(self._stops) - 1

    def size(self, index: int) -> int:
        """Return the bytes of a segment."""
        return self._stops[index + 1] - self._stops[index]

    def read(self, index: int) -> bytes:
        """Return a segment."""
        self._file.seek(self._stops[index])
        return self._file.read(self.size(index))
