"""What a replay decided, written as sorted runs: changes, actions, final states, cut-offs and rows.

Both ways to decide hand their decisions over here. Memory is bounded: a run is written
when enough decisions have been collected.
"""

from collections.abc import Iterable, Iterator

import msgspec

from models.customer.state import Customer
from models.engine.decide import Engine
from models.outputs import CareAction, Decisions, TierChange
from models.policy.cutoff_timeline import ranked
from models.policy.timeline import Timeline
from streams.replay.outputs import Figures, count_customers, count_decisions, final_line
from streams.replay.segments import SegmentFile, write_segments
from streams.replay.sorted_runs import Entry, entries_of, write_run
from streams.replay.workspace import Work

#: The outputs by the stem of their file, and the rows, which only a bootstrap reads.
CHANGES, ACTIONS, CUSTOMERS, CUTOFFS, ROWS = "tier-changes", "care-actions", "customers", "tier-cutoffs", "rows"
#: Entries of one output that are held in memory before a run is written.
RUN_ENTRIES = 500_000

_encode = msgspec.json.Encoder().encode


def outputs_of(timeline: Timeline) -> tuple[str, ...]:
    """Return the outputs that a policy has; cut-offs only if it has some computed."""
    return (CHANGES, ACTIONS, CUSTOMERS, CUTOFFS) if ranked(timeline) else (CHANGES, ACTIONS, CUSTOMERS)


class ShardReport(msgspec.Struct):
    """What was decided about a shard: the counts, and how many runs each output has.

    `progress` are the progress rows of partitions by number, if the customers were coupled.
    """

    figures: Figures
    runs: dict[str, int] = {}
    progress: dict[int, bytes] = {}


class Collector:
    """Collects what is decided about the customers of a shard, and writes it."""

    def __init__(self, work: Work, shard: int, until: int | None) -> None:
        """`until` is the instant (ms) that final states are shown at."""
        self._work = work
        self._shard = shard
        self._until = until
        self._entries: dict[str, list[Entry]] = {}
        self.report = ShardReport(Figures())

    def decided(self, decisions: Decisions) -> None:
        """Take what one step decided."""
        self._add(CHANGES, map(_change_entry, decisions.changes))
        self._add(ACTIONS, map(_action_entry, decisions.actions))
        cutoffs = (_encode(event) for event in decisions.cutoffs)
        first = len(self._entries.get(CUTOFFS, ()))
        self._add(CUTOFFS, ((f"{place:012d}", line) for place, line in enumerate(cutoffs, start=first)))
        figures = self.report.figures
        figures.add(count_decisions(decisions.changes, decisions.actions, decisions.refusals))
        figures.add(Figures(notes=dict(decisions.counts)))

    def finished(self, engine: Engine, customers: Iterable[tuple[int, Customer]]) -> None:
        """Take customers in their final state, each with the number of their partition."""
        placed = list(customers)
        final = [customer for _, customer in placed]
        self.report.figures.add(count_customers(final))
        self._add(CUSTOMERS, ((each.customer_id, final_line(engine, each, self._until)) for each in final))
        if self._work.plan.request.keep_rows:
            self._add(ROWS, ((f"{number:06d}\0{each.customer_id}", each.to_row()) for number, each in placed))

    def close(self) -> ShardReport:
        """Write what is left, and then the report: the shard is done. Return the report."""
        for name in list(self._entries):
            self._write(name)
        write_segments(self._work.shard(self._shard), [], lambda: self.report)
        return self.report

    def _add(self, name: str, entries: Iterable[Entry]) -> None:
        held = self._entries.setdefault(name, [])
        held.extend(entries)
        if len(held) >= RUN_ENTRIES and name != CUTOFFS:  # few, and numbered by their place
            self._write(name)

    def _write(self, name: str) -> None:
        entries = self._entries.pop(name)
        number = self.report.runs.get(name, 0)
        write_run(self._work.run(name, self._shard, number), sorted(entries))
        self.report.runs[name] = number + 1


def report_of(work: Work, shard: int) -> ShardReport:
    """Return the report of a shard that is decided. Raises OSError if it is not."""
    with SegmentFile(work.shard(shard), ShardReport) as done:
        return done.report


def rows_of(work: Work) -> Iterator[tuple[int, str, bytes]]:
    """Yield (partition, customer_id, row) of all customers of a run that keeps rows."""
    for shard in range(1 if work.plan.request.coupled else work.plan.shards):
        for run in range(report_of(work, shard).runs.get(ROWS, 0)):
            for place, row in entries_of(work.run(ROWS, shard, run)):
                partition, _, customer_id = place.partition("\0")
                yield int(partition), customer_id, row


def _change_entry(change: TierChange) -> Entry:
    """Return the key: (effective_at, customer_id, scheme, sequence). Instants order as texts, too."""
    at = change.effective_at[:-1]
    return f"{at}\0{change.customer_id}\0{change.scheme}\0{change.sequence:012d}", _encode(change)


def _action_entry(action: CareAction) -> Entry:
    return f"{action.due_at[:-1]}\0{action.customer_id}\0{action.rule}\0{action.action_id}", _encode(action)
