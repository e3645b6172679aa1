"""All metrics of a worker: a closed list, from which the collectors, docs/metrics.md and the tests are made.

Every metric here is fed. The code, the settings or the policy bound the values of every label: a label is never a
customer, an order, an offset or a text from outside.
"""

from typing import Literal, NamedTuple

#: What bounds the values of each label.
LABELS = {
    "topic": "an input topic without its prefix, or `ticks`",
    "partition": "a partition number",
    "outcome": "a fixed list, given with the metric",
    "reason": "the reasons of dead letters in the contract",
    "note": "the notes listed with the metric",
    "scheme": "a scheme of the policy",
    "tier": "a tier of that scheme",
    "from": "a tier of that scheme; empty if a customer enters",
    "to": "a tier of that scheme",
    "direction": "`up`, `down` or `enter`",
    "cause": "the causes in the contract",
    "rule": "a care rule of the policy",
    "channel": "a channel of a care rule",
    "refusal": "the reasons of refusals in docs/care.md",
    "group": "`sent` or `held_out`",
    "budget": "a budget of the policy",
    "version": "a version of the policy file",
    "effective_from": "the instant from which that version holds",
    "error": "the name of a Kafka client error",
}

#: Bucket bounds (seconds) of durations.
LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Bucket bounds (seconds) of lateness, from a second to a month.
LATENESS = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)
#: Bucket bounds of records per batch.
BATCHES = (1, 10, 100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 50_000, 100_000)


