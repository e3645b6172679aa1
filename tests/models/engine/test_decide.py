"""The engine from instant to instant: what moves a customer, exactly when, and because of what."""

from typing import Any

import pytest

from models.customer.state import NEVER, Customer
from models.engine import decide as module
from models.errors import TidemarkError
from models.events import Erasure, Event, OrderCancelled, OrderRefunded, Profile, order_of
from models.identity import event_id
from models.instants import format_instant, parse_instant
from models.outputs import AtRisk, Decisions
from tests.models.build import Run, cancel, contact, day, engine, order, policy, refund, tiers

ONE = tiers({"frequency": ">= 1"}, grace="10d")
TWO = tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}, grace="10d")


def test_the_first_event_enters_every_scheme() -> None:
    run = Run(policy(schemes={"a": ONE, "b": tiers({"monetary": ">= 999"})})).take(order(day(0), "o1"))
    assert [(c.scheme, c.from_tier, c.to_tier, c.direction, c.sequence, c.cause) for c in run.changes] == [
        ("a", None, "t1", "enter", 1, "order"),
        ("b", None, "t0", "enter", 1, "order"),
    ]


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (order(day(0), "o"), "order"),
        (refund(day(0), "r", "o", 5), "refund"),
        (cancel(day(0), "o"), "refund"),
        (contact(day(0), "i", "visit"), "interaction"),
        (contact(day(0), "i", "sings"), "interaction"),
        (Profile(day(0), updated_at=day(0)), "profile"),
    ],
)
def test_every_event_can_be_the_first(event: Event, cause: str) -> None:
    run = Run(policy(ONE)).take(event)
    assert [(change.direction, change.cause) for change in run.changes] == [("enter", cause)]
    assert run.customer.first_at == day(0)


def test_up_at_once() -> None:
    run = Run(policy(TWO)).take(order(day(0), "a"), order(day(1), "b"))
    assert run.moves[-1] == ("t1", "t2", day(1), "order")


def test_down_at_exactly_the_end_of_the_grace_after_the_window() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a")).until(day(110, -1))
    assert len(run.moves) == 1
    assert run.customer.standings["loyalty"].below_since == day(100)
    assert run.until(day(110)).moves[-1] == ("t1", "t0", day(110), "time")


def test_a_fall_is_dated_at_its_instant_however_late_it_is_noticed() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a"), order(day(400), "b"))
    assert run.moves[1:] == [("t1", "t0", day(110), "time"), ("t0", "t1", day(400), "order")]


def test_a_customer_who_qualifies_again_in_the_grace_is_no_longer_below() -> None:
    run = Run(policy(tiers({"frequency": ">= 2"}, grace="20d", window="10d")))
    run.take(order(day(0), "a"), order(day(1), "b")).until(day(10.5))
    assert run.customer.standings["loyalty"].below_since == day(10)
    run.take(order(day(10.6), "c"))
    assert run.customer.standings["loyalty"].below_since is None


def test_coming_back_within_the_grace_keeps_the_tier() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a"), order(day(110, -1), "b")).until(day(200))
    assert [move[1] for move in run.moves] == ["t1"]
    assert run.customer.standings["loyalty"].below_since is None


def test_an_event_at_the_end_of_the_grace_itself_comes_first() -> None:
    # Due instants before t are evaluated, then t with its event: the order of day 110 saves the tier.
    run = Run(policy(ONE)).take(order(day(0), "a"), order(day(110), "b"))
    assert len(run.moves) == 1


def test_recency_up_to_90_days_is_last_true_at_90_days() -> None:
    run = Run(policy(tiers({"recency_days": "<= 90"}))).take(order(day(0), "a"))
    assert run.customer.due in (day(90), day(90, 1))
    assert run.until(day(90)).moves == [(None, "t1", day(0), "order")]
    assert run.until(day(90, 1)).moves[-1] == ("t1", "t0", day(90, 1), "time")


