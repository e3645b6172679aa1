"""What governance does to proposed actions: to whom, when, how often, and at whose cost."""

from collections.abc import Callable
from typing import Any

import pytest

from models.care.budgets import BudgetShare
from models.care.governance import MAX_HELD, MAX_LOG, is_held_out
from models.customer.state import Customer, Sent
from models.events import Consent, Event, Interaction, Profile
from models.identity import id64
from models.instants import DAY_MS, HOUR_MS, parse_instant
from models.policy.care_rules import Refusal
from tests.models.build import Run, cancel, contact, day, order, refund
from tests.models.care.build import LADDER, at, care_policy, dues, profile, rule, run, sent

TICKET = rule("interaction", interaction="complaint")
ASKING = {**TICKET, "consent": "required"}


def complaint(instant: str | int, name: str) -> Interaction:
    return contact(at(instant) if isinstance(instant, str) else instant, name, "complaint")


def refused(found: Run) -> dict[str, int]:
    return {reason: count for (_, reason), count in found.decisions.refusals.items()}


# --- consent ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consent", "channel", "expected"),
    [
        (None, "email", None),
        (Consent(False), "email", None),
        (Consent(True), "email", "email"),
        (Consent(True, ("sms",)), "email", None),
        (Consent(True, ("sms",)), ["email", "sms"], "sms"),
        (Consent(True, ("sms", "email")), ["email", "sms"], "email"),
        (Consent(True, ("phone",)), {"default": ["email"], "basic": ["wechat", "phone"]}, "phone"),
        (Consent(True, ("phone",)), {"default": ["email"], "gold": "phone"}, None),
    ],
)
def test_the_channel_is_the_first_consented_to_of_those_for_the_tier(
    consent: Consent | None, channel: Any, expected: str | None
) -> None:
    found = run({**ASKING, "channel": channel}).take(profile("2026-01-01T00:00:00Z", consent=consent))
    found.take(complaint("2026-01-02T00:00:00Z", "i"))
    assert [action.channel for action in found.actions] == ([] if expected is None else [expected])
    assert refused(found) == ({Refusal.WITHOUT_CONSENT: 1} if expected is None else {})


def test_an_unsubscription_counts_from_its_instant_on() -> None:
    found = run(ASKING).take(profile("2026-01-01T00:00:00Z"), complaint("2026-01-02T00:00:00Z", "i"))
    found.take(contact(at("2026-01-02T00:00:00Z"), "u", "unsubscribe"), complaint("2026-01-02T00:00:00Z", "j"))
    assert dues(found) == ["2026-01-02T00:00:00Z"]
    found.take(profile("2026-01-03T00:00:00Z"), complaint("2026-01-04T00:00:00Z", "k"))
    assert dues(found)[1:] == ["2026-01-04T00:00:00Z"]


@pytest.mark.parametrize("again", [False, True])
def test_what_waits_for_the_morning_is_not_sent_to_one_who_unsubscribes_at_night(again: bool) -> None:
    found = run(ASKING, governance={"quiet_hours": {"since": "21:00", "until": "08:00"}})
    found.take(profile("2026-01-01T12:00:00Z"), complaint("2026-01-01T22:00:00Z", "i"))
    found.take(contact(at("2026-01-02T01:00:00Z"), "u", "unsubscribe"))
    if again:
        found.take(profile("2026-01-02T02:00:00Z"))
    found.until(at("2026-01-05T00:00:00Z"))
    assert dues(found) == (["2026-01-02T08:00:00Z"] if again else [])


def test_staff_need_no_consent_know_no_quiet_hours_and_count_in_no_cap() -> None:
    governance = {"quiet_hours": {"since": "21:00", "until": "08:00"}, "caps": [{"at_most": 1, "per": "7d"}]}
    staff = {**TICKET, "consent": "required", "audience": "staff"}
    thanks = {**rule("interaction", interaction="referral"), "name": "thanks"}
    found = run(staff, thanks, governance=governance)
    found.take(*(complaint(f"2026-01-01T22:0{minute}:00Z", str(minute)) for minute in range(3)))
    found.take(contact(at("2026-01-02T12:00:00Z"), "r", "referral"))
    assert len(found.actions) == 4


