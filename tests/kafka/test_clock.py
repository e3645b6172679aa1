"""Live workers with clocks that jump, partitions without records, events from the future and daylight saving."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from models.errors import Reason
from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MINUTE_MS, format_instant, parse_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay, replayed, written_history
from tests.support.faults import shift_clock
from tests.support.in_steps import replay
from tests.support.live import Rig, ToSend, by_id

pytestmark = pytest.mark.slow


def _order(name: str, number: int, at: int, amount: str = "60.00") -> dict[str, Any]:
    fields = {"order_id": f"{name}-{number}", "customer_id": name, "amount": amount}
    return {"type": "order.placed", "occurred_at": format_instant(at), **fields}


def _fall_at(name: str, due: int, now: int) -> list[dict[str, Any]]:
    """Return orders of a customer who leaves silver at `due` (ms) by the demo policy: window 91 days, grace 14."""
    times = (due - 105 * DAY_MS, now - 50 * DAY_MS, now - 49 * DAY_MS)
    return [_order(name, number, at) for number, at in enumerate(times)]


def test_a_wall_clock_that_jumps_an_hour_back_and_forth_repeats_nothing_and_decides_at_exact_instants(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    dues = {f"fall{minutes}": now + minutes * MINUTE_MS for minutes in (10, 30, 50, 90, 150)}
    orders = [order for name, due in dues.items() for order in _fall_at(name, due, now)]
    orders.sort(key=lambda order: order["occurred_at"])
    history = written_history(tmp_path / "events", {Topic.ORDERS: orders})
    clock = tmp_path / "clock"
    shift_clock(clock, 0)
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, clock="wall", tick_interval="50ms", clock_grace="0s") as rig:
        worker = rig.start_worker(test_clock=str(clock))
        # Stream time also advances in the partitions that never had a record.
        rig.produce([[record for _, record in history.records]])
        rig.wait(lambda: not rig.backlog() and rig.has_reached(now), "the orders are applied")

        def jump(to: int, reached: int) -> None:
            shift_clock(clock, to)
            ticks = _ticks(worker)
            rig.wait(
                lambda: _ticks(worker) > ticks + 20 and rig.has_reached(reached), "stream time has followed the clock"
            )

        jump(HOUR_MS, now + HOUR_MS)
        after_first = _falls(rig)
        jump(0, now + HOUR_MS)  # stream time never moves backward
        assert _falls(rig) == after_first
        jump(-HOUR_MS, now + HOUR_MS)
        # This order is less than an hour ahead of the clock, which is behind, so it is applied.
        rig.produce([[ToSend("orders", b"later", json.dumps(_order("later", 1, now + 5_000)).encode())]])
        rig.wait(lambda: not rig.backlog(), "the order ahead of the clock is applied")
        jump(2 * HOUR_MS, now + 2 * HOUR_MS)
        # Three days pass without a record.
        jump(3 * DAY_MS, now + 3 * DAY_MS)
        falls = _falls(rig)
        # This order is too far ahead for this clock. A day later it would not be.
        far = ToSend("orders", b"far", json.dumps(_order("far", 1, now + 5 * DAY_MS)).encode())
        rig.produce([[far]])
        rig.wait(lambda: not rig.backlog(), "it is refused")
        letters = rig.read("dead-letters")["dead-letters"]
        assert [dict(letter.headers)["reason"].decode() for letter in letters] == [Reason.TOO_FAR_AHEAD.value]
        assert letters[0].value == far.value
        state = rig.state()
        assert all(
            row.stream_time is not None and row.stream_time < now + 4 * DAY_MS for row in state.progress.values()
        )
        worker.kill()
        outputs = rig.read("tier-changes")

    assert after_first == {name: format_instant(due) for name, due in dues.items() if due <= now + HOUR_MS}
    assert falls == {name: format_instant(due) for name, due in dues.items()}
    _, timeline = replayed(history)
    expected = {change.event_id for change in replay(timeline, history.files, now + 3 * DAY_MS).changes}
    found = by_id(outputs["tier-changes"], "event_id")
    assert {name for name, change in found.items() if change["customer_id"] != "later"} == expected
    assert len(found) == len(outputs["tier-changes"]), "a change was published twice"


def test_stream_time_advances_in_a_partition_without_records(kafka: KafkaCluster, tmp_path: Path) -> None:
    start = parse_instant("2026-05-01T00:00:00Z")
    dues = {f"fall{day}": start + day * DAY_MS + HOUR_MS for day in range(1, 6)}
    falls = sorted(
        (order for name, due in dues.items() for order in _fall_at(name, due, start)),
        key=lambda order: order["occurred_at"],
    )
    flow = [_order(f"flow{hour % 7}", hour, start + hour * HOUR_MS, "1.00") for hour in range(6 * 24)]
    history = written_history(tmp_path / "events", {Topic.ORDERS: falls + flow})
    # The customers who fall are in partition 0, which gets no more records; the others share the rest.
    records = [
        record._replace(partition=0 if record.key.startswith(b"fall") else 1 + int(record.key[4:]) % 3)
        for _, record in history.records
    ]
    with Rig(kafka.bootstrap, tmp_path, clock="event") as rig:
        rig.start_worker()
        rig.produce([records[: len(falls)]])
        rig.wait(lambda: not rig.backlog(), "the first orders are applied")
        assert not _falls(rig)
        rig.produce([records[len(falls) + day * 24 :][:24] for day in range(6)])
        rig.wait(
            lambda: not rig.backlog() and rig.has_reached(history.last_ms), "stream time has advanced in all partitions"
        )
        assert _falls(rig) == {name: format_instant(due) for name, due in dues.items()}
        idle = rig.state().progress[0]
        assert idle.applied == {"orders": len(falls)}, "partition 0 got other records"
        _, timeline = replayed(history)
        expected = {change.event_id for change in replay(timeline, history.files).changes}
        assert set(by_id(rig.read("tier-changes")["tier-changes"], "event_id")) == expected


NIGHTS = """\
version: nights-1
currency: USD
timezone: UTC
window: 91d
schemes: {loyalty: {tiers: [{name: regular}, {name: silver, when: {frequency: ">= 3"}}]}}
care:
  - {name: early, kind: birthday_offer, trigger: birthday, at: "01:30", consent: not_needed}
  - {name: late, kind: birthday_offer, trigger: birthday, at: "02:30", consent: not_needed}
