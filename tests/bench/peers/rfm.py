"""The job in plain Python: one order and one customer's state in, outputs out. The Faust and Quix peers use it.

State is a dict of JSON values, as both libraries keep it. The job omits what tidemark does in addition, in favour of
the peers: refunds, late orders and timers. Changes that time alone causes are made up for at the customer's next order,
with their exact instants; if there are none, that takes one comparison.
"""

import hashlib
import time
from typing import Any

from tests.bench.peers import change_details
from tests.bench.peers.orders import Order
from tests.bench.peers.policy import (
    ACTIVE_MS,
    DORMANT_MS,
    GRACE_MS,
    NEW_MS,
    PLATINUM_MS,
    RANKS,
    VERSION,
    WINDOW_MS,
    Metrics,
    loyalty,
    stage,
)

State = dict[str, Any]


def apply(state: State | None, order: Order) -> tuple[State, list[dict[str, Any]], dict[str, Any]]:
    """Apply an order to a customer's state; return (state, tier changes, the customer's tiers)."""
    changes: list[dict[str, Any]] = []
    if state is None:
        state = {"orders": {}, "monetary": 0, "first": order.at, "last": 0, "below_since": None, "tiers": {}}
    if order.order_id not in state["orders"]:
        while state["tiers"] and (due := _next_instant(state)) < order.at:
            _evaluate(state, order.customer_id, due, "time", changes)
        state["orders"][order.order_id] = (order.at, order.cents)
        state["monetary"] += order.cents
        state["last"] = order.at
        _evaluate(state, order.customer_id, order.at, "order", changes)
    tiers = {
        "customer_id": order.customer_id,
        "as_of": change_details.instant(state["last"]),
        "tiers": state["tiers"],
        "metrics": change_details.metrics(_metrics(state, state["last"]), with_tenure=True),
        "policy_version": VERSION,
    }
    return state, changes, tiers


def _next_instant(state: State) -> int:
    """Return the first instant (ms) at which time alone may change anything; it may come early, never late."""
    due, held = 2**63, state["tiers"]["stage"]["tier"]
    if held == "new":
        due = state["first"] + NEW_MS + 1
    elif held == "active":
        due = state["last"] + ACTIVE_MS + 1
    elif held == "dormant":
        due = state["last"] + DORMANT_MS + 1
    for at, _ in state["orders"].values():
        due = min(due, at + WINDOW_MS)
        break
    if state["below_since"] is not None:
        due = min(due, state["below_since"] + GRACE_MS)
    elif state["tiers"]["loyalty"]["tier"] == "platinum":
        due = min(due, state["last"] + PLATINUM_MS + 1)
    return due


def _evaluate(state: State, customer_id: str, at: int, cause: str, changes: list[dict[str, Any]]) -> None:
    """Bring a customer up to an instant (ms): up at once, down after the grace, from stage to stage at once."""
    _expire(state, at - WINDOW_MS)
    metrics, tiers = _metrics(state, at), state["tiers"]
    qualified = loyalty(metrics.frequency, metrics.monetary, metrics.recency)
    held = tiers["loyalty"]["tier"] if tiers else None
    if held is not None and RANKS["loyalty"][qualified] < RANKS["loyalty"][held]:
        if state["below_since"] is None:
            state["below_since"] = at
        falls = at >= state["below_since"] + GRACE_MS
    else:
        state["below_since"], falls = None, False
    if falls or (state["below_since"] is None and qualified != held):
        state["below_since"] = None
        change = _move(tiers, "loyalty", qualified, customer_id, at, cause)
        change["metrics"] = change_details.metrics(metrics)
        change["why"] = change_details.why_loyalty(qualified, held, metrics)
        change["next"] = change_details.next_loyalty(qualified, metrics)
        change["at_risk"] = change_details.loyalty_at_risk(qualified, state["orders"], state["last"])
        changes.append(change)
    qualified = stage(metrics.recency, metrics.tenure)
    if "stage" not in tiers or qualified != tiers["stage"]["tier"]:
        change = _move(tiers, "stage", qualified, customer_id, at, cause)
        change["metrics"] = change_details.metrics(metrics, with_tenure=True)
        change["why"] = change_details.why_stage(qualified, metrics)
        change["next"] = None
        change["at_risk"] = change_details.stage_at_risk(qualified, state["last"])
        changes.append(change)


def _expire(state: State, until: int) -> None:
    """Drop orders that left the window. They were added in order of time, so the first is the oldest."""
    orders = state["orders"]
    while orders:
        oldest = next(iter(orders))
        at, cents = orders[oldest]
        if at > until:
            break
        del orders[oldest]
        state["monetary"] -= cents


def _metrics(state: State, at: int) -> Metrics:
    return Metrics(len(state["orders"]), state["monetary"], at - state["last"], at - state["first"])


def _move(tiers: State, scheme: str, to: str, customer_id: str, at: int, cause: str) -> dict[str, Any]:
    """Put the customer into a tier; return the beginning of the tier change."""
    held, ranks = tiers.get(scheme), RANKS[scheme]
    if held is None:
        before, direction, sequence = None, "enter", 1
    else:
        before, sequence = held["tier"], held["sequence"] + 1
        direction = "up" if ranks[to] > ranks[before] else "down"
    since = change_details.instant(at)
    tiers[scheme] = {"tier": to, "since": since, "sequence": sequence}
    name = f"{customer_id}|{scheme}|{sequence}|{before}|{to}|{at}"
    return {
        "event_id": hashlib.blake2b(name.encode(), digest_size=16).hexdigest(),
        "customer_id": customer_id,
        "scheme": scheme,
        "from": before,
        "to": to,
        "direction": direction,
        "effective_at": since,
        "decided_at": change_details.instant(time.time_ns() // 1_000_000),
        "sequence": sequence,
        "cause": cause,
        "policy_version": VERSION,
    }
