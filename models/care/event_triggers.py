"""Triggers on events: interactions, such as a complaint, a low score or a referral, and campaigns."""

from models.care.context import CareContext
from models.customer.state import Customer
from models.events import Campaign, Interaction
from models.outputs import Why
from models.policy.care_rules import CampaignRule, InteractionRule
from models.policy.compiled import Policy


def evaluate_interaction(context: CareContext, rule: InteractionRule) -> None:
    """Fire if the event is an interaction of the rule's kind and its value lies within the bounds."""
    event = context.event
    if type(event) is not Interaction or event.kind != rule.interaction:
        return
    if event.interaction not in context.customer.interactions.ids:
        return  # older than what is remembered: it may have been handled long ago
    bounds = [("<=", rule.at_most), (">=", rule.at_least)]
    given = [(op, bound) for op, bound in bounds if bound is not None]
    value = event.value
    if given and value is None:
        return
    if value is not None and not all(value <= bound if op == "<=" else value >= bound for op, bound in given):
        return
    why = [Why(rule.interaction, (value or 0) / 1000, op, bound / 1000, True) for op, bound in given]
    context.fire(rule.action, f"{event.interaction:016x}", why)


def evaluate_campaign(context: CareContext, rule: CampaignRule) -> None:
    """Fire if the event is a campaign on one of the rule's subjects. The caller has checked `is_addressed`."""
    event = context.event
    if type(event) is Campaign and event.subject in rule.subjects:
        context.fire(rule.action, event.campaign, campaign=event.campaign, subject=event.subject)


def is_addressed(customer: Customer, policy: Policy, campaign: Campaign) -> bool:
    """Whether some rule handles a campaign's subject and the campaign addresses this customer."""
    if campaign.subject not in policy.campaign_subjects or customer.cursor is None:
        return False
    if campaign.tiers and not any(standing.tier in campaign.tiers for standing in customer.standings.values()):
        return False
    attributes = {} if customer.profile is None else customer.profile.attributes
    return all(_texts(attributes.get(name)) & set(values) for name, values in campaign.attributes.items())


def _texts(value: object) -> set[str]:
    """Return an attribute's value, or the values in its list, as texts."""
    if value is None:
        return set()
    return {str(part) for part in value} if isinstance(value, list) else {str(value)}
