"""A backfill as it is asked for on the command line: what is to be read becomes a plan, and the plan is carried out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.errors import UnusableInput
from models.events import Topic
from models.policy import Timeline
from streams.backfill import job
from streams.backfill.columns import parse_columns
from streams.backfill.plan import Plan, Request, digest_of, plan_files, release, state_of
from streams.backfill.pool import pool_of
from streams.backfill.work import working_in
from streams.replay import replay
from streams.replay_files import write_result


@dataclass(frozen=True)
class Asked:
    """Which history is asked for, and how it is to be read. Instants in ms."""

    files: Mapping[Topic, Sequence[Path]] = field(default_factory=dict)
    columns: Sequence[str] = ()
    since: int | None = None
    to: int | None = None
    until: int | None = None


def replay_in_steps(
    asked: Asked, timeline: Timeline, out: Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, Any]:
    """Replay files through the worker's processor, all customers together, step by step, in memory.

    Returns the summary. Raises UnusableInput.
    """
    if asked.since is not None or asked.to is not None:
        raise UnusableInput("--in-steps: --from and --to do not go with it; --until does")
    columns = {topic.label: mapped for topic, mapped in parse_columns(asked.columns).items()}
    return write_result(replay(timeline, asked.files, asked.until, progress, columns=columns), timeline, out)


def plan_of(asked: Asked, timelines: Sequence[Timeline]) -> Plan:
    """Return the plan of what is asked for. Raises UnusableInput where it cannot be read."""
    limits = [limit for limit in (asked.to, asked.until) if limit is not None]
    files = tuple(state_of(path, topic) for topic in Topic for path in asked.files.get(topic, ()))
    request = Request(
        release=release(),
        policies=tuple(map(digest_of, timelines)),
        files=files,
        columns={topic.label: columns for topic, columns in parse_columns(asked.columns).items()},
        since=asked.since,
        limit=min(limits, default=None),
        until=asked.until,
    )
    if not files:
        raise UnusableInput("nothing to replay: give --orders, --interactions or --customers")
    return plan_files(request)


def replay_history(
    plan: Plan, policy: Path, out: Path, progress: job.Progress, *, processes: int = 1, resume: bool = False
) -> dict[str, Any]:
    """Carry a plan out into a directory; return the summary. Raises UnusableInput, PoolError.

    `resume`: go on with an interrupted run of the same plan, where there is one.
    """
    with working_in(out) as work:
        if not (resume and work.resumes(plan)):
            work.begin(plan, [policy])
        pieces = max(len(work.plan.parts), work.plan.shards)  # a small history is not worth a process
        with pool_of(min(processes, pieces)) as pool:
            return job.run(work, pool, out, progress)
