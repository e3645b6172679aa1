"""The time from producing an order to consuming its tier change, at 2,000 orders/s to a worker without a backlog.

It is an open loop: orders are sent by the clock, whether or not anything comes back, and their time counts from when
they were due to be sent. So a stall shows in every order that it delayed.

To answer a fetch, the embedded broker walks all batches of a partition (0.9 µs each). With more partitions the batches
are smaller and more numerous, so two numbers of partitions are measured. Consuming the orders themselves, without a
worker, shows the broker's own share.
"""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.instants import parse_instant
from tests.bench.brokers import broker, kind
from tests.bench.population import POLICY
from tests.bench.report import Report, Scale
from tests.support.live import Rig
from tests.support.process import LiveWorker

RATE = 2_000
#: Maximum latency (ms), median and 99th percentile.
TARGET_P50, TARGET_P99 = 50, 250
_PARTITIONS = (2, 4)
#: The producer's linger (ms): the default of Kafka's own producer since 4.0 (KIP-1030).
_LINGER_MS = 5
#: The longest run (s), and the uncounted warm-up (s) before it.
_LONGEST_S, _WARM_UP_S = 60, 3
_PATIENCE_S = 600.0


class _Change(msgspec.Struct):
    customer_id: str
    effective_at: str

    @property
    def at(self) -> int:
        return parse_instant(self.effective_at)


class _Order(msgspec.Struct):
    customer_id: str
    at: int = msgspec.field(name="occurred_at")


def run(scale: Scale) -> list[Report]:
    """Measure for a minute at most, with the orders of the scale."""
    seconds = min(_LONGEST_S, max(2, scale.orders // RATE))
    shown, figures = [], []
    for partitions in _PARTITIONS:
        for consumed, works in {"tier change": True, "order, without a worker": False}.items():
            runs = [_measure(seconds, scale.customers, partitions, works=works) for _ in range(scale.runs)]
            p50, p90, p99, longest = (
                f"{statistics.median(_quantile(times, share) for times in runs):.0f}" for share in (0.5, 0.9, 0.99, 1)
            )
            shown.append([consumed, str(partitions), p50, p90, p99, longest])
            figures += [
                {"consumed": consumed, "partitions": partitions, "records": len(times)}
                | {f"p{share}_ms": _quantile(times, share / 100) for share in (50, 90, 99, 100)}
                for times in runs
            ]
    title = f"Latency: order produced to record consumed, {RATE:,} orders/s for {seconds} s, {kind()}, ms"
    columns = ["consumed", "partitions", f"p50 (at most {TARGET_P50})", "p90", f"p99 (at most {TARGET_P99})", "longest"]
    return [Report(title, columns, shown, {"runs": figures, "target_ms": [TARGET_P50, TARGET_P99]})]


def _measure(seconds: int, customers: int, partitions: int, *, works: bool) -> list[float]:
    """Return the time (ms) from each order to the change that it caused.

    Without a worker (`works` false), the time is that from the order to its own consumer: a lower bound.
    """
    with (
        tempfile.TemporaryDirectory() as name,
        broker(Path(name)) as address,
        Rig(address, Path(name), partitions=partitions, policy=str(POLICY), tick_interval="1s") as rig,
    ):
        if not works:
            return asyncio.run(_run(rig, None, seconds, customers))
        worker = rig.start_worker()
        rig.wait(lambda: worker.metrics().get("tidemark_ready", {}).get(()) == 1.0, "the worker is ready")
        times = asyncio.run(_run(rig, worker, seconds, customers))
        rig.stop_worker(worker)
    return times


async def _run(rig: Rig, worker: LiveWorker | None, seconds: int, customers: int) -> list[float]:
    """Produce orders, and consume their tier changes; without a worker, the orders themselves. Return times (ms)."""
    producer = AIOKafkaProducer(bootstrap_servers=rig.settings.broker, linger_ms=_LINGER_MS)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=rig.settings.broker, fetch_max_wait_ms=10, auto_offset_reset="earliest"
    )
    await producer.start()
    await consumer.start()
    topic = rig.settings.topic("orders" if worker is None else "tier-changes")
    consumer.assign([TopicPartition(topic, number) for number in range(rig.settings.partitions)])
    sent: dict[tuple[str, int], float] = {}
    times: list[float] = []
    ended = asyncio.Event()
    reading = asyncio.create_task(_consume(consumer, _Order if worker is None else _Change, sent, times, ended))
    try:
        await _produce(producer, rig.settings.topic("orders"), sent, seconds, customers)
        everything = (seconds + _WARM_UP_S) * RATE
        if worker is not None:
            metrics = worker.metrics
            await asyncio.to_thread(rig.wait, lambda: applied(metrics()) >= everything, "all is applied", _PATIENCE_S)
        ended.set()
        await reading
    finally:
        reading.cancel()
        await producer.stop()
        await consumer.stop()
    return times


async def _produce(
    producer: AIOKafkaProducer, topic: str, sent: dict[tuple[str, int], float], seconds: int, customers: int
) -> None:
    """Send orders by the clock. Fill `sent` with the due times of those that count, by customer and instant (ms)."""
    started, counted = time.perf_counter(), _WARM_UP_S * RATE
    for index, (customer, value) in enumerate(_orders((seconds + _WARM_UP_S) * RATE, customers)):
        due = started + index / RATE
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        now = time.time_ns() // 1_000_000
        if index >= counted:
            sent[customer, now] = due
        await producer.send(topic, orjson.dumps({**value, "occurred_at": now}), key=customer.encode())


def applied(metrics: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]) -> float:
    """Return the number of events that a worker has applied, by its metrics."""
    events = metrics.get("tidemark_events_total", {})
    return sum(value for labels, value in events.items() if ("outcome", "applied") in labels)


def _orders(count: int, customers: int) -> Iterator[tuple[str, dict[str, str]]]:
    draw = random.Random(11)
    for index in range(count):
        customer = f"c{draw.randrange(customers)}"
        value = {"type": "order.placed", "order_id": f"o{index}", "customer_id": customer}
        yield customer, {**value, "amount": f"{draw.randrange(1, 200)}.00"}


async def _consume(
    consumer: AIOKafkaConsumer,
    kind_of: type[_Change | _Order],
    sent: dict[tuple[str, int], float],
    times: list[float],
    ended: asyncio.Event,
) -> None:
    """Record when orders, or the changes that they caused, arrive, until none does for a second.

    Changes that time alone caused have other instants, and are ignored.
    """
    decode, idle_since = msgspec.json.Decoder(kind_of).decode, time.perf_counter()
    while not ended.is_set() or time.perf_counter() - idle_since < 1.0:
        fetched = await consumer.getmany(timeout_ms=20)
        now = time.perf_counter()
        for records in fetched.values():
            idle_since = now
            for record in records:
                found = decode(record.value)
                due = sent.pop((found.customer_id, found.at), None)
                if due is not None:
                    times.append((now - due) * 1000)


def _quantile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
