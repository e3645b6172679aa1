from collections import Counter
from fractions import Fraction
from typing import Any

import pytest

from models.customer.state import Customer
from models.engine.decide import Engine
from models.instants import DAY_MS, format_instant, parse_instant
from models.outputs import Decisions
from models.policy.compiled import Policy
from models.policy.cutoff_timeline import RankedTimeline, edges, ranked
from models.policy.timeline import Timeline
from models.rules.ranking import CutoffSet
from models.rules.sketch import Sketch, bucket_of
from tests.models.build import day, order, policy, tiers

LABEL = f"monetary/{100 * DAY_MS}"


def scheme(*cuts: str | None, **more: Any) -> dict[str, Any]:
    shares = ("50%", "10%")
    named = [
        {"name": f"t{n}", "top": top, "cut": cut} for n, (top, cut) in enumerate(zip(shares, cuts, strict=True), 1)
    ]
    return {"kind": "percentile", "tiers": [{"name": "t0"}, *named], **more}


def timeline(*versions: Policy) -> RankedTimeline:
    return RankedTimeline(versions or [policy(scheme("10", "20"))])


def sketch(*values: int) -> Sketch:
    return Sketch(dict(Counter(map(bucket_of, values))))


def cut(known: RankedTimeline, at: int) -> list[Fraction | None]:
    return edges(known.at(at).schemes[0])


# --- in time ------------------------------------------------------------------------------------------------


def test_given_cuts_hold_until_some_are_computed_and_those_from_their_instant_on() -> None:
    known = timeline()
    assert cut(known, day(5)) == [1_000, 2_000]
    cutoffs, _ = known.compute(day(3), {LABEL: sketch(*range(1, 101))})
    assert cut(known, day(5)) == [1_000, 2_000]
    known.learn(cutoffs)
    assert cut(known, day(3, -1)) == [1_000, 2_000]
    assert cut(known, day(3)) == cut(known, day(50)) == [51, 91]
    assert known.at(day(3)) is known.at(day(4))


def test_without_a_cut_nobody_is_admitted_before_the_first_cut_offs() -> None:
    known = timeline(policy(scheme(None, None)))
    assert cut(known, day(1)) == [None, None]
    known.learn(known.compute(day(2), {LABEL: sketch(5, 6)})[0])
    assert cut(known, day(2)) == [6, 6]


def test_what_is_known_for_an_instant_stays_as_it_is() -> None:
    known = timeline()
    first, second = (known.compute(day(3), {LABEL: sketch(value)})[0] for value in (7, 8))
    known.learn(first)
    known.learn(second)
    assert cut(known, day(3)) == [7, 7]


def test_forgotten_cut_offs_are_not_taken_for_what_held_before_any() -> None:
    known = timeline()
    for number in range(1, 9):
        known.learn(known.compute(day(number), {LABEL: sketch(100 * number)})[0])
    assert cut(known, day(1, -1)) == [1_000, 2_000]
    assert cut(known, day(2)) == cut(known, day(5)) != cut(known, day(6))
    again = timeline()
    again.begin(day(1))
    again.learn(known.latest_set)
    assert cut(again, day(2)) == cut(known, day(8))
    assert cut(again, day(1, -1)) == [1_000, 2_000]


def test_a_late_event_of_a_silent_customer_brings_them_up_to_the_cut_offs_since() -> None:
    known = timeline(policy(scheme(None, None, demotion={"grace": "1d"})))
    silent, engine = Customer("c1"), Engine(known)
    for number in range(1, 9):
        # They have what the best have, until these have more.
        known.learn(known.compute(day(number), {LABEL: sketch(*[50] * 9, 100 if number < 7 else 200)})[0])
        if number == 2:
            engine.ingest(silent, order(day(2, 5), "a", 100), Decisions())
            assert silent.standings["loyalty"].tier == "t2"
    decisions = Decisions()
    engine.ingest(silent, order(day(2, 1), "b", 1), decisions)
    assert (decisions.changes, silent.due) == ([], day(8))
    engine.advance(silent, day(9), decisions)
    (fall,) = decisions.changes
    assert (fall.to_tier, fall.effective_at, fall.cause) == ("t1", format_instant(day(9)), "time")


def test_if_nobody_is_ranked_cut_offs_stay_and_no_event_is_emitted() -> None:
    known = timeline()
    known.learn(known.compute(day(3), {LABEL: sketch(7)})[0])
    cutoffs, events = known.compute(day(4), {})
    known.learn(cutoffs)
    assert events == []
    assert cut(known, day(4)) == [7, 7]


