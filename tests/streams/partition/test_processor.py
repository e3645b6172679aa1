import json
from collections import Counter
from typing import Any

import pytest

from models.errors import Reason
from models.events import Consent, Topic
from models.instants import DAY_MS, MIN_INSTANT, parse_instant
from models.policy.timeline import Timeline
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES
from streams.metrics.collectors import Metrics
from streams.partition.state import Partition
from streams.partition.step import Timing
from streams.partition.time_steps import DUE_PER_STEP
from tests.support.driver import NOW, Driver, order, profile, touch, values, version

SETTLED = Timing(settled=True, lateness=DAY_MS, wall_decides=False)


# --- records to outputs -------------------------------------------------------------------------------------


def test_a_batch_opens_each_customer_once_and_ends_with_the_progress() -> None:
    driver = Driver()
    effects = driver.feed(
        Topic.ORDERS,
        order("ann", 1, "2026-05-01T10:00:00Z", "200.00"),
        order("bob", 2, "2026-05-01T11:00:00Z"),
        order("ann", 3, "2026-05-02T10:00:00Z"),
        order("ann", 4, "2026-05-03T10:00:00Z"),
    )
    assert effects.events == 4
    assert [key for key, _ in effects.changelog] == [b"ann", b"bob", b"\x00progress/0"]
    assert all(row == driver.partition.rows[key] for key, row in effects.changelog)
    changes = values(effects, TIER_CHANGES)
    assert [(change["customer_id"], change["from"], change["to"]) for change in changes] == [
        ("ann", None, "regular"),
        ("ann", "regular", "silver"),
        ("bob", None, "regular"),
    ]
    assert [out.key for out in effects.outputs[TIER_CHANGES]] == [b"ann", b"ann", b"bob"]
    assert [
        (out.key, json.loads(out.value)["tiers"]["loyalty"]["tier"]) for out in effects.outputs[CUSTOMER_TIERS]
    ] == [
        (b"ann", "silver"),
        (b"bob", "regular"),
    ]


def test_state_carries_over_from_batch_to_batch() -> None:
    together, apart = Driver(), Driver()
    records = [order("ann", n, f"2026-05-{n:02}T10:00:00Z", "60.00") for n in range(1, 15)]
    one = values(together.feed(Topic.ORDERS, *records), TIER_CHANGES)
    many = [change for record in records for change in values(apart.feed(Topic.ORDERS, record), TIER_CHANGES)]
    assert one == many
    assert len(one) == 3
    assert together.partition.rows == apart.partition.rows


def test_decisions_are_dated_by_the_wall_or_by_what_they_decide_about() -> None:
    record = order("ann", 1, "2026-05-01T10:00:00Z")
    for wall_decides, decided_at in ((True, "2026-06-01T00:00:00Z"), (False, "2026-05-01T10:00:00Z")):
        (change,) = values(Driver(Timing(wall_decides=wall_decides)).feed(Topic.ORDERS, record), TIER_CHANGES)
        assert change["decided_at"] == decided_at
        assert change["effective_at"] == "2026-05-01T10:00:00Z"


def test_a_care_action_goes_out_under_the_key_of_its_customer() -> None:
    driver = Driver()
    ann = profile(
        "ann", birthday="1990-05-05", timezone="UTC", consent={"marketing": True}, updated_at="2026-05-01T00:00:00Z"
    )
    driver.feed(Topic.CUSTOMERS, ann)
    effects = driver.advance("2026-05-05T09:00:00Z")
    (action,) = values(effects, CARE_ACTIONS)
    assert (action["rule"], action["due_at"]) == ("birthday-offer", "2026-05-05T09:00:00Z")
    assert effects.outputs[CARE_ACTIONS][0].key == b"ann"
    assert values(driver.advance("2026-05-05T09:00:00Z"), CARE_ACTIONS) == []


# --- progress -----------------------------------------------------------------------------------------------


def test_what_was_applied_is_skipped() -> None:
    driver = Driver()
    records = [order("ann", n, f"2026-05-{n:02}T10:00:00Z") for n in range(1, 6)]
    driver.feed_at(Topic.ORDERS, 0, *records[:3])
    before = driver.customer("ann").counters
    effects = driver.feed_at(Topic.ORDERS, 0, *records)
    assert (effects.skipped, effects.events) == (3, 2)
    after = driver.customer("ann").counters
    assert (before.events, after.events, after.duplicates) == (3, 5, 0)
    again = driver.feed_at(Topic.ORDERS, 1, *records[1:3])
    assert (again.skipped, again.events, again.outputs) == (2, 0, {})
    assert driver.partition.next_offset(Topic.ORDERS) == 5