def test_recency_below_90_days_is_false_at_90_days_itself() -> None:
    run = Run(policy(tiers({"recency_days": "< 90"}))).take(order(day(0), "a"))
    assert run.until(day(90, -1)).moves == [(None, "t1", day(0), "order")]
    assert run.until(day(90)).moves[-1] == ("t1", "t0", day(90), "time")


def test_tenure_lifts_by_time_alone() -> None:
    run = Run(policy(tiers({"tenure_days": ">= 30"}))).take(contact(day(0), "i"))
    assert run.until(day(400)).moves[-1] == ("t0", "t1", day(30), "time")


def test_tenure_counts_from_the_registration_where_it_is_known() -> None:
    run = Run(policy(tiers({"tenure_days": ">= 30"}))).take(order(day(0), "a"))
    run.take(Profile(day(1), registered_at=day(-20), updated_at=day(1))).until(day(400))
    assert run.moves[-1] == ("t0", "t1", day(10), "time")


@pytest.mark.parametrize(
    "undo", [cancel(day(5), "a"), refund(day(5), "r", "a", 1_000), refund(day(5), "r", "a", 9_999)]
)
def test_a_void_order_no_longer_counts_from_the_instant_of_its_undoing(undo: Event) -> None:
    run = Run(policy(tiers({"frequency": ">= 1"}))).take(order(day(0), "a"), undo)
    assert run.moves == [(None, "t1", day(0), "order"), ("t1", "t0", day(5), "refund")]


def test_a_partial_refund_counts_at_the_orders_time() -> None:
    run = Run(policy(tiers({"monetary": ">= 5"}))).take(order(day(0), "a"), refund(day(99), "r", "a", 400))
    assert run.until(day(200)).moves[-1] == ("t1", "t0", day(100), "time")


def test_step_one_falls_tier_by_tier() -> None:
    scheme = tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}, {"frequency": ">= 3"}, grace="10d", step="one")
    run = Run(policy(scheme)).take(*(order(day(0), name) for name in "abc")).until(day(999))
    assert [move[1:3] for move in run.moves[3:]] == [("t2", day(110)), ("t1", day(120)), ("t0", day(130))]


def test_without_grace_step_one_emits_every_tier_on_the_way_down() -> None:
    scheme = tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}, step="one")
    run = Run(policy(scheme)).take(order(day(0), "a"), order(day(0), "b")).until(day(999))
    assert [move[:3] for move in run.moves[2:]] == [("t2", "t1", day(100)), ("t1", "t0", day(100))]
    assert [change.sequence for change in run.changes] == [1, 2, 3, 4]
    assert len({change.event_id for change in run.changes}) == 4


# --- late events and duplicates ---------------------------------------------------------------------


def test_a_late_event_corrects_the_ledger_and_is_judged_at_the_cursor() -> None:
    run = Run(policy(TWO)).take(order(day(20), "a"), order(day(3), "b"))
    assert run.moves[-1] == ("t1", "t2", day(20), "late")
    assert run.customer.counters.late == run.decisions.counts["late"] == 1
    assert run.decisions.lateness_ms == [day(17) - day(0)]
    assert list(run.customer.ledger.times) == [day(3), day(20)]


def test_an_event_at_the_cursor_itself_is_not_late() -> None:
    run = Run(policy(TWO)).take(order(day(20), "a"), order(day(20), "b"))
    assert run.moves[-1] == ("t1", "t2", day(20), "order")
    assert run.customer.counters.late == 0


def test_a_late_order_saves_a_tier_that_time_was_about_to_take() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a")).until(day(105))
    run.take(order(day(60), "b")).until(day(169))
    assert [move[1] for move in run.moves] == ["t1"]
    assert run.until(day(170)).moves[-1][1:3] == ("t0", day(170))


def test_a_late_order_lifts_again_who_has_fallen_already() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a")).until(day(120)).take(order(day(60), "b"))
    assert run.moves[1:] == [("t1", "t0", day(110), "time"), ("t0", "t1", day(110), "late")]


