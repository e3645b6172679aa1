"""Sorting what is larger than memory: sorted runs, merged stretch by stretch.

An entry is a key, which orders it, and a line. A run is a file of entries in order, cut into frames, with the first key
of each frame. The first keys of all runs tell where to cut the whole into stretches of a bounded size, each of which is
then merged on its own, by whichever process is free.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from streams.history.files import write_atomically
from streams.replay.segments import SegmentFile, write_segments

Entry = tuple[str, bytes]

_FRAME_BYTES = 1 << 17
#: A stretch that is merged at once has about so many bytes.
BUCKET_BYTES = 1 << 25

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


class RunReport(msgspec.Struct):
    """The first key of each frame of a run."""

    firsts: list[str] = []


def write_run(path: Path, entries: Iterable[Entry]) -> None:
    """Write entries, which are in order, as a run."""
    report = RunReport([])

    def frames() -> Iterator[bytes]:
        frame: list[Entry] = []
        size = 0
        for entry in entries:
            frame.append(entry)
            size += len(entry[1])
            if size >= _FRAME_BYTES:
                report.firsts.append(frame[0][0])
                yield _encode(frame)
                frame, size = [], 0
        if frame:
            report.firsts.append(frame[0][0])
            yield _encode(frame)

    write_segments(path, frames(), lambda: report)


def boundaries(paths: Sequence[Path]) -> list[str]:
    """Return the keys at which the entries of all runs are cut into stretches of some bounded size."""
    sized: list[tuple[str, int]] = []
    for path in paths:
        with SegmentFile(path, RunReport) as run:
            sized += [(first, run.size(index)) for index, first in enumerate(run.report.firsts)]
    sized.sort()
    keys: list[str] = []
    room = BUCKET_BYTES
    for first, size in sized:
        room -= size
        if room < 0 and (not keys or keys[-1] != first):
            keys.append(first)
            room = BUCKET_BYTES - size
    return keys


def merge(paths: Sequence[Path], low: str | None, high: str | None, target: Path) -> None:
    """Write the lines of all entries from key `low` on and before key `high`, in order."""
    entries: list[Entry] = []
    for path in paths:
        with SegmentFile(path, RunReport) as run:
            entries += _between(run, low, high)
    entries.sort()
    write_atomically(target, lambda file: file.writelines(line + b"\n" for _, line in entries))


def entries_of(path: Path) -> Iterator[Entry]:
    """Yield the entries of a run, in order."""
    with SegmentFile(path, RunReport) as run:
        yield from _between(run, None, None)


def _between(run: SegmentFile[RunReport], low: str | None, high: str | None) -> Iterator[Entry]:
    firsts = run.report.firsts
    start = 0 if low is None else max(0, bisect_right(firsts, low) - 1)
    stop = len(firsts) if high is None else bisect_left(firsts, high)
    for index in range(start, stop):
        for entry in _decode(run.read(index)):
            if (low is None or entry[0] >= low) and (high is None or entry[0] < high):
                yield entry