def test_progress_counts_each_topic_on_its_own_and_survives_recovery() -> None:
    driver = Driver(number=3)
    driver.feed_at(Topic.ORDERS, 7, order("ann", 1, "2026-05-01T10:00:00Z"))
    driver.feed_at(Topic.INTERACTIONS, 2, touch("ann", 1, "2026-05-02T10:00:00Z"))
    recovered = Partition(3, dict(driver.partition.rows))
    assert {topic: recovered.next_offset(topic) for topic in Topic} == {
        Topic.CUSTOMERS: 0,
        Topic.ORDERS: 8,
        Topic.INTERACTIONS: 3,
        Topic.CAMPAIGNS: 0,
    }
    assert recovered.progress.latest == {
        "orders": parse_instant("2026-05-01T10:00:00Z"),
        "interactions": parse_instant("2026-05-02T10:00:00Z"),
    }


def test_only_good_events_with_a_time_move_the_latest_event_time() -> None:
    driver = Driver()
    driver.feed(
        Topic.CUSTOMERS,
        profile("ann", registered_at="2020-01-01T00:00:00Z"),
        profile("bob", updated_at="2026-01-02T00:00:00Z", registered_at="2026-03-01T00:00:00Z"),
        profile("eve", updated_at="2026-05-02T00:00:00Z", consent="never"),
        (b"ann", None),
    )
    assert driver.partition.progress.latest == {"customers": parse_instant("2026-01-02T00:00:00Z")}
    driver.feed(Topic.ORDERS, (b"x", b"{"))
    assert "orders" not in driver.partition.progress.latest


def test_a_profile_with_an_odd_field_is_applied_and_a_copy_is_a_dead_letter() -> None:
    driver = Driver()
    withdrawal = profile("ann", updated_at="2026-01-02T00:00:00Z", birthday="never", consent={"marketing": False})
    effects = driver.feed(
        Topic.CUSTOMERS, profile("ann", updated_at="2026-01-01T00:00:00Z", consent={"marketing": True}), withdrawal
    )
    known = driver.customer("ann").profile
    assert known is not None
    assert known.consent == Consent(False)
    (copy,) = effects.outputs["dead-letters"]
    assert (copy.key, copy.value) == withdrawal
    assert dict(copy.headers)["reason"] == b"field_ignored"
    metrics = Metrics()
    metrics.observe("customers", effects)
    assert metrics.registry.get_sample_value("tidemark_dead_letters_total", {"reason": "field_ignored"}) == 1
    counted = [{"topic": "customers", "outcome": outcome} for outcome in ("applied", "dead_letter")]
    assert [metrics.registry.get_sample_value("tidemark_events_total", labels) for labels in counted] == [2, 0]


# --- dead letters -------------------------------------------------------------------------------------------


def test_a_dead_letter_has_the_bytes_untouched_and_their_coordinates() -> None:
    driver = Driver(number=2)
    good = order("ann", 1, "2026-05-01T10:00:00Z")
    effects = driver.feed_at(Topic.ORDERS, 40, good, (None, b"\xff{ \x00"), (b"k\xfe", None), good)
    assert effects.events == 2
    assert effects.reasons == Counter({Reason.NOT_JSON: 2})
    first, second = effects.outputs[DEAD_LETTERS]
    assert (first.key, first.value) == (None, b"\xff{ \x00")
    assert (second.key, second.value) == (b"k\xfe", None)
    headers = dict(second.headers)
    assert headers.pop("detail")
    assert headers == {
        "reason": b"not_json",
        "topic": b"prefix-orders",
        "partition": b"2",
        "offset": b"42",
        "timestamp": b"1042",
    }
    assert driver.partition.next_offset(Topic.ORDERS) == 44


def test_a_batch_of_nothing_but_bad_records_still_makes_progress() -> None:
    driver = Driver()
    effects = driver.feed(Topic.INTERACTIONS, *[(b"x", b"nope")] * 10)
    assert [key for key, _ in effects.changelog] == [b"\x00progress/0"]
    assert driver.partition.next_offset(Topic.INTERACTIONS) == 10
    assert driver.customers == set()