def test_a_late_first_event_moves_the_start_of_the_tenure() -> None:
    run = Run(policy(tiers({"tenure_days": ">= 30"}))).take(order(day(20), "a"), order(day(0), "b"))
    assert run.customer.first_at == day(0)
    assert run.until(day(99)).moves[-1][1:3] == ("t1", day(30))


def test_an_outdated_profile_moves_the_start_of_the_tenure_as_it_would_have_in_time() -> None:
    newer, older = Profile(day(20), updated_at=day(20)), Profile(day(0), updated_at=day(0))
    scheme = tiers({"tenure_days": ">= 30"})
    in_time = Run(policy(scheme)).take(older, newer).until(day(99))
    outdated = Run(policy(scheme)).take(newer, older).until(day(99))
    assert outdated.customer.profile == newer
    assert outdated.customer.counters.expired == 1
    assert outdated.customer.first_at == in_time.customer.first_at == day(0)
    assert outdated.moves[-1] == in_time.moves[-1] == ("t0", "t1", day(30), "time")


@pytest.mark.parametrize(
    "event",
    [
        order(day(0), "a", 500, 5),
        refund(day(1), "r", "a", 100),
        cancel(day(2), "b"),
        contact(day(3), "i", "survey", 9_000),
        contact(day(3), "j", "visit"),
        contact(day(3), "u", "unsubscribe"),
        Profile(day(4), "--02-29", updated_at=day(4)),
    ],
)
def test_a_duplicate_decides_nothing_and_changes_nothing(event: Event) -> None:
    run = Run(policy(ONE, weights={"survey": "1"}))
    run.take(order(day(0), "a", 500, 5), refund(day(1), "r", "a", 100), cancel(day(2), "b"))
    run.take(contact(day(3), "i", "survey", 9_000), contact(day(3), "j", "visit"), contact(day(3), "u", "unsubscribe"))
    run.take(Profile(day(4), "--02-29", updated_at=day(4))).until(day(5))
    before, decided = state(run.customer), len(run.changes)
    run.take(event)
    assert state(run.customer) == before
    assert len(run.changes) == decided


def state(customer: Customer) -> bytes:
    """Return a customer's row without the counters."""
    copy = Customer.from_row(customer.customer_id, customer.to_row())
    copy.counters = Customer("").counters
    return copy.to_row()


def test_duplicates_and_conflicts_are_counted_apart() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a", 500), order(day(0), "a", 500), order(day(9), "a", 900))
    counters = run.customer.counters
    assert (counters.events, counters.duplicates, counters.conflicts) == (3, 1, 1)
    assert run.decisions.counts == {"duplicate": 1, "conflict": 1}
    assert run.customer.cursor == day(0)


def test_unknown_kinds_are_counted_and_weigh_what_the_policy_says() -> None:
    run = Run(policy(tiers({"engagement": ">= 2"}), weights={"sings": "2"}))
    run.take(contact(day(0), "i", "dances"), contact(day(1), "j", "sings"))
    assert run.customer.counters.unknown_kinds == run.decisions.counts["unknown_kind"] == 1
    assert run.moves[-1] == ("t0", "t1", day(1), "interaction")


# --- profiles ---------------------------------------------------------------------------------------


def test_a_profile_without_any_time_holds_as_of_the_cursor() -> None:
    birthday = {"name": "b", "kind": "b", "trigger": "birthday", "consent": "not_needed"}
    run = Run(policy(ONE, birthday)).take(order(day(0), "a"), Profile(None, "--01-03"))
    assert run.customer.cursor == day(0)
    assert [action.due_at for action in run.until(day(5)).actions] == ["2026-01-03T09:00:00Z"]


def test_a_profile_without_any_time_before_the_first_event_waits_for_it() -> None:
    run = Run(policy(ONE)).take(Profile(None, "--01-03"))
    assert (run.changes, run.customer.cursor, run.customer.first_at) == ([], None, None)
    assert run.take(order(day(0), "a")).moves == [(None, "t1", day(0), "order")]


