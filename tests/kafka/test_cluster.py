"""The Kafka test harness does what the tests that use it rely on."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from tests.kafka.artefacts import artefact_directory, resolve_artefacts, unavailable_reason
from tests.kafka.cluster import ClusterFactory, KafkaCluster
from tests.kafka.processes import KafkaError

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0


@asynccontextmanager
async def admin_client(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create_topic(
    bootstrap: str,
    topic: str,
    *,
    partitions: int = 1,
    replicas: int = 1,
    configs: dict[str, str] | None = None,
) -> None:
    async with admin_client(bootstrap) as admin:
        answer = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configs)])
    assert [(error[0], error[1]) for error in answer.topic_errors] == [(topic, 0)]


async def leader_of(bootstrap: str, topic: str) -> int:
    """Return the node that leads partition 0, once there is one: brokers learn of a new topic one by one."""
    async with admin_client(bootstrap) as admin:
        while True:
            (described,) = await admin.describe_topics([topic])
            if described["partitions"] and (leader := described["partitions"][0]["leader"]) >= 0:
                return leader
            await asyncio.sleep(0.05)


async def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all") as producer:
        await asyncio.gather(*[await producer.send(topic, value, key=value) for value in values])


async def consume(bootstrap: str, topic: str, partition: int = 0) -> list[bytes]:
    """Return all values now in the partition, in order."""
    at = TopicPartition(topic, partition)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([at])
        end = (await consumer.end_offsets([at]))[at]
        found: list[bytes] = []
        while await consumer.position(at) < end:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                found += [record.value for record in records]
        return found


def run(scenario: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, PATIENCE))


def new_topic() -> str:
    return f"test-{uuid4().hex[:12]}"


def test_idempotent_producer_and_consumer_group_round_trip(kafka: KafkaCluster) -> None:
    topic, values = new_topic(), [b"%d" % number for number in range(500)]

    async def scenario() -> None:
        await create_topic(kafka.bootstrap, topic, partitions=3)
        await produce(kafka.bootstrap, topic, values)
        seen: list[bytes] = []
        async with AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap,
            group_id=f"group-{topic}",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        ) as consumer:
            while len(seen) < len(values):
                batches = await consumer.getmany(timeout_ms=1000)
                seen += [record.value for records in batches.values() for record in records]
            await consumer.commit()
            committed = [await consumer.committed(TopicPartition(topic, number)) for number in range(3)]
        assert sorted(seen) == sorted(values)
        assert sum(offset or 0 for offset in committed) == len(values)

    run(scenario())


def test_transactions_are_available(kafka: KafkaCluster) -> None:
    topic = new_topic()

    async def scenario() -> None:
        await create_topic(kafka.bootstrap, topic)
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic) as producer:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"committed")
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"aborted")
            await producer.abort_transaction()
        async with AIOKafkaConsumer(
            topic,
            bootstrap_servers=kafka.bootstrap,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        ) as consumer:
            assert (await consumer.getone()).value == b"committed"
            assert not await consumer.getmany(timeout_ms=500)

    run(scenario())


def test_compaction_settings_are_accepted_and_kept(kafka: KafkaCluster) -> None:
    topic = new_topic()
    expected = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "1000"}

    async def scenario() -> None:
        await create_topic(kafka.bootstrap, topic, configs=expected)
        async with admin_client(kafka.bootstrap) as admin:
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        (resource,) = answer.resources
        kept = {entry[0]: entry[1] for entry in resource[4]}
        assert {name: kept[name] for name in expected} == expected

    run(scenario())


def test_topics_are_not_created_by_use(kafka: KafkaCluster) -> None:
    topic = new_topic()

    async def scenario() -> None:
        async with admin_client(kafka.bootstrap) as admin:
            await admin.describe_topics([topic])
            assert topic not in await admin.list_topics()

    run(scenario())


@pytest.mark.slow
def test_restart_keeps_addresses_and_data(kafka_cluster_factory: ClusterFactory) -> None:
    cluster, topic = kafka_cluster_factory(), new_topic()
    bootstrap = cluster.bootstrap

    async def scenario() -> None:
        await create_topic(bootstrap, topic)
        await produce(bootstrap, topic, [b"before the kill"])
        await asyncio.to_thread(cluster.kill, 0)
        assert cluster.running == ()
        await asyncio.to_thread(cluster.start, 0)
        await produce(bootstrap, topic, [b"before the stop"])
        await asyncio.to_thread(cluster.stop, 0)
        assert cluster.running == ()
        await asyncio.to_thread(cluster.start_all)
        assert cluster.bootstrap == bootstrap
        assert await consume(bootstrap, topic) == [b"before the kill", b"before the stop"]

    run(scenario())


@pytest.mark.slow
def test_three_brokers_accept_acks_all_writes_after_one_is_killed(
    kafka_cluster_factory: ClusterFactory,
) -> None:
    cluster, topic = kafka_cluster_factory(brokers=3), new_topic()
    values = [b"%d" % number for number in range(300)]

    async def scenario() -> None:
        await create_topic(cluster.bootstrap, topic, replicas=3)
        leader = await leader_of(cluster.bootstrap, topic)
        async with AIOKafkaProducer(
            bootstrap_servers=cluster.bootstrap, enable_idempotence=True, acks="all", linger_ms=1
        ) as producer:
            for value in values[:100]:
                await producer.send_and_wait(topic, value)
            in_flight = [await producer.send(topic, value) for value in values[100:200]]
            await asyncio.to_thread(cluster.kill, leader)
            await asyncio.gather(*in_flight)
            for value in values[200:]:
                await producer.send_and_wait(topic, value)
        assert leader not in cluster.running
        assert len(cluster.running) == cluster.brokers - 1
        assert await consume(cluster.bootstrap, topic) == values
        await asyncio.to_thread(cluster.start, leader)
        assert len(cluster.running) == cluster.brokers
        assert await consume(cluster.bootstrap, topic) == values

    run(scenario())


@pytest.mark.usefixtures("kafka_cluster_factory")
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal and pidfd exist only on Linux")
def test_brokers_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "import sys, threading, pathlib\n"
        "from tests.kafka.cluster import KafkaCluster\n"
        "cluster = KafkaCluster(pathlib.Path(sys.argv[1]))\n"
        "starter = threading.Thread(target=cluster.start_all)\n"
        "starter.start()\n"
        "starter.join()\n"
        "cluster.wait_ready()\n"
        "print(cluster.pid(0), flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            broker = os.pidfd_open(int(parent.stdout.readline()))
        finally:
            parent.send_signal(signal.SIGKILL)
    try:
        readable, _, _ = select.select([broker], [], [], PATIENCE)
        assert readable == [broker]
    finally:
        os.close(broker)


def test_a_broker_that_fails_to_start_is_reported_with_its_log(kafka_cluster_factory: ClusterFactory) -> None:
    with pytest.raises(KafkaError, match=r"(?s)node 0 exited with status 1 .*no\.such\.Reporter"):
        kafka_cluster_factory(cluster_overrides={"metric.reporters": "no.such.Reporter"})


def test_settings_that_kafka_refuses_are_reported_with_its_log(kafka_cluster_factory: ClusterFactory) -> None:
    with pytest.raises(KafkaError, match=r"(?s)could not format its storage.*num\.io\.threads"):
        kafka_cluster_factory(cluster_overrides={"num.io.threads": "none"})


def test_clusters_never_share_a_port(tmp_path: Path) -> None:
    clusters = [KafkaCluster(tmp_path / str(number), brokers=3) for number in range(10)]
    try:
        addresses = [address for cluster in clusters for address in cluster.bootstrap.split(",")]
        assert len(set(addresses)) == 30
    finally:
        for cluster in clusters:
            cluster.close()


def fake_tools(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put only these shell scripts on the PATH."""
    directory.mkdir()
    for name, body in scripts.items():
        tool = directory / name
        tool.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("TIDEMARK_KAFKA_CACHE", str(directory.with_name("cache")))