def test_what_is_too_far_ahead_is_measured_against_the_wall_clock() -> None:
    driver = Driver(Timing(ahead=DAY_MS))
    last, beyond = "2026-06-02T00:00:00Z", "2026-06-02T00:00:00.001Z"
    effects = driver.feed(Topic.ORDERS, order("ann", 1, last), order("ann", 2, beyond))
    assert (effects.events, effects.reasons) == (1, Counter({Reason.TOO_FAR_AHEAD: 1}))
    assert driver.feed_at(Topic.ORDERS, 2, order("ann", 2, beyond), now=NOW + 1).events == 1


def test_values_are_bounded() -> None:
    key, value = order("ann", 1, "2026-05-01T10:00:00Z")
    driver = Driver(max_bytes=len(value))
    effects = driver.feed(Topic.ORDERS, (key, value), (key, value + b" "))
    assert (effects.events, effects.reasons) == (1, Counter({Reason.TOO_LARGE: 1}))


def test_a_record_outside_the_partition_of_its_key_is_refused() -> None:
    driver = Driver(number=1, partition_for=lambda key: len(key) % 2)
    effects = driver.feed(
        Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"), order("anna", 2, "2026-05-01T10:00:00Z")
    )
    assert effects.reasons == Counter({Reason.WRONG_PARTITION: 1})
    assert effects.outputs[DEAD_LETTERS][0].key == b"anna"
    assert driver.customers == {"ann"}


def test_a_malformed_record_in_a_wrong_partition_is_reported_as_malformed() -> None:
    driver = Driver(number=1, partition_for=lambda _: 0)
    assert driver.feed(Topic.ORDERS, (b"ann", b"nope")).reasons == Counter({Reason.NOT_JSON: 1})


def test_a_known_customer_may_stay_if_keys_were_hashed_otherwise() -> None:
    driver = Driver(number=1)
    driver.feed(Topic.ORDERS, order("anna", 1, "2026-05-01T10:00:00Z"))
    strict = Driver(number=1, partition_for=lambda _: 0)
    strict.partition = driver.partition
    effects = strict.feed_at(Topic.ORDERS, 1, order("anna", 2, "2026-05-02T10:00:00Z"))
    assert effects.events == 1


# --- erasure ------------------------------------------------------------------------------------------------


def test_an_erasure_leaves_tombstones_and_nothing_else() -> None:
    driver = Driver()
    driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"), order("bob", 2, "2026-05-01T10:00:00Z"))
    effects = driver.feed(Topic.CUSTOMERS, (b"ann", None))
    assert effects.changelog[0] == (b"ann", None)
    assert [(out.key, out.value) for out in effects.outputs[CUSTOMER_TIERS]] == [(b"ann", None)]
    assert driver.customers == {"bob"}
    assert driver.partition.customers == 1
    recovered = {key: row for key, row in driver.partition.rows.items() if row is not None}
    assert Partition(0, recovered).customers == 1


def test_an_erased_customer_is_never_due() -> None:
    driver = Driver()
    driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"))
    driver.feed(Topic.CUSTOMERS, (b"ann", None))
    effects = driver.advance("2030-01-01T00:00:00Z")
    assert effects.outputs == {}
    assert driver.customers == set()


def test_a_customer_erased_and_created_in_one_batch_starts_again() -> None:
    driver = Driver()
    driver.feed(Topic.ORDERS, *[order("ann", n, f"2026-05-{n:02}T10:00:00Z", "100.00") for n in range(1, 6)])
    assert driver.customer("ann").standings["loyalty"].tier == "silver"
    effects = driver.feed(
        Topic.CUSTOMERS,
        profile("ann", birthday="1990-01-01", updated_at="2026-05-06T00:00:00Z"),
        (b"ann", None),
        profile("ann", timezone="Asia/Shanghai", updated_at="2026-05-07T00:00:00Z"),
    )
    assert effects.events == 3
    changes = values(effects, TIER_CHANGES)
    assert [(change["from"], change["to"], change["sequence"]) for change in changes] == [(None, "regular", 1)]
    ann = driver.customer("ann")
    assert (ann.profile.birthday, ann.profile.timezone) == (None, "Asia/Shanghai")
    assert (len(ann.ledger.times), ann.counters.events) == (0, 1)
    assert [key for key, row in effects.changelog if row is None] == []
    assert values(effects, CUSTOMER_TIERS)[-1]["tiers"]["loyalty"]["sequence"] == 1


def test_a_customer_created_and_erased_in_one_batch_is_not_there() -> None:
    driver = Driver()
    effects = driver.feed(Topic.CUSTOMERS, profile("ann", updated_at="2026-05-06T00:00:00Z"), (b"ann", None))
    assert effects.changelog[0] == (b"ann", None)
    assert values(effects, CUSTOMER_TIERS) == [None]
    assert driver.customers == set()


