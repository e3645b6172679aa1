"""What time alone does to the tiers of one scheme: the next fall, found by walking from change to change."""

from collections.abc import Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from models.codegen.evaluate_rules import compile_evaluate_rules
from models.instants import LAST_INSTANT, format_instant
from models.outputs import AtRisk
from models.rules.hysteresis import Position, fall_instant, fallen
from models.rules.metrics import Edges, Facts, Gauge
from models.rules.scheme import EvaluateRules, Scheme


class Outlook:
    """One scheme. `evaluate_rules` answers for the rules of this scheme only."""

    def __init__(self, scheme: Scheme, gauges: Sequence[Gauge]) -> None:
        """Compile the rules of the scheme over the gauges of its policy."""
        self.scheme = scheme
        self.evaluate_rules = compile_evaluate_rules(gauges, [[tier.rule for tier in scheme.tiers]])
        self._gauges = gauges
        self._lasting: dict[int, EvaluateRules] = {}

    def lasting(self, rank: int) -> EvaluateRules:
        """Return the function for the rule of tier `rank` alone: its rank is 1 if it holds, else 0.

        If time never lifts anybody, the other rules do not matter to the customers of a tier before they leave it.
        """
        if rank not in self._lasting:
            rule = self.scheme.tiers[rank].rule
            leaves = [] if rule is None else [*rule.leaves()]
            gauges = [
                replace(gauge, edges=Edges.of((leaf.op, leaf.edge) for leaf in leaves if leaf.gauge == index))
                for index, gauge in enumerate(self._gauges)
            ]
            self._lasting[rank] = compile_evaluate_rules(gauges, [[None, rule]])
        return self._lasting[rank]


def at_risk(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> AtRisk | None:
    """Return the tier to which the customer falls by time alone, and when; None if never. `at` is in ms."""
    fall = next_fall(outlook, position, facts, at, zone)
    return None if fall is None else AtRisk(fall[0], format_instant(fall[1]))


def next_fall(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> tuple[str, int] | None:
    """Return the tier to which the customer falls by time alone, and the instant (ms); None if never.

    The walk starts at `at` (ms). Time may lift the customer before they fall.
    """
    scheme, rank, since = outlook.scheme, position.rank, position.since
    if rank == 0 and scheme.sinking:
        return None
    if scheme.sinking:
        return _next_sinking_fall(outlook, position, facts, at, zone)
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


def _next_sinking_fall(
    outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo
) -> tuple[str, int] | None:
    """Do what `next_fall` does if time never lifts anybody: a customer who is below stays below until they fall."""
    demotion, below_since, instant = outlook.scheme.demotion, position.below_since, at
    lasting = outlook.lasting(position.rank)
    while below_since is None:
        (holds,), due = lasting(facts, instant)
        if not holds:
            below_since = instant
        elif due > LAST_INSTANT:
            return None
        instant = due
    falls = fall_instant(demotion, Position(position.rank, position.since, below_since), facts.since, zone)
    if falls is None or falls > LAST_INSTANT:
        return None
    falls = max(at, falls)
    (qualified,), _ = outlook.evaluate_rules(facts, falls)
    return outlook.scheme.tiers[fallen(demotion, position.rank, qualified)].name, falls
