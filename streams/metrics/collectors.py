"""The Prometheus collectors of a worker, made from the closed list in the catalogue, and how they are fed.

Counters and histograms are fed once for each batch or watermark. The gauges of partitions are read at each scrape
(`PartitionCollector`), so that a partition that went to another worker disappears.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.customer.state import NEVER
from models.errors import Reason
from models.events import Topic
from models.instants import format_instant
from models.outputs import Decisions, TierCutoffs
from models.policy.care_rules import Refusal
from models.policy.timeline import Timeline
from streams.metrics import catalogue as listed
from streams.metrics.catalogue import MetricDefinition
from streams.partition.effects import Effects
from streams.partition.processor import Processor
from streams.partition.state import Partition


class Metrics:
    """The metrics of one process, on a registry of their own. Units are in the names."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = self._counter(listed.EVENTS)
        self.dead_letters = self._counter(listed.DEAD_LETTERS)
        self.notes = self._counter(listed.NOTES)
        self.lateness = self._histogram(listed.LATENESS_SECONDS)
        self.changes = self._counter(listed.TIER_CHANGES)
        self.actions = self._counter(listed.CARE_ACTIONS)
        self.care_refused = self._counter(listed.CARE_REFUSED)
        self.care_outcomes = self._counter(listed.CARE_OUTCOMES)
        self.batch_size = self._histogram(listed.BATCH_RECORDS)
        self.batch_seconds = self._histogram(listed.BATCH_SECONDS)
        self.latency = self._histogram(listed.LATENCY_SECONDS)
        self.due_evaluated = self._counter(listed.DUE_EVALUATED)
        self.changelog_bytes = self._counter(listed.CHANGELOG_BYTES)
        self.rewinds = self._counter(listed.REWINDS)
        self.lost_records = self._counter(listed.LOST_RECORDS)
        self.rebalances = self._counter(listed.REBALANCES)
        self.ticks = self._counter(listed.TICKS)
        self.ready = self._gauge(listed.READY)
        self.policy = self._gauge(listed.POLICY_INFO)
        self.producer_errors = self._counter(listed.PRODUCER_ERRORS)
        self.commit_errors = self._counter(listed.COMMIT_ERRORS)
        self.cutoffs = self._gauge(listed.CUTOFF)
        self.shares = self._gauge(listed.CUTOFF_SHARE)
        self.held = self._gauge(listed.CUTOFF_HELD)
        self.ranked = self._gauge(listed.RANKED_CUSTOMERS)
        self._lag: Mapping[tuple[str, int], int] = {}
        self._in_transaction: Mapping[tuple[str, int], int] = {}
        self._begin_at_zero()

    @property
    def lag(self) -> Mapping[tuple[str, int], int]:
        """Unread records by (input topic, partition), as of the last watermark."""
        return self._lag

    def note_lag(self, lag: Mapping[tuple[str, int], int]) -> None:
        """Note the unread records by (input topic, partition)."""
        self._lag = lag

    @property
    def in_transaction(self) -> Mapping[tuple[str, int], int]:
        """Offsets beyond the last stable one by (input topic, partition), as of the last watermark."""
        return self._in_transaction

    def note_in_transaction(self, records: Mapping[tuple[str, int], int]) -> None:
        """Note the offsets beyond the last stable one by (input topic, partition)."""
        self._in_transaction = records

    def _begin_at_zero(self) -> None:
        """Show counters at zero before anything happens, so that `increase()` sees the first one."""
        for topic in Topic:
            for outcome in ("applied", "dead_letter", "skipped"):
                self.events.labels(topic.label, outcome)
            self.lost_records.labels(topic.label)
        for reason in Reason:
            self.dead_letters.labels(reason.value)

    def expect(self, timeline: Timeline) -> None:
        """Show the versions of a policy, and the refusals that it makes possible at zero."""
        for policy in timeline.versions:
            self.policy.labels(policy.version, format_instant(policy.effective_from)).set(1)
            for rule in policy.care if policy.governance.budgets else ():
                self.care_refused.labels(rule.action.rule, Refusal.OVER_BUDGET)

    def observe(self, topic: str, effects: Effects) -> None:
        """Count the effects of one step; `topic` is the label of its input topic, or "ticks"."""
        dead = sum(effects.reasons.values()) - effects.reasons[Reason.FIELD_IGNORED]  # these are applied, too
        for outcome, count in (("applied", effects.events), ("dead_letter", dead), ("skipped", effects.skipped)):
            if count:
                self.events.labels(topic, outcome).inc(count)
        self.count_dead_letters(effects)
        if effects.evaluated:
            self.due_evaluated.inc(effects.evaluated)
        decisions = effects.decisions
        for note, count in decisions.counts.items():
            self.notes.labels(note).inc(count)
        for late_ms in decisions.lateness_ms:
            self.lateness.observe(late_ms / 1000)
        flows = Tally((c.scheme, c.from_tier or "", c.to_tier, c.direction, c.cause) for c in decisions.changes)
        for flow, count in flows.items():
            self.changes.labels(*flow).inc(count)
        self._observe_care(decisions)
        self._observe_cutoffs(decisions.cutoffs)

    def count_dead_letters(self, effects: Effects) -> None:
        """Count the dead letters of one step by reason."""
        for reason, count in effects.reasons.items():
            self.dead_letters.labels(reason.value).inc(count)

    def _observe_care(self, decisions: Decisions) -> None:
        actions = Tally((a.rule, a.channel, "held_out" if a.holdout else "emitted") for a in decisions.actions)
        for action, count in actions.items():
            self.actions.labels(*action).inc(count)
        for (rule, refusal), count in decisions.refusals.items():
            self.care_refused.labels(rule, refusal).inc(count)
        for (rule, tier, holdout, outcome), count in decisions.outcomes.items():
            self.care_outcomes.labels(rule, tier, "held_out" if holdout else "sent", outcome).inc(count)

    def _observe_cutoffs(self, computed: Iterable[TierCutoffs]) -> None:
        for event in computed:
            self.ranked.labels(event.scheme).set(event.population)
            for cutoff in event.cutoffs:
                self.cutoffs.labels(event.scheme, cutoff.tier).set(float(cutoff.cut))
                self.shares.labels(event.scheme, cutoff.tier).set(cutoff.share)
                if cutoff.held is not None:
                    self.held.labels(event.scheme, cutoff.tier).set(cutoff.held)

    def acknowledged(self, sent: "asyncio.Future[Any]") -> None:
        """Count a record that was sent without waiting, if the broker refused it."""
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self.refused(error)

    def refused(self, error: BaseException) -> None:
        """Count an error of the producer by its type."""
        self.producer_errors.labels(type(error).__name__).inc()

    def _counter(self, metric: MetricDefinition) -> Counter:
        return Counter(metric.name.removesuffix("_total"), metric.meaning, metric.labels, registry=self.registry)

    def _gauge(self, metric: MetricDefinition) -> Gauge:
        return Gauge(metric.name, metric.meaning, metric.labels, registry=self.registry)

    def _histogram(self, metric: MetricDefinition) -> Histogram:
        return Histogram(metric.name, metric.meaning, metric.labels, buckets=metric.buckets, registry=self.registry)


