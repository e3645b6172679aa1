"""Several versions of a policy: each decides from its start, and its changes are emitted once."""

from typing import Any

from models.instants import format_instant, parse_instant
from models.policy.compiled import Policy
from tests.models.build import Run, contact, day, engine, order, policy, tiers

ONE = tiers({"frequency": ">= 1"}, grace="10d")
TWO = tiers({"frequency": ">= 1"}, {"frequency": ">= 2"}, grace="10d")


def strict(at: int, version: str = "v2", **more: Any) -> Policy:
    """Return a version from an instant (ms) on. Its tier requires two orders; ONE's requires one."""
    scheme = tiers({"frequency": ">= 2"}, **{"grace": "10d", **more})
    return policy(scheme, version=version, effective_from=format_instant(at))


def mild(at: int, version: str) -> Policy:
    return policy(ONE, version=version, effective_from=format_instant(at))


def test_the_start_of_a_version_is_due_at_exactly_its_instant() -> None:
    run = Run(policy(ONE, version="v1"), strict(day(50, 7), grace="0d")).take(order(day(0), "a"))
    assert run.customer.due == day(50, 7)
    assert len(run.until(day(50, 6)).moves) == 1
    assert run.until(day(50, 7)).moves[1:] == [("t1", "t0", day(50, 7), "policy")]
    assert [change.policy_version for change in run.changes] == ["v1", "v2"]


def test_the_start_of_a_version_is_noticed_however_late_and_dated_at_its_instant() -> None:
    run = Run(policy(ONE, version="v1"), strict(day(50), grace="0d")).take(order(day(0), "a"), order(day(60), "b"))
    assert run.moves[1:] == [("t1", "t0", day(50), "policy"), ("t0", "t1", day(60), "order")]


def test_a_customer_who_is_worse_off_under_a_version_keeps_the_tier_for_its_grace() -> None:
    run = Run(policy(ONE, version="v1"), strict(day(50), grace="20d")).take(order(day(0), "a")).until(day(999))
    assert run.moves[1:] == [("t1", "t0", day(70), "time")]
    assert run.changes[-1].policy_version == "v2"


def test_a_customer_who_is_better_off_under_a_version_rises_at_once() -> None:
    first = policy(tiers({"frequency": ">= 2"}), version="v1")
    run = Run(first, mild(day(50), "v2")).take(order(day(0), "a")).until(day(999))
    assert run.moves[:2] == [(None, "t0", day(0), "order"), ("t0", "t1", day(50), "policy")]


def test_an_event_at_the_start_of_a_version_brings_the_change_itself() -> None:
    run = Run(policy(ONE, version="v1"), policy(TWO, version="v2", effective_from=format_instant(day(50))))
    run.take(order(day(0), "a"), order(day(50), "b"))
    assert run.moves[1:] == [("t1", "t2", day(50), "order")]
    assert run.changes[-1].policy_version == "v2"


def test_every_version_on_the_way_is_passed_in_order() -> None:
    versions = [policy(ONE, version="v1"), strict(day(20), grace="0d"), mild(day(40), "v3"), strict(day(60), "v4")]
    run = Run(*reversed(versions)).take(order(day(0), "a")).until(day(65))
    assert run.moves[1:] == [("t1", "t0", day(20), "policy"), ("t0", "t1", day(40), "policy")]
    assert run.customer.policy_version == "v4"
    assert run.customer.standings["loyalty"].below_since == day(60)


def test_before_the_first_version_begins_it_holds_all_the_same() -> None:
    run = Run(mild(day(10), "v1"), strict(day(50), grace="0d")).take(order(day(0), "a"))
    assert run.customer.due == day(50)  # not day 10: nothing begins there
    assert [change.policy_version for change in run.until(day(50)).changes] == ["v1", "v2"]


def test_a_version_that_began_in_the_past_takes_effect_at_the_cursor() -> None:
    run = Run(policy(ONE, version="v1")).take(order(day(0), "a")).until(day(105))
    assert run.customer.cursor == day(100)  # the order left the window there; nothing was due since
    run.engine = engine(policy(ONE, version="v1"), mild(day(30), "v2"), strict(day(90), "v3", grace="0d"))
    run.until(day(105))
    assert run.moves[1:] == [("t1", "t0", day(100), "policy")]
    assert run.changes[-1].policy_version == "v3"


def test_a_changed_file_is_evaluated_by_once_and_says_nothing_where_nothing_comes_out_differently() -> None:
    run = Run(policy(ONE, version="v1")).take(order(day(0), "a"))
    run.engine = engine(policy(ONE, version="v2"))
    assert len(run.until(day(5)).changes) == 1
    assert (run.customer.policy_version, run.customer.timeline) == ("v2", run.engine.timeline.fingerprint)
    row = run.customer.to_row()
    assert run.until(day(6)).customer.to_row() == row


def test_a_late_event_is_judged_by_the_version_that_holds_at_the_cursor() -> None:
    run = Run(policy(ONE, version="v1"), strict(day(50), grace="0d")).take(order(day(60), "a"), order(day(20), "b"))
    assert run.moves == [(None, "t0", day(60), "order"), ("t0", "t1", day(60), "late")]
    assert {change.policy_version for change in run.changes} == {"v2"}


def test_a_scheme_that_a_version_does_not_have_is_left_and_goes_on_where_it_was() -> None:
    both = {"a": ONE, "b": ONE}
    run = Run(
        policy(schemes=both, version="v1"),
        policy(schemes={"a": ONE}, version="v2", effective_from=format_instant(day(10))),
        policy(schemes=both, version="v3", effective_from=format_instant(day(150))),
    )
    run.take(order(day(0), "o")).until(day(149))
    shown = run.engine.tiers(run.customer)
    assert shown is not None
    assert set(shown.tiers) == {"a"}
    run.until(day(999))
    changes = [
        (c.from_tier, c.to_tier, parse_instant(c.effective_at), c.sequence) for c in run.changes if c.scheme == "b"
    ]
    assert changes == [(None, "t1", day(0), 1), ("t1", "t0", day(160), 2)]


def test_a_scheme_that_a_version_adds_is_entered_at_its_start() -> None:
    added = policy(schemes={"a": ONE, "b": ONE}, version="v2", effective_from=format_instant(day(50)))
    run = Run(policy(schemes={"a": ONE}, version="v1"), added).take(order(day(0), "o")).until(day(50))
    change = run.changes[-1]
    assert (change.scheme, change.direction, change.sequence, change.cause) == ("b", "enter", 1, "policy")
    assert change.effective_at == format_instant(day(50))


def test_interactions_are_kept_for_what_a_later_version_weighs_and_looks_back() -> None:
    engaged = tiers({"engagement": ">= 1"}, window="300d")
    later = policy(engaged, version="v2", weights={"visit": "1"}, effective_from=format_instant(day(200)))
    run = Run(policy(ONE, version="v1"), later).take(contact(day(0), "i", "visit"), contact(day(180), "j", "dances"))
    assert run.until(day(200)).moves[-1] == ("t0", "t1", day(200), "policy")
