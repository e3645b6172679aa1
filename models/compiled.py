"""Gauges and rules of a policy as generated functions: what is asked of every customer at every event.

Walking rule objects costs a call a comparison; here the same comparisons become one Python function over the ledger's
arrays, on integers throughout: whether rules hold, when time alone may change that, and the metrics that events show.
What explains a decision (readings, findings, what is missing) is asked of the rules themselves.
tests/models/test_compiled.py and the laws hold the two against each other.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

from models.instants import DAY_MS
from models.metrics import Facts, Gauge, Unit
from models.money import Money
from models.rules import Comparison, Junction, Rule, Score

#: Later than any instant: nothing changes by time alone.
NO_CHANGE = 2**63 - 1

#: `look(facts, at)`: the rank of each ladder (how many of its rules, from the hardest, need not be looked at: 0 where
#: none holds), and the first instant (ms) after `at` at which time alone may change one; NO_CHANGE if never.
Look = Callable[[Facts, int], tuple[tuple[int, ...], int]]

#: `show(facts, at)`: metrics by name as events show them; None where one is undefined.
Show = Callable[[Facts, int], dict[str, Any]]

#: Readings of whole numbers, written out: the value, and when it may next cross an edge. Metrics answer for others.
VALUES = {
    "recency_days": "at - times[-1] if n else None",
    "first_order_days": "at - times[0] if n else None",
    "frequency": "n - {first}",
    "monetary": "paid[-1] - paid[{first}]",
}
_RISES = """\
    if n:
        k = bisect_right(offsets{i}, g{i})
        if k < {rises} and (c := {anchor} + offsets{i}[k]) < due:
            due = c
"""
_CHANGES = {
    "recency_days": _RISES.replace("{anchor}", "times[-1]"),
    "first_order_days": _RISES.replace("{anchor}", "times[0]"),
    "frequency": """\
    k = bisect_left(levels{i}, g{i})
    if k and (c := times[n - 1 - levels{i}[k - 1]] + {window}) < due:
        due = c
""",
    "monetary": """\
    k = bisect_left(levels{i}, g{i})
    if k and (c := times[bisect_left(paid, paid[-1] - levels{i}[k - 1]) - 1] + {window}) < due:
        due = c
""",
}
_OTHER_CHANGE = """\
    c = change{i}(facts, at, {window}, edges{i})
    if c is not None and c < due:
        due = c
"""
#: How every generated function begins.
HEAD = """\
    ledger = facts.ledger
    times, paid = ledger.times, ledger.paid
    n = len(times)