def test_a_version_that_ranks_alike_goes_on_with_the_cut_offs_and_another_begins_with_its_cuts() -> None:
    start = {"effective_from": format_instant(day(10)), "version": "2"}
    alike = timeline(policy(scheme("10", "20")), policy(scheme("30", "40"), **start))
    other = timeline(policy(scheme("10", "20")), policy(scheme("30", "40", window="50d"), **start))
    for known, after in ((alike, [7, 7]), (other, [3_000, 4_000])):
        known.learn(known.compute(day(3), {LABEL: sketch(7)})[0])
        assert cut(known, day(10, -1)) == [7, 7]
        assert cut(known, day(10)) == after


def test_a_fixed_scheme_keeps_its_cuts() -> None:
    fixed = policy(scheme("10", "20", cutoffs="fixed"))
    assert not ranked(Timeline([fixed]))
    assert ranked(Timeline([policy(scheme("10", "20"))]))
    known = timeline(fixed)
    known.learn(CutoffSet(day(3), {}))
    assert cut(known, day(5)) == [1_000, 2_000]


def test_other_schemes_and_care_rules_are_as_they_were() -> None:
    care = {"name": "x", "kind": "x", "trigger": "condition", "when": {"frequency": ">= 3"}, "consent": "not_needed"}
    both = {"top": scheme(None, None), "plain": tiers({"monetary": ">= 5"})}
    known = timeline(policy(None, care, schemes=both))
    known.learn(known.compute(day(3), {LABEL: sketch(150)})[0])
    before, after = known.at(day(1)), known.at(day(3))
    assert after.schemes[1] == before.schemes[1]
    (gauge,) = [g for g in after.gauges if g.metric.name == "monetary"]
    assert gauge.edges.reached == (150, 500)
    assert [g for g in after.gauges if g.metric.name == "frequency"] == [
        g for g in before.gauges if g.metric.name == "frequency"
    ]


def test_who_is_near_a_tier_is_near_its_cut_off() -> None:
    near = {"name": "near", "kind": "near", "trigger": "near_upgrade", "within": "10%", "consent": "not_needed"}
    known = timeline(policy(None, near, schemes={"top": scheme(None, None)}))
    known.learn(known.compute(day(3), {LABEL: sketch(10_000, 10_000, 10_000, 10_000)})[0])
    bought = Customer("c1")
    engine, decisions = Engine(known), Decisions()
    engine.ingest(bought, order(day(1), "a", 9_500), decisions)
    assert decisions.actions == [], "nobody is near what is not known yet"
    engine.advance(bought, day(3), decisions)
    engine.rerank(bought, day(3), decisions)
    (action,) = decisions.actions
    assert (action.tier, [why.op for why in action.why]) == ("t0", [">="])
    assert 88 < float(action.why[0].threshold) < 90
    engine.ingest(bought, order(day(4), "b", 10), decisions)
    assert decisions.actions == [action], "once"


@pytest.mark.parametrize(("latest", "changed"), [(10_000, False), (50_000, True)])
def test_a_rerank_reports_whether_the_customer_changed(latest: int, changed: bool) -> None:
    known = timeline(policy(scheme(None, None, demotion={"grace": "1d"})))
    known.learn(known.compute(day(1), {LABEL: sketch(10_000)})[0])
    customer, engine = Customer("c1"), Engine(known)
    engine.ingest(customer, order(day(1), "a", 20_000), Decisions())
    known.learn(known.compute(day(3), {LABEL: sketch(latest)})[0])
    assert engine.rerank(customer, day(3), Decisions()) is changed
    assert not engine.rerank(Customer("new"), day(3), Decisions())


@pytest.mark.parametrize(
    ("at", "zone", "end"),
    [
        ("2026-03-01T12:00:00Z", "UTC", "2026-03-02T00:00:00Z"),
        ("2026-03-02T00:00:00Z", "UTC", "2026-03-03T00:00:00Z"),
        ("2026-03-29T00:30:00+01:00", "Europe/Berlin", "2026-03-30T00:00:00+02:00"),
        ("2026-10-25T00:30:00+02:00", "Europe/Berlin", "2026-10-26T00:00:00+01:00"),
        ("2026-04-24T12:00:00+02:00", "Africa/Cairo", "2026-04-25T00:00:00+03:00"),
    ],
)
def test_a_day_ends_at_midnight_of_the_policy_s_time_zone(at: str, zone: str, end: str) -> None:
    known = timeline(policy(scheme("10", "20"), timezone=zone))
    assert known.day_end(parse_instant(at)) == parse_instant(end)
    assert known.day_start(parse_instant(end)) == parse_instant(end)
    assert known.day_start(parse_instant(end) - 1) <= parse_instant(at)


