"""The shorter way where no scheme moves, against the evaluation that everybody else gets."""

from random import Random
from typing import Any

import pytest

from models.codegen.unchanged import Steady
from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Event
from models.instants import DAY_MS
from models.outputs import Decisions, TierChange
from models.policy.compiled import Policy
from models.policy.timeline import Timeline
from tests.models.build import cancel, contact, day, order, policy, refund, tiers

SCHEMES: dict[str, dict[str, Any]] = {
    "loyalty": tiers(
        {"monetary": ">= 90", "frequency": ">= 6"},
        {"any": [{"monetary": "> 150"}, {"frequency": "== 11"}]},
        {"monetary": ">= 200", "recency_days": "<= 10"},
        grace="20d",
        step="one",
        window="40d",
    ),
    "kept": {**tiers({"frequency": ">= 4"}, window="20d"), "demotion": {"keep": "anniversary"}},
    "stayed": {**tiers({"frequency": ">= 3"}, window="12d"), "demotion": {"grace": "1d", "min_stay": "15d"}},
    "stage": {"kind": "lifecycle", "new_for": "10d", "active_for": "15d", "dormant_for": "40d"},
}


class Slow(Timeline):
    """A timeline that knows no shorter way."""

    def steady(self, _instant: int) -> Steady | None:
        return None


def history(random: Random) -> list[Event]:
    """Return events in the order of their arrival: most in time, some late, repeated, refunded, cancelled."""
    events: list[Event] = []
    at = 0.0
    touched, margins = random.random() < 0.3, random.random() < 0.3  # whoever is, is plain no more
    for number in range(60):
        at += random.choice([0, 0.1, 1, 3, 12])
        when, name = day(at - random.choice([0] * 8 + [5])), f"o{random.choice([number] * 9 + [max(0, number - 3)])}"
        events.append(
            random.choices(
                [
                    order(when, name, random.randrange(3_000), random.choice([None] * 9 + [100]) if margins else None),
                    refund(when, f"r{number}", name, random.randrange(2_000)),
                    cancel(when, name),
                    contact(when, f"i{number}", "referral"),
                ],
                [40, touched, touched, 3],
            )[0]
        )
    return events


def drive(
    timeline: Timeline, events: list[Event], *, settled: bool, seed: int = 0
) -> tuple[list[bytes], list[TierChange], dict[str, int]]:
    """Return the customer's row after every event, all that was decided, and what was noted."""
    engine, customer, decisions = Engine(timeline, settled=settled), Customer("c1"), Decisions()
    rows, random = [], Random(seed)
    for place, event in enumerate(events):
        engine.ingest(customer, event, decisions)
        rows.append(customer.to_row())
        if place % 4 == 0:
            engine.advance(customer, (event.at or 0) + random.choice([0, DAY_MS]), decisions)
        if place % 11 == 0:
            customer = Customer.from_row("c1", rows[-1])
    engine.advance(customer, day(2_000), decisions)
    return [*rows, customer.to_row()], decisions.changes, dict(decisions.notes)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("settled", [False, True])
def test_rows_and_decisions_are_the_same_on_either_way(seed: int, settled: bool) -> None:
    versions, events = [policy(schemes=SCHEMES)], history(Random(f"steady {seed}"))
    assert versions[0].steady is not None
    assert drive(Timeline(versions), events, settled=settled, seed=seed) == drive(
        Slow(versions), events, settled=settled, seed=seed
    )


def test_who_qualifies_again_in_the_grace_stands_below_no_more() -> None:
    rules = policy(tiers({"frequency": ">= 2"}, grace="20d", window="10d"))
    engine, customer, decisions = Engine(Timeline([rules])), Customer("c1"), Decisions()
    for number in (0, 1):
        engine.ingest(customer, order(day(number), str(number)), decisions)
    engine.advance(customer, day(10.5), decisions)
    assert customer.standings["loyalty"].below_since == day(10)
    engine.ingest(customer, order(day(10.6), "2"), decisions)
    assert customer.standings["loyalty"].below_since is None


def test_most_orders_and_days_go_the_shorter_way(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []
    rules = policy(tiers({"frequency": ">= 3"}, grace="20d", window="30d"))
    shorter = rules.steady
    assert shorter is not None
    monkeypatch.setattr(Timeline, "steady", lambda *_: lambda *args: taken.append(shorter(*args)) or taken[-1])
    drive(Timeline([rules]), [order(day(number), str(number)) for number in range(10)], settled=False)
    # The first order enters, the third is promoted. Then time puts the customer below, and in the end lets them fall.
    assert taken == [True, False, *[True] * 7, True, False]


@pytest.mark.parametrize(
    "rules",
    [
        policy(tiers({"frequency": ">= 3"}), {"name": "hi", "kind": "note", "trigger": "welcome"}),
        policy(tiers({"engagement": ">= 3"}), weights={"visit": "1"}),
    ],
    ids=["care", "a metric that is no whole number"],
)
def test_whoever_asks_for_more_is_evaluated_in_full(rules: Policy) -> None:
    assert rules.steady is None


def test_several_versions_have_no_shorter_way() -> None:
    versions = [policy(), policy(version="test-2", effective_from="2026-06-01T00:00:00Z")]
    assert Timeline(versions).steady(day(0)) is None
    assert Timeline(versions[:1]).steady(day(0)) is versions[0].steady