class MetricDefinition(NamedTuple):
    """One metric. `act` is what to do about it; `buckets` are the upper bounds of a histogram."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    act: str
    buckets: tuple[float, ...] = ()


EVENTS = MetricDefinition(
    "tidemark_events_total",
    "counter",
    ("topic", "outcome"),
    "Input records: `applied`, `dead_letter`, or `skipped` because they were already applied",
    "No input: check the producers. Many `skipped`: check rebalances and restarts.",
)
DEAD_LETTERS = MetricDefinition(
    "tidemark_dead_letters_total",
    "counter",
    ("reason",),
    "Records sent to `dead-letters`",
    "Read the topic: its headers give each record's origin and mistake. Fix the producer.",
)
NOTES = MetricDefinition(
    "tidemark_notes_total",
    "counter",
    ("note",),
    "Notable events: `duplicate`, `conflict`, `expired`, `late`, `unknown_kind`, `settled_early`, `orphan`, "
    "`campaign_refused` (see docs/contract.md), `care_deferred`, and `care_` with a reason of refusal "
    "(see docs/care.md)",
    "`conflict`: a producer uses an id twice. `late`: see the lateness. "
    "`orphan`: a refund or cancellation whose order has not come; if many, orders are lost. The others are for "
    "information.",
)
LATENESS_SECONDS = MetricDefinition(
    "tidemark_lateness_seconds",
    "histogram",
    (),
    "Lateness of late events",
    "High: a source is slow; consider settled decisions or a longer lateness.",
    LATENESS,
)
TIER_CHANGES = MetricDefinition(
    "tidemark_tier_changes_total",
    "counter",
    ("scheme", "from", "to", "direction", "cause"),
    "Tier changes emitted",
    "Many `down` at once: check the policy and recent orders; see the alert TidemarkTierExodus.",
)
TIER_CUSTOMERS = MetricDefinition(
    "tidemark_tier_customers",
    "gauge",
    ("scheme", "tier", "partition"),
    "Customers who hold a tier",
    "Shares drift: try other thresholds on history before you change the policy.",
)
CARE_ACTIONS = MetricDefinition(
    "tidemark_care_actions_total",
    "counter",
    ("rule", "channel", "outcome"),
    "Care actions: `emitted`, or `held_out` if they must not be sent",
    "Fewer than expected: check consent, and the rule in the policy.",
)
CARE_REFUSED = MetricDefinition(
    "tidemark_care_refused_total",
    "counter",
    ("rule", "refusal"),
    "Care actions that a rule proposed and governance refused, by reason",
    "Many `over_budget` or `capped`: the rules propose more than governance allows. Many `crowded`: fix the policy.",
)
CARE_BUDGET_SHARE = MetricDefinition(
    "tidemark_care_budget_share",
    "gauge",
    ("budget", "partition"),
    "A partition's share of a budget in the period of its stream time; the sum over all partitions is the budget",
    "For information; see the next metric for what is left.",
)
CARE_BUDGET_LEFT = MetricDefinition(
    "tidemark_care_budget_left",
    "gauge",
    ("budget", "partition"),
    "What is left of that share",
    "0: see the alert TidemarkCareBudgetExhausted. 0 in some partitions only: the budget is small for their number.",
)
CARE_OUTCOMES = MetricDefinition(
    "tidemark_care_outcomes_total",
    "counter",
    ("rule", "tier", "group", "outcome"),
    "Outcomes of care actions of rules with an `attribution`: `delivered`, `opened`, `clicked`, `converted`, each "
    "counted once per action",
    "Compare `converted` of `held_out` with that of `sent`; `tidemark effects` does so with an interval.",
)
BATCH_RECORDS = MetricDefinition(
    "tidemark_batch_records",
    "histogram",
    (),
    "Records in a micro-batch",
    "For information: large batches mean a backlog, small ones are normal.",
    BATCHES,
)
BATCH_SECONDS = MetricDefinition(
    "tidemark_batch_seconds",
    "histogram",
    (),
    "Time from the start of a micro-batch until its state is acknowledged",
    "Long with small batches: the broker acknowledges slowly.",
    LATENCIES,
)
LATENCY_SECONDS = MetricDefinition(
    "tidemark_latency_seconds",
    "histogram",
    (),
    "Time from the Kafka timestamp of a batch's last record until its effects are acknowledged",
    "High with lag: add workers. High without lag: check the batch time and the broker.",
    LATENCIES,
)
LAG_RECORDS = MetricDefinition(
    "tidemark_lag_records",
    "gauge",
    ("topic", "partition"),
    "Unread records as of the last watermark",
    "Growing: input exceeds what the workers process; add workers, up to the number of partitions.",
)
OPEN_TRANSACTION_RECORDS = MetricDefinition(
    "tidemark_open_transaction_records",
    "gauge",
    ("topic", "partition"),
    "Offsets beyond the last stable offset: a producer's transaction is open, and stream time waits for it",
    "Lasting: find the producer. The broker aborts the transaction after the producer's `transaction.timeout.ms`.",
)
APPLIED_OFFSET = MetricDefinition(
    "tidemark_applied_offset",
    "gauge",
    ("topic", "partition"),
    "The next offset to apply; the state includes everything before it",
    "Constant with lag: see the alert TidemarkPartitionStalled.",
)
STREAM_TIME = MetricDefinition(
    "tidemark_stream_time_seconds",
    "gauge",
    ("partition",),
    "Stream time, in seconds since 1970",
    "For information: it waits for unread records; without lag it follows the clock.",
)
STREAM_TIME_LAG = MetricDefinition(
    "tidemark_stream_time_lag_seconds",
    "gauge",
    ("partition",),
    "How far stream time is behind the wall clock; only with the wall clock (`TIDEMARK_CLOCK=wall`)",
    "High with lag: reduce the lag. High without lag: watermarks do not arrive; check the log.",
)
DUE_SCHEDULED = MetricDefinition(
    "tidemark_due_scheduled",
    "gauge",
    ("partition",),
    "Timers: about one for each customer for whom time alone will change something",
    "For information; memory grows with their number.",
)
DUE_LAG = MetricDefinition(
    "tidemark_due_lag_seconds",
    "gauge",
    ("partition",),
    "How far the oldest due evaluation is behind stream time; 0 if none waits",
    "A peak, as after a new policy, disappears by itself. Lasting: add workers.",
)
DUE_EVALUATED = MetricDefinition(
    "tidemark_due_evaluated_total",
    "counter",
    (),
    "Customers evaluated at a due instant",
    "For information: how much of the work is due to time alone.",
)
CUSTOMERS = MetricDefinition(
    "tidemark_customers", "gauge", ("partition",), "Customers in the state", "Use it to size memory."
)
STATE_BYTES = MetricDefinition(
    "tidemark_state_bytes",
    "gauge",
    ("partition",),
    "Bytes of the customers' rows, without the overhead of memory or disk",
    "Use it to size memory. One partition far above the others: a hot key.",
)
CHANGELOG_BYTES = MetricDefinition(
    "tidemark_changelog_bytes_total",
    "counter",
    (),
    "Bytes of customers' rows written to the changelog",
    "Use it to size the broker's disk and network.",
)
RECOVERY_REMAINING = MetricDefinition(
    "tidemark_recovery_remaining_records",
    "gauge",
    ("partition",),
    "Changelog offsets that recovery still has to read; 0 once recovered",
    "Not falling: see the alert TidemarkRecoveryStuck.",
)
REWINDS = MetricDefinition(
    "tidemark_rewinds_total",
    "counter",
    (),
    "How often a partition was fetched again because records were missing",
    "Rising steadily: check rebalances.",
)
LOST_RECORDS = MetricDefinition(
    "tidemark_lost_records_total",
    "counter",
    ("topic",),
    "Records that were deleted from an input log before they were read",
    "Any: retention is shorter than a worker was away; lengthen it, and load what is missing again.",
)
LOG_LOST = MetricDefinition(
    "tidemark_log_lost",
    "gauge",
    ("topic", "partition"),
    "1 if the log of an input topic ended before what is applied of it, else 0",
    "1: time stands still in the partition until `tidemark topics accept-loss`; see the runbook.",
)
REBALANCES = MetricDefinition(
    "tidemark_rebalances_total",
    "counter",
    (),
    "Rebalances",
    "Rising: workers come and go, or stall for longer than the session timeout of 10 s.",
)
TICKS = MetricDefinition(
    "tidemark_ticks_total",
    "counter",
    (),
    "Watermarks applied",
    "Constant: stream time stands still; see the alert TidemarkNoTicks.",
)
READY = MetricDefinition(
    "tidemark_ready",
    "gauge",
    (),
    "1 while `/ready` says yes, otherwise 0",
    "0 for long: `/ready` gives the reasons.",
)
POLICY_INFO = MetricDefinition(
    "tidemark_policy_info",
    "gauge",
    ("version", "effective_from"),
    "1 for each version of the policy file, including past and future ones; a version without a start shows "
    "`0001-01-02T00:00:00Z`",
    "Different between workers: a restart with a new policy is not finished.",
)
PRODUCER_ERRORS = MetricDefinition(
    "tidemark_producer_errors_total",
    "counter",
    ("error",),
    "Records that the broker did not acknowledge, after all retries of the client",
    "The broker is gone or refuses. If it was an output or state, the worker exits and must be started again.",
)
COMMIT_ERRORS = MetricDefinition(
    "tidemark_commit_errors_total",
    "counter",
    (),
    "Offset commits that failed; the next commit makes up for them",
    "A few are harmless. Many: check the broker and rebalances.",
)

CUTOFF = MetricDefinition(
    "tidemark_cutoff",
    "gauge",
    ("scheme", "tier"),
    "The cut-offs that this worker computed last; only the worker of partition 0 computes them",
    "For information; `tidemark cutoffs` shows them over time.",
)
CUTOFF_SHARE = MetricDefinition(
    "tidemark_cutoff_share",
    "gauge",
    ("scheme", "tier"),
    "The share of ranked customers, 0 to 1, who reach the cut-off",
    "Far from the policy's share: many customers have the same reading, or there are few customers.",
)
CUTOFF_HELD = MetricDefinition(
    "tidemark_cutoff_held",
    "gauge",
    ("scheme", "tier"),
    "Holders of the tier or a higher one at that instant, as a share of ranked customers",
    "Far above the share that reaches the cut-off: cut-offs rise faster than the demotion grace lets customers fall.",
)
RANKED_CUSTOMERS = MetricDefinition(
    "tidemark_ranked_customers",
    "gauge",
    ("scheme",),
    "Customers ranked for the cut-offs that this worker computed last",
    "For information.",
)
WAITING_FOR_CUTOFFS = MetricDefinition(
    "tidemark_waiting_for_cutoffs",
    "gauge",
    ("partition",),
    "1 while a partition waits at a day's end for the cut-offs",
    "1 for minutes: some partition has not reached the day's end, because it has no worker or a backlog. "
    "Records beyond the day's end stay unread until then.",
)

METRICS: tuple[MetricDefinition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricDefinition)
)
