"""What a backfill reads, and how the work is cut: parts of the input, shards of the customers.

A plan is written down before anything is done, so that an interrupted run goes on with the very same cuts. It also
says what it was made of: a file or a policy that has changed since is named, and refused.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import IO

import msgspec

from models.errors import UnusableInput
from models.events import Topic
from models.instants import MAX_INSTANT
from models.policy.timeline import Timeline
from streams.history.formats import FileError, check_header, format_of, row_groups

#: A part of plain JSON lines has about so many bytes, and a shard the events of so many.
PART_BYTES = 1 << 25
SHARD_BYTES = 1 << 25
#: What was compressed is taken to be so many times larger.
_PACKED = 8
#: What a record of a topic is taken to have.
_RECORD_BYTES = 150
_MAX_SHARDS = 4_096
#: So many bytes at either end of a file tell whether it is still the same.
_EDGE_BYTES = 1 << 16


class PlanError(UnusableInput):
    """The interrupted run cannot be resumed as asked: its input is not the same. Run without --resume."""


class FileState(msgspec.Struct, frozen=True):
    """What a file is recognised by: its name, bytes, time of change (ns) and a digest of its two ends."""

    path: str
    topic: Topic
    size: int
    changed_ns: int
    digest: str


class Part(msgspec.Struct, frozen=True):
    """A stretch of one input, read by one process at a time: bytes of plain lines, row groups of Parquet, or offsets.

    `partition` is that of a topic, None for a file; `weight` is what it counts for in the progress shown.
    """

    number: int
    topic: Topic
    source: str
    start: int
    stop: int | None
    weight: int
    partition: int | None = None


class Request(msgspec.Struct, frozen=True):
    """What was asked for. `since` and `limit` (ms) bound the events that are read, `until` is where time goes.

    Without a limit, events after `now` (ms), the wall clock when it was asked, are not read; None: there is no clock.

    `topics` is the stretch of which topics, as text; None if files are read. `keep_rows`: the final rows are kept,
    for a bootstrap. `coupled`: customers depend on each other and are decided in the order of time; `partitions` share
    budgets then if files are read. `cutoffs_at` are instants (ms) at which cut-offs are computed besides the days'
    ends. `only`: the one customer that is decided about; None: all.
    """

    release: str
    policies: tuple[str, ...]
    files: tuple[FileState, ...] = ()
    columns: dict[str, dict[str, str]] = {}
    since: int | None = None
    limit: int | None = None
    until: int | None = None
    topics: dict[str, str] | None = None
    keep_rows: bool = False
    coupled: bool = False
    partitions: int = 1
    cutoffs_at: tuple[int, ...] = ()
    only: str | None = None
    now: int | None = None

    @property
    def latest(self) -> int:
        """The latest instant (ms) whose events are read."""
        bounds = [bound for bound in (self.limit, self.now) if bound is not None]
        return bounds[0] if bounds else MAX_INSTANT


class Plan(msgspec.Struct, frozen=True):
    """A request, cut into parts; events are spread over `shards` by customer.

    `stops` are the offsets after the last that is read, by topic and partition.
    """

    request: Request
    parts: tuple[Part, ...]
    shards: int
    stops: dict[str, dict[int, int]] = {}

    @property
    def partitions(self) -> int:
        """How many partitions customers are in: those of the topics, else those of the request."""
        return (
            max((number for stops in self.stops.values() for number in stops), default=self.request.partitions - 1) + 1
        )


def digest_of(timeline: Timeline) -> str:
    """Return what tells one policy file's content from another."""
    return blake2b("|".join(policy.digest for policy in timeline.versions).encode(), digest_size=16).hexdigest()


def release() -> str:
    """Return the release of tidemark that is running."""
    return version("tidemark")


def state_of(path: Path, topic: Topic) -> FileState:
    """Return what a file is recognised by. Raises FileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            known = os.fstat(file.fileno())
            digest = blake2b(file.read(_EDGE_BYTES), digest_size=16)
            if known.st_size > _EDGE_BYTES:
                file.seek(known.st_size - _EDGE_BYTES)
                digest.update(file.read(_EDGE_BYTES))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from None
    return FileState(str(path), topic, known.st_size, known.st_mtime_ns, digest.hexdigest())


def check_unchanged(files: Sequence[FileState]) -> None:
    """Raise FileError where a file is not what it was when the plan was made."""
    for file in files:
        if state_of(Path(file.path), file.topic) != file:
            raise FileError(f"{file.path} changed while it was read; nothing was written, run again")


def plan_files(request: Request) -> Plan:
    """Return the parts of the files of a request. Raises FileError, ColumnsError where one cannot be read."""
    parts: list[Part] = []
    total = 0
    for file in request.files:
        path = Path(file.path)
        check_header(path, file.topic, request.columns.get(file.topic.label, {}))
        for start, stop, weight in _stretches(path, file.size):
            total += weight
            parts.append(Part(len(parts), file.topic, file.path, start, stop, weight))
    return Plan(request, tuple(parts), shards_for(total))


def plan_topics(request: Request, parts: tuple[Part, ...], stops: dict[str, dict[int, int]]) -> Plan:
    """Return the plan that reads stretches of topics."""
    return Plan(request, parts, shards_for(sum(part.weight for part in parts) * _RECORD_BYTES), stops)


def shards_for(total_bytes: int) -> int:
    """Return how many shards hold so many bytes of events."""
    return max(1, min(_MAX_SHARDS, -(-total_bytes // SHARD_BYTES)))


def check_same(stored: Request, asked: Request) -> None:
    """Raise PlanError, saying what differs, where an interrupted run was asked for something else."""
    known = {(file.path, file.topic): file for file in stored.files}
    for file in asked.files:
        if known.get((file.path, file.topic), file) != file:
            raise PlanError(f"{file.path} has changed since the interrupted run; run again without --resume")
    for name, what in _CHANGED.items():
        if getattr(stored, name) != getattr(asked, name):
            raise PlanError(f"{what} not those of the interrupted run; run again without --resume")


_CHANGED: Mapping[str, str] = {
    "policies": "the policies are",
    "files": "the files are",
    "columns": "the columns are",
    "since": "--from and --to are",
    "limit": "--from, --to and --until are",
    "until": "the arguments (--until) are",
    "topics": "the topics, or their offsets, are",
    "keep_rows": "the arguments (--bootstrap) are",
    "partitions": "the partitions are",
    "cutoffs_at": "the instants of --cutoffs-at are",
    "release": "the code and its release are",
}


def _stretches(path: Path, size: int) -> Iterator[tuple[int, int | None, int]]:
    """Yield (start, stop, weight) of the parts of a file; lines are not torn apart."""
    written = format_of(path)
    if written.kind == "parquet":
        for index, weight in enumerate(row_groups(path)):
            yield index, index + 1, weight
    elif written.kind == "lines" and written.compression is None:
        with path.open("rb") as file:
            start = 0
            while start < size:
                stop = _line_end(file, start + PART_BYTES, size)
                yield start, stop, stop - start
                start = stop
    else:
        yield 0, None, size if written.compression is None else size * _PACKED


def _line_end(file: IO[bytes], near: int, size: int) -> int:
    """Return where the line that holds a byte ends, the file's end at the latest."""
    if near >= size:
        return size
    file.seek(near - 1)
    while chunk := file.read(1 << 16):
        place = chunk.find(b"\n")
        if place >= 0:
            return min(size, file.tell() - len(chunk) + place + 1)
    return size
