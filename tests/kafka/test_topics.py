import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from config.settings import PREFIX
from tests.kafka.cluster import KafkaCluster
from tests.support.live import Rig, ToSend, run
from tests.support.process import ROOT

TOPICS = (
    "orders",
    "interactions",
    "customers",
    "campaigns",
    "tier-changes",
    "care-actions",
    "customer-tiers",
    "tier-cutoffs",
    "dead-letters",
)
INTERNAL = ("shop-ticks", "shop-populations", "shop-state-changelog")


class Command:
    """Runs `tidemark topics …` for one prefix on one broker."""

    def __init__(self, broker: str, directory: Path) -> None:
        self.prefix = f"t{uuid.uuid4().hex[:8]}-"
        self.directory = directory
        self.broker = broker
        self.names = [f"{self.prefix}{name}" for name in (*TOPICS, *INTERNAL)]

    def __call__(self, verb: str, **settings: str) -> subprocess.CompletedProcess[str]:
        values = {"broker": self.broker, "app_id": "shop", "topic_prefix": self.prefix, "partitions": "3", **settings}
        env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        env |= {"PYTHONPATH": str(ROOT)} | {f"{PREFIX}{name.upper()}": value for name, value in values.items()}
        command = [sys.executable, "-m", "streams", "topics", verb]
        return subprocess.run(
            command, cwd=self.directory, env=env, capture_output=True, text=True, timeout=60, check=False
        )

    def create_differently(self, *topics: NewTopic) -> None:
        async def create() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
            await admin.start()
            try:
                response = await admin.create_topics(list(topics))
                assert [code for _, code, *_ in response.topic_errors] == [0] * len(topics)
            finally:
                await admin.close()

        run(create())


@pytest.fixture
def topics(kafka: KafkaCluster, tmp_path: Path) -> Command:
    return Command(kafka.bootstrap, tmp_path)


def test_topics_are_created_once_and_pass_the_check(topics: Command) -> None:
    missing = topics("check")
    assert missing.returncode == 1
    assert missing.stderr.splitlines() == sorted(f"{name}: missing" for name in topics.names)

    created = topics("create")
    assert (created.returncode, created.stderr) == (0, "")
    assert created.stdout == f"created {', '.join(topics.names)}\n"

    again = topics("create")
    assert (again.returncode, again.stdout, again.stderr) == (0, "all topics exist\n", "")

    checked = topics("check")
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "all topics are as they should be\n", "")


def test_only_missing_topics_are_created(topics: Command) -> None:
    orders = f"{topics.prefix}orders"
    topics.create_differently(NewTopic(orders, 3, 1, topic_configs={"cleanup.policy": "delete"}))
    assert orders not in topics("create").stdout
    assert topics("check").returncode == 0


def test_a_wrong_number_of_partitions_is_reported(topics: Command) -> None:
    topics.create_differently(NewTopic(f"{topics.prefix}interactions", 2, 1))
    assert topics("create").returncode == 0
    checked = topics("check")
    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr == f"{topics.prefix}interactions: found 2 partitions, allowed are 3\n"

    mismatched = topics("check", partitions="2")
    assert mismatched.returncode == 1
    assert len(mismatched.stderr.splitlines()) == len(topics.names) - 1


def test_missing_and_unexpected_compaction_is_reported(topics: Command) -> None:
    names = {label: f"{topics.prefix}{label}" for label in ("customers", "orders", "customer-tiers")}
    topics.create_differently(
        NewTopic(names["customers"], 3, 1, topic_configs={"cleanup.policy": "delete"}),
        NewTopic(names["orders"], 3, 1, topic_configs={"cleanup.policy": "compact"}),
        NewTopic(names["customer-tiers"], 3, 1, topic_configs={"cleanup.policy": "compact"}),
        NewTopic(f"{topics.prefix}shop-state-changelog", 1, 1, topic_configs={"cleanup.policy": "delete"}),
    )
    assert topics("create").returncode == 0
    checked = topics("check")
    assert checked.returncode == 1
    assert checked.stderr.splitlines() == [
        f"{names['customers']}: found cleanup.policy=delete, allowed is compact",
        f"{names['orders']}: found cleanup.policy=compact, allowed is delete",
        f"{topics.prefix}shop-state-changelog: found 1 partitions, allowed are 3",
        f"{topics.prefix}shop-state-changelog: found cleanup.policy=delete, allowed is compact",
    ]


def test_more_replicas_than_brokers_are_refused_in_one_line(topics: Command) -> None:
    refused = topics("create", replication="3")
    assert refused.returncode == 1
    assert refused.stderr.startswith("tidemark: topic ")
    assert len(refused.stderr.splitlines()) == 1


def test_a_broker_that_does_not_answer_is_reported_in_one_line(topics: Command) -> None:
    for verb in ("create", "check"):
        silent = topics(verb, broker="127.0.0.1:1")
        assert silent.returncode == 1
        errors = [line for line in silent.stderr.splitlines() if line.startswith("tidemark: ")]
        assert errors == ["tidemark: no broker answers at 127.0.0.1:1; is it running, is TIDEMARK_BROKER right?"]
        assert "Traceback" not in silent.stderr


@pytest.mark.slow
def test_the_largest_record_that_the_broker_accepts_fits_into_dead_letters(kafka: KafkaCluster, tmp_path: Path) -> None:
    """Its headers make it larger than the input record. If it did not fit, the worker could never get past it."""
    limit = 1_048_588  # Kafka's default of message.max.bytes: the whole batch, with 61 bytes of its own
    order = {
        "type": "order.placed",
        "order_id": "o",
        "customer_id": "k",
        "occurred_at": "2026-01-01T00:00:00Z",
        "amount": "1.00",
    }
    with Rig(kafka.bootstrap, tmp_path, clock="event") as rig:
        largest = b"x" * (limit - 61 - 16)
        rig.produce(
            [[ToSend("orders", b"k", largest, 0)], [ToSend("orders", b"k", json.dumps(order).encode(), 0)]],
            max_request_size=2 * limit,
        )
        rig.start_worker()
        rig.wait(lambda: not rig.backlog(), "the order behind it is applied")
        (letter,) = rig.read("dead-letters")["dead-letters"]
        assert letter.value == largest
        assert dict(letter.headers)["reason"] == b"too_large"
