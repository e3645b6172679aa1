"""The gauges and rules of a policy as generated functions, which run for every customer at every event.

Walking rule objects costs one call for each comparison. Here the same comparisons become one Python function over the
ledger's arrays, on integers only: whether rules hold, when time alone may change that, and the metrics that events
show. The rule objects themselves answer what explains a decision (readings, findings, what is missing).
tests/models/codegen/test_evaluate_rules.py and the laws compare the two.
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

#: `render_metrics(facts, at)` returns metrics by name as events show them; an undefined one is None.
RenderMetrics = Callable[[Facts, int], dict[str, Any]]


def compile_evaluate_rules(gauges: Sequence[Gauge], ladders: Sequence[Sequence[Rule | None]]) -> EvaluateRules:
    """Return the function for some ladders of rules (lowest first) over the gauges of their policy.

    Only gauges that a rule compares are read. A ladder's first rule may be None. The rank of a ladder is the index of
    the highest rule that holds, 0 if none does.
    """
    read = sorted({leaf.gauge for rules in ladders for rule in rules if rule is not None for leaf in rule.leaves()})
    scope: dict[str, Any] = {"bisect_left": bisect_left, "bisect_right": bisect_right}
    lines = [
        "def evaluate_rules(facts, at):",
        HEAD,
        f"    due = {NO_CHANGE}",
        *windows((gauges[index] for index in read), scope),
    ]
    for index in read:
        lines.append(value_line(index, gauges[index], scope))
        lines.append(change_lines(index, gauges[index], scope))
    ranks = [ladder(rules, gauges) for rules in ladders]
    lines.append(f"    return ({''.join(f'{rank}, ' for rank in ranks)}), due")
    evaluate_rules: EvaluateRules = define("evaluate_rules", lines, scope)
    return evaluate_rules


def compile_render_metrics(gauges: Sequence[Gauge], money: Money) -> RenderMetrics:
    """Return the function that renders gauges: money as decimal text, days and numbers as floats, counts as int."""
    scope: dict[str, Any] = {"bisect_right": bisect_right, "text": money.text, "text_of_ratio": money.text_of_ratio}
    lines = ["def render_metrics(facts, at):", HEAD, *windows(gauges, scope)]
    lines += [value_line(index, gauge, scope) for index, gauge in enumerate(gauges)]
    parts = [f"{gauge.metric.name!r}: {shown(index, gauge)}, " for index, gauge in enumerate(gauges)]
    lines.append(f"    return {{{''.join(parts)}}}")
    render_metrics: RenderMetrics = define("render_metrics", lines, scope)
    return render_metrics
