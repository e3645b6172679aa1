"""The due index: none is missed, none comes early, and what moves about does not pile up."""

import random

import pytest

from models.customer.state import NEVER
from models.instants import HOUR_MS, MIN_INSTANT
from streams.partition.timers import SLOT_MS, TimerIndex


def test_keys_come_up_at_their_instants_in_order() -> None:
    index = TimerIndex()
    asked = {b"a": 30 * HOUR_MS, b"b": 10, b"c": 20, b"never": NEVER}
    for key, instant in asked.items():
        index.schedule(key, instant)
    assert index.next_instant() <= 10
    assert list(index.pop_due(9, asked.__getitem__)) == []
    assert index.next_instant() == 10
    assert list(index.pop_due(20, asked.__getitem__)) == [b"b", b"c"]
    assert 20 < index.next_instant() <= 30 * HOUR_MS
    assert list(index.pop_due(NEVER - 1, asked.__getitem__)) == [b"a"]
    assert (len(index), index.next_instant()) == (0, NEVER)


def test_a_key_rescheduled_earlier_comes_up_earlier_and_once() -> None:
    index = TimerIndex()
    known = NEVER
    for instant in (50, 20, 40, 20):
        index.schedule(b"a", instant, known)
        known = instant
    assert list(index.pop_due(20, lambda _: 20)) == [b"a"]
    assert list(index.pop_due(100, lambda _: NEVER)) == []
    assert len(index) == 0


def test_rows_of_another_policy_come_up_at_once() -> None:
    index = TimerIndex()
    index.schedule(b"a", 10)
    assert list(index.pop_due(5, lambda _: 10)) == []
    index.schedule(b"b", MIN_INSTANT)
    assert index.next_instant() == MIN_INSTANT
    assert list(index.pop_due(5, lambda _: MIN_INSTANT)) == [b"b"]


def test_a_key_that_moved_on_is_put_off_to_what_its_row_asks_for() -> None:
    index = TimerIndex()
    index.schedule(b"a", 10)
    assert list(index.pop_due(20, lambda _: 70)) == []
    assert list(index.pop_due(69, lambda _: 70)) == []
    assert index.next_instant() == 70
    assert list(index.pop_due(70, lambda _: 70)) == [b"a"]


def test_a_key_that_moved_on_to_another_slot_comes_up_there() -> None:
    index = TimerIndex()
    index.schedule(b"a", 10)
    later = 5 * SLOT_MS + 3
    assert list(index.pop_due(20, lambda _: later)) == []
    assert 20 < index.next_instant() <= later
    assert list(index.pop_due(later - 1, lambda _: later)) == []
    assert list(index.pop_due(later, lambda _: later)) == [b"a"]


def test_a_key_that_is_gone_is_forgotten() -> None:
    index = TimerIndex()
    index.schedule(b"a", 10)
    assert list(index.pop_due(20, lambda _: NEVER)) == []
    assert (len(index), index.next_instant()) == (0, NEVER)


def test_a_key_scheduled_again_while_it_is_taken_comes_up_again() -> None:
    index = TimerIndex()
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
    index = TimerIndex()
    for number in range(5):
        index.schedule(bytes([number]), number)
    due = index.pop_due(4, lambda key: key[0])
    assert [next(due), next(due)] == [b"\x00", b"\x01"]
    due.close()
    assert list(index.pop_due(4, lambda key: key[0])) == [b"\x02", b"\x03", b"\x04"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("span", [500, 400 * HOUR_MS])
def test_under_random_rescheduling_none_is_missed_and_the_index_stays_small(seed: int, span: int) -> None:
    choose = random.Random(seed)
    index = TimerIndex()
    keys = [bytes([number]) for number in range(40)]
    asked = dict.fromkeys(keys, NEVER)
    horizon = 0

    def move(key: bytes, known: int) -> None:
        asked[key] = NEVER if choose.random() < 0.05 else horizon + choose.randrange(1, span)
        index.schedule(key, asked[key], known)

    for _ in range(5_000):
        key = choose.choice(keys)
        move(key, asked[key])
        if choose.random() < 0.1:
            horizon += choose.randrange(span // 5)
            due = {key for key, instant in asked.items() if instant <= horizon}
            assert not due or index.next_instant() <= horizon
            taken = list(index.pop_due(horizon, asked.__getitem__))
            assert sorted(taken) == sorted(due)
            assert taken == sorted(taken, key=asked.__getitem__)
            for key in due:
                move(key, NEVER)
            assert len(index) == len(index._near) + sum(map(len, index._far.values()))
            assert len(index) <= 3 * len(keys) + 64


def test_a_key_that_only_ever_moves_later_adds_nothing() -> None:
    """As most do: each order puts a customer's next expiry or alert off."""
    index = TimerIndex()
    for instant in range(1, 10_001):
        index.schedule(b"a", instant, NEVER if instant == 1 else instant - 1)
    assert len(index) == 1


def test_a_key_that_is_woken_up_again_and_again_before_a_far_instant_does_not_pile_up() -> None:
    """As settled decisions do: an order waits for its instant, and then the expiry months away is asked for again."""
    index = TimerIndex()
    asked = far = 10**9
    index.schedule(b"a", far)
    for now in range(10_000):
        index.schedule(b"a", now, asked)
        asked = now
        (key,) = index.pop_due(now, lambda _, now=now: now)
        asked = far + now * SLOT_MS
        index.schedule(key, asked)
        for _ in index.pop_due(now, lambda _, asked=asked: asked):
            raise AssertionError("it is not due")
    assert len(index) <= 2 * 2 + 64
    assert list(index.pop_due(asked, lambda _: asked)) == [b"a"]


def test_sweeping_while_keys_are_taken_loses_none() -> None:
    index = TimerIndex()
    keys = [bytes([high, low]) for high in range(2) for low in range(200)]
    for key in keys:
        for instant in (900, 800, 700):
            index.schedule(key, instant)
    taken, asked = [], dict.fromkeys(keys, 700)
    for key in index.pop_due(700, asked.__getitem__):
        taken.append(key)
        for instant in (5_000, 4_000, 3_000, 2_000):
            index.schedule(key, instant)
        asked[key] = 2_000
    assert sorted(taken) == keys
    assert index.next_instant() <= 2_000
    assert list(index.pop_due(1_999, asked.__getitem__)) == []
    assert sorted(index.pop_due(2_000, asked.__getitem__)) == keys
