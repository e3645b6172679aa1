"""The generated JSON against the struct whose shape it has."""

from random import Random

import msgspec
import pytest

from models.customer.state import Customer, Standing
from models.engine.decide import Engine
from models.instants import DAY_MS
from models.policy.compiled import Policy
from models.policy.evaluation import facts_of
from models.rules.metrics import METRICS
from tests.models.build import engine, policy, tiers
from tests.models.draw import random_facts


def customer_of(random: Random, rules: Policy) -> tuple[Customer, int]:
    known, at = random_facts(random)
    customer = Customer(random.choice(["c1", 'quo"te\\', "änn\n", "per%cent{}"]))
    customer.ledger, customer.interactions, customer.cursor, customer.first_at = known.ledger, known.interactions, at, 0
    for scheme in rules.schemes:
        tier = random.choice([*scheme.ranks, "a tier of an older version"])
        customer.standings[scheme.name] = Standing(tier, random.randrange(-(2**45), 2**45), None, random.randrange(9))
    return customer, at


def written(rules: Policy, customer: Customer, at: int) -> bytes | None:
    return rules.snapshot(customer.customer_id, customer.standings, facts_of(customer, rules, at), at)


@pytest.mark.parametrize("currency", ["USD", "JPY", "KWD"])
@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_what_the_struct_would_be(seed: int, currency: str) -> None:
    random = Random(f"snapshot {seed}")
    names = random.sample(sorted(METRICS), 5)
    schemes = {
        "worth": tiers(*({name: ">= 1"} for name in names)),
        "loyalty": tiers({"monetary": ">= 3"}, window="40ms"),
    }
    rules = policy(schemes=schemes, currency=currency, version='v "1" 5%')
    for _ in range(10):
        customer, at = customer_of(random, rules)
        json = written(rules, customer, at)
        assert json is not None
        assert msgspec.json.decode(json) == msgspec.to_builtins(engine(rules).tiers(customer))


def test_days_are_written_as_they_were_counted() -> None:
    rules = policy(tiers({"recency_days": "<= 5"}))
    customer = Customer("c")
    customer.standings, customer.cursor = {rules.schemes[0].name: Standing("t0", 0)}, DAY_MS
    json = written(rules, customer, DAY_MS)
    assert json is not None
    assert msgspec.json.decode(json)["metrics"]["recency_days"] is None


def test_without_a_standing_in_each_scheme_the_struct_is_built() -> None:
    rules = policy(schemes={"one": tiers({"frequency": ">= 1"}), "two": tiers({"frequency": ">= 2"})})
    customer, at = customer_of(Random(1), rules)
    del customer.standings["two"]
    assert written(rules, customer, at) is None
    deciding: Engine = engine(rules)
    assert deciding.snapshot(customer) == msgspec.json.encode(deciding.tiers(customer))
    later = at + DAY_MS
    assert deciding.snapshot(customer, later) == msgspec.json.encode(deciding.tiers(customer, later))
    assert deciding.snapshot(Customer("new")) is None
