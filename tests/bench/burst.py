"""Memory in a burst: many more events at once than a worker can process, and a broker that freezes for a while.

A customer's row keeps each order in 24 bytes, so rows keep growing. They are shown separately: any other growth would
be events waiting in the worker. Back-pressure prevents that. A worker takes a batch only after the previous one is
acknowledged, so a backlog stays on the broker, and a broker that does not answer stops the intake.
"""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import orjson
from aiokafka import AIOKafkaProducer

from streams.demo.broker import EmbeddedBroker
from tests.bench.latency import applied
from tests.bench.population import POLICY
from tests.bench.recovering import resident_bytes
from tests.bench.report import Report, Scale
from tests.bench.workload import START_MS
from tests.support.live import Rig
from tests.support.process import LiveWorker

_WINDOW_MS = 90 * 86_400_000
#: Duration (s) of the freeze: less than a session.
_FREEZE_S = 2.0
_MIB = 2**20
_PATIENCE_S = 3_600.0


class _Sample(NamedTuple):
    """The number of orders applied, the size of customers' rows (bytes), the resident memory (bytes)."""

    applied: int
    rows: int
    resident: int

    @property
    def other(self) -> int:
        return self.resident - self.rows


def run(scale: Scale) -> list[Report]:
    """Measure once, with five times the orders of the scale and a tenth of its customers."""
    count, customers = 5 * scale.orders, max(1, scale.customers // 10)
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedBroker() as broker,
        Rig(broker.address, Path(name), policy=str(POLICY), clock="event", tick_interval="1s") as rig,
    ):
        worker = rig.start_worker()
        rig.wait(lambda: worker.metrics().get("tidemark_ready", {}).get(()) == 1.0, "the worker is ready")
        asyncio.run(_produce(rig, count, customers))
        samples = _watch(rig, worker, 0, count // 2)
        frozen = _freeze(broker, worker)
        samples += _watch(rig, worker, count // 2, count)
        rig.stop_worker(worker)
    full = next(sample for sample in samples if sample.applied >= count // 4)
    most = max(sample.other for sample in samples if sample.applied >= full.applied)
    shown = [
        [f"{sample.applied:,}", *(f"{size / _MIB:,.0f}" for size in (sample.resident, sample.rows, sample.other))]
        for sample in _tenths(samples, count)
    ]
    shown.append(["growth after a quarter", "", "", f"{most / full.other - 1:+.1%}"])
    shown.append([f"growth while the broker was frozen for {_FREEZE_S:.0f} s", f"{frozen / _MIB:+,.1f}", "", ""])
    figures = {"orders": count, "customers": customers, "samples": [list(sample) for sample in samples]}
    figures |= {"growth": most / full.other - 1, "growth_while_still_bytes": frozen}
    columns = ["applied", "resident, MiB", "rows, MiB", "all but rows, MiB"]
    return [Report(f"Burst: {count:,} orders at once, {customers:,} customers", columns, shown, figures)]


async def _produce(rig: Rig, count: int, customers: int) -> None:
    """Produce all orders, as fast as the broker accepts them."""
    producer = AIOKafkaProducer(bootstrap_servers=rig.settings.broker, max_batch_size=900_000)
    await producer.start()
    topic, records = rig.settings.topic("orders"), _orders(count, customers)
    try:
        while some := list(islice(records, 8_000)):
            for number in range(rig.settings.partitions):
                batch = producer.create_batch()
                for customer, value in some:
                    if customer % rig.settings.partitions == number:
                        added = batch.append(timestamp=None, key=b"c%d" % customer, value=value)
                        assert added is not None, "a batch of orders does not fit; make it smaller"
                if batch.record_count():
                    await (await producer.send_batch(batch, topic, partition=number))
    finally:
        await producer.stop()


def _orders(count: int, customers: int) -> Iterator[tuple[int, bytes]]:
    """Yield (customer, value): each customer orders at even intervals, and a window holds a tenth of the orders."""
    step = max(1.0, 10 * _WINDOW_MS / count)
    for index in range(count):
        customer = index % customers
        value = {"type": "order.placed", "order_id": f"o{index}", "customer_id": f"c{customer}", "amount": "9.90"}
        yield customer, orjson.dumps({**value, "occurred_at": START_MS + int(index * step)})


def _watch(rig: Rig, worker: LiveWorker, before: int, until: int) -> list[_Sample]:
    """Return samples until `until` orders are applied; `before` were applied at the start."""
    samples: list[_Sample] = []

    def enough() -> bool:
        metrics = worker.metrics()
        now, rows = int(applied(metrics)), int(sum(metrics.get("tidemark_state_bytes", {}).values()))
        samples.append(_Sample(max(before, now), rows, resident_bytes(worker.pid)))
        return now >= until

    rig.wait(enough, "the burst is processed", timeout_s=_PATIENCE_S)
    return samples


def _freeze(broker: EmbeddedBroker, worker: LiveWorker) -> int:
    """Freeze the broker in the middle of the burst; return the worker's growth (bytes) meanwhile."""
    if broker.pid is None:
        raise RuntimeError("the broker is not running")
    before = most = resident_bytes(worker.pid)
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        ends = time.monotonic() + _FREEZE_S
        while time.monotonic() < ends:
            most = max(most, resident_bytes(worker.pid))
            time.sleep(0.05)  # the pause itself is what is measured
    finally:
        os.kill(broker.pid, signal.SIGCONT)
    return most - before


def _tenths(samples: list[_Sample], count: int) -> list[_Sample]:
    """Return the first sample after each tenth of the orders."""
    return [
        next((sample for sample in samples if sample.applied >= count * tenth // 10), samples[-1])
        for tenth in range(1, 11)
    ]
