"""All workers are down for six hours. Orders pile up, and the wall clock advances."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, MINUTE_MS, format_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.expected import History, replayed, written_history
from tests.support.faults import shift_clock
from tests.support.in_steps import replay
from tests.support.live import Rig, by_id

pytestmark = pytest.mark.slow

#: Customers who would fall or be missed during the outage but order in time. As many do not order.
PEOPLE = 60
OTHERS = 6_000
OUTAGE_MS = 6 * HOUR_MS


def _order(name: str, number: object, at: int, amount: str = "60.00") -> dict[str, Any]:
    fields = {"order_id": f"{name}-{number}", "customer_id": name, "amount": amount}
    return {"type": "order.placed", "occurred_at": format_instant(at), **fields}


def _world(now: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the orders before the outage and those during it, each in order of time.

    By the demo policy a `fall` customer leaves silver and a `miss` customer gets a churn alert, both during the outage.
    Those with odd numbers order ten minutes earlier.
    """
    before, during = [], []
    for number in range(2 * PEOPLE):
        due = now + HOUR_MS + number * (OUTAGE_MS - 2 * HOUR_MS) // (2 * PEOPLE)
        fall, miss = f"fall{number}", f"miss{number}"
        # The first order leaves the window after 91 days, and the grace is 14 days.
        before += [
            _order(fall, place, at)
            for place, at in enumerate((due - 105 * DAY_MS, now - 50 * DAY_MS, now - 49 * DAY_MS))
        ]
        # The customer orders every five days, and then not for six times as long.
        before += [_order(miss, place, due - (30 + 5 * place) * DAY_MS, "9.00") for place in range(7)]
        if number % 2:
            during += [_order(fall, "late", due - 10 * MINUTE_MS), _order(miss, "late", due - 10 * MINUTE_MS, "9.00")]
    step = OUTAGE_MS // OTHERS
    during += [_order(f"other{number % 500}", number, now + number * step, "1.00") for number in range(OTHERS)]
    return tuple(sorted(orders, key=lambda order: order["occurred_at"]) for orders in (before, during))  # type: ignore[return-value]  # two


def test_after_an_outage_orders_in_the_backlog_prevent_falls_and_churn_alerts(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    before, during = _world(now)
    history = written_history(tmp_path / "events", {Topic.ORDERS: before + during})
    records = [record for _, record in history.records]
    clock = tmp_path / "clock"
    shift_clock(clock, 0)
    # With small batches and frequent ticks, stream time could easily overtake the orders.
    settings = {"clock": "wall", "max_batch": "50", "tick_interval": "50ms", "clock_grace": "0s"}
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, **settings) as rig:
        worker = rig.start_worker(test_clock=str(clock))
        rig.produce([records[: len(before)]])
        rig.wait(lambda: not rig.backlog() and rig.has_reached(now), "the orders before the outage are applied")
        early = rig.read("tier-changes", "care-actions")
        assert not [change for change in _values(early["tier-changes"]) if change["direction"] == "down"]
        worker.kill()

        rig.produce([records[len(before) :]])
        shift_clock(clock, OUTAGE_MS)
        rig.start_worker(test_clock=str(clock))
        rig.wait(lambda: not rig.backlog() and rig.has_reached(now + OUTAGE_MS), "the backlog is processed")
        outputs = rig.read("tier-changes", "care-actions")

    falls = {change["customer_id"] for change in _values(outputs["tier-changes"]) if change["direction"] == "down"}
    alerts = {a["customer_id"] for a in _values(outputs["care-actions"]) if a["kind"] == "churn_alert"}
    assert falls == {f"fall{number}" for number in range(0, 2 * PEOPLE, 2)}
    assert alerts >= {f"miss{number}" for number in range(0, 2 * PEOPLE, 2)}
    assert not alerts & {f"miss{number}" for number in range(1, 2 * PEOPLE, 2)}
    _assert_same_decisions(outputs, history, now + OUTAGE_MS)


def _assert_same_decisions(outputs: dict[str, Any], history: History, until: int) -> None:
    _, timeline = replayed(history)
    result = replay(timeline, history.files, until)
    for topic, name, decisions in (
        ("tier-changes", "event_id", result.changes),
        ("care-actions", "action_id", result.actions),
    ):
        assert set(by_id(outputs[topic], name)) == {getattr(decision, name) for decision in decisions}


def _values(records: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(record.value) for record in records]
