"""How a replay ends for one customer: nothing is written, the state is returned. For `explain`."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from models.customer.state import Customer
from models.policy.cutoff_timeline import RankedTimeline, ranked
from models.policy.timeline import Timeline
from streams.partition.state import Progress
from streams.replay import job
from streams.replay.collect import ShardReport, rows_of
from streams.replay.plan import Plan
from streams.replay.process_pool import pool_of
from streams.replay.workspace import working_in


class FinalState(NamedTuple):
    """A customer at `until` (ms), None if they do not occur, and the policy with the cut-offs that hold then."""

    customer: Customer | None
    timeline: Timeline
    until: int | None


def _quiet(_stage: str, _done: int, _total: int) -> None:
    pass


def final_state(plan: Plan, policy: Path, customer_id: str) -> FinalState:
    """Decide what a plan reads, and return how one customer ends. The plan must keep rows. Raises FileError."""
    with tempfile.TemporaryDirectory(prefix="tidemark-") as directory, working_in(Path(directory)) as work:
        work.begin(plan, [policy])
        with pool_of(1) as pool:
            reading = job.read_parts(work, pool, _quiet)
            until = job.until_of(work)
            reports = job.decide(work, pool, reading, until, _quiet)
        row = next((row for _, name, row in rows_of(work) if name == customer_id), None)
        customer = None if row is None else Customer.from_row(customer_id, row)
        return FinalState(customer, _with_cutoffs(work.timeline(), reports), until)


def _with_cutoffs(timeline: Timeline, reports: Iterable[ShardReport]) -> Timeline:
    if not ranked(timeline):
        return timeline
    known = RankedTimeline(timeline.versions)
    for row in (row for report in reports for row in report.progress.values()):
        days = msgspec.msgpack.decode(row, type=Progress).days
        if days is not None and days.first is not None:
            known.begin(days.first)
            for cutoffs in days.known:
                known.learn(cutoffs)
    return known
