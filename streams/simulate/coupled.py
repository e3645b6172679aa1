"""Counting what two policies do where customers depend on each other: each side decides about all of them at once.

The sides are decided apart, side by side where there are two processes, and then compared customer by customer.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from models.engine.decide import Engine
from models.instants import parse_instant
from models.outputs import Move, TierChange
from models.policy.timeline import Timeline
from streams.partition.effects import Effects
from streams.replay.coupled import customers_of, step_through
from streams.replay.workspace import Work
from streams.simulate import counting
from streams.simulate.counting import End, Moved, Tiers
from streams.simulate.population import Kept, NamedMove, Population, Side, add_counts


class SideResult(NamedTuple):
    """What one policy led to. `tiers` (in the end) and `values` (of attributes) are by customer, in one order."""

    side: Side
    names: list[str]
    tiers: list[Tiers]
    values: list[tuple[str, ...]]
    moves: list[NamedMove]


def decide_side(place: int, work: Work, until: int | None, kept: Kept) -> SideResult:
    """Decide about all customers under one of the policies, up to `until` (ms), and count."""
    outcome, timeline = SideResult(Side(), [], [], [], []), work.timeline(place)
    moved = Counter[Moved]()

    def collect(effects: Effects) -> None:
        decisions = effects.decisions
        outcome.side.cutoffs += decisions.cutoffs
        moved.update(counting.by_day(map(_in_short, decisions.changes)))
        counting.count_actions(outcome.side, decisions.actions, timeline)
        add_counts(outcome.side.notes, decisions.counts)
        named = (change for change in decisions.changes if change.customer_id in kept.names)
        outcome.moves.extend(NamedMove(each.customer_id, place, *_in_short(each)[:3], _at(each)) for each in named)

    processor, partitions = step_through(work, timeline, until, collect)
    counting.count_moves(outcome.side, moved)
    for _, customer in customers_of(partitions):
        outcome.names.append(customer.customer_id)
        outcome.tiers.append(counting.tiers_of(customer))
        counting.note_metrics(outcome.side, processor.engine, customer, until)
        outcome.values.append(counting.attributes_of(customer, kept.attributes, until))
    return outcome


def compare(outcomes: Sequence[SideResult], timelines: Sequence[Timeline], kept: Kept) -> Population:
    """Return the counts of both sides beside each other."""
    first, second = outcomes
    found = Population((first.side, second.side), named=first.moves + second.moves)
    ends = Counter[End](zip(second.values, first.tiers, second.tiers, strict=True))
    counting.count_ends(found, ends, kept, [Engine(timeline) for timeline in timelines])
    found.known = [name for name in first.names if name in kept.names]
    return found


def _in_short(change: TierChange) -> Move:
    return Move(change.scheme, change.from_tier, change.to_tier, change.direction, _at(change))


def _at(change: TierChange) -> int:
    return parse_instant(change.effective_at)
