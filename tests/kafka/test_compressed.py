"""Compressed orders, as producers of every kind send them, and batches that hold far more than their size says."""

import asyncio
import json
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from models.errors import Reason
from models.instants import format_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.live import LiveWorker, Rig, ToSend

CODECS = ("gzip", "snappy", "lz4", "zstd")
AT = 1_767_225_600_000
#: A batch holds so many records of a megabyte, in less than a megabyte.
LARGE = 300


def _order(name: str) -> ToSend:
    fields = {"order_id": name, "customer_id": name, "amount": "60.00", "occurred_at": format_instant(AT)}
    return ToSend("orders", name.encode(), json.dumps({"type": "order.placed", **fields}).encode())


async def _send_large(broker: str, topic: str) -> None:
    options = {"compression_type": "zstd", "max_batch_size": 2 * LARGE * 1_000_000, "max_request_size": 1_000_000}
    async with AIOKafkaProducer(bootstrap_servers=broker, **options) as producer:
        batch = producer.create_batch()
        for _ in range(LARGE):
            assert batch.append(timestamp=AT, key=b"large", value=bytes(1_000_000))
        await (await producer.send_batch(batch, topic, partition=0))


def _peak_bytes(worker: LiveWorker) -> int:
    """Return the most memory that a worker has had."""
    status = Path(f"/proc/{worker.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1_024


@pytest.mark.parametrize("codec", CODECS)
def test_orders_of_every_compression_count(kafka: KafkaCluster, tmp_path: Path, codec: str) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1) as rig:
        rig.start_worker()
        names = {f"{codec}{number}" for number in range(50)}
        rig.produce([[_order(name) for name in sorted(names)]], compression_type=codec)
        rig.wait(lambda: set(rig.state().customers) == names, "every order counts", 40)
        assert not rig.read("dead-letters")["dead-letters"]


def test_a_batch_that_decompresses_to_hundreds_of_megabytes_is_one_dead_letter(
    kafka: KafkaCluster, tmp_path: Path
) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1) as rig:
        worker = rig.start_worker()
        rig.produce([[_order("before")]])
        rig.wait(lambda: rig.state().customers.keys() == {"before"}, "the order before it counts", 40)
        peak = _peak_bytes(worker)
        asyncio.run(_send_large(kafka.bootstrap, rig.settings.topic("orders")))
        rig.produce([[_order("after")]])
        rig.wait(lambda: rig.state().customers.keys() == {"before", "after"}, "the order after it counts", 40)
        assert _peak_bytes(worker) - peak < 100_000_000
        assert worker.ready
        (letter,) = rig.read("dead-letters")["dead-letters"]
        headers = dict(letter.headers)
        assert headers["reason"].decode() == Reason.TOO_LARGE.value
        assert (headers["offset"], letter.value) == (str(LARGE).encode(), b"")
        assert f"offsets 1 to {LARGE}" in headers["detail"].decode()
