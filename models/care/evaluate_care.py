"""Care at one evaluation: run the rules, release deferred actions, govern all of them, find the next due instant."""

from collections.abc import Callable, Sequence
from typing import Any

from models.care.budgets import BudgetShare
from models.care.context import Candidate, CareContext
from models.care.date_triggers import evaluate_dated
from models.care.event_triggers import evaluate_campaign, evaluate_interaction
from models.care.governance import govern, released
from models.care.outcomes import note_outcomes
from models.care.silence_triggers import churn_anchor, evaluate_churn, evaluate_silence, silence_anchor
from models.care.tier_triggers import (
    evaluate_at_risk,
    evaluate_condition,
    evaluate_near_upgrade,
    evaluate_tier_move,
    evaluate_welcome,
)
from models.customer.state import Care, DeferredAction
from models.events import Campaign, Pending
from models.outputs import Decisions, Move, TierChange
from models.policy.care_rules import (
    AnniversaryRule,
    AtRiskRule,
    BirthdayRule,
    CalendarRule,
    CampaignRule,
    CareRule,
    ChurnRule,
    ConditionRule,
    HolidayRule,
    InteractionRule,
    NearUpgradeRule,
    Refusal,
    SilenceRule,
    TierMoveRule,
    WelcomeRule,
)
from models.policy.evaluation import Evaluation

#: Rules that run at every evaluation; each returns the next instant (ms) at which to run it, None if there is none.
_EVALUATE: dict[type, Callable[[CareContext, Any], int | None]] = {
    BirthdayRule: evaluate_dated,
    AnniversaryRule: evaluate_dated,
    HolidayRule: evaluate_dated,
    CalendarRule: evaluate_dated,
    AtRiskRule: evaluate_at_risk,
    WelcomeRule: evaluate_welcome,
    ChurnRule: evaluate_churn,
    SilenceRule: evaluate_silence,
}
#: Rules that run only if there is an event or a tier change.
_EVALUATE_EVENT: dict[type, Callable[[CareContext, Any], None]] = {
    TierMoveRule: evaluate_tier_move,
    InteractionRule: evaluate_interaction,
    CampaignRule: evaluate_campaign,
}
#: Rules over gauges; each takes the rank of its ladder.
_EVALUATE_RANK: dict[type, Callable[[CareContext, Any, int], None]] = {
    ConditionRule: evaluate_condition,
    NearUpgradeRule: evaluate_near_upgrade,
}


def evaluate_care(
    evaluation: Evaluation,
    ranks: Sequence[int],
    moved: Sequence[TierChange | Move],
    event: Pending | Campaign | None,
    decisions: Decisions,
    budget: BudgetShare | None,
) -> int | None:
    """Run the care rules at an evaluation. Return the next instant (ms) at which one may be due; None if there is none.

    `ranks` holds the rank of each rule that has a ladder, in the order of the rules; the generated function that
    computed them also says when they may next change. `moved` holds the tier changes of this evaluation. `event` is
    what caused it, if anything. `budget` is what actions may spend; None means that budgets are not counted.
    """
    context, ladders = CareContext(evaluation, moved, event, budget), iter(ranks)
    instants = []
    for rule in context.policy.care:
        kind = type(rule)
        if kind in _EVALUATE:
            due = _EVALUATE[kind](context, rule)
            if due is not None:
                instants.append(due)
        elif kind in _EVALUATE_RANK:
            _EVALUATE_RANK[kind](context, rule, next(ladders))
        elif event is not None or moved:
            _EVALUATE_EVENT[kind](context, rule)
    if context.customer.care is not None:
        _remember(context, context.customer.care, decisions)
    if context.candidates:
        govern(context, context.candidates, decisions)
    care = context.customer.care
    if care is not None:
        instants += [held.due for held in care.held]
        if not (care.held or care.log or care.seen):
            context.customer.care = None
    return min(instants) if instants else None


def _remember(context: CareContext, care: Care, decisions: Decisions) -> None:
    """Forget what nothing asks for any more, note outcomes, and release the deferred actions that are due."""
    since = context.at - context.policy.governance.memory
    if care.log and care.log[0].at <= since:
        care.log = [sent for sent in care.log if sent.at > since]
    if care.log and context.event is not None:
        note_outcomes(care.log, context.event, context.policy.actions, decisions)
    if not care.held:
        return
    due = [held for held in care.held if held.due <= context.at]
    care.held = [held for held in care.held if held.due > context.at]
    for held in due:
        candidate = _release(context, held)
        if candidate is None:
            decisions.refuse(held.rule, Refusal.OUTDATED)
        else:
            context.candidates.append(candidate)


def _release(context: CareContext, held: DeferredAction) -> Candidate | None:
    """Return the candidate of a deferred action; None if its reason no longer holds."""
    rule = next((rule for rule in context.policy.care if rule.action.rule == held.rule), None)
    if rule is None or _is_outdated(context, rule, held):
        return None
    return released(held, rule.action)


def _is_outdated(context: CareContext, rule: CareRule, held: DeferredAction) -> bool:
    if isinstance(rule, ConditionRule | NearUpgradeRule):
        mark = context.customer.marks.get(rule.action.rule)
        return mark is None or not mark.holding
    if isinstance(rule, TierMoveRule | AtRiskRule):
        return context.tier(rule.action) != held.tier
    if isinstance(rule, ChurnRule):
        return (churn_anchor(context) or 0) > (held.anchor or 0)
    if isinstance(rule, SilenceRule):
        return (silence_anchor(context, rule) or 0) > (held.anchor or 0)
    tiers = rule.action.tiers
    return tiers is not None and context.tier(rule.action) not in tiers
