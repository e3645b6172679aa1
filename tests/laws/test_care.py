"""No action violates consent, quiet hours, cap, cool-down, group or budget, whatever the order of events.

Several customers of two partitions, events in any order of arrival, rows and budgets read back as after a restart. Each
action is judged by what was known when it was decided, by code that shares nothing with the engine's.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from models.care.budgets import BudgetShare
from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Interaction, Pending, Profile
from models.instants import DAY_MS, parse_instant
from models.outputs import CareAction, Decisions
from models.policy.compiled import compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from tests.laws.strategies import RULES, arrivals, cares, governances, histories, place

DURATIONS = {"0d": 0, "10d": 10, "15d": 15, "20d": 20, "60d": 60, "90d": 90}
PARTITIONS = 2


@dataclass
class Known:
    """What is known of a customer so far: the profile that wins, and the latest unsubscription (ms)."""

    profile: Profile | None = None
    unsubscribed_at: int | None = None

    def after(self, event: Pending) -> "Known":
        if isinstance(event, Profile) and (self.profile is None or event.replaces(self.profile)):
            return Known(event, self.unsubscribed_at)
        if isinstance(event, Interaction) and event.kind == "unsubscribe":
            return Known(self.profile, max(event.at, self.unsubscribed_at or event.at))
        return self


@dataclass
class Judge:
    """Checks every action against the policy as written."""

    spec: dict[str, Any]
    sent: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=lambda: defaultdict(list))
    spent: dict[tuple[int, str, tuple[int, ...]], int] = field(default_factory=lambda: defaultdict(int))

    def hear(self, action: CareAction, known: Known, partition: int) -> None:
        (rule,) = (rule for rule in self.spec["care"] if rule["name"] == action.rule)
        at, earlier = parse_instant(action.due_at), self.sent[action.customer_id]
        assert at <= parse_instant(action.expires_at)
        assert all(instant <= at for instant, _ in earlier)
        staff = rule.get("audience") == "staff"
        if not staff:
            self.check_quiet(action, at, known)
            self.check_caps(rule, at, earlier)
            if rule.get("consent", "required") == "required":
                check_consent(action, known)
        for instant, other in earlier:
            if rule.get("group") is not None and other.get("group") == rule["group"]:
                apart = DURATIONS[self.spec["governance"]["groups"][rule["group"]]] * DAY_MS
                assert at - instant >= max(apart, 1)
            if rule.get("cooldown") and other["name"] == rule["name"]:
                assert at - instant >= DURATIONS[rule["cooldown"]] * DAY_MS
        earlier.append((at, rule))
        if not action.holdout:
            self.spend(rule, at, partition)

    def check_quiet(self, action: CareAction, at: int, known: Known) -> None:
        quiet = self.spec["governance"]["quiet_hours"]
        if quiet is None or (quiet["channels"] is not None and action.channel not in quiet["channels"]):
            return
        own = None if known.profile is None else known.profile.timezone
        moment = datetime.fromtimestamp(0, ZoneInfo("UTC")) + timedelta(milliseconds=at)
        local = moment.astimezone(ZoneInfo(own or self.spec["timezone"])).time()
        since, until = time.fromisoformat(quiet["since"]), time.fromisoformat(quiet["until"])
        inside = since <= local < until if since < until else local >= since or local < until
        assert not inside, (action.due_at, local)

    def check_caps(self, rule: dict[str, Any], at: int, earlier: list[tuple[int, dict[str, Any]]]) -> None:
        for cap in self.spec["governance"]["caps"]:
            span = DURATIONS[cap["per"]] * DAY_MS
            counted = [instant for instant, other in earlier if other.get("audience") != "staff"]
            assert sum(at - instant < span for instant in counted) < cap["at_most"]

    def spend(self, rule: dict[str, Any], at: int, partition: int) -> None:
        moment = datetime.fromtimestamp(0, ZoneInfo("UTC")) + timedelta(milliseconds=at)
        local = moment.astimezone(ZoneInfo(self.spec["timezone"]))
        for budget in self.spec["governance"]["budgets"]:
            if budget["kinds"] is None or rule["kind"] in budget["kinds"]:
                period = (local.year,) if budget["period"] == "year" else (local.year, local.month)
                self.spent[partition, budget["name"], period] += 1

    def check_budgets(self) -> None:
        limits = {budget["name"]: budget["at_most"] for budget in self.spec["governance"]["budgets"]}
        total: dict[tuple[str, tuple[int, ...]], int] = defaultdict(int)
        for (_, name, period), count in self.spent.items():
            total[name, period] += count
        assert all(count <= limits[name] for (name, _), count in total.items())


def check_consent(action: CareAction, known: Known) -> None:
    profile = known.profile
    assert profile is not None
    assert profile.consent is not None
    assert profile.consent.marketing
    assert profile.consent.channels is None or action.channel in profile.consent.channels
    if known.unsubscribed_at is not None:
        assert profile.updated_at is not None
        assert profile.updated_at > known.unsubscribed_at


@st.composite
def governed(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a policy with several care rules, and with budgets that are soon used up."""
    budgets = [
        {"name": "all", "at_most": draw(st.integers(0, 5)), "period": "month", "kinds": None},
        {"name": "offers", "at_most": draw(st.integers(0, 3)), "period": "year", "kinds": ["offer"]},
    ]
    condition = {"name": "condition", "kind": "offer", "trigger": "condition", "when": draw(RULES)}
    return {
        "version": "law-1",
        "currency": "USD",
        "timezone": "America/New_York",
        "window": "90d",
        "schemes": {"s0": {"tiers": [{"name": "t0"}, {"name": "t1", "when": {"monetary": ">= 50"}}]}},
        "care": [condition, *draw(cares(["s0"], ladders=True)), *draw(cares(["s0"], ladders=True).map(renamed))],
        "governance": {**draw(governances()), "budgets": [*budgets]},
    }


