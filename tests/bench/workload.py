"""The load of the benchmarks: orders of many customers. The same arguments give the same orders."""

import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from typing import Literal, NamedTuple

import orjson

START_MS = 1_700_000_000_000
#: The time (ms) from the first order to the last: shorter than any window, stage or grace of the measured policy. So no
#: tier changes by time alone, and a peer without timers makes the same tier changes.
SPAN_MS = 25 * 86_400_000
#: The exponent of Zipf's law for the skewed load: the customer of rank r orders in proportion to 1 / r^1.1.
ZIPF = 1.1

Skew = Literal["uniform", "zipf"]


class Order(NamedTuple):
    """An order to produce: its instant (ms), and key and value in bytes."""

    at: int
    key: bytes
    value: bytes


def orders(count: int, customers: int, skew: Skew = "uniform") -> Iterator[Order]:
    """Yield `count` orders of `customers` customers in order of time."""
    draw = random.Random(7)
    weights = None if skew == "uniform" else list(accumulate(1 / rank**ZIPF for rank in range(1, customers + 1)))
    step = SPAN_MS / count
    for index in range(count):
        customer = draw.randrange(customers) if weights is None else _pick(draw, weights)
        cents, at = draw.randrange(100, 20_000), START_MS + int(index * step)
        value = {
            "type": "order.placed",
            "order_id": f"o{index}",
            "customer_id": f"c{customer}",
            "occurred_at": at,
            "amount": f"{cents // 100}.{cents % 100:02d}",
        }
        yield Order(at, b"c%d" % customer, orjson.dumps(value))


def _pick(draw: random.Random, weights: list[float]) -> int:
    return bisect(weights, draw.random() * weights[-1], 0, len(weights) - 1)
