"""A worker that is suspended past its session must not overwrite what its successor wrote."""

import os
import signal
from pathlib import Path

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.live import Rig
from tests.support.mixed import assert_dead_letters, mixed, wait_settled

pytestmark = pytest.mark.slow

EVENTS = 4_000
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "40", "tick_interval": "100ms"}


@pytest.mark.parametrize("point", ["outputs", "state"])
def test_late_writes_of_a_replaced_owner_do_not_count(kafka: KafkaCluster, tmp_path: Path, point: str) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    third = len(world.slices) // 3
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, supervised=True, **SETTLED) as rig:
        sent = rig.produce(world.slices[:third])
        # It suspends itself between two effects, just before the write.
        sleeper = rig.start_worker(test_stop=f"{point}:3")
        rig.wait(lambda: _is_stopped(sleeper.pid), "it is suspended in the middle of a batch")
        sent += rig.produce(world.slices[third : 2 * third])
        rig.start_worker(max_batch="4000")
        rig.wait(lambda: not rig.backlog(), "another worker has taken over")

        assert rig.stale_rows == 0
        os.kill(sleeper.pid, signal.SIGCONT)
        rig.wait(lambda: rig.backlog() == 0 and (rig.stale_rows or rig.revived), "its late write is rejected")
        assert rig.stale_rows > 0, "it wrote nothing, so the test proves nothing"
        sent += rig.produce(world.slices[2 * third :])
        rig.wait(lambda: not rig.backlog(), "the rest is applied")
        for worker in rig.workers:
            worker.kill()
        # A worker that recovers now also reads the late rows.
        rig.start_worker(max_batch="4000", idle_after="2s")
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)
        assert not any(fence.stale for fence in rig.fences.values()), "a late row has not been overwritten"


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