# --- quiet hours --------------------------------------------------------------------------------------------

NIGHT = {"since": "21:00", "until": "08:00"}
NOON = {"since": "12:00", "until": "14:00"}
NEW_YORK, NUUK, SHANGHAI, LORD_HOWE = "America/New_York", "America/Nuuk", "Asia/Shanghai", "Australia/Lord_Howe"


@pytest.mark.parametrize(
    ("quiet", "zone", "asked", "sent_at"),
    [
        (NIGHT, "UTC", "2026-01-01T20:59:59.999Z", "2026-01-01T20:59:59.999Z"),
        (NIGHT, "UTC", "2026-01-01T21:00:00Z", "2026-01-02T08:00:00Z"),
        (NIGHT, "UTC", "2026-01-02T07:59:59.999Z", "2026-01-02T08:00:00Z"),
        (NIGHT, "UTC", "2026-01-02T08:00:00Z", "2026-01-02T08:00:00Z"),
        (NOON, "UTC", "2026-01-01T13:00:00Z", "2026-01-01T14:00:00Z"),
        (NOON, "UTC", "2026-01-01T14:00:00Z", "2026-01-01T14:00:00Z"),
        # One instant, two zones, on two sides of midnight: night in Shanghai, noon in New York.
        (NIGHT, SHANGHAI, "2026-01-01T17:00:00Z", "2026-01-02T00:00:00Z"),
        (NIGHT, NEW_YORK, "2026-01-01T17:00:00Z", "2026-01-01T17:00:00Z"),
        (NIGHT, SHANGHAI, "2025-12-31T15:30:00Z", "2026-01-01T00:00:00Z"),
        (NIGHT, NEW_YORK, "2026-01-01T04:30:00Z", "2026-01-01T13:00:00Z"),
        # The clocks go forward at two: the night is an hour shorter.
        (NIGHT, NEW_YORK, "2026-03-08T06:30:00Z", "2026-03-08T12:00:00Z"),
        # They go back at two: an hour longer.
        (NIGHT, NEW_YORK, "2026-11-01T05:30:00Z", "2026-11-01T13:00:00Z"),
        # The end is skipped: an hour later.
        ({"since": "00:00", "until": "02:30"}, NEW_YORK, "2026-03-08T06:00:00Z", "2026-03-08T07:30:00Z"),
        # The clocks skip the beginning: quiet from the skip on.
        ({"since": "02:30", "until": "05:00"}, NEW_YORK, "2026-03-08T07:00:00Z", "2026-03-08T09:00:00Z"),
        # The end is repeated: the first time, and for what comes later, the second.
        ({"since": "00:00", "until": "01:30"}, NEW_YORK, "2026-11-01T05:00:00Z", "2026-11-01T05:30:00Z"),
        ({"since": "00:00", "until": "01:30"}, NEW_YORK, "2026-11-01T06:10:00Z", "2026-11-01T06:30:00Z"),
        # In Nuuk the clocks skip midnight's last hour, on Lord Howe half an hour.
        ({"since": "22:00", "until": "23:30"}, NUUK, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
        ({"since": "01:00", "until": "02:15"}, LORD_HOWE, "2026-10-03T15:00:00Z", "2026-10-03T15:45:00Z"),
    ],
)
def test_quiet_hours_put_off_to_their_end(quiet: dict[str, str], zone: str, asked: str, sent_at: str) -> None:
    found = run(TICKET, governance={"quiet_hours": quiet})
    found.take(profile("2025-06-01T00:00:00Z", timezone=zone), complaint(asked, "i"))
    assert sent(found.until(at(asked) + 30 * DAY_MS)) == [("interaction", sent_at)]
    assert found.actions[0].expires_at == run(TICKET).take(complaint(asked, "i")).actions[0].expires_at
    assert found.decisions.counts["care_deferred"] == (asked != sent_at)


def test_what_would_expire_in_quiet_hours_is_refused() -> None:
    found = run({**TICKET, "valid_for": "2h"}, governance={"quiet_hours": NIGHT})
    found.take(complaint("2026-01-01T22:00:00Z", "i"), complaint("2026-01-02T06:00:00Z", "j"))
    assert dues(found.until(day(10))) == ["2026-01-02T08:00:00Z"]
    assert refused(found) == {Refusal.EXPIRED: 1}


def test_quiet_hours_of_some_channels_leave_others_alone() -> None:
    governance = {"quiet_hours": {**NIGHT, "channels": ["sms", "phone"]}}
    found = run(TICKET, {**TICKET, "name": "call", "channel": "phone"}, governance=governance)
    found.take(complaint("2026-01-01T22:00:00Z", "i")).until(day(5))
    assert sent(found) == [("interaction", "2026-01-01T22:00:00Z"), ("call", "2026-01-02T08:00:00Z")]


def test_who_moves_at_night_is_written_to_in_their_new_morning() -> None:
    found = run(TICKET, governance={"quiet_hours": NIGHT}).take(profile("2026-01-01T00:00:00Z"))
    found.take(complaint("2026-01-01T22:00:00Z", "i"), profile("2026-01-01T23:00:00Z", timezone=NEW_YORK))
    assert dues(found.until(day(5))) == ["2026-01-02T13:00:00Z"]


OUTDATED: dict[str, tuple[dict[str, Any], list[Event], Event | None]] = {
    "a silence that an order ended": (
        rule("dormant", after="30d"),
        [order(day(0), "a")],
        order(day(30, 3_600_000), "b"),
    ),
    "churn that an order ended": (
        rule("churn", levels={"alert": "3"}, prior={"rhythm": "10d"}),
        [order(day(0), "a")],
        order(day(30, HOUR_MS), "b"),
    ),
    "a condition that no longer holds": (
        rule("condition", when={"recency_days": ">= 30"}),
        [order(day(0), "a")],
        order(day(30, HOUR_MS), "b"),
    ),
    "a tier that is lost again": (
        rule("tier_up"),
        [order(day(0), "a", 1), order(day(30), "b", 10_000)],
        refund(day(30, HOUR_MS), "r", "b", 10_000),
    ),
    "a tier that is near no more": (
        rule("near_upgrade"),
        [order(day(0), "a", 1), order(day(30), "b", 9_500)],
        cancel(day(30, HOUR_MS), "b"),
    ),
}


@pytest.mark.parametrize("case", OUTDATED)
@pytest.mark.parametrize("happens", [False, True])
def test_what_waits_for_the_morning_is_dropped_where_it_no_longer_holds(case: str, happens: bool) -> None:
    care, events, outdating = OUTDATED[case]
    found = run(care, governance={"quiet_hours": NIGHT}).take(*events)
    if happens and outdating is not None:
        found.until(day(30)).take(outdating)
    found.until(day(35))
    assert dues(found) == ([] if happens else ["2026-01-31T08:00:00Z"])
    assert refused(found) == ({Refusal.OUTDATED: 1} if happens else {})


def test_no_more_than_a_night_may_hold_wait() -> None:
    found = run(TICKET, governance={"quiet_hours": NIGHT})
    found.take(*(complaint(at("2026-01-01T22:00:00Z") + number, str(number)) for number in range(MAX_HELD + 3)))
    assert len(found.until(day(5)).actions) == MAX_HELD
    assert refused(found) == {Refusal.CROWDED: 3}


# --- caps, cool-downs, groups, priority ---------------------------------------------------------------------


def several(*days: float, governance: dict[str, Any], **more: Any) -> Run:
    found = run({**TICKET, **more}, governance=governance)
    return found.take(*(complaint(day(when), f"i{number}") for number, when in enumerate(days)))


def days(found: Run) -> list[float]:
    return [(parse_instant(due) - day(0)) / DAY_MS for due in dues(found)]


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ([{"at_most": 2, "per": "7d"}], [0, 1, 7]),  # what was sent exactly seven days ago has left the span
        ([{"at_most": 1, "per": "7d"}], [0, 7]),
        ([{"at_most": 3, "per": "30d"}, {"at_most": 1, "per": "2d"}], [0, 2, 6]),
        ([{"at_most": 1, "per": "30d", "kinds": ["thanks"]}], [0, 1, 2, 6, 7]),
    ],
)
def test_caps_hold_over_any_span(caps: list[dict[str, Any]], expected: list[float]) -> None:
    other = {**rule("interaction", interaction="referral"), "name": "thanks", "kind": "thanks"}
    found = run(TICKET, other, governance={"caps": caps})
    found.take(*(complaint(day(when), f"i{when}") for when in (0, 1, 2, 6, 7)))
    assert days(found) == expected
    assert refused(found) == ({Refusal.CAPPED: 5 - len(expected)} if len(expected) < 5 else {})


