from datetime import time
from fractions import Fraction

from models.instants import DAY_MS
from models.policy import BirthdayRule, ConditionRule, leaves
from models.rules import Comparison, Junction
from tests.models.build import policy, tiers

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
    assert (compiled.version, compiled.window, compiled.zone.key) == ("test-1", 90 * DAY_MS, "Asia/Kuwait")
    assert compiled.money.rates == {"USD": Fraction("0.307")}
    assert compiled.weights == {"visit": 500, "complaint": -2_000, "odd": 1_000}
    scheme = compiled.schemes[0]
    assert (scheme.window, scheme.grace, scheme.step) == (14 * DAY_MS, DAY_MS * 3 // 2, "one")
    rule = scheme.tiers[1].rule
    assert isinstance(rule, Comparison)
    assert (rule.threshold, rule.edge.ratio, rule.window) == (Fraction("12.34"), 12_340, 14 * DAY_MS)


def test_edges_enclose_thresholds_between_native_units() -> None:
    (leaf,) = leaves(policy(tiers({"monetary": "> 0.005"})).schemes[0].tiers[1].rule)  # type: ignore[arg-type]
    assert (leaf.edge.ratio, leaf.edge.floor, leaf.edge.ceil) == (Fraction(1, 2), 0, 1)
    (leaf,) = leaves(policy(tiers({"recency_days": "< 0.5"})).schemes[0].tiers[1].rule)  # type: ignore[arg-type]
    assert (leaf.edge.floor, leaf.edge.ceil) == (DAY_MS // 2, DAY_MS // 2)


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
    assert [leaf.metric.name for leaf in leaves(either)] == ["margin", "growth"]


def test_the_order_of_tiers_is_their_rank() -> None:
    scheme = policy(tiers({"frequency": ">= 1"}, {"frequency": ">= 2"})).schemes[0]
    assert scheme.ranks == {"t0": 0, "t1": 1, "t2": 2}


def test_the_horizon_is_the_longest_window_of_any_rule() -> None:
    schemes = {"a": tiers({"frequency": ">= 1"}, window="500d"), "b": tiers({"frequency": ">= 1"}, window="7d")}
    assert policy(schemes=schemes).horizon == 500 * DAY_MS
    assert policy(schemes={"b": schemes["b"]}).horizon == 100 * DAY_MS


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
    (leaf,) = leaves(churn.rule)
    assert leaf.window == 100 * DAY_MS
