from datetime import time
from fractions import Fraction
from typing import Any

import pytest

from models.errors import PolicyError
from models.instants import DAY_MS, MIN_INSTANT, format_instant
from models.policy.care_rules import BirthdayRule, ConditionRule
from models.policy.compiled import Policy, describe
from models.policy.timeline import Timeline
from models.rules.comparisons import Comparison, Junction
from models.rules.metrics import METRICS, Edges
from models.rules.scheme import Demotion
from tests.models.build import day, policy, tiers

BIRTHDAY = {"name": "b", "kind": "birthday_offer", "trigger": "birthday", "at": "09:30", "leap_day": "03-01"}
CHURN = {"name": "c", "kind": "churn", "trigger": "condition", "when": {"overdue": ">= 3"}, "consent": "not_needed"}


def test_compiles_units_to_integers() -> None:
    compiled = policy(
        tiers({"monetary": ">= 12.34"}, grace="36h", step="one", window="2w"),
        currency="KWD",
        rates={"USD": "0.307"},
        timezone="Asia/Kuwait",
        window="90d",
        weights={"visit": "0.5", "complaint": "-2", "odd": 1},
    )
    assert (compiled.version, compiled.zone.key) == ("test-1", "Asia/Kuwait")
    assert compiled.money.rates == {"USD": Fraction("0.307")}
    assert compiled.weights == {"visit": 500, "complaint": -2_000, "odd": 1_000}
    scheme = compiled.schemes[0]
    assert scheme.demotion == Demotion(DAY_MS * 3 // 2, "one", 0, None)
    rule = scheme.tiers[1].rule
    assert isinstance(rule, Comparison)
    gauge = compiled.gauges[rule.gauge]
    assert (rule.threshold, rule.edge, gauge.window) == (Fraction("12.34"), 12_340, 14 * DAY_MS)
    assert (gauge.metric, gauge.edges) == (METRICS["monetary"], Edges.of([(">=", Fraction(12_340))]))


def test_without_a_window_of_its_own_a_scheme_has_the_policys() -> None:
    assert {gauge.window for gauge in policy(tiers({"monetary": ">= 1"}), window="90d").gauges} == {90 * DAY_MS}


def test_compiles_what_holds_a_fall_back() -> None:
    scheme = {**tiers({"monetary": ">= 1"}), "demotion": {"min_stay": "36h", "keep": "anniversary"}}
    assert policy(scheme).schemes[0].demotion == Demotion(0, "qualified", DAY_MS * 3 // 2, "anniversary")


def test_edges_enclose_thresholds_between_native_units() -> None:
    def edges(when: dict[str, str]) -> Edges:
        compiled = policy(tiers(when))
        (leaf,) = compiled.schemes[0].tiers[1].rule.leaves()  # type: ignore[union-attr]
        return compiled.gauges[leaf.gauge].edges

    # Half a cent: a falling total crosses it at no cent at all, a rising value at one.
    assert edges({"monetary": "> 0.005"}) == Edges((), (Fraction(1, 2),), (0,), (1,))
    half = DAY_MS // 2
    assert edges({"recency_days": "< 0.5"}) == Edges((Fraction(half),), (), (half - 1,), (half,))


def test_compiles_all_and_any() -> None:
    rule = (
        policy(tiers({"frequency": ">= 1", "any": [{"margin": "> 0"}, {"all": [{"growth": "> 1"}]}]}))
        .schemes[0]
        .tiers[1]
        .rule
    )
    assert isinstance(rule, Junction)
    assert rule.every
    either = rule.parts[1]
    assert isinstance(either, Junction)
    assert not either.every
    assert [leaf.metric.name for leaf in either.leaves()] == ["margin", "growth"]


def test_the_order_of_tiers_is_their_rank() -> None:
    scheme = policy(tiers({"frequency": ">= 1"}, {"frequency": ">= 2"})).schemes[0]
    assert scheme.ranks == {"t0": 0, "t1": 1, "t2": 2}


def test_the_horizon_is_the_longest_window_of_any_rule() -> None:
    schemes = {"a": tiers({"frequency": ">= 1"}, window="500d"), "b": tiers({"frequency": ">= 1"}, window="7d")}
    assert policy(schemes=schemes).horizon == 500 * DAY_MS
    assert policy(schemes={"b": schemes["b"]}).horizon == 7 * DAY_MS
    assert policy(None, CHURN, schemes={"b": schemes["b"]}).horizon == 100 * DAY_MS  # care looks at the policy's


def test_keeps_the_kinds_that_some_metric_may_read_and_knows_those_of_the_policy() -> None:
    compiled = policy(weights={"visit": "1", "call": "0", "coupon": "2"})
    assert compiled.kept_kinds == {"survey", "referral", "visit", "coupon"}
    assert {"coupon", "call", "care.opened", "unsubscribe"} <= compiled.known_kinds
    assert "sings" not in compiled.known_kinds


def test_compiles_care_rules() -> None:
    schemes = {"a": tiers({"frequency": ">= 1"}), "b": tiers({"frequency": ">= 1"})}
    birthday, churn = policy(None, {**BIRTHDAY, "scheme": "b", "valid_for": "36h"}, CHURN, schemes=schemes).care
    assert isinstance(birthday, BirthdayRule)
    assert (birthday.at, birthday.days_before, birthday.leap_day) == (time(9, 30), 0, (3, 1))
    action = birthday.action
    assert (action.rule, action.scheme, action.template, action.valid_for) == (
        "b",
        "b",
        "birthday_offer",
        DAY_MS * 3 // 2,
    )
    assert action.needs_consent
    assert isinstance(churn, ConditionRule)
    assert (churn.action.scheme, churn.action.needs_consent) == ("a", False)
    compiled = policy(None, CHURN, schemes={"a": tiers({"frequency": ">= 1"}, window="7d")})
    (leaf,) = compiled.care[0].rule.leaves()  # type: ignore[union-attr]
    assert compiled.gauges[leaf.gauge].window == 100 * DAY_MS  # the policy's, whatever the scheme's


# --- versions ---------------------------------------------------------------------------------------


def version(name: str, start: int | None = None, **more: Any) -> Policy:
    return policy(version=name, effective_from=None if start is None else format_instant(start), **more)


def test_at_every_instant_exactly_one_version_holds() -> None:
    first, second, third = version("1", day(0)), version("2", day(10)), version("3", day(20))
    timeline = Timeline([third, first, second])
    assert timeline.versions == [first, second, third]
    assert timeline.latest is third
    held = [(day(-99), "1"), (day(0), "1"), (day(10, -1), "1"), (day(10), "2"), (day(20, -1), "2"), (day(99), "3")]
    assert [timeline.at(at).version for at, _ in held] == [name for _, name in held]


def test_the_next_start_is_that_of_the_next_version_that_differs() -> None:
    timeline = Timeline([version("1", day(0)), version("2", day(10)), version("3", day(20))])
    starts = [timeline.next_start(at) for at in (day(-99), day(0), day(10, -1), day(10), day(20, -1), day(20))]
    # The first holds already before it begins, so its start is no change.
    assert starts == [day(10), day(10), day(10), day(20), day(20), None]
    assert Timeline([version("1")]).next_start(day(0)) is None


def test_without_effective_from_a_version_holds_from_the_beginning() -> None:
    assert version("1").effective_from == MIN_INSTANT
    assert version("1", day(3)).effective_from == day(3)
    assert describe(version("1")) == "1"
    assert describe(version("1", day(3))) == "1 from 2026-01-04T00:00:00Z"


def test_the_fingerprint_changes_with_anything_in_any_version() -> None:
    timelines = [
        [version("1")],
        [version("2")],
        [version("1", window="99d")],
        [version("1", weights={"visit": "1"})],
        [version("1"), version("2", day(1))],
        [version("1"), version("2", day(2))],
        [version("1"), version("2", day(2), timezone="Asia/Shanghai")],
    ]
    fingerprints = [Timeline(versions).fingerprint for versions in timelines]
    assert len(set(fingerprints)) == len(timelines)
    assert all(0 <= fingerprint < 2**32 for fingerprint in fingerprints)
    again = Timeline([version("2", day(1)), version("1")])  # in another order, it is the same
    assert again.fingerprint == fingerprints[4]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (lambda: [version("1"), version("1", day(1))], "version: found the same twice"),
        (lambda: [version("1"), version("2")], "effective_from: found the same twice"),
        (lambda: [version("1", day(1)), version("2", day(1))], "effective_from: found the same twice"),
        (lambda: [version("1"), version("2", day(1), currency="EUR")], "currency: found several"),
    ],
)
def test_versions_that_cannot_follow_one_another_are_refused(versions: Any, expected: str) -> None:
    with pytest.raises(PolicyError, match=expected):
        Timeline(versions())


def test_what_is_kept_is_kept_for_every_version() -> None:
    one = version("1", weights={"visit": "1"}, window="30d")
    two = version("2", day(1), weights={"call": "1"}, window="80d")
    timeline = Timeline([one, two])
    assert timeline.kept_kinds == {"survey", "referral", "visit", "call"}
    assert timeline.horizon == 80 * DAY_MS