def test_the_latest_profile_wins_whatever_arrives_last() -> None:
    run = Run(policy(ONE)).take(Profile(day(5), locale="new", updated_at=day(5)))
    run.take(Profile(day(3), locale="old", updated_at=day(3)))
    assert run.customer.profile is not None
    assert run.customer.profile.locale == "new"
    assert run.customer.counters.expired == 1


def test_without_update_times_the_last_to_arrive_wins() -> None:
    run = Run(policy(ONE)).take(Profile(day(5), locale="a", updated_at=day(5)), Profile(None, locale="b"))
    assert run.customer.profile is not None
    assert run.customer.profile.locale == "b"


def test_a_profile_that_has_only_a_registration_time_is_not_late() -> None:
    run = Run(policy(ONE)).take(order(day(20), "a"), Profile(day(-5), registered_at=day(-5)))
    assert (run.customer.counters.late, run.customer.cursor, run.customer.first_at) == (0, day(20), day(-5))


def test_a_profile_that_registers_later_lets_everything_due_happen_first() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a"), Profile(day(200), registered_at=day(200)))
    assert run.moves[1:] == [("t1", "t0", day(110), "time")]


def test_an_erasure_is_not_for_the_engine() -> None:
    with pytest.raises(TidemarkError, match="erasure"):
        engine(policy(ONE)).ingest(Customer("c1"), Erasure(), Decisions())


# --- settled and eager ------------------------------------------------------------------------------


def test_settled_decides_nothing_until_time_has_passed() -> None:
    run = Run(policy(ONE), settled=True).take(order(day(5), "a"))
    assert (run.changes, run.customer.next_instant) == ([], day(5))
    assert run.until(day(5, -1)).changes == []
    assert run.until(day(5)).moves == [(None, "t1", day(5), "order")]


def test_settled_decides_in_the_order_of_event_time_where_eager_follows_arrival() -> None:
    scheme = tiers({"frequency": "== 1"}, {"frequency": "== 2"})
    arrivals = [order(day(2), "b"), order(day(1), "a")]
    eager = Run(policy(scheme)).take(*arrivals).until(day(9))
    settled = Run(policy(scheme), settled=True).take(*arrivals).until(day(9))
    assert eager.moves == [(None, "t1", day(2), "order"), ("t1", "t2", day(2), "late")]
    assert settled.moves == [(None, "t1", day(1), "order"), ("t1", "t2", day(2), "order")]


def test_settled_takes_profiles_before_orders_before_interactions_of_one_instant() -> None:
    run = Run(policy(ONE), settled=True)
    first, second = order(day(1), "b"), order(day(1), "a")
    profile, visit = Profile(day(1), updated_at=day(1)), contact(day(1), "i")
    run.take(visit, first, second, profile)
    assert run.customer.pending == [profile, *sorted([first, second], key=order_of), visit]


def test_settled_treats_what_is_older_than_the_cursor_as_late() -> None:
    run = Run(policy(TWO), settled=True).take(order(day(20), "a")).until(day(20)).take(order(day(3), "b"))
    assert run.moves[-1] == ("t1", "t2", day(20), "late")


def test_beyond_the_cap_of_waiting_events_the_oldest_is_settled_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    run = Run(policy(TWO), settled=True).take(*(order(day(number), str(number)) for number in (3, 1, 2)))
    assert run.moves == [(None, "t1", day(1), "order")]
    assert [event.at for event in run.customer.pending] == [day(2), day(3)]
    assert run.decisions.counts["settled_early"] == 1


# --- the rest ---------------------------------------------------------------------------------------


def test_decided_at_is_now_where_now_is_given() -> None:
    run = Run(policy(ONE))
    run.engine.ingest(run.customer, order(day(0), "a"), run.decisions, now=day(3))
    assert (run.changes[0].effective_at, run.changes[0].decided_at) == (format_instant(day(0)), format_instant(day(3)))
    run.engine.advance(run.customer, day(200), run.decisions)
    assert run.changes[1].decided_at == run.changes[1].effective_at


def test_where_time_changes_nothing_nothing_is_due() -> None:
    assert Run(policy(tiers({"frequency": ">= 9"}))).take(contact(day(0), "i")).customer.due == NEVER


