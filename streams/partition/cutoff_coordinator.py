"""Business days: every partition stops at the day's end, tells its rank_index, and goes on once all have.

The protocol (docs/contract.md, "Cut-offs") in one place, for live workers and for replay. It is synchronous: what is to
be told to the others leaves as effects, and what they told comes in through `hear`.

A *report* is a partition's population as of a day's end. Partition 0 leads: with the reports of all partitions at hand,
it computes the cut-offs. Both travel through an internal compacted topic, where the latest of each is enough: no
partition reports another day before it holds the cut-offs of this one. For the same reason a report is told in a step
of its own, after the state that it follows from is acknowledged. Whoever takes a partition over tells it again.
"""

import logging
from collections import Counter, deque
from collections.abc import Collection

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
#: Somebody asks for cut-offs between two days' ends; the value is the instant (ms) at which they are to begin to hold.
REQUEST_KEY = b"request"
_REPORT_KEY = b"report/"
#: So many requests are remembered; more are not made between two days' ends.
_MAX_REQUESTS = 64


class Report(msgspec.Struct, array_like=True, frozen=True):
    """The rank_index of a partition as of a day's end (ms); sketches by the labels of measures.

    `tiers`: how many customers stand in each tier, by scheme and tier; None in what older releases report.
    """

    at: int
    sketches: dict[str, bytes]
    tiers: dict[str, dict[str, int]] | None = None


class CutoffCoordinator:
    """What one process knows of the day's ends of all partitions. Steps of one process come one after another."""

    def __init__(self, timeline: RankedTimeline, topic: str = "populations", partitions: int = 1) -> None:
        """`topic` is the internal one, by its label; `partitions`: how many report."""
        self.topic = topic
        #: Whether all that others told so far was heard; nobody leads before.
        self.current = True
        self.timeline = timeline
        self._partitions = partitions
        self._reports: dict[int, Report] = {}
        self._heard: dict[bytes, bytes] = {}
        self._inbox: deque[tuple[bytes, bytes]] = deque()
        self._requests: set[int] = set()

    def hear(self, key: bytes | None, value: bytes | None) -> bool:
        """Take in a record of the internal topic; say whether it is news. May be called beside a running step."""
        if key is None or value is None or self._heard.get(key) == value:
            return False
        self._heard[key] = value
        self._inbox.append((key, value))
        return True

    def take_in(self) -> None:
        """Heed what was heard since the last step."""
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
        """Compute the next cut-offs, where this is the leader and everybody has reported; None where there are none.

        A partition that is ahead of others reported its first day, and had nobody before.
        """
        if partition.number != LEADER or not self.current or len(self._reports) < self._partitions:
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
        cutoffs, events = self.timeline.compute(at, whole, _standing(self._reports.values()))
        return [OutputRecord(CUTOFFS_KEY, msgspec.msgpack.encode(cutoffs))], events

    def rank_index(self, partition: Partition) -> RankIndex:
        """Return whom a partition counts; at first that is built from its rows."""
        if partition.rank_index is None:
            known = [] if partition.progress.days is None else partition.progress.days.known
            if (days := partition.progress.days) is not None and days.first is not None:
                self.timeline.begin(days.first)
            for cutoffs in known:
                self.timeline.learn(cutoffs)
            closed = known[-1].at - 1 if known else MIN_INSTANT
            partition.rank_index = RankIndex(self.timeline, self.timeline.measures, partition.rows, closed)
            if known:
                self._expect_reranks(partition, known[-1].at)
        return partition.rank_index

    def barrier(self, partition: Partition) -> int:
        """Return the instant (ms) from which on nothing may be decided yet; NEVER where there is none."""
        rank_index, days = self.rank_index(partition), partition.progress.days
        if rank_index.reranks or (days is None and not rank_index.evaluated):
            return MIN_INSTANT
        return NEVER if days is None else days.barrier

    def begin(self, partition: Partition, horizon: int) -> Days:
        """Return how far a partition is in days, with what was asked for in between taken for a day's end.

        It begins with the last day's end before anything is decided. Where customers were decided about before there
        were cut-offs, it begins with the next one.
        """
        days = partition.progress.days
        if days is None:
            first = min(partition.timers.next_instant(), horizon + 1)
            decided = self.rank_index(partition).evaluated
            barrier = self.timeline.day_end(horizon) if decided else self.timeline.day_start(first)
            days = partition.progress.days = Days(barrier)
        if not self.rank_index(partition).reported:
            done = days.known[-1].at if days.known else MIN_INSTANT
            days.barrier = min([days.barrier, *(at for at in self._requests if at > done)])
        return days

    def go_on(self, partition: Partition, days: Days) -> bool:
        """Let a partition that stands at a day's end go on, where the cut-offs are known; say whether it may."""
        cutoffs = self.timeline.known(days.barrier)
        if cutoffs is None:
            return False
        at = days.barrier
        days.known = [*days.known, CutoffSet(at, cutoffs.schemes)][-2:]
        days.first = days.known[0].at if days.first is None else days.first
        self.timeline.learn(days.known[-1])
        days.barrier = self.timeline.day_end(at)
        rank_index = self.rank_index(partition)
        rank_index.reported = False
        rank_index.close(at - 1, partition.rows)
        self._expect_reranks(partition, at)
        return True

    def report(self, partition: Partition, days: Days) -> OutputRecord:
        """Return the report of a partition that has decided all before a day's end."""
        rank_index = self.rank_index(partition)
        rank_index.close(days.barrier - 1, partition.rows)
        rank_index.reported = True
        sketches = {label: sketch.encode() for label, sketch in rank_index.sketches.items()}
        key = _REPORT_KEY + str(partition.number).encode()
        return OutputRecord(key, msgspec.msgpack.encode(Report(days.barrier, sketches, partition.tiers())))

    def _expect_reranks(self, partition: Partition, at: int) -> None:
        """Note whom new cut-offs may move at an instant (ms), or make due earlier on the day that begins then."""
        rank_index, until = self.rank_index(partition), self.timeline.day_end(at) - 1
        before = {scheme.name: scheme for scheme in self.timeline.at(at - 1).schemes}
        for scheme in self.timeline.at(at).schemes:
            ranking, old = scheme.ranking, before.get(scheme.name)
            if ranking is None:
                continue
            if old is not None and old.ranking == ranking:
                spans = crossed(ranking, edges(old), edges(scheme))
                rank_index.reranks |= dict.fromkeys(rank_index.within(ranking.measure, spans), True)
            for key, surely in rank_index.falling(ranking, edges(scheme), at, until, partition.rows):
                rank_index.reranks[key] = surely or rank_index.reranks.get(key, False)
        if self.timeline.budgeted:  # they are served from one budget, in the same order everywhere
            rank_index.reranks = dict(sorted(rank_index.reranks.items(), reverse=True))


def _standing(reports: Collection[Report]) -> dict[str, Counter[str]] | None:
    """Return how many customers of all partitions stand in each tier; None where some report does not say."""
    found: dict[str, Counter[str]] = {}
    for report in reports:
        if report.tiers is None:
            return None
        for scheme, held in report.tiers.items():
            found.setdefault(scheme, Counter()).update(held)
    return found


def cutoff_coordinator(timeline: Timeline, topic: str = "populations", partitions: int = 1) -> CutoffCoordinator | None:
    """Return what a process needs to know of business days; None where no cut-offs are computed at their ends."""
    return CutoffCoordinator(RankedTimeline(timeline.versions), topic, partitions) if ranked(timeline) else None
