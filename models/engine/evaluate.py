"""One evaluation: a customer as of an instant, every scheme brought up to it, every change told, the next due instant.

`models.engine.decide` says when; here it is decided what. One look at the ledger answers for all rules; what explains a
change is asked only where there is one.
"""

from functools import lru_cache
from typing import NamedTuple

from models.care.evaluate_care import evaluate_care
from models.codegen.outlook import at_risk
from models.customer.state import NEVER, Customer, Standing
from models.events import Campaign, Pending
from models.identity import event_id
from models.instants import LAST_INSTANT, format_instant
from models.outputs import Cause, Decisions, Direction, Move, TierChange
from models.policy.evaluation import Evaluation
from models.policy.timeline import Timeline
from models.rules.hysteresis import Position, fall_instant, settle
from models.rules.scheme import Scheme

#: A whole batch is decided at one instant.
_text_of_now = lru_cache(maxsize=8)(format_instant)
#: Causes that no event brings.
_BY_TIME = frozenset({"time", "policy"})


def evaluate(
    customer: Customer,
    timeline: Timeline,
    at: int,
    cause: Cause,
    decisions: Decisions,
    now: int | None,
    event: Pending | Campaign | None = None,
) -> None:
    """Evaluate a customer as of an instant (ms), which becomes their cursor; `now` (ms) is told as `decided_at`.

    `event`: what the evaluation is about, where care is to know it.
    """
    policy = timeline.at(at)
    customer.cursor = at
    customer.timeline = timeline.fingerprint
    if customer.policy_version != policy.version:
        customer.forget_due()
        customer.policy_version = policy.version
    if customer.interactions.times:
        customer.interactions.forget_until(at - timeline.horizon)
    evaluation = Evaluation(customer, policy, at)
    ranks, due = policy.evaluate_rules(evaluation.facts, at)
    standings, moved = customer.standings, decisions.changes if decisions.moves is None else decisions.moves
    told = len(moved)
    for (scheme, name, tiers), qualified in zip(policy.ladders, ranks, strict=False):
        standing = standings.get(name)
        if standing is None or standing.below_since is not None or tiers[qualified] != standing.tier:
            falls = _place(_Telling(evaluation, cause, at if now is None else now, decisions), scheme, qualified)
            if falls is not None and falls < due:
                due = falls
    if policy.care:
        attended = evaluate_care(evaluation, ranks[len(policy.schemes) :], moved[told:], event, decisions)
        if attended is not None and attended < due:
            due = attended
    starts = timeline.next_start(at)
    if starts is not None and starts < due:
        due = starts
    if cause not in _BY_TIME and (again := timeline.catches_up(at)) is not None and again < due:
        due = again
    customer.due = due if due <= LAST_INSTANT else NEVER


class _Telling(NamedTuple):
    """What every change of one evaluation has in common."""

    evaluation: Evaluation
    cause: Cause
    decided_at: int
    decisions: Decisions


def _place(telling: _Telling, scheme: Scheme, qualified: int) -> int | None:
    """Bring the customer's standing in a scheme up to the instant, telling every change on the way.

    Returns when (ms) the customer falls if they stay below; None where they do not stand below.
    """
    evaluation = telling.evaluation
    at, since, zone = evaluation.at, evaluation.facts.since, evaluation.policy.zone
    standing, position = evaluation.standing(scheme)
    if standing is None:
        standing = evaluation.customer.standings[scheme.name] = Standing("", at)
    if position is None or qualified >= position.rank:  # up at once, without asking about any demotion
        if position is None or qualified != position.rank:
            _move(telling, scheme, standing, position and position.rank, Position(qualified, at, None))
        standing.below_since = None
        return None
    while (moved := settle(scheme.demotion, position, qualified, at, since, zone)) != position:
        if moved.rank != position.rank:
            _move(telling, scheme, standing, position.rank, moved)
        standing.below_since = moved.below_since
        position = moved
    return fall_instant(scheme.demotion, position, since, zone)


def _move(telling: _Telling, scheme: Scheme, standing: Standing, before: int | None, position: Position) -> None:
    evaluation = telling.evaluation
    policy, at = evaluation.policy, evaluation.at
    old, new = standing.tier or None, scheme.tiers[position.rank].name
    direction: Direction = "enter" if before is None else "up" if position.rank > before else "down"
    standing.tier, standing.since, standing.below_since = new, at, position.below_since
    standing.sequence += 1
    if telling.decisions.moves is not None:
        telling.decisions.moves.append(Move(scheme.name, old, new, direction, at))
        return
    metrics, why, upcoming = policy.change_details[scheme.name].of(before, position.rank)(evaluation.facts, at)
    customer_id, effective_at = evaluation.customer.customer_id, format_instant(at)
    decided_at = effective_at if telling.decided_at == at else _text_of_now(telling.decided_at)
    telling.decisions.changes.append(
        TierChange(
            event_id=event_id(customer_id, scheme.name, standing.sequence, old, new, at, policy.version),
            customer_id=customer_id,
            scheme=scheme.name,
            from_tier=old,
            to_tier=new,
            direction=direction,
            effective_at=effective_at,
            decided_at=decided_at,
            sequence=standing.sequence,
            cause=telling.cause,
            policy_version=policy.version,
            metrics=metrics,
            why=why,
            next=upcoming,
            at_risk=at_risk(policy.outlooks[scheme.name], position, evaluation.facts, at, policy.zone),
        )
    )