def renamed(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**rule, "name": f"{rule['name']}-2"} for rule in rules]


@given(governed(), st.lists(histories(), min_size=1, max_size=3), st.data())
def test_no_action_violates_its_governance_whatever_the_order_of_events(
    spec: dict[str, Any], lives: list[list[Pending]], data: st.DataObject
) -> None:
    kinds = {rule["kind"] for rule in spec["care"]}
    spec["governance"]["budgets"] = [
        budget for budget in spec["governance"]["budgets"] if budget["kinds"] is None or set(budget["kinds"]) <= kinds
    ]
    engine = Engine(Timeline([compile_policy(PolicySpec.model_validate(spec))]))
    judge = Judge(spec)
    spent: list[dict[str, dict[int, int]]] = [{} for _ in range(PARTITIONS)]
    rows: dict[int, bytes] = {}
    known: dict[int, Known] = defaultdict(Known)
    steps: list[tuple[int, Pending | None]] = [
        (number, event) for number, life in enumerate(lives) for event in data.draw(arrivals(life))
    ]
    last = max(place(event)[0] for life in lives for event in life)
    steps = [*data.draw(st.permutations(steps)), *((number, None) for number in range(len(lives)))]
    for number, event in steps:
        name, partition = f"c{number}", number % PARTITIONS
        customer = Customer.from_row(name, rows[number]) if number in rows else Customer(name)
        decisions, budget = Decisions(), BudgetShare(spent[partition], partition, PARTITIONS)
        before = known[number]
        if event is None:
            engine.advance(customer, last + 200 * DAY_MS, decisions, budget=budget)
        else:
            engine.ingest(customer, event, decisions, budget=budget)
            known[number] = before.after(event)
        for action in decisions.actions:
            old = event is None or parse_instant(action.due_at) < place(event)[0]
            judge.hear(action, before if old else known[number], partition)
        rows[number] = customer.to_row()
        spent[partition] = msgspec.msgpack.decode(
            msgspec.msgpack.encode(spent[partition]), type=dict[str, dict[int, int]]
        )
    judge.check_budgets()
