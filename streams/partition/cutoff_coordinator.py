"""Business days: every partition stops at the day's end, reports its rank index, and goes on once all have reported.

The protocol (docs/contract.md, "Cut-offs") in one place, for live workers and for replay. It is synchronous: records
for other partitions leave as effects, and theirs come in through `hear`.

A *report* is a partition's population as of a day's end. Partition 0 leads: when it has the reports of all partitions,
it computes the cut-offs. Both travel through an internal compacted topic, in which the latest of each is enough: no
partition reports another day before it has the cut-offs of this one. For the same reason a report is produced in a step
of its own, after the state that it follows from is acknowledged. A new owner of a partition reports again.
"""

import logging
from collections import Counter, deque
from collections.abc import Collection, Iterator

import msgspec

from models.customer.state import NEVER
from models.instants import MIN_INSTANT
from models.outputs import TierCutoffs
from models.policy.cutoff_timeline import RankedTimeline, edges, ranked
from models.policy.timeline import Timeline
from models.rules.ranking import CutoffSet, crossed
from models.rules.sketch import Sketch, merge
from streams.kafka.records import OutputRecord
from streams.partition.rank_index import RankIndex
from streams.partition.state import Days, Partition

log = logging.getLogger(__name__)

#: The partition whose owner computes the cut-offs.
LEADER = 0
CUTOFFS_KEY = b"cutoffs"
#: A request for cut-offs between two days' ends; the value is the instant (ms) from which they are to hold.
REQUEST_KEY = b"request"
_REPORT_KEY = b"report/"
#: The number of requests that are remembered; more are not made between two days' ends.
_MAX_REQUESTS = 64


class Report(msgspec.Struct, array_like=True, frozen=True):
    """The rank index of a partition as of a day's end, `at` (ms); sketches by the labels of measures.

    `tiers` is the number of customers in each tier, by scheme and tier; None in the reports of older releases.
    """

    at: int
    sketches: dict[str, bytes]
    tiers: dict[str, dict[str, int]] | None = None