"""
#: When the two rules are due, by time zone and birthday. A local time that the clocks skip is due right after the gap;
#: of one that they repeat, the first counts.
IN_NIGHTS = {
    ("America/New_York", "--03-08"): ("2026-03-08T06:30:00Z", "2026-03-08T07:30:00Z"),
    ("Europe/Berlin", "--03-29"): ("2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
    ("Europe/Berlin", "--10-25"): ("2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z"),
    ("America/New_York", "--11-01"): ("2026-11-01T05:30:00Z", "2026-11-01T07:30:00Z"),
    ("Asia/Shanghai", "--11-01"): ("2026-10-31T17:30:00Z", "2026-10-31T18:30:00Z"),
}


def test_a_night_with_a_clock_change_has_each_local_time_once_in_any_zone_of_the_worker(
    kafka: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")  # the zone of the worker processes
    policy = tmp_path / "nights.yaml"
    policy.write_text(NIGHTS)
    since = "2026-01-01T00:00:00Z"
    profiles = [
        {"customer_id": f"c{number}", "timezone": zone, "birthday": birthday, "updated_at": since}
        for number, (zone, birthday) in enumerate(IN_NIGHTS)
    ]
    # Orders advance stream time through each night in steps of 15 minutes, and then to the end of the year.
    dues = [parse_instant(due) for both in IN_NIGHTS.values() for due in both]
    times = {due + quarter * 15 * MINUTE_MS for due in dues for quarter in range(-12, 12)}
    times.add(parse_instant("2026-12-31T00:00:00Z"))
    orders = [_order(f"flow{number % 9}", number, at) for number, at in enumerate(sorted(times))]
    history = written_history(tmp_path / "events", {Topic.CUSTOMERS: profiles, Topic.ORDERS: orders})
    records = [record for _, record in history.records]
    settings = {"clock": "event", "decide": "settled", "lateness": "1h", "policy": str(policy)}
    with Rig(kafka.bootstrap, tmp_path, **settings) as rig:
        rig.start_worker()
        rig.produce([records[: len(records) // 2]])
        rig.wait(lambda: not rig.backlog(), "half of them are applied")
        rig.workers[0].kill()
        rig.start_worker(idle_after="2s")
        rig.produce([records[len(records) // 2 :]])
        rig.wait(lambda: rig.is_settled() and rig.has_reached(history.last_ms + HOUR_MS), "all is settled")
        actions = by_id(rig.read("care-actions")["care-actions"], "action_id").values()
        assert_same_as_replay(rig, history, str(policy))
    found = sorted((action["customer_id"], action["rule"], action["due_at"]) for action in actions)
    expected = [
        (f"c{number}", rule, due)
        for number, both in enumerate(IN_NIGHTS.values())
        for rule, due in zip(("early", "late"), both, strict=True)
    ]
    assert found == sorted(expected)


def _falls(rig: Rig) -> dict[str, str]:
    """Return when each customer fell, by customer."""
    changes = [json.loads(record.value) for record in rig.read("tier-changes")["tier-changes"]]
    return {change["customer_id"]: change["effective_at"] for change in changes if change["direction"] == "down"}


def _ticks(worker: Any) -> float:
    return worker.metrics().get("tidemark_ticks_total", {}).get((), 0.0)