def test_a_cap_of_kinds_counts_those_and_one_over_all_counts_all() -> None:
    thanks = {**rule("interaction", interaction="referral"), "name": "thanks", "kind": "thanks"}
    events = [complaint(day(0), "a"), contact(day(1), "b", "referral"), contact(day(2), "c", "referral")]
    of_kind = run(TICKET, thanks, governance={"caps": [{"at_most": 1, "per": "9d", "kinds": ["thanks"]}]}).take(*events)
    over_all = run(TICKET, thanks, governance={"caps": [{"at_most": 1, "per": "9d"}]}).take(*events)
    assert (days(of_kind), days(over_all)) == ([0, 1], [0])


def test_a_cool_down_keeps_actions_of_a_rule_apart() -> None:
    found = several(0, 1, 6.9, 7, 8, governance={}, cooldown="7d")
    assert days(found) == [0, 7]
    assert refused(found) == {Refusal.COOLING_DOWN: 3}


@pytest.mark.parametrize(("apart", "expected"), [("0d", ["a", "b"]), ("5d", ["a"]), ("3d", ["a", "b"])])
def test_a_group_lets_one_out_and_keeps_the_others_apart(apart: str, expected: list[str]) -> None:
    first = {**TICKET, "name": "a", "group": "g"}
    second = {**rule("interaction", interaction="referral"), "name": "b", "group": "g"}
    found = run(first, second, governance={"groups": {"g": apart}})
    found.take(complaint(day(0), "i"), contact(day(3), "j", "referral"))
    assert [name for name, _ in sent(found)] == expected


