"""Every metric of a worker: a closed list, from which the collectors, docs/metrics.md and the tests are made.

A metric that nothing feeds does not belong here, nor a label whose values are not bounded by the code, the settings or
the policy: never a customer, an order, an offset or a text from outside.
"""

from typing import Literal, NamedTuple

#: What bounds the values of each label.
LABELS = {
    "topic": "an input topic without its prefix, or `ticks`",
    "partition": "a partition number",
    "outcome": "a fixed list, told with the metric",
    "reason": "the reasons of dead letters in the contract",
    "note": "the notes in the contract",
    "scheme": "a scheme of the policy",
    "tier": "a tier of that scheme",
    "from": "a tier of that scheme; empty where a customer enters",
    "to": "a tier of that scheme",
    "direction": "`up`, `down` or `enter`",
    "cause": "the causes in the contract",
    "rule": "a care rule of the policy",
    "channel": "a channel of a care rule",
    "refusal": "the reasons of refusals in the contract",
    "group": "`sent` or `held_out`",
    "budget": "a budget of the policy",
    "version": "a version of the policy file",
    "effective_from": "the instant from which that version holds",
    "error": "the name of an error of the Kafka client",
}

#: Upper ends (seconds) of how long something took.
LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: Upper ends (seconds) of how late events were: from a second to a month.
LATENESS = (1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000)
#: Upper ends of how many records a batch had.
BATCHES = (1, 10, 100, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 50_000, 100_000)


class MetricDefinition(NamedTuple):
    """One metric. `act` says what to do about it; `buckets` are a histogram's upper ends."""

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
    "Input records: `applied`, `dead_letter`, or `skipped` because they had been applied before",
    "Nothing comes in: look at the producers. Many `skipped`: look at rebalances and restarts.",
)
DEAD_LETTERS = MetricDefinition(
    "tidemark_dead_letters_total",
    "counter",
    ("reason",),
    "Records sent to `dead-letters`",
    "Read the topic: its headers say where each record came from and what is wrong. Mend the producer.",
)
NOTES = MetricDefinition(
    "tidemark_notes_total",
    "counter",
    ("note",),
    "Noteworthy events: `duplicate`, `conflict`, `expired`, `late`, `unknown_kind`, `settled_early`, "
    "`campaign_refused`, `care_deferred`, and `care_` with a reason of refusal; the contract explains them",
    "`conflict`: a producer uses an id twice. `late`: see the lateness. The others are for information.",
)
LATENESS_SECONDS = MetricDefinition(
    "tidemark_lateness_seconds",
    "histogram",
    (),
    "How late late events were",
    "A slow source: consider settled decisions, or a longer lateness.",
    LATENESS,
)
TIER_CHANGES = MetricDefinition(
    "tidemark_tier_changes_total",
    "counter",
    ("scheme", "from", "to", "direction", "cause"),
    "Tier changes emitted: the flows between tiers",
    "Many `down` at once: compare with the policy and with what was sold; see the alert on exodus.",
)
TIER_CUSTOMERS = MetricDefinition(
    "tidemark_tier_customers",
    "gauge",
    ("scheme", "tier", "partition"),
    "Customers who stand in a tier",
    "Shares that drift: try other thresholds on history before changing the policy.",
)
CARE_ACTIONS = MetricDefinition(
    "tidemark_care_actions_total",
    "counter",
    ("rule", "channel", "outcome"),
    "Care actions emitted: `emitted`, or `held_out` where they are not to be sent",
    "None where there should be: look at consent, and at the rule in the policy.",
)
CARE_REFUSED = MetricDefinition(
    "tidemark_care_refused_total",
    "counter",
    ("rule", "refusal"),
    "Care actions that a rule wanted and governance refused, by why",
    "Many `over_budget` or `capped`: the policy wants more than it allows itself. Many `crowded`: mend the policy.",
)
CARE_BUDGET_SHARE = MetricDefinition(
    "tidemark_care_budget_share",
    "gauge",
    ("budget", "partition"),
    "What a partition may spend of a budget in the period that stream time is in; over all partitions, the budget",
    "For information; what is left is shown beside it.",
)
CARE_BUDGET_LEFT = MetricDefinition(
    "tidemark_care_budget_left",
    "gauge",
    ("budget", "partition"),
    "What is left of that share: a budget is for the tiers and kinds of rules that the policy names",
    "Nothing: see the alert on exhausted budgets. Nothing in some partitions only: the budget is small for so many.",
)
CARE_OUTCOMES = MetricDefinition(
    "tidemark_care_outcomes_total",
    "counter",
    ("rule", "tier", "group", "outcome"),
    "What came of care actions of rules with an `attribution`: `delivered`, `opened`, `clicked`, `converted`, each "
    "counted once an action",
    "Compare `converted` of the `held_out` with that of the `sent`; `tidemark effects` does so with an interval.",
)
BATCH_RECORDS = MetricDefinition(
    "tidemark_batch_records",
    "histogram",
    (),
    "Records in a micro-batch",
    "Large batches are a backlog being worked off, small ones are normal.",
    BATCHES,
)
BATCH_SECONDS = MetricDefinition(
    "tidemark_batch_seconds",
    "histogram",
    (),
    "From a micro-batch taken up to its state acknowledged",
    "Long with small batches: the broker is slow to acknowledge.",
    LATENCIES,
)
LATENCY_SECONDS = MetricDefinition(
    "tidemark_latency_seconds",
    "histogram",
    (),
    "From the Kafka timestamp of a batch's last record to its effects acknowledged",
    "Grows with the lag: add workers. Without lag: look at the batch time and at the broker.",
    LATENCIES,
)
LAG_RECORDS = MetricDefinition(
    "tidemark_lag_records",
    "gauge",
    ("topic", "partition"),
    "Unread records, as of the last tick",
    "Growing: more comes in than one core takes; add workers, up to the number of partitions.",
)
APPLIED_OFFSET = MetricDefinition(
    "tidemark_applied_offset",
    "gauge",
    ("topic", "partition"),
    "The next offset to apply: everything before it is in the state",
    "Standing still with lag: see the alert on stalled partitions.",
)
STREAM_TIME = MetricDefinition(
    "tidemark_stream_time_seconds",
    "gauge",
    ("partition",),
    "Stream time, in seconds since 1970",
    "It waits for unread records, as it should; with no lag it follows the clock.",
)
STREAM_TIME_LAG = MetricDefinition(
    "tidemark_stream_time_lag_seconds",
    "gauge",
    ("partition",),
    "How far stream time is behind the wall clock; only where time follows the wall clock",
    "With lag: work off the lag. Without: ticks do not arrive, look at the log.",
)
DUE_SCHEDULED = MetricDefinition(
    "tidemark_due_scheduled",
    "gauge",
    ("partition",),
    "Entries of the due index: about as many as customers for whom time alone will change something",
    "For information; memory grows with it.",
)
DUE_LAG = MetricDefinition(
    "tidemark_due_lag_seconds",
    "gauge",
    ("partition",),
    "How far the oldest due evaluation is behind stream time; 0 where none waits",
    "A burst, as after a new policy, is worked off by itself. Lasting: add workers.",
)
DUE_EVALUATED = MetricDefinition(
    "tidemark_due_evaluated_total",
    "counter",
    (),
    "Customers evaluated because their time had come",
    "For information: how much of the work is time's.",
)
CUSTOMERS = MetricDefinition("tidemark_customers", "gauge", ("partition",), "Customers held", "Size memory by it.")
STATE_BYTES = MetricDefinition(
    "tidemark_state_bytes",
    "gauge",
    ("partition",),
    "Bytes of the customers' rows, without what memory or disk add to them",
    "Size memory by it; one partition far above the others holds a hot key.",
)
CHANGELOG_BYTES = MetricDefinition(
    "tidemark_changelog_bytes_total",
    "counter",
    (),
    "Bytes of customers' rows written to the changelog",
    "Size the broker's disk and network by it.",
)
RECOVERY_REMAINING = MetricDefinition(
    "tidemark_recovery_remaining_records",
    "gauge",
    ("partition",),
    "Changelog offsets that recovery has still to read; 0 once recovered",
    "Not falling: see the alert on recovery.",
)
REWINDS = MetricDefinition(
    "tidemark_rewinds_total",
    "counter",
    (),
    "Times a partition was fetched again because records were missing",
    "Rising steadily: look at rebalances.",
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
    "Ticks applied",
    "Standing still: time does not pass; see the alert on ticks.",
)
READY = MetricDefinition(
    "tidemark_ready",
    "gauge",
    (),
    "1 while `/ready` says yes: recovered, assigned, not stalled",
    "0 for long: ask `/ready` why.",
)
POLICY_INFO = MetricDefinition(
    "tidemark_policy_info",
    "gauge",
    ("version", "effective_from"),
    "1 for each version of the policy that the worker has read, past and future ones too; a version without a start "
    "shows `0001-01-02T00:00:00Z`",
    "Other on some workers than on others: a restart with a new policy that is not finished.",
)
PRODUCER_ERRORS = MetricDefinition(
    "tidemark_producer_errors_total",
    "counter",
    ("error",),
    "Records that the broker did not acknowledge, after all retries of the client",
    "The broker is gone or refuses; where it was an output or state, the worker ends and must be started again.",
)
COMMIT_ERRORS = MetricDefinition(
    "tidemark_commit_errors_total",
    "counter",
    (),
    "Commits of offsets that failed; the next one makes good",
    "A few are harmless. Many: look at the broker and at rebalances.",
)

