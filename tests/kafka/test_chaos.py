"""Workers are killed, added, removed and restarted while events flow."""

import os
import random
from pathlib import Path

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.feed import Feed
from tests.support.live import Rig
from tests.support.mixed import assert_dead_letters, mixed, wait_settled
from tests.support.process import LiveWorker

pytestmark = pytest.mark.slow

EVENTS = int(os.environ.get("TIDEMARK_CHAOS_EVENTS", "100000"))
KILLS = 20
WORKERS = 3
PARTITIONS = 12
#: Time (s) within which the group must make progress again after each fault.
PATIENCE_S = 240.0
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "1000"}


def test_workers_killed_added_removed_and_restarted_lose_nothing_and_decide_the_same(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    draw = random.Random(20)
    with Rig(kafka.bootstrap, tmp_path, partitions=PARTITIONS, session_s=1.5, supervised=True, **SETTLED) as rig:
        feed = Feed(rig, world.slices)
        steps = KILLS + 4
        share = 0.0

        def work_on() -> None:
            """Let more events in, and return once a random part of them is applied."""
            nonlocal share
            share += 1 / steps
            before = rig.applied()
            feed.allow(share)
            target = draw.uniform(0.05, 0.6) * EVENTS / steps
            rig.wait(lambda: rig.applied() >= before + target, "the group makes progress", PATIENCE_S)

        group = [rig.start_worker() for _ in range(WORKERS)]
        work_on()
        for _ in range(KILLS):
            victim = draw.randrange(len(group))
            group[victim].kill()
            group[victim] = rig.start_worker()
            work_on()

        for worker in group:
            rig.wait(lambda worker=worker: worker.ready, "it is ready", PATIENCE_S)
        group.append(rig.start_worker())  # one joins …
        work_on()
        rig.stop_worker(group.pop(0))  # … and one leaves
        work_on()
        _upgrade(rig, group)
        work_on()
        sent = feed.finish()
        for worker in group:
            worker.kill()  # all at once
        group = [rig.start_worker() for _ in range(WORKERS)]
        rig.wait(lambda: not rig.backlog(), "everything is applied", PATIENCE_S)
        for worker in group:
            worker.kill()
        rig.start_worker(idle_after="5s")
        wait_settled(rig, world, PATIENCE_S)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)


def _upgrade(rig: Rig, group: list[LiveWorker]) -> None:
    """Replace workers one at a time, each ready before the next. The new ones have another store and larger batches."""
    for number, worker in enumerate(group):
        rig.stop_worker(worker)
        fresh = group[number] = rig.start_worker(store="rocksdb", max_batch="4000")
        rig.wait(lambda fresh=fresh: fresh.ready, "it is ready", PATIENCE_S)
