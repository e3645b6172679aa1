"""The processor: micro-batches and ticks of one partition in, effects out. Synchronous, without a broker.

Live agents and `replay` call this very code, and tests drive it alone. It reads each touched customer once a
batch, lets the engine decide, and says what is to be produced and written; it performs nothing itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from models.care.budgets import Purse
from models.customer import NEVER, Customer, row_instant
from models.engine import Engine
from models.errors import BadRecord, Reason
from models.events import Campaign, Erasure, Profile, Topic
from models.outputs import Decisions
from models.policy import Timeline
from models.wire import Wire
from streams.encode import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES, Encoder, Out
from streams.partition import Partition, Tick

#: A tick evaluates at most so many customers before its effects are performed; the rest follows at once.
DUE_PER_STEP = 2_000
#: A campaign is told to at most so many customers of a partition before its effects are performed.
TOLD_PER_STEP = 2_000


class Record(Protocol):
    """What is read of a consumed record (aiokafka's `ConsumerRecord`)."""

    @property
    def offset(self) -> int:
        """Where the record stands in its partition."""

    @property
    def timestamp(self) -> int:
        """The record's own timestamp (ms)."""

    @property
    def key(self) -> bytes | None:
        """The key, untouched."""

    @property
    def value(self) -> bytes | None:
        """The value, untouched."""


@dataclass
class Effects:
    """What is to happen because of one step, in order: `outputs` (per topic), `changelog`, then the commit."""

    outputs: dict[str, list[Out]] = field(default_factory=dict)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    decisions: Decisions = field(default_factory=Decisions)
    reasons: Counter[Reason] = field(default_factory=Counter)
    events: int = 0
    skipped: int = 0
    more: bool = False

    def produce(self, topic: str, out: Out) -> None:
        """Add a record for an output topic."""
        self.outputs.setdefault(topic, []).append(out)


@dataclass(frozen=True, slots=True)
class Timing:
    """How time is taken: `lateness` (ms) is waited for where decisions are settled, `ahead` (ms) bounds the future.

    `wall_decides`: `decided_at` is the wall clock's; otherwise it is the instant decided about.
    """

    settled: bool = False
    lateness: int = 0
    ahead: int = 86_400_000
    wall_decides: bool = True


class Processor:
    """Applies records and ticks to partitions by one policy."""

    def __init__(
        self,
        timeline: Timeline,
        timing: Timing,
        encoder: Encoder,
        *,
        max_bytes: int = 65_536,
        home_of: Callable[[bytes], int] | None = None,
        partitions: int = 1,
    ) -> None:
        """`home_of(key)` is the partition that a key hashes to, where records elsewhere are to be refused.

        `partitions`: how many there are, in all workers: they share the budgets of care.
        """
        self.engine = Engine(timeline, settled=timing.settled)
        self._wire = Wire(timeline.latest.money, max_bytes)
        self._timing = timing
        self._encoder = encoder
        self._home_of = home_of
        self._partitions = partitions

    def process(self, partition: Partition, topic: Topic, name: str, records: Iterable[Record], now: int) -> Effects:
        """Apply the records of one input topic that have not been applied yet; `now` (ms) is the wall clock."""
        if topic is Topic.CAMPAIGNS:
            return self._take_campaigns(partition, name, records, now)
        effects, touched = self._effects(partition), dict[bytes, Customer | None]()
        next_offset, watermark = partition.next_offset(topic), None
        latest, decided_at = now + self._timing.ahead, now if self._timing.wall_decides else None
        for record in records:
            if record.offset < next_offset:
                effects.skipped += 1
                continue
            next_offset = record.offset + 1
            key = record.key or b""
            try:
                _, event = self._wire.decode(topic, key, record.value, latest)
                if key not in touched:
                    self._check_home(partition, key)
            except BadRecord as bad:
                self._bury(partition, name, record, bad, effects)
                continue
            effects.events += 1
            if type(event) is Erasure:
                touched[key] = None
                continue
            customer = touched.get(key) or self._open(partition, key, touched)
            self.engine.ingest(customer, event, effects.decisions, decided_at)
            at = event.updated_at if type(event) is Profile else event.at
            if at is not None and (watermark is None or at > watermark):
                watermark = at
        partition.applied(topic, next_offset, watermark)
        self._close(partition, touched, effects)
        return effects

    def tick(self, partition: Partition, tick: Tick, now: int) -> Effects:
        """Move stream time and evaluate what has become due; call again while `more` is set. `now` in ms."""
        effects = self._effects(partition)
        stream_time = partition.move_time(tick)
        if stream_time is None:
            return effects
        horizon = self.horizon(stream_time)
        campaign = partition.next_campaign(horizon)
        if campaign is not None:
            horizon = campaign.at
        if partition.due.next_instant() <= horizon:
            self._advance_due(partition, horizon, effects, now)
            effects.more = effects.more or campaign is not None
        elif campaign is not None:
            self._announce(partition, campaign, effects, now)
            effects.more = True
        return effects

    def _advance_due(self, partition: Partition, horizon: int, effects: Effects, now: int) -> None:
        """Evaluate the customers that are due up to `horizon` (ms), a bounded number.

        Each is brought up to the horizon at once; where they share budgets, only up to the instant that has come, so
        that who is served follows the order of time.
        """
        touched: dict[bytes, Customer | None] = {}
        decided_at = now if self._timing.wall_decides else None
        due, timeline = partition.due, self.engine.timeline

        def instant_of(key: bytes) -> int:
            customer = touched.get(key)
            if customer is not None:
                return customer.next_instant
            row = partition.rows.get(key)
            return NEVER if row is None else row_instant(row, timeline.fingerprint)

        for key in due.pop_due(horizon, instant_of):
            until = instant_of(key) if timeline.budgeted else horizon
            customer = touched.get(key) or self._open(partition, key, touched)
            customer.asked = NEVER  # its entry in the index was just taken
            self.engine.advance(customer, until, effects.decisions, decided_at)
            if timeline.budgeted:
                customer.asked = customer.next_instant
                due.schedule(key, customer.asked)
            if len(touched) >= DUE_PER_STEP:
                effects.more = True
                break
        self._close(partition, touched, effects)

    def _take_campaigns(self, partition: Partition, name: str, records: Iterable[Record], now: int) -> Effects:
        """Keep the announcements of some records until their instants."""
        effects, topic = Effects(), Topic.CAMPAIGNS
        next_offset, watermark = partition.next_offset(topic), None
        for record in records:
            if record.offset < next_offset:
                effects.skipped += 1
                continue
            next_offset = record.offset + 1
            try:
                campaign = self._wire.decode_campaign(record.value, now + self._timing.ahead)
            except BadRecord as bad:
                self._bury(partition, name, record, bad, effects)
                continue
            effects.events += 1
            note = partition.announcements.take(campaign)
            if note is not None:
                effects.decisions.notes[note] += 1
            watermark = campaign.at if watermark is None else max(watermark, campaign.at)
        partition.applied(topic, next_offset, watermark)
        self._close(partition, {}, effects)
        return effects

    def _announce(self, partition: Partition, campaign: Campaign, effects: Effects, now: int) -> None:
        """Tell the next customers of a campaign whose instant has come."""
        touched: dict[bytes, Customer | None] = {}
        decided_at = now if self._timing.wall_decides else None
        for key in partition.campaign_step(TOLD_PER_STEP):
            row = partition.rows.get(key)
            if row is None:
                continue  # erased meanwhile
            customer = Customer.from_row(key.decode(), row)
            if self.engine.is_addressed(customer, campaign):
                touched[key] = customer
                self.engine.announce(customer, campaign, effects.decisions, decided_at)
        self._close(partition, touched, effects)

    def restate(self, partition: Partition, keys: Iterable[bytes]) -> Effects:
        """Say anew what the rows of some keys are, and what `customer-tiers` shows: somebody wrote over them."""
        effects = Effects()
        touched: dict[bytes, Customer | None] = {}
        for key in keys:
            if key.startswith(b"\0"):
                continue  # tidemark's own; the progress row is written with every step
            if key in partition.rows:
                self._open(partition, key, touched)
            else:
                touched[key] = None
        self._close(partition, touched, effects)
        return effects

    def horizon(self, stream_time: int) -> int:
        """Return the last instant (ms) that may be evaluated at a stream time: settled waits until it has passed."""
        return stream_time - self._timing.lateness - 1 if self._timing.settled else stream_time

    def _effects(self, partition: Partition) -> Effects:
        """Return effects to collect in; care's decisions draw on the partition's share of the budgets."""
        effects = Effects()
        if self.engine.timeline.budgeted:
            effects.decisions.purse = Purse(partition.progress.spent, partition.number, self._partitions)
        return effects

    def _bury(self, partition: Partition, name: str, record: Record, bad: BadRecord, effects: Effects) -> None:
        effects.reasons[bad.reason] += 1
        coordinates = (name, partition.number, record.offset, record.timestamp)
        effects.produce(DEAD_LETTERS, self._encoder.dead_letter(bad, *coordinates, record.key, record.value))

    def _check_home(self, partition: Partition, key: bytes) -> None:
        """Raise BadRecord where an unknown key hashes to another partition."""
        if self._home_of is not None and key not in partition.rows and self._home_of(key) != partition.number:
            raise BadRecord(Reason.WRONG_PARTITION, f"partition: found {partition.number}, allowed is the key's own")

    def _open(self, partition: Partition, key: bytes, touched: dict[bytes, Customer | None]) -> Customer:
        row = None if key in touched else partition.rows.get(key)
        name = key.decode()
        customer = touched[key] = Customer(name) if row is None else Customer.from_row(name, row)
        return customer

    def _close(self, partition: Partition, touched: dict[bytes, Customer | None], effects: Effects) -> None:
        decisions, encoder = effects.decisions, self._encoder
        if decisions.changes:
            effects.outputs[TIER_CHANGES] = [encoder.tier_change(change) for change in decisions.changes]
        if decisions.actions:
            effects.outputs[CARE_ACTIONS] = [encoder.care_action(action) for action in decisions.actions]
        held: list[Out] = []
        rows, changelog, schedule = partition.rows, effects.changelog, partition.due.schedule
        for key, customer in touched.items():
            if customer is None:
                rows.pop(key, None)
                changelog.append((key, None))
                held.append(Out(key, None))
                continue
            rows[key] = row = customer.to_row()
            changelog.append((key, row))
            schedule(key, customer.next_instant, customer.asked)
            tiers = self.engine.tiers(customer)
            if tiers is not None:
                held.append(encoder.customer_tiers(key, tiers))
        if held:
            effects.outputs[CUSTOMER_TIERS] = held
        changelog.append(partition.progress_row())
