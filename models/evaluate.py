"""One evaluation: a customer as of an instant, every scheme brought up to it, every change told, the next due instant.

`models.engine` says when; here it is decided what. Readings are taken once and shared by all rules.
"""

from dataclasses import dataclass
from typing import Any

from models import care, explain
from models.customer import NEVER, Customer, Standing
from models.identity import event_id
from models.instants import LAST_INSTANT, format_instant
from models.metrics import Facts, Reading
from models.outputs import Cause, Decisions, Direction, TierChange
from models.policy import Policy, Timeline
from models.schemes import Scheme
from models.tiering import Position, fall_instant, qualified_rank, settle


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A customer's facts and readings as of an instant (ms), under the version of the policy that holds then."""

    customer: Customer
    policy: Policy
    facts: Facts
    readings: list[Reading]
    at: int

    @classmethod
    def of(cls, customer: Customer, policy: Policy, at: int) -> "Evaluation":
        """Take every reading that the policy's rules and events look at."""
        profile = customer.profile
        since = customer.first_at if profile is None or profile.registered_at is None else profile.registered_at
        facts = Facts(customer.ledger, customer.contacts, at if since is None else since, policy.weights)
        return cls(
            customer, policy, facts, [gauge.metric.value(facts, at, gauge.window) for gauge in policy.gauges], at
        )

    def shown(self) -> dict[str, Any]:
        """Return the metrics of all schemes; where two show one, the first scheme's window wins."""
        shown: dict[str, Any] = {}
        for scheme in reversed(self.policy.schemes):
            shown |= explain.metrics(scheme, self.policy, self.readings)
        return shown

    def standing(self, scheme: Scheme) -> tuple[Standing | None, Position | None]:
        """Return how the customer stands in a scheme; (None, None) before any evaluation of it."""
        standing = self.customer.standings.get(scheme.name)
        if standing is None or standing.tier not in scheme.ranks:
            return standing, None
        return standing, Position(scheme.ranks[standing.tier], standing.since, standing.below_since)


def evaluate(
    customer: Customer, timeline: Timeline, at: int, cause: Cause, decisions: Decisions, now: int | None
) -> None:
    """Evaluate a customer as of an instant (ms), which becomes their cursor; `now` (ms) is told as `decided_at`."""
    policy = timeline.at(at)
    customer.cursor = at
    customer.timeline = timeline.fingerprint
    if customer.policy_version != policy.version:
        customer.forget_due()
        customer.policy_version = policy.version
    if customer.contacts.times:
        customer.contacts.forget_until(at - timeline.horizon)
    evaluation = Evaluation.of(customer, policy, at)
    telling = _Telling(evaluation, cause, at if now is None else now, decisions)
    facts = evaluation.facts
    instants = [gauge.metric.next_change(facts, at, gauge.window, gauge.edges) for gauge in policy.moving]
    for scheme in policy.schemes:
        position = _place(telling, scheme)
        instants.append(fall_instant(scheme.demotion, position, facts.since, policy.zone))
    instants.append(care.attend(customer, policy, evaluation.readings, at, decisions))
    instants.append(timeline.next_start(at))
    due = min((instant for instant in instants if instant is not None), default=NEVER)
    customer.due = due if due <= LAST_INSTANT else NEVER


@dataclass(frozen=True, slots=True)
class _Telling:
    """What every change of one evaluation has in common."""

    evaluation: Evaluation
    cause: Cause
    decided_at: int
    decisions: Decisions


def _place(telling: _Telling, scheme: Scheme) -> Position:
    """Bring the customer's standing in a scheme up to the instant, telling every change on the way."""
    evaluation = telling.evaluation
    at, since, zone = evaluation.at, evaluation.facts.since, evaluation.policy.zone
    qualified = qualified_rank(scheme, evaluation.readings)
    standing, position = evaluation.standing(scheme)
    if standing is None:
        standing = evaluation.customer.standings[scheme.name] = Standing("", at)
    if position is None:
        position = Position(qualified, at, None)
        _move(telling, scheme, standing, None, position)
        return position
    while (moved := settle(scheme.demotion, position, qualified, at, since, zone)) != position:
        if moved.rank != position.rank:
            _move(telling, scheme, standing, position.rank, moved)
        standing.below_since = moved.below_since
        position = moved
    return position


def _move(telling: _Telling, scheme: Scheme, standing: Standing, before: int | None, position: Position) -> None:
    evaluation = telling.evaluation
    policy, at, readings = evaluation.policy, evaluation.at, evaluation.readings
    old, new = standing.tier or None, scheme.tiers[position.rank].name
    direction: Direction = "enter" if before is None else "up" if position.rank > before else "down"
    standing.tier, standing.since, standing.below_since = new, at, position.below_since
    standing.sequence += 1
    customer_id = evaluation.customer.customer_id
    telling.decisions.changes.append(
        TierChange(
            event_id=event_id(customer_id, scheme.name, standing.sequence, old, new, at, policy.version),
            customer_id=customer_id,
            scheme=scheme.name,
            from_tier=old,
            to_tier=new,
            direction=direction,
            effective_at=format_instant(at),
            decided_at=format_instant(telling.decided_at),
            sequence=standing.sequence,
            cause=telling.cause,
            policy_version=policy.version,
            metrics=explain.metrics(scheme, policy, readings),
            why=explain.whys(explain.why(scheme, before, position.rank, readings), policy.money),
            next=explain.upcoming(scheme, position.rank, readings, policy.money),
            at_risk=explain.at_risk(scheme, policy, position, evaluation.facts, at),
        )
    )
