"""Business days over partitions, workers and crashes come to what a replay of one population comes to."""

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MAX_INSTANT, parse_instant
from models.policy import Timeline, compile_policy
from models.policy_spec import PolicySpec
from streams.encode import TIER_CHANGES, TIER_CUTOFFS
from streams.processor import Timing
from streams.replay import Result, replay
from tests.support.driver import order
from tests.support.group import Group, rows_of, write_lines

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


def replayed(history: list[tuple[int, bytes, bytes]], rules: Timeline, tmp_path: Path) -> Result:
    return replay(rules, {Topic.ORDERS: write_lines(tmp_path / "orders.jsonl", [value for _, _, value in history])})


def assert_same(group: Group, result: Result) -> None:
    assert group.outputs[TIER_CUTOFFS] == {c.event_id: msgspec.to_builtins(c) for c in result.cutoffs}
    assert group.outputs[TIER_CHANGES] == {c.event_id: msgspec.to_builtins(c) for c in result.changes}
    assert group.customers == rows_of(result.customers)


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
                group.tick(draw.randrange(3), latest)
    group.crash_rate = 0.0
    group.settle(latest + LATENESS + 1)
    result = replayed(history, rules, tmp_path)
    assert len(result.cutoffs) > DAYS
    assert {change.cause for change in result.changes} == {"order", "time"}
    assert_same(group, result)
    assert bool(group.crashes) is bool(crashes)


def test_eager_decisions_wait_for_cut_offs_and_come_to_the_same_where_input_is_in_order(tmp_path: Path) -> None:
    draw = Random(7)
    history, rules = orders(draw), timeline()
    group = Group(rules, EAGER, draw)
    for at, key, value in history:
        group.produce(at, key, value)
        for number in range(3):
            group.consume(number, 1)
        if draw.random() < 0.3:
            for number in range(3):
                group.tick(number, at)
    group.settle(history[-1][0])
    assert_same(group, replayed(history, rules, tmp_path))
