"""The Prometheus metrics of a worker: a closed list, each with its meaning. Never a customer in a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.processor import Effects

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LATENESS = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)


class Metrics:
    """The metrics of one process, on a registry of their own. Units are in the names."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.events = Counter(
            "tidemark_events", "Input records by what became of them", ["topic", "outcome"], registry=registry
        )
        self.dead_letters = Counter(
            "tidemark_dead_letters", "Records sent to dead-letters", ["reason"], registry=registry
        )
        self.notes = Counter(
            "tidemark_notes", "Noteworthy events: duplicate, conflict, expired, late, …", ["note"], registry=registry
        )
        self.lateness = Histogram(
            "tidemark_lateness_seconds", "How late late events were", buckets=_LATENESS, registry=registry
        )
        self.changes = Counter(
            "tidemark_tier_changes",
            "Tier changes emitted",
            ["scheme", "from", "to", "direction", "cause"],
            registry=registry,
        )
        self.actions = Counter("tidemark_care_actions", "Care actions emitted", ["rule", "channel"], registry=registry)
        self.care_refused = Counter(
            "tidemark_care_refused", "Care actions that were not emitted", ["rule", "reason"], registry=registry
        )
        self.care_outcomes = Counter(
            "tidemark_care_outcomes",
            "What came of care actions",
            ["rule", "tier", "holdout", "outcome"],
            registry=registry,
        )
        self.batch_size = Histogram(
            "tidemark_batch_records",
            "Records in a micro-batch",
            buckets=(1, 10, 100, 500, 1_000, 2_000, 4_000, 8_000),
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "tidemark_batch_seconds",
            "From a micro-batch taken up to its state acknowledged",
            buckets=_LATENCIES,
            registry=registry,
        )
        self.latency = Histogram(
            "tidemark_latency_seconds",
            "From an input record's timestamp to its outputs acknowledged, of each batch's last record",
            buckets=_LATENCIES,
            registry=registry,
        )
        self.lag = Gauge("tidemark_lag_records", "Unread records", ["topic", "partition"], registry=registry)
        self.stream_time = Gauge(
            "tidemark_stream_time_seconds", "Stream time, as seconds since the epoch", ["partition"], registry=registry
        )
        self.customers = Gauge("tidemark_customers", "Customers held", ["partition"], registry=registry)
        self.due = Gauge("tidemark_due_scheduled", "Customers in the due index", ["partition"], registry=registry)
        self.rewinds = Counter(
            "tidemark_rewinds", "Times a partition was fetched again because records were missing", registry=registry
        )
        self.rebalances = Counter("tidemark_rebalances", "Rebalances", registry=registry)
        self.ticks = Counter("tidemark_ticks", "Ticks applied", registry=registry)
        self.recovered = Gauge("tidemark_ready", "1 while partitions are recovered and processed", registry=registry)
        self.policy = Gauge(
            "tidemark_policy_info", "The versions of the policy", ["version", "effective_from"], registry=registry
        )

    def observe(self, topic: str, effects: Effects) -> None:
        """Count the effects of one step."""
        dead = sum(effects.reasons.values())
        for outcome, count in (("applied", effects.events), ("dead_letter", dead), ("skipped", effects.skipped)):
            if count:
                self.events.labels(topic, outcome).inc(count)
        for reason, count in effects.reasons.items():
            self.dead_letters.labels(reason.value).inc(count)
        decisions = effects.decisions
        for note, count in decisions.notes.items():
            self.notes.labels(note).inc(count)
        for late_ms in decisions.lateness_ms:
            self.lateness.observe(late_ms / 1000)
        for change in decisions.changes:
            labels = (change.scheme, change.from_tier or "", change.to_tier, change.direction, change.cause)
            self.changes.labels(*labels).inc()
        for action in decisions.actions:
            self.actions.labels(action.rule, action.channel).inc()
        for (rule, refusal), count in decisions.refusals.items():
            self.care_refused.labels(rule, refusal).inc(count)
        for (rule, tier, holdout, outcome), count in decisions.outcomes.items():
            self.care_outcomes.labels(rule, tier, str(holdout).lower(), outcome).inc(count)
