"""SIGKILL between the effects of a batch, which are in this order: outputs, state, commit."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay, replayed
from tests.support.faults import POINTS
from tests.support.live import Rig, Sent
from tests.support.mixed import Mixed, assert_dead_letters, mixed, wait_settled
from tests.support.process import ROOT

pytestmark = pytest.mark.slow

EVENTS = 4_000
#: How often a point is reached before the worker dies there. Commits happen only once a second.
REACHED = {point: 1 if point.startswith("commit") else 2 for point in POINTS}


def test_a_worker_killed_at_any_point_between_its_effects_loses_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    settings = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "40", "tick_interval": "100ms"}
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, **settings) as rig:
        sent: list[Sent] = []
        share = len(world.slices) // len(POINTS) + 1
        for number, point in enumerate(POINTS):
            sent += rig.produce(world.slices[number * share : (number + 1) * share])
            worker = rig.start_worker(test_kill=f"{point}:{REACHED[point]}")
            rig.wait(lambda worker=worker: not worker.running, f"the worker has died at {point}")
            assert worker.log.rstrip().endswith(f"SIGKILL at {point}"), worker.log[-2_000:]
        rig.start_worker(max_batch="4000", idle_after="2s")
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)
        # Some changes were repeated: those acknowledged before their state was written.
        changes = [record.value for record in rig.read("tier-changes")["tier-changes"]]
        assert len(changes) > len(set(changes))
    assert_the_documented_consumer_takes_each_once(changes, world)


def assert_the_documented_consumer_takes_each_once(changes: list[bytes], world: Mixed) -> None:
    """Feed the example of docs/reliability.md with all changes, and again with the last hundred, as after a crash."""
    page = ROOT / "docs" / "reliability.md"
    (example,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    consumer: dict[str, Any] = {}
    exec(compile(example, page.name, "exec"), consumer)  # noqa: S102  # our own
    consumer["db"].execute("DELETE FROM tiers")  # rows that the example itself inserted
    assert sum(consumer["take"](change) for change in changes + changes[-100:]) == len(set(changes))
    result, _ = replayed(world.history)
    held = {customer.customer_id: customer.standings["loyalty"].tier for customer in result.customers}
    assert dict(consumer["db"].execute("SELECT customer_id, tier FROM tiers")) == held
