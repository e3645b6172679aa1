"""The effect of care: answers to actions, conversions, and whether contacted customers bought more than the held-out.

Sent actions are counted one by one. The comparison counts each customer once, by their first action (of the rule, or of
the rule in the tier), and only if its attribution window is over. Actions of one customer are not independent, and open
windows would make late actions look bad.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from models.care.outcomes import OUTCOMES
from models.care.statistics import Contrast, contrast
from models.instants import DAY_MS

#: The attribution window (ms) of rules that do not state one.
ATTRIBUTION = 30 * DAY_MS


class Acted(NamedTuple):
    """An action as the comparison sees it. `due_at` is in ms; `tier` is empty if the customer held none."""

    action: str
    rule: str
    tier: str
    customer: str
    due_at: int
    holdout: bool


@dataclass(slots=True)
class Conduct:
    """What a customer did: instants (ms) of counted orders, ascending, and of interactions by kind."""

    orders: Sequence[int] = ()
    interactions: dict[str, list[int]] = field(default_factory=dict)


class Attribution(NamedTuple):
    """How a rule's effect is measured: the window (ms) and the kinds of interactions that convert. No kinds: orders."""

    attribution: int
    converts: frozenset[str]


class Uplift(msgspec.Struct, frozen=True):
    """The effect of a rule on the customers of a tier, or on all (`tier` None). Answers count sent actions.

    `repurchase` compares orders within the attribution window. `conversion` compares the interactions that convert; if
    the rule names none, it equals `repurchase`. `open` counts customers whose window is not over yet.
    """

    rule: str
    tier: str | None
    sent: int
    held_out: int
    delivered: int
    opened: int
    clicked: int
    converted: int
    open: int
    repurchase: Contrast
    conversion: Contrast


def uplift(
    actions: Iterable[Acted],
    answers: Mapping[str, frozenset[str]],
    conducts: Mapping[str, Conduct],
    measures: Mapping[str, Attribution],
    until: int,
) -> list[Uplift]:
    """Return the effect of each rule, over all tiers and by tier, as of `until` (ms).

    `answers` holds the reported outcomes by action id, `conducts` what each customer did. `measures` is by rule; a rule
    without one is measured by orders within 30 days.
    """
    groups: dict[tuple[str, str | None], list[Acted]] = {}
    for acted in sorted(actions, key=lambda acted: (acted.due_at, acted.action)):
        groups.setdefault((acted.rule, None), []).append(acted)
        groups.setdefault((acted.rule, acted.tier), []).append(acted)
    default = Attribution(ATTRIBUTION, frozenset())
    order = sorted(groups, key=lambda key: (key[0], key[1] is not None, key[1] or ""))
    return [
        _uplift(rule, tier, groups[rule, tier], answers, conducts, measures.get(rule, default), until)
        for rule, tier in order
    ]


def _uplift(
    rule: str,
    tier: str | None,
    group: list[Acted],
    answers: Mapping[str, frozenset[str]],
    conducts: Mapping[str, Conduct],
    measure: Attribution,
    until: int,
) -> Uplift:
    sent = [acted for acted in group if not acted.holdout]
    counts = dict.fromkeys(OUTCOMES, 0)
    for acted in sent:
        named = answers.get(acted.action, frozenset())
        if converts(acted, conducts, measure):
            named |= {"converted"}
        for outcome in named:
            counts[outcome] += 1
    first: dict[str, Acted] = {}
    for acted in group:
        first.setdefault(acted.customer, acted)
    over = [acted for acted in first.values() if acted.due_at + measure.attribution <= until]
    orders = Attribution(measure.attribution, frozenset())
    return Uplift(
        rule=rule,
        tier=tier,
        sent=len(sent),
        held_out=len(group) - len(sent),
        **counts,
        open=len(first) - len(over),
        repurchase=_contrast(over, conducts, orders),
        conversion=_contrast(over, conducts, measure),
    )


def _contrast(over: list[Acted], conducts: Mapping[str, Conduct], measure: Attribution) -> Contrast:
    tally = {False: [0, 0], True: [0, 0]}
    for acted in over:
        counted = tally[acted.holdout]
        counted[0] += converts(acted, conducts, measure)
        counted[1] += 1
    (treated, treated_of), (held, held_of) = tally[False], tally[True]
    return contrast((treated, treated_of), (held, held_of))


def converts(acted: Acted, conducts: Mapping[str, Conduct], measure: Attribution) -> bool:
    """Whether the customer did what the rule is measured by, after the action and within the attribution window."""
    conduct = conducts.get(acted.customer)
    if conduct is None:
        return False
    if not measure.converts:
        return _within(conduct.orders, acted.due_at, measure.attribution)
    known = (conduct.interactions.get(kind, ()) for kind in measure.converts)
    return any(_within(instants, acted.due_at, measure.attribution) for instants in known)


def _within(instants: Sequence[int], since: int, window: int) -> bool:
    """Whether one of some ascending instants lies in (since, since + window]."""
    index = bisect_right(instants, since)
    return index < len(instants) and instants[index] <= since + window
