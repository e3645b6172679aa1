"""What the topics still hold of a customer after a tombstone, before and after compaction."""

import json
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from models.instants import DAY_MS
from tests.kafka.cluster import KafkaCluster
from tests.support.live import Rig, ToSend, run

pytestmark = pytest.mark.slow

#: A name that nothing else contains.
ANN = "ann-5f1b2c"
ALL = ("tier-changes", "care-actions", "customer-tiers", "dead-letters")


def order(name: str, number: int) -> ToSend:
    event = {"type": "order.placed", "order_id": f"{name}-{number}", "customer_id": name, "amount": "99.00"}
    event["occurred_at"] = f"2026-03-{1 + number:02}T10:00:00Z"
    return ToSend("orders", name.encode(), json.dumps(event).encode())


def test_after_a_tombstone_no_trace_is_written_and_compaction_removes_the_old_ones(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    with Rig(kafka.bootstrap, tmp_path, clock="event") as rig:
        # These topics are compacted at once, so that the test can see it.
        compacted = ("customer-tiers", rig.changelog)
        for topic in compacted:
            at_once = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0", "delete.retention.ms": "0"}
            rig.configure(topic, **{"cleanup.policy": "compact", "max.message.bytes": "4194304", **at_once})
        worker = rig.start_worker()
        profile = {"customer_id": ANN, "birthday": "1990-05-05", "attributes": {"note": f"about {ANN}"}}
        rig.produce([[ToSend("customers", ANN.encode(), json.dumps(profile).encode())]])
        rig.produce([[order(name, n) for n in range(6) for name in (ANN, "bob")]])
        rig.wait(lambda: not rig.backlog(), "the orders are applied")
        before = {topic: len(records) for topic, records in _traces(rig, *ALL, rig.changelog).items()}
        assert before["tier-changes"] > 0
        assert before["customer-tiers"] > 0
        assert before[rig.changelog] > 0

        erased_at = rig.produce([[ToSend("customers", ANN.encode(), None)]])[0].timestamp
        rig.wait(lambda: not rig.backlog(), "the erasure is applied")
        # A restart, later stream time and orders of others do not bring the erased customer back.
        worker.kill()
        rig.start_worker()
        for number in range(6, 20):
            rig.produce([[order("bob", number), *(order(f"other{other}", number) for other in range(40))]])
        rig.wait(lambda: not rig.backlog(), "the others' orders are applied")

        for topic, records in _traces(rig, *ALL, rig.changelog).items():
            later = [record for record in records if record.timestamp >= erased_at]
            # Only tombstones name the customer from here on.
            assert all(record.value is None for record in later), topic
        assert ANN not in rig.state().rows

        def compaction_has_passed() -> bool:
            # Each order opens a new segment, and only closed segments are compacted.
            rig.produce([[order(f"other{other}", 20) for other in range(40)]])
            return not any(record.value for records in _traces(rig, *compacted).values() for record in records)

        rig.wait(compaction_has_passed, "compaction has removed every old row")


def test_dead_letters_are_kept_for_14_days(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Rig(kafka.bootstrap, tmp_path) as rig:
        configs = _configs(rig, "dead-letters")
        assert configs["cleanup.policy"] == "delete"
        assert int(configs["retention.ms"]) == 14 * DAY_MS


def _traces(rig: Rig, *topics: str) -> dict[str, list[ConsumerRecord]]:
    """Return the records that name the customer, in key, value or headers."""
    name = ANN.encode()
    return {
        topic: [
            record
            for record in records
            if name in (record.key or b"")
            or name in (record.value or b"")
            or any(name in value for _, value in record.headers)
        ]
        for topic, records in rig.read(*topics).items()
    }


def _configs(rig: Rig, topic: str) -> dict[str, str]:
    async def describe() -> dict[str, str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=rig.settings.broker)
        await admin.start()
        try:
            resource = ConfigResource(ConfigResourceType.TOPIC, rig.settings.topic(topic))
            (response,) = await admin.describe_configs([resource])
            return {entry[0]: entry[1] for entry in response.resources[0][4]}
        finally:
            await admin.close()

    return run(describe())
