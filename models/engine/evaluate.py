"""One evaluation of a customer as of an instant: tier changes, care actions and the next due instant.

`models.engine.decide` says when to evaluate; this module says what follows. One generated function answers all rules.
The explanation of a change is computed only if there is a change.
"""

from functools import lru_cache

import msgspec

from models.care.budgets import BudgetShare
from models.care.evaluate_care import evaluate_care
from models.codegen.outlook import at_risk
from models.customer.state import NEVER, Customer, Standing
from models.events import Campaign, OrderCancelled, OrderRefunded, Pending
from models.identity import event_id
from models.instants import LAST_INSTANT, format_instant
from models.outputs import Cause, Decisions, Direction, Move, TierChange
from models.policy.evaluation import Evaluation, facts_of
from models.policy.timeline import Timeline
from models.rules.hysteresis import Position, fall_instant, is_taken_back, settle
from models.rules.scheme import Scheme

#: A whole batch is decided at one instant, so its text is formatted once.
_text_of_now = lru_cache(maxsize=8)(format_instant)
#: Causes other than an event.
_BY_TIME = frozenset({"time", "policy"})
#: Events that take back what an order earned.
_RETURNS = frozenset({OrderRefunded, OrderCancelled})


class DecisionContext(msgspec.Struct, gc=False):
    """What all decisions of one call to the engine have in common.

    Results go to `decisions`. `now` (ms) becomes `decided_at`; None: each decision's own instant. `budget` is what care
    may spend; None means that budgets are not counted.
    """

    decisions: Decisions
    now: int | None = None
    budget: BudgetShare | None = None


def evaluate(
    customer: Customer,
    timeline: Timeline,
    at: int,
    cause: Cause,
    context: DecisionContext,
    event: Pending | Campaign | None = None,
) -> None:
    """Evaluate a customer as of an instant (ms), which becomes their cursor, and set their next due instant.

    `event` is the event or campaign that caused the evaluation, if any; care rules read it.
    """
    policy, decisions = timeline.at(at), context.decisions
    customer.cursor = at
    customer.timeline = timeline.fingerprint
    if customer.policy_version != policy.version:
        customer.forget_due()
        customer.policy_version = policy.version
    if customer.interactions.times:
        customer.interactions.forget_until(at - timeline.horizon)
    facts, evaluation = facts_of(customer, policy, at), None
    ranks, due = policy.evaluate_rules(facts, at)
    standings, moved = customer.standings, decisions.changes if decisions.moves is None else decisions.moves
    moved_before = len(moved)
    for (scheme, name, tiers), qualified in zip(policy.ladders, ranks):  # noqa: B905  # `strict=` costs 0.15 µs an event
        standing = standings.get(name)
        if standing is None or standing.below_since is not None or tiers[qualified] != standing.tier:
            evaluation = evaluation or Evaluation(customer, policy, at, facts)
            falls = _place(_ChangeCause(evaluation, cause, context, event), scheme, qualified)
            if falls is not None and falls < due:
                due = falls
    if policy.care:
        evaluation = evaluation or Evaluation(customer, policy, at, facts)
        care_ranks = ranks[len(policy.schemes) :]
        care_due = evaluate_care(evaluation, care_ranks, moved[moved_before:], event, decisions, context.budget)
        if care_due is not None and care_due < due:
            due = care_due
    changes = timeline.changes_after(at, late=cause not in _BY_TIME)
    if changes is not None and changes < due:
        due = changes
    customer.due = due if due <= LAST_INSTANT else NEVER


class _ChangeCause(msgspec.Struct, frozen=True, gc=False):
    """What all changes of one evaluation have in common."""

    evaluation: Evaluation
    cause: Cause
    context: DecisionContext
    event: Pending | Campaign | None = None


def _place(why: _ChangeCause, scheme: Scheme, qualified: int) -> int | None:
    """Bring the customer's standing in a scheme up to the instant and record every change on the way.

    Return the instant (ms) at which the customer falls if they stay below their tier; None if they are not below it.
    """
    evaluation = why.evaluation
    at, since, zone = evaluation.at, evaluation.facts.since, evaluation.policy.zone
    standing, position = evaluation.standing(scheme)
    if standing is None:
        standing = evaluation.customer.standings[scheme.name] = Standing("", at)
    if position is None or qualified >= position.rank:  # a rise is immediate: no demotion rule applies
        if position is None or qualified != position.rank:
            _move(why, scheme, standing, position.rank if position else None, Position(qualified, at, None))
        standing.below_since = None
        return None
    if type(why.event) in _RETURNS and is_taken_back(scheme.demotion, position, qualified):
        _move(why, scheme, standing, position.rank, Position(qualified, at, None))
        return None
    while (moved := settle(scheme.demotion, position, qualified, at, since, zone)) != position:
        if moved.rank != position.rank:
            _move(why, scheme, standing, position.rank, moved)
        standing.below_since = moved.below_since
        position = moved
    return fall_instant(scheme.demotion, position, since, zone)


def _move(why: _ChangeCause, scheme: Scheme, standing: Standing, before: int | None, position: Position) -> None:
    evaluation, cause, context, at = why.evaluation, why.cause, why.context, why.evaluation.at
    policy, decisions = evaluation.policy, context.decisions
    old, new = standing.tier or None, scheme.tiers[position.rank].name
    direction: Direction = "enter" if before is None else "up" if position.rank > before else "down"
    standing.tier, standing.since, standing.below_since = new, at, position.below_since
    standing.sequence += 1
    if decisions.moves is not None:
        decisions.moves.append(Move(scheme.name, old, new, direction, at))
        return
    metrics, reasons, upcoming = policy.change_details[scheme.name].of(before, position.rank)(evaluation.facts, at)
    customer_id, effective_at = evaluation.customer.customer_id, format_instant(at)
    decisions.changes.append(
        TierChange(
            event_id=event_id(customer_id, scheme.name, standing.sequence, old, new, at, policy.version),
            customer_id=customer_id,
            scheme=scheme.name,
            from_tier=old,
            to_tier=new,
            direction=direction,
            effective_at=effective_at,
            decided_at=effective_at if context.now is None else _text_of_now(context.now),
            sequence=standing.sequence,
            cause=cause,
            policy_version=policy.version,
            metrics=metrics,
            why=reasons,
            next=upcoming,
            at_risk=at_risk(policy.outlooks[scheme.name], position, evaluation.facts, at, policy.zone),
        )
    )
