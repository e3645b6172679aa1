from datetime import date
from typing import Any

import msgspec
import pytest

from models.customer.state import Customer
from models.engine.customer_report import UNWINDOWED, ReportError, customer_report
from models.engine.decide import Engine
from models.engine.report_shapes import Counted, CustomerReport, ExpectedMove, SchemeReport
from models.events import Consent, Event, Profile
from models.instants import format_instant
from models.outputs import AtRisk, Decisions
from models.policy.compiled import Policy
from models.policy.evaluation import Evaluation, facts_of
from models.policy.timeline import Timeline
from models.rules import explain
from models.rules.metrics import METRICS
from tests.models.build import T0, contact, day, order, policy, tiers


def known(rules: Policy | Timeline, *events: Event, settled: bool = False) -> tuple[Customer, Timeline]:
    timeline = rules if isinstance(rules, Timeline) else Timeline([rules])
    customer, engine = Customer("c1"), Engine(timeline, settled=settled)
    for event in events:
        engine.ingest(customer, event, Decisions())
    return customer, timeline


def report_of(rules: Policy | Timeline, at: int, *events: Event) -> CustomerReport:
    return customer_report(*known(rules, *events), at)


def only(rules: Policy | Timeline, at: int, *events: Event) -> SchemeReport:
    (scheme,) = report_of(rules, at, *events).schemes
    return scheme


def on(number: float, ms: int = 0) -> str:
    return format_instant(day(number, ms))


def brief(reasons: Any) -> list[tuple[Any, ...]]:
    return [(reason.metric, reason.value, reason.op, reason.threshold, reason.met) for reason in reasons]


def missing(needs: Any) -> list[tuple[Any, ...]]:
    return [(need.metric, need.missing, need.direction, need.on, need.possible) for need in needs]


def score(**metrics: Any) -> Policy:
    spec = {
        "kind": "score",
        "metrics": metrics,
        "tiers": [{"name": "basic"}, {"name": "good", "at_least": 2}, {"name": "best", "at_least": 2.75}],
    }
    return policy(schemes={"rating": spec})


def test_at_the_bottom_it_reports_what_fails_of_the_next_tier() -> None:
    scheme = only(policy(tiers({"monetary": ">= 300", "frequency": ">= 3"})), day(5), order(day(0), "a", 12_000))
    assert (scheme.tier, scheme.since, scheme.lowest) == ("t0", on(0), True)
    assert brief(scheme.why) == [("monetary", "120.00", ">=", "300.00", False), ("frequency", 1, ">=", 3, False)]
    assert scheme.next is not None
    assert (scheme.next.tier, scheme.next.nearest) == ("t1", False)
    assert missing(scheme.next.needs) == [
        ("monetary", "180.00", "more", None, True),
        ("frequency", 2, "more", None, True),
    ]
    assert (scheme.below, scheme.at_risk, scheme.ahead, scheme.grades) == (None, None, [], [])
    assert scheme.metrics == {"recency_days": 5.0, "frequency": 1, "monetary": "120.00"}


def test_at_the_top_there_is_no_next_tier_and_time_takes_it_away() -> None:
    scheme = only(policy(tiers({"frequency": ">= 1"}, {"monetary": ">= 50"})), day(5), order(day(0), "a", 5_000))
    assert (scheme.tier, scheme.next, scheme.lowest) == ("t2", None, False)
    assert brief(scheme.why) == [("monetary", "50.00", ">=", "50.00", True)]
    assert scheme.at_risk == AtRisk("t0", on(100))
    assert scheme.ahead == [ExpectedMove("t0", "down", on(100))]


@pytest.mark.parametrize(
    ("amounts", "needs"),
    [
        ([50_000], ("monetary", "300.00")),  # 300 of 800 is nearer than 11 of 12
        ([1_00] * 11, ("frequency", 1)),  # 1 of 12 is nearer than 789 of 800
    ],
)
def test_of_an_any_rule_the_nearest_way_is_reported(amounts: list[int], needs: tuple[Any, ...]) -> None:
    rules = policy(tiers({"frequency": ">= 1"}, {"any": [{"monetary": ">= 800"}, {"frequency": ">= 12"}]}))
    scheme = only(rules, day(20), *(order(day(n), str(n), amount) for n, amount in enumerate(amounts)))
    assert scheme.tier == "t1"
    assert scheme.next is not None
    assert scheme.next.nearest
    assert [(need.metric, need.missing) for need in scheme.next.needs] == [needs]