@pytest.mark.parametrize(
    ("governance", "reason"),
    [
        ({"groups": {"g": "0d"}}, Refusal.EXCLUDED),
        ({"groups": {"g": "0d"}, "caps": [{"at_most": 1, "per": "1d"}]}, None),
    ],
)
@pytest.mark.parametrize("order_of_rules", [1, -1])
def test_of_several_at_one_instant_the_most_urgent_takes_the_place(
    governance: dict[str, Any], reason: Refusal | None, order_of_rules: int
) -> None:
    rules = [
        {**TICKET, "name": "low", "priority": 10, "group": "g"},
        {**TICKET, "name": "high", "priority": 90, "group": "g"},
    ][::order_of_rules]
    found = run(*rules, governance=governance).take(complaint(day(0), "i"))
    assert [name for name, _ in sent(found)] == ["high"]
    assert found.decisions.refusals["low", reason or Refusal.EXCLUDED] == 1


def test_of_equals_the_rule_that_stands_first_goes_first() -> None:
    rules = [{**TICKET, "name": name} for name in ("b", "a")]
    found = run(*rules, governance={"caps": [{"at_most": 1, "per": "1d"}]}).take(complaint(day(0), "i"))
    assert [name for name, _ in sent(found)] == ["b"]


def test_nothing_is_remembered_that_nobody_asks_for() -> None:
    found = run(TICKET).take(complaint(day(0), "i"), contact(day(1), "j", "call"))
    assert found.actions
    assert found.customer.care is None
    assert found.customer.marks == {}


