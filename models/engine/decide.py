"""The decision engine: events and time in, decisions out. Live agents and replay drive this very code.

A customer is evaluated from instant to instant in the order of event time: every due instant before an event,
then the event. *Eager* evaluates an event as it arrives; *settled* keeps it until stream time, less the allowed
lateness, has passed it, so that arrival order no longer matters. One place for both, no IO, no clock.
"""

from bisect import bisect_right

import msgspec

from models.care.event_triggers import is_addressed
from models.customer.ledger import Outcome
from models.customer.state import NEVER, Care, Customer
from models.engine.evaluate import evaluate
from models.errors import TidemarkError
from models.events import Campaign, Erasure, Event, Interaction, OrderPlaced, Pending, Profile, order_of
from models.instants import format_instant
from models.outputs import Cause, CustomerTiers, Decisions, HeldTier
from models.policy.evaluation import facts_of
from models.policy.timeline import Timeline

#: Beyond this many waiting events of one customer the oldest is settled early (docs/contract.md, "Bounds").
MAX_PENDING = 2_000
#: Likewise for waiting profiles, which are larger.
MAX_PENDING_PROFILES = 8


class Engine:
    """Decides by the versions of a policy. `settled`: events wait until `advance` passes their instant."""

    def __init__(self, timeline: Timeline, *, settled: bool = False) -> None:
        self.timeline = timeline
        self._fingerprint = timeline.fingerprint
        self._settled = settled
        #: Events from this instant (ms) on wait, settled or not: cut-offs that may decide them are not known yet.
        self.barrier = NEVER

    def ingest(self, customer: Customer, event: Event, decisions: Decisions, now: int | None = None) -> None:
        """Take in one event. `now` (ms) is told as `decided_at`; None: the instant decided about.

        Raises TidemarkError for an `Erasure`, which is not for the engine: whoever holds the state drops it.
        """
        if (
            type(event) is OrderPlaced
            and customer.timeline == self._fingerprint
            and not customer.pending
            and not self._settled
            and event.at < self.barrier
            and self._in_order(customer, event)
        ):
            steady = self.timeline.steady(event.at)  # as in `_evaluate`, and one call less for nearly all events
            if steady is None or not steady(customer, event.at):
                evaluate(customer, self.timeline, event.at, "order", decisions, now, event)
            return
        if type(event) is Erasure:
            raise TidemarkError("an erasure removes the customer's state; there is nothing to decide")
        if customer.timeline != self._fingerprint:
            self._reconcile(customer, decisions, now)
        at = event.at
        if (
            (self._settled or self.barrier != NEVER)
            and at is not None
            and (self._settled or at >= self.barrier)
            and (customer.cursor is None or at >= customer.cursor)
        ):
            self._wait(customer, event, decisions, now)
            return
        if customer.pending and not self._settled and at is not None:
            self._settle(customer, at, decisions, now)  # what waited for cut-offs comes first
        self._apply(customer, event, decisions, now)

    def advance(self, customer: Customer, horizon: int, decisions: Decisions, now: int | None = None) -> None:
        """Settle waiting events and evaluate due instants up to and including `horizon` (ms)."""
        if customer.timeline != self._fingerprint:
            self._reconcile(customer, decisions, now)
        self._settle(customer, horizon, decisions, now)
        self._evaluate_due(customer, horizon, decisions, now)

    def rerank(self, customer: Customer, at: int, decisions: Decisions, now: int | None = None) -> bool:
        """Evaluate a customer as of the instant (ms) from which other cut-offs hold, or as of the cursor if later.

        False: they are as they were, and need not be written.
        """
        if customer.cursor is None:
            return False
        before = _noted(customer)
        steadily = self._evaluate(customer, max(at, customer.cursor), "time", decisions, now)
        return not steadily or _noted(customer) != before

    def falls_due(self, customer: Customer, at: int, until: int) -> bool:
        """Whether the cut-offs that hold at an instant (ms) make a customer due before `until`, earlier than known."""
        if customer.cursor is None or customer.cursor >= at:
            return False
        policy = self.timeline.at(at)
        due = policy.evaluate_rules(facts_of(customer, policy, at), at)[1]
        return due < min(customer.due, until)

    def is_addressed(self, customer: Customer, campaign: Campaign) -> bool:
        """Whether a campaign is for this customer, as they stand; they are evaluated up to its instant."""
        at = campaign.at if customer.cursor is None else max(campaign.at, customer.cursor)
        return is_addressed(customer, self.timeline.at(at), campaign)

    def announce(self, customer: Customer, campaign: Campaign, decisions: Decisions, now: int | None = None) -> None:
        """Tell a customer of a campaign that addresses them, at its instant, or at the cursor where that is later."""
        at = campaign.at if customer.cursor is None else max(campaign.at, customer.cursor)
        evaluate(customer, self.timeline, at, "time", decisions, now, campaign)

    def tiers(self, customer: Customer, at: int | None = None) -> CustomerTiers | None:
        """Return the customer's tiers, and metrics as of `at` (ms; default: the cursor); None before any evaluation."""
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

    def snapshot(self, customer: Customer, at: int | None = None) -> bytes | None:
        """Return `tiers` as JSON, for the same arguments; None before any evaluation."""
        at = customer.cursor if at is None else at
        if at is None or not customer.standings:
            return None
        policy = self.timeline.at(at)
        written = policy.snapshot(customer.customer_id, customer.standings, facts_of(customer, policy, at), at)
        return msgspec.json.encode(self.tiers(customer, at)) if written is None else written

    def _settle(self, customer: Customer, horizon: int, decisions: Decisions, now: int | None) -> None:
        while customer.pending and _instant(customer.pending[0]) <= horizon:
            self._apply(customer, customer.pending.pop(0), decisions, now)

    def _wait(self, customer: Customer, event: Pending, decisions: Decisions, now: int | None) -> None:
        pending = customer.pending
        pending.insert(bisect_right(pending, order_of(event), key=order_of), event)
        # They only become more with one more.
        profiles = sum(type(waiting) is Profile for waiting in pending) if type(event) is Profile else 0
        while len(pending) > MAX_PENDING or profiles > MAX_PENDING_PROFILES:
            oldest = pending.pop(0)
            profiles -= type(oldest) is Profile
            decisions.notes["settled_early"] += 1
            self._apply(customer, oldest, decisions, now)

    def _reconcile(self, customer: Customer, decisions: Decisions, now: int | None) -> None:
        """Evaluate anew, once, where the policy's versions are not those that the customer was evaluated under."""
        customer.timeline = self._fingerprint
        if customer.cursor is not None:
            customer.forget_due()
            evaluate(customer, self.timeline, customer.cursor, "policy", decisions, now)

    def _apply(self, customer: Customer, event: Pending, decisions: Decisions, now: int | None) -> None:
        outcome = _check(customer, event)
        customer.counters.events += 1
        if outcome is not Outcome.APPLIED:
            _count(customer, outcome, decisions)
            if outcome is Outcome.EXPIRED:
                self._begin_earlier(customer, event, decisions, now)
            return
        at, cause = event.at, _cause(event)
        if at is None:
            at = customer.cursor  # a profile without any time holds as of now
        elif type(event) is Profile and event.updated_at is None and customer.cursor is not None:
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
            at = max(at, customer.cursor)  # only its registration has a time: what it says holds from now on
            self._evaluate_due(customer, at - 1, decisions, now)
        elif customer.cursor is not None and at < customer.cursor:
            customer.counters.late += 1
            decisions.notes["late"] += 1
            decisions.lateness_ms.append(customer.cursor - at)
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
            at, cause = customer.cursor, "late"
        else:
            if customer.due < at:
                self._evaluate_due(customer, at - 1, decisions, now)
            if customer.first_at is None or at < customer.first_at:
                customer.first_at = at
        self._record(customer, event, decisions)
        if at is not None:
            self._evaluate(customer, at, cause, decisions, now, event)

    def _in_order(self, customer: Customer, order: OrderPlaced) -> bool:
        """Enter an order for which nothing but an evaluation is to be done, as for nearly all; False: nothing is done.

        A shorter way to where `_apply` comes too: nothing is due before the order, and it is as plain as can be.
        """
        at, cursor = order.at, customer.cursor
        if cursor is None or at < cursor or customer.due < at or not customer.ledger.append(order):
            return False
        customer.counters.events += 1
        if customer.first_at is None or at < customer.first_at:
            customer.first_at = at
        return True

    def _begin_earlier(self, customer: Customer, event: Pending, decisions: Decisions, now: int | None) -> None:
        """Let tenure start at an event that happened, though what it says is outdated."""
        at, first, cursor = event.at, customer.first_at, customer.cursor
        if at is not None and first is not None and cursor is not None and at < first:
            customer.first_at = at
            evaluate(customer, self.timeline, cursor, "late", decisions, now)

    def _record(self, customer: Customer, event: Pending, decisions: Decisions) -> None:
        if type(event) is Interaction:
            self._record_interaction(customer, event, decisions)
        elif type(event) is Profile:
            customer.profile = event
            customer.forget_due()
        else:
            customer.ledger.apply(event)

    def _record_interaction(self, customer: Customer, event: Interaction, decisions: Decisions) -> None:
        if event.kind not in self.timeline.at(event.at).known_kinds:
            customer.counters.unknown_kinds += 1
            decisions.notes["unknown_kind"] += 1
        if event.kind == "unsubscribe":
            customer.unsubscribed_at = max(event.at, customer.unsubscribed_at or event.at)
        if event.kind in self.timeline.kept_kinds:
            customer.interactions.apply(event)
        if event.kind in self.timeline.watched_kinds:
            if customer.care is None:
                customer.care = Care()
            customer.care.seen[event.kind] = max(event.at, customer.care.seen.get(event.kind, event.at))

    def _evaluate(
        self,
        customer: Customer,
        at: int,
        cause: Cause,
        decisions: Decisions,
        now: int | None,
        event: Pending | None = None,
    ) -> bool:
        """Evaluate a customer as of an instant (ms); say whether the shorter way did, as where no scheme moves them."""
        if customer.cursor is not None and customer.timeline == self._fingerprint:
            steady = self.timeline.steady(at)
            if steady is not None and steady(customer, at):
                return True
        evaluate(customer, self.timeline, at, cause, decisions, now, event)
        return False

    def _evaluate_due(self, customer: Customer, horizon: int, decisions: Decisions, now: int | None) -> None:
        while customer.due <= horizon:
            at = customer.due
            started = self.timeline.at(at).version != customer.policy_version
            self._evaluate(customer, at, "policy" if started else "time", decisions, now)


def _noted(customer: Customer) -> tuple[int, list[int | None]]:
    """What evaluating a customer whom no scheme moves may change, but for the instant up to which they are."""
    return customer.due, [standing.below_since for standing in customer.standings.values()]


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
    """The instant of an event that waits; those without one never wait."""
    return 0 if event.at is None else event.at


def _cause(event: Pending) -> Cause:
    if type(event) is OrderPlaced:
        return "order"
    if type(event) is Interaction:
        return "interaction"
    return "profile" if type(event) is Profile else "refund"


def _count(customer: Customer, outcome: Outcome, decisions: Decisions) -> None:
    counters = customer.counters
    match outcome:
        case Outcome.DUPLICATE:
            counters.duplicates += 1
        case Outcome.CONFLICT:
            counters.conflicts += 1
        case _:
            counters.expired += 1
    decisions.notes[outcome.value] += 1
