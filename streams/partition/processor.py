"""The processor: micro-batches and ticks of one partition in, effects out. Synchronous, without a broker.

Live agents and `replay` call this very code, and tests drive it alone. It reads each touched customer once a
batch, lets the engine decide, and says what is to be produced and written; it performs nothing itself.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from models.care.budgets import BudgetShare
from models.customer.state import NEVER, Customer, row_instant
from models.engine.decide import Engine
from models.errors import BadRecord, Reason
from models.events import Campaign, Erasure, Event, Profile, Topic
from models.policy.timeline import Timeline
from models.wire import Wire
from streams.kafka.records import DEAD_LETTERS, TIER_CUTOFFS
from streams.partition.cutoff_coordinator import CutoffCoordinator
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.state import Days, Partition, Watermark
from streams.partition.step import Decoder, Record, Timing, few_at_a_time, unapplied
from streams.partition.write_back import write_back

#: A tick evaluates at most so many customers before its effects are performed; the rest follows at once.
DUE_PER_STEP = 2_000
#: A campaign is told to at most so many customers of a partition before its effects are performed.
TOLD_PER_STEP = 2_000


class Processor:
    """Applies records and ticks to partitions by one policy."""

    def __init__(  # noqa: PLR0913  # what a worker and a replay differ in is handed in
        self,
        timeline: Timeline,
        timing: Timing,
        encoder: Encoder,
        *,
        max_bytes: int = 65_536,
        partition_for: Callable[[bytes], int] | None = None,
        coordinator: CutoffCoordinator | None = None,
        partitions: int = 1,
        wire: Decoder | None = None,
    ) -> None:
        """`partition_for(key)` is the partition that a key hashes to, where records elsewhere are to be refused.

        `coordinator` is how this process knows of business days, where any cut-offs are computed at their ends.
        `partitions`: how many there are, in all workers: they share the budgets of care. `wire` decodes values, where
        they are not what is on the topics.
        """
        self.coordinator = coordinator
        self.engine = Engine(timeline if coordinator is None else coordinator.timeline, settled=timing.settled)
        self._wire: Decoder = Wire(timeline.latest.money, max_bytes) if wire is None else wire
        self._timing = timing
        self._encoder = encoder
        self._partition_for = partition_for
        self._partitions = partitions

    def process(self, partition: Partition, topic: Topic, name: str, records: Iterable[Record], now: int) -> Effects:
        """Apply the records of one input topic that have not been applied yet; `now` (ms) is the wall clock.

        Those far beyond a day's end that is not decided are left: the partition's next offset says from where on.
        """
        if topic is Topic.CAMPAIGNS:
            return self._take_campaigns(partition, name, records, now)
        if self.waits(partition, topic, now):
            return Effects()
        effects = self._effects(partition)
        decided_at = now if self._timing.wall_decides else None
        if self.coordinator is not None:
            self.engine.barrier = self.coordinator.barrier(partition)
        by_customer = self._read(partition, topic, name, records, now, effects)
        decided = self._ingest(partition, by_customer, effects, decided_at)
        self._write_back(partition, few_at_a_time(decided), effects, topic)
        return effects

    def _ingest(
        self,
        partition: Partition,
        by_customer: Iterable[tuple[bytes, Sequence[Event]]],
        effects: Effects,
        decided_at: int | None,
    ) -> Iterator[tuple[bytes, Customer | None]]:
        """Have the engine decide about events; yield each customer once nothing more comes of theirs, None: erased.

        They are written down soon after, and take no more room. Where they share budgets, all are yielded in the end.
        """
        ingest, decisions, at_once = self.engine.ingest, effects.decisions, not self.engine.timeline.budgeted
        touched: dict[bytes, Customer | None] = {}
        for key, events in by_customer:
            customer = touched.get(key)
            for event in events:
                if type(event) is Erasure:
                    self._erase(partition, key, touched)
                    customer = None
                    continue
                if customer is None:
                    customer = self._load(partition, key, touched)
                ingest(customer, event, decisions, decided_at, effects.budget_share)
            if at_once:
                yield key, touched.pop(key)
        yield from touched.items()

    def _read(
        self,
        partition: Partition,
        topic: Topic,
        name: str,
        records: Iterable[Record],
        now: int,
        effects: Effects,
    ) -> Iterable[tuple[bytes, Sequence[Event]]]:
        """Return the events of records customer by customer, each one's in their order; note that they are applied.

        Where customers share budgets each event comes by itself: who is served follows the order of arrival.
        """
        by_customer: dict[bytes, list[Event]] = {}
        by_arrival: list[tuple[bytes, Sequence[Event]]] | None = [] if self.engine.timeline.budgeted else None
        next_offset, watermark, decode = partition.next_offset(topic), None, self._wire.decode
        latest, until = now + self._timing.ahead, self._reads_until(partition, now)
        for record in unapplied(records, next_offset, effects):
            next_offset = record.offset + 1
            key = record.key or b""
            try:
                _, event = decode(topic, key, record.value, latest)
                events = by_customer.get(key)
                if events is None:
                    self._check_partition(partition, key)
                    events = by_customer[key] = []
            except BadRecord as bad:
                self._dead_letter(partition, name, record, bad, effects)
                continue
            events.append(event)
            if by_arrival is not None:
                by_arrival.append((key, (event,)))
            at = event.updated_at if type(event) is Profile else event.at
            if at is not None and (watermark is None or at > watermark):
                watermark = at
                if at >= until:
                    break
        effects.events += sum(map(len, by_customer.values()))
        partition.applied(topic, next_offset, watermark)
        return by_customer.items() if by_arrival is None else by_arrival

    def tick(self, partition: Partition, tick: Watermark, now: int) -> Effects:
        """Move stream time and evaluate what has become due; call again while `more` is set. `now` in ms."""
        effects = self._effects(partition)
        stream_time = partition.move_time(tick)
        if stream_time is None:
            return effects
        horizon = self.horizon(stream_time)
        decided_at = now if self._timing.wall_decides else None
        touched: dict[bytes, Customer | None] = {}
        if self.coordinator is not None:
            self._tick_by_days(self.coordinator, partition, horizon, effects, decided_at)
        elif self._step_towards(partition, horizon, touched, effects, decided_at):
            self._write_back(partition, touched.items(), effects)
        return effects

    def _step_towards(
        self,
        partition: Partition,
        horizon: int,
        touched: dict[bytes, Customer | None],
        effects: Effects,
        decided_at: int | None,
    ) -> bool:
        """Do one step towards `horizon` (ms): evaluate who is due or, where nobody is, tell the campaign that is.

        Campaigns are told once everything up to their instant is decided. False: there is nothing to do.
        """
        campaign = partition.next_campaign(horizon)
        if campaign is not None:
            horizon = campaign.at
        if partition.timers.next_instant() <= horizon:
            self._evaluate_due(partition, horizon, touched, effects, decided_at)
        elif campaign is not None:
            self._announce(partition, campaign, touched, effects, decided_at)
        else:
            return False
        effects.more = effects.more or campaign is not None
        return True

    def _evaluate_due(
        self,
        partition: Partition,
        horizon: int,
        touched: dict[bytes, Customer | None],
        effects: Effects,
        decided_at: int | None,
    ) -> None:
        """Evaluate customers that are due up to `horizon` (ms), as many as a step may.

        Each is brought up to the horizon at once; where they share budgets, only up to the instant that has come, so
        that who is served follows the order of time.
        """
        due, timeline, budgeted = partition.timers, self.engine.timeline, self.engine.timeline.budgeted

        def instant_of(key: bytes) -> int:
            customer = touched.get(key)
            if customer is not None:
                return customer.next_instant
            row = partition.rows.get(key)
            return NEVER if row is None else row_instant(row, timeline.fingerprint)

        for key in due.pop_due(horizon, instant_of):
            until = instant_of(key) if budgeted else horizon
            customer = touched.get(key) or self._load(partition, key, touched)
            customer.asked = NEVER  # its entry in the index was just taken
            self.engine.advance(customer, until, effects.decisions, decided_at, effects.budget_share)
            if budgeted:
                customer.asked = customer.next_instant
                due.schedule(key, customer.asked)
            if len(touched) >= DUE_PER_STEP:
                effects.more = True
                break
        effects.evaluated += len(touched)

    def _tick_by_days(
        self, ends: CutoffCoordinator, partition: Partition, horizon: int, effects: Effects, decided_at: int | None
    ) -> None:
        """Evaluate what has become due before the next day's end; where nothing is left, report it, or go beyond it.

        Every step does one of these, and is acknowledged before the next.
        """
        ends.take_in()
        if (led := ends.lead(partition)) is not None:
            effects.outputs[ends.topic], effects.decisions.cutoffs = led
            effects.outputs[TIER_CUTOFFS] = [self._encoder.cutoffs(event) for event in effects.decisions.cutoffs]
            effects.more = True
            self._write_back(partition, (), effects)
            return
        days = ends.begin(partition, horizon)
        if ends.rank_index(partition).reranks:
            effects.more = True
            moved = self._rerank(ends, partition, days, effects, decided_at)
            self._write_back(partition, few_at_a_time(moved), effects, counted=True)
            return
        touched: dict[bytes, Customer | None] = {}
        self._step_towards(partition, min(horizon, days.barrier - 1), touched, effects, decided_at)
        if not touched and horizon >= days.barrier - 1 and not effects.more:
            if ends.go_on(partition, days):
                effects.more = True
            elif not ends.rank_index(partition).reported:
                effects.produce(ends.topic, ends.report(partition, days))
            else:
                return
        elif not touched and not effects.more:
            return
        effects.more = effects.more or (bool(touched) and horizon >= days.barrier - 1)
        self._write_back(partition, touched.items(), effects)

    def _rerank(
        self,
        ends: CutoffCoordinator,
        partition: Partition,
        days: Days,
        effects: Effects,
        decided_at: int | None,
    ) -> Iterator[tuple[bytes, Customer]]:
        """Evaluate whom the cut-offs of the last day's end may move, as of then, as many as a step may; yield who is.

        Of what they are ranked by nothing changes.
        """
        reranks, at = ends.rank_index(partition).reranks, days.known[-1].at
        until, engine, decisions = ends.timeline.day_end(at), self.engine, effects.decisions
        for _ in range(min(len(reranks), DUE_PER_STEP)):
            key, surely = reranks.popitem()
            row = partition.rows.get(key)
            if row is None:
                continue
            customer = Customer.from_row(key.decode(), row)
            if not surely and not engine.falls_due(customer, at, until):
                continue
            if engine.rerank(customer, at, decisions, decided_at, effects.budget_share):
                partition.row_bytes -= len(row)
                yield key, customer

    def _take_campaigns(self, partition: Partition, name: str, records: Iterable[Record], now: int) -> Effects:
        """Keep the announcements of some records until their instants."""
        effects, topic = Effects(), Topic.CAMPAIGNS
        next_offset, watermark = partition.next_offset(topic), None
        for record in unapplied(records, next_offset, effects):
            next_offset = record.offset + 1
            try:
                campaign = self._wire.decode_campaign(record.value, now + self._timing.ahead)
            except BadRecord as bad:
                self._dead_letter(partition, name, record, bad, effects)
                continue
            effects.events += 1
            note = partition.announcements.take(campaign)
            if note is not None:
                effects.decisions.counts[note] += 1
            watermark = campaign.at if watermark is None else max(watermark, campaign.at)
        partition.applied(topic, next_offset, watermark)
        self._write_back(partition, (), effects)
        return effects

    def _announce(
        self,
        partition: Partition,
        campaign: Campaign,
        touched: dict[bytes, Customer | None],
        effects: Effects,
        decided_at: int | None,
    ) -> None:
        """Tell the next customers of a campaign whose instant has come."""
        for key in partition.campaign_step(TOLD_PER_STEP):
            row = partition.rows.get(key)
            if row is None:
                continue  # erased meanwhile
            known = touched.get(key)
            customer = known or Customer.from_row(key.decode(), row)
            if self.engine.is_addressed(customer, campaign):
                if known is None:
                    partition.row_bytes -= len(row)
                    touched[key] = customer
                self.engine.announce(customer, campaign, effects.decisions, decided_at, effects.budget_share)

    def restate(self, partition: Partition, keys: Iterable[bytes]) -> Effects:
        """Say anew what the rows of some keys are, and what `customer-tiers` shows: somebody wrote over them."""
        effects = Effects()
        touched: dict[bytes, Customer | None] = {}
        for key in keys:
            if key.startswith(b"\0"):
                continue  # tidemark's own; the progress row is written with every step
            if key in partition.rows:
                self._load(partition, key, touched)
            else:
                touched[key] = None
        self._write_back(partition, touched.items(), effects)
        return effects

    def waits(self, partition: Partition, topic: Topic, now: int) -> bool:
        """Whether records of an input topic wait for a day's end to be decided; `now` (ms) is the wall clock."""
        latest = partition.progress.latest.get(topic.label)
        return latest is not None and latest >= self._reads_until(partition, now)

    def _reads_until(self, partition: Partition, now: int) -> int:
        """Return the instant (ms) at or after which one event is applied, and no more until a day's end is decided.

        With the wall clock only once that has come to it: one event from the future must not keep others waiting.
        """
        if self.coordinator is None:
            return NEVER
        until = self.coordinator.barrier(partition) + self._timing.read_beyond
        return NEVER if self._timing.wall_decides and until > now else until

    def horizon(self, stream_time: int) -> int:
        """Return the last instant (ms) that may be evaluated at a stream time: settled waits until it has passed."""
        return stream_time - self._timing.lateness - 1 if self._timing.settled else stream_time

    def budget_share_of(self, partition: Partition) -> BudgetShare | None:
        """Return what a partition may spend of the budgets of care, and has; None where there are none."""
        return partition.budget_share(self._partitions) if self.engine.timeline.budgeted else None

    def _effects(self, partition: Partition) -> Effects:
        """Return effects to collect in; care's decisions draw on the partition's share of the budgets."""
        effects = Effects()
        effects.budget_share = self.budget_share_of(partition)
        return effects

    def _dead_letter(self, partition: Partition, name: str, record: Record, bad: BadRecord, effects: Effects) -> None:
        effects.reasons[bad.reason] += 1
        coordinates = (name, partition.number, record.offset, record.timestamp)
        effects.produce(DEAD_LETTERS, self._encoder.dead_letter(bad, *coordinates, record.key, record.value))

    def _check_partition(self, partition: Partition, key: bytes) -> None:
        """Raise BadRecord where an unknown key hashes to another partition."""
        if (
            self._partition_for is not None
            and key not in partition.rows
            and self._partition_for(key) != partition.number
        ):
            raise BadRecord(Reason.WRONG_PARTITION, f"partition: found {partition.number}, allowed is the key's own")

    def _load(self, partition: Partition, key: bytes, touched: dict[bytes, Customer | None]) -> Customer:
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
            gone = self._load(partition, key, touched)
        touched[key] = None
        if gone is not None:
            partition.enter(gone.standings, -1)

    def _write_back(
        self,
        partition: Partition,
        closing: Iterable[tuple[bytes, Customer | None]],
        effects: Effects,
        topic: Topic | None = None,
        *,
        counted: bool = False,
    ) -> None:
        """Write down what a step came to; `topic` is that of its records, None where it moved time.

        `closing` are the customers it was about, by key; None: erased. It may be what decides about them, too.
        `counted`: they are counted, where anybody is, as they are.
        """
        rank_index = None if self.coordinator is None or counted else self.coordinator.rank_index(partition)
        write_back(partition, closing, effects, self.engine.tiers, self._encoder, rank_index)
        self._reserve(partition, effects, topic)
        effects.changelog.append(partition.progress_row())

    def _reserve(self, partition: Partition, effects: Effects, topic: Topic | None) -> None:
        """Note what a step spends, so that nothing is spent twice where a crash cuts it off."""
        budget_share = effects.budget_share
        if budget_share is None:
            return
        until = (partition.progress.stream_time or 0) if topic is None else partition.next_offset(topic)
        effects.reserve = partition.reserve(budget_share, topic, until)
        if topic is not None or not effects.more:
            partition.gone_through(topic, until)
