"""Gauges and rules of a policy as generated functions: what is asked of every customer at every event.

Walking rule objects costs a call a comparison; here the same comparisons become one Python function over the ledger's
arrays, on integers throughout: whether rules hold, when time alone may change that, and the metrics that events show.
What explains a decision (readings, findings, what is missing) is asked of the rules themselves.
tests/models/codegen/test_evaluate_rules.py and the laws hold the two against each other.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from models.codegen.source import (
    HEAD,
    NO_CHANGE,
    change_lines,
    define,
    ladder,
    shown,
    value_line,
    windows,
)
from models.money import Money
from models.rules.comparisons import Rule
from models.rules.metrics import Facts, Gauge
from models.rules.scheme import EvaluateRules

#: `render_metrics(facts, at)`: metrics by name as events show them; None where one is undefined.
RenderMetrics = Callable[[Facts, int], dict[str, Any]]


def compile_evaluate_rules(gauges: Sequence[Gauge], ladders: Sequence[Sequence[Rule | None]]) -> EvaluateRules:
    """Return the function for some ladders of rules (lowest first) over the gauges of their policy.

    Only gauges that a rule compares are read. A ladder's first rule may be None; its rank is the index of the highest
    rule that holds, and 0 where none does.
    """
    read = sorted({leaf.gauge for rules in ladders for rule in rules if rule is not None for leaf in rule.leaves()})
    scope: dict[str, Any] = {"bisect_left": bisect_left, "bisect_right": bisect_right}
    lines = [
        "def evaluate_rules(facts, at):",
        HEAD,
        f"    due = {NO_CHANGE}",
        *windows(gauges[index] for index in read),
    ]
    for index in read:
        lines.append(value_line(index, gauges[index], scope))
        lines.append(change_lines(index, gauges[index], scope))
    ranks = [ladder(rules, gauges) for rules in ladders]
    lines.append(f"    return ({''.join(f'{rank}, ' for rank in ranks)}), due")
    evaluate_rules: EvaluateRules = define("evaluate_rules", lines, scope)
    return evaluate_rules


def compile_render_metrics(gauges: Sequence[Gauge], money: Money) -> RenderMetrics:
    """Return the function that shows gauges: money as decimal texts, days and numbers as floats, counts as integers."""
    scope: dict[str, Any] = {"bisect_right": bisect_right, "text": money.text, "text_of_ratio": money.text_of_ratio}
    lines = ["def render_metrics(facts, at):", HEAD, *windows(gauges)]
    lines += [value_line(index, gauge, scope) for index, gauge in enumerate(gauges)]
    parts = [f"{gauge.metric.name!r}: {shown(index, gauge)}, " for index, gauge in enumerate(gauges)]
    lines.append(f"    return {{{''.join(parts)}}}")
    render_metrics: RenderMetrics = define("render_metrics", lines, scope)
    return render_metrics
