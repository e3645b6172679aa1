import random

import pytest

from models.customer import NEVER
from streams.due_index import DueIndex


def test_keys_come_up_at_their_instants_in_order() -> None:
    index = DueIndex()
    asked = {b"a": 30, b"b": 10, b"c": 20, b"never": NEVER}
    for key, instant in asked.items():
        index.schedule(key, instant)
    assert index.next_instant() == 10
    assert list(index.pop_due(9, asked.get)) == []
    assert list(index.pop_due(20, asked.get)) == [b"b", b"c"]
    assert list(index.pop_due(NEVER - 1, asked.get)) == [b"a"]
    assert (len(index), index.next_instant()) == (0, NEVER)


def test_a_key_rescheduled_earlier_comes_up_earlier_and_once() -> None:
    index = DueIndex()
    for instant in (50, 20, 40, 20):
        index.schedule(b"a", instant)
    assert len(index) == 1
    assert list(index.pop_due(20, lambda _: 20)) == [b"a"]
    assert list(index.pop_due(100, lambda _: 20)) == []


def test_a_key_that_moved_on_is_put_off_to_what_its_row_asks_for() -> None:
    index = DueIndex()
    index.schedule(b"a", 10)
    assert list(index.pop_due(20, lambda _: 70)) == []
    assert index.next_instant() == 70
    assert list(index.pop_due(70, lambda _: 70)) == [b"a"]


def test_a_key_that_is_gone_is_forgotten() -> None:
    index = DueIndex()
    index.schedule(b"a", 10)
    assert list(index.pop_due(20, lambda _: NEVER)) == []
    assert (len(index), index.next_instant()) == (0, NEVER)


def test_a_key_scheduled_again_while_it_is_taken_comes_up_again() -> None:
    index = DueIndex()
    asked = {b"a": 10}
    index.schedule(b"a", 10)
    seen = []
    for key in index.pop_due(35, asked.__getitem__):
        seen.append((key, asked[key]))
        asked[key] += 10
        index.schedule(key, asked[key])
    assert seen == [(b"a", 10), (b"a", 20), (b"a", 30)]
    assert index.next_instant() == 40


def test_what_is_not_taken_stays() -> None:
    index = DueIndex()
    for number in range(5):
        index.schedule(bytes([number]), number)
    due = index.pop_due(4, lambda key: key[0])
    assert [next(due), next(due)] == [b"\x00", b"\x01"]
    due.close()
    assert list(index.pop_due(4, lambda key: key[0])) == [b"\x02", b"\x03", b"\x04"]


@pytest.mark.parametrize("seed", range(5))
def test_under_random_rescheduling_none_is_missed_and_the_index_stays_small(seed: int) -> None:
    choose = random.Random(seed)
    index, asked = DueIndex(), {}
    keys = [bytes([number]) for number in range(40)]
    horizon = 0
    for _ in range(5_000):
        key = choose.choice(keys)
        asked[key] = NEVER if choose.random() < 0.05 else horizon + choose.randrange(1, 500)
        index.schedule(key, asked[key])
        if choose.random() < 0.1:
            horizon += choose.randrange(100)
            due = {key for key, instant in asked.items() if instant <= horizon}
            taken = list(index.pop_due(horizon, lambda key: asked.get(key, NEVER)))
            assert sorted(taken) == sorted(due)
            for key in due:
                asked[key] = horizon + choose.randrange(1, 500)
                index.schedule(key, asked[key])
        assert len(index) <= len(keys)
        assert len(index._heap) <= 2 * len(index) + 64
        assert {(instant, key) for key, instant in index._scheduled.items()} <= set(index._heap)
        for key, instant in asked.items():
            assert instant == NEVER or index._scheduled[key] <= instant


def test_a_key_that_only_ever_moves_later_adds_nothing() -> None:
    """As most do: each order puts a customer's next expiry or alert off."""
    index = DueIndex()
    for instant in range(1, 10_001):
        index.schedule(b"a", instant)
    assert len(index._heap) == len(index) == 1


def test_a_key_that_is_woken_up_again_and_again_before_a_far_instant_does_not_pile_up() -> None:
    """As settled decisions do: an order waits for its instant, and then the expiry months away is asked for again."""
    index = DueIndex()
    for now in range(10_000):
        index.schedule(b"a", now)
        (key,) = index.pop_due(now, lambda _, now=now: now)
        index.schedule(key, 1_000_000)
    assert len(index) == 1
    assert len(index._heap) <= 2 + 64
    assert list(index.pop_due(1_000_000, lambda _: 1_000_000)) == [b"a"]


def test_sweeping_while_keys_are_taken_loses_none() -> None:
    index = DueIndex()
    keys = [bytes([high, low]) for high in range(2) for low in range(200)]
    for key in keys:
        for instant in (900, 800, 700):
            index.schedule(key, instant)
    taken = []
    for key in index.pop_due(700, lambda _: 700):
        taken.append(key)
        for instant in (5_000, 4_000, 3_000, 2_000):
            index.schedule(key, instant)
    assert sorted(taken) == keys
    assert index.next_instant() <= 2_000
    assert sorted(index.pop_due(2_000, lambda _: 2_000)) == keys