def test_in_grace_it_reports_since_when_until_when_and_what_keeps_the_tier() -> None:
    customer, timeline = known(
        policy(tiers({"frequency": ">= 2"}, grace="10d")), *(order(day(n), str(n)) for n in (0, 4))
    )
    row = customer.to_row()
    whole = customer_report(customer, timeline, day(103))
    assert customer.to_row() == row, "the customer asked about stays as it is"
    assert (whole.as_of, whole.decided_to, whole.passed) == (on(103), on(4), [])
    (scheme,) = whole.schemes
    assert (scheme.tier, scheme.since) == ("t1", on(4))
    assert brief(scheme.why) == [("frequency", 1, ">=", 2, False)]
    assert scheme.below is not None
    assert (scheme.below.since, scheme.below.falls_on) == (on(100), on(110))
    assert missing(scheme.below.needs) == [("frequency", 1, "more", None, True)]
    assert scheme.at_risk == AtRisk("t0", on(110))
    assert scheme.ahead == [ExpectedMove("t0", "down", on(110))]


def test_what_time_has_changed_since_the_last_decision_is_reported() -> None:
    whole = report_of(policy(tiers({"frequency": ">= 1"}, grace="10d")), day(120), order(day(0), "a"))
    (passed,) = whole.passed
    assert (passed.from_tier, passed.to_tier, passed.direction, passed.on) == ("t1", "t0", "down", on(110))
    assert whole.decided_to == on(0)
    (scheme,) = whole.schemes
    assert (scheme.tier, scheme.since, scheme.ahead) == ("t0", on(110), [])


def test_a_score_is_reported_metric_by_metric() -> None:
    rules = score(
        monetary={"breaks": [100, 500], "weight": 2}, recency_days={"breaks": [30, 7]}, satisfaction={"breaks": [8]}
    )
    scheme = only(rules, day(10), order(day(0), "a", 20_000))
    # monetary 200: level 2, twice; recency 10 days: level 2; no survey: level 1. (4 + 2 + 1) / 4 = 1.75
    assert scheme.tier == "basic"
    assert brief(scheme.why)[0] == ("score", 1.75, ">=", 2, False)
    assert scheme.next is not None
    assert missing(scheme.next.needs) == [("score", 0.25, "more", None, True)]
    assert scheme.next.needs[0].value == 1.75
    assert [(g.metric, g.value, g.level, g.levels, g.gain) for g in scheme.grades] == [
        ("monetary", "200.00", 2, 3, 0.5),
        ("recency_days", 10.0, 2, 3, 0.25),
        ("satisfaction", None, 1, 2, 0.25),
    ]
    steps = [grade.next for grade in scheme.grades if grade.next is not None]
    assert [(step.op, step.threshold, step.missing) for step in steps] == [
        (">=", "500.00", "300.00"),
        ("<=", 7, 3.0),
        (">=", 8, 8.0),
    ]


def test_the_highest_grade_has_no_next_one() -> None:
    scheme = only(score(monetary={"breaks": [1, 2]}), day(1), order(day(0), "a", 20_000))
    assert [(grade.level, grade.levels, grade.next) for grade in scheme.grades] == [(3, 3, None)]
    assert (scheme.tier, scheme.next) == ("best", None)


def test_what_is_undefined_has_no_value() -> None:
    rules = policy(tiers({"satisfaction": ">= 8", "recency_days": "<= 30"}))
    scheme = only(rules, day(1), contact(day(0), "i"))
    assert scheme.next is not None
    assert [(need.metric, need.value, need.missing) for need in scheme.next.needs] == [
        ("satisfaction", None, 8.0),
        ("recency_days", None, None),
    ]
    assert all(need.possible and need.on is None for need in scheme.next.needs)


def test_what_comes_by_time_alone_is_reported_with_its_instant() -> None:
    scheme = only(policy(tiers({"tenure_days": ">= 30"}, {"tenure_days": "> 60"})), day(10), order(day(0), "a"))
    assert scheme.next is not None
    assert missing(scheme.next.needs) == [("tenure_days", 20.0, "more", on(30), True)]
    assert scheme.ahead == [ExpectedMove("t1", "up", on(30)), ExpectedMove("t2", "up", on(60, 1))]
    assert scheme.at_risk is None


