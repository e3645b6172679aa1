"""The directory of a backfill's work: its plan, the policies as they were read, and what has been done so far.

It lies in the output directory until the outputs are there. One run at a time may use it.
"""

import fcntl
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO

import msgspec

from config.policy_files import load_timeline, policy_text
from config.settings import Settings
from models.errors import TidemarkError, UnusableInput
from models.policy.timeline import Timeline
from streams.history.files import write_atomically
from streams.replay.plan import Plan, PlanError, check_same, digest_of

NAME = ".replay"
_PLAN = "plan.json"


class OutputError(UnusableInput):
    """The output directory cannot be used: it cannot be written, or another run is using it."""


class Work:
    """Where the pieces of one backfill's work are."""

    def __init__(self, directory: Path, settings: Settings | None = None) -> None:
        """`settings` say where topics are, where such are read."""
        self.directory = directory
        self._settings = settings

    @property
    def settings(self) -> Settings:
        """Where the topics are. Raises TidemarkError where files are read."""
        if self._settings is None:
            raise TidemarkError("this run reads no topics")
        return self._settings

    @property
    def plan(self) -> Plan:
        """The plan that was written down."""
        return _plan(self.directory)

    def timeline(self, place: int = 0) -> Timeline:
        """Return a policy of the run, as it was when the run began."""
        return _timeline(self.directory, place)

    def part(self, number: int) -> Path:
        """Return the report of a part that was read."""
        return self.directory / f"part-{number:06d}.done"

    def chunk(self, number: int, chunk: int) -> Path:
        """Return the events of a part, by shard."""
        return self.directory / f"part-{number:06d}-{chunk:04d}.events"

    def shard(self, number: int) -> Path:
        """Return the report of a shard that was decided."""
        return self.directory / f"shard-{number:04d}.done"

    def sorted(self, shard: int) -> Path:
        """Return the events of a shard, sorted by time."""
        return self.directory / f"shard-{shard:04d}.sorted"

    def run(self, name: str, shard: int, number: int) -> Path:
        """Return a run of what a shard has for one output."""
        return self.directory / f"shard-{shard:04d}.{name}.{number:04d}"

    def stretch(self, name: str, number: int) -> Path:
        """Return a stretch of one output."""
        return self.directory / f"{name}.{number:05d}"

    def output(self, name: str) -> Path:
        """Return an output that is whole, and not yet in its place."""
        return self.directory / f"{name}.jsonl"

    def begin(self, plan: Plan, policies: Sequence[Path]) -> None:
        """Drop what was done before, and write the plan down."""
        for path in self.directory.iterdir():
            if path.name != "lock":
                path.unlink()
        _plan.cache_clear()
        _timeline.cache_clear()
        for place, policy in enumerate(policies):
            text = policy_text(policy)
            write_atomically(self._policy(place), partial(_put, data=text.encode()))
            if digest_of(load_timeline(self._policy(place))) != plan.request.policies[place]:
                raise UnusableInput(f"{policy} changed while it was read; run again")
        write_atomically(self.directory / _PLAN, partial(_put, data=msgspec.json.encode(plan)))

    def resumes(self, plan: Plan) -> bool:
        """Whether there is a run to go on with. Raises PlanError where it was asked for something else."""
        try:
            stored = _plan(self.directory)
        except FileNotFoundError:
            return False
        except msgspec.MsgspecError:
            raise TidemarkError(f"{self.directory / _PLAN} cannot be read; run without --resume") from None
        check_same(stored.request, plan.request)
        return True

    def _policy(self, place: int) -> Path:
        return self.directory / f"policy-{place}.yaml"


def _put(file: IO[bytes], data: bytes) -> None:
    file.write(data)


@lru_cache(maxsize=1)
def _plan(directory: Path) -> Plan:
    return msgspec.json.decode((directory / _PLAN).read_bytes(), type=Plan)


@lru_cache(maxsize=2)
def _timeline(directory: Path, place: int) -> Timeline:
    return load_timeline(directory / f"policy-{place}.yaml")


def check_outputs(out: Path, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """Raise OutputError if a run would write over one of its inputs, or over a file that no replay wrote.

    `names` are the outputs' names; the summary comes last. Replays are recognised by their summary, or by their work.
    """
    outputs = [path for name in names if (path := out / name).exists()]
    for path in outputs:
        if any(path.samefile(each) for each in inputs):
            raise OutputError(f"{path} is an input of this run and would be written over; choose another --out")
    if outputs and not (_is_summary(outputs[-1]) or (out / NAME / _PLAN).exists()):
        raise OutputError(f"{outputs[0]} was not written by a replay; choose another --out, or move the file away")


def _is_summary(path: Path) -> bool:
    try:
        summary = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(summary, dict) and {"policy_version", "tier_changes", "dead_letters"} <= summary.keys()


@contextmanager
def working_in(out: Path, settings: Settings | None = None) -> Iterator[Work]:
    """Open the work directory in an output directory; it is this run's alone. Raises OutputError.

    It stays where the run is interrupted or fails, and goes where the input cannot be used, with all that was written.
    """
    directory = out / NAME
    is_new = not out.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("wb")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"{out} is being written by another run") from None
        try:
            yield Work(directory, settings)
        except PlanError:
            raise  # what was done is good for the run that was interrupted
        except UnusableInput:
            shutil.rmtree(directory, ignore_errors=True)
            if is_new:
                out.rmdir()
            raise
        shutil.rmtree(directory)