JAVA_8 = "echo 'java version \"1.8.0_402\"' >&2"
JAVA_17 = "echo 'openjdk version \"17.0.15\" 2025-04-15' >&2"


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        ({}, "no java"),
        ({"java": JAVA_8}, "needs Java 17 or newer and the java found is version 8"),
        ({"java": "exit 1"}, "does not run"),
        ({"java": JAVA_17}, "no mvn"),
        ({"java": JAVA_17, "mvn": "echo '[ERROR] no route to host'; exit 1"}, "no route to host"),
        ({"java": JAVA_17, "mvn": "exit 0"}, "copied no Kafka broker"),
    ],
)
def test_the_reason_why_kafka_is_unavailable_is_reported(
    scripts: dict[str, str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tools(tmp_path / "bin", monkeypatch, **scripts)
    found = unavailable_reason()
    assert found is not None
    assert reason in found


def test_artefacts_are_resolved_once_by_callers_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    maven = (
        f"echo called >> '{calls}'\n"
        'for argument; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done\n'
        '/bin/mkdir -p "$out" && : > "$out/kafka_2.13-0.jar"'
    )
    fake_tools(tmp_path / "bin", monkeypatch, mvn=maven)
    together = threading.Barrier(4)

    def resolve(_: int) -> Path:
        together.wait(PATIENCE)
        return resolve_artefacts()

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(resolve, range(4)))
    assert found == {artefact_directory()}
    assert calls.read_text(encoding="utf-8").splitlines() == ["called"]
    assert [path.name for path in found.pop().iterdir()] == ["kafka_2.13-0.jar"]
    assert not list(tmp_path.glob("cache/.*"))