def test_nothing_falls_due_beyond_the_calendar() -> None:
    scheme = tiers({"recency_days": "<= 999999999999"})
    run = Run(policy(scheme)).take(order(day(0), "a"))
    assert run.customer.due == NEVER
    assert run.changes[0].at_risk is None


def test_interactions_are_forgotten_when_no_window_reaches_them() -> None:
    scheme = tiers({"engagement": ">= 1"}, window="30d")
    care = {"name": "c", "kind": "c", "trigger": "condition", "when": {"referrals": ">= 1"}}
    run = Run(policy(scheme, care, weights={"visit": "1"}, window="50d")).take(
        contact(day(0), "i"), contact(day(50, -1), "j")
    )
    assert len(run.customer.interactions.times) == 2
    assert list(run.take(contact(day(50), "k")).customer.interactions.times) == [day(50, -1), day(50)]


def test_interactions_are_kept_for_the_longest_window_of_any_scheme() -> None:
    scheme = tiers({"engagement": ">= 2"}, window="200d")
    run = Run(policy(scheme, weights={"visit": "1"})).take(contact(day(0), "i"), contact(day(150), "j"))
    assert run.moves[-1][1:3] == ("t1", day(150))


def test_ids_of_changes_are_pinned() -> None:
    # Consumers recognise duplicates by them, across releases: customer, scheme, sequence, tiers, instant, version.
    run = Run(policy(ONE)).take(order(day(0), "a")).until(day(200))
    assert [change.event_id for change in run.changes] == [
        "5070855143edcae9f2fa26d3159a8832",
        "34f7e76cba379f4fb13751cfab145f08",
    ]
    assert run.changes[1].event_id == event_id("c1", "loyalty", 2, "t1", "t0", day(110), "test-1")


def test_tiers_show_what_is_held_and_measured_as_of_the_cursor() -> None:
    run = Run(policy(TWO)).take(order(day(0), "a", 12_345), order(day(5), "b", 55))
    shown = run.engine.tiers(run.customer)
    assert shown is not None
    assert (shown.customer_id, shown.as_of, shown.policy_version) == ("c1", "2026-01-06T00:00:00Z", "test-1")
    held = shown.tiers["loyalty"]
    assert (held.tier, held.since, held.sequence) == ("t2", "2026-01-06T00:00:00Z", 2)
    assert shown.metrics == {"recency_days": 0.0, "frequency": 2, "monetary": "124.00"}
    later = run.engine.tiers(run.customer, day(100))
    assert later is not None
    assert later.metrics == {"recency_days": 95.0, "frequency": 1, "monetary": "0.55"}


def test_there_are_no_tiers_before_any_evaluation() -> None:
    assert engine(policy(ONE)).tiers(Customer("c1")) is None


def test_a_tier_that_a_new_policy_no_longer_has_is_left_for_the_qualified_one() -> None:
    run = Run(policy(ONE)).take(order(day(0), "a")).until(day(105))  # below since day 100
    renamed = {
        "window": "200d",
        "tiers": [{"name": "low"}, {"name": "high", "when": {"frequency": ">= 1"}}],
        "demotion": {"grace": "10d"},
    }
    run.engine = engine(policy(renamed))
    run.take(order(day(106), "b"))

    assert run.moves[-1] == ("t1", "high", day(100), "policy")
    assert (run.changes[-1].direction, run.changes[-1].sequence) == ("enter", 2)
    # The new tier restarts the stay below: nobody falls for what happened under the old tier.
    run.take(cancel(day(111), "a"), cancel(day(111), "b")).until(day(121, -1))
    assert run.moves[-1][1] == "high"
    assert run.until(day(121)).moves[-1][:3] == ("high", "low", day(121))


# --- what holds a fall back -----------------------------------------------------------------------------