def test_what_is_remembered_is_forgotten_when_nothing_asks_any_more() -> None:
    found = several(0, 1, governance={"caps": [{"at_most": 9, "per": "7d"}]})
    assert found.customer.care is not None
    assert len(found.customer.care.log) == 2
    found.take(contact(day(7), "v"))
    assert [entry.at for entry in found.customer.care.log] == [day(1)]
    found.take(contact(day(8), "w"))
    assert found.customer.care is None


def test_a_full_memory_lets_nothing_more_out() -> None:
    found = several(0, governance={"caps": [{"at_most": 9, "per": "7d"}]})
    assert found.customer.care is not None
    found.customer.care.log = [Sent(day(0), "other", "other", 1, None, False)] * MAX_LOG
    found.take(complaint(day(1), "j"))
    assert len(found.actions) == 1
    assert refused(found) == {Refusal.CROWDED: 1}


# --- budgets ------------------------------------------------------------------------------------------------


def spend(found: Run, name: str, *events: Event) -> None:
    """Have another customer of the same partition do something."""
    customer = Customer(name)
    for event in events:
        found.engine.ingest(customer, event, found.decisions, budget=found.budget)


def budgeted(found: Run) -> Run:
    found.budget = BudgetShare({})
    return found


def budget(at_most: int, period: str = "month", **more: Any) -> dict[str, Any]:
    return {"budgets": [{"name": "gifts", "at_most": at_most, "period": period, **more}]}


def test_a_budget_is_of_all_customers_and_starts_over_with_the_period() -> None:
    found = budgeted(run(TICKET, governance=budget(2)))
    for number in range(4):
        spend(found, f"c{number}", complaint(f"2026-01-3{number % 2}T12:00:00Z", "i"))
    spend(found, "c9", complaint("2026-02-01T00:00:00Z", "i"))
    assert [action.customer_id for action in found.actions] == ["c0", "c1", "c9"]
    assert refused(found) == {Refusal.OVER_BUDGET: 2}


@pytest.mark.parametrize(
    ("period", "last", "first"),
    [
        ("day", "2026-03-08T04:59:59.999Z", "2026-03-08T05:00:00Z"),  # of New York
        ("week", "2026-03-09T03:59:59.999Z", "2026-03-09T04:00:00Z"),
        ("month", "2026-04-01T03:59:59.999Z", "2026-04-01T04:00:00Z"),
        ("quarter", "2026-07-01T03:59:59.999Z", "2026-07-01T04:00:00Z"),
        ("year", "2027-01-01T04:59:59.999Z", "2027-01-01T05:00:00Z"),
    ],
)
def test_periods_are_those_of_the_business_time_zone(period: str, last: str, first: str) -> None:
    found = budgeted(run(TICKET, governance=budget(1, period), timezone=NEW_YORK))
    for number, instant in enumerate((at(last) - 1, at(last), at(first))):
        spend(found, f"c{number}", Profile(at("2026-01-01T00:00:00Z"), timezone=SHANGHAI), complaint(instant, "i"))
    assert [action.customer_id for action in found.actions] == ["c0", "c2"]


def test_a_budget_covers_the_tiers_and_kinds_that_it_names() -> None:
    found = budgeted(run(TICKET, governance=budget(1, tiers=["silver"], kinds=["note"])))
    spend(found, "basic", complaint(day(0), "i"), complaint(day(1), "j"))
    spend(found, "silver", order(day(0), "a", 10_000), complaint(day(0), "i"), complaint(day(1), "j"))
    assert [action.customer_id for action in found.actions] == ["basic", "basic", "silver"]


def test_actions_cost_what_their_rule_says_and_all_budgets_must_have_room() -> None:
    both = {"budgets": [*budget(5)["budgets"], {"name": "calls", "at_most": 1, "period": "day"}]}
    found = budgeted(run({**TICKET, "cost": 3}, {**TICKET, "name": "cheap"}, governance=both))
    spend(found, "c1", complaint(day(0), "i"))  # three and one; the second budget is a day's one
    assert [name for name, _ in sent(found)] == ["cheap"]
    assert found.budget is not None
    assert found.budget.spent == {name: dict.fromkeys(spent, 1) for name, spent in found.budget.spent.items()}


