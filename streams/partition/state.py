"""What a worker holds of one partition: rows by key, how far its inputs are applied, its stream time, its due index.

Stream time of a partition, defined here once: an instant (ms) that never moves backward. A tick moves it. While all
input topics of the partition are caught up it follows the clock (the wall clock less `clock_grace`, or the latest
event where time follows the events); while some are not, it follows the oldest of *their* latest event times, so that
nothing is decided that unread events would refute. Where time follows the events and all that is unread is parked
(`streams.worker.paused`), partitions that are caught up come as far as the parked topics have. How far it may move is
settled as the tick is made, against state that is acknowledged: a tick that is read late, or again after a crash,
says nothing that does not hold.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping

import msgspec

from models.care.budgets import BudgetShare, Spent
from models.customer.state import Standing, row_instant, row_standings
from models.events import Campaign, Topic
from models.outputs import TierChange
from models.rules.ranking import CutoffSet
from streams.partition.campaigns import Announcements, customer_keys
from streams.partition.fencing import CLAIM_KEY
from streams.partition.rank_index import RankIndex
from streams.partition.timers import TimerIndex

log = logging.getLogger(__name__)

#: Keys that start so are tidemark's own; a customer_id never contains NUL.
PROGRESS_KEY = b"\x00progress/"


class Days(msgspec.Struct):
    """How far a partition is in business days, where cut-offs are computed at their ends.

    `barrier` is the next day's end (ms): nothing at or after it is decided before its cut-offs are known. `known` are
    the cut-offs in force, and those before them; `first` is the instant (ms) of the first ones ever.
    """

    barrier: int
    known: list[CutoffSet] = []
    first: int | None = None


class Reservation(msgspec.Struct, array_like=True, frozen=True):
    """Care actions (their ids, hashed) that a step has let through budgets, before anything of it went out.

    `topic`, `until`: the step took records of a topic up to an offset or, None, moved time to an instant (ms).
    """

    topic: str | None
    until: int
    actions: list[int]


class Progress(msgspec.Struct, omit_defaults=True):
    """How far a partition is. Travels with the state, in a row of its own in the same changelog partition.

    `applied`: per topic the next offset to apply. `latest`: per topic the latest event time (ms) applied.
    `days` is None where no cut-offs are computed, and before the first day. `spent`: what care has taken from the
    partition's share of its budgets, `reserved` what of it was taken by steps whose end is not in the state: a crash
    cut them off, and they are gone through again. `campaigns`: those that wait, or are under way.
    """

    applied: dict[str, int] = {}
    latest: dict[str, int] = {}
    stream_time: int | None = None
    days: Days | None = None
    spent: Spent = {}
    reserved: list[Reservation] = []
    campaigns: Announcements | None = None


class Watermark(msgspec.Struct):
    """A punctuation: stream time may move to `time` (ms), None where nothing is known yet.

    `claim` is that of the owner who says so (`streams.partition.fencing`): what a replaced owner has read may not be
    in the state.
    """

    time: int | None
    claim: bytes | None = None


def decode_watermark(value: bytes | None) -> Watermark | None:
    """Return the tick in a record's value; None where there is none (somebody else wrote to the topic)."""
    try:
        return msgspec.json.decode(value or b"", type=Watermark)
    except msgspec.DecodeError:
        log.warning("a record on the ticks topic is not a tick and is ignored")
        return None


class Partition:
    """The state of one partition. `rows` maps customer keys to rows, and holds the progress row too."""

    def __init__(self, number: int, rows: MutableMapping[bytes, bytes] | None = None, *, timeline: int = 0) -> None:
        """`timeline` is the fingerprint of the policy versions in force: rows evaluated under others are due."""
        self.number = number
        self.rows: MutableMapping[bytes, bytes] = {} if rows is None else rows
        self.progress = Progress()
        self.timers = TimerIndex()
        #: Bytes of the customers' rows.
        self.row_bytes = 0
        #: Customers who stand in a tier, by (scheme, tier).
        self.tier_counts: Counter[tuple[str, str]] = Counter()
        #: Whoever ranks customers keeps here what it knows of ours; None until it has looked.
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
                self.timers.schedule(key, row_instant(row, timeline))
                self.row_bytes += len(row)
                self.enter(row_standings(row))  # counted, not remembered: a crash may tear rows from the progress

    @property
    def customers(self) -> int:
        """How many customers the partition knows."""
        return len(self.rows) - (self.progress_key in self.rows) - (self._claim_key in self.rows)

    def next_offset(self, topic: Topic) -> int:
        """Return the next offset of an input topic that has not been applied."""
        return self.progress.applied.get(topic.label, 0)

    def applied(self, topic: Topic, next_offset: int, latest: int | None) -> None:
        """Note that everything before `next_offset` is applied; `latest` (ms) is the latest event time in it."""
        self.progress.applied[topic.label] = next_offset
        if latest is not None:
            known = self.progress.latest.get(topic.label)
            self.progress.latest[topic.label] = latest if known is None else max(known, latest)

    def enter(self, standings: Mapping[str, Standing], by: int = 1) -> None:
        """Count a customer's tiers, or with -1 count them no more."""
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
        """The campaigns that were taken in; kept in the progress from the first one on."""
        if self.progress.campaigns is None:
            self.progress.campaigns = Announcements()
        return self.progress.campaigns

    def next_campaign(self, horizon: int) -> Campaign | None:
        """Return the first campaign whose instant is at or before `horizon` (ms), None where there is none."""
        return None if self.progress.campaigns is None else self.progress.campaigns.next(horizon)

    def campaign_step(self, size: int) -> list[bytes]:
        """Return the next customers, at most `size`, that the campaign under way is told to; none: it is done."""
        if self._keys is None:
            self._keys = customer_keys(self.rows)
        step = self.announcements.step(self._keys, size)
        if not step:
            self._keys = None
        return step

    def budget_share(self, partitions: int) -> BudgetShare:
        """Return what care may spend of the share of one of so many partitions, and has."""
        reserved = {action for reservation in self.progress.reserved for action in reservation.actions}
        return BudgetShare(self.progress.spent, self.number, partitions, reserved)

    def reserve(self, budget_share: BudgetShare, topic: Topic | None, until: int) -> tuple[bytes, bytes] | None:
        """Return (key, row) of the progress before a step, with what it spends: to be written before it is performed.

        None where it spends nothing. Call it before the row of the progress is made anew.
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

    def gone_through(self, topic: Topic | None, until: int) -> None:
        """Forget what was reserved by steps that have been gone through again as far as this."""
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

    def move_time(self, tick: Watermark) -> int | None:
        """Move stream time as far as a tick allows, never backward; return it (ms), None before any."""
        known = self.progress.stream_time
        if tick.time is not None and (known is None or tick.time > known):
            self.progress.stream_time = tick.time
        return self.progress.stream_time
