"""Governance: which proposed actions go out now, which wait, and which are refused.

Each proposed action is checked in this order: consent, validity, quiet hours, exclusion groups, cool-downs, caps,
budgets. At one instant, actions of higher priority come first. A refused action is counted and never caught up on; only
quiet hours defer. A held-out action passes the same checks but spends nothing.
"""

from collections.abc import Iterable

from models.care.context import Candidate, CareContext
from models.care.quiet_hours import is_quiet, quiet_end
from models.customer.state import Care, Customer, DeferredAction, Sent
from models.identity import event_id, id64
from models.instants import format_instant
from models.outputs import CareAction, Decisions, Why
from models.policy.care_rules import MILLION, Action, Governance, Refusal

#: The largest number of a customer's actions that wait for quiet hours to end; further ones are refused.
MAX_HELD = 64
#: The largest number of a customer's actions that are remembered; caps cannot count more, so further ones are refused.
MAX_LOG = 1_000


def govern(context: CareContext, candidates: Iterable[Candidate], decisions: Decisions) -> None:
    """Emit, defer or refuse each candidate, highest priority first; equals in the order of their rules."""
    places = {rule.action.rule: place for place, rule in enumerate(context.policy.care)}
    for candidate in sorted(candidates, key=lambda c: (-c.action.priority, places[c.action.rule], c.since)):
        refusal = _settle(context, candidate, decisions)
        if refusal is not None:
            decisions.refuse(candidate.action.rule, refusal)


def _settle(context: CareContext, candidate: Candidate, decisions: Decisions) -> Refusal | None:
    """Emit or defer a candidate and return None, or return why it is refused."""
    action, at, governance = candidate.action, context.at, context.policy.governance
    expires = candidate.since + action.valid_for
    channel = consented_channel(context.customer, action, context.tier(action))
    if channel is None:
        return Refusal.WITHOUT_CONSENT
    if at > expires:
        return Refusal.EXPIRED
    if governance.quiet is not None and action.to_customer and is_quiet(governance.quiet, channel, at, context.zone):
        end = quiet_end(governance.quiet, channel, at, context.zone)
        return _defer(context, candidate, end, decisions) if end <= expires else Refusal.EXPIRED
    refusal = _restraint(context.customer, action, at, governance)
    if refusal is not None:
        return refusal
    budgets = [budget for budget in governance.budgets if budget.covers(context.tier(action), action.kind)]
    holdout = is_held_out(context.customer.customer_id, action)
    action_id = event_id(context.customer.customer_id, action.rule, candidate.occasion)
    budget_share = context.budget if budgets else None
    # A held-out action spends nothing but is refused like the others, so that both groups stay comparable.
    if budget_share is not None and not budget_share.pays(
        budgets, action, action_id, at, context.policy.zone, spends=not holdout
    ):
        return Refusal.OVER_BUDGET
    _emit(context, candidate, action_id, channel, holdout, decisions)
    return None


def _defer(context: CareContext, candidate: Candidate, end: int, decisions: Decisions) -> Refusal | None:
    customer = context.customer
    if customer.care is None:
        customer.care = Care()
    if len(customer.care.held) >= MAX_HELD:
        return Refusal.CROWDED
    why = [(why.metric, why.value, why.op, why.threshold, why.met) for why in candidate.why]
    customer.care.held.append(
        DeferredAction(
            end,
            candidate.action.rule,
            candidate.occasion,
            candidate.since,
            why,
            candidate.template,
            candidate.tier,
            candidate.anchor,
        )
    )
    decisions.counts["care_deferred"] += 1
    return None


def consented_channel(customer: Customer, action: Action, tier: str | None) -> str | None:
    """Return the first of the action's channels through which the customer may be addressed; None if there is none.

    Consent must have been given and not withdrawn since. If it names channels, it must name this one.
    """
    channels = action.channels_of(tier)
    if not action.needs_consent:
        return channels[0]
    profile = customer.profile
    if profile is None or profile.consent is None or not profile.consent.marketing:
        return None
    withdrawn = customer.unsubscribed_at
    if withdrawn is not None and (profile.updated_at is None or profile.updated_at <= withdrawn):
        return None
    allowed = profile.consent.channels
    return next((name for name in channels if allowed is None or name in allowed or name.lower() in allowed), None)


def is_held_out(customer_id: str, action: Action) -> bool:
    """Whether a customer is in the hold-out of a rule. A hash of both decides, so the answer never changes."""
    return action.holdout > 0 and id64(f"holdout\x1f{action.rule}\x1f{customer_id}") % MILLION < action.holdout


def _restraint(customer: Customer, action: Action, at: int, governance: Governance) -> Refusal | None:
    """Return why the customer's earlier actions rule out another one at an instant (ms); None if they do not."""
    log = [] if customer.care is None else customer.care.log
    if not log:
        return None
    if len(log) >= MAX_LOG and governance.remembers(action):
        return Refusal.CROWDED
    if action.group is not None:
        apart = governance.apart[action.group]
        members = governance.members[action.group]
        if any(sent.rule in members and (at - sent.at < apart or sent.at == at) for sent in log):
            return Refusal.EXCLUDED
    if action.cooldown and any(sent.rule == action.rule and at - sent.at < action.cooldown for sent in log):
        return Refusal.COOLING_DOWN
    if action.to_customer:
        for cap in governance.caps:
            if cap.kinds is not None and action.kind not in cap.kinds:
                continue
            counted = sum(
                at - sent.at < cap.per
                and sent.rule not in governance.staff
                and (cap.kinds is None or sent.kind in cap.kinds)
                for sent in log
            )
            if counted >= cap.at_most:
                return Refusal.CAPPED
    return None


def _emit(
    context: CareContext, candidate: Candidate, action_id: str, channel: str, holdout: bool, decisions: Decisions
) -> None:
    action, customer, at = candidate.action, context.customer, context.at
    tier = context.tier(action)
    decisions.actions.append(
        CareAction(
            action_id=action_id,
            rule=action.rule,
            kind=action.kind,
            customer_id=customer.customer_id,
            tier=tier,
            channel=channel,
            template=candidate.template,
            locale=None if customer.profile is None else customer.profile.locale,
            due_at=format_instant(at),
            expires_at=format_instant(candidate.since + action.valid_for),
            priority=action.priority,
            holdout=holdout,
            why=candidate.why,
            policy_version=context.policy.version,
        )
    )
    if context.policy.governance.remembers(action):
        if customer.care is None:
            customer.care = Care()
        customer.care.log.append(Sent(at, action.rule, action.kind, id64(action_id), tier, holdout))


def released(held: DeferredAction, action: Action) -> Candidate:
    """Return the candidate that was deferred."""
    why = [Why(*fields) for fields in held.why]
    return Candidate(action, held.occasion, held.since, why, held.template, held.tier, held.anchor)
