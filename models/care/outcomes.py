"""Outcomes of actions as they become known: delivered, opened, clicked, converted, each counted once per action.

They feed the live metrics of rules that have an `attribution`. `models.care.uplift` computes the effect from files.
"""

from models.customer.state import Sent
from models.events import Campaign, Interaction, OrderPlaced, Pending
from models.outputs import Decisions
from models.policy.care_rules import Action

#: The outcomes in the order in which they follow one another; `care.<outcome>` is the interaction that reports it.
OUTCOMES = ("delivered", "opened", "clicked", "converted")
_BITS = {outcome: 1 << place for place, outcome in enumerate(OUTCOMES)}
_ANSWERS = {f"care.{outcome}": outcome for outcome in OUTCOMES}


def note_outcomes(log: list[Sent], event: Pending | Campaign, actions: dict[str, Action], decisions: Decisions) -> None:
    """Count what an event says about the actions in a customer's log.

    An answer names its action. An order converts every action in whose attribution window it lies. If the rule names
    kinds of interactions that convert, those convert instead of orders.
    """
    if type(event) is OrderPlaced:
        answered, kind = None, None
    elif type(event) is Interaction:
        answered, kind = event.action, event.kind
    else:
        return
    for sent in log:
        action = actions.get(sent.rule)
        if action is None or not action.attribution or not 0 <= event.at - sent.at <= action.attribution:
            continue
        responds = kind in action.converts if action.converts else kind is None
        outcome = "converted" if responds else None
        if kind in _ANSWERS and answered == sent.action:
            outcome = _ANSWERS[kind]
        if outcome is not None and not sent.outcomes & _BITS[outcome]:
            sent.outcomes |= _BITS[outcome]
            decisions.outcomes[sent.rule, sent.tier or "", sent.holdout, outcome] += 1
