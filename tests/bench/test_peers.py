"""The peers' logic has the same outputs as tidemark's processor, so a benchmark compares equal jobs."""

import random
from typing import Any

import orjson
import pytest

from tests.bench.backlog import PARTITIONS, broken, partitioned
from tests.bench.peers import policy
from tests.bench.peers.orders import Invalid, parse
from tests.bench.peers.program import Missing
from tests.bench.peers.rfm import apply
from tests.bench.reference import Course, decided_by_java, decided_by_peer, decided_by_tidemark
from tests.bench.results import OWN, Mismatch, Result, change_of, compare, tiers_of
from tests.bench.workload import SPAN_MS, START_MS, Order, Skew, orders

#: Gaps between orders (ms): at, just before and just after every threshold of the policy, and past several at once.
GAPS = [edge * policy.DAY_MS + off for edge in (15, 30, 45, 60, 90, 120) for off in (-1, 0, 1)]
GAPS += [0, 1_000, policy.DAY_MS, 3 * policy.DAY_MS, 100 * policy.DAY_MS, 135 * policy.DAY_MS, 200 * policy.DAY_MS]


def histories(customers: int = 60, each: int = 50) -> list[Order]:
    """Return orders of customers who buy in bursts, stay away, fall and return, in order of time."""
    draw = random.Random(11)
    load = []
    for customer in range(customers):
        at, burst = START_MS, 0
        for index in range(each):
            burst = burst - 1 if burst else draw.choice([0, 0, 0, 4, 14])
            at += draw.randrange(2 * policy.DAY_MS) if burst else draw.choice(GAPS)
            load.append(
                order(f"c{customer}", f"o{customer}-{index}", at, draw.choice([0, 10_00, 99_99, 300_00, 1250_00]))
            )
    # This customer is at risk of falling at the very instant when three orders that would keep silver leave the window.
    load += [order("edge", f"first-{index}", START_MS, 200_00) for index in range(12)]
    load += [order("edge", f"later-{index}", START_MS + 30 * policy.DAY_MS, 300_00) for index in range(3)]
    return sorted(load, key=lambda order: order.at)


def order(customer: str, name: str, at: int, cents: int) -> Order:
    """Return an order at an instant (ms)."""
    value = {"type": "order.placed", "order_id": name, "customer_id": customer, "occurred_at": at}
    return Order(at, customer.encode(), orjson.dumps(value | {"amount": f"{cents // 100}.{cents % 100:02d}"}))


def fields_of(result: Result, *names: str) -> set[tuple[object, ...]]:
    """Return the values of some fields of the tier changes of a result."""
    return {tuple(change[name] for name in names) for change in map(orjson.loads, result.changes)}


@pytest.mark.parametrize("skew", ["uniform", "zipf"])
def test_the_peers_logic_decides_as_tidemark_does(skew: Skew) -> None:
    load = list(orders(600, 20, skew))
    ours = decided_by_tidemark(load)
    assert {tier for (tier,) in fields_of(ours, "to")} == {"regular", "silver", "gold", "platinum", "new"}
    compare("The peers' logic", ours, decided_by_peer(load), 0)


def test_the_peers_logic_decides_as_tidemark_does_for_customers_who_come_and_go() -> None:
    load = histories()
    ours = decided_by_tidemark(load)
    assert fields_of(ours, "scheme", "from", "to") >= {
        ("loyalty", None, "gold"),
        ("loyalty", "platinum", "gold"),
        ("loyalty", "gold", "silver"),
        ("loyalty", "gold", "regular"),
        ("loyalty", "silver", "regular"),
        ("stage", "new", "active"),
        ("stage", "active", "dormant"),
        ("stage", "dormant", "churned"),
        ("stage", "dormant", "active"),
        ("stage", "churned", "active"),
    }
    assert fields_of(ours, "direction", "cause") == {
        ("enter", "order"),
        ("up", "order"),
        ("up", "time"),
        ("down", "order"),
        ("down", "time"),
    }
    compare("The peers' logic", ours, decided_by_peer(load), 0)


@pytest.mark.slow
@pytest.mark.kafka
def test_the_logic_of_the_java_peer_decides_as_tidemark_does() -> None:
    load = histories()
    try:
        theirs = decided_by_java(load)
    except Missing as missing:
        pytest.skip(str(missing))
    compare("The Java peer's logic", decided_by_tidemark(load), theirs, 0)


def test_the_load_of_the_benchmark_moves_nobody_by_time_alone() -> None:
    """A peer has no timers, so it would miss what is due after a customer's last order."""
    edges = (policy.NEW_MS, policy.ACTIVE_MS, policy.PLATINUM_MS, policy.WINDOW_MS)
    assert min(edges) > SPAN_MS
    assert fields_of(decided_by_tidemark(orders(2_000, 200)), "cause") == {("order",)}


def test_a_repeated_order_changes_nothing() -> None:
    load = list(orders(100, 10))
    once, twice = (decided_by_peer(each for each in load for _ in range(times)) for times in (1, 2))
    assert twice == once
    assert decided_by_peer([*load, load[0]]) == once


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b'{"type":"order.refunded","order_id":"o","customer_id":"c","occurred_at":1772359200000,"amount":"1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1772359200000}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":"2026-01-01T00:00:00","amount":"1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1772359200000,"amount":"-1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1772359200000,"amount":"NaN"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"other","occurred_at":1772359200000,"amount":"1.00"}',
    ],
)
def test_invalid_orders_are_refused(value: bytes) -> None:
    with pytest.raises(Invalid):
        parse(b"c", value)


def test_the_course_ends_with_the_last_change_of_every_partition() -> None:
    load = list(partitioned(300, 20))
    course = Course(load, PARTITIONS)
    assert course.total == len(load) == 300 + broken(300) + PARTITIONS
    assert course.done([0] * PARTITIONS) == 0
    assert course.done([1] * PARTITIONS) < course.total
    assert course.done([10**6] * PARTITIONS) == course.total


def test_sides_that_differ_in_any_field_fail_the_benchmark() -> None:
    first = next(orders(1, 1))
    _, [change, _], tiers = apply(None, parse(first.key, first.value))
    assert {"why", "next", "at_risk", "cause", "policy_version", *OWN} < set(change)
    ours = result_of(change, tiers)
    for name in set(change) - set(OWN):
        with pytest.raises(Mismatch, match="Peer: 1 tier changes are only ours"):
            compare("Peer", ours, result_of(change | {name: "other"}, tiers), 1)
    for name in tiers:
        with pytest.raises(Mismatch, match="Peer: 1 customers' tiers are only ours"):
            compare("Peer", ours, result_of(change, tiers | {name: "other"}), 1)
    with pytest.raises(Mismatch, match="expected 1"):
        compare("Peer", ours, ours._replace(letters=0), 1)
    compare("Peer", ours, result_of(change | dict.fromkeys(OWN, "other"), tiers), 1)


def result_of(change: dict[str, Any], tiers: dict[str, Any]) -> Result:
    """Return the result of a side with one tier change, one customer's tiers and one dead letter."""
    return Result({change_of(orjson.dumps(change))}, {b"c": tiers_of(orjson.dumps(tiers))}, 1)