def test_erasing_an_unknown_customer_does_no_harm() -> None:
    driver = Driver()
    effects = driver.feed(Topic.CUSTOMERS, (b"nobody", None))
    assert effects.changelog[0] == (b"nobody", None)
    assert effects.reasons == Counter()


# --- ticks --------------------------------------------------------------------------------------------------


def test_eager_evaluates_up_to_stream_time_itself() -> None:
    driver = Driver()
    records = [order("ann", n, "2026-05-01T10:00:00Z", "60.00") for n in range(3)]
    driver.feed(Topic.ORDERS, *records)
    expires = parse_instant("2026-05-01T10:00:00Z") + 91 * DAY_MS
    falls = expires + 14 * DAY_MS
    assert driver.processor.horizon(falls) == falls
    assert values(driver.advance(falls - 1), TIER_CHANGES) == []
    (change,) = values(driver.advance(falls), TIER_CHANGES)
    assert (change["direction"], change["cause"], change["effective_at"]) == ("down", "time", "2026-08-14T10:00:00Z")


def test_settled_waits_until_the_lateness_has_passed() -> None:
    driver = Driver(SETTLED)
    at = parse_instant("2026-05-01T10:00:00Z")
    effects = driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"))
    assert TIER_CHANGES not in effects.outputs
    assert CUSTOMER_TIERS not in effects.outputs
    assert driver.processor.horizon(at + DAY_MS + 1) == at
    assert values(driver.advance(at + DAY_MS), TIER_CHANGES) == []
    assert len(values(driver.advance(at + DAY_MS + 1), TIER_CHANGES)) == 1
    assert driver.customer("ann").pending == []


def test_settled_decides_in_the_order_of_event_time_whatever_the_order_of_arrival() -> None:
    records = [order("ann", n, f"2026-05-{n:02}T10:00:00Z", "60.00") for n in range(1, 15)]
    outcomes = []
    for arrivals in (records, records[::-1], records[7:] + records[:7]):
        driver = Driver(SETTLED)
        for record in arrivals:
            driver.feed(Topic.ORDERS, record)
        outcomes.append(values(driver.advance("2026-05-20T00:00:00Z"), TIER_CHANGES))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0]) == 3


def test_stream_time_never_moves_backward() -> None:
    driver = Driver(SETTLED)
    driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"))
    driver.advance("2026-05-01T00:00:00Z")
    driver.advance("2026-04-01T00:00:00Z")
    assert driver.partition.progress.stream_time == parse_instant("2026-05-01T00:00:00Z")


def test_a_watermark_without_a_time_does_nothing() -> None:
    driver = Driver()
    driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"))
    effects = driver.processor.advance(driver.partition, _timeless(), NOW)
    assert (effects.changelog, effects.outputs, effects.more) == ([], {}, False)
    assert driver.partition.progress.stream_time is None


def test_a_watermark_with_nothing_due_writes_nothing() -> None:
    driver = Driver()
    driver.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z"))
    effects = driver.advance("2026-05-01T10:00:01Z")
    assert (effects.changelog, effects.more) == ([], False)


def test_time_advances_in_steps_that_say_whether_there_is_more() -> None:
    driver = Driver(SETTLED)
    count = DUE_PER_STEP * 2 + 1
    driver.feed(Topic.ORDERS, *[order(f"c{n}", 1, "2026-05-01T10:00:00Z") for n in range(count)])
    steps = []
    more = True
    while more:
        effects = driver.advance("2026-05-03T00:00:00Z")
        more = effects.more
        steps.append(len(values(effects, TIER_CHANGES)))
        if effects.changelog:
            assert effects.changelog[-1][0] == b"\x00progress/0"
    assert steps == [DUE_PER_STEP, DUE_PER_STEP, 1]
    assert not any(driver.customer(name).pending for name in driver.customers)


@pytest.mark.parametrize("timing", [Timing(), SETTLED], ids=["eager", "settled"])
def test_a_step_repeated_after_a_crash_gives_the_same_outputs(timing: Timing) -> None:
    """What was not written is done again from the rows that were."""
    driver = Driver(timing)
    driver.feed(Topic.ORDERS, *[order(f"c{n}", 1, "2026-05-01T10:00:00Z", "700.00") for n in range(50)])
    rows = dict(driver.partition.rows)
    first = driver.advance("2027-01-01T00:00:00Z")
    driver.recover(rows)
    again = driver.advance("2027-01-01T00:00:00Z")
    assert first.outputs == again.outputs
    assert first.changelog == again.changelog
    assert len(values(first, TIER_CHANGES)) >= 50


