"""Replay of topics on Apache Kafka: ranges cut by retention, erased customers."""

import asyncio
import json
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from models.events import Topic
from models.instants import parse_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.histories import contents, error_line, made_up, options, tidemark, written
from tests.support.live import Rig, ToSend, lines

RANGE = ("--from", "2026-01-01T00:00:00Z", "--policy", "demo", "--out")


def load(rig: Rig, directory: Path, paths: dict[Topic, Path]) -> None:
    for topic, path in paths.items():
        done = tidemark(directory, "load", path, "--topic", topic.label, **rig.environment)
        assert done.returncode == 0, done.stderr


def test_a_range_cut_by_retention_is_refused_and_the_rest_is_read(kafka: KafkaCluster, tmp_path: Path) -> None:
    events = made_up(seed=6, customers=30)
    for topic in (Topic.ORDERS, Topic.INTERACTIONS):
        events[topic] = sorted(
            (each for each in events[topic] if "occurred_at" in each), key=lambda each: str(each["occurred_at"])
        )
    paths = written(tmp_path, events)
    with Rig(kafka.bootstrap, tmp_path, partitions=2) as rig:
        load(rig, tmp_path, paths)
        done = tidemark(tmp_path, "replay", *RANGE, "topics", **rig.environment)
        assert done.returncode == 0, done.stderr
        done = tidemark(tmp_path, "replay", *options(paths), *RANGE, "files")
        assert done.returncode == 0, done.stderr
        topics, files = contents(tmp_path / "topics"), contents(tmp_path / "files")
        for name in ("tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "dead-letters.jsonl"):
            assert topics[name] == files[name], name

        name = rig.settings.topic("orders")
        asyncio.run(delete_before(kafka.bootstrap, TopicPartition(name, 1), 200))
        line = error_line(tidemark(tmp_path, "replay", *RANGE, "none", **rig.environment))
        left = rig.read("orders")["orders"]
        first = min((record for record in left if record.partition == 1), key=lambda record: record.offset)
        assert first.offset == 200
        assert line.startswith(
            f"{name}[1]: retention has cut a part of the range; the first record left is offset 200 of"
        )
        asked = ("--offsets", "orders:1=100..300", "--policy", "demo", "--out", "none")
        line = error_line(tidemark(tmp_path, "replay", *asked, **rig.environment))
        assert line == f"{name}[1]: offset 100 is cut by retention; 200 is the first left"
        assert not (tmp_path / "none").exists()

        since = json.loads(first.value)["occurred_at"]
        later = ("--from", since, "--policy", "demo", "--out", "later")
        done = tidemark(tmp_path, "replay", *later, **rig.environment)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "later" / "summary.json").read_bytes())
        kept = [
            each for each in events[Topic.ORDERS] if parse_instant(str(each["occurred_at"])) >= parse_instant(since)
        ]
        assert summary["events"]["orders"] == len(kept)


async def delete_before(broker: str, tp: TopicPartition, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


def test_an_erased_customer_is_not_decided(kafka: KafkaCluster, tmp_path: Path) -> None:
    def order(name: str, number: int, at: str) -> ToSend:
        placed = {"type": "order.placed", "order_id": f"{name}{number}", "customer_id": name, "occurred_at": at}
        return ToSend("orders", name.encode(), json.dumps({**placed, "amount": "90.00"}).encode())

    past, future = "2026-01-10T00:00:00Z", "2200-01-01T00:00:00Z"
    with Rig(kafka.bootstrap, tmp_path, partitions=2) as rig:
        rig.produce([[order(name, 1, past) for name in ("ann", "bob", "cat")]])
        rig.produce([[ToSend("customers", name, None) for name in (b"ann", b"bob")]])
        rig.produce([[order("bob", 2, future)]])
        done = tidemark(tmp_path, "replay", "--until", "2200-06-01T00:00:00Z", *RANGE, "out", **rig.environment)
        assert done.returncode == 0, done.stderr
    changes = lines(tmp_path / "out" / "tier-changes.jsonl")
    entered = {change["customer_id"]: change["effective_at"] for change in changes if change["direction"] == "enter"}
    assert entered == {"cat": past, "bob": future}
    assert b"ann" not in b"".join(contents(tmp_path / "out").values())
