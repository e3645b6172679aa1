"""The generated function against its rules and gauges."""

from fractions import Fraction
from random import Random

import pytest

from models.codegen.evaluate_rules import compile_evaluate_rules, compile_render_metrics
from models.codegen.source import NO_CHANGE
from models.money import Money
from models.policy.compile_schemes import GaugeBook
from models.policy.compiled import Policy
from models.rules.comparisons import OPS, Comparison, Graded, Junction, Readings, Rule, Score
from models.rules.explain import render_reading
from models.rules.metrics import METRICS, Facts, Gauge
from tests.models.build import T0, day, facts, order, policy, read, tiers
from tests.models.draw import random_facts, random_threshold


def random_rule(random: Random, book: GaugeBook, known: Facts, at: int, depth: int = 2) -> Rule:
    kind = random.choice("cccjjs" if depth else "c")
    if kind == "j":
        parts = [random_rule(random, book, known, at, depth - 1) for _ in range(random.randrange(4))]
        return Junction(random.random() < 0.5, tuple(parts))
    if kind == "s":
        parts_of = [Graded(random.randrange(1, 900), random_breaks(random, book, known, at)) for _ in range(2)]
        return Score(tuple(parts_of), Fraction(random.randrange(4, 13), 4))
    return random_breaks(random, book, known, at)[0]


def random_breaks(random: Random, book: GaugeBook, known: Facts, at: int) -> tuple[Comparison, ...]:
    name, window = random.choice(list(METRICS)), random.choice([1, 40, 41, 120])
    op, undefined = random.choice(OPS), random.random() < 0.2
    thresholds = sorted(random_threshold(random, name, known, at, window) for _ in range(random.choice([1, 2])))
    return tuple(book.compare(name, op, threshold, window, undefined=undefined) for threshold in thresholds)


def rank_of(rules: list[Rule | None], readings: Readings) -> int:
    return max(
        (rank for rank, rule in enumerate(rules) if rank and rule is not None and rule.holds(readings)), default=0
    )


def next_change(gauges: tuple[Gauge, ...], known: Facts, at: int) -> int:
    changes = [gauge.next_change(known, at) for gauge in gauges]
    return min((change for change in changes if change is not None), default=NO_CHANGE)


@pytest.mark.parametrize("seed", range(40))
def test_metrics_are_shown_as_their_readings_are(seed: int) -> None:
    random = Random(f"show {seed}")
    for currency in ("USD", "JPY", "KWD"):
        money = Money(currency)
        known, at = random_facts(random)
        book = GaugeBook(100)
        for name in random.sample(list(METRICS), 9):
            book.index(name, random.choice([1, 40, 41, 120]))
        gauges = book.gauges()
        expected = {
            gauge.metric.name: render_reading(gauge.read(known, at), gauge.metric.unit, money) for gauge in gauges
        }
        assert compile_render_metrics(gauges, money)(known, at) == expected


@pytest.mark.parametrize("seed", range(60))
def test_one_call_returns_what_the_rules_say_of_the_readings(seed: int) -> None:
    random = Random(f"evaluate_rules {seed}")
    for _ in range(15):
        known, at = random_facts(random)
        book = GaugeBook(100)
        ladders = [
            [None, *(random_rule(random, book, known, at) for _ in range(random.randrange(4)))] for _ in range(2)
        ]
        gauges = book.gauges()
        evaluate_rules = compile_evaluate_rules(gauges, ladders)
        for instant in (at, at + 1, at + random.randrange(150)):
            readings = read(gauges, known, instant)
            ranks = tuple(rank_of(rules, readings) for rules in ladders)
            assert evaluate_rules(known, instant) == (ranks, next_change(gauges, known, instant))


def test_the_tests_examples_reach_every_rank_and_none() -> None:
    random, seen = Random("ranks"), set()
    for _ in range(200):
        known, at = random_facts(random)
        book = GaugeBook(100)
        rules: list[Rule | None] = [None, *(random_rule(random, book, known, at) for _ in range(3))]
        seen.add(compile_evaluate_rules(book.gauges(), [rules])(known, at)[0])
    assert seen == {(0,), (1,), (2,), (3,)}


def ladder() -> Policy:
    return policy(tiers(*({"frequency": f">= {count}"} for count in (1, 2, 3))))


@pytest.mark.parametrize(("orders", "rank"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_the_rank_is_that_of_the_highest_rule_that_holds(orders: int, rank: int) -> None:
    known = facts(*(order(day(number), str(number)) for number in range(orders)))
    assert ladder().evaluate_rules(known, day(10))[0] == (rank,)


def test_a_higher_tier_does_not_need_the_lower_ones_rule() -> None:
    odd = policy(tiers({"frequency": ">= 9"}, {"monetary": ">= 1"}))
    assert odd.evaluate_rules(facts(order(day(0), "a")), day(1))[0] == (2,)


def test_conditions_of_care_rules_come_after_the_schemes() -> None:
    care = {"name": "c", "kind": "c", "trigger": "condition", "when": {"monetary": ">= 10"}}
    birthday = {"name": "b", "kind": "b", "trigger": "birthday"}
    both = policy(tiers({"frequency": ">= 1"}), birthday, care)
    assert both.evaluate_rules(facts(order(T0, "a", 999)), T0) == ((1, 0), day(100))
    assert both.evaluate_rules(facts(order(T0, "a", 1_000)), T0) == ((1, 1), day(100))


def test_a_scheme_alone_does_not_read_what_others_compare() -> None:
    two = policy(schemes={"a": tiers({"recency_days": "<= 3"}), "b": tiers({"frequency": ">= 1"})})
    known = facts(order(T0, "a"))
    assert two.outlooks["b"].evaluate_rules(known, T0) == ((1,), day(100))
    assert two.outlooks["a"].evaluate_rules(known, T0) == ((1,), day(3, 1))
    assert two.evaluate_rules(known, T0) == ((1, 1), day(3, 1))


def test_rules_without_comparisons_never_change() -> None:
    assert compile_evaluate_rules((), [[None, Junction(True, ())], [None, Junction(False, ())]])(facts(), T0) == (
        (1, 0),
        NO_CHANGE,
    )
