"""The details of a tier change as generated functions: metrics, `why`, `next`.

`models.rules.explain` computes the same by walking rules over readings, which takes several times as long, and a fifth
of all orders change a tier. The move and the rules that hold determine which comparisons are listed, so one function
for each move contains everything but the numbers. What cannot be generated (scores; the nearest of several compound
alternatives) is left to `models.rules.explain`. tests/models/codegen/test_change_details.py compares the two.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from models.codegen.source import HEAD, MAY_BE_UNDEFINED, VALUES, Unwritable, define, holds, shown, value_line, windows
from models.instants import DAY_MS
from models.money import Money
from models.outputs import Need, Next, Why
from models.rules import explain
from models.rules.comparisons import Comparison, Junction, Lack, Rule
from models.rules.metrics import Facts, Gauge, Unit
from models.rules.scheme import Scheme

#: `details(facts, at)` returns the metrics as events show them, the reasons of the move, and the next tier.
Details = Callable[[Facts, int], tuple[dict[str, Any], list[Why], Next | None]]


class ChangeDetails:
    """The functions of one scheme, each generated when its move first occurs.

    Threads may share it: two that meet the same new move generate equal functions, and the last one is kept.
    """

    def __init__(self, scheme: Scheme, gauges: Sequence[Gauge], money: Money) -> None:
        self._scheme, self._gauges, self._money = scheme, gauges, money
        self._details: dict[tuple[int | None, int], Details] = {}

    def of(self, before: int | None, after: int) -> Details:
        """Return the function for a move from tier index `before` (None: entering) to `after`.

        Call it only if `after`, or on a fall a lower tier, is the highest tier whose rule holds.
        """
        move = (before if before is not None and after < before else None, after)
        details = self._details.get(move)
        if details is None:
            details = self._details[move] = _compile(self._scheme, *move, self._gauges, self._money)
        return details


class _Listed(NamedTuple):
    """A comparison to list with its truth if the expression `condition` holds; "" always holds."""

    comparison: Comparison
    truth: bool
    condition: str


def _compile(scheme: Scheme, before: int | None, after: int, gauges: Sequence[Gauge], money: Money) -> Details:
    scope: dict[str, Any] = {
        "Why": Why,
        "Need": Need,
        "Next": Next,
        "bisect_right": bisect_right,
        "text": money.text,
        "text_of_ratio": money.text_of_ratio,
    }
    why, why_read = _why_lines(scheme, before, after, gauges, money, scope)
    upcoming, next_read = _next_lines(scheme, after, gauges, money, scope)
    displayed = {*scheme.shown, *why_read}
    read = sorted(displayed | set(next_read))
    lines = ["def details(facts, at):", HEAD, *windows((gauges[index] for index in read), scope)]
    lines += [value_line(index, gauges[index], scope) for index in read]
    lines += [f"    s{index} = {shown(index, gauges[index])}" for index in sorted(displayed)]
    metrics = ", ".join(f"{gauges[index].metric.name!r}: s{index}" for index in scheme.shown)
    lines += [f"    metrics = {{{metrics}}}", *why, *upcoming, "    return metrics, why, upcoming"]
    details: Details = define("details", lines, scope)
    return details


def _why_lines(
    scheme: Scheme, before: int | None, after: int, gauges: Sequence[Gauge], money: Money, scope: dict[str, Any]
) -> tuple[list[str], set[int]]:
    """Return the lines that set `why` and the gauges they show. Rules are chosen as in `explain.why`."""
    tiers, truth = scheme.tiers, before is None and after > 0
    chosen = tiers[after + 1 : before + 1] if before is not None else [tiers[after] if after else tiers[1]]
    try:
        listed = [entry for tier in chosen if tier.rule is not None for entry in _decisive(tier.rule, truth, gauges)]
    except Unwritable:
        scope["whys"] = lambda facts, at: explain.whys(
            explain.why(scheme, before, after, [gauge.read(facts, at) for gauge in gauges]), money
        )
        return ["    why = whys(facts, at)"], set()
    entries = []
    for place, (comparison, met, _) in enumerate(listed):
        scope[f"t{place}"] = explain.threshold(comparison, money)
        name, op = comparison.metric.name, comparison.op
        entries.append(f"Why({name!r}, s{comparison.gauge}, {op!r}, t{place}, {met})")
    labels = [entry.comparison.label for entry in listed]
    if len(set(labels)) == len(labels) and not any(entry.condition for entry in listed):
        lines = [f"    why = [{', '.join(entries)}]"]
    else:  # each comparison once: at its first place, with its last truth
        lines = ["    found = {}"]
        for (_, _, condition), entry, label in zip(listed, entries, labels, strict=True):
            lines.append(f"    {f'if {condition}: ' if condition else ''}found[{label!r}] = {entry}")
        lines.append("    why = list(found.values())")
    # Conditions read every gauge of their rules, shown or not.
    return lines, {leaf.gauge for tier in chosen if tier.rule is not None for leaf in tier.rule.leaves()}


def _decisive(rule: Rule, truth: bool, gauges: Sequence[Gauge], condition: str = "") -> Iterator[_Listed]:
    """Yield what `rule.decisive` lists, given the rule's truth. Raises Unwritable for a score."""
    if isinstance(rule, Comparison):
        yield _Listed(rule, truth, condition)
    elif isinstance(rule, Junction):
        certain = rule.every is truth  # all hold, or none does
        for part in rule.parts:
            own = "" if certain else holds(part, gauges) if truth else f"not {holds(part, gauges)}"
            yield from _decisive(part, truth, gauges, " and ".join(filter(None, [condition, own])))
    else:
        raise Unwritable


