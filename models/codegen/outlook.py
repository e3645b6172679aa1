"""What time alone does to the tiers of one scheme: the next fall, found by walking from change to change."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from models.codegen.evaluate_rules import compile_evaluate_rules
from models.instants import LAST_INSTANT, format_instant
from models.outputs import AtRisk
from models.rules.hysteresis import Position, fall_instant, fallen
from models.rules.metrics import Facts, Gauge
from models.rules.scheme import Scheme


class Outlook:
    """One scheme. `evaluate_rules` answers for the rules of this scheme only."""

    def __init__(self, scheme: Scheme, gauges: Sequence[Gauge]) -> None:
        """Compile the rules of the scheme over the gauges of its policy."""
        self.scheme = scheme
        self.evaluate_rules = compile_evaluate_rules(gauges, [[tier.rule for tier in scheme.tiers]])


def at_risk(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> AtRisk | None:
    """Return the tier to which the customer falls by time alone, and when; None if never. `at` is in ms."""
    fall = next_fall(outlook, position, facts, at, zone)
    return None if fall is None else AtRisk(fall[0], format_instant(fall[1]))


def next_fall(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> tuple[str, int] | None:
    """Return the tier to which the customer falls by time alone, and the instant (ms); None if never.

    The walk starts at `at` (ms). Time may lift the customer before they fall.
    """
    scheme, (rank, since, _) = outlook.scheme, position
    if rank == 0 and scheme.sinking:
        return None
    instant, falls = at, fall_instant(scheme.demotion, position, facts.since, zone)
    while instant <= LAST_INSTANT:
        (qualified,), due = outlook.evaluate_rules(facts, instant)
        if qualified >= rank:
            if qualified > rank:
                rank, since = qualified, instant
            falls = None
        else:
            if falls is None:
                falls = fall_instant(scheme.demotion, Position(rank, since, instant), facts.since, zone)
            if falls is None or falls <= instant:
                return scheme.tiers[fallen(scheme.demotion, rank, qualified)].name, instant
        instant = due if falls is None or due < falls else falls
    return None
