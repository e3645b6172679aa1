"""Hysteresis: up at once, down only after an uninterrupted stay below. Exact, and free of any policy text.

Small functions over a `Position`; `models.engine` drives them from instant to instant.
"""

from typing import NamedTuple

from models.metrics import Facts
from models.policy import Scheme


class Position(NamedTuple):
    """Where a customer is in a scheme: the held tier's index, and since when (ms) the qualified one is lower."""

    rank: int
    below_since: int | None


def qualified_rank(scheme: Scheme, facts: Facts, at: int) -> int:
    """Return the index of the highest tier whose rule holds as of an instant (ms)."""
    tiers = scheme.tiers
    for rank in range(len(tiers) - 1, 0, -1):
        rule = tiers[rank].rule
        if rule is not None and rule.holds(facts, at):
            return rank
    return 0


def settle(scheme: Scheme, position: Position, qualified: int, at: int) -> Position:
    """Return the position after one step at an instant (ms) with the qualified tier's index.

    Call again until nothing changes: with no grace, `step: one` falls several times at one instant.
    """
    rank, below_since = position
    if qualified >= rank:
        return Position(qualified, None)
    since = at if below_since is None else below_since
    if at - since < scheme.grace:
        return Position(rank, since)
    if scheme.step == "qualified" or qualified == rank - 1:
        return Position(qualified, None)
    return Position(rank - 1, at)


def next_instant(scheme: Scheme, position: Position, facts: Facts, at: int) -> int | None:
    """Return the next instant (ms) after `at` at which time alone may change the position, or None."""
    instants = [
        flip for tier in scheme.tiers if tier.rule is not None and (flip := tier.rule.next_flip(facts, at)) is not None
    ]
    if position.below_since is not None:
        instants.append(position.below_since + scheme.grace)
    return min(instants) if instants else None
