import pytest

from models.instants import DAY_MS
from models.tiering import Position, next_instant, qualified_rank, settle
from tests.models.build import day, facts, order, policy, tiers

GRACE = 10 * DAY_MS


def scheme(grace: str = "10d", step: str = "qualified"):
    rules = [{"frequency": f">= {count}"} for count in (1, 2, 3)]
    return policy(tiers(*rules, grace=grace, step=step)).schemes[0]


@pytest.mark.parametrize(("orders", "rank"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_the_qualified_tier_is_the_highest_whose_rule_holds(orders: int, rank: int) -> None:
    known = facts(*(order(day(number), str(number)) for number in range(orders)))
    assert qualified_rank(scheme(), known, day(10)) == rank


def test_a_higher_tier_does_not_need_the_lower_ones_rule() -> None:
    odd = policy(tiers({"frequency": ">= 9"}, {"monetary": ">= 1"})).schemes[0]
    assert qualified_rank(odd, facts(order(day(0), "a")), day(1)) == 2


def test_up_is_at_once_and_to_the_qualified_tier() -> None:
    assert settle(scheme(), Position(0, None), 3, day(0)) == Position(3, None)


def test_rising_above_the_held_tier_ends_the_stay_below() -> None:
    assert settle(scheme(), Position(2, day(0)), 2, day(5)) == Position(2, None)
    assert settle(scheme(), Position(2, day(0)), 3, day(50)) == Position(3, None)


def test_the_stay_below_begins_and_ends_to_the_millisecond() -> None:
    below = settle(scheme(), Position(3, None), 1, day(0))
    assert below == Position(3, day(0))
    assert settle(scheme(), below, 1, day(10, -1)) == below
    assert settle(scheme(), below, 1, day(10)) == Position(1, None)


def test_changing_the_qualified_tier_while_below_does_not_start_anew() -> None:
    assert settle(scheme(), Position(3, day(0)), 2, day(5)) == Position(3, day(0))
    assert settle(scheme(), Position(3, day(0)), 0, day(10)) == Position(0, None)


def test_step_one_falls_one_tier_and_waits_again() -> None:
    down = settle(scheme(step="one"), Position(3, day(0)), 0, day(10))
    assert down == Position(2, day(10))
    assert settle(scheme(step="one"), down, 0, day(20, -1)) == down
    assert settle(scheme(step="one"), down, 0, day(20)) == Position(1, day(20))


def test_step_one_rests_on_the_qualified_tier() -> None:
    assert settle(scheme(step="one"), Position(3, day(0)), 2, day(10)) == Position(2, None)


def test_without_grace_the_fall_is_at_once() -> None:
    assert settle(scheme("0d"), Position(3, None), 1, day(0)) == Position(1, None)


def test_without_grace_step_one_falls_several_times_at_one_instant() -> None:
    position, path = Position(3, None), []
    while (moved := settle(scheme("0d", "one"), position, 0, day(0))) != position:
        position = moved
        path.append(moved.rank)
    assert path == [2, 1, 0]
    assert position.below_since is None


def test_the_next_instant_is_the_end_of_the_grace_or_an_earlier_flip() -> None:
    known = facts(order(day(0), "a"))  # leaves the window of 100 days at day 100
    assert next_instant(scheme(), Position(1, None), known, day(1)) == day(100)
    assert next_instant(scheme(), Position(2, day(1)), known, day(1)) == day(11)
    assert next_instant(scheme(), Position(2, day(95)), known, day(95)) == day(100)


def test_where_nothing_can_change_there_is_no_next_instant() -> None:
    assert next_instant(scheme(), Position(0, None), facts(), day(0)) is None
