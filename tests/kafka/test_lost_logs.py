"""Logs that lose records: a topic that begins again, retention while nobody reads, a changelog that is recreated."""

import asyncio
import json
import time
import urllib.error
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

from models.instants import format_instant
from streams.kafka.topics import changelog_name
from streams.tools.accept_loss import accept_loss
from tests.kafka.cluster import KafkaCluster
from tests.support.live import LiveWorker, Rig, ToSend

SETTLED = {"clock": "wall", "clock_grace": "0s", "tick_interval": "200ms"}


def order(name: str, customer: str = "c1") -> ToSend:
    now = time.time_ns() // 1_000_000
    fields = {"order_id": name, "customer_id": customer, "amount": "60.00", "occurred_at": format_instant(now)}
    return ToSend("orders", customer.encode(), json.dumps({"type": "order.placed", **fields}).encode())


def counted(rig: Rig) -> dict[str, int]:
    return {name: len(customer.ledger.times) for name, customer in rig.state().customers.items()}


def admin(rig: Rig, act: "object") -> None:
    async def run() -> None:
        client = AIOKafkaAdminClient(bootstrap_servers=rig.settings.broker)
        await client.start()
        try:
            await act(client)  # type: ignore[operator]
        finally:
            await client.close()

    asyncio.run(run())


def recreate(rig: Rig, name: str, configs: dict[str, str] | None = None) -> None:
    """Delete a topic and create it again as soon as the broker lets us."""

    async def act(client: AIOKafkaAdminClient) -> None:
        await client.delete_topics([name])
        async with asyncio.timeout(30):
            while True:
                made = await client.create_topics([NewTopic(name, 1, 1, topic_configs=configs)])
                if not made.topic_errors[0][1]:
                    return
                await asyncio.sleep(0.1)

    admin(rig, act)


def cut(rig: Rig, before: int) -> None:
    """Delete the orders before an offset, as retention does."""
    tp = TopicPartition(rig.settings.topic("orders"), 0)
    admin(rig, lambda client: client.delete_records({tp: RecordsToDelete(before_offset=before)}))


def forget_changelog(rig: Rig) -> None:
    """Have the rig read the changelog from its beginning."""
    rig._changelog_read.clear()
    rig._rows.clear()
    rig.fences.clear()


def log_lost(worker: LiveWorker) -> float:
    return sum(worker.metrics().get("tidemark_log_lost", {}).values())


def why_not_ready(worker: LiveWorker) -> str:
    with pytest.raises(urllib.error.HTTPError) as refused:
        worker.get("/ready")
    return refused.value.read().decode()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_a_topic_that_begins_again_stops_time_until_the_loss_is_accepted(
    kafka: KafkaCluster, tmp_path: Path, running: bool
) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.produce([[order(f"o{number}") for number in range(5)]])
        rig.wait(lambda: counted(rig) == {"c1": 5}, "five orders count", 40)
        if not running:
            rig.stop_worker(worker)
        recreate(rig, rig.settings.topic("orders"))
        rig._sent.clear()  # where the log ends now
        rig.produce([[order("new0"), order("new1", "c2")]])
        if not running:
            worker = rig.start_worker()
        rig.wait(lambda: log_lost(worker) == 1, "the loss is shown", 60)
        shown = time.time_ns() // 1_000_000
        assert not worker.ready
        assert "accept-loss orders" in why_not_ready(worker)
        rig.produce([[order(f"more{number}", "c3") for number in range(9)]])  # beyond what was applied of the old log
        time.sleep(1.5)
        assert not rig.has_reached(shown + 500)
        assert counted(rig) == {"c1": 5}
        if not running:  # the loss is remembered
            rig.stop_worker(worker)
            worker = rig.start_worker()
            rig.wait(lambda: log_lost(worker) == 1, "the loss is still shown", 60)
        assert "ends at offset 2, but the records before 5 are applied" in "".join(each.log for each in rig.workers)

        asyncio.run(accept_loss(rig.settings, "orders"))
        rig.wait(lambda: counted(rig) == {"c1": 6, "c2": 1, "c3": 9}, "the orders of the new log count", 40)
        rig.wait(lambda: rig.has_reached(shown + 1_500), "time goes on", 40)
        assert log_lost(worker) == 0
        rig.wait(lambda: worker.ready, "it is ready", 40)


def test_records_that_retention_took_are_counted_and_named(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.produce([[order(f"o{number}") for number in range(5)]])
        rig.wait(lambda: counted(rig) == {"c1": 5}, "five orders count", 40)
        rig.stop_worker(worker)
        rig.produce([[order(f"gone{number}") for number in range(7)]])
        cut(rig, 12)
        rig.produce([[order("kept", "c2")]])
        worker = rig.start_worker()
        rig.wait(lambda: counted(rig) == {"c1": 5, "c2": 1}, "what is left counts", 40)
        assert worker.metrics()["tidemark_lost_records_total"][("topic", "orders"),] == 7
        assert "7 records are lost" in worker.log
        assert "The log begins at offset 12, the records before 5 are applied" in worker.log
        rig.wait(lambda: worker.ready, "it is ready", 40)


@pytest.mark.parametrize("whole", [True, False], ids=["inputs are whole", "inputs are cut"])
def test_the_state_is_rebuilt_if_its_changelog_begins_again_or_the_worker_ends(
    kafka: KafkaCluster, tmp_path: Path, whole: bool
) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.produce([[order("first", "c2"), *(order(f"o{number}") for number in range(5))]])
        rig.wait(lambda: counted(rig) == {"c1": 5, "c2": 1} and worker.ready, "six orders count", 40)
        if not whole:
            cut(rig, 2)
        recreate(rig, changelog_name(rig.settings), {"cleanup.policy": "compact"})
        forget_changelog(rig)
        rig.produce([[order("more")]])
        if whole:
            # The worker may notice while it writes: then it ends, and its supervisor starts it again.
            rig.supervised = True
            rig.wait(lambda: counted(rig) == {"c1": 6, "c2": 1}, "the state is rebuilt", 60)
            assert "was deleted or lost records" in worker.log or "the state is rebuilt" in worker.log
        else:
            rig.wait(lambda: not worker.running, "the worker ends", 60)
            assert "docs/runbook.md#a-changelog-that-lost-records" in worker.log


def test_a_worker_ends_if_partitions_are_added(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "it is ready", 40)

        async def act(client: AIOKafkaAdminClient) -> None:
            await client.create_partitions({rig.settings.topic("orders"): NewPartitions(2)})

        admin(rig, act)
        rig.wait(lambda: not worker.running, "the worker ends", 60)
        assert f"{rig.settings.topic('orders')}: found 2 partitions, allowed are 1" in worker.log
