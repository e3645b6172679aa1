"""Business days over partitions, workers and crashes come to what a replay of one rank_index comes to."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MAX_INSTANT, format_instant, parse_instant
from models.outputs import TierChange
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.kafka.records import TIER_CHANGES, TIER_CUTOFFS
from streams.partition.cutoff_coordinator import REQUEST_KEY
from streams.partition.step import Timing
from tests.support.driver import Record, order, version
from tests.support.group import Group, rows_of, write_lines
from tests.support.in_steps import Result, replay

START = parse_instant("2026-03-20T00:00:00Z")
LATENESS = HOUR_MS
SETTLED = Timing(settled=True, lateness=LATENESS, ahead=MAX_INSTANT, wall_decides=False)
EAGER = Timing(settled=False, ahead=MAX_INSTANT, wall_decides=False)
DAYS = 25


def timeline(**scheme: Any) -> Timeline:
    tiers = [{"name": "c"}, {"name": "b", "top": "30%", "cut": "80"}, {"name": "a", "top": "10%", "cut": "200"}]
    top = {"kind": "percentile", "tiers": tiers, "demotion": {"grace": "36h", "step": "one"}}
    often = {"kind": "percentile", "metric": "frequency", "tiers": [{"name": "rest"}, {"name": "often", "top": "20%"}]}
    spec = {"version": "d", "currency": "USD", "timezone": "Europe/Berlin", "window": "7d"}
    return Timeline(
        [compile_policy(PolicySpec.model_validate({**spec, "schemes": {"top": top | scheme, "often": often}}))]
    )


def orders(draw: Random, count: int = 400, customers: int = 40) -> list[tuple[int, bytes, bytes]]:
    """Return orders in order of time, some customers from the beginning, others later."""
    found = []
    for number in range(count):
        at = START + draw.randrange(DAYS * DAY_MS)
        customer = draw.randrange(max(1, customers * (at - START) // (DAYS * DAY_MS)))
        key, value = order(f"c{customer}", number, at, f"{draw.choice((1, 5, 20, 80, 150)) + draw.random():.2f}")
        found.append((at, key, value))
    return sorted(found)


def replayed(
    history: list[tuple[int, bytes, bytes]], rules: Timeline, tmp_path: Path, cutoffs_at: Iterable[int] = ()
) -> Result:
    lines = write_lines(tmp_path / "orders.jsonl", [value for _, _, value in history])
    return replay(rules, {Topic.ORDERS: lines}, cutoffs_at=cutoffs_at)


def assert_same(group: Group, result: Result) -> None:
    assert group.outputs[TIER_CUTOFFS] == {c.event_id: msgspec.to_builtins(c) for c in result.cutoffs}
    assert group.outputs[TIER_CHANGES] == {c.event_id: msgspec.to_builtins(c) for c in result.changes}
    assert group.customers == rows_of(result.customers)


def test_cut_offs_count_the_holders_of_a_tier_and_those_who_reach_it(tmp_path: Path) -> None:
    result = replayed(orders(Random(1)), timeline(), tmp_path)
    more = 0
    for told in result.cutoffs:
        changes = by_sequence(result, told.scheme)
        tiers = {change.customer_id: change.to_tier for change in changes if change.effective_at < told.effective_at}
        names = [cutoff.tier for cutoff in told.cutoffs]
        for place, cutoff in enumerate(told.cutoffs):
            holders = sum(tier in names[place:] for tier in tiers.values())
            assert (cutoff.holders, cutoff.held) == (holders, holders / told.population)
            more += holders > cutoff.customers
    assert more  # the grace is waited for


def by_sequence(result: Result, scheme: str) -> list[TierChange]:
    return sorted((each for each in result.changes if each.scheme == scheme), key=lambda change: change.sequence)


@pytest.mark.parametrize("crashes", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(3))
def test_partitions_workers_and_crashes_change_nothing(seed: int, crashes: float, tmp_path: Path) -> None:
    draw = Random(seed)
    history, rules = orders(draw), timeline()
    group = Group(rules, SETTLED, draw)
    group.crash_rate = crashes
    latest = START
    for at, key, value in history:
        group.produce(at, key, value)
        latest = at
        while draw.random() < 0.6:
            number = draw.randrange(3)
            group.consume(number, draw.randrange(1, 9))
            if not any(map(group.unread, range(3))):
                group.advance(draw.randrange(3), latest)
    group.crash_rate = 0.0
    group.settle(latest + LATENESS + 1)
    result = replayed(history, rules, tmp_path)
    assert len(result.cutoffs) > DAYS
    assert {change.cause for change in result.changes} == {"order", "time"}
    assert_same(group, result)
    assert bool(group.crashes) is bool(crashes)


@pytest.mark.parametrize("crashes", [0.0, 0.05])
@pytest.mark.parametrize("timing", [SETTLED, EAGER], ids=["settled", "eager"])
def test_a_backlog_is_read_up_to_a_day_s_end_and_the_same_comes_of_it(
    timing: Timing, crashes: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many orders a customer has: those that wait in the rows are of a little more than one day."""
    draw, beyond = Random(11), HOUR_MS
    history, rules = orders(draw, customers=4), timeline()
    result = replayed(history, rules, tmp_path)
    monkeypatch.setattr("models.engine.decide.MAX_PENDING", 8)
    group = Group(rules, replace(timing, read_beyond=timing.lateness + beyond), draw)
    for at, key, value in history:
        group.produce(at, key, value)
    group.crash_rate = crashes
    rounds = 0
    while any(map(group.unread, range(3))):
        rounds += 1
        for number in range(3):
            while group.consume(number, 100):
                pass
        latest = [partition.progress.latest.get("orders", 0) for partition in group.partitions]
        for number in range(3):
            group.advance(number, latest[number] if group.unread(number) else max(latest))
    group.crash_rate = 0.0
    group.settle(history[-1][0] + timing.lateness + 1)
    assert rounds >= DAYS
    assert_same(group, result)


