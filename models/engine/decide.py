"""The decision engine: events and time in, decisions out. The live worker and replay call the same code.

A customer is evaluated from instant to instant in the order of event time: every due instant before an event, then the
event. An *eager* engine evaluates an event as it arrives. A *settled* one keeps it until stream time, minus the allowed
lateness, has passed it, so that the order of arrival does not matter.
"""

from bisect import bisect_right

from models.care.budgets import BudgetShare
from models.care.event_triggers import is_addressed
from models.customer.ledger import Outcome
from models.customer.state import NEVER, Care, Customer
from models.engine.evaluate import DecisionContext, evaluate
from models.errors import TidemarkError
from models.events import (
    Campaign,
    Erasure,
    Event,
    Interaction,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    Pending,
    Profile,
    order_of,
)
from models.instants import format_instant
from models.outputs import Cause, CustomerTiers, Decisions, HeldTier
from models.policy.evaluation import facts_of
from models.policy.timeline import Timeline

#: With more waiting events of one customer than this, the oldest is settled early (docs/contract.md, "Bounds").
MAX_PENDING = 2_000
#: The same for waiting profiles, which are larger.
MAX_PENDING_PROFILES = 8

_CAUSES: dict[type, Cause] = {
    OrderPlaced: "order",
    OrderRefunded: "refund",
    OrderCancelled: "refund",
    Interaction: "interaction",
    Profile: "profile",
}


