"""Clocks that jump and events from the future, on a running worker."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from models.errors import Reason
from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MINUTE_MS, format_instant
from streams.replay import replay
from tests.kafka.cluster import KafkaCluster
from tests.support.expected import replayed, written_history
from tests.support.faults import shift_clock
from tests.support.live import Rig, ToSend, by_id

pytestmark = pytest.mark.slow


def _order(name: str, number: int, at: int, amount: str = "60.00") -> dict[str, Any]:
    fields = {"order_id": f"{name}-{number}", "customer_id": name, "amount": amount}
    return {"type": "order.placed", "occurred_at": format_instant(at), **fields}


def _fall_at(name: str, due: int, now: int) -> list[dict[str, Any]]:
    """Return orders of a customer who, by the demo policy, leaves silver at `due`: 91 days, and 14 of grace."""
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
        # One partition has orders, the others have been idle from the beginning: their time goes on all the same.
        rig.produce([[record for _, record in history.records]])
        rig.wait(lambda: not rig.backlog() and rig.has_reached(now), "all is well")

        def jump(to: int, reached: int) -> None:
            shift_clock(clock, to)
            ticks = _ticks(worker)
            rig.wait(lambda: _ticks(worker) > ticks + 20 and rig.has_reached(reached), "ticks at the new time")

        jump(HOUR_MS, now + HOUR_MS)
        after_first = _falls(rig)
        jump(0, now + HOUR_MS)  # back: stream time stays where it was
        assert _falls(rig) == after_first
        jump(-HOUR_MS, now + HOUR_MS)
        # What is produced by the clock that is behind is applied; it lies an hour in that clock's future and less.
        rig.produce([[ToSend("orders", b"later", json.dumps(_order("later", 1, now + 5_000)).encode())]])
        rig.wait(lambda: not rig.backlog(), "an order that the clock takes for one of the future is applied")
        jump(2 * HOUR_MS, now + 2 * HOUR_MS)
        # Three days without a single record.
        jump(3 * DAY_MS, now + 3 * DAY_MS)
        falls = _falls(rig)
        # Too far ahead for this clock, and not for one that is a day on.
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
    wanted = {change.event_id for change in replay(timeline, history.files, now + 3 * DAY_MS).changes}
    found = by_id(outputs["tier-changes"], "event_id")
    assert {name for name, change in found.items() if change["customer_id"] != "later"} == wanted
    assert len(found) == len(outputs["tier-changes"]), "nothing came twice"


def _falls(rig: Rig) -> dict[str, str]:
    """Return who has fallen, and when."""
    changes = [json.loads(record.value) for record in rig.read("tier-changes")["tier-changes"]]
    return {change["customer_id"]: change["effective_at"] for change in changes if change["direction"] == "down"}


def _ticks(worker: Any) -> float:
    return worker.metrics().get("tidemark_ticks_total", {}).get((), 0.0)