CUTOFF = MetricDefinition(
    "tidemark_cutoff",
    "gauge",
    ("scheme", "tier"),
    "The cut-offs that this worker computed last; only the worker of partition 0 does",
    "For information; `tidemark cutoffs` shows them over time.",
)
CUTOFF_SHARE = MetricDefinition(
    "tidemark_cutoff_share",
    "gauge",
    ("scheme", "tier"),
    "The share of ranked customers, 0 to 1, who reach them",
    "Far from the share wanted: many customers have the same reading, or there are few.",
)
CUTOFF_HELD = MetricDefinition(
    "tidemark_cutoff_held",
    "gauge",
    ("scheme", "tier"),
    "What part of the ranked customers, 0 to 1, held the tier or a higher one at the last day's end",
    "Far above the share that reaches it: cut-offs rise faster than the demotion grace lets customers go.",
)
RANKED_CUSTOMERS = MetricDefinition(
    "tidemark_ranked_customers",
    "gauge",
    ("scheme",),
    "How many customers were ranked",
    "For information.",
)
WAITING_FOR_CUTOFFS = MetricDefinition(
    "tidemark_waiting_for_cutoffs",
    "gauge",
    ("partition",),
    "1 while a partition stands at a day's end and waits for the others",
    "For minutes: some partition has not reached the day's end, one without a worker or with a backlog. "
    "What it has to read beyond stays unread.",
)

METRICS: tuple[MetricDefinition, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, MetricDefinition)
)
