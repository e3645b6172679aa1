"""Until when a tier lasts, told in one step, against a walk from change to change."""

from fractions import Fraction
from random import Random

import pytest

from models.codegen.outlook import _walk_to_fall, compile_holds_until, next_fall
from models.codegen.source import NO_CHANGE
from models.policy.compile_schemes import GaugeBook
from models.policy.compiled import Policy
from models.rules.comparisons import Comparison, Graded, Junction, Op, Rule, Score
from models.rules.hysteresis import Position, pass_time
from models.rules.metrics import Facts
from tests.models.build import T0, day, facts, order, policy, read, tiers
from tests.models.draw import random_facts, random_threshold

#: The comparisons that time alone only makes fail, of metrics that are whole numbers.
SINKING: dict[str, tuple[Op, ...]] = {
    "frequency": (">=", ">"),
    "monetary": (">=", ">"),
    "recency_days": ("<=", "<"),
    "first_order_days": ("<=", "<"),
}


def random_comparison(random: Random, book: GaugeBook, known: Facts, at: int) -> Comparison:
    name, window = random.choice(list(SINKING)), random.choice([1, 40, 41, 120])
    threshold = random_threshold(random, name, known, at, window)
    return book.compare(name, random.choice(SINKING[name]), threshold, window, undefined=random.random() < 0.2)


def random_rule(random: Random, book: GaugeBook, known: Facts, at: int, depth: int = 2) -> Rule:
    if not depth or random.random() < 0.4:
        return random_comparison(random, book, known, at)
    parts = [random_rule(random, book, known, at, depth - 1) for _ in range(random.randrange(4))]
    return Junction(random.random() < 0.5, tuple(parts))


def walked(rules: list[Rule], book: GaugeBook, known: Facts, at: int) -> int:
    """Return when none of the rules holds any more, by looking at every instant at which one may change."""
    gauges, instant = book.gauges(), at
    while any(rule.holds(read(gauges, known, instant)) for rule in rules):
        changes = [gauge.next_change(known, instant) for gauge in gauges]
        instant = min((change for change in changes if change is not None), default=NO_CHANGE)
        if instant == NO_CHANGE:
            break
    return instant


@pytest.mark.parametrize("seed", range(40))
def test_the_end_told_in_one_step_is_the_one_that_is_walked_to(seed: int) -> None:
    random = Random(f"lasts {seed}")
    for _ in range(25):
        known, at = random_facts(random)
        book = GaugeBook(100)
        rules = [random_rule(random, book, known, at) for _ in range(random.randrange(4))]
        lasts = compile_holds_until(rules, book.gauges())
        assert lasts is not None
        assert max(at, lasts(known, at)) == walked(rules, book, known, at)


def test_the_tests_examples_reach_every_end() -> None:
    random, seen = Random("ends"), set()
    for _ in range(300):
        known, at = random_facts(random)
        book = GaugeBook(100)
        end = walked([random_rule(random, book, known, at)], book, known, at)
        seen.add("never held" if end == at else "for ever" if end == NO_CHANGE else "ends")
    assert seen == {"never held", "for ever", "ends"}


def test_what_is_not_a_whole_number_or_is_a_score_is_left_to_the_walk() -> None:
    book = GaugeBook(100)
    overdue = book.compare("overdue", "<=", Fraction(2), 100)
    score = Score((Graded(1, (book.compare("frequency", ">=", Fraction(1), 100),)),), Fraction(2))
    assert compile_holds_until([overdue], book.gauges()) is None
    assert compile_holds_until([Junction(True, (score,))], book.gauges()) is None


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
        assert next_fall(*arguments) == _walk_to_fall(*arguments)


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
        rank, fall = position.rank, None
        for instant, moved in pass_time(scheme.demotion, outlook.evaluate_rules, position, known, at, zone):
            if moved.rank < rank:
                fall = scheme.tiers[moved.rank].name, instant
                break
            rank = moved.rank
        assert next_fall(outlook, position, known, at, zone) == fall


def test_where_time_lifts_the_customer_first_the_fall_comes_after_it() -> None:
    stages = policy({"kind": "lifecycle", "new_for": "30d", "active_for": "45d", "dormant_for": "120d"})
    (scheme,) = stages.schemes
    known, position = facts(order(T0, "a")), Position(scheme.ranks["new"], T0, None)
    outlook = stages.outlooks[scheme.name]
    assert outlook.holds_until(position.rank) is None
    assert next_fall(outlook, position, known, T0, stages.zone) == ("dormant", day(45, 1))
