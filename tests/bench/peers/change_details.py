"""The details of a change, in displayed units: metrics, why the tier, the next tier, the tier at risk.

They are coded for this policy, and calculated only if a customer moves.
"""

from datetime import UTC, datetime
from typing import Any

from tests.bench.peers.policy import (
    ACTIVE_MS,
    DAY_MS,
    DORMANT_MS,
    GOLD_CENTS,
    GOLD_ORDERS,
    GRACE_MS,
    NEW_MS,
    PLATINUM_CENTS,
    PLATINUM_MS,
    PLATINUM_ORDERS,
    RANKS,
    SILVER_CENTS,
    SILVER_ORDERS,
    WINDOW_MS,
    Metrics,
    loyalty,
)

Json = dict[str, Any]
_LADDER = tuple(RANKS["loyalty"])
#: The thresholds of each rule of the ladder, all of them `>=`: cents and orders. Platinum also has one of recency.
_THRESHOLDS = {
    "silver": (SILVER_CENTS, SILVER_ORDERS),
    "gold": (GOLD_CENTS, GOLD_ORDERS),
    "platinum": (PLATINUM_CENTS, PLATINUM_ORDERS),
}


def instant(at: int) -> str:
    """Return an instant (ms) as RFC 3339 in UTC, with milliseconds only if they are not 0."""
    timespec = "milliseconds" if at % 1000 else "seconds"
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec=timespec)[:-6] + "Z"


def money(cents: int) -> str:
    """Return cents as a decimal text."""
    return f"{cents // 100}.{cents % 100:02d}"


def metrics(found: Metrics, *, with_tenure: bool = False) -> Json:
    """Return metrics as outputs show them; `with_tenure` adds the days since the first order, for the stages."""
    shown: Json = {
        "recency_days": found.recency / DAY_MS,
        "frequency": found.frequency,
        "monetary": money(found.monetary),
    }
    if with_tenure:
        shown["first_order_days"] = found.tenure / DAY_MS
    return shown


def why_loyalty(tier: str, before: str | None, found: Metrics) -> list[Json]:
    """Return the comparisons that hold in the tier's rule; for a fall, those that fail in the rules above.

    For a customer who enters at the lowest tier, they are those that fail in silver's rule.
    """
    rank = RANKS["loyalty"][tier]
    if before is not None and rank < RANKS["loyalty"][before]:
        rules, truth = _LADDER[rank + 1 : RANKS["loyalty"][before] + 1], False
    else:
        rules, truth = (_LADDER[rank or 1],), rank > 0
    return [entry for rule in rules for entry in _compared(rule, found) if entry["met"] is truth]


def _compared(rule: str, found: Metrics) -> list[Json]:
    cents, orders = _THRESHOLDS[rule]
    entries = [
        _why("monetary", money(found.monetary), ">=", money(cents), met=found.monetary >= cents),
        _why("frequency", found.frequency, ">=", orders, met=found.frequency >= orders),
    ]
    if rule == "platinum":
        met = found.recency <= PLATINUM_MS
        entries.append(_why("recency_days", found.recency / DAY_MS, "<=", PLATINUM_MS // DAY_MS, met=met))
    return entries


def next_loyalty(tier: str, found: Metrics) -> Json | None:
    """Return the next tier up and what it still requires. Gold can be reached in two ways: the nearer one counts."""
    if tier == "platinum":
        return None
    upper = _LADDER[RANKS["loyalty"][tier] + 1]
    edge_cents, edge_orders = _THRESHOLDS[upper]
    cents, orders = edge_cents - found.monetary, edge_orders - found.frequency
    if upper == "gold":
        if orders * edge_cents < cents * edge_orders:
            cents = 0
        else:
            orders = 0
    needs: list[Json] = []
    if cents > 0:
        needs.append({"metric": "monetary", "missing": money(cents)})
    if orders > 0:
        needs.append({"metric": "frequency", "missing": orders})
    if upper == "platinum" and found.recency > PLATINUM_MS:
        needs.append({"metric": "recency_days", "missing": (found.recency - PLATINUM_MS) / DAY_MS})
    return {"tier": upper, "needs": needs}


def loyalty_at_risk(tier: str, orders: dict[str, tuple[int, int]], last: int) -> Json | None:
    """Return the tier to which a customer falls without another order, and when; instants in ms, oldest order first.

    Take the fewest latest orders for which the rule holds. It fails when the oldest of them leaves the window, and the
    fall comes one grace later.
    """
    rank = RANKS["loyalty"][tier]
    if not rank:
        return None
    frequency = monetary = below = 0
    for at, cents in reversed(orders.values()):
        frequency, monetary = frequency + 1, monetary + cents
        if RANKS["loyalty"][loyalty(frequency, monetary, 0)] >= rank:
            below = at + WINDOW_MS
            break
    if tier == "platinum":
        below = min(below, last + PLATINUM_MS + 1)
    falls = below + GRACE_MS
    frequency = monetary = 0
    for at, cents in reversed(orders.values()):
        if at <= falls - WINDOW_MS:
            break
        frequency, monetary = frequency + 1, monetary + cents
    return {"tier": loyalty(frequency, monetary, falls - last), "on": instant(falls)}


def why_stage(tier: str, found: Metrics) -> list[Json]:
    """Return the comparisons that hold for "new" and "active", or those that fail for the other stages."""
    recency, tenure = found.recency / DAY_MS, found.tenure / DAY_MS
    if tier == "churned":
        return [_why("recency_days", recency, "<=", DORMANT_MS // DAY_MS, met=False)]
    active, fresh = ACTIVE_MS // DAY_MS, NEW_MS // DAY_MS
    if tier == "dormant":
        return [
            _why("first_order_days", tenure, "<", 0, met=False),
            _why("first_order_days", tenure, "<=", fresh, met=False),
            _why("recency_days", recency, "<=", active, met=False),
        ]
    return [
        _why("first_order_days", tenure, "<=" if tier == "new" else ">", fresh, met=True),
        _why("recency_days", recency, "<=", active, met=True),
    ]


def stage_at_risk(tier: str, last: int) -> Json | None:
    """Return the stage that follows without another order, and when; `last` is the last order's instant (ms)."""
    if tier == "churned":
        return None
    if tier == "dormant":
        return {"tier": "churned", "on": instant(last + DORMANT_MS + 1)}
    return {"tier": "dormant", "on": instant(last + ACTIVE_MS + 1)}


def _why(metric: str, value: Any, op: str, threshold: Any, *, met: bool) -> Json:
    return {"metric": metric, "value": value, "op": op, "threshold": threshold, "met": met}