def test_what_can_never_hold_again_is_reported() -> None:
    scheme = only(policy(tiers({"first_order_days": "<= 5"})), day(10), order(day(0), "a"))
    assert scheme.next is not None
    assert missing(scheme.next.needs) == [("first_order_days", 5.0, "less", None, False)]


def test_what_is_too_much_must_become_less_and_may_by_itself() -> None:
    rules = policy(tiers({"frequency": "== 1"}))
    scheme = only(rules, day(10), order(day(0), "a"), order(day(1), "b"), order(day(2), "c"))
    assert scheme.next is not None
    assert missing(scheme.next.needs) == [("frequency", 2, "less", on(101), True)]


def test_a_life_is_reported_to_its_end() -> None:
    scheme = only(policy(schemes={"life": {"kind": "lifecycle"}}), day(1), order(day(0), "a"))
    assert scheme.ahead == [
        ExpectedMove("active", "up", on(30, 1)),
        ExpectedMove("dormant", "down", on(90, 1)),
        ExpectedMove("churned", "down", on(180, 1)),
    ]
    assert scheme.at_risk == AtRisk("dormant", on(90, 1))


def test_a_limit_that_is_not_computed_yet_needs_nothing_known() -> None:
    spec = {"kind": "percentile", "tiers": [{"name": "rest"}, {"name": "top", "top": "5%"}]}
    scheme = only(policy(schemes={"share": spec}), day(1), order(day(0), "a"))
    assert scheme.next is not None
    assert (scheme.next.tier, scheme.next.needs, scheme.why) == ("top", [], [])


def test_windows_are_those_of_the_scheme() -> None:
    reason = only(policy(tiers({"frequency": ">= 1", "recency_days": "<= 9"}, window="12h")), T0, order(T0, "a")).why
    assert [(each.metric, each.counted) for each in reason] == [("frequency", Counted(0.5)), ("recency_days", None)]


def test_metrics_without_a_window_are_those_that_ignore_it() -> None:
    facts = facts_of(known(policy(), *(order(day(n), str(n)) for n in (0, 1, 2, 4)))[0], policy(), day(5))
    ignoring = {
        metric.name
        for metric in METRICS.values()
        if metric.value(facts, day(5), 1) == metric.value(facts, day(5), day(5) - T0 + 1) is not None
    }
    windowed = METRICS.keys() - UNWINDOWED
    assert ignoring - windowed == UNWINDOWED - {"score"}


def test_an_instant_before_the_last_decision_is_refused() -> None:
    customer, timeline = known(policy(), order(day(2), "a"))
    with pytest.raises(ReportError, match=f"decided about as of {on(2)}"):
        customer_report(customer, timeline, day(2) - 1)
    with pytest.raises(ReportError, match="1 to 8999"):
        customer_report(customer, timeline, 10**16)


def test_events_that_wait_are_counted_or_left() -> None:
    customer, timeline = known(policy(), *(order(day(n), str(n)) for n in (0, 5, 9)), settled=True)
    whole = customer_report(customer, timeline, day(6))
    assert (whole.settled, whole.pending, whole.decided_to) == (2, 1, None)
    assert [(passed.direction, passed.from_tier) for passed in whole.passed] == [("enter", None)]
    assert whole.schemes[0].metrics["frequency"] == 2
    assert len(customer.pending) == 3


def test_before_any_decision_there_is_nothing_to_tell() -> None:
    whole = report_of(policy(), day(1), Profile(None))
    assert (whole.schemes, whole.care, whole.decided_to) == ([], [], None)


@pytest.mark.parametrize("consent", [True, False])
def test_care_is_reported_only_with_consent(consent: bool) -> None:
    rules = policy(
        None,
        {"name": "birthday", "kind": "birthday_offer", "trigger": "birthday"},
        {
            "name": "alert",
            "kind": "alert",
            "trigger": "condition",
            "when": {"recency_days": ">= 9"},
            "consent": "not_needed",
        },
    )
    profile = Profile(T0, birthday="1990-03-01", consent=Consent(marketing=consent), updated_at=T0)
    care = report_of(rules, day(1), profile, order(day(1), "a")).care
    birthday = [("birthday_offer", "2026-03-01T09:00:00Z")] if consent else []
    assert [(action.kind, action.due_at) for action in care] == [("alert", on(10)), *birthday]


