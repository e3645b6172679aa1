"""Birthdays and conditions: the exact instant, once an occasion, and only to whom it may be sent."""

from datetime import date
from typing import Any

import pytest

from models.care.calendar_days import birthday_in
from models.customer.state import NEVER
from models.events import Consent, Profile
from models.identity import event_id
from models.instants import DAY_MS, parse_instant
from tests.models.build import Run, contact, day, engine, order, policy

BIRTHDAY = {"name": "birthday-offer", "kind": "birthday_offer", "trigger": "birthday", "at": "09:00"}
CHURN = {
    "name": "churn-alert",
    "kind": "churn_alert",
    "trigger": "condition",
    "when": {"recency_days": "> 30"},
    "consent": "not_needed",
}
WILLING = Consent(marketing=True)


def at(text: str) -> int:
    return parse_instant(text)


def profile(updated_at: str, birthday: str = "1990-03-01", **more: Any) -> Profile:
    instant = parse_instant(updated_at)
    return Profile(instant, birthday, updated_at=instant, **{"consent": WILLING, **more})


def birthdays(*profiles: Profile, until: str, **rule: Any) -> list[str]:
    run = Run(policy(None, {**BIRTHDAY, **rule}))
    run.take(*profiles).until(at(until))
    return [action.due_at for action in run.actions]


@pytest.mark.parametrize(
    ("timezone", "due"),
    [
        (None, "2026-03-01T09:00:00Z"),  # the policy's zone
        ("America/New_York", "2026-03-01T14:00:00Z"),
        ("Asia/Shanghai", "2026-03-01T01:00:00Z"),
        ("Pacific/Kiritimati", "2026-02-28T19:00:00Z"),
        ("Asia/Kathmandu", "2026-03-01T03:15:00Z"),
    ],
)
def test_a_birthday_is_kept_at_the_customers_local_time(timezone: str | None, due: str) -> None:
    known = profile("2026-01-01T00:00:00Z", timezone=timezone)
    assert birthdays(known, until="2026-12-31T00:00:00Z") == [due]


def test_a_birthday_comes_every_year_at_its_instant_and_not_a_millisecond_early() -> None:
    known = profile("2026-01-01T00:00:00Z")
    assert birthdays(known, until="2026-03-01T08:59:59.999Z") == []
    assert birthdays(known, until="2028-03-01T09:00:00Z") == [f"{year}-03-01T09:00:00Z" for year in (2026, 2027, 2028)]


@pytest.mark.parametrize(("leap_day", "common"), [("02-28", "2027-02-28T09:00:00Z"), ("03-01", "2027-03-01T09:00:00Z")])
@pytest.mark.parametrize("birthday", ["1992-02-29", "--02-29", "1990-02-29"])
def test_the_29th_of_february_in_common_and_leap_years(leap_day: str, common: str, birthday: str) -> None:
    known = profile("2027-01-01T00:00:00Z", birthday)
    assert birthdays(known, until="2028-12-31T00:00:00Z", leap_day=leap_day) == [common, "2028-02-29T09:00:00Z"]


def test_the_years_of_centuries() -> None:
    assert birthday_in(2000, "--02-29", (2, 28)) == date(2000, 2, 29)
    assert birthday_in(2100, "--02-29", (2, 28)) == date(2100, 2, 28)
    assert birthday_in(2100, "1996-02-29", (3, 1)) == date(2100, 3, 1)


def test_days_before_reach_into_the_old_year() -> None:
    known = profile("2026-06-01T00:00:00Z", "1990-01-03")
    due = birthdays(known, until="2028-01-01T00:00:00Z", days_before=7)
    assert due == ["2026-12-27T09:00:00Z", "2027-12-27T09:00:00Z"]


def test_days_before_the_29th_of_february() -> None:
    known = profile("2027-01-01T00:00:00Z", "1992-02-29")
    due = birthdays(known, until="2028-12-31T00:00:00Z", days_before=1, leap_day="03-01")
    assert due == ["2027-02-28T09:00:00Z", "2028-02-28T09:00:00Z"]


