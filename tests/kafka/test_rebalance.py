"""Partitions that move while their new owner is fetching: not one row of their changelog may be passed over."""

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
#: Everybody orders in the beginning, and then once more after one of the moves: rows that nobody has written since.
PEOPLE = 200 * MOVES
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "100"}
#: Few ticks: a fetch that finds nothing lasts longer than a rebalance.
SLOW = {"test_slow_recovery": "0.4", "tick_interval": "2s"}


def test_what_a_client_fetches_while_recovery_is_about_to_read_is_not_lost(kafka: KafkaCluster, tmp_path: Path) -> None:
    """The first records of an assignment come when recovery has sought them and has not yet begun to read.

    They are the rows of customers who order next.
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
                rig.wait(lambda other=comes_and_goes: other.ready, "it has some of the partitions")
                rig.stop_worker(comes_and_goes)
            rig.produce([[next(records) for _ in people]])
            rig.wait(lambda: stays.ready and not rig.backlog(), "the other goes on with all of them")
        stays.kill()
        rig.start_worker(idle_after="2s")
        rig.wait(rig.is_settled, "all is settled")
        assert_same_as_replay(rig, history)
