"""The generated details against `models.rules.explain`."""

from fractions import Fraction
from math import floor
from random import Random

import pytest

from models.codegen.change_details import ChangeDetails
from models.money import Money
from models.policy.compile_schemes import GaugeBook
from models.rules import explain
from models.rules.comparisons import OPS, Comparison, Junction, Rule
from models.rules.metrics import Facts
from models.rules.scheme import Demotion, Scheme, Tier
from tests.models.build import read
from tests.models.codegen.test_evaluate_rules import random_rule, rank_of
from tests.models.draw import random_facts, random_threshold

WRITTEN = ("frequency", "monetary", "recency_days", "first_order_days")
MONEY = Money("USD")


def written_rule(random: Random, book: GaugeBook, known: Facts, at: int) -> Rule:
    """A rule such as policies have: whole thresholds of counts, sums and days, of which all must hold, or any."""

    def comparison() -> Comparison:
        name, undefined = random.choice(WRITTEN), random.random() < 0.2
        threshold = random_threshold(random, name, known, at, 40)
        if name in ("frequency", "monetary"):
            threshold = Fraction(floor(threshold))
        return book.compare(name, random.choice(OPS), threshold, 40, undefined=undefined)

    def junction(every: bool, parts: list[Rule]) -> Rule:
        return parts[0] if len(parts) == 1 else Junction(every, tuple(parts))

    ways: list[Rule] = [junction(True, [comparison() for _ in range(random.choice([1, 1, 2]))]) for _ in range(3)]
    return junction(random.random() < 0.5, ways[: random.randrange(1, 4)])


def draw(random: Random) -> tuple[Scheme, GaugeBook, Facts, int]:
    known, at = random_facts(random)
    book, make = GaugeBook(100), random.choice([written_rule, random_rule])
    rules = [None, *(make(random, book, known, at) for _ in range(random.randrange(1, 5)))]
    shown = tuple(book.index(name, 40) for name in ("frequency", "monetary", "recency_days"))
    tiers = tuple(Tier(f"t{rank}", rule) for rank, rule in enumerate(rules))
    ladder = random.random() < 0.8
    return Scheme("s", tiers, Demotion(), (), shown, {}, ladder, sinking=False), book, known, at


@pytest.mark.parametrize("seed", range(100))
def test_a_change_has_the_details_that_the_rules_explain(seed: int) -> None:
    random = Random(f"details {seed}")
    for _ in range(20):
        scheme, book, known, at = draw(random)
        gauges = book.gauges()
        readings, change_details = read(gauges, known, at), ChangeDetails(scheme, gauges, MONEY)
        qualified = rank_of([tier.rule for tier in scheme.tiers], readings)
        entered = [(None, qualified), *((before, qualified) for before in range(qualified))]
        falls = [(top, to) for top in range(qualified + 1, len(scheme.tiers)) for to in range(qualified, top)]
        for before, after in entered + falls:
            metrics, why, upcoming = change_details.of(before, after)(known, at)
            assert why == explain.whys(explain.why(scheme, before, after, readings), MONEY)
            assert upcoming == explain.upcoming(scheme, after, readings, MONEY)
            shown = [gauges[index] for index in scheme.shown]
            assert metrics == {
                g.metric.name: explain.render_reading(g.read(known, at), g.metric.unit, MONEY) for g in shown
            }


def test_most_that_policies_say_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("left to models.rules.explain")

    monkeypatch.setattr(explain, "why", refuse)
    monkeypatch.setattr(explain, "upcoming", refuse)
    book = GaugeBook(100)
    both = Junction(
        True, (book.compare("monetary", ">=", Fraction(300), 40), book.compare("frequency", ">", Fraction(3), 40))
    )
    either = Junction(
        False, (book.compare("monetary", ">=", Fraction(800), 40), book.compare("frequency", ">=", Fraction(12), 40))
    )
    tiers = (Tier("a", None), Tier("b", both), Tier("c", either))
    shown = (book.index("monetary", 40),)
    scheme = Scheme("s", tiers, Demotion(), (), shown, {}, ladder=True, sinking=False)
    known, at = random_facts(Random(1))
    for move in [(None, 0), (None, 1), (None, 2), (0, 1), (0, 2), (1, 2), (2, 1), (2, 0), (1, 0)]:
        assert ChangeDetails(scheme, book.gauges(), MONEY).of(*move)(known, at)[0].keys() == {"monetary"}
