"""The state of one partition: rows by key, the offsets that its inputs are applied to, its stream time, its timers.

Stream time of a partition, defined here once: an instant (ms) that never moves backward. A watermark moves it. While
all input topics of the partition are caught up, it follows the clock (the wall clock less `clock_grace`, or the latest
event if time follows the events). During a backlog it follows the oldest of the latest event times of the topics that
lag, so that nothing is decided that unread events would refute. If time follows the events and everything unread is
paused (`streams.worker.paused`), partitions that are caught up advance to where the paused topics are. The bound is
computed when the watermark is made, from acknowledged state: a watermark that is read late, or again after a crash,
still holds.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping

import msgspec

from models.care.budgets import BudgetShare, Spent
from models.customer.state import ROW_VERSION, Standing, row_instant, row_standings
from models.errors import TidemarkError
from models.events import Campaign, Topic
from models.instants import MIN_INSTANT
from models.outputs import TierChange
from models.rules.ranking import CutoffSet
from streams.partition.campaigns import Announcements, customer_keys
from streams.partition.rank_index import RankIndex
from streams.partition.timers import TimerIndex

log = logging.getLogger(__name__)

#: Keys that start so are tidemark's own; a customer_id never contains NUL.
PROGRESS_KEY = b"\x00progress/"
#: Those of claims (`streams.partition.fencing`), which are kept among the rows.
CLAIM_KEY = PROGRESS_KEY + b"claim/"


class NewerRows(TidemarkError):
    """A newer release wrote rows that this one cannot read. Start that release again, or a later one."""


class Days(msgspec.Struct):
    """The business day that a partition is in, if cut-offs are computed at the ends of days.

    `barrier` is the next day's end (ms): nothing at or after it is decided before its cut-offs are known. `known` are
    the cut-offs in force, and those before them; `first` is the instant (ms) of the first ones ever.
    """

    barrier: int
    known: list[CutoffSet] = []
    first: int | None = None

    def end_early(self, requests: Iterable[int]) -> None:
        """End the day at the first instant (ms) that was requested in it, if there is one."""
        done = self.known[-1].at if self.known else MIN_INSTANT
        self.barrier = min([self.barrier, *(at for at in requests if at > done)])

    def begin_next(self, cutoffs: CutoffSet, end: int) -> None:
        """Begin the next day, which ends at `end` (ms), with the cut-offs that hold from its beginning."""
        self.known = [*self.known, cutoffs][-2:]
        self.first = self.known[0].at if self.first is None else self.first
        self.barrier = end


class Reservation(msgspec.Struct, array_like=True, frozen=True):
    """Care actions (their ids, hashed) that a step has charged to budgets, written before its outputs were produced.

    The step took records of `topic` up to the offset `until` or, if `topic` is None, moved time to the instant (ms).
    """

    topic: str | None
    until: int
    actions: list[int]


class Progress(msgspec.Struct, omit_defaults=True):
    """The progress of a partition. It travels with the state, in a row of its own in the same changelog partition.

    `applied`: per topic the next offset to apply. `latest`: per topic the latest event time (ms) applied.
    `days` is None if no cut-offs are computed, and before the first day. `spent`: what care has spent of the
    partition's share of its budgets. `reserved`: the part of it that was spent by steps whose end is not in the state,
    because a crash cut them off; they are repeated. `campaigns`: those that wait or are under way. `lost`: topics whose
    log ended before what was applied, and where it ended; nothing of them is applied until an operator accepts that.
    """

    applied: dict[str, int] = {}
    latest: dict[str, int] = {}
    stream_time: int | None = None
    days: Days | None = None
    spent: Spent = {}
    reserved: list[Reservation] = []
    campaigns: Announcements | None = None
    lost: dict[str, int] = {}


class Watermark(msgspec.Struct):
    """A watermark, the record that moves stream time: it may move to `time` (ms); None while nothing is known yet.

    `claim` is that of the owner who made it (`streams.partition.fencing`): the state may lack what a replaced owner
    had read. `accept_loss` makes it an operator's order instead: go on with this topic from the beginning of its log.
    """

    time: int | None
    claim: bytes | None = None
    accept_loss: str | None = None


def decode_watermark(value: bytes | None) -> Watermark | None:
    """Return the watermark in a record's value; None for a value that is none."""
    try:
        return msgspec.json.decode(value or b"", type=Watermark)
    except msgspec.DecodeError:
        log.warning("a record on the ticks topic is not a watermark and is ignored")
        return None


