"""The peers' logic comes to the tier changes of tidemark's own processor, so that a benchmark compares equal jobs."""

import pytest

from tests.bench.against_peers import Mismatch, compare
from tests.bench.backlog import PARTITIONS, broken, partitioned
from tests.bench.peers.rfm import Invalid, parse
from tests.bench.reference import Change, Course, decided_by_peer, decided_by_tidemark
from tests.bench.side import Result
from tests.bench.workload import Skew, orders


@pytest.mark.parametrize("skew", ["uniform", "zipf"])
def test_the_peers_logic_decides_as_tidemark_does(skew: Skew) -> None:
    load = list(orders(300, 20, skew))
    ours = decided_by_tidemark(load)
    assert {change.to_tier for change in ours} >= {"regular", "silver", "gold", "new"}
    assert decided_by_peer(load) == ours


def test_a_repeated_order_changes_nothing() -> None:
    load = list(orders(100, 10))
    assert decided_by_peer([order for order in load for _ in range(2)]) == decided_by_peer(load)


@pytest.mark.parametrize(
    "value",
    [
        b"{",
        b'{"type":"order.refunded","order_id":"o","customer_id":"c","occurred_at":1,"amount":"1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":"2026-01-01T00:00:00","amount":"1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1,"amount":"-1.00"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":1,"amount":"NaN"}',
        b'{"type":"order.placed","order_id":"o","customer_id":"other","occurred_at":1,"amount":"1.00"}',
    ],
)
def test_what_is_not_an_order_is_refused(value: bytes) -> None:
    with pytest.raises(Invalid):
        parse(b"c", value)


def test_the_course_ends_with_the_last_change_of_every_partition() -> None:
    load = list(partitioned(300, 20))
    course = Course(load, PARTITIONS)
    assert course.total == len(load) == 300 + broken(300) + PARTITIONS
    assert course.done([0] * PARTITIONS) == 0
    assert course.done([1] * PARTITIONS) < course.total
    assert course.done([10**6] * PARTITIONS) == course.total


@pytest.mark.parametrize("theirs", [Result(set(), 1), Result({Change("c", "loyalty", None, "silver", 1, 1)}, 0)])
def test_sides_that_differ_fail_the_benchmark(theirs: Result) -> None:
    ours = Result({Change("c", "loyalty", None, "silver", 1, 1)}, 1)
    compare("Peer", ours, ours, 1)
    with pytest.raises(Mismatch, match="Peer"):
        compare("Peer", ours, theirs, 1)
