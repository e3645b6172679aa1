"""Triggers on tiers (reached, lost, at risk, nearly reached), on conditions that begin to hold, and the welcome."""

from models.care.context import CareContext
from models.codegen.outlook import next_fall
from models.instants import LAST_INSTANT, format_instant
from models.outputs import TierChange, Why
from models.policy.care_rules import AtRiskRule, ConditionRule, NearUpgradeRule, TierMoveRule, WelcomeRule
from models.rules import explain
from models.rules.comparisons import Rule


def evaluate_tier_move(context: CareContext, rule: TierMoveRule) -> None:
    """Fire if this evaluation moved the customer in the rule's direction.

    Only the last of several moves at one instant counts: nobody is congratulated on a tier that is already lost.
    """
    scheme = rule.action.scheme
    moves = [move for move in context.moved if move.scheme == scheme]
    if moves and moves[-1].direction == rule.direction:
        last = moves[-1]
        sequence = context.customer.standings[scheme].sequence
        why = last.why if isinstance(last, TierChange) else []  # a `Move` has no explanation
        context.fire(rule.action, f"{sequence}@{format_instant(context.at)}", why)


def evaluate_at_risk(context: CareContext, rule: AtRiskRule) -> int | None:
    """Fire once a fall by time alone is at most `ahead` away. Return the instant (ms) of that; None if none."""
    action, at = rule.action, context.at
    mark = context.customer.marks.get(action.rule)
    falls_at = _fall(context, rule)
    if falls_at is None or at < falls_at - rule.ahead:
        if mark is not None:
            mark.holding = False
        return None if falls_at is None else falls_at - rule.ahead
    if mark is None or not mark.holding:
        context.mark(action).holding = True
        context.fire(action, format_instant(falls_at))
    return None


def _fall(context: CareContext, rule: AtRiskRule) -> int | None:
    evaluation = context.evaluation
    scheme = next((scheme for scheme in context.policy.schemes if scheme.name == rule.action.scheme), None)
    tier = context.tier(rule.action)
    if scheme is None or (rule.action.tiers is not None and tier not in rule.action.tiers):
        return None
    _, position = evaluation.standing(scheme)
    if position is None:
        return None
    outlook = context.policy.outlooks[scheme.name]
    fall = next_fall(outlook, position, evaluation.facts, context.at, context.policy.zone)
    return None if fall is None else fall[1]


def evaluate_near_upgrade(context: CareContext, rule: NearUpgradeRule, near: int) -> None:
    """Fire when the eased rule of a tier above the held one begins to hold. `near` is the highest such rank, or 0."""
    action = rule.action
    scheme = next(scheme for scheme in context.policy.schemes if scheme.name == action.scheme)
    held = scheme.ranks.get(context.tier(action) or "", 0)
    mark = context.customer.marks.get(action.rule)
    reaches = near if near > held else 0
    before = 0 if mark is None else int(mark.holding)
    if reaches == before:
        return
    context.mark(action).holding = reaches
    if reaches > before:
        occasion = f"{reaches}@{format_instant(context.at)}"
        context.fire(action, occasion, _whys(context, rule.near[reaches - 1]), next=scheme.tiers[reaches].name)


def evaluate_condition(context: CareContext, rule: ConditionRule, holds: int) -> None:
    """Fire when a condition begins to hold. `holds` is 1 if it holds, else 0."""
    mark = context.customer.marks.get(rule.action.rule)
    if mark is None and not holds:
        return
    mark = context.mark(rule.action)
    if holds and not mark.holding:
        mark.occasion = context.at
        context.fire(rule.action, str(context.at), _whys(context, rule.rule))
    mark.holding = bool(holds)


def evaluate_welcome(context: CareContext, rule: WelcomeRule) -> int | None:
    """Fire once. Return the instant (ms) at which the wait after the registration ends; None if it does not matter."""
    action, customer, at = rule.action, context.customer, context.at
    if action.rule in customer.marks:
        return None
    times = customer.ledger.times
    if rule.after_order:
        begun = times[0] if times else None
    else:
        profile = customer.profile
        registered = None if profile is None else profile.registered_at
        if times or registered is None:
            return None
        begun = registered + rule.wait
    if begun is None:
        return None
    if at < begun:
        return begun if begun <= LAST_INSTANT else None
    mark = context.mark(action)
    mark.occasion = begun
    if at <= begun + action.valid_for:  # a new rule does not welcome long-standing customers
        context.fire(action, "welcome")
    return None


def _whys(context: CareContext, rule: Rule) -> list[Why]:
    return explain.whys(rule.decisive(context.evaluation.readings), context.policy.money)
