"""Care at one evaluation: every rule asked, what was deferred released, all of it governed; and when to ask again."""

from collections.abc import Callable, Sequence
from typing import Any

from models.care.context import Candidate, Moment
from models.care.date_triggers import attend_dated
from models.care.event_triggers import attend_campaign, attend_interaction
from models.care.governance import govern, released
from models.care.outcomes import note_outcomes
from models.care.silence_triggers import attend_churn, attend_silence, churn_anchor, silence_anchor
from models.care.tier_triggers import (
    attend_at_risk,
    attend_condition,
    attend_near_upgrade,
    attend_tier_move,
    attend_welcome,
)
from models.customer.state import Care, Held
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

#: What each kind of rule does at an evaluation; it returns when (ms) it wants to be asked again, None if never.
_ATTEND: dict[type, Callable[[Moment, Any], int | None]] = {
    BirthdayRule: attend_dated,
    AnniversaryRule: attend_dated,
    HolidayRule: attend_dated,
    CalendarRule: attend_dated,
    AtRiskRule: attend_at_risk,
    WelcomeRule: attend_welcome,
    ChurnRule: attend_churn,
    SilenceRule: attend_silence,
}
#: Those that only events bring up.
_ATTEND_EVENT: dict[type, Callable[[Moment, Any], None]] = {
    TierMoveRule: attend_tier_move,
    InteractionRule: attend_interaction,
    CampaignRule: attend_campaign,
}
#: Those that stand on rules over gauges: they are told the rank of their ladder.
_ATTEND_RANK: dict[type, Callable[[Moment, Any, int], None]] = {
    ConditionRule: attend_condition,
    NearUpgradeRule: attend_near_upgrade,
}


def attend(
    evaluation: Evaluation,
    ranks: Sequence[int],
    moved: Sequence[TierChange | Move],
    event: Pending | Campaign | None,
    decisions: Decisions,
) -> int | None:
    """Fire what is due at an evaluation; return the next instant (ms) at which something may be, or None.

    `ranks`: of the ladder of each rule that has one, in their order; when these may next change is what the gauges of
    their comparisons say. `moved`: the tier changes of this evaluation, in full or in short; `event`: what it is about,
    if anything.
    """
    moment, ladders = Moment(evaluation, moved, event), iter(ranks)
    instants = []
    for rule in moment.policy.care:
        kind = type(rule)
        if kind in _ATTEND:
            due = _ATTEND[kind](moment, rule)
            if due is not None:
                instants.append(due)
        elif kind in _ATTEND_RANK:
            _ATTEND_RANK[kind](moment, rule, next(ladders))
        elif event is not None or moved:
            _ATTEND_EVENT[kind](moment, rule)
    if moment.customer.care is not None:
        _remember(moment, moment.customer.care, decisions)
    if moment.candidates:
        govern(moment, moment.candidates, decisions)
    care = moment.customer.care
    if care is not None:
        instants += [held.due for held in care.held]
        if not (care.held or care.log or care.seen):
            moment.customer.care = None
    return min(instants) if instants else None


def _remember(moment: Moment, care: Care, decisions: Decisions) -> None:
    """Forget what nothing asks for any more, and take up what has waited for long enough."""
    since = moment.at - moment.policy.governance.memory
    if care.log and care.log[0].at <= since:
        care.log = [sent for sent in care.log if sent.at > since]
    if care.log and moment.event is not None:
        note_outcomes(care.log, moment.event, moment.policy.actions, decisions)
    if not care.held:
        return
    due = [held for held in care.held if held.due <= moment.at]
    care.held = [held for held in care.held if held.due > moment.at]
    for held in due:
        candidate = _release(moment, held)
        if candidate is None:
            decisions.refuse(held.rule, Refusal.OUTDATED)
        else:
            moment.candidates.append(candidate)


def _release(moment: Moment, held: Held) -> Candidate | None:
    """Return a deferred action, None where what it was about no longer holds."""
    rule = next((rule for rule in moment.policy.care if rule.action.rule == held.rule), None)
    if rule is None or _is_outdated(moment, rule, held):
        return None
    return released(held, rule.action)


def _is_outdated(moment: Moment, rule: CareRule, held: Held) -> bool:
    if isinstance(rule, ConditionRule | NearUpgradeRule):
        mark = moment.customer.marks.get(rule.action.rule)
        return mark is None or not mark.holding
    if isinstance(rule, TierMoveRule | AtRiskRule):
        return moment.tier(rule.action) != held.tier
    if isinstance(rule, ChurnRule):
        return (churn_anchor(moment) or 0) > (held.anchor or 0)
    if isinstance(rule, SilenceRule):
        return (silence_anchor(moment, rule) or 0) > (held.anchor or 0)
    tiers = rule.action.tiers
    return tiers is not None and moment.tier(rule.action) not in tiers
