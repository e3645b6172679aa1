"""Ready: recovered, assigned, not stalled; and if not, why."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import load_settings
from streams.partition.state import Partition
from streams.worker.readiness import STALLED_S, Readiness


class Parts:
    """What readiness reads of an app, a store and a worker."""

    def __init__(self, *, rebalancing: bool = False, recovered: bool = True, numbers: tuple[int, ...] = (3,)) -> None:
        now = time.monotonic()
        self.app: Any = SimpleNamespace(rebalancing=rebalancing, tables=SimpleNamespace(actives_ready=recovered))
        self.store: Any = SimpleNamespace(partitions={number: Partition(number) for number in numbers})
        self.worker: Any = SimpleNamespace(advanced_at=dict.fromkeys(numbers, now), waiting={})

    def obstacles(self, **settings: Any) -> list[str]:
        return Readiness(self.app, load_settings(**settings), lambda: self.store, self.worker).obstacles()


def test_a_recovered_worker_that_applies_watermarks_is_ready() -> None:
    assert Parts().obstacles() == []


def test_a_worker_that_is_given_nothing_is_ready() -> None:
    assert Parts(numbers=()).obstacles() == []


@pytest.mark.parametrize(
    ("state", "why"), [({"rebalancing": True}, "rebalancing"), ({"recovered": False}, "recovering")]
)
def test_neither_in_a_rebalance_nor_in_recovery(state: dict[str, bool], why: str) -> None:
    assert Parts(**state).obstacles() == [why]


def test_not_ready_before_the_first_watermark_nor_long_after_the_last() -> None:
    parts = Parts(numbers=(3, 4))
    del parts.worker.advanced_at[3]
    parts.worker.advanced_at[4] -= STALLED_S + 1
    assert parts.obstacles() == [
        "partition 3: no tick was applied yet",
        f"partition 4: no tick was applied for {STALLED_S + 1:.0f} s",
    ]
    assert parts.obstacles(tick_interval="60s") == ["partition 3: no tick was applied yet"]


def test_not_ready_if_a_partition_makes_no_progress_with_records_unread() -> None:
    parts = Parts()
    now = time.monotonic()
    parts.worker.waiting = {("orders", 3): (7, now - STALLED_S - 1), ("customers", 3): (5, now)}
    assert parts.obstacles() == [
        f"orders, partition 3: 7 records are unread and none was applied for {STALLED_S + 1:.0f} s"
    ]
