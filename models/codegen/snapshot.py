"""A customer's tiers and metrics as `customer-tiers` holds them, as JSON written by a generated function.

Every event of every customer leads to one such record, so it is written without building what it consists of. Its
shape is that of `models.outputs.CustomerTiers`; tests/models/codegen/test_snapshot.py holds the two against each other.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

import msgspec

from models.codegen.source import HEAD, VALUES, define, shown, value_line, windows
from models.customer.state import Standing
from models.instants import format_instant
from models.money import Money
from models.rules.metrics import Facts, Gauge, Unit

#: `snapshot(customer_id, standings, facts, at)`: the JSON; None where some scheme has no standing.
Snapshot = Callable[[str, Mapping[str, Standing], Facts, int], bytes | None]


def compile_snapshot(schemes: Sequence[str], gauges: Sequence[Gauge], money: Money, version: str) -> Snapshot:
    """Return the function for the schemes and the metrics that one version of a policy shows."""
    scope: dict[str, Any] = {"instant": format_instant, "json": _json, "tier": _tier}
    scope |= {"text": money.text, "text_of_ratio": money.text_of_ratio, "bisect_right": bisect_right}
    lines = ["def snapshot(customer_id, standings, facts, at):", HEAD, *windows(gauges)]
    lines += [value_line(index, gauge, scope) for index, gauge in enumerate(gauges)]
    for place, name in enumerate(schemes):
        lines += [f"    t{place} = standings.get({name!r})", f"    if t{place} is None: return None"]
    written = _Template(scope)
    written.add('{"customer_id":', "json(customer_id)").add(',"as_of":"', "instant(at)").add('","tiers":{')
    for place, name in enumerate(schemes):
        written.add(f'{"," if place else ""}{_json(name)}:{{"tier":', f"tier(t{place}.tier)")
        written.add(',"since":"', f"instant(t{place}.since)").add('","sequence":', f"t{place}.sequence").add("}")
    written.add('},"metrics":{')
    for index, gauge in enumerate(gauges):
        written.add(f"{',' if index else ''}{_json(gauge.metric.name)}:")
        whole = gauge.metric.name in VALUES and gauge.metric.unit
        if whole is Unit.MONEY:
            written.add('"', f"text(g{index})").add('"')
        else:
            written.add("", f"g{index}" if whole is Unit.COUNT else f"json({shown(index, gauge)})")
    written.add(f'}},"policy_version":{_json(version)}}}')
    lines.append(f"    return {written.expression}.encode()")
    snapshot: Snapshot = define("snapshot", lines, scope)
    return snapshot


class _Template:
    """An f-string in the making. Its texts are constants of the generated function, so that none needs quoting."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self._scope, self._parts, self._text = scope, list[str](), ""

    def add(self, text: str, expression: str = "") -> Self:
        """Append a text, and what an expression comes to; the expression is free of double quotes."""
        self._text += text
        if expression:
            self._parts += [self._constant(), f"{{{expression}}}"]
            self._text = ""
        return self

    @property
    def expression(self) -> str:
        """The whole of it."""
        return f'f"{"".join(self._parts)}{self._constant()}"'

    def _constant(self) -> str:
        name = f"text{len(self._parts)}"
        self._scope[name] = self._text
        return f"{{{name}}}"


def _json(value: str | float | int | None) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=1_024)
def _tier(name: str) -> str:
    return _json(name)