class PartitionCollector(Collector):
    """The gauges of the partitions that this worker holds, read at each scrape.

    `partitions()` are the open ones by number. `remaining()` is the number of records that recovery still has to read,
    by changelog partition. `clock` is the wall clock (ms) that time follows; None if it follows the events.
    """

    def __init__(
        self,
        metrics: Metrics,
        processor: Processor,
        partitions: Callable[[], Mapping[int, Partition]],
        remaining: Callable[[], Mapping[int, int]],
        clock: Callable[[], int] | None,
    ) -> None:
        self._metrics = metrics
        self._processor = processor
        self._timeline = processor.engine.timeline
        self._schemes = {scheme.name for policy in self._timeline.versions for scheme in policy.schemes}
        self._partitions = partitions
        self._remaining = remaining
        self._clock = clock

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return the families without samples, so that the registry refuses a second one of the same name."""
        return [_family(metric, ()) for metric in _HELD]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the families with one sample for each partition that is held."""
        samples: dict[MetricDefinition, list[tuple[list[str], float]]] = {metric: [] for metric in _HELD}
        for number, count in self._remaining().items():
            samples[listed.RECOVERY_REMAINING].append(([str(number)], max(0, count)))
        held = dict(self._partitions())
        for (topic, number), lag in self._metrics.lag.items():
            if number in held:
                samples[listed.LAG_RECORDS].append(([topic, str(number)], lag))
                open_records = self._metrics.in_transaction.get((topic, number), 0)
                samples[listed.OPEN_TRANSACTION_RECORDS].append(([topic, str(number)], open_records))
        for number, partition in held.items():
            for metric, labels, value in self._of(partition):
                samples[metric].append(([*labels, str(number)], value))
        return (_family(metric, values) for metric, values in samples.items())

    def _of(self, partition: Partition) -> Iterator[tuple[MetricDefinition, list[str], float]]:
        """Yield (metric, labels without the partition, value)."""
        yield listed.CUSTOMERS, [], partition.customers
        yield listed.STATE_BYTES, [], partition.row_bytes
        yield listed.DUE_SCHEDULED, [], len(partition.timers)
        for topic in Topic:
            yield listed.APPLIED_OFFSET, [topic.label], partition.next_offset(topic)
            yield listed.LOG_LOST, [topic.label], topic.label in partition.progress.lost
        for (scheme, tier), count in dict(partition.tier_counts).items():
            if scheme in self._schemes:
                yield listed.TIER_CUSTOMERS, [scheme, tier], count
        if partition.rank_index is not None:
            yield listed.WAITING_FOR_CUTOFFS, [], partition.rank_index.reported
        reached = partition.progress.stream_time
        if reached is None:
            return
        yield listed.STREAM_TIME, [], reached / 1000
        yield listed.DUE_LAG, [], max(0, self._processor.horizon(reached) - _oldest_due(partition)) / 1000
        if self._clock is not None:
            yield listed.STREAM_TIME_LAG, [], (self._clock() - reached) / 1000
        yield from self._budgets(partition, reached)

    def _budgets(self, partition: Partition, at: int) -> Iterator[tuple[MetricDefinition, list[str], float]]:
        """Yield the partition's share of each budget, and what is left of it, at an instant (ms)."""
        budget_share, policy = self._processor.budget_share_of(partition), self._timeline.at(at)
        if budget_share is None:
            return
        for budget in policy.governance.budgets:
            yield listed.CARE_BUDGET_SHARE, [budget.name], budget_share.share(budget, at, policy.zone)
            yield listed.CARE_BUDGET_LEFT, [budget.name], budget_share.left(budget, at, policy.zone)


_HELD = (
    listed.LAG_RECORDS,
    listed.OPEN_TRANSACTION_RECORDS,
    listed.LOG_LOST,
    listed.APPLIED_OFFSET,
    listed.STREAM_TIME,
    listed.STREAM_TIME_LAG,
    listed.DUE_SCHEDULED,
    listed.DUE_LAG,
    listed.CUSTOMERS,
    listed.STATE_BYTES,
    listed.TIER_CUSTOMERS,
    listed.RECOVERY_REMAINING,
    listed.WAITING_FOR_CUTOFFS,
    listed.CARE_BUDGET_SHARE,
    listed.CARE_BUDGET_LEFT,
)


def _oldest_due(partition: Partition) -> int:
    try:
        return partition.timers.next_instant()
    except IndexError:  # a step in another thread took the last timer meanwhile
        return NEVER


def _family(metric: MetricDefinition, samples: Iterable[tuple[list[str], Any]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