class Partition:
    """The state of one partition. `rows` maps customer keys to rows, and holds the progress row too."""

    def __init__(self, number: int, rows: MutableMapping[bytes, bytes] | None = None, *, timeline: int = 0) -> None:
        """`timeline` is the fingerprint of the policy versions in force: rows evaluated under others are due.

        Raises NewerRows.
        """
        self.number = number
        self.rows: MutableMapping[bytes, bytes] = {} if rows is None else rows
        self.progress = Progress()
        self.timers = TimerIndex()
        #: Bytes of the customers' rows.
        self.row_bytes = 0
        #: Customers who stand in a tier, by (scheme, tier).
        self.tier_counts: Counter[tuple[str, str]] = Counter()
        #: The index by which customers are ranked; None until it is built, and if nothing is ranked.
        self.rank_index: RankIndex | None = None
        self.progress_key = PROGRESS_KEY + str(number).encode()
        self._claim_key = CLAIM_KEY + str(number).encode()
        self._keys: list[bytes] | None = None  # of all customers, while a campaign is under way
        self._restore(timeline)

    def _restore(self, timeline: int) -> None:
        stored = self.rows.get(self.progress_key)
        if stored is not None:
            self.progress = msgspec.msgpack.decode(stored, type=Progress)
        for key, row in self.rows.items():
            if not key.startswith(b"\0"):
                if row[0] != ROW_VERSION:
                    raise NewerRows(
                        f"partition {self.number}: found a row of version {row[0]} in the changelog, which a newer "
                        f"release wrote; this release reads version {ROW_VERSION}: start the newer one again"
                    )
                self.timers.schedule(key, row_instant(row, timeline))
                self.row_bytes += len(row)
                self.enter(row_standings(row))  # counted here, not stored: a crash may part rows and progress

    @property
    def customers(self) -> int:
        """The number of customers in the rows."""
        return len(self.rows) - (self.progress_key in self.rows) - (self._claim_key in self.rows)

    def next_offset(self, topic: Topic) -> int:
        """Return the next offset of an input topic that has not been applied."""
        return self.progress.applied.get(topic.label, 0)

    def applied(self, topic: Topic, next_offset: int, latest: int | None) -> None:
        """Note that everything before `next_offset` is applied; `latest` (ms) is its latest event time, or None."""
        self.progress.applied[topic.label] = next_offset
        if latest is not None:
            known = self.progress.latest.get(topic.label)
            self.progress.latest[topic.label] = latest if known is None else max(known, latest)

    def lose(self, label: str, end: int) -> bool:
        """Note that the log of an input topic ended at an offset before what is applied; return whether it is news."""
        news = label not in self.progress.lost
        self.progress.lost.setdefault(label, end)
        return news

    def accept_loss(self, label: str) -> bool:
        """Have an input topic that lost records read from its beginning; return whether it had."""
        if self.progress.lost.pop(label, None) is None:
            return False
        self.progress.applied.pop(label, None)
        return True

    def count_bytes(self, size: int) -> None:
        """Add the size of customers' rows; a negative size takes rows out that are about to be replaced."""
        self.row_bytes += size

    def rank_by(self, index: RankIndex) -> RankIndex:
        """Keep the index by which customers are ranked, and return it."""
        self.rank_index = index
        return index

    def begin_days(self, barrier: int) -> Days:
        """Begin the first business day, which ends at `barrier` (ms); return it."""
        self.progress.days = Days(barrier)
        return self.progress.days

    def enter(self, standings: Mapping[str, Standing], by: int = 1) -> None:
        """Count a customer's tiers; with -1, remove them from the counts."""
        for scheme, standing in standings.items():
            self.tier_counts[scheme, standing.tier] += by

    def moved(self, changes: Iterable[TierChange]) -> None:
        """Count tier changes."""
        tier_counts = self.tier_counts
        for change in changes:
            tier_counts[change.scheme, change.to_tier] += 1
            if change.from_tier is not None:
                tier_counts[change.scheme, change.from_tier] -= 1

    @property
    def announcements(self) -> Announcements:
        """The campaigns that were announced; in the progress from the first one on."""
        if self.progress.campaigns is None:
            self.progress.campaigns = Announcements()
        return self.progress.campaigns

    def next_campaign(self, horizon: int) -> Campaign | None:
        """Return the first campaign whose instant is at or before `horizon` (ms), or None."""
        return None if self.progress.campaigns is None else self.progress.campaigns.next(horizon)

    def campaign_step(self, size: int) -> list[bytes]:
        """Return the next keys, at most `size`, that the campaign under way goes through; none: it is done."""
        if self._keys is None:
            self._keys = customer_keys(self.rows)
        step = self.announcements.step(self._keys, size)
        if not step:
            self._keys = None
        return step

    def budget_share(self, partitions: int) -> BudgetShare:
        """Return the share of the budgets of care that one of `partitions` may spend, and what it has spent."""
        reserved = {action for reservation in self.progress.reserved for action in reservation.actions}
        return BudgetShare(self.progress.spent, self.number, partitions, reserved)

    def reserve(self, budget_share: BudgetShare, topic: Topic | None, until: int) -> tuple[bytes, bytes] | None:
        """Return (key, row) of the progress before a step, with what the step spends; None if it spends nothing.

        The row must be written before the step is performed. Call this before `progress_row`. `topic` and `until` are
        those of `Reservation`.
        """
        if not budget_share.paid:
            return None
        written = self.rows.get(self.progress_key)
        before = Progress() if written is None else msgspec.msgpack.decode(written, type=Progress)
        before.spent = budget_share.spent
        before.reserved = [
            *self.progress.reserved,
            Reservation(None if topic is None else topic.label, until, budget_share.passed),
        ]
        return self.progress_key, msgspec.msgpack.encode(before)

    def forget_reservations(self, topic: Topic | None, until: int) -> None:
        """Forget what was reserved by steps up to this one: they have been repeated."""
        label = None if topic is None else topic.label
        if self.progress.reserved:
            self.progress.reserved = [
                each for each in self.progress.reserved if each.topic != label or each.until > until
            ]

    def tiers(self) -> dict[str, dict[str, int]]:
        """Return how many customers stand in each tier, by scheme and tier."""
        tiers: dict[str, dict[str, int]] = {}
        for (scheme, tier), count in self.tier_counts.items():
            tiers.setdefault(scheme, {})[tier] = count
        return tiers

    def progress_row(self) -> tuple[bytes, bytes]:
        """Return (key, row) of the progress as it is now, and keep it among the rows."""
        row = msgspec.msgpack.encode(self.progress)
        self.rows[self.progress_key] = row
        return self.progress_key, row

    def move_time(self, watermark: Watermark) -> int | None:
        """Move stream time to where a watermark allows, never backward; return it (ms), None before the first."""
        known = self.progress.stream_time
        if watermark.time is not None and (known is None or watermark.time > known):
            self.progress.stream_time = watermark.time
        return self.progress.stream_time