def test_a_birthday_across_new_year_is_one_occasion_named_by_its_own_year() -> None:
    run = Run(policy(None, {**BIRTHDAY, "days_before": 7}))
    run.take(profile("2026-12-27T12:00:00Z", "1990-01-03")).until(at("2027-02-01T00:00:00Z"))
    assert [action.due_at for action in run.actions] == ["2026-12-27T12:00:00Z"]
    assert run.customer.marks["birthday-offer"].occasion == 2027


def test_a_profile_that_arrives_on_the_day_is_in_time_and_a_day_later_is_not() -> None:
    assert birthdays(profile("2026-03-01T20:00:00Z"), until="2026-12-31T00:00:00Z") == ["2026-03-01T20:00:00Z"]
    assert birthdays(profile("2026-03-02T00:00:00Z"), until="2027-01-31T00:00:00Z") == []


def test_what_the_day_is_is_decided_in_the_customers_zone() -> None:
    evening = profile("2026-03-02T04:00:00Z", timezone="America/New_York")  # still 1 March there
    assert birthdays(evening, until="2026-12-31T00:00:00Z") == ["2026-03-02T04:00:00Z"]


@pytest.mark.parametrize("timezone", ["Pacific/Honolulu", "Pacific/Kiritimati", "UTC"])
@pytest.mark.parametrize("hours", [1, 5, 23])
def test_moving_to_another_zone_after_the_offer_brings_no_second_one(timezone: str, hours: int) -> None:
    first = profile("2026-01-01T00:00:00Z", timezone="Asia/Shanghai")
    moved_at = at("2026-03-01T01:00:00Z") + hours * 3_600_000
    moved = Profile(moved_at, "1990-03-01", timezone, consent=WILLING, updated_at=moved_at)
    assert birthdays(first, moved, until="2027-01-31T00:00:00Z") == ["2026-03-01T01:00:00Z"]


def test_moving_to_another_zone_before_the_offer_moves_it() -> None:
    first = profile("2026-01-01T00:00:00Z", timezone="America/Los_Angeles")
    moved = profile("2026-03-01T02:00:00Z", timezone="Asia/Shanghai")  # ten in the morning there: at once
    assert birthdays(first, moved, until="2026-12-31T00:00:00Z") == ["2026-03-01T02:00:00Z"]


def test_correcting_the_birthday_after_the_offer_brings_no_second_one_that_year() -> None:
    corrected = profile("2026-04-01T00:00:00Z", "1990-05-01")
    due = birthdays(profile("2026-01-01T00:00:00Z"), corrected, until="2027-12-31T00:00:00Z")
    assert due == ["2026-03-01T09:00:00Z", "2027-05-01T09:00:00Z"]


def test_removing_the_birthday_ends_the_offers() -> None:
    none = Profile(at("2026-02-01T00:00:00Z"), updated_at=at("2026-02-01T00:00:00Z"), consent=WILLING)
    assert birthdays(profile("2026-01-01T00:00:00Z"), none, until="2027-12-31T00:00:00Z") == []


@pytest.mark.parametrize(
    ("timezone", "birthday", "rule_at", "due"),
    [
        ("America/New_York", "--03-08", "02:30", "2026-03-08T07:30:00Z"),  # skipped by the clocks: an hour later
        ("America/New_York", "--11-01", "01:30", "2026-11-01T05:30:00Z"),  # repeated: the first time only
        ("America/Nuuk", "--03-28", "23:30", "2026-03-29T01:30:00Z"),  # an hour later is already the next date
        ("Africa/Cairo", "--04-24", "00:15", "2026-04-23T22:15:00Z"),  # the clocks skip that midnight
    ],
)
def test_birthdays_in_dst_nights_come_once(timezone: str, birthday: str, rule_at: str, due: str) -> None:
    known = profile("2026-01-01T00:00:00Z", birthday, timezone=timezone)
    assert birthdays(known, until="2026-12-31T00:00:00Z", at=rule_at) == [due]


