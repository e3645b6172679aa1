"""Evaluating customers whom no scheme moves, as most events and days leave them: a generated function, not many calls.

`models.engine.evaluate` decides everything and tells it; where nothing is to be told, this comes to the same state at
once. It begins with the same reading of gauges as `models.codegen.evaluate_rules`.
tests/models/codegen/test_unchanged.py holds the two ways against each other.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from models.codegen.source import LEDGER, NO_CHANGE, VALUES, change_lines, define, ladder, value_line, windows
from models.customer.state import Customer
from models.instants import LAST_INSTANT
from models.rules.metrics import Gauge
from models.rules.scheme import Scheme

#: `steady(customer, at)`: evaluates a customer for whom every scheme stays as it is, and returns True. False: nothing
#: is decided.
Steady = Callable[[Customer, int], bool]


def compile_steady(schemes: Sequence[Scheme], gauges: Sequence[Gauge], version: str, horizon: int) -> Steady | None:
    """Return the function for the schemes of a policy's version; `horizon` (ms) is its longest window.

    None where a rule reads a metric that is no whole number.
    """
    leaves = [leaf for scheme in schemes for tier in scheme.tiers if tier.rule for leaf in tier.rule.leaves()]
    read = sorted({leaf.gauge for leaf in leaves})
    if any(gauges[index].metric.name not in VALUES for index in read):
        return None
    scope: dict[str, Any] = {"bisect_left": bisect_left, "bisect_right": bisect_right}
    lines = [
        "def steady(customer, at):",
        f"    if customer.policy_version != {version!r}: return False",
        f"    if customer.interactions.times: customer.interactions.forget_until(at - {horizon})",
        "    ledger, get = customer.ledger, customer.standings.get",
        f"{LEDGER}    due = {NO_CHANGE}",
        *windows(gauges[index] for index in read),
        *(value_line(index, gauges[index], scope) for index in read),
    ]
    for place, scheme in enumerate(schemes):
        lines += _stays(place, scheme, gauges, scope)
    lines += [change_lines(index, gauges[index], scope) for index in read]
    lines.append(f"    customer.cursor, customer.due = at, due if due <= {LAST_INSTANT} else {NO_CHANGE}")
    steady: Steady = define("steady", [*lines, "    return True"], scope)
    return steady


def _stays(place: int, scheme: Scheme, gauges: Sequence[Gauge], scope: dict[str, Any]) -> list[str]:
    """Return the lines that give up where a scheme moves the customer; who stands below in the grace is due at its end.

    The end of the grace is that of `models.rules.hysteresis.fall_instant`; kept periods are left to it. What is noted
    before another scheme gives up is what evaluating as of the same instant notes, too.
    """
    scope[f"tiers{place}"] = tuple(tier.name for tier in scheme.tiers)
    scope[f"ranks{place}"] = dict(scheme.ranks)
    rank = ladder([tier.rule for tier in scheme.tiers], gauges)
    lines = [f"    standing = get({scheme.name!r})", "    if standing is None: return False"]
    if scheme.demotion.keep is not None:
        held = f"tiers{place}[{rank}]"
        return [*lines, f"    if standing.below_since is not None or standing.tier != {held}: return False"]
    return [
        *lines,
        f"    r = {rank}",
        f"    if standing.tier != tiers{place}[r]:",
        f"        if r >= ranks{place}.get(standing.tier, -1): return False",
        "        below = at if standing.below_since is None else standing.below_since",
        f"        falls = below + {scheme.demotion.grace}",
        f"        if (stay := standing.since + {scheme.demotion.min_stay}) > falls: falls = stay",
        "        if at >= falls: return False",
        "        standing.below_since = below",
        "        if falls < due: due = falls",
        "    elif standing.below_since is not None: standing.below_since = None",
    ]