def test_a_minimum_stay_outlasts_the_grace() -> None:
    scheme = {**tiers({"frequency": ">= 1"}), "demotion": {"grace": "10d", "min_stay": "150d"}}
    run = Run(policy(scheme)).take(order(day(0), "a"))
    assert run.changes[0].at_risk == AtRisk("t0", format_instant(day(150)))
    assert run.until(day(150, -1)).moves[1:] == []
    assert run.until(day(150)).moves[1:] == [("t1", "t0", day(150), "time")]


def test_a_kept_year_ends_at_new_year_in_the_policys_zone() -> None:
    scheme = {**tiers({"frequency": ">= 1"}), "demotion": {"keep": "calendar_year"}}
    run = Run(policy(scheme, timezone="Asia/Shanghai")).take(order(day(0), "a"))
    end = parse_instant("2028-01-01T00:00:00+08:00")
    assert run.changes[0].at_risk == AtRisk("t0", format_instant(end))
    assert run.until(end - 1).moves[1:] == []
    assert run.until(end).moves[1:] == [("t1", "t0", end, "time")]


def test_an_anniversary_year_counts_from_the_registration() -> None:
    scheme = {**tiers({"frequency": ">= 1"}), "demotion": {"keep": "anniversary"}}
    registered = parse_instant("2020-05-05T12:00:00Z")
    run = Run(policy(scheme)).take(Profile(day(-1), registered_at=registered, updated_at=day(-1)), order(day(0), "a"))
    # Last qualified for on day 100, 11 April 2026: in the year that began on 5 May 2025.
    assert run.until(day(9_999)).moves[-1][2:] == (parse_instant("2027-05-05T00:00:00Z"), "time")


KEPT: dict[str, Any] = {"grace": "5d", "min_stay": "30d", "keep": "calendar_year", "step": "one"}


def _taking_back(**demotion: Any) -> dict[str, Any]:
    scheme = tiers({"monetary": ">= 300"}, {"monetary": ">= 800"})
    return scheme | {"demotion": KEPT | {"clawback": True} | demotion}


@pytest.mark.parametrize("taken", [refund(day(1), "r", "b", 90_000), cancel(day(1), "b")])
def test_a_refund_or_cancellation_takes_back_at_once_what_the_order_earned(
    taken: OrderRefunded | OrderCancelled,
) -> None:
    bought = order(day(0), "a", 40_000), order(day(0, 1), "b", 90_000)
    run = Run(policy(_taking_back())).take(*bought, taken).until(day(3))
    assert run.moves[-1] == ("t2", "t1", day(1), "refund")  # it still has the first order's tier
    kept = Run(policy(_taking_back(clawback=False))).take(*bought, taken).until(day(3))
    assert [move[1] for move in kept.moves] == ["t1", "t2"]


def test_what_is_taken_back_falls_past_several_tiers_whatever_the_step() -> None:
    run = Run(policy(_taking_back())).take(order(day(0), "a", 90_000), cancel(day(0, 5), "a")).until(day(3))
    assert run.moves[-1] == ("t2", "t0", day(0, 5), "refund")


def test_a_refund_does_not_take_what_was_lost_to_time_and_is_kept() -> None:
    events = order(day(0), "a", 90_000), order(day(50), "b", 1_000), refund(day(120), "r", "b", 1_000)
    run = Run(policy(_taking_back())).take(*events).until(day(130))
    assert [move[1] for move in run.moves] == ["t2"]  # below since day 100; kept to the end of the next year
    assert run.customer.standings["loyalty"].below_since == day(100)


def test_a_refund_that_leaves_enough_takes_nothing() -> None:
    run = Run(policy(_taking_back())).take(order(day(0), "a", 90_000), refund(day(1), "r", "a", 5_000)).until(day(3))
    assert [move[1] for move in run.moves] == ["t2"]


def test_a_late_refund_takes_back_at_the_instant_that_is_reached() -> None:
    events = order(day(0), "a", 90_000), order(day(2), "b", 1_000), refund(day(1), "r", "a", 90_000)
    run = Run(policy(_taking_back())).take(*events).until(day(3))
    assert run.moves[-1] == ("t2", "t0", day(2), "late")