def test_a_birthday_on_a_date_that_a_zone_skipped_altogether_is_kept_the_day_after() -> None:
    known = profile("2011-06-01T00:00:00Z", "--12-30", timezone="Pacific/Apia")  # went from 29 to 31 December
    assert birthdays(known, until="2012-01-31T00:00:00Z") == ["2011-12-30T19:00:00Z"]


def test_birthdays_at_the_beginning_of_the_calendar_stop_nothing() -> None:
    known = profile("0001-01-02T00:00:00Z", "--01-05")
    assert birthdays(known, until="0003-01-01T00:00:00Z", days_before=30) == [
        "0001-12-06T09:00:00Z",
        "0002-12-06T09:00:00Z",
    ]


def test_birthdays_come_to_an_end_with_the_calendar() -> None:
    run = Run(policy(None, BIRTHDAY)).take(profile("8999-12-01T00:00:00Z"))
    run.until(at("9999-12-30T00:00:00Z"))
    assert run.actions[-1].due_at == "9998-03-01T09:00:00Z"
    assert run.customer.due == NEVER


def test_a_changed_policy_moves_the_next_birthday() -> None:
    run = Run(policy(None, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z"))
    run.engine = engine(policy(None, {**BIRTHDAY, "days_before": 7}, version="test-2"))
    run.take(contact(at("2026-02-01T00:00:00Z"), "i")).until(at("2026-12-31T00:00:00Z"))
    assert [action.due_at for action in run.actions] == ["2026-02-22T09:00:00Z"]


def test_ids_of_actions_are_pinned() -> None:
    # Nobody is to get a second offer because a release names the first one differently: customer, rule, occasion.
    run = Run(policy(None, BIRTHDAY, CHURN)).take(profile("2026-01-01T00:00:00Z"), order(day(0), "a"))
    actions = {action.rule: action.action_id for action in run.until(at("2026-03-02T00:00:00Z")).actions}
    assert actions == {
        "birthday-offer": "4144b1e63bc7fdba107429da43110a89",
        "churn-alert": "19a8628761ac5378abf809af62fdfc63",
    }
    assert actions["birthday-offer"] == event_id("c1", "birthday-offer", "2026")


def test_events_between_birthdays_change_nothing_about_them() -> None:
    run = Run(policy(None, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z"))
    run.take(*(order(day(number), str(number)) for number in range(0, 300, 7))).until(at("2026-12-31T00:00:00Z"))
    assert [action.due_at for action in run.actions] == ["2026-03-01T09:00:00Z"]


def test_an_action_says_everything_that_a_sender_needs() -> None:
    rule = {**BIRTHDAY, "channel": "sms", "template": "{kind}_2026", "priority": 80, "valid_for": "3d"}
    run = Run(policy(None, rule)).take(profile("2026-01-01T00:00:00Z", locale="zh-CN"))
    (action,) = run.until(at("2026-03-02T00:00:00Z")).actions
    assert len(action.action_id) == 32
    assert (action.rule, action.kind, action.customer_id) == ("birthday-offer", "birthday_offer", "c1")
    assert (action.tier, action.channel, action.template, action.locale) == (
        "t0",
        "sms",
        "birthday_offer_2026",
        "zh-CN",
    )
    assert (action.due_at, action.expires_at) == ("2026-03-01T09:00:00Z", "2026-03-04T09:00:00Z")
    assert (action.priority, action.holdout, action.why, action.policy_version) == (80, False, [], "test-1")


# --- who may be addressed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consent", "sent"),
    [
        (None, False),
        (Consent(marketing=False), False),
        (Consent(marketing=False, channels=("email",)), False),
        (Consent(marketing=True), True),
        (Consent(marketing=True, channels=("sms", "email")), True),
        (Consent(marketing=True, channels=("sms",)), False),
        (Consent(marketing=True, channels=()), False),
    ],
)
def test_consent_is_required_for_the_channel(consent: Consent | None, sent: bool) -> None:
    run = Run(policy(None, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z", consent=consent))
    run.until(at("2026-12-31T00:00:00Z"))
    assert len(run.actions) == sent
    assert run.decisions.counts["care_without_consent"] == (not sent)


def test_consent_is_not_asked_where_the_rule_needs_none() -> None:
    known = profile("2026-01-01T00:00:00Z", consent=None)
    assert len(birthdays(known, until="2026-12-31T00:00:00Z", consent="not_needed")) == 1


@pytest.mark.parametrize(
    ("unsubscribed", "sent"),
    [("2026-01-01T00:00:00Z", 0), ("2026-02-01T00:00:00Z", 0), ("2025-12-31T23:59:59.999Z", 1)],
)
def test_unsubscribing_withdraws_consent_given_until_then(unsubscribed: str, sent: int) -> None:
    run = Run(policy(None, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z"))
    run.take(contact(at(unsubscribed), "i", "unsubscribe")).until(at("2026-12-31T00:00:00Z"))
    assert len(run.actions) == sent


def test_consent_given_after_unsubscribing_counts_again() -> None:
    run = Run(policy(None, BIRTHDAY)).take(contact(at("2026-01-01T00:00:00Z"), "i", "unsubscribe"))
    run.take(profile("2026-01-01T00:00:00.001Z")).until(at("2026-12-31T00:00:00Z"))
    assert len(run.actions) == 1


def test_an_unsubscription_that_arrives_out_of_order_does_not_outdo_a_later_one() -> None:
    run = Run(policy(None, BIRTHDAY)).take(contact(at("2026-02-01T00:00:00Z"), "i1", "unsubscribe"))
    run.take(contact(at("2026-01-01T00:00:00Z"), "i2", "unsubscribe"))
    assert run.customer.unsubscribed_at == at("2026-02-01T00:00:00Z")


# --- conditions -----------------------------------------------------------------------------------


def test_a_condition_fires_at_the_instant_at_which_it_begins_to_hold() -> None:
    run = Run(policy(None, CHURN)).take(order(day(0), "a")).until(day(200))
    (action,) = run.actions
    assert at(action.due_at) == day(30, 1)
    assert [(why.metric, why.op, why.threshold, why.met) for why in action.why] == [("recency_days", ">", 30, True)]


def test_a_condition_fires_again_only_after_it_has_stopped_holding() -> None:
    run = Run(policy(None, CHURN)).take(order(day(0), "a"), contact(day(31), "i"), contact(day(40), "j"))
    run.take(order(day(50), "b")).until(day(90))
    assert [at(action.due_at) for action in run.actions] == [day(30, 1), day(80, 1)]
    assert len({action.action_id for action in run.actions}) == 2


def test_a_condition_that_holds_from_the_first_event_fires_at_it() -> None:
    run = Run(policy(None, {**CHURN, "when": {"frequency": ">= 1"}})).take(order(day(3), "a")).until(day(50))
    assert [at(action.due_at) for action in run.actions] == [day(3)]


def test_the_same_history_names_the_same_actions() -> None:
    def ids() -> list[str]:
        run = Run(policy(None, CHURN, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z"), order(day(9), "a"))
        return [action.action_id for action in run.until(day(400)).actions]

    assert ids() == ids()
    assert len(set(ids())) == 2


def test_an_action_names_the_tier_of_the_scheme_that_the_rule_names() -> None:
    schemes = {
        "loyalty": {"tiers": [{"name": "low"}, {"name": "high", "when": {"frequency": ">= 1"}}]},
        "spend": {"tiers": [{"name": "small"}, {"name": "big", "when": {"monetary": ">= 999"}}]},
    }
    other = {**CHURN, "name": "other", "scheme": "spend"}
    run = Run(policy(None, CHURN, other, schemes=schemes)).take(order(day(0), "a")).until(day(31))
    assert {action.rule: action.tier for action in run.actions} == {"churn-alert": "high", "other": "small"}


def test_time_alone_is_attended_to_between_birthday_and_condition() -> None:
    run = Run(policy(None, CHURN, BIRTHDAY)).take(profile("2026-01-01T00:00:00Z"), order(day(40), "a"))
    assert run.customer.due == at("2026-03-01T09:00:00Z")
    run.until(run.customer.due)
    assert run.customer.due == day(70, 1)  # `> 30` begins to hold a millisecond after day 70
    assert day(70) - day(40) == 30 * DAY_MS
