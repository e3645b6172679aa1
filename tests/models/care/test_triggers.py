"""Every kind of trigger: a history and the exact instants at which it fires."""

from typing import Any

import pytest

from models.events import Campaign, Event
from models.instants import DAY_MS, format_instant
from tests.models.build import Run, cancel, contact, day, order, refund
from tests.models.care.build import at, care_policy, dues, profile, rule, run, sent


def fired(run: Run) -> list[tuple[str, float]]:
    """Return (template, day since T0) of every action."""
    return [(action.template, (at(action.due_at) - day(0)) / DAY_MS) for action in run.actions]


#: Ten in the morning, as a part of a day.
TEN = 10 / 24

CASES: dict[str, tuple[dict[str, Any], list[Event], float, list[tuple[str, float]]]] = {
    "a tier reached is congratulated on, with its name": (
        rule("tier_up", template="{tier}-benefits"),
        [order(day(1), "a", 10_000), order(day(2), "b", 20_000)],
        50,
        [("gold-benefits", 2)],
    ),
    "only the tiers that the rule names are congratulated on": (
        rule("tier_up", tiers=["gold"]),
        [order(day(1), "a", 1), order(day(2), "b", 10_000), order(day(3), "c", 20_000)],
        50,
        [("note", 3)],
    ),
    "a tier lost is a soft landing, by time too": (
        rule("tier_down"),
        [order(day(1), "a", 10_000)],
        200,
        [("note", 101)],
    ),
    "at risk, some days before the fall": (
        rule("at_risk", days_before=14),
        [order(day(1), "a", 10_000)],
        200,
        [("note", 87)],
    ),
    "an order in time takes the risk away, and it comes again": (
        rule("at_risk", days_before=14),
        [order(day(1), "a", 10_000), order(day(90), "b", 10_000)],
        300,
        [("note", 87), ("note", 176)],
    ),
    "who has nothing to lose is not at risk": (rule("at_risk", days_before=14), [order(day(1), "a", 1)], 200, []),
    "near the next tier, from the order on that brings them there": (
        rule("near_upgrade", within="10%", template="nearly-{next}"),
        [order(day(1), "a", 8_999), order(day(2), "b", 1)],
        50,
        [("nearly-silver", 2)],
    ),
    "who reached the tier is not near it, but may be near the one above": (
        rule("near_upgrade", within="10%", template="nearly-{next}"),
        [order(day(1), "a", 1), order(day(2), "b", 10_000), order(day(3), "c", 17_000)],
        50,
        [("nearly-gold", 3)],
    ),
    "near again only after having been farther away": (
        rule("near_upgrade", within="10%"),
        [
            order(day(1), "a", 9_500),
            order(day(2), "b", 100),
            refund(day(3), "r", "a", 5_000),
            order(day(4), "c", 5_000),
        ],
        50,
        [("note", 1), ("note", 4)],
    ),
    "welcome at the first order": (
        rule("welcome"),
        [contact(day(0), "i"), order(day(3), "a"), order(day(4), "b")],
        50,
        [("note", 3)],
    ),
    "welcome after the registration, if no order came": (
        rule("welcome", after="registration", wait="2d"),
        [profile("2026-01-02T00:00:00Z", registered_at=day(1))],
        50,
        [("note", 3)],
    ),
    "no such welcome if an order came in time": (
        rule("welcome", after="registration", wait="2d"),
        [profile("2026-01-02T00:00:00Z", registered_at=day(1)), order(day(2), "a")],
        50,
        [],
    ),
    "who has been a customer for long is not welcomed": (
        rule("welcome", after="registration", valid_for="7d"),
        [profile("2026-01-20T00:00:00Z", registered_at=day(1))],
        50,
        [],
    ),
    "churn at multiples of the customer's own rhythm, a level each": (
        rule("churn", levels={"watch": "2", "alert": "3", "lost": "6"}, template="churn-{level}"),
        [order(day(10 * number), str(number)) for number in range(4)],
        200,
        [("churn-watch", 50), ("churn-alert", 60), ("churn-lost", 90)],
    ),
    "churn of one with few orders goes by the prior": (
        rule("churn", levels={"alert": "2"}, prior={"rhythm": "20d"}),
        [order(day(1), "a")],
        200,
        [("note", 41)],
    ),
    "churn weighs the own rhythm and the prior": (
        # Gaps of 10 days, three of them; the prior of 20 days counts as much as two: (2 × 20 + 3 × 10) ÷ 5 = 14.
        rule("churn", levels={"alert": "2"}, prior={"rhythm": "20d", "weight": "2"}),
        [order(day(10 * number), str(number)) for number in range(4)],
        200,
        [("note", 58)],
    ),
    "nobody knows the rhythm of a single order without a prior": (
        rule("churn", levels={"alert": "2"}),
        [order(day(1), "a")],
        500,
        [],
    ),
    "dormant once, and again after an order": (
        rule("dormant", after="30d"),
        [order(day(1), "a"), order(day(50), "b")],
        200,
        [("note", 31), ("note", 80)],
    ),
    "an order taken back brings no second message for the silence before it": (
        rule("dormant", after="30d"),
        [order(day(1), "a"), order(day(40), "b"), cancel(day(41), "b")],
        200,
        [("note", 31)],
    ),
    "winning back takes several attempts": (
        rule("win_back", after="60d", every="30d", times=3),
        [order(day(1), "a")],
        400,
        [("note", 61), ("note", 91), ("note", 121)],
    ),
    "an order ends the attempts": (
        rule("win_back", after="60d", every="30d", times=3),
        [order(day(1), "a"), order(day(92), "b")],
        160,
        [("note", 61), ("note", 91), ("note", 152)],
    ),
    "no contact, whether by interaction or order": (
        rule("no_contact", after="30d"),
        [
            contact(day(1), "i", "visit"),
            order(day(10), "a"),
            contact(day(20), "j", "call"),
            contact(day(25), "k", "click"),
        ],
        100,
        [("note", 50)],
    ),
    "call-backs come again until somebody calls, and from the tier on": (
        rule("call_back", every="30d", tiers=["gold"]),
        [order(day(1), "a", 1), order(day(10), "b", 40_000), contact(day(60), "i", "call")],
        105,
        [("note", 40), ("note", 90)],
    ),
    "a complaint opens a ticket each": (
        rule("interaction", interaction="complaint", audience="staff", channel="crm"),
        [contact(day(1), "i", "complaint"), contact(day(1), "j", "visit"), contact(day(2), "k", "complaint")],
        50,
        [("note", 1), ("note", 2)],
    ),
    "a low score opens a ticket, a high one does not": (
        rule("interaction", interaction="survey", at_most="6"),
        [contact(day(1), "i", "survey", 6_000), contact(day(2), "j", "survey", 6_001)],
        50,
        [("note", 1)],
    ),
    "a referral is thanked for, however often": (
        rule("interaction", interaction="referral"),
        [contact(day(1), "i", "referral"), contact(day(2), "j", "referral"), contact(day(2), "j", "referral")],
        50,
        [("note", 1), ("note", 2)],
    ),
    "weekends, for a tier": (
        rule("calendar", weekdays=["sat"], at="10:00", tiers=["silver"]),
        [order(at("2026-01-05T00:00:00Z"), "a", 10_000)],
        20,
        [
            ("note", 9 + TEN),
            ("note", 16 + TEN),
        ],
    ),
    "the beginning of the month": (
        rule("calendar", month_days=[1], at="10:00"),
        [order(at("2026-01-05T00:00:00Z"), "a")],
        60,
        [
            ("note", 31 + TEN),
            ("note", 59 + TEN),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_trigger_fires_when_it_should_and_only_then(case: str) -> None:
    care, events, until, expected = CASES[case]
    found = run(care).take(*events).until(day(until))
    assert fired(found) == expected
    assert len({action.action_id for action in found.actions}) == len(expected)


@pytest.mark.parametrize("case", CASES)
def test_settled_in_many_small_steps_fires_the_same(case: str) -> None:
    care, events, until, _ = CASES[case]
    eager = run(care).take(*events).until(day(until))
    settled = Run(*eager.engine.timeline.versions, settled=True)
    settled.take(*sorted(events, key=lambda event: -(event.at or 0)))
    for step in range(round(until * 4) + 1):
        settled.until(day(step / 4))
    assert settled.actions == eager.actions


# --- days ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leap_day", "registered", "expected"),
    [
        ("02-28", "2024-02-29T12:00:00Z", ["2025-02-28T09:00:00Z", "2026-02-28T09:00:00Z"]),
        ("03-01", "2024-02-29T12:00:00Z", ["2025-03-01T09:00:00Z", "2026-03-01T09:00:00Z"]),
        ("02-28", "2024-05-06T23:30:00Z", ["2025-05-06T09:00:00Z", "2026-05-06T09:00:00Z"]),
    ],
)
def test_anniversaries_of_the_registration_but_not_the_day_itself(
    leap_day: str, registered: str, expected: list[str]
) -> None:
    known = profile("2024-01-01T00:00:00Z", registered_at=at(registered))
    assert dues(run(rule("anniversary", leap_day=leap_day)).take(known).until(at("2026-12-01T00:00:00Z"))) == expected


def test_the_day_of_the_registration_is_that_of_the_customers_zone() -> None:
    known = profile("2024-01-01T00:00:00Z", registered_at=at("2024-05-06T23:30:00Z"), timezone="Asia/Shanghai")
    assert dues(run(rule("anniversary")).take(known).until(at("2025-12-01T00:00:00Z"))) == ["2025-05-07T01:00:00Z"]


@pytest.mark.parametrize(
    ("calendar", "name", "expected"),
    [
        # The first day of the Spring Festival, in the customer's zone, a week before.
        ("CN", "Spring Festival", ["2026-02-10T01:00:00Z", "2027-01-30T01:00:00Z"]),
        ("US", "Thanksgiving", ["2026-11-19T01:00:00Z", "2027-11-18T01:00:00Z"]),
        ("US-MA", "Patriots' Day", ["2026-04-13T01:00:00Z", "2027-04-12T01:00:00Z"]),
        ("DE", "Christmas Day", ["2026-12-18T01:00:00Z", "2027-12-18T01:00:00Z"]),
    ],
)
def test_holidays_by_the_calendars_of_countries(calendar: str, name: str, expected: list[str]) -> None:
    care = rule("holiday", calendar=calendar, holidays=[name], days_before=7)
    known = profile("2026-01-01T00:00:00Z", timezone="Asia/Shanghai")
    assert dues(run(care).take(known).until(at("2027-12-31T00:00:00Z"))) == expected


def test_the_calendar_may_depend_on_an_attribute() -> None:
    by = {"attribute": "region", "values": {"East": "CN", "West": "US"}, "default": "GB"}
    care = rule("holiday", calendar=by, holidays=["Spring Festival", "Veterans Day", "Boxing Day"])

    def of(**attributes: str) -> list[str]:
        found = run(care).take(profile("2026-01-01T00:00:00Z", attributes=attributes))
        return dues(found.until(at("2026-12-31T00:00:00Z")))

    assert of(region="East") == ["2026-02-17T09:00:00Z"]
    assert of(region="West") == ["2026-11-11T09:00:00Z"]
    assert of(region="North") == of() == ["2026-12-26T09:00:00Z"]


@pytest.mark.parametrize(
    ("birthday", "leap_month", "expected"),
    [
        ("lunar:01-01", "regular", ["2023-01-22", "2024-02-10", "2025-01-29"]),
        ("lunar:08-15", "regular", ["2023-09-29", "2024-09-17", "2025-10-06"]),
        # The second month is doubled in 2023, the sixth in 2025.
        ("lunar:02-10", "regular", ["2023-03-01", "2024-03-19", "2025-03-09"]),
        ("lunar:02-10", "leap", ["2023-03-31", "2024-03-19", "2025-03-09"]),
        ("lunar:06-15", "leap", ["2023-08-01", "2024-07-20", "2025-08-08"]),
        # A leap month of 29 days has no 30th: its last day.
        ("lunar:02-30", "leap", ["2023-04-19", "2024-04-08", "2025-03-28"]),
        # The twelfth month lies in the next year of the other calendar.
        ("lunar:12-08", "regular", ["2024-01-18", "2025-01-07"]),
    ],
)
def test_lunar_birthdays(birthday: str, leap_month: str, expected: list[str]) -> None:
    found = run(rule("birthday", at="00:00", leap_month=leap_month)).take(profile("2023-01-10T00:00:00Z", birthday))
    assert [due[:10] for due in dues(found.until(at("2025-12-31T00:00:00Z")))] == expected


def test_a_lunar_birthday_is_offered_once_a_lunar_year_whatever_the_zone() -> None:
    first = profile("2026-01-01T00:00:00Z", "lunar:01-01", timezone="Pacific/Kiritimati")
    found = run(rule("birthday")).take(first).until(at("2026-02-17T00:00:00Z"))
    found.take(profile("2026-02-17T01:00:00Z", "lunar:01-01", timezone="Pacific/Honolulu"))
    assert dues(found.until(at("2026-12-31T00:00:00Z"))) == ["2026-02-16T19:00:00Z"]


@pytest.mark.parametrize(
    ("before", "after"),
    [("lunar:12-08", "--03-01"), ("--12-30", "--01-03"), ("--03-01", "lunar:01-20"), ("lunar:01-01", "--04-01")],
)
def test_a_corrected_birthday_brings_no_second_offer_for_half_a_year(before: str, after: str) -> None:
    found = run(rule("birthday")).take(profile("2025-12-01T00:00:00Z", before))
    while not found.actions:
        found.until(found.customer.due)
    offered = at(found.actions[0].due_at)
    found.take(profile(format_instant(offered + DAY_MS), after)).until(offered + 700 * DAY_MS)
    gaps = [later - earlier for earlier, later in zip(map(at, dues(found)), map(at, dues(found)[1:]), strict=False)]
    assert gaps
    assert min(gaps) >= 180 * DAY_MS


# --- campaigns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiers", "attributes", "subject", "reached"),
    [
        ((), {}, "launch", True),
        ((), {}, "sale", False),
        (("silver", "gold"), {}, "launch", True),
        (("gold",), {}, "launch", False),
        ((), {"region": ("East", "West")}, "launch", True),
        ((), {"region": ("North",)}, "launch", False),
        ((), {"likes": ("tea",)}, "launch", True),
        ((), {"region": ("East",), "likes": ("coal",)}, "launch", False),
        ((), {"unknown": ("x",)}, "launch", False),
    ],
)
def test_a_campaign_reaches_those_whom_it_addresses(
    tiers: tuple[str, ...], attributes: dict[str, tuple[str, ...]], subject: str, reached: bool
) -> None:
    found = run(rule("campaign", subjects=["launch"], template="{subject}-{campaign}"))
    found.take(profile("2026-01-01T00:00:00Z", attributes={"region": "East", "likes": ["tea", "milk"]}))
    found.take(order(day(1), "a", 10_000)).until(day(2))
    campaign = Campaign(day(2), "spring", subject, tiers, attributes)
    assert found.engine.is_addressed(found.customer, campaign) is reached
    if reached:
        found.engine.announce(found.customer, campaign, found.decisions)
        assert [(a.template, a.due_at) for a in found.actions] == [("launch-spring", "2026-01-03T00:00:00Z")]


def test_a_campaign_before_the_cursor_applies_at_the_cursor() -> None:
    found = run(rule("campaign", subjects=["launch"])).take(order(day(5), "a"))
    found.engine.announce(found.customer, Campaign(day(2), "spring", "launch"), found.decisions)
    assert sent(found) == [("campaign", "2026-01-06T00:00:00Z")]


def test_a_rule_that_is_new_passes_over_what_is_long_past() -> None:
    silent = (rule("dormant", after="30d"), rule("churn", levels={"alert": "2"}))
    again = rule("win_back", after="60d", every="200d", times=3)
    late = care_policy(*silent, again, version="test-2", effective_from=format_instant(day(300)))
    found = Run(care_policy(), late).take(*(order(day(10 * number), str(number)) for number in range(4)))
    assert fired(found.until(day(400))) == []
    assert fired(found.until(day(500))) == [("note", 30 + 60 + 2 * 200)]


def test_what_is_read_again_when_it_is_remembered_no_longer_opens_no_second_ticket() -> None:
    complaint = contact(day(1), "i", "complaint")
    found = run(rule("interaction", interaction="complaint")).take(complaint).until(day(1 + 99))
    assert fired(found.take(complaint)) == [("note", 1)], "known: the window of 100 days reaches it"
    assert fired(found.take(order(day(200), "o"), complaint)) == [("note", 1)], "forgotten, so it may be a repetition"
