"""What time alone does to the tiers of one scheme: when rules may change, and until when a tier's rule holds_until.

`holds_until` is a generated function like those of `models.codegen.evaluate_rules`. Where time alone lifts nobody
(`Scheme.sinking`), each comparison fails once and for good, at an instant that follows from the ledger, so nothing is
walked through; other schemes are (`models.rules.hysteresis.pass_time`). tests/models/codegen/test_outlook.py holds
the two against each other.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil, floor
from typing import Any
from zoneinfo import ZoneInfo

from models.codegen.evaluate_rules import compile_evaluate_rules, compile_rank
from models.codegen.source import HEAD, MAY_BE_UNDEFINED, NO_CHANGE, VALUES, Unwritable, define
from models.instants import LAST_INSTANT, format_instant
from models.outputs import AtRisk
from models.rules.comparisons import Comparison, Junction, Rule
from models.rules.hysteresis import Position, fall_instant, fallen, pass_time
from models.rules.metrics import Facts, Gauge
from models.rules.scheme import Scheme

#: `holds_until(facts, at)`: the instant (ms) at which the last of some rules ceases to hold if nothing happens; `at` or
#: earlier where none holds, NO_CHANGE where one holds for ever.
HoldsUntil = Callable[[Facts, int], int]


class Outlook:
    """One scheme; `evaluate_rules` and `rank` answer for its rules only."""

    def __init__(self, scheme: Scheme, gauges: Sequence[Gauge]) -> None:
        self.scheme = scheme
        rules = [tier.rule for tier in scheme.tiers]
        self.evaluate_rules = compile_evaluate_rules(gauges, [rules])
        self.rank = compile_rank(gauges, rules)
        self._gauges = gauges
        self._holds_until: dict[int, HoldsUntil | None] = {}

    def holds_until(self, rank: int) -> HoldsUntil | None:
        """Return the function for a tier that is the highest to qualify; None where that cannot be told in one step.

        The tiers above do not qualify, and in time alone never will.
        """
        if rank not in self._holds_until:
            rules = [self.scheme.tiers[rank].rule]
            self._holds_until[rank] = compile_holds_until(rules, self._gauges) if self.scheme.sinking else None
        return self._holds_until[rank]


def compile_holds_until(rules: Sequence[Rule | None], gauges: Sequence[Gauge]) -> HoldsUntil | None:
    """Return the function for some rules of a sinking scheme; None where one of them cannot be written out."""
    lines: dict[str, str] = {}
    try:
        ends = [_ends(rule, gauges, lines) for rule in rules if rule is not None]
    except Unwritable:
        return None
    scope: dict[str, Any] = {"bisect_left": bisect_left}
    holds_until: HoldsUntil = define(
        "holds_until",
        ["def holds_until(facts, at):", HEAD, *lines.values(), f"    return {_of('max', ends, 'at')}"],
        scope,
    )
    return holds_until


def _ends(rule: Rule, gauges: Sequence[Gauge], lines: dict[str, str]) -> str:
    """Return the expression of when a rule ceases to hold; the lines that it needs are added, each once."""
    if isinstance(rule, Junction):
        parts = [_ends(part, gauges, lines) for part in rule.parts]
        return _of("min", parts, str(NO_CHANGE)) if rule.every else _of("max", parts, "at")
    if not isinstance(rule, Comparison) or rule.metric.name not in VALUES:
        raise Unwritable
    text = _end(rule, gauges[rule.gauge].window)
    lines.setdefault(text, f"    e{len(lines)} = {text}")
    return lines[text].split()[0]


def _of(function: str, parts: Sequence[str], none: str) -> str:
    return none if not parts else parts[0] if len(parts) == 1 else f"{function}({', '.join(parts)})"


def _end(comparison: Comparison, window: int) -> str:
    name, op, edge = comparison.metric.name, comparison.op, comparison.edge
    if name in MAY_BE_UNDEFINED:
        anchor, offset = "times[-1]" if name == "recency_days" else "times[0]", ceil(edge)
        if op == "<=":
            offset = floor(edge) + 1
        return f"{anchor} + {offset} if n else {NO_CHANGE if comparison.undefined else 'at'}"
    level = ceil(edge) - 1 if op == ">=" else floor(edge)  # the value at which it holds no more
    if level < 0:
        return str(NO_CHANGE)
    if name == "frequency":
        return f"times[n - {1 + level}] + {window} if n > {level} else at"
    return f"times[k - 1] + {window} if (k := bisect_left(paid, paid[-1] - {level})) else at"


def at_risk(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> AtRisk | None:
    """Return when and whereto the customer falls if nothing more happens; None if never."""
    fall = next_fall(outlook, position, facts, at, zone)
    return None if fall is None else AtRisk(fall[0], format_instant(fall[1]))


def next_fall(outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo) -> tuple[str, int] | None:
    """Return the tier that the customer falls to by time alone, and the instant (ms); None if never."""
    scheme, (rank, since, below_since) = outlook.scheme, position
    if rank == 0 and scheme.sinking:
        return None
    holds_until = outlook.holds_until(rank)
    if holds_until is None:
        return _walk_to_fall(outlook, position, facts, at, zone)
    if below_since is None:
        below_since = max(at, holds_until(facts, at))
    if below_since > LAST_INSTANT:
        return None
    falls = fall_instant(scheme.demotion, Position(rank, since, below_since), facts.since, zone)
    if falls is None or falls > LAST_INSTANT:
        return None
    falls = max(at, falls)
    return scheme.tiers[fallen(scheme.demotion, rank, outlook.rank(facts, falls))].name, falls


def _walk_to_fall(
    outlook: Outlook, position: Position, facts: Facts, at: int, zone: ZoneInfo
) -> tuple[str, int] | None:
    """The same, from change to change: time may lift the customer before they fall."""
    scheme = outlook.scheme
    if scheme.demotion.immediate:  # no instant but those of the rules counts
        rank, instant = position.rank, at
        while instant <= LAST_INSTANT:
            (qualified,), due = outlook.evaluate_rules(facts, instant)
            if qualified < rank:
                return scheme.tiers[fallen(scheme.demotion, rank, qualified)].name, instant
            rank, instant = qualified, due
        return None
    for instant, moved in pass_time(scheme.demotion, outlook.evaluate_rules, position, facts, at, zone):
        if moved.rank < position.rank:
            return scheme.tiers[moved.rank].name, instant
        position = moved
    return None
