"""Care of a whole group: budgets, campaigns and cut-offs at once, over partitions, workers and crashes."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MAX_INSTANT, format_instant, parse_instant
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.partition.step import Timing
from tests.support.driver import Record, order
from tests.support.group import Group, rows_of, write_lines
from tests.support.in_steps import replay

START = parse_instant("2026-03-20T00:00:00Z")
LATENESS = HOUR_MS
SETTLED = Timing(settled=True, lateness=LATENESS, ahead=MAX_INSTANT, wall_decides=False)
EAGER = Timing(settled=False, ahead=MAX_INSTANT, wall_decides=False)
DAYS = 20
PARTITIONS = 3
AT_MOST = {"gifts": 9, "mail": 4}
RANKED = {"kind": "percentile", "tiers": [{"name": "rest"}, {"name": "top", "top": "20%"}]}
FIXED = {"tiers": [{"name": "rest"}, {"name": "top", "when": {"monetary": ">= 200"}}]}


def timeline(scheme: dict[str, Any]) -> Timeline:
    every = {"consent": "not_needed"}
    care = [
        {"name": "up", "kind": "gift", "trigger": "tier_up", **every},
        {"name": "near", "kind": "mail", "trigger": "near_upgrade", "within": "20%", **every},
        {"name": "dormant", "kind": "mail", "trigger": "dormant", "after": "4d", "holdout": "25%", **every},
        {"name": "launch", "kind": "mail", "trigger": "campaign", "subjects": ["launch"], **every},
        {"name": "weekend", "kind": "mail", "trigger": "calendar", "weekdays": ["sat"], "cooldown": "10d", **every},
    ]
    budgets = [
        {"name": "gifts", "at_most": AT_MOST["gifts"], "period": "year", "kinds": ["gift"]},
        {"name": "mail", "at_most": AT_MOST["mail"], "period": "week", "kinds": ["mail"]},
    ]
    spec = {"version": "g", "currency": "USD", "window": "7d", "schemes": {"s": scheme}, "care": care}
    return Timeline([compile_policy(PolicySpec.model_validate({**spec, "governance": {"budgets": budgets}}))])


def orders(draw: Random, count: int = 250, customers: int = 30) -> list[tuple[int, bytes, bytes]]:
    instants = sorted(START + draw.randrange(DAYS * DAY_MS) for _ in range(count))
    return [
        (
            at,
            *order(f"c{draw.randrange(customers)}", number, at, f"{draw.choice((1, 20, 80, 150)) + draw.random():.2f}"),
        )
        for number, at in enumerate(instants)
    ]


def campaigns() -> list[bytes]:
    written = {"type": "campaign", "subject": "launch"}
    return [
        msgspec.json.encode(
            {**written, "campaign_id": str(nth), "occurred_at": format_instant(START + nth * 5 * DAY_MS), **whom}
        )
        for nth, whom in enumerate([{}, {"tiers": ["top"]}, {}], start=1)
    ]


def announce(group: Group) -> None:
    """Have every partition take in the campaigns, however often it crashes."""
    batch = [Record(offset, 0, None, value) for offset, value in enumerate(campaigns())]
    for number in range(PARTITIONS):
        while (partition := group.partitions[number]).next_offset(Topic.CAMPAIGNS) < len(batch):
            processor = group.processors[group.owners[number]]
            group.perform(number, processor.process(partition, Topic.CAMPAIGNS, "campaigns", batch, 0))


def live(rules: Timeline, timing: Timing, draw: Random, history: list[tuple[int, bytes, bytes]]) -> Group:
    group = Group(rules, timing, draw, PARTITIONS)
    group.crash_rate = 0.08
    announce(group)
    for at, key, value in history:
        group.produce(at, key, value)
        while draw.random() < 0.6:
            number = draw.randrange(PARTITIONS)
            group.consume(number, draw.randrange(1, 9))
            if not any(map(group.unread, range(PARTITIONS))):
                group.advance(draw.randrange(PARTITIONS), at)
    group.crash_rate = 0.0
    group.settle(history[-1][0] + LATENESS + 1)
    assert group.crashes > 10
    return group


def spent(actions: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return what different actions took of each budget in each of its periods, the business day being UTC's."""
    counted = Counter[tuple[str, str]]()
    for action in {action["action_id"]: action for action in actions if not action["holdout"]}.values():
        monday = (parse_instant(action["due_at"]) // DAY_MS + 3) // 7
        counted["gifts" if action["kind"] == "gift" else "mail", "" if action["kind"] == "gift" else str(monday)] += 1
    return counted


@pytest.mark.parametrize("scheme", [RANKED, FIXED], ids=["ranked", "fixed"])
@pytest.mark.parametrize("seed", range(3))
def test_settled_care_is_that_of_replay_whatever_crashes(seed: int, scheme: dict[str, Any], tmp_path: Path) -> None:
    draw = Random(seed)
    history, rules = orders(draw), timeline(scheme)
    group = live(rules, SETTLED, draw, history)
    inputs = {
        Topic.ORDERS: write_lines(tmp_path / "orders.jsonl", [value for _, _, value in history]),
        Topic.CAMPAIGNS: write_lines(tmp_path / "campaigns.jsonl", campaigns()),
    }
    result = replay(rules, inputs, partitions=PARTITIONS)
    wanted = {action.action_id: msgspec.to_builtins(action) for action in result.actions}
    assert {action["action_id"]: action for action in group.actions} == wanted
    assert all(wanted[action["action_id"]] == action for action in group.actions), "a repetition says the same"
    assert group.customers == rows_of(result.customers)
    assert {"up", "near", "dormant", "launch", "weekend"} == {action.rule for action in result.actions}
    assert all(count <= AT_MOST[name] for (name, _), count in spent(group.actions).items())
    assert sum(count for (_, why), count in result.refusals.items() if why == "over_budget") > 20


@pytest.mark.parametrize("scheme", [RANKED, FIXED], ids=["ranked", "fixed"])
@pytest.mark.parametrize("seed", range(3))
def test_eager_care_overspends_no_budget_whatever_crashes(seed: int, scheme: dict[str, Any]) -> None:
    draw = Random(seed)
    group = live(timeline(scheme), EAGER, draw, orders(draw))
    counts = spent(group.actions)
    assert counts["gifts", ""] > 3
    assert all(count <= AT_MOST[name] for (name, _), count in counts.items())
    for partition in group.partitions:
        assert all(left >= 0 for left in lefts(group, partition))


def lefts(group: Group, partition: Any) -> list[int]:
    policy, budget_share = group.timeline.latest, group.processors[0].budget_share_of(partition)
    assert budget_share is not None
    instants = [START + week * 7 * DAY_MS for week in range(3)]
    return [budget_share.left(budget, at, policy.zone) for budget in policy.governance.budgets for at in instants]