@pytest.mark.parametrize(("now", "read"), [(DAY_MS + HOUR_MS, 4), (DAY_MS + HOUR_MS - 1, 5)])
def test_with_the_wall_clock_nothing_is_left_unread_before_that_has_come_to_it(now: int, read: int) -> None:
    """An event from the future is no reason to leave others unread for hours."""
    group = Group(timeline(), Timing(lateness=LATENESS, read_beyond=HOUR_MS), Random(1), partitions=1, workers=1)
    midnight = parse_instant("2026-03-20T23:00:00Z")
    group.produce(midnight - 2 * HOUR_MS, *order("c1", 1, midnight - 2 * HOUR_MS))
    group.consume(0, 1, now=midnight - HOUR_MS)
    for _ in range(4):  # the first day begins, is reported, and its cut-offs are heard
        group.advance(0, midnight - HOUR_MS)
    for number, late in enumerate((-HOUR_MS, HOUR_MS - 1, HOUR_MS, -HOUR_MS), 2):
        group.produce(midnight + late, *order("c1", number, midnight + late))
    group.consume(0, 9, now=midnight - DAY_MS + now)
    assert group.partitions[0].next_offset(Topic.ORDERS) == read


def test_eager_decisions_wait_for_cut_offs_and_are_the_same_if_input_is_in_order(tmp_path: Path) -> None:
    draw = Random(7)
    history, rules = orders(draw), timeline()
    group = Group(rules, EAGER, draw)
    for at, key, value in history:
        group.produce(at, key, value)
        for number in range(3):
            group.consume(number, 1)
        if draw.random() < 0.3:
            for number in range(3):
                group.advance(number, at)
    group.settle(history[-1][0])
    assert_same(group, replayed(history, rules, tmp_path))


@pytest.mark.parametrize("crashes", [0.0, 0.05])
def test_cut_offs_that_are_asked_for_hold_from_their_instant_on_in_every_partition(
    crashes: float, tmp_path: Path
) -> None:
    draw = Random(3)
    history, rules = orders(draw), timeline()
    asked = [START + 10 * DAY_MS + 5_000_000, START + 15 * DAY_MS + 77]
    group = Group(rules, SETTLED, draw)
    group.crash_rate = crashes
    for at, key, value in history:
        while asked and at > asked[0] - 6 * HOUR_MS:
            group.records.append((REQUEST_KEY, msgspec.msgpack.encode(asked.pop(0))))
        group.produce(at, key, value)
        for number in range(3):
            group.consume(number, 1)
            if not any(map(group.unread, range(3))):
                group.advance(number, at)
    group.crash_rate = 0.0
    group.settle(history[-1][0] + LATENESS + 1)
    asked = [START + 10 * DAY_MS + 5_000_000, START + 15 * DAY_MS + 77]
    result = replayed(history, rules, tmp_path, asked)
    assert {format_instant(at) for at in asked} < {cutoffs.effective_at for cutoffs in result.cutoffs}
    assert_same(group, result)


def test_what_is_no_record_of_the_protocol_is_ignored() -> None:
    group = Group(timeline(), SETTLED, Random(1))
    group.records += [
        (b"", b""),
        (b"report/x", b"\x90"),
        (b"report/7", b"\x92\x01\x80"),
        (b"cutoffs", b"no"),
        (None, b"x"),
        (REQUEST_KEY, None),
    ]
    group.produce(START, *order("c1", 1, START, "5.00"))
    group.settle(START + 2 * DAY_MS)
    assert len(group.outputs[TIER_CUTOFFS]) == 4


def test_an_erased_customer_is_ranked_no_longer() -> None:
    group = Group(timeline(), SETTLED, Random(1), partitions=1, workers=1)
    for number in range(1, 5):
        group.produce(START, *order(f"c{number}", number, START, f"{number}0.00"))
    group.settle(START + DAY_MS)
    (partition,) = group.partitions
    effects = group.processors[0].process(partition, Topic.CUSTOMERS, "customers", [Record(0, 0, b"c4", None)], 0)
    group.perform(0, effects)
    group.settle(START + 2 * DAY_MS)
    told = sorted((c["effective_at"], c["population"]) for c in group.outputs[TIER_CUTOFFS].values())
    assert [rank_index for _, rank_index in told] == [4, 4, 3, 3]


def test_ranking_may_begin_with_known_customers() -> None:
    """Somebody writes a percentile scheme into a policy that has run for long: it begins with the next day's end."""
    before, after = version("old", 50), timeline()
    plain = Group(Timeline([before]), EAGER, Random(1), partitions=1, workers=1)
    for number in range(1, 12):
        plain.produce(START, *order(f"c{number}", number, START, f"{number}0.00"))
    plain.consume(0, 100)
    plain.advance(0, START + HOUR_MS)
    group = Group(after, EAGER, Random(1), partitions=1, workers=1)
    group.changelogs, group.inputs = plain.changelogs, plain.inputs
    group.crash(0)
    group.advance(0, START + 2 * HOUR_MS)
    group.settle(START + 2 * DAY_MS)
    told = [c for c in group.outputs[TIER_CUTOFFS].values() if c["scheme"] == "top"]
    assert [c["population"] for c in told] == [11, 11]
    assert {c["customer_id"] for c in group.outputs[TIER_CHANGES].values() if c["to"] == "a"} == {"c11"}
