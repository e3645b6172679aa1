from fractions import Fraction
from typing import Any

import pytest

from models.instants import DAY_MS
from models.policy.compile_schemes import GaugeBook
from models.rules.comparisons import Finding, Graded, Score
from models.rules.metrics import Gauge
from tests.models.build import day, facts, order, read, ruled

TWO_ORDERS = facts(order(day(0), "a", 10_000), order(day(10), "b", 20_000))
NOW = day(20)


def shown(findings: list[Finding]) -> list[tuple[str, str, bool]]:
    return [(f.comparison.metric.name, f"{f.comparison.op} {f.comparison.threshold}", f.met) for f in findings]


def missing(when: dict[str, Any], at: int = NOW) -> list[tuple[str, Fraction | None]]:
    return [(lack.comparison.metric.name, lack.missing) for lack in ruled(when).lacks(TWO_ORDERS, at)]


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (">= 2", True),
        (">= 2.5", False),
        (">= 1.5", True),
        ("> 2", False),
        ("> 1.5", True),
        ("<= 2", True),
        ("<= 1.5", False),
        ("<= 2.5", True),
        ("< 2", False),
        ("< 2.5", True),
        ("== 2", True),
        ("== 2.5", False),
        (">= -1", True),
        ("<= -1", False),
        ("> 0", True),
    ],
)
def test_every_operator_at_and_between_whole_numbers(text: str, holds: bool) -> None:
    assert ruled({"frequency": text}).holds(TWO_ORDERS, NOW) is holds


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (">= 150", True),
        ("> 150", False),
        ("> 149.99", True),
        ("<= 150", True),
        ("< 150", False),
        ("== 150", True),
        ("< 150.000000001", True),
        (">= 150.000000001", False),
    ],
)
def test_ratios_are_compared_exactly(text: str, holds: bool) -> None:
    assert ruled({"average_order_value": text}).holds(TWO_ORDERS, NOW) is holds


@pytest.mark.parametrize("text", [">= 0", "> 0", "<= 9999", "< 9999", "== 0"])
def test_an_undefined_metric_satisfies_no_comparison(text: str) -> None:
    assert not ruled({"recency_days": text}).holds(facts(), NOW)


def test_money_and_days_are_written_in_their_own_units() -> None:
    assert ruled({"monetary": "== 300.00"}).holds(TWO_ORDERS, NOW)
    assert ruled({"recency_days": "== 10"}).holds(TWO_ORDERS, NOW)
    assert ruled({"recency_days": "<= 0.5"}).holds(TWO_ORDERS, day(10.5))
    assert not ruled({"recency_days": "<= 0.5"}).holds(TWO_ORDERS, day(10.5, 1))


def test_all_and_any_nest() -> None:
    nested = {
        "frequency": ">= 1",
        "any": [{"monetary": ">= 999"}, {"all": [{"monetary": ">= 300"}, {"margin": "> 0"}]}],
    }
    assert not ruled(nested).holds(TWO_ORDERS, NOW)
    nested["any"][1]["all"][1] = {"margin": ">= 0"}
    assert ruled(nested).holds(TWO_ORDERS, NOW)
    assert [leaf.metric.name for leaf in ruled(nested).rule.leaves()] == ["frequency", "monetary", "monetary", "margin"]


def test_where_all_must_hold_what_decides_is_all_of_it_or_what_fails() -> None:
    both = {"frequency": ">= 2", "monetary": ">= 300"}
    assert shown(ruled(both).decisive(TWO_ORDERS, NOW)) == [("frequency", ">= 2", True), ("monetary", ">= 300", True)]
    one_fails = {"frequency": ">= 2", "monetary": ">= 301"}
    assert shown(ruled(one_fails).decisive(TWO_ORDERS, NOW)) == [("monetary", ">= 301", False)]


def test_where_any_may_hold_what_decides_is_what_holds_or_all_of_it() -> None:
    one_holds = {"any": [{"frequency": ">= 9"}, {"monetary": ">= 300"}]}
    assert shown(ruled(one_holds).decisive(TWO_ORDERS, NOW)) == [("monetary", ">= 300", True)]
    none_holds = {"any": [{"frequency": ">= 9"}, {"monetary": ">= 301"}]}
    assert shown(ruled(none_holds).decisive(TWO_ORDERS, NOW)) == [
        ("frequency", ">= 9", False),
        ("monetary", ">= 301", False),
    ]


def test_a_rule_that_holds_lacks_nothing() -> None:
    assert missing({"frequency": ">= 2", "any": [{"monetary": ">= 999"}, {"margin": ">= 0"}]}) == []


