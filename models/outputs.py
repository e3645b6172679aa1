"""The events that tidemark emits, in the shapes of docs/contract.md, and the decisions that one step collects."""

from collections import Counter
from typing import Any, Literal, NamedTuple

import msgspec

Direction = Literal["up", "down", "enter"]
Cause = Literal["order", "refund", "interaction", "profile", "time", "late", "policy"]


class Why(msgspec.Struct, frozen=True, gc=False):
    """One comparison that decided a change, in displayed units."""

    metric: str
    value: str | float | int | None
    op: str
    threshold: str | float | int
    met: bool


class Need(msgspec.Struct, frozen=True, gc=False):
    """How much of a metric is missing, in displayed units; None if the metric is undefined."""

    metric: str
    missing: str | float | int | None


class Next(msgspec.Struct, frozen=True, gc=False):
    """The next tier up and what is missing for it. All `needs` must be met."""

    tier: str
    needs: list[Need]


class AtRisk(msgspec.Struct, frozen=True, gc=False):
    """The tier to which the customer falls if nothing more happens, and the exact instant."""

    tier: str
    on: str


class TierChange(msgspec.Struct, frozen=True, gc=False):
    """A `tier-changes` event. Instants are RFC 3339 in UTC."""

    event_id: str
    customer_id: str
    scheme: str
    from_tier: str | None = msgspec.field(name="from")
    to_tier: str = msgspec.field(name="to")
    direction: Direction
    effective_at: str
    decided_at: str
    sequence: int
    cause: Cause
    policy_version: str
    metrics: dict[str, Any]
    why: list[Why]
    next: Next | None
    at_risk: AtRisk | None


class CareAction(msgspec.Struct, frozen=True, gc=False):
    """A `care-actions` event. Do not send it after `expires_at`, nor if `holdout` is true."""

    action_id: str
    rule: str
    kind: str
    customer_id: str
    tier: str | None
    channel: str
    template: str
    locale: str | None
    due_at: str
    expires_at: str
    priority: int
    holdout: bool
    why: list[Why]
    policy_version: str


class HeldTier(msgspec.Struct, frozen=True, gc=False):
    """A held tier as `customer-tiers` shows it. `sequence` counts the tier changes in the scheme."""

    tier: str
    since: str
    sequence: int


class CustomerTiers(msgspec.Struct, frozen=True, gc=False):
    """A `customer-tiers` record: the latest tiers and metrics of a customer as of `as_of`."""

    customer_id: str
    as_of: str
    tiers: dict[str, HeldTier]
    metrics: dict[str, Any]
    policy_version: str


class Move(NamedTuple):
    """A tier change without its explanation, for callers that only count changes. `at` is in ms."""

    scheme: str
    from_tier: str | None
    to_tier: str
    direction: Direction
    at: int


class Cutoff(msgspec.Struct, frozen=True, gc=False):
    """The cut-off of one tier, in displayed units, and the customers above it.

    `top` is the requested share of customers and `share` the reached one (fractions of 1). `customers` counts the
    customers whose reading is at least `cut`, higher tiers included. `holders` counts the customers who hold this tier
    or a higher one at the end of the day, before the cut-offs move anybody; `held` is their share of the ranked
    customers. Both are None in events of older releases.
    """

    tier: str
    cut: str | float | int
    top: float
    share: float
    customers: int
    held: float | None = None
    holders: int | None = None


class TierCutoffs(msgspec.Struct, frozen=True, gc=False):
    """A `tier-cutoffs` event: the readings at which the tiers of a scheme begin, from `effective_at` on.

    `cutoffs` holds one entry for each tier above the lowest, lowest first. `population` counts the ranked customers.
    """

    event_id: str
    scheme: str
    metric: str
    effective_at: str
    population: int
    cutoffs: list[Cutoff]
    policy_version: str


class Decisions:
    """What the engine decided about some events, for the caller to act on.

    `counts` holds what an operator looks for, by name (`duplicate`, `late`, `unknown_kind`, …). `refusals` counts care
    actions that were not emitted, by rule and reason. `outcomes` counts what emitted actions led to, by rule, tier,
    hold-out and outcome. `lateness_ms` holds one entry for each late event. If `moves` is a list, tier changes go there
    without an explanation and `changes` stays empty: explaining them is most of the work.
    """

    __slots__ = (
        "actions",
        "changes",
        "counts",
        "cutoffs",
        "lateness_ms",
        "moves",
        "outcomes",
        "refusals",
    )

    def __init__(self, moves: list[Move] | None = None) -> None:
        self.moves = moves
        self.changes: list[TierChange] = []
        self.actions: list[CareAction] = []
        self.cutoffs: list[TierCutoffs] = []
        self.counts: Counter[str] = Counter()
        self.lateness_ms: list[int] = []
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[tuple[str, str, bool, str]] = Counter()

    def refuse(self, rule: str, reason: str) -> None:
        """Count a care action that is not emitted."""
        self.counts[f"care_{reason}"] += 1
        self.refusals[rule, reason] += 1
