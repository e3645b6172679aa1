"""What came of actions, as it becomes known: delivered, opened, clicked, converted, each counted once an action.

For running metrics of rules with an `attribution`; the whole reckoning from files is `models.care.uplift`.
"""

from models.customer.state import Sent
from models.events import Campaign, Interaction, OrderPlaced, Pending
from models.outputs import Decisions
from models.policy.care_rules import Action

#: The interactions that answer an action, by the name of the outcome, in the order in which outcomes follow.
OUTCOMES = ("delivered", "opened", "clicked", "converted")
_BITS = {outcome: 1 << place for place, outcome in enumerate(OUTCOMES)}
_ANSWERS = {f"care.{outcome}": outcome for outcome in OUTCOMES}


def note_outcomes(log: list[Sent], event: Pending | Campaign, actions: dict[str, Action], decisions: Decisions) -> None:
    """Count what an event says about the actions in a customer's log.

    An answer names its action. An order, or an interaction of a kind that converts where the rule names some, converts
    every action of the rule whose attribution it lies within.
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
