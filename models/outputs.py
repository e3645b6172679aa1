"""The events tidemark emits, in the shapes of docs/contract.md, and the decisions that one step collects."""

from collections import Counter
from typing import Any, Literal, NamedTuple

import msgspec

Direction = Literal["up", "down", "enter"]
Cause = Literal["order", "refund", "interaction", "profile", "time", "late", "policy"]


class Why(msgspec.Struct, frozen=True, gc=False):
    """One comparison that decided, in displayed units."""

    metric: str
    value: str | float | int | None
    op: str
    threshold: str | float | int
    met: bool


class Need(msgspec.Struct, frozen=True, gc=False):
    """How much of a metric is missing, in displayed units; None where the metric is undefined."""

    metric: str
    missing: str | float | int | None


class Next(msgspec.Struct, frozen=True, gc=False):
    """The next tier up, and what is missing for it (all of it is needed)."""

    tier: str
    needs: list[Need]


class AtRisk(msgspec.Struct, frozen=True, gc=False):
    """The tier that the customer falls to, and the exact instant, if nothing more happens."""

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
    """A `care-actions` event. Nothing is to be sent after `expires_at`, nor where `holdout` is true."""

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
    """A tier as `customer-tiers` shows it."""

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
    """A tier change in short, for who counts them only: `at` in ms, nothing is explained."""

    scheme: str
    from_tier: str | None
    to_tier: str
    direction: Direction
    at: int


class Cutoff(msgspec.Struct, frozen=True, gc=False):
    """The cut-off of one tier, in displayed units, and what it comes to.

    `top` is the share of customers wanted and `share` the one reached (parts of 1), `customers` how many have a reading
    of at least `cut`, those of higher tiers included. `holders` are those who hold the tier or a higher one as the day
    ends, before the cut-offs move anybody, and `held` is what part of the ranked they come to; None where an older
    release did not tell.
    """

    tier: str
    cut: str | float | int
    top: float
    share: float
    customers: int
    held: float | None = None
    holders: int | None = None


class TierCutoffs(msgspec.Struct, frozen=True, gc=False):
    """A `tier-cutoffs` event: from which readings on the tiers of a scheme are reached, from `effective_at` on.

    `cutoffs` are those of the tiers above the lowest, lowest first. `population`: how many customers were ranked.
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

    `notes` counts events and actions by what an operator looks for (`duplicate`, `late`, `unknown_kind`, …).
    `refusals` counts care actions that were not emitted, by rule and reason. `outcomes` counts what emitted actions led
    to, by rule, tier, hold-out and outcome. If `moves` is a list, tier changes go there without an explanation and
    `changes` stays empty: explaining them is most of the work. `lateness_ms` holds one entry for each late event.
    """

    __slots__ = (
        "actions",
        "changes",
        "cutoffs",
        "lateness_ms",
        "moves",
        "notes",
        "outcomes",
        "refusals",
    )

    def __init__(self, moves: list[Move] | None = None) -> None:
        self.moves = moves
        self.changes: list[TierChange] = []
        self.actions: list[CareAction] = []
        self.cutoffs: list[TierCutoffs] = []
        self.notes: Counter[str] = Counter()
        self.lateness_ms: list[int] = []
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[tuple[str, str, bool, str]] = Counter()

    def refuse(self, rule: str, reason: str) -> None:
        """Count a care action that is not emitted."""
        self.notes[f"care_{reason}"] += 1
        self.refusals[rule, reason] += 1