# --- versions of the policy ---------------------------------------------------------------------------------


def restarted(driver: Driver, timeline: Timeline, timing: Timing | None = None) -> Driver:
    """Return a worker that goes on from the rows of another, under a policy of its own."""
    other = Driver(timing, timeline=timeline)
    other.recover(dict(driver.partition.rows))
    return other


def steps_of(driver: Driver, at: str) -> list[list[dict[str, Any]]]:
    """Return the tier changes of every step that a tick takes; no step touches more customers than it may."""
    steps = []
    more = True
    while more:
        effects = driver.advance(at)
        more = effects.more
        assert len(effects.changelog) <= DUE_PER_STEP + 1
        steps.append(values(effects, TIER_CHANGES))
    return steps


@pytest.mark.parametrize("timing", [Timing(), SETTLED], ids=["eager", "settled"])
def test_rows_evaluated_under_another_policy_are_due_at_once_and_come_in_steps(timing: Timing) -> None:
    at, now = "2026-05-01T10:00:00Z", "2026-05-02T10:00:00.001Z"
    before = Driver(timing, timeline=Timeline([version("old", 100)]))
    count = DUE_PER_STEP * 2 + 1
    before.feed(Topic.ORDERS, *[order(f"c{n}", 1, at, "50.00") for n in range(count)])
    steps_of(before, now)
    assert steps_of(before, now) == [[]]

    after = restarted(before, Timeline([version("new", 50)]), timing)
    assert (len(after.partition.timers), after.partition.timers.next_instant()) == (count, MIN_INSTANT)
    steps = steps_of(after, now)
    assert [len(changes) for changes in steps] == [DUE_PER_STEP, DUE_PER_STEP, 1]
    told = {(c["to"], c["cause"], c["policy_version"], c["effective_at"]) for step in steps for c in step}
    assert told == {("silver", "policy", "new", at)}
    assert {change["sequence"] for step in steps for change in step} == {2}
    assert {change["customer_id"] for step in steps for change in step} == after.customers

    # Once, and not again: neither now nor after another restart.
    for driver in (after, restarted(after, after.timeline, timing)):
        assert driver.advance(now).changelog == []
        assert {driver.customer(name).timeline for name in driver.customers} == {after.timeline.fingerprint}


def test_a_record_before_the_watermark_is_decided_about_by_the_new_policy() -> None:
    before = Driver(timeline=Timeline([version("old", 100)]))
    before.feed(Topic.ORDERS, order("ann", 1, "2026-05-01T10:00:00Z", "70.00"))
    after = restarted(before, Timeline([version("new", 60)]))
    changes = values(after.feed_at(Topic.ORDERS, 1, order("ann", 2, "2026-05-02T10:00:00Z")), TIER_CHANGES)
    assert [(c["to"], c["cause"], c["effective_at"]) for c in changes] == [("silver", "policy", "2026-05-01T10:00:00Z")]
    # Still in the index as due at once, but not evaluated again.
    effects = after.advance("2026-05-02T10:00:00Z")
    assert (effects.outputs, [key for key, _ in effects.changelog]) == ({}, [b"\x00progress/0"])


def test_a_version_that_begins_later_is_taken_in_silently_and_begins_in_steps() -> None:
    at, start = "2026-05-01T10:00:00Z", "2026-06-01T00:00:00Z"
    before = Driver(timeline=Timeline([version("old", 100)]))
    count = DUE_PER_STEP + 1
    before.feed(Topic.ORDERS, *[order(f"c{n}", 1, at, "50.00") for n in range(count)])
    after = restarted(before, Timeline([version("old", 100), version("new", 50, start)]))
    assert steps_of(after, at) == [[], []]
    assert after.partition.timers.next_instant() == parse_instant(start)
    assert after.advance(parse_instant(start) - 1).changelog == []
    steps = steps_of(after, start)
    assert [len(changes) for changes in steps] == [DUE_PER_STEP, 1]
    told = {(c["to"], c["cause"], c["policy_version"], c["effective_at"]) for step in steps for c in step}
    assert told == {("silver", "policy", "new", start)}


def _timeless():
    from streams.partition.state import Watermark

    return Watermark(None)
