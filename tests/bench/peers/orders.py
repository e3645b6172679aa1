"""The input: orders in JSON, validated, with instants in ms and amounts in cents."""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Literal, NamedTuple

import msgspec

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


class Invalid(Exception):
    """The record is not an order; it becomes a dead letter."""


class _Placed(msgspec.Struct):
    type: Literal["order.placed"]
    order_id: Id
    customer_id: Id
    occurred_at: int | Annotated[datetime, msgspec.Meta(tz=True)]
    amount: str


class Order(NamedTuple):
    """A valid order: instant in ms, amount in cents."""

    order_id: str
    customer_id: str
    at: int
    cents: int


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
    return Order(raw.order_id, raw.customer_id, at if type(at) is int else (at - _EPOCH) // _MS, _cents(raw.amount))


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
