"""Partitions move while their new owner is fetching. It must not skip any row of their changelog."""

from pathlib import Path

import pytest

from models.events import Topic
from models.instants import DAY_MS, MINUTE_MS, format_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay, written_history
from tests.support.live import Rig
from tests.support.mixed import START

pytestmark = pytest.mark.slow

MOVES = 4
#: Each customer orders at the start and again after one of the moves, so many rows were last written long before.
PEOPLE = 200 * MOVES
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "100"}
#: With few ticks, an empty fetch lasts longer than a rebalance.
SLOW = {"test_slow_recovery": "0.4", "tick_interval": "2s"}


def test_records_fetched_before_recovery_reads_are_not_lost(kafka: KafkaCluster, tmp_path: Path) -> None:
    """The first records of an assignment arrive after recovery has set its position and before it reads.

    They are the rows of the customers who order next.
    """
    rounds = [range(PEOPLE), *(range(move, PEOPLE, MOVES) for move in range(MOVES))]
    orders = [
        {
            "type": "order.placed",
            "order_id": f"o{number}-{person}",
            "customer_id": f"c{person}",
            "occurred_at": format_instant(START + number * 10 * DAY_MS + place * MINUTE_MS),
            "amount": "120.00",
        }
        for number, people in enumerate(rounds)
        for place, person in enumerate(people)
    ]
    history = written_history(tmp_path / "events", {Topic.ORDERS: orders})
    records = iter([record for _, record in history.records])
    with Rig(kafka.bootstrap, tmp_path, **SETTLED) as rig:
        stays = rig.start_worker(**SLOW)
        for number, people in enumerate(rounds):
            if number:
                comes_and_goes = rig.start_worker(**SLOW)
                rig.wait(lambda other=comes_and_goes: other.ready, "it owns some of the partitions")
                rig.stop_worker(comes_and_goes)
            rig.produce([[next(records) for _ in people]])
            rig.wait(lambda: stays.ready and not rig.backlog(), "the other owns all of them and has caught up")
        stays.kill()
        rig.start_worker(idle_after="2s")
        rig.wait(rig.is_settled, "all is settled")
        assert_same_as_replay(rig, history)