def test_all_that_fails_is_lacking() -> None:
    assert missing({"frequency": ">= 5", "monetary": ">= 300", "recency_days": "<= 9"}) == [
        ("frequency", Fraction(3)),
        ("recency_days", Fraction(DAY_MS)),
    ]


def test_of_several_ways_the_nearest_is_lacking() -> None:
    ways = {"any": [{"frequency": ">= 10"}, {"monetary": ">= 400"}, {"monetary": ">= 390", "frequency": ">= 100"}]}
    assert missing(ways) == [("monetary", Fraction(10_000))]


def test_what_an_undefined_metric_lacks() -> None:
    def lack(when: dict[str, Any]) -> list[Fraction | None]:
        return [one.missing for one in ruled(when).lacks(facts(), NOW)]

    assert lack({"average_order_value": ">= 50"}) == [Fraction(5_000)]
    assert lack({"recency_days": "<= 30"}) == [None]
    assert lack({"any": [{"recency_days": "<= 30"}, {"frequency": ">= 1"}]}) == [Fraction(1)]


def test_the_next_change_of_a_rule_is_the_earliest_of_its_parts() -> None:
    both = ruled({"any": [{"recency_days": "<= 30"}, {"frequency": ">= 2"}]})
    assert both.next_change(TWO_ORDERS, day(40)) == day(40, 1)  # `<= 30` is last true at day 40 itself
    assert both.next_change(TWO_ORDERS, day(40, 1)) == day(100)
    assert both.next_change(TWO_ORDERS, day(100)) is None


# --- scores -----------------------------------------------------------------------------------------


def score(threshold: str) -> tuple[Score, tuple[Gauge, ...]]:
    """Return a score of spending (weight 3; 100, 300) and recency (weight 1; 60 and 30 days)."""
    book = GaugeBook(100)
    money = tuple(book.compare("monetary", ">=", Fraction(value), 100 * DAY_MS) for value in (100, 400))
    recent = tuple(book.compare("recency_days", "<=", Fraction(value), 100 * DAY_MS) for value in (60, 30))
    rule = Score((Graded(3_000, money), Graded(1_000, recent)), Fraction(threshold))
    return rule, book.gauges()


def test_levels_count_the_breaks_that_hold() -> None:
    rule, gauges = score("2")
    readings = read(gauges, TWO_ORDERS, NOW)  # 300.00, 10 days
    assert [part.level(readings) for part in rule.parts] == [2, 3]
    assert rule.score(readings) == Fraction(3 * 2 + 1 * 3, 4)
    assert [part.level(read(gauges, facts(), NOW)) for part in rule.parts] == [1, 1]  # recency is undefined


@pytest.mark.parametrize(("threshold", "holds"), [("2.25", True), ("2.250000001", False), ("1", True)])
def test_a_score_holds_from_its_threshold_on(threshold: str, holds: bool) -> None:
    rule, gauges = score(threshold)
    assert rule.holds(read(gauges, TWO_ORDERS, NOW)) is holds


def test_what_decides_a_score_is_itself_and_the_break_that_each_level_rests_on() -> None:
    rule, gauges = score("2.5")
    findings = rule.decisive(read(gauges, TWO_ORDERS, NOW))
    assert shown(findings) == [
        ("score", ">= 5/2", False),
        ("monetary", ">= 100", True),
        ("recency_days", "<= 30", True),
    ]
    assert findings[0].reading == (9, 4)
    nobody = rule.decisive(read(gauges, facts(), NOW))
    assert shown(nobody) == [
        ("score", ">= 5/2", False),
        ("monetary", ">= 100", False),
        ("recency_days", "<= 60", False),
    ]


def test_a_score_lacks_points() -> None:
    rule, gauges = score("2.5")
    (lack,) = rule.lacks(read(gauges, TWO_ORDERS, NOW))
    assert (lack.comparison.metric.name, lack.missing) == ("score", Fraction(1, 4))
    assert score("2.25")[0].lacks(read(gauges, TWO_ORDERS, NOW)) == []
    assert [leaf.metric.name for leaf in rule.leaves()] == ["monetary"] * 2 + ["recency_days"] * 2


@pytest.mark.parametrize("undefined", [False, True])
def test_a_comparison_says_what_an_undefined_reading_means_to_it(undefined: bool) -> None:
    comparison = GaugeBook(100).compare("recency_days", ">", Fraction(3), 100 * DAY_MS, undefined=undefined)
    assert comparison.holds([None]) is comparison.admits(None) is undefined
    assert [finding.met for finding in comparison.decisive([None])] == [undefined]
    assert (comparison.lacks([None]) == []) is undefined
