"""The processor: micro-batches and ticks of one partition in, effects out. Synchronous, without a broker.

Live agents and `replay` call this very code, and tests drive it alone. It reads each touched customer once a
batch, lets the engine decide, and says what is to be produced and written; it performs nothing itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from models.customer import NEVER, Customer, row_instant
from models.engine import Engine
from models.errors import BadRecord, Reason
from models.events import Erasure, Event, Profile, Topic
from models.outputs import Decisions
from models.policy import Timeline
from models.wire import Wire
from streams.days import BusinessDays
from streams.encode import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES, TIER_CUTOFFS, Encoder, Out
from streams.partition import Partition, Tick

#: A tick evaluates at most so many customers before its effects are performed; the rest follows at once.
DUE_PER_STEP = 2_000


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


class Decoder(Protocol):
    """What makes events of values: `models.wire.Wire`, or whoever has decoded them before."""

    def decode(self, topic: Topic, key: bytes | None, value: bytes | None, latest: int) -> tuple[str, Event]:
        """Return (customer_id, event); `latest` (ms) bounds the future. Raises BadRecord."""


@dataclass
class Effects:
    """What is to happen because of one step, in order: `outputs` (per topic), `changelog`, then the commit."""

    outputs: dict[str, list[Out]] = field(default_factory=dict)
    changelog: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    decisions: Decisions = field(default_factory=Decisions)
    reasons: Counter[Reason] = field(default_factory=Counter)
    events: int = 0
    skipped: int = 0
    evaluated: int = 0
    row_bytes: int = 0
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
        days: BusinessDays | None = None,
        wire: Decoder | None = None,
    ) -> None:
        """`home_of(key)` is the partition that a key hashes to, where records elsewhere are to be refused.

        `days` is how this process knows of business days, where any cut-offs are computed at their ends. `wire` decodes
        values, where they are not what is on the topics.
        """
        self.days = days
        self.engine = Engine(timeline if days is None else days.timeline, settled=timing.settled)
        self._wire: Decoder = Wire(timeline.latest.money, max_bytes) if wire is None else wire
        self._timing = timing
        self._encoder = encoder
        self._home_of = home_of

    def process(self, partition: Partition, topic: Topic, name: str, records: Iterable[Record], now: int) -> Effects:
        """Apply the records of one input topic that have not been applied yet; `now` (ms) is the wall clock."""
        effects, touched = Effects(), dict[bytes, Customer | None]()
        next_offset, watermark = partition.next_offset(topic), None
        latest, decided_at = now + self._timing.ahead, now if self._timing.wall_decides else None
        if self.days is not None:
            self.engine.barrier = self.days.barrier(partition)
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
                effects.reasons[bad.reason] += 1
                coordinates = (name, partition.number, record.offset, record.timestamp)
                letter = self._encoder.dead_letter(bad, *coordinates, record.key, record.value)
                effects.produce(DEAD_LETTERS, letter)
                continue
            effects.events += 1
            if type(event) is Erasure:
                self._erase(partition, key, touched)
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
        effects = Effects()
        stream_time = partition.move_time(tick)
        if stream_time is None:
            return effects
        horizon = self.horizon(stream_time)
        decided_at = now if self._timing.wall_decides else None
        if self.days is not None:
            self._tick_by_days(self.days, partition, horizon, effects, decided_at)
        elif partition.due.next_instant() <= horizon:
            touched: dict[bytes, Customer | None] = {}
            self._evaluate_due(partition, horizon, touched, effects, decided_at)
            self._close(partition, touched, effects)
        return effects

    def _evaluate_due(
        self,
        partition: Partition,
        horizon: int,
        touched: dict[bytes, Customer | None],
        effects: Effects,
        decided_at: int | None,
    ) -> None:
        """Evaluate customers that are due up to `horizon` (ms), as many as a step may."""

        def instant_of(key: bytes) -> int:
            row = partition.rows.get(key)
            return NEVER if row is None else row_instant(row, self.engine.timeline.fingerprint)

        for key in partition.due.pop_due(horizon, instant_of):
            customer = touched.get(key) or self._open(partition, key, touched)
            customer.asked = NEVER  # its entry in the index was just taken
            self.engine.advance(customer, horizon, effects.decisions, decided_at)
            if len(touched) >= DUE_PER_STEP:
                effects.more = True
                break
        effects.evaluated += len(touched)

    def _tick_by_days(
        self, ends: BusinessDays, partition: Partition, horizon: int, effects: Effects, decided_at: int | None
    ) -> None:
        """Evaluate what has become due before the next day's end; where nothing is left, report it, or go beyond it.

        Every step does one of these, and is acknowledged before the next.
        """
        ends.take_in()
        if (led := ends.lead(partition)) is not None:
            effects.outputs[ends.topic], effects.decisions.cutoffs = led
            effects.outputs[TIER_CUTOFFS] = [self._encoder.cutoffs(event) for event in effects.decisions.cutoffs]
            effects.more = True
            self._close(partition, {}, effects)
            return
        days = ends.begin(partition, horizon)
        touched: dict[bytes, Customer | None] = {}
        self._rerank(ends, partition, touched, effects, decided_at)
        if not effects.more:
            self._evaluate_due(partition, min(horizon, days.barrier - 1), touched, effects, decided_at)
        if not touched and horizon >= days.barrier - 1 and not effects.more:
            if ends.go_on(partition, days):
                effects.more = True
            elif not ends.population(partition).reported:
                effects.produce(ends.topic, ends.report(partition, days))
            else:
                return
        elif not touched:
            return
        effects.more = effects.more or (bool(touched) and horizon >= days.barrier - 1)
        self._close(partition, touched, effects)

    def _rerank(
        self,
        ends: BusinessDays,
        partition: Partition,
        touched: dict[bytes, Customer | None],
        effects: Effects,
        decided_at: int | None,
    ) -> None:
        """Evaluate whom the cut-offs of the last day's end move, as of then, as many as a step may."""
        reranks, days = ends.population(partition).reranks, partition.progress.days
        while reranks and days is not None:
            if len(touched) >= DUE_PER_STEP:
                effects.more = True
                return
            key, surely = reranks.popitem()
            row, at = partition.rows.get(key), days.known[-1].at
            if row is None:
                continue
            customer = Customer.from_row(key.decode(), row)
            if surely or self.engine.falls_due(customer, at, ends.timeline.day_end(at)):
                partition.row_bytes -= len(row)
                touched[key] = customer
                self.engine.rerank(customer, at, effects.decisions, decided_at)

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

    def _check_home(self, partition: Partition, key: bytes) -> None:
        """Raise BadRecord where an unknown key hashes to another partition."""
        if self._home_of is not None and key not in partition.rows and self._home_of(key) != partition.number:
            raise BadRecord(Reason.WRONG_PARTITION, f"partition: found {partition.number}, allowed is the key's own")

    def _open(self, partition: Partition, key: bytes, touched: dict[bytes, Customer | None]) -> Customer:
        row = None if key in touched else partition.rows.get(key)
        name = key.decode()
        if row is None:
            customer = Customer(name)
        else:
            partition.row_bytes -= len(row)
            customer = Customer.from_row(name, row)
        touched[key] = customer
        return customer

    def _erase(self, partition: Partition, key: bytes, touched: dict[bytes, Customer | None]) -> None:
        gone = touched.get(key)
        if gone is None and key not in touched and key in partition.rows:
            gone = self._open(partition, key, touched)
        touched[key] = None
        if gone is not None:
            partition.enter(gone.standings, -1)

    def _close(self, partition: Partition, touched: dict[bytes, Customer | None], effects: Effects) -> None:
        decisions, encoder = effects.decisions, self._encoder
        if decisions.changes:
            partition.moved(decisions.changes)
            effects.outputs[TIER_CHANGES] = [encoder.tier_change(change) for change in decisions.changes]
        if decisions.actions:
            effects.outputs[CARE_ACTIONS] = [encoder.care_action(action) for action in decisions.actions]
        held: list[Out] = []
        rows, changelog, schedule = partition.rows, effects.changelog, partition.due.schedule
        if self.days is not None:
            self.days.population(partition).count_all(touched)
        for key, customer in touched.items():
            if customer is None:
                rows.pop(key, None)
                changelog.append((key, None))
                held.append(Out(key, None))
                continue
            rows[key] = row = customer.to_row()
            changelog.append((key, row))
            schedule(key, customer.next_instant, customer.asked)
            snapshot = self.engine.snapshot(customer)
            if snapshot is not None:
                held.append(encoder.customer_tiers(key, snapshot))
        if held:
            effects.outputs[CUSTOMER_TIERS] = held
        effects.row_bytes = size = sum([len(row) for _, row in changelog if row is not None])
        partition.row_bytes += size
        changelog.append(partition.progress_row())
