"""A backfill as it is asked for on the command line: what is to be read becomes a plan, and the plan is carried out."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.settings import Settings
from models.errors import Reason, TidemarkError, UnusableInput
from models.events import Topic
from models.policy.timeline import Timeline
from streams.history.columns import parse_columns
from streams.replay import job
from streams.replay.bootstrap import write_state
from streams.replay.coupled import coupled
from streams.replay.plan import Plan, Request, digest_of, plan_files, plan_topics, release, state_of
from streams.replay.process_pool import pool_of
from streams.replay.topic_input import find_parts, parse_offsets
from streams.replay.workspace import check_outputs, working_in


class InterruptedRun(TidemarkError):
    """The run ended before its time, and its work is kept. The same command with --resume goes on."""


@dataclass(frozen=True)
class Asked:
    """Which history is asked for, and how it is to be read. Instants in ms.

    `partitions` share the budgets of care if files are read. `only`: the one customer that matters; None: all do.
    `now` is the wall clock: unless `to` or `until` says more, later events are not read. None: all are.
    """

    files: Mapping[Topic, Sequence[Path]] = field(default_factory=dict)
    columns: Sequence[str] = ()
    since: int | None = None
    to: int | None = None
    until: int | None = None
    offsets: Sequence[str] = ()
    bootstrap: bool = False
    cutoffs_at: Sequence[int] = ()
    partitions: int = 1
    only: str | None = None
    now: int | None = None

    @property
    def topics(self) -> bool:
        """Whether it is in topics: bounds were given, and no files."""
        bounds = (self.since, self.to)
        return not any(self.files.values()) and (bool(self.offsets) or any(bound is not None for bound in bounds))


def plan_of(asked: Asked, timelines: Sequence[Timeline], settings: Settings | None = None) -> Plan:
    """Return the plan of what is asked for. `settings` say where the topics are. Raises UnusableInput, BrokerError."""
    if not asked.topics and not any(asked.files.values()):
        problem = "give --orders, --interactions or --customers, or --from, --to or --offsets to read topics"
        raise UnusableInput(f"nothing to replay: {problem}")
    if asked.offsets and any(asked.files.values()):
        raise UnusableInput("--offsets: topics are read where no files are given")
    limits = [limit for limit in (asked.to, asked.until) if limit is not None]
    files = tuple(state_of(path, topic) for topic in Topic for path in sorted(asked.files.get(topic, ())))
    depend = any(map(coupled, timelines))
    shared = asked.bootstrap or any(timeline.budgeted for timeline in timelines)
    request = Request(
        release=release(),
        policies=tuple(map(digest_of, timelines)),
        files=files,
        columns={topic.label: columns for topic, columns in parse_columns(asked.columns).items()},
        since=asked.since,
        limit=min(limits, default=None),
        until=asked.until,
        topics=_described(asked, settings) if asked.topics and settings is not None else None,
        keep_rows=asked.bootstrap or asked.only is not None,
        coupled=depend,
        partitions=asked.partitions if depend and shared else 1,
        cutoffs_at=tuple(sorted(asked.cutoffs_at)),
        only=None if depend else asked.only,
        now=asked.now,
    )
    if request.topics is None or settings is None:
        return plan_files(request)
    campaigns = any(timeline.announces for timeline in timelines)
    return plan_topics(request, *find_parts(settings, asked.since, parse_offsets(asked.offsets), campaigns=campaigns))


def bad_and_good(summary: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many records of a summary could not be used, and how many could, if without an ignored field."""
    letters = summary["dead_letters"]
    return letters["total"] - letters["by_reason"].get(Reason.FIELD_IGNORED, 0), sum(summary["events"].values())


def check_bad(bad: int, good: int, max_bad: float) -> None:
    """Raise UnusableInput if none of the records could be used, TidemarkError if a larger share than `max_bad` not."""
    share = bad / (bad + good) if bad else 0.0
    if share == 1.0:
        raise UnusableInput(f"none of the {bad:,} records could be read: see the mistakes above")
    if share > max_bad:
        raise TidemarkError(
            f"{bad:,} of {bad + good:,} records ({share:.1%}) could not be read, allowed are {max_bad:.1%}: correct "
            "the input, or allow more with --max-bad"
        )


def _described(asked: Asked, settings: Settings) -> dict[str, str]:
    """Return which topics are read, as text; the offsets that were found may grow between two runs."""
    return {"broker": settings.broker, "prefix": settings.topic_prefix, "offsets": " ".join(sorted(asked.offsets))}


def replay_history(  # noqa: PLR0913  # one for each option of the command
    plan: Plan,
    policy: Path,
    out: Path,
    progress: job.Progress,
    *,
    processes: int = 1,
    resume: bool = False,
    settings: Settings | None = None,
    max_bad: float = 1.0,
) -> dict[str, Any]:
    """Carry a plan out into a directory; return the summary. Raises UnusableInput, PoolError, InterruptedRun.

    If a larger share than `max_bad` of what was read is dead letters, no group is bootstrapped.

    `resume`: go on with an interrupted run of the same plan, where there is one.
    """
    check_outputs(out, job.FILES, [Path(each.path) for each in plan.request.files])
    with working_in(out, settings) as work:
        if not (resume and work.resumes(plan)):
            work.begin(plan, [policy])
        pieces = max(len(work.plan.parts), work.plan.shards)  # a small history is not worth a process
        try:
            with pool_of(min(processes, pieces)) as pool:
                summary = job.run(work, pool, out, progress)
        except KeyboardInterrupt:
            raise InterruptedRun("interrupted; the same command with --resume goes on") from None
        except OSError as error:  # what cannot be read has another name by now
            problem = f"{out} cannot be written: {error.strerror}; --resume goes on when it can"
            raise InterruptedRun(problem) from None
        bad, good = bad_and_good(summary)
        if settings is not None and work.plan.request.keep_rows and bad <= max_bad * (bad + good):
            summary["bootstrapped"] = asyncio.run(write_state(work, settings, job.until_of(work)))
        return summary
