"""Hysteresis: a rise is immediate, a fall comes only after an uninterrupted stay below the tier.

Small exact functions over a `Position`; `models.engine.evaluate` calls them from instant to instant.
"""

from collections.abc import Iterator
from datetime import MAXYEAR, date
from zoneinfo import ZoneInfo

import msgspec

from models.instants import LAST_INSTANT, local_date, local_midnight
from models.rules.metrics import Facts
from models.rules.scheme import Demotion, EvaluateRules


class Position(msgspec.Struct, frozen=True, gc=False):
    """The index of the held tier, since when (ms), and since when (ms) the customer qualifies only for a lower one."""

    rank: int
    since: int
    below_since: int | None


def fall_instant(demotion: Demotion, position: Position, anchor: int, zone: ZoneInfo) -> int | None:
    """Return the instant (ms) at which the customer falls if they stay below; None if they are not below.

    It is the latest end of the grace, the minimum stay and the kept period. Anniversaries count from `anchor` (ms).
    """
    if position.below_since is None:
        return None
    instant = max(position.below_since + demotion.grace, position.since + demotion.min_stay)
    if demotion.keep is not None:
        # The customer last qualified one millisecond before they were below.
        last = position.below_since - 1
        kept = _end_of_next_year(last, zone) if demotion.keep == "calendar_year" else _anniversary(last, anchor, zone)
        instant = max(instant, kept)
    return instant


def settle(demotion: Demotion, position: Position, qualified: int, at: int, anchor: int, zone: ZoneInfo) -> Position:
    """Return the position after one step at an instant (ms), given the index of the qualified tier.

    Call again until nothing changes: without a grace, `step: one` falls several times at one instant.
    """
    rank, since, below_since = position.rank, position.since, position.below_since
    if qualified >= rank:
        return Position(qualified, since if qualified == rank else at, None)
    below = Position(rank, since, at if below_since is None else below_since)
    falls = fall_instant(demotion, below, anchor, zone)
    if falls is None or at < falls:
        return below
    lower = fallen(demotion, rank, qualified)
    return Position(lower, at, None if lower == qualified else at)


def is_taken_back(demotion: Demotion, position: Position, qualified: int) -> bool:
    """Whether a refund or cancellation, after which `qualified` is the tier's index, takes the held tier back.

    It does if the customer qualified for the held tier until then. Who is below already lost it to time.
    """
    return demotion.clawback and position.below_since is None and qualified < position.rank


def fallen(demotion: Demotion, rank: int, qualified: int) -> int:
    """Return the index of the tier to which a customer of tier `rank` falls who qualifies for a lower one."""
    return qualified if demotion.step == "qualified" else rank - 1


def pass_time(
    demotion: Demotion, evaluate_rules: EvaluateRules, position: Position, facts: Facts, at: int, zone: ZoneInfo
) -> Iterator[tuple[int, Position]]:
    """Yield the instant (ms) and the position of every change by time alone, from `at` (ms) on, in order.

    `evaluate_rules` answers for the rules of this scheme only.
    """
    instant, falls = at, fall_instant(demotion, position, facts.since, zone)
    while instant <= LAST_INSTANT:
        (qualified,), due = evaluate_rules(facts, instant)
        stays = falls is None and qualified == position.rank
        waits = falls is not None and instant < falls and qualified < position.rank
        if not (stays or waits):
            while (moved := settle(demotion, position, qualified, instant, facts.since, zone)) != position:
                position = moved
                yield instant, position
            falls = fall_instant(demotion, position, facts.since, zone)
        instant = due if falls is None else min(due, falls)


def _end_of_next_year(instant: int, zone: ZoneInfo) -> int:
    year = local_date(instant, zone).year + 2
    return local_midnight(date(year, 1, 1), zone) if year <= MAXYEAR else LAST_INSTANT + 1


def _anniversary(instant: int, anchor: int, zone: ZoneInfo) -> int:
    """Return the end of the anniversary year after the one that holds an instant; 29 February counts as the 28th."""
    start, today = local_date(anchor, zone), local_date(instant, zone)

    def anniversary(year: int) -> date:
        return start.replace(year=year, day=28) if (start.month, start.day) == (2, 29) else start.replace(year=year)

    begun = today.year if today >= anniversary(today.year) else today.year - 1
    return local_midnight(anniversary(begun + 2), zone) if begun + 2 <= MAXYEAR else LAST_INSTANT + 1