def _next_lines(
    scheme: Scheme, after: int, gauges: Sequence[Gauge], money: Money, scope: dict[str, Any]
) -> tuple[list[str], set[int]]:
    """Return the lines that set `upcoming` and the gauges they read."""
    if not scheme.ladder or after + 1 >= len(scheme.tiers):
        return ["    upcoming = None"], set()
    tier = scheme.tiers[after + 1]
    leaves = [] if tier.rule is None else list(tier.rule.leaves())
    try:
        lines = [] if tier.rule is None else _lack_lines(tier.rule, gauges, money, scope)
    except Unwritable:
        scope["next_of"] = lambda facts, at: explain.upcoming(
            scheme, after, [gauge.read(facts, at) for gauge in gauges], money
        )
        return ["    upcoming = next_of(facts, at)"], set()
    lines = ["    needs = []", *lines, f"    upcoming = Next({tier.name!r}, needs)"]
    return lines, {leaf.gauge for leaf in leaves}


def _lack_lines(rule: Rule, gauges: Sequence[Gauge], money: Money, scope: dict[str, Any]) -> list[str]:
    if isinstance(rule, Junction) and not rule.every:
        return _nearest_lines(rule, gauges)
    parts = rule.parts if isinstance(rule, Junction) else (rule,)
    lines: list[str] = []
    for part in parts:
        if not isinstance(part, Comparison) or not _is_whole(part):
            raise Unwritable
        need = _need(part)
        if part.metric.name in MAY_BE_UNDEFINED:
            undefined = f"unread{len(lines)}"
            lack = Lack(part, part.edge if part.op in (">=", ">", "==") else None)
            scope[undefined] = Need(part.metric.name, explain.missing(lack, money))
            need = f"{undefined} if g{part.gauge} is None else {need}"
        lines.append(f"    if not {holds(part, gauges)}: needs.append({need})")
    return lines


def _nearest_lines(rule: Junction, gauges: Sequence[Gauge]) -> list[str]:
    """Return the lines that add the comparison that misses the smallest part of its threshold; the first if tied."""
    parts = [part for part in rule.parts if isinstance(part, Comparison) and _is_whole(part)]
    if not parts or len(parts) < len(rule.parts) or any(part.metric.name in MAY_BE_UNDEFINED for part in parts):
        raise Unwritable
    lines = [f"    if not {holds(rule, gauges)}:"]
    for place, part in enumerate(parts):
        size, missing = abs(part.edge.numerator or 1), f"abs({part.edge.numerator} - g{part.gauge})"
        if not place:
            lines.append(f"        nearest, m, of = 0, {missing}, {size}")
        else:
            lines.append(f"        if (c := {missing}) * of < m * {size}: nearest, m, of = {place}, c, {size}")
    for place, part in enumerate(parts):
        lines.append(f"        {'if' if not place else 'elif'} nearest == {place}: needs.append({_need(part)})")
    return lines


def _is_whole(comparison: Comparison) -> bool:
    return comparison.metric.name in VALUES and comparison.edge.denominator == 1


def _need(comparison: Comparison) -> str:
    """Return the expression of what is missing, as `explain.missing` shows it: a strict comparison needs one more."""
    missing = f"abs({comparison.edge.numerator} - g{comparison.gauge})"
    unit = comparison.metric.unit
    if unit is Unit.DAYS:
        return f"Need({comparison.metric.name!r}, {missing} / {DAY_MS})"
    if comparison.op in (">", "<"):
        missing += " + 1"
    return f"Need({comparison.metric.name!r}, {f'text({missing})' if unit is Unit.MONEY else missing})"
