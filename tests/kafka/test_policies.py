"""Workers of one group with different policies."""

from pathlib import Path

from tests.kafka.cluster import KafkaCluster
from tests.kafka.test_damage import applied, order
from tests.support.live import Rig
from tests.support.process import LiveWorker

VERSION = """
version: "{version}"
effective_from: {since}
currency: USD
schemes:
  loyalty:
    tiers: [{{name: regular}}, {{name: gold, when: {{monetary: ">= {gold}"}}}}]
"""


def policy(directory: Path, name: str, *versions: tuple[str, str, int]) -> dict[str, str]:
    """Write a file of versions (name, start, amount for gold); return the setting."""
    file = directory / f"{name}.yaml"
    file.write_text("---".join(VERSION.format(version=v, since=since, gold=gold) for v, since, gold in versions))
    return {"policy": str(file)}


def ended(worker: LiveWorker) -> str:
    """Return why a worker that was refused ended: one line."""
    assert worker._child.poll() == 1
    (line,) = [line for line in worker.log.splitlines() if "the worker cannot go on" in line]
    assert "PolicyConflict" not in worker.log, "the log has the error a second time"
    return line


def test_a_worker_whose_policy_contradicts_the_group_ends_and_a_new_version_is_welcome(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    first = ("v1", "2020-01-01T00:00:00Z", 50)
    known = policy(tmp_path, "known", first)
    changed = policy(tmp_path, "changed", ("v1", "2020-01-01T00:00:00Z", 500))
    rolled = policy(tmp_path, "rolled", first, ("v2", "2030-01-01T00:00:00Z", 500))
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, clock="event") as rig:
        one = rig.start_worker(**known)
        rig.produce([[order("ann", 1)]])
        rig.wait(lambda: applied(rig, one), "the order is applied")
        claims = {number: fence.holder for number, fence in rig.fences.items()}

        other = rig.start_worker(**changed)
        rig.wait(lambda: not other.running, "the second worker ends")
        assert "version 'v1' of the policy: other workers of the group decide by other content" in ended(other)
        assert "version 'v1' of its policy is not the group's" in one.log + other.log
        rig.produce([[order("bob", 1)]])
        rig.wait(lambda: applied(rig, one), "the first one goes on")
        assert {fence.holder.owner for fence in rig.fences.values()} <= {claim.owner for claim in claims.values()}

        # A version under a new name is the way to roll.
        third = rig.start_worker(**rolled)
        rig.wait(lambda: third.ready and third.metrics().get("tidemark_customers"), "it shares the partitions")
        rig.stop_worker(one)
        rig.wait(lambda: applied(rig, third), "it has all partitions")
        # A file that was changed under the same name is taken while no worker runs, also after a crash.
        third.kill()
        again = rig.start_worker(**changed)
        rig.wait(lambda: applied(rig, again), "the changed file is taken")


def test_of_two_that_start_at_once_one_stays(kafka: KafkaCluster, tmp_path: Path) -> None:
    files = [policy(tmp_path, str(gold), ("v1", "2020-01-01T00:00:00Z", gold)) for gold in (50, 500)]
    with Rig(kafka.bootstrap, tmp_path, session_s=1.0, clock="event") as rig:
        workers = [rig.start_worker(**file) for file in files]
        rig.wait(lambda: not all(worker.running for worker in workers), "one of them ends")
        (stays,) = [worker for worker in workers if worker.running]
        (ends,) = [worker for worker in workers if not worker.running]
        assert "other workers of the group" in ended(ends)
        rig.produce([[order("ann", 1)]])
        rig.wait(lambda: applied(rig, stays), "the other one goes on")