class CutoffCoordinator:
    """What one process knows of the day's ends of all partitions. The steps of a process never overlap."""

    def __init__(self, timeline: RankedTimeline, topic: str = "populations", partitions: int = 1) -> None:
        """`topic` is the label of the internal topic; `partitions` is the number of partitions that report."""
        self.topic = topic
        self._current = True
        self.timeline = timeline
        self._partitions = partitions
        self._reports: dict[int, Report] = {}
        self._heard: dict[bytes, bytes] = {}
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._requests: set[int] = set()

    @property
    def current(self) -> bool:
        """Whether all earlier records of the internal topic were heard; cut-offs are not computed before."""
        return self._current

    def mark_behind(self) -> None:
        """Note that the internal topic is yet to be read."""
        self._current = False

    def mark_current(self) -> None:
        """Note that the internal topic was read to its end."""
        self._current = True

    def hear(self, key: bytes | None, value: bytes | None) -> bool:
        """Queue a record of the internal topic; return whether it is news. Safe to call while a step runs."""
        if key is None or value is None or self._heard.get(key) == value:
            return False
        self._heard[key] = value
        self._inbox.append((key, value))
        return True

    def apply_records(self) -> None:
        """Apply the records that were heard since the last step."""
        while self._inbox:
            key, value = self._inbox.popleft()
            try:
                if key == CUTOFFS_KEY:
                    self.timeline.learn(msgspec.msgpack.decode(value, type=CutoffSet))
                elif key == REQUEST_KEY:
                    self._requests.add(msgspec.msgpack.decode(value, type=int))
                    self._requests.difference_update(sorted(self._requests)[:-_MAX_REQUESTS])
                else:
                    number = range(self._partitions)[int(key.removeprefix(_REPORT_KEY))]
                    self._reports[number] = msgspec.msgpack.decode(value, type=Report)
            except (msgspec.MsgspecError, ValueError, IndexError):
                log.warning(
                    "a record on the populations topic is neither a report nor cut-offs nor a request, and is ignored"
                )

    def lead(self, partition: Partition) -> tuple[list[OutputRecord], list[TierCutoffs]] | None:
        """Compute the next cut-offs if this is the leader and all partitions have reported; else return None.

        Returns the records for the internal topic and the events. Cut-offs are computed for the earliest day reported:
        a partition that is ahead of the others had no customers before the day that it reports.
        """
        if partition.number != LEADER or not self._current or len(self._reports) < self._partitions:
            return None
        at = min(report.at for report in self._reports.values())
        latest = self.timeline.latest_set
        if latest is not None and at <= latest.at:
            return None
        labels = {label for report in self._reports.values() for label in report.sketches}
        whole = {
            label: merge(
                Sketch.decode(report.sketches[label])
                for _, report in sorted(self._reports.items())
                if label in report.sketches
            )
            for label in labels
        }
        cutoffs, events = self.timeline.compute(at, whole, _held(self._reports.values()))
        return [OutputRecord(CUTOFFS_KEY, msgspec.msgpack.encode(cutoffs))], events

    def rank_index(self, partition: Partition) -> RankIndex:
        """Return the rank index of a partition; the first call builds it from the rows."""
        index = partition.rank_index
        if index is None:
            known = [] if partition.progress.days is None else partition.progress.days.known
            if (days := partition.progress.days) is not None and days.first is not None:
                self.timeline.begin(days.first)
            for cutoffs in known:
                self.timeline.learn(cutoffs)
            closed = known[-1].at - 1 if known else MIN_INSTANT
            index = partition.rank_by(RankIndex(self.timeline, self.timeline.measures, partition.rows, closed))
            if known:
                self._expect_reranks(partition, known[-1].at)
        return index

    def barrier(self, partition: Partition) -> int:
        """Return the instant (ms) from which on nothing may be decided yet; NEVER if there is none."""
        rank_index, days = self.rank_index(partition), partition.progress.days
        if rank_index.reranks or (days is None and not rank_index.evaluated):
            return MIN_INSTANT
        return NEVER if days is None else days.barrier

    def begin(self, partition: Partition, horizon: int) -> Days:
        """Return the day that a partition is in; a request for cut-offs ends it early.

        Before anything is decided, days begin with the last day's end. If customers were decided about before there
        were cut-offs, they begin with the next one. `horizon` is in ms.
        """
        days = partition.progress.days
        if days is None:
            first = min(partition.timers.next_instant(), horizon + 1)
            decided = self.rank_index(partition).evaluated
            barrier = self.timeline.day_end(horizon) if decided else self.timeline.day_start(first)
            days = partition.begin_days(barrier)
        if not self.rank_index(partition).reported:
            days.end_early(self._requests)
        return days

    def pass_day_end(self, partition: Partition, days: Days) -> bool:
        """Move a partition at a day's end to the next day if the cut-offs are known; return whether it moved."""
        cutoffs = self.timeline.known(days.barrier)
        if cutoffs is None:
            return False
        at = days.barrier
        here = CutoffSet(at, cutoffs.schemes)
        self.timeline.learn(here)
        days.begin_next(here, self.timeline.day_end(at))
        self.rank_index(partition).begin_day(at, partition.rows)
        self._expect_reranks(partition, at)
        return True

    def report(self, partition: Partition, days: Days) -> OutputRecord:
        """Return the report of a partition that has decided all before a day's end."""
        rank_index = self.rank_index(partition)
        rank_index.finish_day(days.barrier, partition.rows)
        sketches = {label: sketch.encode() for label, sketch in rank_index.sketches.items()}
        key = _REPORT_KEY + str(partition.number).encode()
        return OutputRecord(key, msgspec.msgpack.encode(Report(days.barrier, sketches, partition.tiers())))

    def _expect_reranks(self, partition: Partition, at: int) -> None:
        """Note whom new cut-offs may move at an instant (ms), or make due earlier on the day that begins then.

        If customers share budgets, they are served in the same order everywhere.
        """
        self.rank_index(partition).expect_reranks(self._may_move(partition, at), ordered=self.timeline.budgeted)

    def _may_move(self, partition: Partition, at: int) -> Iterator[tuple[bytes, bool]]:
        """Yield customers whom new cut-offs may move, and whether they must be evaluated in any case."""
        rank_index, until = self.rank_index(partition), self.timeline.day_end(at) - 1
        before = {scheme.name: scheme for scheme in self.timeline.at(at - 1).schemes}
        for scheme in self.timeline.at(at).schemes:
            ranking, old = scheme.ranking, before.get(scheme.name)
            if ranking is None:
                continue
            if old is not None and old.ranking == ranking:
                spans = crossed(ranking, edges(old), edges(scheme))
                yield from ((key, True) for key in rank_index.within(ranking.measure, spans))
            yield from rank_index.falling(ranking, edges(scheme), at, until, partition.rows)


def _held(reports: Collection[Report]) -> dict[str, Counter[str]] | None:
    """Return the number of customers of all partitions in each tier; None if some report does not give it."""
    found: dict[str, Counter[str]] = {}
    for report in reports:
        if report.tiers is None:
            return None
        for scheme, held in report.tiers.items():
            found.setdefault(scheme, Counter()).update(held)
    return found


def cutoff_coordinator(timeline: Timeline, topic: str = "populations", partitions: int = 1) -> CutoffCoordinator | None:
    """Return the coordinator of a process; None if no cut-offs are computed at the ends of days."""
    return CutoffCoordinator(RankedTimeline(timeline.versions), topic, partitions) if ranked(timeline) else None