@pytest.mark.parametrize(
    ("starts", "at", "end"),
    [
        ("2026-03-02T16:00:00Z", "2026-03-02T12:00:00Z", "2026-03-02T16:00:00Z"),  # at a midnight of its own zone
        ("2026-03-02T10:00:00Z", "2026-03-02T08:00:00Z", "2026-03-02T16:00:00Z"),
        ("2026-03-02T10:00:00Z", "2026-03-02T12:00:00Z", "2026-03-02T16:00:00Z"),
        ("2026-03-02T20:00:00Z", "2026-03-02T08:00:00Z", "2026-03-03T16:00:00Z"),
        ("2026-03-02T20:00:00Z", "2026-03-01T08:00:00Z", "2026-03-02T00:00:00Z"),
    ],
)
def test_the_first_day_of_a_version_with_another_zone_ends_by_that_zone(starts: str, at: str, end: str) -> None:
    old = policy(scheme("10", "20"))
    new = policy(scheme("10", "20"), timezone="Asia/Shanghai", version="test-2", effective_from=starts)
    assert timeline(old, new).day_end(parse_instant(at)) == parse_instant(end)


def test_what_new_cut_offs_change_as_a_version_begins_is_because_of_the_policy() -> None:
    old, new = (
        policy(scheme("0.05", "0.10"), version=name, effective_from=format_instant(day(number)))
        for number, name in ((0, "test-1"), (3, "test-2"))
    )
    for start, cause in ((3, "policy"), (2, "time")):
        known = timeline(old, new)
        engine, customer, decisions = Engine(known), Customer("c1"), Decisions()
        engine.ingest(customer, order(day(1), "a", 8), decisions)
        known.learn(known.compute(day(start), {LABEL: sketch(*range(1, 9))})[0])
        decisions.changes.clear()
        assert engine.rerank(customer, day(start), decisions)
        assert [change.cause for change in decisions.changes] == [cause]


# --- events -------------------------------------------------------------------------------------------------


def test_an_event_holds_cuts_requested_and_reached_shares() -> None:
    (event,) = timeline().compute(day(3), {LABEL: sketch(*range(1, 13))})[1]
    assert (event.scheme, event.metric, event.population) == ("loyalty", "monetary", 12)
    assert (event.effective_at, event.policy_version) == ("2026-01-04T00:00:00Z", "test-1")
    assert [(c.tier, c.cut, c.top, c.share, c.customers) for c in event.cutoffs] == [
        ("t1", "0.07", 0.5, 0.5, 6),
        ("t2", "0.12", 0.1, 1 / 12, 1),
    ]


def test_an_event_counts_who_holds_a_tier_or_a_higher_one() -> None:
    held = {"loyalty": {"t0": 5, "t1": 4, "t2": 2}, "other": {"t2": 9}}
    (event,) = timeline().compute(day(3), {LABEL: sketch(*range(1, 13))}, held)[1]
    assert [(c.holders, c.held) for c in event.cutoffs] == [(6, 0.5), (2, 2 / 12)]
    (unknown,) = timeline().compute(day(3), {LABEL: sketch(7)})[1]
    assert [(c.holders, c.held) for c in unknown.cutoffs] == [(None, None)] * 2


def test_an_event_has_the_same_id_whenever_it_is_computed() -> None:
    one, other = (timeline().compute(day(3), {LABEL: sketch(value)})[1][0] for value in (7, 8))
    later = timeline().compute(day(4), {LABEL: sketch(7)})[1][0]
    assert one.event_id == other.event_id != later.event_id


@pytest.mark.parametrize(
    ("metric", "number", "cut"),
    [("frequency", 7, 7), ("engagement", 2_500, 2.5), ("average_order_value", 1_234_500, "12.345000")],
)
def test_cuts_are_in_displayed_units(metric: str, number: int, cut: str | float) -> None:
    known = timeline(policy(scheme(None, None, metric=metric)))
    (event,) = known.compute(day(3), {f"{metric}/{100 * DAY_MS}": sketch(number)})[1]
    found = event.cutoffs[0].cut
    assert float(found) == pytest.approx(float(cut), rel=0.01)
    assert type(found) is type(cut)
