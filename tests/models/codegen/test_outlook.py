"""The next fall by time alone, against a plain walk from change to change."""

from random import Random
from zoneinfo import ZoneInfo

import pytest

from models.codegen.outlook import Outlook, next_fall
from models.policy.compiled import Policy
from models.rules.hysteresis import Position, pass_time
from models.rules.metrics import Facts
from tests.models.build import T0, day, facts, order, policy, tiers


def walked(outlook: Outlook, position: Position, known: Facts, at: int, zone: ZoneInfo) -> tuple[str, int] | None:
    """Return the next fall by the plain walk from change to change."""
    rank = position.rank
    for instant, moved in pass_time(outlook.scheme.demotion, outlook.evaluate_rules, position, known, at, zone):
        if moved.rank < rank:
            return outlook.scheme.tiers[moved.rank].name, instant
        rank = moved.rank
    return None


def ladder(random: Random) -> Policy:
    rules = [
        {"monetary": f">= {random.choice([1, 3, 5])}", "frequency": f">= {random.choice([1, 2])}"},
        {"any": [{"monetary": ">= 8"}, {"frequency": ">= 3"}]},
        {"frequency": ">= 3", "recency_days": f"<= {random.choice([20, 60, 150])}"},
    ]
    more = {"min_stay": "40d"} if random.random() < 0.3 else {"keep": "calendar_year"} if random.random() < 0.3 else {}
    scheme = tiers(*rules, grace=random.choice(["0d", "10d"]), step=random.choice(["qualified", "one"]))
    scheme["demotion"] |= more
    return policy(scheme)


@pytest.mark.parametrize("seed", range(40))
def test_the_next_fall_is_the_one_that_is_walked_to(seed: int) -> None:
    random = Random(f"fall {seed}")
    for _ in range(10):
        rules = ladder(random)
        outlook = rules.outlooks[rules.schemes[0].name]
        known = facts(*(order(day(random.randrange(90)), str(name), 200) for name in range(random.randrange(1, 6))))
        at = day(90 + random.randrange(60))
        (qualified,), _ = outlook.evaluate_rules(known, at)
        rank = random.randrange(4)
        below = None if qualified >= rank else at - random.randrange(5)
        position = Position(max(rank, qualified) if below is None else rank, day(random.randrange(90)), below)
        arguments = (outlook, position, known, at, rules.zone)
        assert next_fall(*arguments) == walked(*arguments)


@pytest.mark.parametrize("seed", range(40))
def test_who_falls_at_once_falls_at_the_first_instant_that_finds_them_below(seed: int) -> None:
    random = Random(f"at once {seed}")
    for _ in range(10):
        rules = [{"first_order_days": f"> {random.randrange(90)}"}, {"frequency": ">= 2", "recency_days": "<= 40"}]
        by_time = policy(tiers(*random.sample(rules, 2), step=random.choice(["qualified", "one"])))
        (scheme,), zone = by_time.schemes, by_time.zone
        assert scheme.demotion.immediate
        outlook = by_time.outlooks[scheme.name]
        known = facts(*(order(day(random.randrange(60)), str(name), 200) for name in range(random.randrange(1, 4))))
        at, position = day(60), Position(random.randrange(3), day(50), None)
        arguments = (outlook, position, known, at, zone)
        assert next_fall(*arguments) == walked(*arguments)


def test_where_time_lifts_the_customer_first_the_fall_comes_after_it() -> None:
    stages = policy({"kind": "lifecycle", "new_for": "30d", "active_for": "45d", "dormant_for": "120d"})
    (scheme,) = stages.schemes
    known, position = facts(order(T0, "a")), Position(scheme.ranks["new"], T0, None)
    outlook = stages.outlooks[scheme.name]
    assert next_fall(outlook, position, known, T0, stages.zone) == ("dormant", day(45, 1))
