"""A backfill from its plan to its files: parts read, shards decided, runs merged, outputs put in their place.

Each piece of work leaves a file; what is there is not done again. The outputs do not depend on how many processes did
the work, nor on how often it was interrupted.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import msgspec
import orjson

from models.instants import format_instant
from streams.history.files import write_atomically
from streams.history.formats import lines_before
from streams.replay.collect import ACTIONS, CHANGES, CUSTOMERS, CUTOFFS, ShardReport, outputs_of
from streams.replay.coupled import SortedReport, decide_coupled, sort_shard
from streams.replay.decide import decide_shard
from streams.replay.histories import campaigns_of, take_in
from streams.replay.outputs import Figures, dead_letter, encode_summary, place_text, summarise
from streams.replay.plan import Part, check_unchanged
from streams.replay.process_pool import Pool
from streams.replay.segments import SegmentFile
from streams.replay.shuffle import Letter, PartReport, shuffle
from streams.replay.sorted_runs import boundaries, merge
from streams.replay.workspace import Work

log = logging.getLogger(__name__)

LETTERS = "dead-letters"
SUMMARY = "summary.json"
#: The files that a replay may write, the summary last.
FILES = (*(f"{name}.jsonl" for name in (CHANGES, ACTIONS, CUSTOMERS, CUTOFFS, LETTERS)), SUMMARY)
R = TypeVar("R", bound=msgspec.Struct)
#: Called with how much of a stage is done: (stage, done, total), in events or lines.
Progress = Callable[[str, int, int], None]


class Stretch(NamedTuple):
    """A stretch of an output: its place, the runs that it comes from, and the keys between which it lies."""

    name: str
    place: int
    runs: Sequence[Path]
    low: str | None
    high: str | None


@dataclass
class Reading:
    """What all parts held. `with_letters` are the parts that had dead letters.

    `first_after` says which event was the first that was not used because it is after now.
    """

    figures: Figures = field(default_factory=Figures)
    before: int = 0
    events: int = 0
    with_letters: list[int] = field(default_factory=list)
    first_after: str | None = None


def read_parts(work: Work, pool: Pool, progress: Progress) -> Reading:
    """Have every part read that was not read yet; return what they held. Raises FileError, RangeError."""
    plan = work.plan
    weights = [part.weight for part in plan.parts]
    reports = _done(work.part, range(len(plan.parts)), PartReport)
    weight, events = sum(weights[number] for number in reports), sum(report.events for report in reports.values())
    missing = [number for number in range(len(plan.parts)) if number not in reports]
    for number, report in pool.each(partial(shuffle, work), missing):
        reports[number] = report
        weight, events = weight + weights[number], events + report.events
        progress("reading", events, max(events, events * sum(weights) // max(1, weight)))
    check_unchanged(plan.request.files)
    reading = Reading()
    for number, report in sorted(reports.items()):
        part = plan.parts[number]
        reading.events += report.events
        reading.before += report.before
        counted = {part.topic.label: report.events} if report.events else {}
        bounded = plan.request.limit is not None
        reading.figures.add(Figures(events=counted))
        if bounded:
            reading.figures.after_until += report.after
        else:
            reading.figures.after_now += report.after
        if report.first_after is not None and not bounded and reading.first_after is None:
            reading.first_after = _event_text(part, *report.first_after)
        if report.letters:
            reading.with_letters.append(number)
    if reading.first_after is not None:
        many = "1 event is" if reading.figures.after_now == 1 else f"{reading.figures.after_now:,} events are"
        log.warning("%s after now and not used; the first: %s. --until uses them", many, reading.first_after)
    return reading


def decide(work: Work, pool: Pool, reading: Reading, until: int | None, progress: Progress) -> list[ShardReport]:
    """Decide what was not decided yet, up to `until` (ms); return the reports of all shards."""
    if work.plan.request.coupled:
        return [_decide_coupled(work, pool, until, progress)]
    shards = work.plan.shards
    reports = _done(work.shard, range(shards), ShardReport)
    missing = [number for number in range(shards) if number not in reports]
    for number, report in pool.each(partial(decide_shard, work, until=until), missing):
        reports[number] = report
        progress("deciding", reading.events * len(reports) // shards, reading.events)
    return [report for _, report in sorted(reports.items())]


def _decide_coupled(work: Work, pool: Pool, until: int | None, progress: Progress) -> ShardReport:
    done = _done(work.shard, [0], ShardReport)
    if done:
        return done[0]
    sort_shards(work, pool, progress)
    return decide_coupled(work, until, partial(progress, "deciding"))


def sort_shards(work: Work, pool: Pool, progress: Progress) -> None:
    """Sort the shards by time that were not sorted yet."""
    shards = work.plan.shards
    done = _done(work.sorted, range(shards), SortedReport)
    missing = [number for number in range(shards) if number not in done]
    for number, report in pool.each(partial(sort_shard, work), missing):
        done[number] = report
        events = sum(each.events for each in done.values())
        progress("sorting", events, events * shards // len(done))


def write_outputs(
    work: Work, pool: Pool, reading: Reading, reports: Sequence[ShardReport], out: Path, progress: Progress
) -> None:
    """Merge the runs, and put the outputs in their place once all of them are whole."""
    names = outputs_of(work.timeline())
    stretches: list[Stretch] = []
    for name in names:
        runs = [
            work.run(name, shard, run)
            for shard, report in enumerate(reports)
            for run in range(report.runs.get(name, 0))
        ]
        bounds = [None, *boundaries(runs), None]
        stretches += [Stretch(name, place, runs, *bounds[place : place + 2]) for place in range(len(bounds) - 1)]
    for place, _ in enumerate(pool.each(partial(_merge, work), stretches), start=1):
        progress("writing", reading.events * place // len(stretches), reading.events)
    for name in names:
        pieces = [work.stretch(name, each.place) for each in stretches if each.name == name]
        write_atomically(work.output(name), partial(_join, pieces))
    letters = (orjson.dumps(dead_letter(place, *letter)) + b"\n" for place, letter in _letters(work, reading))
    write_atomically(work.output(LETTERS), lambda file: file.writelines(letters))
    for name in (*names, LETTERS):
        work.output(name).replace(out / f"{name}.jsonl")
    if CUTOFFS not in names:
        (out / f"{CUTOFFS}.jsonl").unlink(missing_ok=True)  # of an earlier replay by another policy


def run(work: Work, pool: Pool, out: Path, progress: Progress) -> dict[str, Any]:
    """Do all the work that is left of a plan, and put the files into a directory, the summary last.

    Return the summary, and in it also what the first dead letter of each reason was.
    Raises FileError, RangeError, PoolError.
    """
    reading = read_parts(work, pool, progress)
    until = until_of(work)
    reports = decide(work, pool, reading, until, progress)
    figures = reading.figures
    for report in reports:
        figures.add(report.figures)
    if not work.plan.request.coupled:  # else the partitions counted them
        for campaigns in campaigns_of(work).values():
            figures.add(Figures(notes=take_in(campaigns).notes))
    first = note_letters(work, reading)
    summary = summarise(figures, until, work.timeline())
    if work.plan.request.since is not None:
        summary["before_from"] = reading.before
    write_outputs(work, pool, reading, reports, out, progress)
    write_atomically(out / SUMMARY, lambda file: file.write(encode_summary(summary)))
    summary["dead_letters"]["first"] = first
    return summary


def until_of(work: Work) -> int | None:
    """Return the instant (ms) to which a run that is done advanced time."""
    reports = _done(work.part, range(len(work.plan.parts)), PartReport).values()
    asked = work.plan.request.until
    return max((report.last for report in reports if report.last is not None), default=None) if asked is None else asked


def _done(name: Callable[[int], Path], numbers: Iterable[int], report: type[R]) -> dict[int, R]:
    """Return the reports of the pieces of work that are done."""
    found = {}
    for number in numbers:
        try:
            with SegmentFile(name(number), report) as file:
                found[number] = file.report
        except (FileNotFoundError, ValueError):
            continue  # not done, or torn by a crash of the machine: it is done again
    return found


def _merge(work: Work, stretch: Stretch) -> None:
    merge(stretch.runs, stretch.low, stretch.high, work.stretch(stretch.name, stretch.place))


def _join(pieces: Sequence[Path], file: IO[bytes]) -> None:
    for piece in pieces:
        with piece.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
        piece.unlink()


def note_letters(work: Work, reading: Reading) -> dict[str, str]:
    """Count the dead letters of what was read, by reason; return where the first of each was, and its detail."""
    counts, first = Counter[str](), dict[str, str]()
    for place, (reason, detail, _) in _letters(work, reading):
        first.setdefault(reason, f"{place_text(place)}: {detail}")
        counts[reason] += 1
    reading.figures.by_reason = dict(counts)
    return first


def _letters(work: Work, reading: Reading) -> Iterator[tuple[dict[str, Any], tuple[str, str, bytes | None]]]:
    """Yield where each dead letter was, and (reason, detail, value), in the order of the input."""
    for number in reading.with_letters:
        part = work.plan.parts[number]
        first = _lines_before(part)
        with SegmentFile(work.part(number), PartReport) as done:
            for letter in msgspec.msgpack.decode(done.read(0), type=list[Letter]):
                place = _place(part, letter.place, first)
                if part.partition is not None:
                    place["timestamp"] = letter.timestamp
                yield place, (letter.reason, letter.detail, letter.value)


def _event_text(part: Part, place: int, at: int) -> str:
    """Return where an event of a part was, and its instant (ms), in words."""
    return f"{place_text(_place(part, place, _lines_before(part)))}: {format_instant(at)}"


def _lines_before(part: Part) -> int:
    return 0 if part.partition is not None else lines_before(Path(part.source), part.start)


def _place(part: Part, place: int, first: int) -> dict[str, Any]:
    if part.partition is None:
        return {"file": Path(part.source).name, "line": first + place}
    return {"topic": part.source, "partition": part.partition, "offset": place}
