"""The processor: micro-batches and watermarks of one partition in, effects out. Synchronous, without a broker.

Live workers run it, and replay does for policies in which customers depend on each other (shared budgets, cut-offs by
rank); the engine that decides is the same in every case. A step reads each customer it concerns once, lets the engine
decide, and says what is to be produced and written; it performs nothing itself.
"""

from collections.abc import Callable, Iterable, MutableMapping

from models.care.budgets import BudgetShare
from models.customer.state import NEVER
from models.engine.decide import Engine
from models.errors import BadRecord, Reason
from models.events import Topic
from models.policy.timeline import Timeline
from models.wire import Wire
from streams.partition.campaign_steps import CampaignSteps
from streams.partition.cutoff_coordinator import CutoffCoordinator
from streams.partition.day_end import DayEnds
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.inputs import DeadLetters, Decoder, Record
from streams.partition.record_steps import RecordSteps
from streams.partition.state import Partition, Watermark
from streams.partition.step import Step, Timing, few_at_a_time
from streams.partition.time_steps import TimeSteps
from streams.partition.write_back import WriteBack


class Processor:
    """Applies records and watermarks to partitions by one policy."""

    def __init__(  # noqa: PLR0913  # what differs between a worker and a replay is handed in
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
        """A value of more than `max_bytes` is a bad record.

        `partition_for(key)` is the partition that a key hashes to, if records elsewhere are to be refused.
        `coordinator` is what this process knows of business days, if cut-offs are computed at their ends.
        `partitions` is the number of partitions in all workers, which share the budgets of care. `wire` decodes values
        that are not as on the topics.
        """
        self.coordinator = coordinator
        self.engine = Engine(timeline if coordinator is None else coordinator.timeline, settled=timing.settled)
        self._timeline = timeline
        self._timing = timing
        self._partitions = partitions
        decoder: Decoder = Wire(timeline.latest.money, max_bytes) if wire is None else wire
        self._dead_letters = dead_letters = DeadLetters(encoder)
        self._records = RecordSteps(self.engine, decoder, dead_letters, partition_for)
        self._campaigns = CampaignSteps(self.engine, decoder, dead_letters)
        self._time = TimeSteps(self.engine, self._campaigns)
        self._write_back = WriteBack(self.engine, encoder, coordinator)
        self._day_ends = (
            None
            if coordinator is None
            else DayEnds(coordinator, self.engine, timing, encoder, self._time, self._write_back)
        )

    def open_partition(self, number: int, rows: MutableMapping[bytes, bytes] | None = None) -> Partition:
        """Return a partition built from its rows, or an empty one; rows of other policy versions are due."""
        return Partition(number, rows, timeline=self._timeline.fingerprint)

    def process(self, partition: Partition, topic: Topic, name: str, records: Iterable[Record], now: int) -> Effects:
        """Apply the records of one input topic that have not been applied yet; `now` (ms) is the wall clock.

        `name` is the topic's full name. Records far beyond a day's end that is not decided are left: the partition's
        next offset says from where on.
        """
        latest = now + self._timing.ahead
        if topic is Topic.CAMPAIGNS:
            step = Step(partition)
            self._campaigns.read(step, name, records, latest=latest)
            self._write_back(step, ())
            return step.effects
        if self.waits(partition, topic, now):
            return Effects()
        step = self._step(partition, now)
        if self.coordinator is not None:
            self.engine.hold_from(self.coordinator.barrier(partition))
        until = self._reads_until(partition, now)
        by_customer = self._records.read(step, topic, name, records, latest=latest, until=until)
        self._write_back(step, few_at_a_time(self._records.ingest(step, by_customer)), topic)
        return step.effects

    def advance(self, partition: Partition, watermark: Watermark, now: int) -> Effects:
        """Move stream time and evaluate what has become due; call again while `more` is set. `now` in ms."""
        step = self._step(partition, now)
        stream_time = partition.move_time(watermark)
        if stream_time is None:
            return step.effects
        horizon = self.horizon(stream_time)
        if self._day_ends is not None:
            self._day_ends.step_towards(step, horizon)
        elif self._time.step_towards(step, horizon):
            self._write_back(step, step.touched.items())
        return step.effects

    def restate(
        self, partition: Partition, keys: Iterable[bytes], name: str, damaged: Iterable[tuple[Record, str]] = ()
    ) -> Effects:
        """Write the rows of some keys and their `customer-tiers` again: records that do not count came after them.

        `damaged` are those of them that cannot be read, and why. They become dead letters; `name` is the changelog.
        """
        step = Step(partition)
        for record, flaw in damaged:
            self._dead_letters.add(step.effects, BadRecord(Reason.DAMAGED_ROW, flaw), name, partition.number, record)
        for key in keys:
            if key.startswith(b"\0"):
                continue  # tidemark's own; the progress row is written with every step
            if key in partition.rows:
                step.load(key)
            else:
                step.touched[key] = None
        self._write_back(step, step.touched.items())
        return step.effects

    def waits(self, partition: Partition, topic: Topic, now: int) -> bool:
        """Whether records of an input topic wait for a day's end to be decided; `now` (ms) is the wall clock."""
        latest = partition.progress.latest.get(topic.label)
        return latest is not None and latest >= self._reads_until(partition, now)

    def horizon(self, stream_time: int) -> int:
        """Return the last instant (ms) that may be evaluated at a stream time: settled waits until it has passed."""
        return stream_time - self._timing.lateness - 1 if self._timing.settled else stream_time

    def budget_share_of(self, partition: Partition) -> BudgetShare | None:
        """Return what a partition may spend of the budgets of care, and what it has spent; None without budgets."""
        return partition.budget_share(self._partitions) if self.engine.timeline.budgeted else None

    def _reads_until(self, partition: Partition, now: int) -> int:
        """Return the instant (ms) at which reading stops until a day's end is decided; NEVER: nothing stops it."""
        return NEVER if self._day_ends is None else self._day_ends.reads_until(partition, now)

    def _step(self, partition: Partition, now: int) -> Step:
        """Return a step whose care decisions draw on the partition's share of the budgets."""
        step = Step(partition, now if self._timing.wall_decides else None)
        step.effects.budget_share = self.budget_share_of(partition)
        return step
