"""Brokers that stop, lose leadership, freeze or are slow, and commits that fail."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.cluster import ClusterFactory, KafkaCluster
from tests.kafka.processes import Port
from tests.support.expected import assert_same_as_replay
from tests.support.live import Rig, Sent, ToSend
from tests.support.mixed import Mixed, assert_dead_letters, mixed, wait_settled
from tests.support.proxy import SlowLine

pytestmark = pytest.mark.slow

EVENTS = 6_000
OUTAGE_S = 30.0
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "200"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return mixed(tmp_path_factory.mktemp("world"), EVENTS)


def _thirds(world: Mixed) -> Iterator[list[list[ToSend]]]:
    size = len(world.slices) // 3
    yield from (world.slices[:size], world.slices[size : 2 * size], world.slices[2 * size :])


def _finish(rig: Rig, sent: list[Sent], world: Mixed) -> None:
    """Settle the rest with new workers, and compare everything with the oracle."""
    rig.wait(lambda: not rig.backlog(), "everything is applied")
    for worker in rig.workers:
        worker.kill()
    rig.start_worker(idle_after="2s")
    wait_settled(rig, world)
    assert_same_as_replay(rig, world.history)
    assert_dead_letters(rig, sent, world)


def test_a_broker_outage_of_half_a_minute_loses_nothing(
    kafka_cluster_factory: ClusterFactory, tmp_path: Path, world: Mixed
) -> None:
    cluster = kafka_cluster_factory()
    first, second, third = _thirds(world)
    with Rig(cluster.bootstrap, tmp_path, supervised=True, **SETTLED) as rig:
        rig.start_worker()
        rig.start_worker()
        sent = rig.produce(first)
        rig.wait(lambda: rig.applied() > 200, "they make progress")
        sent += rig.produce(second)
        back = time.monotonic() + OUTAGE_S
        cluster.kill(0)
        rig.wait(lambda: time.monotonic() > back, "the outage is over", 2 * OUTAGE_S)
        cluster.start(0)
        sent += rig.produce(third)
        _finish(rig, sent, world)
        assert rig.revived == [], "a worker was restarted by its supervisor"


def test_a_produce_request_that_times_out_ends_the_worker_and_loses_nothing(
    kafka_cluster_factory: ClusterFactory, tmp_path: Path, world: Mixed
) -> None:
    cluster = kafka_cluster_factory()
    (node,) = cluster._nodes
    assert node.process is not None
    first, second, third = _thirds(world)
    with Rig(cluster.bootstrap, tmp_path, **SETTLED) as rig:
        sent = rig.produce(first + second)
        # The broker freezes just before the outputs of a batch are produced.
        worker = rig.start_worker(test_producer_timeout="4", test_freeze=f"outputs:3:{node.process.pid}")
        rig.wait(lambda: not worker.running, "the request has timed out and the worker has ended")
        errors = [line for line in worker.log.splitlines() if "the worker cannot go on" in line]
        assert len(errors) == 1, worker.log
        node.signal(signal.SIGCONT)
        rig.start_worker()
        sent += rig.produce(third)
        _finish(rig, sent, world)


def test_the_leader_changes_among_three_brokers(
    kafka_cluster_factory: ClusterFactory, tmp_path: Path, world: Mixed
) -> None:
    cluster = kafka_cluster_factory(brokers=3)
    first, second, third = _thirds(world)
    with Rig(cluster.bootstrap, tmp_path, supervised=True, replication="3", **SETTLED) as rig:
        rig.start_worker()
        rig.start_worker()
        sent = rig.produce(first)
        rig.wait(lambda: rig.applied() > 200, "they make progress")
        middle = len(second) // 2
        for index, part in ((0, second[:middle]), (1, second[middle:]), (2, third)):
            cluster.kill(index)
            sent += rig.produce(part, patient=True)  # records that only the killed leader has are lost
            before = rig.applied()
            rig.wait(lambda before=before: rig.applied() > before or not rig.backlog(), "they make progress again")
            cluster.start(index)
        _finish(rig, sent, world)


def test_a_slow_connection_and_failing_commits_lose_nothing(
    kafka_cluster_factory: ClusterFactory, tmp_path: Path, world: Mixed
) -> None:
    # The factory is only requested because it skips without Kafka. This broker advertises the slow line's address.
    cluster = KafkaCluster(tmp_path / "kafka")
    near, far = Port(), Port()
    node = cluster._nodes[0]
    cluster._overrides |= {
        "listeners": f"PLAINTEXT://{cluster.address(0)},SLOW://127.0.0.1:{far.number},"
        f"CONTROLLER://127.0.0.1:{node.controller_port.number}",
        "advertised.listeners": f"PLAINTEXT://{cluster.address(0)},SLOW://127.0.0.1:{near.number}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SLOW:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    with (
        cluster,
        SlowLine(near.number, far.number, delay_s=0.02, bytes_per_s=400_000) as line,
        Rig(cluster.bootstrap, tmp_path, supervised=True, **SETTLED) as rig,
    ):
        sent = rig.produce(world.slices)
        worker = rig.start_worker(broker=f"127.0.0.1:{near.number}", test_fail_commits="6")
        rig.wait(lambda: not rig.backlog(), "the backlog is processed, slowly")
        rig.wait(lambda: worker.log.count("a commit fails") >= 6, "six commits have failed")
        assert line.passed > 1_000_000
        assert rig.revived == []
        _finish(rig, sent, world)
    near.release()
    far.release()
