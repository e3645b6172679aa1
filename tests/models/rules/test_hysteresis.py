"""Hysteresis: positions one step at a time, and what delays a fall, to the millisecond."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from models.instants import DAY_MS, LAST_INSTANT, parse_instant
from models.policy.compiled import Policy
from models.rules.hysteresis import Position, fall_instant, pass_time, settle
from models.rules.metrics import Facts
from models.rules.scheme import Demotion
from tests.models.build import T0, day, facts, order, policy, tiers

GRACE = 10 * DAY_MS
UTC = ZoneInfo("UTC")
#: Long before anything here happens: the tier has been held for years.
AGES = day(-5_000)


def rules(grace: str = "10d", **more: Any) -> Policy:
    return policy(tiers(*({"frequency": f">= {count}"} for count in (1, 2, 3)), grace=grace, **more))


def held(rank: int, below_since: int | None, since: int = AGES) -> Position:
    return Position(rank, since, below_since)


def step(
    position: Position,
    qualified: int,
    at: int,
    demotion: Demotion | None = None,
    anchor: int = T0,
    zone: ZoneInfo = UTC,
) -> Position:
    return settle(demotion or Demotion(GRACE), position, qualified, at, anchor, zone)


def test_up_is_at_once_and_to_the_qualified_tier() -> None:
    assert step(held(0, None), 3, day(0)) == Position(3, day(0), None)


def test_rising_above_the_held_tier_ends_the_stay_below() -> None:
    assert step(held(2, day(0)), 2, day(5)) == held(2, None)
    assert step(held(2, day(0)), 3, day(50)) == Position(3, day(50), None)


def test_the_stay_below_begins_and_ends_to_the_millisecond() -> None:
    below = step(held(3, None), 1, day(0))
    assert below == held(3, day(0))
    assert step(below, 1, day(10, -1)) == below
    assert step(below, 1, day(10)) == Position(1, day(10), None)


def test_changing_the_qualified_tier_while_below_does_not_restart_the_grace() -> None:
    assert step(held(3, day(0)), 2, day(5)) == held(3, day(0))
    assert step(held(3, day(0)), 0, day(10)) == Position(0, day(10), None)


def test_step_one_falls_one_tier_and_waits_again() -> None:
    one = Demotion(GRACE, "one")
    down = step(held(3, day(0)), 0, day(10), one)
    assert down == Position(2, day(10), day(10))
    assert step(down, 0, day(20, -1), one) == down
    assert step(down, 0, day(20), one) == Position(1, day(20), day(20))


def test_step_one_rests_on_the_qualified_tier() -> None:
    assert step(held(3, day(0)), 2, day(10), Demotion(GRACE, "one")) == Position(2, day(10), None)


def test_without_grace_the_fall_is_at_once() -> None:
    assert step(held(3, None), 1, day(0), Demotion()) == Position(1, day(0), None)


def test_without_grace_step_one_falls_several_times_at_one_instant() -> None:
    position, path = held(3, None), []
    while (moved := step(position, 0, day(0), Demotion(step="one"))) != position:
        position = moved
        path.append(moved.rank)
    assert path == [2, 1, 0]
    assert position.below_since is None


def passing(rules: Policy, position: Position, known: Facts, at: int) -> list[tuple[int, Position]]:
    (scheme,) = rules.schemes
    return list(pass_time(scheme.demotion, rules.outlooks[scheme.name].evaluate_rules, position, known, at, rules.zone))


def test_time_alone_brings_every_change_at_its_instant() -> None:
    known = facts(order(day(0), "a"))  # leaves the window of 100 days at day 100
    fall = [(day(100), held(1, day(100))), (day(110), Position(0, day(110), None))]
    assert passing(rules(), held(1, None), known, day(1)) == fall
    assert passing(rules(), held(2, day(1)), known, day(1)) == [
        (day(11), Position(1, day(11), None)),
        (day(100), Position(1, day(11), day(100))),
        (day(110), Position(0, day(110), None)),
    ]
    # The qualified tier falls further while they are below, which does not restart the grace.
    assert passing(rules(), held(2, day(95)), known, day(95)) == [(day(105), Position(0, day(105), None))]


def test_where_nothing_can_change_nothing_comes() -> None:
    assert passing(rules(), held(0, None), facts(), day(0)) == []


def test_without_grace_every_step_comes_at_one_instant() -> None:
    steps = passing(rules(grace="0d", step="one"), held(3, None), facts(), day(0))
    assert [(instant, position.rank) for instant, position in steps] == [(day(0), 2), (day(0), 1), (day(0), 0)]


# --- minimum stay and kept period -------------------------------------------------------------------


def test_a_customer_who_is_not_below_does_not_fall() -> None:
    assert fall_instant(Demotion(GRACE, min_stay=DAY_MS, keep="anniversary"), held(2, None), T0, UTC) is None


@pytest.mark.parametrize(
    ("since", "below_since", "falls"),
    [
        (day(0), day(5), day(30)),  # the stay ends after the grace
        (day(0), day(20), day(30)),  # both end together
        (day(0), day(20, 1), day(30, 1)),  # the grace ends after the stay
        (AGES, day(5), day(15)),
    ],
)
def test_the_later_of_grace_and_minimum_stay_counts(since: int, below_since: int, falls: int) -> None:
    demotion, below = Demotion(GRACE, min_stay=30 * DAY_MS), Position(2, since, below_since)
    assert fall_instant(demotion, below, T0, UTC) == falls
    assert step(below, 0, falls - 1, demotion) == below
    assert step(below, 0, falls, demotion) == Position(0, falls, None)


def test_each_step_down_has_its_own_minimum_stay() -> None:
    demotion = Demotion(GRACE, "one", 30 * DAY_MS)
    down = step(Position(3, day(0), day(5)), 0, day(30), demotion)
    assert down == Position(2, day(30), day(30))
    assert fall_instant(demotion, down, T0, UTC) == day(60)


def kept(keep: Any, below_since: str, anchor: str = "2020-06-15T12:00:00Z", zone: str = "UTC", grace: int = 0) -> int:
    below = held(2, parse_instant(below_since))
    falls = fall_instant(Demotion(grace, keep=keep), below, parse_instant(anchor), ZoneInfo(zone))
    assert falls is not None
    return falls


@pytest.mark.parametrize(
    ("below_since", "zone", "falls"),
    [
        ("2026-05-05T00:00:00Z", "UTC", "2028-01-01T00:00:00Z"),
        # A customer who is below from the first instant of a year last qualified in the year before.
        ("2027-01-01T00:00:00Z", "UTC", "2028-01-01T00:00:00Z"),
        ("2027-01-01T00:00:00.001Z", "UTC", "2029-01-01T00:00:00Z"),
        ("2026-12-31T16:00:00Z", "Asia/Shanghai", "2028-01-01T00:00:00+08:00"),
        ("2026-12-31T16:00:00.001Z", "Asia/Shanghai", "2029-01-01T00:00:00+08:00"),
        ("2027-01-01T05:00:00Z", "America/New_York", "2028-01-01T00:00:00-05:00"),
        ("2027-01-01T05:00:00.001Z", "America/New_York", "2029-01-01T00:00:00-05:00"),
    ],
)
def test_a_calendar_year_is_that_of_the_zone(below_since: str, zone: str, falls: str) -> None:
    assert kept("calendar_year", below_since, zone=zone) == parse_instant(falls)


@pytest.mark.parametrize(
    ("below_since", "anchor", "zone", "falls"),
    [
        ("2026-06-14T00:00:00Z", "2020-06-15T12:00:00Z", "UTC", "2027-06-15T00:00:00Z"),
        ("2026-06-15T00:00:00Z", "2020-06-15T12:00:00Z", "UTC", "2027-06-15T00:00:00Z"),
        ("2026-06-15T00:00:00.001Z", "2020-06-15T12:00:00Z", "UTC", "2028-06-15T00:00:00Z"),
        # It is already 16 June in the zone of the anchor; midnight is local, too.
        ("2026-06-15T16:00:00Z", "2020-06-15T16:00:00Z", "Asia/Shanghai", "2027-06-16T00:00:00+08:00"),
        ("2026-06-15T16:00:00.001Z", "2020-06-15T16:00:00Z", "Asia/Shanghai", "2028-06-16T00:00:00+08:00"),
        # 29 February counts as the 28th, in leap years too.
        ("2026-02-28T00:00:00Z", "2020-02-29T12:00:00Z", "UTC", "2027-02-28T00:00:00Z"),
        ("2026-02-28T00:00:00.001Z", "2020-02-29T12:00:00Z", "UTC", "2028-02-28T00:00:00Z"),
        ("2028-02-28T00:00:00.001Z", "2020-02-29T12:00:00Z", "UTC", "2030-02-28T00:00:00Z"),
        # On New Year's Day, and a customer who has just registered.
        ("2026-12-31T23:59:59Z", "2020-01-01T00:00:00Z", "UTC", "2028-01-01T00:00:00Z"),
        ("2026-06-20T00:00:00Z", "2026-06-15T12:00:00Z", "UTC", "2028-06-15T00:00:00Z"),
    ],
)
def test_an_anniversary_year_begins_at_midnight_in_the_zone(
    below_since: str, anchor: str, zone: str, falls: str
) -> None:
    assert kept("anniversary", below_since, anchor, zone) == parse_instant(falls)


def test_a_grace_that_outlasts_the_kept_period_counts() -> None:
    grace = 1_000 * DAY_MS
    below_since = parse_instant("2026-05-05T00:00:00Z")
    assert kept("calendar_year", "2026-05-05T00:00:00Z", grace=grace) == below_since + grace


def test_each_step_down_keeps_for_its_own_period() -> None:
    demotion = Demotion(step="one", keep="calendar_year")
    first = parse_instant("2028-01-01T00:00:00Z")
    below = held(3, parse_instant("2026-05-05T00:00:00Z"))
    assert step(below, 0, first - 1, demotion) == below
    down = step(below, 0, first, demotion)
    assert down == Position(2, first, first)
    # A millisecond before they stood below, it was still 2027: kept to the end of 2028.
    assert fall_instant(demotion, down, T0, UTC) == parse_instant("2029-01-01T00:00:00Z")


@pytest.mark.parametrize("keep", ["calendar_year", "anniversary"])
def test_a_kept_period_that_the_calendar_does_not_reach_never_ends(keep: Any) -> None:
    assert kept(keep, "9998-12-31T00:00:00Z") > LAST_INSTANT
    assert kept(keep, "9999-12-29T00:00:00Z") > LAST_INSTANT