"""
#: Of these, the ones that are None before the first order.
MAY_BE_UNDEFINED = frozenset({"recency_days", "first_order_days"})
_WINDOWED = frozenset({"frequency", "monetary"})


def compile_look(gauges: Sequence[Gauge], ladders: Sequence[Sequence[Rule | None]]) -> Look:
    """Return the function for some ladders of rules (lowest first) over the gauges of their policy.

    Only gauges that a rule compares are read. A ladder's first rule may be None; its rank is the index of the highest
    rule that holds, and 0 where none does.
    """
    read = sorted({leaf.gauge for rules in ladders for rule in rules if rule is not None for leaf in rule.leaves()})
    scope: dict[str, Any] = {"bisect_left": bisect_left, "bisect_right": bisect_right}
    lines = [
        "def look(facts, at):",
        HEAD,
        f"    due = {NO_CHANGE}",
        *windows(gauges[index] for index in read),
    ]
    for index in read:
        lines.append(value_line(index, gauges[index], scope))
        lines.append(_change(index, gauges[index], scope))
    ranks = [_ladder(rules, gauges) for rules in ladders]
    lines.append(f"    return ({''.join(f'{rank}, ' for rank in ranks)}), due")
    look: Look = define("look", lines, scope)
    return look


def compile_show(gauges: Sequence[Gauge], money: Money) -> Show:
    """Return the function that shows gauges: money as decimal texts, days and numbers as floats, counts as integers."""
    scope: dict[str, Any] = {"bisect_right": bisect_right, "text": money.text, "text_of_ratio": money.text_of_ratio}
    lines = ["def show(facts, at):", HEAD, *windows(gauges)]
    lines += [value_line(index, gauge, scope) for index, gauge in enumerate(gauges)]
    parts = [f"{gauge.metric.name!r}: {shown(index, gauge)}, " for index, gauge in enumerate(gauges)]
    lines.append(f"    return {{{''.join(parts)}}}")
    show: Show = define("show", lines, scope)
    return show


def define(name: str, lines: list[str], scope: dict[str, Any]) -> Any:
    """Return the function that the lines define."""
    exec("\n".join(lines), scope)  # noqa: S102  # every part is written here or is a number
    return scope[name]


def shown(index: int, gauge: Gauge) -> str:
    """Return the expression of what events show of a gauge; it calls `text` and `text_of_ratio` of the money."""
    g, unit = f"g{index}", gauge.metric.unit
    if gauge.metric.name in VALUES:
        text = {Unit.MONEY: f"text({g})", Unit.DAYS: f"{g} / {DAY_MS}"}.get(unit, g)
        return f"None if {g} is None else {text}" if gauge.metric.name in MAY_BE_UNDEFINED else text
    text = {
        Unit.MONEY: f"text_of_ratio(*{g})",
        Unit.COUNT: f"{g}[0] // {g}[1]",
        Unit.DAYS: f"{g}[0] / ({g}[1] * {DAY_MS})",
    }.get(unit, f"{g}[0] / {g}[1]")
    return f"None if {g} is None else {text}"


def windows(gauges: Iterable[Gauge]) -> list[str]:
    """Return the lines that find where the windows of some gauges begin."""
    lengths = {gauge.window for gauge in gauges if gauge.metric.name in _WINDOWED}
    return [f"    first{window} = bisect_right(times, at - {window})" for window in sorted(lengths)]


def value_line(index: int, gauge: Gauge, scope: dict[str, Any]) -> str:
    """Return the line that reads a gauge into `g` and its index; what it calls goes into the scope."""
    name = gauge.metric.name
    if name in VALUES:
        return f"    g{index} = {VALUES[name].format(first=f'first{gauge.window}')}"
    scope[f"value{index}"] = gauge.metric.value
    return f"    g{index} = value{index}(facts, at, {gauge.window})"


def _change(index: int, gauge: Gauge, scope: dict[str, Any]) -> str:
    edges = gauge.edges
    text = _CHANGES.get(gauge.metric.name, _OTHER_CHANGE)
    scope |= {f"offsets{index}": edges.offsets, f"levels{index}": edges.levels}
    scope |= {f"change{index}": gauge.metric.next_change, f"edges{index}": edges}
    return text.format(i=index, window=gauge.window, rises=len(edges.offsets)).rstrip()


def _ladder(rules: Sequence[Rule | None], gauges: Sequence[Gauge]) -> str:
    text = "0"
    for rank, rule in enumerate(rules):
        if rule is not None and rank:
            text = f"{rank} if {holds(rule, gauges)} else ({text})"
    return text


def holds(rule: Rule, gauges: Sequence[Gauge]) -> str:
    """Return the expression that is true where a rule holds."""
    if isinstance(rule, Comparison):
        return _compares(rule, gauges[rule.gauge].metric.name)
    if isinstance(rule, Junction):
        word = " and " if rule.every else " or "
        return f"({word.join(holds(part, gauges) for part in rule.parts)})" if rule.parts else str(rule.every)
    return _reaches(rule, gauges)


def _reaches(score: Score, gauges: Sequence[Gauge]) -> str:
    """The weighted mean of levels reaches the threshold: on integers, after multiplying by the weights' sum."""
    parts = [
        f"{part.weight} * ({' + '.join(['1', *(holds(brk, gauges) for brk in part.breaks)])})" for part in score.parts
    ]
    return f"({' + '.join(parts)} >= {ceil(score.threshold * sum(part.weight for part in score.parts))})"


def _compares(comparison: Comparison, metric: str) -> str:
    g, edge = f"g{comparison.gauge}", comparison.edge
    if metric in VALUES:
        test = f"{g} {comparison.op} {_whole(comparison.op, edge)}"
        if metric not in MAY_BE_UNDEFINED:
            return f"({test})"
    else:
        test = f"{g}[0] * {edge.denominator} {comparison.op} {edge.numerator} * {g}[1]"
    return f"({g} is None or {test})" if comparison.undefined else f"({g} is not None and {test})"


def _whole(op: str, edge: Fraction) -> int | float:
    """Return the integer that whole numbers compare with as they do with an edge that may lie between two."""
    if op == "==":
        return edge.numerator if edge.denominator == 1 else 0.5  # what is whole is never between
    return ceil(edge) if op in (">=", "<") else floor(edge)
