"""A customer's tiers and metrics as `customer-tiers` holds them, as JSON written by a generated function.

Every event of every customer leads to one such record, so it is written without building what it consists of. Its
shape is that of `models.outputs.CustomerTiers`; tests/models/test_snapshot.py holds the two against each other.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from models.compiled import HEAD, MAY_BE_UNDEFINED, VALUES, define, shown, value_line, windows
from models.customer import Standing
from models.instants import DAY_MS, format_instant
from models.metrics import Facts, Gauge, Unit
from models.money import Money

#: `snapshot(customer_id, standings, facts, at)`: the JSON; None where some scheme has no standing.
Snapshot = Callable[[str, Mapping[str, Standing], Facts, int], bytes | None]


def compile_snapshot(schemes: Sequence[str], gauges: Sequence[Gauge], money: Money, version: str) -> Snapshot:
    """Return the function for the schemes and the metrics that one version of a policy shows."""
    tiers = ",".join(f'{_literal(name)}:{{"tier":%s,"since":"%s","sequence":%s}}' for name in schemes)
    metrics = ",".join(f"{_literal(gauge.metric.name)}:%s" for gauge in gauges)
    template = (
        f'{{"customer_id":%s,"as_of":"%s","tiers":{{{tiers}}},"metrics":{{{metrics}}},'
        f'"policy_version":{_literal(version)}}}'
    )
    scope: dict[str, Any] = {"instant": format_instant, "json": _json, "tier": _tier, "template": template}
    scope |= {"text": money.text, "text_of_ratio": money.text_of_ratio, "bisect_right": bisect_right}
    lines = ["def snapshot(customer_id, standings, facts, at):", HEAD, *windows(gauges)]
    lines += [value_line(index, gauge, scope) for index, gauge in enumerate(gauges)]
    for place, name in enumerate(schemes):
        lines += [f"    t{place} = standings.get({name!r})", f"    if t{place} is None: return None"]
    values = ["json(customer_id)", "instant(at)"]
    for place in range(len(schemes)):
        values += [f"tier(t{place}.tier)", f"instant(t{place}.since)", f"t{place}.sequence"]
    values += [_written(index, gauge) for index, gauge in enumerate(gauges)]
    lines.append(f"    return (template % ({', '.join(values)})).encode()")
    snapshot: Snapshot = define("snapshot", lines, scope)
    return snapshot


def _written(index: int, gauge: Gauge) -> str:
    """The expression of what is shown of a gauge, as JSON."""
    name, g = gauge.metric.name, f"g{index}"
    if name in MAY_BE_UNDEFINED:
        return f"'null' if {g} is None else {g} / {DAY_MS}"
    if name in VALUES:
        return f"'\"' + text({g}) + '\"'" if gauge.metric.unit is Unit.MONEY else g
    return f"json({shown(index, gauge)})"


def _json(value: str | float | int | None) -> str:
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=1_024)
def _tier(name: str) -> str:
    return _json(name)


def _literal(text: str) -> str:
    """A text as JSON, within a template for `%`."""
    return _json(text).replace("%", "%%")