class Engine:
    """Decides by the versions of a policy. If `settled`, events wait until `advance` passes their instant."""

    def __init__(self, timeline: Timeline, *, settled: bool = False) -> None:
        self.timeline = timeline
        self._fingerprint = timeline.fingerprint
        self._settled = settled
        self._barrier = NEVER

    def hold_from(self, instant: int) -> None:
        """Let events from an instant (ms) on wait: the cut-offs that decide them are unknown. NEVER: none wait."""
        self._barrier = instant

    def ingest(
        self,
        customer: Customer,
        event: Event,
        decisions: Decisions,
        now: int | None = None,
        budget: BudgetShare | None = None,
    ) -> None:
        """Take in one event.

        `now` (ms) becomes `decided_at`; None: the instant of each decision. `budget` is what care may spend; None: it
        is not counted. Raises TidemarkError for an `Erasure`: the caller drops the customer's state instead.
        """
        context = DecisionContext(decisions, now, budget)
        if type(event) is Erasure:
            raise TidemarkError("an erasure removes the customer's state; there is nothing to decide")
        if customer.timeline != self._fingerprint:
            self._reconcile(customer, context)
        at = event.at
        if (
            (self._settled or self._barrier != NEVER)
            and at is not None
            and (self._settled or at >= self._barrier)
            and (customer.cursor is None or at >= customer.cursor)
        ):
            self._wait(customer, event, context)
            return
        if customer.pending and not self._settled and at is not None:
            self._settle(customer, at, context)  # events that waited for cut-offs come first
        self._apply(customer, event, context)

    def advance(
        self,
        customer: Customer,
        horizon: int,
        decisions: Decisions,
        now: int | None = None,
        budget: BudgetShare | None = None,
    ) -> None:
        """Settle waiting events and evaluate due instants up to and including `horizon` (ms).

        `now` and `budget` are as in `ingest`.
        """
        context = DecisionContext(decisions, now, budget)
        if customer.timeline != self._fingerprint:
            self._reconcile(customer, context)
        self._settle(customer, horizon, context)
        self._evaluate_due(customer, horizon, context)

    def rerank(
        self,
        customer: Customer,
        at: int,
        decisions: Decisions,
        now: int | None = None,
        budget: BudgetShare | None = None,
    ) -> bool:
        """Evaluate a customer as of the instant (ms) from which other cut-offs hold, or as of the cursor if later.

        `now` and `budget` are as in `ingest`. Return False if the customer is unchanged and need not be written.
        """
        if customer.cursor is None:
            return False
        before, at = _noted(customer), max(at, customer.cursor)
        evaluate(customer, self.timeline, at, self._cause_at(customer, at), DecisionContext(decisions, now, budget))
        return bool(self.timeline.at(at).care) or _noted(customer) != before

    def falls_due(self, customer: Customer, at: int, until: int) -> bool:
        """Whether the cut-offs that hold at `at` (ms) make a customer due before `until` (ms), earlier than known."""
        if customer.cursor is None or customer.cursor >= at:
            return False
        policy = self.timeline.at(at)
        due = policy.evaluate_rules(facts_of(customer, policy, at), at)[1]
        return due < min(customer.due, until)

    def is_addressed(self, customer: Customer, campaign: Campaign) -> bool:
        """Whether a campaign addresses a customer as they stand; they are evaluated up to its instant."""
        at = campaign.at if customer.cursor is None else max(campaign.at, customer.cursor)
        return is_addressed(customer, self.timeline.at(at), campaign)

    def announce(
        self,
        customer: Customer,
        campaign: Campaign,
        decisions: Decisions,
        now: int | None = None,
        budget: BudgetShare | None = None,
    ) -> None:
        """Apply a campaign to a customer whom it addresses, at its instant or at the cursor if that is later.

        `now` and `budget` are as in `ingest`.
        """
        at = campaign.at if customer.cursor is None else max(campaign.at, customer.cursor)
        evaluate(customer, self.timeline, at, "time", DecisionContext(decisions, now, budget), campaign)

    def tiers(self, customer: Customer, at: int | None = None) -> CustomerTiers | None:
        """Return the tiers, and the metrics as of `at` (ms; default: the cursor); None before any evaluation."""
        at = customer.cursor if at is None else at
        if at is None or not customer.standings:
            return None
        policy = self.timeline.at(at)
        held = {
            scheme.name: HeldTier(standing.tier, format_instant(standing.since), standing.sequence)
            for scheme in policy.schemes
            if (standing := customer.standings.get(scheme.name)) is not None
        }
        shown = policy.render_metrics(facts_of(customer, policy, at), at)
        return CustomerTiers(customer.customer_id, format_instant(at), held, shown, policy.version)

    def _settle(self, customer: Customer, horizon: int, context: DecisionContext) -> None:
        while customer.pending and _instant(customer.pending[0]) <= horizon:
            self._apply(customer, customer.pending.pop(0), context)

    def _wait(self, customer: Customer, event: Pending, context: DecisionContext) -> None:
        pending = customer.pending
        pending.insert(bisect_right(pending, order_of(event), key=order_of), event)
        # Counted only if a profile was added: otherwise their number did not grow.
        profiles = sum(type(waiting) is Profile for waiting in pending) if type(event) is Profile else 0
        while len(pending) > MAX_PENDING or profiles > MAX_PENDING_PROFILES:
            oldest = pending.pop(0)
            profiles -= type(oldest) is Profile
            context.decisions.counts["settled_early"] += 1
            self._apply(customer, oldest, context)

    def _reconcile(self, customer: Customer, context: DecisionContext) -> None:
        """Evaluate a customer once who was last evaluated under other versions of the policy."""
        customer.timeline = self._fingerprint
        if customer.cursor is not None:
            customer.forget_due()
            evaluate(customer, self.timeline, customer.cursor, "policy", context)

    def _apply(self, customer: Customer, event: Pending, context: DecisionContext) -> None:
        # Nearly all events are orders: no call in between.
        outcome = customer.ledger.check_order(event) if type(event) is OrderPlaced else _check(customer, event)
        customer.counters.events += 1
        if outcome is not Outcome.APPLIED:
            _count(customer, outcome, context.decisions)
            if outcome is Outcome.EXPIRED:
                self._begin_earlier(customer, event, context)
            return
        at, cause = event.at, _CAUSES[type(event)]
        if at is None:
            at = customer.cursor  # a profile without a time holds from the cursor on
        elif type(event) is Profile and event.updated_at is None and customer.cursor is not None:
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
            at = max(at, customer.cursor)  # only its registration has a time: the rest holds from the cursor on
            self._evaluate_due(customer, at - 1, context)
        elif customer.cursor is not None and at < customer.cursor:
            customer.counters.late += 1
            context.decisions.counts["late"] += 1
            context.decisions.lateness_ms.append(customer.cursor - at)
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
            at, cause = customer.cursor, "late"
        else:
            if customer.due < at:
                self._evaluate_due(customer, at - 1, context)
            if customer.first_at is None or at < customer.first_at:
                customer.first_at = at
        if type(event) is OrderPlaced:
            customer.ledger.place(event)
        else:
            self._record(customer, event, context.decisions)
        if at is not None:
            evaluate(customer, self.timeline, at, cause, context, event)

    def _begin_earlier(self, customer: Customer, event: Pending, context: DecisionContext) -> None:
        """Let tenure start at an event that is expired but did happen."""
        at, first, cursor = event.at, customer.first_at, customer.cursor
        if at is not None and first is not None and cursor is not None and at < first:
            customer.first_at = at
            evaluate(customer, self.timeline, cursor, "late", context)

    def _record(self, customer: Customer, event: Pending, decisions: Decisions) -> None:
        if type(event) is Interaction:
            self._record_interaction(customer, event, decisions)
        elif type(event) is Profile:
            customer.profile = event
            customer.forget_due()
        else:
            customer.ledger.apply(event)
            if type(event) is not OrderPlaced and customer.ledger.lacks_order(event.order):
                decisions.counts["orphan"] += 1

    def _record_interaction(self, customer: Customer, event: Interaction, decisions: Decisions) -> None:
        if event.kind not in self.timeline.at(event.at).known_kinds:
            customer.counters.unknown_kinds += 1
            decisions.counts["unknown_kind"] += 1
        if event.kind == "unsubscribe":
            customer.unsubscribed_at = max(event.at, customer.unsubscribed_at or event.at)
        if event.kind in self.timeline.kept_kinds:
            customer.interactions.apply(event)
        if event.kind in self.timeline.watched_kinds:
            if customer.care is None:
                customer.care = Care()
            customer.care.seen[event.kind] = max(event.at, customer.care.seen.get(event.kind, event.at))

    def _evaluate_due(self, customer: Customer, horizon: int, context: DecisionContext) -> None:
        while customer.due <= horizon:
            at = customer.due
            evaluate(customer, self.timeline, at, self._cause_at(customer, at), context)

    def _cause_at(self, customer: Customer, at: int) -> Cause:
        """Return the cause of what changes at an instant (ms) without an event: a version that begins, else time."""
        return "time" if self.timeline.at(at).version == customer.policy_version else "policy"


def _noted(customer: Customer) -> tuple[str | None, int, list[tuple[str, int, int | None]]]:
    """Return what an evaluation without care rules may change in a customer, except the cursor."""
    standings = [(name, each.sequence, each.below_since) for name, each in customer.standings.items()]
    return customer.policy_version, customer.due, standings


def _check(customer: Customer, event: Pending) -> Outcome:
    if type(event) is Interaction:
        return customer.interactions.check(event)
    if type(event) is Profile:
        known = customer.profile
        if known is None or event.replaces(known):
            return Outcome.DUPLICATE if event == known else Outcome.APPLIED
        return Outcome.EXPIRED
    return customer.ledger.check(event)


def _instant(event: Pending) -> int:
    """Return the instant (ms) of a waiting event. An event without one never waits."""
    return 0 if event.at is None else event.at


def _count(customer: Customer, outcome: Outcome, decisions: Decisions) -> None:
    counters = customer.counters
    match outcome:
        case Outcome.DUPLICATE:
            counters.duplicates += 1
        case Outcome.CONFLICT:
            counters.conflicts += 1
        case _:
            counters.expired += 1
    decisions.counts[outcome.value] += 1
