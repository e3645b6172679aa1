"""A rank_index kept up to date by events and days comes to what one built from the rows at once does."""

from random import Random
from typing import Any

import pytest

from models.customer.state import Customer
from models.instants import DAY_MS, HOUR_MS
from models.policy.compiled import compile_policy
from models.policy.cutoff_timeline import RankedTimeline
from models.policy.spec import PolicySpec
from models.rules.ranking import UNRANKED, Span
from models.rules.sketch import Sketch
from streams.partition.rank_index import RankIndex
from tests.models.build import T0, order, refund

DAYS = 30
BY_SUMS = {
    "spend": {"kind": "percentile", "tiers": [{"name": "rest"}, {"name": "top", "top": "10%"}]},
    "often": {
        "kind": "percentile",
        "metric": "frequency",
        "tiers": [{"name": "rare"}, {"name": "often", "top": "20%"}],
    },
}
BY_FACTS = {
    **BY_SUMS,
    "earned": {"kind": "percentile", "metric": "margin", "tiers": [{"name": "low"}, {"name": "high", "top": "20%"}]},
}


def timeline(schemes: dict[str, Any]) -> RankedTimeline:
    spec = {"version": "p", "currency": "USD", "timezone": "UTC", "window": "5d", "schemes": schemes}
    return RankedTimeline([compile_policy(PolicySpec.model_validate(spec))])


def buy(draw: Random, customer: Customer, at: int, number: int) -> None:
    """Enter an order, which is free now and then, and now and then is paid back in full."""
    amount = draw.choice((0, 1, 150, 1_000, 20_000))
    customer.ledger.apply(order(at, f"o{number}", amount, amount // 4))
    if amount and draw.random() < 0.2:
        customer.ledger.apply(refund(at, f"r{number}", f"o{number}", amount))


@pytest.mark.parametrize("schemes", [BY_SUMS, BY_FACTS], ids=["by sums", "by facts"])
@pytest.mark.parametrize("seed", range(10))
def test_what_is_kept_is_what_the_rows_come_to(schemes: dict[str, Any], seed: int) -> None:
    draw, rules = Random(seed), timeline(schemes)
    kept, rows, closed = RankIndex(rules, rules.measures, {}), dict[bytes, bytes](), T0
    at = T0
    for number in range(400):
        at += draw.randrange(4 * HOUR_MS)
        while at - closed > DAY_MS:
            closed += DAY_MS
            kept.close(closed - 1, rows)
        key = b"c%d" % draw.randrange(25)
        if draw.random() < 0.1 and key in rows:
            del rows[key]
            kept.forget(key)
        else:
            customer = Customer.from_row("", rows[key]) if key in rows else Customer(key.decode())
            buy(draw, customer, at, number)
            customer.cursor = at
            rows[key] = customer.to_row()
            kept.note(key, customer.ledger, customer.interactions, at)
        if number % 20 == 0:
            closed = at
            kept.close(at, rows)
            built = RankIndex(rules, rules.measures, rows, at)
            assert kept.sketches == built.sketches
            everybody = [Span(0, UNRANKED)]
            for measure in rules.measures:
                assert sorted(kept.within(measure, everybody)) == sorted(built.within(measure, everybody))
    assert {sketch.total for sketch in kept.sketches.values()} != {0}
    kept.close(at + DAYS * DAY_MS, rows)
    assert all(sketch == Sketch() for sketch in kept.sketches.values())
