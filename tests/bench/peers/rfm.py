"""The job in plain Python: one order and one customer's state in, the outputs out. Used by the Faust and the Quix peer.

State is a dict of JSON values, as both libraries keep it. What tidemark does beyond the job is left out here, in favour
of the peers: timers, reasons (`why`), what is missing (`next`), when the customer falls (`at_risk`), late orders.
"""

import hashlib
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

DAY_MS = 86_400_000
WINDOW_MS = 90 * DAY_MS
GRACE_MS = 30 * DAY_MS
NEW_MS, ACTIVE_MS, DORMANT_MS = 30 * DAY_MS, 45 * DAY_MS, 120 * DAY_MS
#: Lowest first: the rank gives a move its direction.
LADDERS = {
    "loyalty": ("regular", "silver", "gold", "platinum"),
    "stage": ("churned", "dormant", "prospect", "new", "active"),
}
GRACES_MS = {"loyalty": GRACE_MS, "stage": 0}

State = dict[str, Any]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Invalid(Exception):
    """The record is not an order; it belongs into the dead letters."""


class _Placed(msgspec.Struct):
    type: Literal["order.placed"]
    order_id: Id
    customer_id: Id
    occurred_at: int | Annotated[datetime, msgspec.Meta(tz=True)]
    amount: str


class Order(NamedTuple):
    """An order that was checked: instant in ms, amount in cents."""

    order_id: str
    customer_id: str
    at: int
    cents: int


class Metrics(NamedTuple):
    """As of an instant: ms since the last and the first order, their number in the window, their sum in cents."""

    recency_ms: int
    tenure_ms: int
    frequency: int
    monetary: int


_decode = msgspec.json.Decoder(_Placed).decode


def parse(key: bytes | None, value: bytes) -> Order:
    """Return the order in a record. Raises Invalid."""
    try:
        raw = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(str(error)) from None
    if key != raw.customer_id.encode():
        raise Invalid("the key is not the customer")
    at = raw.occurred_at
    return Order(
        raw.order_id, raw.customer_id, at if type(at) is int else int(at.timestamp() * 1000), _cents(raw.amount)
    )


def _cents(amount: str) -> int:
    whole, _, cents = amount.partition(".")
    if len(cents) == 2 and amount.isascii() and (whole + cents).isdecimal():
        return int(whole + cents)
    try:
        value = int((Decimal(amount) * 100).quantize(Decimal(1), ROUND_HALF_EVEN))
    except (InvalidOperation, ValueError, OverflowError):
        raise Invalid("the amount is not a decimal number") from None
    if value < 0:
        raise Invalid("the amount is negative")
    return value


def apply(state: State | None, order: Order) -> tuple[State, list[dict[str, Any]], dict[str, Any]]:
    """Take an order into a customer's state; return (state, tier changes, the customer's tiers)."""
    if state is None:
        state = {"orders": {}, "monetary": 0, "tiers": {}}
    orders = state["orders"]
    if order.order_id not in orders:
        orders[order.order_id] = (order.at, order.cents)
        state["monetary"] += order.cents
    _expire(state, order.at - WINDOW_MS)
    metrics = _metrics(state, order.at)
    shown = {
        "recency_days": round(metrics.recency_ms / DAY_MS, 6),
        "frequency": metrics.frequency,
        "monetary": f"{metrics.monetary // 100}.{metrics.monetary % 100:02d}",
    }
    as_of = _text(order.at)
    changes = []
    for scheme, qualified in (("loyalty", _loyalty(metrics)), ("stage", _stage(metrics))):
        change = _settle(state["tiers"], scheme, qualified, order, as_of)
        if change is not None:
            changes.append({**change, "metrics": shown})
    tiers = {name: {key: held[key] for key in ("tier", "since", "sequence")} for name, held in state["tiers"].items()}
    return state, changes, {"customer_id": order.customer_id, "as_of": as_of, "tiers": tiers, "metrics": shown}


def _expire(state: State, until: int) -> None:
    """Drop orders that left the window. They were added in the order of their time, so the first is the oldest."""
    orders = state["orders"]
    while orders:
        oldest = next(iter(orders))
        at, cents = orders[oldest]
        if at > until:
            break
        del orders[oldest]
        state["monetary"] -= cents


def _metrics(state: State, at: int) -> Metrics:
    orders = state["orders"]
    if not orders:
        return Metrics(WINDOW_MS, WINDOW_MS, 0, 0)
    first, last = orders[next(iter(orders))][0], orders[next(reversed(orders))][0]
    return Metrics(at - last, at - first, len(orders), state["monetary"])


def _loyalty(metrics: Metrics) -> str:
    if metrics.monetary >= 2500_00 and metrics.frequency >= 15 and metrics.recency_ms <= 60 * DAY_MS:
        return "platinum"
    if metrics.monetary >= 1200_00 or metrics.frequency >= 12:
        return "gold"
    if metrics.monetary >= 300_00 and metrics.frequency >= 3:
        return "silver"
    return "regular"


def _stage(metrics: Metrics) -> str:
    if not metrics.frequency:
        return "prospect"
    if metrics.recency_ms <= ACTIVE_MS:
        return "new" if metrics.tenure_ms <= NEW_MS else "active"
    return "dormant" if metrics.recency_ms <= DORMANT_MS else "churned"


def _settle(tiers: State, scheme: str, qualified: str, order: Order, as_of: str) -> dict[str, Any] | None:
    """Move a customer up at once, down after the grace; return the tier change, None where there is none."""
    held = tiers.get(scheme)
    before = None if held is None else held["tier"]
    if held is None:
        direction = "enter"
    elif qualified == before:
        held["below_since"] = None
        return None
    elif LADDERS[scheme].index(qualified) > LADDERS[scheme].index(held["tier"]):
        direction = "up"
    else:
        below_since = order.at if held["below_since"] is None else held["below_since"]
        if order.at < below_since + GRACES_MS[scheme]:
            held["below_since"] = below_since
            return None
        direction = "down"
    sequence = 1 if held is None else held["sequence"] + 1
    tiers[scheme] = {"tier": qualified, "since": as_of, "sequence": sequence, "below_since": None}
    name = f"{order.customer_id}|{scheme}|{sequence}|{before}|{qualified}|{order.at}"
    return {
        "event_id": hashlib.blake2b(name.encode(), digest_size=16).hexdigest(),
        "customer_id": order.customer_id,
        "scheme": scheme,
        "from": before,
        "to": qualified,
        "direction": direction,
        "effective_at": as_of,
        "sequence": sequence,
    }


def _text(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
