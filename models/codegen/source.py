"""The building blocks of every generated function, and the only `exec`."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

from models.instants import DAY_MS
from models.rules.comparisons import Comparison, Junction, Rule, Score
from models.rules.metrics import Gauge, Unit
from models.rules.periods import Window

#: Later than any instant: nothing changes by time alone.
NO_CHANGE = 2**63 - 1


#: Expressions of metrics that are whole numbers. Other metrics are read by calling them.
VALUES = {
    "recency_days": "at - times[-1] if n else None",
    "first_order_days": "at - times[0] if n else None",
    "frequency": "n - {first}",
    "monetary": "paid[-1] - paid[{first}]",
}


#: Brings `due` forward to the instant at which a value that rises with time, counted from `anchor`, reaches an offset.
_RISES = """\
    if n and g{i} < {highest} and (c := {anchor} + ({next})) < due:
        due = c
"""


_CHANGES = {
    "recency_days": _RISES.replace("{anchor}", "times[-1]"),
    "first_order_days": _RISES.replace("{anchor}", "times[0]"),
    "frequency": """\
    if g{i} > {lowest} and (c := {leaves}times[n - 1 - ({level})]{after}) < due:
        due = c
""",
    "monetary": """\
    if g{i} > {lowest} and (c := {leaves}times[bisect_left(paid, paid[-1] - ({level})) - 1]{after}) < due:
        due = c
""",
}


_OTHER_CHANGE = """\
    c = change{i}(facts, at, {window}, edges{i})
    if c is not None and c < due:
        due = c
"""


#: The first lines of every generated function of facts.
HEAD = """\
    ledger = facts.ledger
    times, paid = ledger.times, ledger.paid
    n = len(times)
"""


#: The metrics in VALUES that are None before the first order.
MAY_BE_UNDEFINED = frozenset({"recency_days", "first_order_days"})


_WINDOWED = frozenset({"frequency", "monetary"})


def define(name: str, lines: list[str], scope: dict[str, Any]) -> Any:
    """Return the function `name` that the lines define, with `scope` as its globals."""
    exec("\n".join(lines), scope)  # noqa: S102  # every part is written here or is a number
    return scope[name]


def shown(index: int, gauge: Gauge) -> str:
    """Return the expression of a gauge as events show it. It calls `text` and `text_of_ratio` of the policy's money."""
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


def windows(gauges: Iterable[Gauge], scope: dict[str, Any]) -> list[str]:
    """Return the lines that find the first order in the window of each gauge. Periods are added to the scope."""
    lines = {}
    for gauge in gauges:
        if gauge.metric.name in _WINDOWED:
            name = _named(gauge.window, scope)
            opens = f"at - {name}" if isinstance(gauge.window, int) else f"{name}.opens(at)"
            lines[name] = f"    first{name} = bisect_right(times, o) if n and times[0] <= (o := {opens}) else 0"
    return [lines[name] for name in sorted(lines)]


def _named(window: Window, scope: dict[str, Any]) -> str:
    """Return the name of a window in generated code: its milliseconds, or a counting period in the scope."""
    if isinstance(window, int):
        return str(window)
    name = f"period{window.months}_{window.step}"
    scope[name] = window
    return name


def value_line(index: int, gauge: Gauge, scope: dict[str, Any]) -> str:
    """Return the line that reads a gauge into `g<index>`. Functions that it calls are added to the scope."""
    name = gauge.metric.name
    if name in VALUES:
        return f"    g{index} = {VALUES[name].format(first=f'first{_named(gauge.window, scope)}')}"
    scope[f"value{index}"] = gauge.metric.value
    return f"    g{index} = value{index}(facts, at, {_named(gauge.window, scope)})"


def change_lines(index: int, gauge: Gauge, scope: dict[str, Any]) -> str:
    """Return the lines that bring `due` forward to the instant at which time alone may carry a gauge over an edge."""
    name, edges, window = gauge.metric.name, gauge.edges, _named(gauge.window, scope)
    text = _CHANGES.get(name)
    if text is None:
        scope |= {f"change{index}": gauge.metric.next_change, f"edges{index}": edges}
        return _OTHER_CHANGE.format(i=index, window=window).rstrip()
    if name in _WINDOWED:
        if not edges.levels:
            return ""
        level = _first_of([f"{level} if g{index} > {level}" for level in reversed(edges.levels)])
        leaves, after = ("", f" + {window}") if isinstance(gauge.window, int) else (f"{window}.leaves(", ")")
        return text.format(i=index, leaves=leaves, after=after, lowest=edges.levels[0], level=level).rstrip()
    if not edges.offsets:
        return ""
    offset = _first_of([f"{offset} if g{index} < {offset}" for offset in edges.offsets])
    return text.format(i=index, highest=edges.offsets[-1], next=offset).rstrip()


def _first_of(choices: list[str]) -> str:
    """Return the expression of the first choice (`value if condition`) that holds. The last one needs no condition."""
    return " else ".join([*choices[:-1], choices[-1].partition(" if ")[0]])


def ladder(rules: Sequence[Rule | None], gauges: Sequence[Gauge]) -> str:
    """Return the expression of a ladder's rank: the index of the highest rule that holds, else 0."""
    text = "0"
    for rank, rule in enumerate(rules):
        if rule is not None and rank:
            text = f"{rank} if {holds(rule, gauges)} else ({text})"
    return text


def holds(rule: Rule, gauges: Sequence[Gauge]) -> str:
    """Return the expression that is true if a rule holds."""
    if isinstance(rule, Comparison):
        return _compares(rule, gauges[rule.gauge].metric.name)
    if isinstance(rule, Junction):
        word = " and " if rule.every else " or "
        return f"({word.join(holds(part, gauges) for part in rule.parts)})" if rule.parts else str(rule.every)
    return _reaches(rule, gauges)


def _reaches(score: Score, gauges: Sequence[Gauge]) -> str:
    """Return the expression of a score on integers: both sides are multiplied by the sum of the weights."""
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
    """Return the integer that compares with whole numbers as the edge does, which may lie between two of them."""
    if op == "==":
        return edge.numerator if edge.denominator == 1 else 0.5  # no whole number equals it
    return ceil(edge) if op in (">=", "<") else floor(edge)


class Unwritable(Exception):
    """Raised for a rule that no generated function covers: a metric that is not a whole number, or a score."""
