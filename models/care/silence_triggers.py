"""Triggers on silence: churn against the customer's own rhythm, dormancy, no contact, call-backs.

Each measures from an *anchor*, the latest sign of life (ms). It remembers the anchor that it last fired for and the
level that it reached. A new sign of life starts it over; a withdrawn one (a cancelled order) does not. A rule skips
what has been due for longer than its actions are valid: a new rule does not write to everybody who left years ago.
"""

from fractions import Fraction

from models.care.context import CareContext
from models.instants import DAY_MS, LAST_INSTANT
from models.outputs import Why
from models.policy.care_rules import ChurnRule, SilenceRule
from models.rules.metrics import RHYTHM_GAPS, double_rhythm


def evaluate_churn(context: CareContext, rule: ChurnRule) -> int | None:
    """Fire the highest level that the silence has newly reached. Return the instant (ms) of the next; None if none."""
    anchor = churn_anchor(context)
    rhythm = None if anchor is None else _rhythm(context, rule)
    if anchor is None or rhythm is None:
        return None
    mark = context.customer.marks.get(rule.action.rule)
    reached = 0 if mark is None or mark.occasion is None or anchor > mark.occasion else int(mark.holding)
    top, bottom = rhythm
    due = [anchor - -multiple.numerator * top // (multiple.denominator * bottom) for _, multiple in rule.levels]
    level = sum(instant <= context.at for instant in due)
    if level > reached:
        mark = context.mark(rule.action)
        mark.occasion, mark.holding = max(anchor, mark.occasion or anchor), level
        name, multiple = rule.levels[level - 1]
        overdue = Fraction((context.at - anchor) * bottom, top)
        why = [Why("overdue", float(overdue), ">=", float(multiple), True)]
        if context.at <= due[level - 1] + rule.action.valid_for:
            context.fire(rule.action, f"{name}@{anchor}", why, anchor=anchor, level=name)
    level = max(level, reached)
    return due[level] if level < len(due) and due[level] <= LAST_INSTANT else None


def churn_anchor(context: CareContext) -> int | None:
    """Return the instant (ms) of the latest counted order; None if there is none."""
    times = context.customer.ledger.times
    return times[-1] if times else None


def _rhythm(context: CareContext, rule: ChurnRule) -> tuple[int, int] | None:
    """Return the rhythm as numerator and denominator (ms, at least a day); None if it is unknown.

    Own rhythm and prior are averaged by weight: shrinkage as in empirical Bayes (Efron and Morris, 1975), with the
    prior given by the policy.
    """
    double = double_rhythm(context.evaluation.facts)
    if rule.prior is not None:
        expected, weight = rule.prior
        gaps = 0 if double is None else min(RHYTHM_GAPS, len(context.customer.ledger.times) - 1)
        top = 2 * expected * weight.numerator + (double or 0) * gaps * weight.denominator
        bottom = 2 * (weight.numerator + gaps * weight.denominator)
    elif double is not None:
        top, bottom = double, 2
    else:
        return None
    return max((top, bottom), (DAY_MS * bottom, bottom))


def evaluate_silence(context: CareContext, rule: SilenceRule) -> int | None:
    """Fire if the silence has lasted long enough. Return the instant (ms) of the next firing; None if none."""
    action, at = rule.action, context.at
    if action.tiers is not None and context.tier(action) not in action.tiers:
        return None
    anchor = silence_anchor(context, rule)
    if anchor is None:
        return None
    mark = context.customer.marks.get(action.rule)
    fired = 0
    if mark is not None and mark.occasion is not None and anchor <= mark.occasion:
        anchor, fired = mark.occasion, int(mark.holding)
    passed = _passed(rule, anchor, at)
    if passed > fired:
        mark = context.mark(action)
        mark.occasion, mark.holding = anchor, passed
        fired = passed
        if at <= anchor + rule.after + (passed - 1) * rule.every + action.valid_for:
            context.fire(action, f"{passed}@{anchor}", anchor=anchor)
    if fired >= rule.times:
        return None
    due = anchor + rule.after + fired * rule.every
    return due if due <= LAST_INSTANT else None


def silence_anchor(context: CareContext, rule: SilenceRule) -> int | None:
    """Return the latest sign of life (ms) that ends a rule's silence; None if there was none."""
    customer = context.customer
    signs = []
    if rule.orders and customer.ledger.times:
        signs.append(customer.ledger.times[-1])
    if rule.contacts and customer.care is not None:
        signs += [instant for kind, instant in customer.care.seen.items() if kind in rule.contacts]
    if rule.tenure:
        signs.append(context.evaluation.facts.since)
    if rule.stay:
        standing = customer.standings.get(rule.action.scheme)
        if standing is not None:
            signs.append(standing.since)
    return max(signs, default=None)


def _passed(rule: SilenceRule, anchor: int, at: int) -> int:
    """Return how many times the rule is due by an instant (ms) after an anchor."""
    over = at - anchor - rule.after
    if over < 0:
        return 0
    return 1 if not rule.every else min(rule.times, 1 + over // rule.every)
