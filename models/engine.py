"""The decision engine: events and time in, decisions out. Live agents and replay drive this very code.

A customer is evaluated from instant to instant in the order of event time: every due instant before an event,
then the event. *Eager* evaluates an event as it arrives; *settled* keeps it until stream time, less the allowed
lateness, has passed it, so that arrival order no longer matters. One place for both, no IO, no clock.
"""

from bisect import bisect_right
from dataclasses import dataclass

from models import care, explain
from models.customer import NEVER, Customer, Standing
from models.events import Erasure, Event, Interaction, OrderPlaced, Pending, Profile, rank
from models.identity import event_id
from models.instants import LAST_INSTANT, format_instant
from models.ledger import Outcome
from models.metrics import Facts
from models.outputs import Cause, CustomerTiers, Decisions, Direction, HeldTier, TierChange
from models.policy import Policy, Scheme
from models.tiering import Position, next_instant, qualified_rank, settle

#: Beyond this many waiting events of one customer the oldest is settled early (docs/contract.md, "Bounds").
MAX_PENDING = 2_000
#: Likewise for waiting profiles, which are larger.
MAX_PENDING_PROFILES = 8


class Engine:
    """Decides for one policy. `settled`: events wait until `advance` passes their instant."""

    def __init__(self, policy: Policy, *, settled: bool = False) -> None:
        self.policy = policy
        self._settled = settled

    def ingest(self, customer: Customer, event: Event, decisions: Decisions, now: int | None = None) -> None:
        """Take in one event. `now` (ms) is told as `decided_at`; None: the instant decided about.

        An `Erasure` is not for the engine: whoever holds the state drops it.
        """
        if type(event) is Erasure:
            raise TypeError("an erasure removes the customer's state; there is nothing to decide")
        waits = self._settled and event.at is not None and (customer.cursor is None or event.at >= customer.cursor)
        if not waits:
            self._apply(customer, event, decisions, now)
            return
        order = [(_instant(waiting), rank(waiting)) for waiting in customer.pending]
        customer.pending.insert(bisect_right(order, (_instant(event), rank(event))), event)
        profiles = sum(type(waiting) is Profile for waiting in customer.pending) if type(event) is Profile else 0
        if len(customer.pending) > MAX_PENDING or profiles > MAX_PENDING_PROFILES:
            decisions.notes["settled_early"] += 1
            self._apply(customer, customer.pending.pop(0), decisions, now)

    def advance(self, customer: Customer, horizon: int, decisions: Decisions, now: int | None = None) -> None:
        """Settle waiting events and evaluate due instants up to and including `horizon` (ms)."""
        while customer.pending and _instant(customer.pending[0]) <= horizon:
            self._apply(customer, customer.pending.pop(0), decisions, now)
        self._evaluate_due(customer, horizon, decisions, now)

    def tiers(self, customer: Customer, at: int | None = None) -> CustomerTiers | None:
        """Return the customer's tiers, and metrics as of `at` (ms; default: the cursor); None before any evaluation."""
        at = customer.cursor if at is None else at
        if at is None or not customer.standings:
            return None
        facts = self._facts(customer, at)
        shown = {}
        for scheme in reversed(self.policy.schemes):  # where two show a metric, the first scheme's window wins
            shown.update(explain.metrics(scheme, facts, at, self.policy.money))
        held = {
            scheme.name: HeldTier(standing.tier, format_instant(standing.since), standing.sequence)
            for scheme in self.policy.schemes
            if (standing := customer.standings.get(scheme.name)) is not None
        }
        return CustomerTiers(customer.customer_id, format_instant(at), held, shown, self.policy.version)

    def _apply(self, customer: Customer, event: Pending, decisions: Decisions, now: int | None) -> None:
        outcome = self._check(customer, event)
        customer.counters.events += 1
        if outcome is not Outcome.APPLIED:
            _count(customer, outcome, decisions)
            if outcome is Outcome.EXPIRED:
                self._begin_earlier(customer, event, decisions, now)
            return
        at, cause = event.at, _cause(event)
        if at is None:
            at = customer.cursor  # a profile without any time holds as of now
        elif customer.cursor is not None and at < customer.cursor:
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
            # Where only its registration has a time, what a profile says holds from now on: it is not late.
            if type(event) is not Profile or event.updated_at is not None:
                customer.counters.late += 1
                decisions.notes["late"] += 1
                decisions.lateness_ms.append(customer.cursor - at)
                cause = "late"
            at = customer.cursor
        else:
            self._evaluate_due(customer, at - 1, decisions, now)
            customer.first_at = at if customer.first_at is None else min(customer.first_at, at)
        self._record(customer, event, decisions)
        if at is not None:
            self._evaluate(customer, at, cause, decisions, now)

    def _begin_earlier(self, customer: Customer, event: Pending, decisions: Decisions, now: int | None) -> None:
        """Let tenure start at an event that happened, though what it says is outdated."""
        at, first, cursor = event.at, customer.first_at, customer.cursor
        if at is not None and first is not None and cursor is not None and at < first:
            customer.first_at = at
            self._evaluate(customer, cursor, "late", decisions, now)

    def _check(self, customer: Customer, event: Pending) -> Outcome:
        if type(event) is Interaction:
            return customer.contacts.check(event)
        if type(event) is Profile:
            known = customer.profile
            if known is None or event.replaces(known):
                return Outcome.DUPLICATE if event == known else Outcome.APPLIED
            return Outcome.EXPIRED
        return customer.ledger.check(event)

    def _record(self, customer: Customer, event: Pending, decisions: Decisions) -> None:
        if type(event) is Interaction:
            self._record_interaction(customer, event, decisions)
        elif type(event) is Profile:
            customer.profile = event
            care.forget_birthdays(customer, self.policy)
        else:
            customer.ledger.apply(event)

    def _record_interaction(self, customer: Customer, event: Interaction, decisions: Decisions) -> None:
        if event.kind not in self.policy.known_kinds:
            customer.counters.unknown_kinds += 1
            decisions.notes["unknown_kind"] += 1
        if event.kind == "unsubscribe":
            customer.unsubscribed_at = max(event.at, customer.unsubscribed_at or event.at)
        if event.kind in self.policy.kept_kinds:
            customer.contacts.apply(event)

    def _evaluate_due(self, customer: Customer, horizon: int, decisions: Decisions, now: int | None) -> None:
        while customer.due <= horizon:
            self._evaluate(customer, customer.due, "time", decisions, now)

    def _evaluate(self, customer: Customer, at: int, cause: Cause, decisions: Decisions, now: int | None) -> None:
        customer.cursor = at
        if customer.policy_version != self.policy.version:
            care.forget_birthdays(customer, self.policy)
            customer.policy_version = self.policy.version
        if customer.contacts.times:
            customer.contacts.forget_until(at - self.policy.horizon)
        facts = self._facts(customer, at)
        moment = _Moment(customer, facts, at, cause, at if now is None else now, decisions)
        instants: list[int | None] = []
        for scheme in self.policy.schemes:
            position = self._place(moment, scheme)
            instants.append(next_instant(scheme, position, facts, at))
        instants.append(care.attend(customer, self.policy, facts, at, decisions))
        due = min((instant for instant in instants if instant is not None), default=NEVER)
        customer.due = due if due <= LAST_INSTANT else NEVER

    def _place(self, moment: "_Moment", scheme: Scheme) -> Position:
        """Bring the customer's standing in a scheme up to the moment, emitting every change on the way."""
        qualified = qualified_rank(scheme, moment.facts, moment.at)
        standing = moment.customer.standings.get(scheme.name)
        if standing is None or standing.tier not in scheme.ranks:
            standing = moment.customer.standings.setdefault(scheme.name, Standing("", moment.at))
            standing.below_since = None
            position = Position(qualified, None)
            self._move(moment, scheme, standing, None, position)
            return position
        position = Position(scheme.ranks[standing.tier], standing.below_since)
        while (moved := settle(scheme, position, qualified, moment.at)) != position:
            if moved.rank != position.rank:
                self._move(moment, scheme, standing, position.rank, moved)
            standing.below_since = moved.below_since
            position = moved
        return position

    def _move(
        self, moment: "_Moment", scheme: Scheme, standing: Standing, before: int | None, position: Position
    ) -> None:
        facts, at, money = moment.facts, moment.at, self.policy.money
        old, new = standing.tier or None, scheme.tiers[position.rank].name
        direction: Direction = "enter" if before is None else "up" if position.rank > before else "down"
        standing.tier, standing.since, standing.sequence = new, at, standing.sequence + 1
        customer_id, version = moment.customer.customer_id, self.policy.version
        moment.decisions.changes.append(
            TierChange(
                event_id=event_id(customer_id, scheme.name, standing.sequence, old, new, at, version),
                customer_id=customer_id,
                scheme=scheme.name,
                from_tier=old,
                to_tier=new,
                direction=direction,
                effective_at=format_instant(at),
                decided_at=format_instant(moment.decided_at),
                sequence=standing.sequence,
                cause=moment.cause,
                policy_version=version,
                metrics=explain.metrics(scheme, facts, at, money),
                why=explain.whys(explain.why(scheme, before, position.rank, facts, at), money),
                next=explain.upcoming(scheme, position.rank, facts, at, money),
                at_risk=explain.at_risk(scheme, position, facts, at),
            )
        )

    def _facts(self, customer: Customer, at: int) -> Facts:
        profile = customer.profile
        since = customer.first_at if profile is None or profile.registered_at is None else profile.registered_at
        return Facts(customer.ledger, customer.contacts, at if since is None else since, self.policy.weights)


@dataclass(frozen=True, slots=True)
class _Moment:
    """One evaluation: whose, of what, as of when, because of what, decided when, told to whom."""

    customer: Customer
    facts: Facts
    at: int
    cause: Cause
    decided_at: int
    decisions: Decisions


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