# --- hold-outs ----------------------------------------------------------------------------------------------


def share_of(holdout: Callable[[str], bool], names: range) -> float:
    return sum(holdout(f"c{name}") for name in names) / len(names)


@pytest.mark.parametrize(("written", "low", "high"), [("10%", 0.09, 0.11), ("0.5%", 0.003, 0.007), ("99%", 0.98, 1)])
def test_the_hold_out_is_as_large_as_said(written: str, low: float, high: float) -> None:
    (compiled,) = care_policy({**TICKET, "holdout": written}).care
    assert low < share_of(lambda name: is_held_out(name, compiled.action), range(10_000)) < high


def test_hold_outs_of_two_rules_have_nothing_to_do_with_each_other() -> None:
    one, other = care_policy({**TICKET, "holdout": "50%"}, {**TICKET, "name": "other", "holdout": "50%"}).care
    both = share_of(lambda name: is_held_out(name, one.action) and is_held_out(name, other.action), range(10_000))
    assert 0.23 < both < 0.27


def test_held_out_actions_are_emitted_are_always_the_same_and_spend_nothing() -> None:
    found = budgeted(run({**TICKET, "holdout": "50%"}, governance=budget(1_000)))
    for name in range(200):
        spend(found, f"c{name}", complaint(day(0), "i"), complaint(day(1), "j"))
    flags: dict[str, set[bool]] = {}
    for action in found.actions:
        flags.setdefault(action.customer_id, set()).add(action.holdout)
    assert len(found.actions) == 400
    assert all(len(flag) == 1 for flag in flags.values())
    spent = sum(not action.holdout for action in found.actions)
    assert found.budget is not None
    assert [sum(each.values()) for each in found.budget.spent.values()] == [spent]


def test_where_the_budget_is_used_up_the_held_out_are_refused_too() -> None:
    found = budgeted(run({**TICKET, "holdout": "50%"}, governance=budget(3)))
    for name in range(100):
        spend(found, f"c{name}", complaint(day(0), "i"))
    last = [action.holdout for action in found.actions]
    assert last.count(False) == 3
    assert last[-1] is False


# --- outcomes -----------------------------------------------------------------------------------------------


def answer(instant: int, name: str, outcome: str, action: str) -> Interaction:
    return Interaction(instant, id64(name), f"care.{outcome}", None, id64(action))


@pytest.mark.parametrize(
    ("converts", "event", "outcome"),
    [
        ([], order(day(2), "o"), "converted"),
        ([], order(day(31), "o"), "converted"),
        ([], order(day(31, 1), "o"), None),
        ([], contact(day(2), "c", "coupon"), None),
        (["coupon"], contact(day(2), "c", "coupon"), "converted"),
        (["coupon"], order(day(2), "o"), None),
    ],
)
def test_orders_or_what_the_rule_names_convert_within_the_attribution(
    converts: list[str], event: Event, outcome: str | None
) -> None:
    found = run({**TICKET, "attribution": "30d", "converts": converts}).take(complaint(day(1), "i"))
    found.take(event)
    assert dict(found.decisions.outcomes) == ({("interaction", "basic", False, outcome): 1} if outcome else {})


def test_answers_are_matched_by_action_and_counted_once() -> None:
    found = run({**TICKET, "attribution": "30d"}, scheme=LADDER).take(complaint(day(1), "i"), complaint(day(2), "j"))
    first = found.actions[0].action_id
    found.take(answer(day(3), "1", "delivered", first), answer(day(3), "2", "opened", first))
    found.take(answer(day(3), "3", "opened", first), answer(day(3), "4", "clicked", "another"))
    assert dict(found.decisions.outcomes) == {
        ("interaction", "basic", False, "delivered"): 1,
        ("interaction", "basic", False, "opened"): 1,
    }
