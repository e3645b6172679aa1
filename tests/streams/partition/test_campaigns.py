"""Campaigns and shared budgets in a partition: who is told, when, once, in bounded steps, and across restarts."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.care.budgets import BudgetShare, share
from models.events import Topic
from models.instants import format_instant, parse_instant
from models.policy.care_rules import Budget
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.kafka.partitioner import partition_for
from streams.partition import campaign_steps
from streams.partition.campaigns import MAX_WAITING
from streams.partition.effects import Effects
from streams.partition.step import Timing
from tests.support.driver import Driver, order, profile, touch, values
from tests.support.in_steps import replay

SETTLED = Timing(settled=True, lateness=0, wall_decides=False)
LAUNCH = {"name": "launch", "kind": "launch", "trigger": "campaign", "subjects": ["launch"], "consent": "not_needed"}
WELCOME = {"name": "welcome", "kind": "welcome", "trigger": "welcome", "consent": "not_needed"}
AT = "2026-03-01T10:00:00Z"


def timeline(*care: dict[str, Any], **governance: Any) -> Timeline:
    tiers = [{"name": "low"}, {"name": "high", "when": {"monetary": ">= 100"}}]
    spec = {"version": "1", "currency": "USD", "schemes": {"s": {"tiers": tiers}}, "care": care}
    return Timeline([compile_policy(PolicySpec.model_validate({**spec, "governance": governance}))])


def campaign(name: str = "spring", at: str = AT, **fields: Any) -> tuple[bytes, bytes]:
    event = {"type": "campaign", "campaign_id": name, "occurred_at": at, "subject": "launch"}
    return name.encode(), json.dumps(event | fields).encode()


def advanced(driver: Driver, at: str) -> list[Effects]:
    """Advance until there is nothing more to do; return the steps."""
    steps = [driver.advance(at)]
    while steps[-1].more:
        steps.append(driver.advance(at))
    return steps


def announced(steps: list[Effects]) -> list[tuple[str, str, str]]:
    actions = [action for step in steps for action in values(step, "care-actions")]
    return [(action["rule"], action["customer_id"], action["due_at"]) for action in actions]


def crowd(driver: Driver, *names: str) -> Driver:
    for name in names:
        driver.feed(Topic.ORDERS, order(name, name, "2026-01-01T00:00:00Z", "200"))
    return driver


def test_a_campaign_reaches_everybody_at_its_instant_when_time_has_passed_it() -> None:
    driver = crowd(Driver(SETTLED, timeline=timeline(LAUNCH)), "cyd", "ann", "bob")
    assert driver.feed(Topic.CAMPAIGNS, campaign()).events == 1
    assert announced(advanced(driver, AT)) == []
    steps = advanced(driver, "2026-03-05T00:00:00Z")
    assert announced(steps) == [("launch", name, AT) for name in ("ann", "bob", "cyd")]
    assert announced(advanced(driver, "2026-03-06T00:00:00Z")) == []


def test_everything_due_before_is_decided_before_and_nothing_later() -> None:
    driver = Driver(SETTLED, timeline=timeline(LAUNCH))
    driver.feed(
        Topic.ORDERS, order("ann", 1, "2026-02-28T00:00:00Z", "200"), order("bob", 2, "2026-03-01T10:00:00Z", "1")
    )
    driver.feed(Topic.ORDERS, order("bob", 3, "2026-03-02T00:00:00Z", "200"), order("new", 4, "2026-03-03T00:00:00Z"))
    driver.feed(Topic.CAMPAIGNS, campaign(tiers=["low"]), campaign("all"))
    steps = advanced(driver, "2026-03-05T00:00:00Z")
    found = [action for step in steps for action in values(step, "care-actions")]
    assert sorted((action["customer_id"], action["tier"]) for action in found) == [
        ("ann", "high"),
        ("bob", "low"),
        ("bob", "low"),
    ]


@pytest.mark.parametrize("stop", range(5))
def test_a_restart_in_the_middle_continues_from_the_state(monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    monkeypatch.setattr(campaign_steps, "CUSTOMERS_PER_STEP", 2)
    names = [f"c{number}" for number in range(7)]
    driver = crowd(Driver(SETTLED, timeline=timeline(LAUNCH)), *names)
    driver.feed(Topic.CAMPAIGNS, campaign())
    late = "2026-03-05T00:00:00Z"
    done = [driver.advance(late) for _ in range(stop)]
    driver.recover(dict(driver.partition.rows))
    done += advanced(driver, late)
    assert [name for _, name, _ in announced(done)] == names
    assert max(len(values(step, "care-actions")) for step in done) <= 2
    assert driver.partition.announcements.waiting == []


def test_a_campaign_that_is_produced_twice_is_announced_once() -> None:
    driver = crowd(Driver(SETTLED, timeline=timeline(LAUNCH)), "ann")
    driver.feed(Topic.CAMPAIGNS, campaign())
    again = driver.feed(Topic.CAMPAIGNS, campaign(), campaign("other", at="2026-03-02T00:00:00Z"))
    assert again.decisions.counts == {"duplicate": 1}
    assert len(announced(advanced(driver, "2026-03-05T00:00:00Z"))) == 2
    assert driver.feed(Topic.CAMPAIGNS, campaign()).decisions.counts == {"duplicate": 1}


def test_campaigns_that_wait_are_bounded() -> None:
    driver = Driver(SETTLED, timeline=timeline(LAUNCH))
    effects = driver.feed(Topic.CAMPAIGNS, *(campaign(f"c{number}") for number in range(MAX_WAITING + 2)))
    assert effects.decisions.counts == {"campaign_refused": 2}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not_json"),
        (b"oops", "not_json"),
        (b'{"type": "campaign", "campaign_id": "c", "occurred_at": "2026-03-01T10:00:00Z"}', "missing_field"),
        (campaign(at="2026-03-01T10:00:00")[1], "bad_time"),
        (campaign(at="2027-03-01T10:00:00Z")[1], "too_far_ahead"),
        (campaign(attributes={"region": []})[1], "bad_value"),
        (campaign(attributes={"region": "East"})[1], "wrong_type"),
        (campaign(subject="x" * 65)[1], "bad_value"),
    ],
)
def test_a_bad_campaign_becomes_a_dead_letter(value: bytes | None, reason: str) -> None:
    effects = Driver().feed(Topic.CAMPAIGNS, (b"c", value))
    (letter,) = effects.outputs["dead-letters"]
    assert dict(letter.headers)["reason"] == reason.encode()
    assert (letter.key, letter.value) == (b"c", value)


def test_a_customer_erased_meanwhile_is_not_addressed() -> None:
    driver = crowd(Driver(SETTLED, timeline=timeline(LAUNCH)), "ann", "bob")
    driver.feed(Topic.CAMPAIGNS, campaign())
    late = "2026-03-05T00:00:00Z"
    advanced(driver, "2026-02-01T00:00:00Z")
    driver.feed(Topic.CUSTOMERS, (b"ann", None))
    assert [name for _, name, _ in announced(advanced(driver, late))] == ["bob"]


def test_a_replay_takes_as_many_campaigns_as_a_long_history_has(tmp_path: Path) -> None:
    start, many = parse_instant("2026-01-01T00:00:00Z"), MAX_WAITING * 2 + 5
    told_of = [campaign(f"n{nth:03}", format_instant(start + nth * 60_000)) for nth in range(1, many + 1)]
    paths = {Topic.ORDERS: tmp_path / "orders.jsonl", Topic.CAMPAIGNS: tmp_path / "campaigns.jsonl"}
    paths[Topic.ORDERS].write_bytes(order("ann", 1, format_instant(start))[1] + b"\n")
    paths[Topic.CAMPAIGNS].write_bytes(b"".join(value + b"\n" for _, value in told_of))
    result = replay(timeline(LAUNCH), paths)
    assert (len(result.actions), result.notes) == (many, {})


# --- budgets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_most", [0, 1, 7, 8, 100, 1_001])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_shares_add_up_to_the_budget_in_every_period(at_most: int, count: int) -> None:
    budget = Budget("gifts", at_most, "month", None, None)
    firsts = []
    for begun in range(700_000, 700_040):
        shares = [share(budget, begun, number, count) for number in range(count)]
        assert sum(shares) == at_most
        assert max(shares) - min(shares) <= 1
        firsts.append(tuple(shares))
    if at_most % count:
        assert len(set(firsts)) > 1, "what does not divide is not always for the same partitions"


def test_who_is_served_first_follows_the_order_of_time_whatever_the_steps() -> None:
    care = timeline(WELCOME, budgets=[{"name": "gifts", "at_most": 3, "period": "year"}])
    orders = [order(f"c{number}", number, f"2026-01-{10 - number:02d}T00:00:00Z") for number in range(8)]
    found = []
    for steps in (["2026-02-01T00:00:00Z"], [f"2026-01-{day:02d}T12:00:00Z" for day in range(1, 12)]):
        driver = Driver(SETTLED, timeline=care)
        driver.feed(Topic.ORDERS, *orders)
        found.append(announced([effect for at in steps for effect in advanced(driver, at)]))
    assert (
        found[0] == found[1] == [("welcome", f"c{number}", f"2026-01-0{10 - number}T00:00:00Z") for number in (7, 6, 5)]
    )


def test_what_was_spent_survives_a_restart() -> None:
    care = timeline(WELCOME, budgets=[{"name": "gifts", "at_most": 2, "period": "year"}])
    driver = Driver(timeline=care)
    for number in range(4):
        driver.feed(Topic.ORDERS, order(f"c{number}", number, f"2026-01-0{number + 1}T00:00:00Z"))
        driver.recover(dict(driver.partition.rows))
    (spent,) = driver.partition.progress.spent.values()
    assert sum(spent.values()) == 2


def after_crash(driver: Driver, rows: dict[bytes, bytes], effects: Effects, written: int) -> None:
    """Go on as a worker does whose crash let only some of the rows of its last step reach the changelog."""
    assert effects.reserve is not None
    for key, row in [effects.reserve, *effects.changelog[:written]]:
        assert row is not None
        rows[key] = row
    driver.recover(rows)


#: Decided as events arrive, or as time passes them.
TIMINGS = [Timing(), SETTLED]


@pytest.mark.parametrize("timing", TIMINGS, ids=["eager", "settled"])
@pytest.mark.parametrize("written", range(5))
@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_crash_at_any_point_spends_nothing_twice(timing: Timing, written: int, first: int) -> None:
    care = timeline(WELCOME, budgets=[{"name": "gifts", "at_most": 3, "period": "year"}])
    driver = Driver(timing, timeline=care)
    orders = [order(f"c{number}", number, f"2026-01-0{number + 1}T00:00:00Z") for number in range(4)]
    if timing.settled:
        driver.feed(Topic.ORDERS, *orders)
        rows = dict(driver.partition.rows)
        cut_off = driver.advance("2026-02-01T00:00:00Z")
    else:
        rows = dict(driver.partition.rows)
        cut_off = driver.feed(Topic.ORDERS, *orders)
    sent = announced([cut_off])
    after_crash(driver, rows, cut_off, written)
    if timing.settled:  # time comes on in other steps, among other events
        driver.feed(Topic.ORDERS, order("new", "new", "2026-01-01T12:00:00Z"))
        again = [step for day in range(1, 9) for step in advanced(driver, f"2026-01-0{day}T12:00:00Z")]
        again += advanced(driver, "2026-02-01T00:00:00Z")
    else:  # the batch is cut otherwise, and another topic comes first
        driver.feed(Topic.INTERACTIONS, touch("new", 1, "2026-01-01T00:00:00Z"))
        again = [driver.feed_at(Topic.ORDERS, 0, *orders[:first]), driver.feed_at(Topic.ORDERS, first, *orders[first:])]
        again.append(driver.feed(Topic.ORDERS, order("new", "new", "2026-01-05T00:00:00Z")))
    again.append(driver.feed(Topic.ORDERS, order("later", "later", "2026-02-15T00:00:00Z")))
    again += advanced(driver, "2026-03-01T00:00:00Z")
    assert len(sent) == 3
    assert set(announced(again)) <= set(sent), "what was paid for goes out again, and nothing else does"
    (spent,) = driver.partition.progress.spent.values()
    assert sum(spent.values()) == 3
    assert driver.partition.progress.reserved == []


def test_what_is_paid_for_and_then_decided_otherwise_stays_paid_for() -> None:
    care = timeline(WELCOME, budgets=[{"name": "gifts", "at_most": 1, "period": "year"}])
    driver = Driver(timeline=care)
    rows = dict(driver.partition.rows)
    cut_off = driver.feed(Topic.ORDERS, order("ann", 1, "2026-01-01T00:00:00Z"))
    after_crash(driver, rows, cut_off, 0)
    # A later profile is read first this time: the order is a month old by then, and nobody is welcomed so late.
    earlier = driver.feed(Topic.CUSTOMERS, profile("ann", updated_at="2026-02-01T00:00:00Z"))
    late = driver.feed_at(Topic.ORDERS, 0, order("ann", 1, "2026-01-01T00:00:00Z"))
    other = driver.feed(Topic.ORDERS, order("bob", 2, "2026-02-02T00:00:00Z"))
    assert (announced([cut_off]), announced([earlier, late, other])) == (
        [("welcome", "ann", "2026-01-01T00:00:00Z")],
        [],
    )
    assert other.decisions.refusals == {("welcome", "over_budget"): 1}


def test_of_an_earlier_period_than_is_remembered_nothing_is_left() -> None:
    (budget,) = timeline(WELCOME, budgets=[{"name": "gifts", "at_most": 9, "period": "day"}]).latest.governance.budgets
    (rule,) = timeline(WELCOME).latest.care
    budget_share, zone = BudgetShare({}), timeline().latest.zone
    for day in (1, 2, 3, 4):
        at = parse_instant(f"2026-01-0{day}T00:00:00Z")
        assert budget_share.pays([budget], rule.action, f"action-{day}", at, zone, spends=True)
    assert [budget_share.left(budget, parse_instant(f"2026-01-0{day}T00:00:00Z"), zone) for day in (1, 2, 4, 5)] == [
        0,
        8,
        8,
        9,
    ]


@pytest.mark.parametrize("partitions", [1, 3])
def test_replay_serves_the_customers_that_live_partitions_serve(tmp_path: Path, partitions: int) -> None:
    care = timeline(
        WELCOME,
        {**LAUNCH, "holdout": "20%"},
        budgets=[
            {"name": "gifts", "at_most": 7, "period": "month", "kinds": ["welcome"]},
            {"name": "mail", "at_most": 25, "period": "day"},
        ],
    )
    start = parse_instant("2026-01-01T00:00:00Z")
    orders = [
        order(f"c{number % 40}", number, format_instant(start + number * 7_654_321), "60") for number in range(300)
    ]
    people = [
        profile(f"c{number}", updated_at=format_instant(start), attributes={"n": str(number % 2)})
        for number in range(40)
    ]
    campaigns = [
        campaign("one", "2026-01-10T00:00:00Z"),
        campaign("two", "2026-01-20T00:00:00Z", attributes={"n": ["1"]}),
    ]
    given = {Topic.ORDERS: orders, Topic.CUSTOMERS: people, Topic.CAMPAIGNS: campaigns}
    inputs = {}
    for topic, records in given.items():
        inputs[topic] = tmp_path / f"{topic.label}.jsonl"
        inputs[topic].write_bytes(b"".join(value + b"\n" for _, value in reversed(records)))
    until = "2026-03-01T00:00:00Z"
    replayed = replay(care, inputs, parse_instant(until), partitions=partitions)

    live: list[tuple[str, str, str]] = []
    for number in range(partitions):
        driver = Driver(SETTLED, timeline=care, number=number, partitions=partitions)
        driver.feed(Topic.CUSTOMERS, *(record for record in people if partition_for(record[0], partitions) == number))
        driver.feed(Topic.CAMPAIGNS, *campaigns)
        mine = [record for record in orders if partition_for(record[0], partitions) == number]
        for first in range(0, len(mine), 17):
            driver.feed(Topic.ORDERS, *mine[first : first + 17])
            latest = json.loads(mine[min(first + 16, len(mine) - 1)][1])["occurred_at"]
            live += announced(advanced(driver, latest))
            driver.recover(dict(driver.partition.rows))
        live += announced(advanced(driver, until))
    wanted = [(action.rule, action.customer_id, action.due_at) for action in replayed.actions]
    assert sorted(live) == sorted(wanted)
    assert {rule for rule, _, _ in live} == {"welcome", "launch"}
    assert replayed.refusals["welcome", "over_budget"] == 40 - 7
