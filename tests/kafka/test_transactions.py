"""A live worker whose orders are written in transactions: committed, aborted and open ones."""

import asyncio
import json
import time
from pathlib import Path

from aiokafka import AIOKafkaProducer

from models.instants import format_instant
from tests.kafka.cluster import KafkaCluster
from tests.support.live import LiveWorker, Rig


def _order(name: str) -> bytes:
    at = format_instant(time.time_ns() // 1_000_000)
    fields = {"order_id": name, "customer_id": name, "amount": "60.00", "occurred_at": at}
    return json.dumps({"type": "order.placed", **fields}).encode()


def _open(worker: LiveWorker) -> float:
    return sum(worker.metrics().get("tidemark_open_transaction_records", {}).values())


def test_orders_count_only_once_their_transaction_is_committed(kafka: KafkaCluster, tmp_path: Path) -> None:
    with Rig(kafka.bootstrap, tmp_path, partitions=1, session_s=1.0, clock="wall", clock_grace="0s") as rig:
        worker = rig.start_worker()
        topic = f"{rig.settings.topic_prefix}orders"

        async def scenario() -> None:
            async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic) as producer:

                async def send(name: str) -> None:
                    await producer.begin_transaction()
                    await producer.send_and_wait(topic, _order(name), key=name.encode(), partition=0)

                async def until(condition: object, what: str) -> None:
                    await asyncio.to_thread(rig.wait, condition, what, 40)

                await send("aborted")
                await producer.abort_transaction()
                start = time.time_ns() // 1_000_000
                await until(lambda: rig.has_reached(start), "time passes an aborted transaction")
                await send("open")
                await until(lambda: _open(worker) > 0, "the open transaction is shown")
                shown = time.time_ns() // 1_000_000
                await asyncio.sleep(1.5)
                assert not rig.has_reached(shown + 500)
                assert worker.ready
                assert not await asyncio.to_thread(lambda: rig_customers(rig))
                await producer.commit_transaction()
                await until(lambda: rig_customers(rig) == {"open"}, "the committed order counts")
                await until(lambda: _open(worker) == 0 and rig.has_reached(shown + 1_500), "time goes on")

        asyncio.run(scenario())


def rig_customers(rig: Rig) -> set[str]:
    """Return the customers in the state; runs in a thread without a loop."""
    return set(rig.state().customers)
