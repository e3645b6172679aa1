"""State that is damaged, in the changelog and on disk."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from aiokafka import AIOKafkaProducer

from models.customer.state import ROW_VERSION
from streams.partition.fencing import Claim
from streams.partition.state import CLAIM_KEY
from streams.tools.explain import latest_row
from tests.kafka.cluster import KafkaCluster
from tests.support.live import Rig, ToSend
from tests.support.process import LiveWorker

LAST_EPOCH = Claim(2**64 - 1, b"garbage!")


class Row(NamedTuple):
    key: bytes
    value: bytes
    headers: Sequence[tuple[str, bytes]] = ()


def order(name: str, number: int) -> ToSend:
    fields = {"order_id": f"{name}-{number}", "customer_id": name, "amount": "60.00"}
    fields["occurred_at"] = f"2026-03-{1 + number:02}T10:00:00Z"
    return ToSend("orders", name.encode(), json.dumps({"type": "order.placed", **fields}).encode())


def write(rig: Rig, rows: Iterable[Row]) -> None:
    """Append rows to partition 0 of the changelog."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=rig.settings.broker) as producer:
            for row in rows:
                topic = rig.settings.topic(rig.changelog)
                await producer.send_and_wait(topic, row.value, key=row.key, headers=list(row.headers), partition=0)

    asyncio.run(send())


def dead_letters(rig: Rig) -> list[tuple[bytes | None, bytes | None, str, str]]:
    """Return (key, value, reason, topic) of the dead letters."""
    letters = [(record, dict(record.headers)) for record in rig.read("dead-letters")["dead-letters"]]
    return [
        (record.key, record.value, headers["reason"].decode(), headers["topic"].decode()) for record, headers in letters
    ]


def applied(rig: Rig, worker: LiveWorker) -> bool:
    return worker.ready and not rig.backlog()


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_damaged_rows_of_the_changelog_are_dead_letters_and_the_rows_before_them_count(
    kafka: KafkaCluster, tmp_path: Path, store: str
) -> None:
    if store == "rocksdb":
        pytest.importorskip("rocksdict", reason="the rocksdb extra is not installed")
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, clock="event", store=store) as rig:
        worker = rig.start_worker()
        rig.produce([[order(name, 1) for name in ("ann", "bob", "eve")]])
        rig.wait(lambda: applied(rig, worker), "the orders are applied")
        rig.stop_worker(worker)
        before = rig.state().rows

        garbage = [
            Row(b"ann", b"short"),
            Row(b"bob", before["bob"], [("owner", b"no claim")]),
            Row(b"eve", before["eve"], LAST_EPOCH.headers),
            Row(b"\xff", b'{"customer_id": "c9"}'),
            Row(b"\0progress/0", b"\x93"),
        ]
        claim = Row(CLAIM_KEY + b"0", LAST_EPOCH.encoded, LAST_EPOCH.headers)  # the next claim writes over it
        write(rig, [*garbage, claim])
        assert asyncio.run(latest_row(rig.settings, "ann")) == before["ann"]
        worker.revive()
        rig.wait(lambda: worker.ready and len(dead_letters(rig)) == len(garbage), "the damaged rows are dead letters")
        changelog = rig.settings.topic(rig.changelog)
        assert dead_letters(rig) == [(row.key, row.value, "damaged_row", changelog) for row in garbage]
        assert worker.log.count("a damaged row of the changelog becomes a dead letter") == len(garbage)
        assert f"[topic={changelog} partition=0 offset=" in worker.log
        assert "struct.error" not in worker.log

        # They are written over: the next start finds nothing, and the customers go on from where they were.
        rig.produce([[order("ann", 2)]])
        rig.wait(lambda: applied(rig, worker), "the next order is applied")
        worker.kill()
        worker.revive()
        rig.produce([[order("bob", 2)]])
        rig.wait(lambda: applied(rig, worker), "an order after the restart is applied")
        assert len(dead_letters(rig)) == len(garbage)
        customers = rig.state().customers
        assert {name: len(customer.ledger.times) for name, customer in customers.items()} == {
            "ann": 2,
            "bob": 2,
            "eve": 1,
        }
        assert not any(fence.stale for fence in rig.fences.values())


def test_a_row_of_a_newer_release_ends_the_worker_before_it_is_ready(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, clock="event") as rig:
        worker = rig.start_worker()
        rig.produce([[order("ann", 1)]])
        rig.wait(lambda: applied(rig, worker), "the order is applied")
        rig.stop_worker(worker)
        newer = Claim(rig.fences[0].holder.epoch + 1, b"newer-01")
        write(rig, [Row(b"ann", bytes([ROW_VERSION + 1]) + rig.state().rows["ann"][1:], newer.headers)])
        rig.produce([[order("ann", 2)]])
        written = rig.end(rig.changelog)

        another = rig.start_worker()
        rig.wait(lambda: not another.running, "it ends")
        assert another._child.poll() == 1
        (line,) = [line for line in another.log.splitlines() if "the worker cannot go on" in line]
        assert f"partition 0: found a row of version {ROW_VERSION + 1} in the changelog" in line
        assert "NewerRows" not in another.log, "the log has the error a second time"
        assert rig.end(rig.changelog) == written, "it has decided about nothing"


def test_damaged_rows_on_disk_are_built_again_from_the_changelog(kafka: KafkaCluster, tmp_path: Path) -> None:
    pytest.importorskip("rocksdict", reason="the rocksdb extra is not installed")
    names = [f"c{number:04}" for number in range(2_000)]
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, clock="event", store="rocksdb") as rig:
        worker = rig.start_worker()
        rig.produce([[order(name, 1) for name in names]])
        rig.wait(lambda: applied(rig, worker), "the orders are applied")
        rig.stop_worker(worker)
        worker.revive()
        rig.wait(lambda: applied(rig, worker), "it has opened the rows again, and so written them to a table")
        rig.stop_worker(worker)

        (table,) = tmp_path.glob("data-0/**/state-0/*.sst")
        with table.open("r+b") as file:
            file.seek(table.stat().st_size // 2)
            file.write(b"damaged!" * 8)
        worker.revive()
        rig.wait(lambda: applied(rig, worker), "it is ready again")
        (line,) = [line for line in worker.log.splitlines() if "is built again" in line]
        assert " WARNING " in line
        assert "state-0 is damaged (Corruption: block checksum mismatch" in line
        tiers = worker.metrics()["tidemark_tier_customers"]
        assert sum(tiers.values()) == len(names)
        rig.produce([[order(name, 2) for name in names]])
        rig.wait(lambda: applied(rig, worker), "more orders are applied")
        assert {len(customer.ledger.times) for customer in rig.state().customers.values()} == {2}