def test_the_next_version_of_the_policy_is_reported_and_the_one_that_holds_explains() -> None:
    scheme = tiers({"frequency": ">= 1"})
    later = policy(scheme, version="test-2", effective_from=on(50), timezone="Asia/Shanghai")
    timeline = Timeline([policy(scheme), later])
    before, after = (report_of(timeline, day(at), order(day(0), "a")) for at in (1, 60))
    assert before.next_policy is not None
    assert (before.policy_version, before.timezone) == ("test-1", "UTC")
    assert (before.next_policy.version, before.next_policy.on) == ("test-2", on(50))
    assert (after.policy_version, after.timezone, after.next_policy) == ("test-2", "Asia/Shanghai", None)


RULES = [
    tiers({"monetary": "> 100"}, {"any": [{"monetary": ">= 800"}, {"frequency": ">= 4"}]}, grace="7d"),
    tiers({"frequency": ">= 1"}, {"frequency": ">= 2", "recency_days": "<= 9"}, grace="30d", step="one"),
    tiers({"growth": ">= 1"}, {"overdue": "< 2", "average_order_value": "> 33.33"}),
    {"kind": "lifecycle"},
]


@pytest.mark.parametrize("spec", RULES)
@pytest.mark.parametrize("at", [6, 12, 40, 70, 99, 104, 140])
def test_it_agrees_with_what_events_tell(spec: dict[str, Any], at: int) -> None:
    rules = policy(schemes={"s": spec})
    customer, timeline = known(rules, *(order(day(n * 2), str(n), 1_000 + n * 3_333) for n in range(4)))
    (scheme,) = customer_report(customer, timeline, day(at)).schemes
    Engine(timeline).advance(customer, day(at), Decisions())
    evaluation = Evaluation(customer, rules, day(at), facts_of(customer, rules, day(at)))
    compiled = rules.schemes[0]
    rank = compiled.ranks[scheme.tier]
    following = explain.upcoming(compiled, rank, evaluation.readings, rules.money)
    told_next = None if scheme.next is None else [(need.metric, need.missing) for need in scheme.next.needs]
    assert told_next == (None if following is None else [(need.metric, need.missing) for need in following.needs])
    down = next((move for move in scheme.ahead if move.direction == "down"), None)
    assert scheme.at_risk == (None if down is None else AtRisk(down.tier, down.on))
    assert all(reason.met is (scheme.below is None and not scheme.lowest) for reason in scheme.why)
    assert scheme.ahead == moves(customer, timeline)[: len(scheme.ahead)]


def moves(customer: Customer, timeline: Timeline) -> list[ExpectedMove]:
    """What the engine itself decides as time passes."""
    decisions = Decisions()
    Engine(timeline).advance(customer, day(2_000), decisions)
    return [ExpectedMove(change.to_tier, change.direction, change.effective_at) for change in decisions.changes]


def test_it_goes_through_json_and_back() -> None:
    whole = report_of(policy(tiers({"frequency": ">= 2"}, grace="10d")), day(3), order(day(0), "a"))
    assert msgspec.json.decode(msgspec.json.encode(whole), type=CustomerReport) == whole


@pytest.mark.parametrize(
    ("window", "counted"),
    [
        ("calendar_year", Counted(None, date(2026, 1, 1), date(2026, 12, 31))),
        ("calendar_month", Counted(None, date(2026, 1, 1), date(2026, 1, 31))),
        ("12 months", Counted(None, date(2025, 2, 1))),
    ],
)
def test_a_counting_period_is_named_by_its_dates(window: str, counted: Counted) -> None:
    scheme = only(policy(tiers({"frequency": ">= 1"}, {"frequency": ">= 3"}, window=window)), T0, order(T0, "a"))
    assert [each.counted for each in scheme.why] == [counted]
    assert scheme.next is not None
    assert [(need.counted, need.missing) for need in scheme.next.needs] == [(counted, 2)]
