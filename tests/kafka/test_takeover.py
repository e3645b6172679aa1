"""How soon another worker takes over: at once with a standby, after recovery without one; the state is the same."""

import shutil
import time
from pathlib import Path

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.live import Rig
from tests.support.mixed import assert_dead_letters, mixed, wait_settled
from tests.support.process import LiveWorker

pytestmark = pytest.mark.slow

EVENTS = 6_000
TAKEOVERS = 5
SESSION_S = 1.0
#: Time (s) after the session within which a standby must take over: two or three, and more on a busy machine.
TAKEOVER_S = 45.0
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d"}


def test_a_standby_takes_over_in_seconds_and_a_lost_data_directory_costs_nothing(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    half = len(world.slices) // 2
    with Rig(kafka.bootstrap, tmp_path, session_s=SESSION_S, standbys="1", **SETTLED) as rig:
        owner = rig.start_worker()
        rig.wait(lambda: owner.ready, "the first is ready")
        other = rig.start_worker()
        sent = rig.produce(world.slices[:half])
        rig.wait(lambda: not rig.backlog() and owner.ready and other.ready, "both are ready")
        before = rig.applied()

        owner.kill()
        killed = time.monotonic()
        sent += rig.produce(world.slices[half:])
        rig.wait(lambda: rig.applied() > before and _holds_all(rig, other), "the other has taken over")
        took = time.monotonic() - killed
        rig.wait(lambda: not rig.backlog(), "everything is applied")
        assert took < SESSION_S + TAKEOVER_S

        # Everything that a worker has on disk is lost: the changelog is the state.
        rig.stop_worker(other)
        for directory in tmp_path.glob("data-*"):
            shutil.rmtree(directory)
        rig.start_worker(idle_after="2s")
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)


def test_standbys_take_over_from_each_other_again_and_again(kafka: KafkaCluster, tmp_path: Path) -> None:
    """What a standby missed shows only once it is the owner, so each becomes one in the middle of the load."""
    world = mixed(tmp_path / "events", EVENTS)
    share = len(world.slices) // (TAKEOVERS + 1)
    with Rig(kafka.bootstrap, tmp_path, session_s=SESSION_S, standbys="1", max_batch="100", **SETTLED) as rig:
        group = [rig.start_worker(), rig.start_worker()]
        sent = rig.produce(world.slices[:share])
        for takeover in range(1, TAKEOVERS + 1):
            rig.wait(lambda: not rig.backlog() and all(worker.ready for worker in group), "both are ready")
            last = None if takeover == TAKEOVERS else (takeover + 1) * share
            sent += rig.produce(world.slices[takeover * share : last])
            group.pop(0).kill()
            group.append(rig.start_worker())
        rig.wait(lambda: not rig.backlog(), "everything is applied")
        for worker in group:
            worker.kill()
        rig.start_worker(idle_after="2s")
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)


def _holds_all(rig: Rig, worker: LiveWorker) -> bool:
    held = {dict(labels)["partition"] for labels in worker.metrics().get("tidemark_customers", {})}
    return len(held) == rig.settings.partitions
