"""The speed at which a worker recovers customers from the changelog, compared with stock Faust on the same records."""

import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.demo.broker import free_port
from streams.demo.child_process import Child
from tests.bench.brokers import broker, kind
from tests.bench.population import POLICY, rows
from tests.bench.report import Report, Scale, ratio
from tests.support.live import Rig
from tests.support.process import ROOT

#: Minimum customers per second, and minimum multiple of stock Faust's.
TARGET, TARGET_RATIO = 100_000, 10
PARTITIONS = 4
#: Maximum number of rows for stock Faust, which would take minutes for more.
_STOCK_AT_MOST = 100_000
_PATIENCE_S = 900


def run(scale: Scale) -> list[Report]:
    """Measure with ten times the customers of the scale, and with up to 100,000 for both in turn."""
    many, few = 10 * scale.customers, min(_STOCK_AT_MOST, scale.customers)
    with changelog(many) as rig:
        ours = [_rate(recovered(rig, "tidemark")) for _ in range(scale.runs)]
    with changelog(few) as rig:
        pairs = [[_rate(recovered(rig, kind)) for kind in ("tidemark", "stock")] for _ in range(scale.runs)]
    beside, stock = ([pair[place] for pair in pairs] for place in (0, 1))
    times = ratio(beside, stock)
    shown = [
        [f"tidemark, {many:,}", f"{statistics.median(ours):,.0f}", f"target: at least {TARGET:,}"],
        [f"tidemark, {few:,}", f"{statistics.median(beside):,.0f}", ""],
        [f"stock Faust, {few:,}", f"{statistics.median(stock):,.0f}", ""],
        ["times stock Faust's", f"{times:.1f}", f"target: at least {TARGET_RATIO}"],
    ]
    figures = {"customers": many, "customers_per_s": ours, "customers_of_both": few, "beside": beside, "stock": stock}
    return [
        Report(
            f"Recovery: customers/s, {kind()}, timers included",
            ["worker, customers", "customers/s", ""],
            shown,
            {**figures, "ratio": times, "target": TARGET, "target_ratio": TARGET_RATIO},
        )
    ]


@contextmanager
def changelog(customers: int, **settings: str) -> Iterator[Rig]:
    """Yield a rig whose changelog holds a row for each of `customers` customers, with five orders each."""
    with (
        tempfile.TemporaryDirectory() as name,
        broker(Path(name)) as address,
        Rig(address, Path(name), partitions=PARTITIONS, policy=str(POLICY), clock="event", **settings) as rig,
    ):
        asyncio.run(_fill(rig, rows(customers)))
        yield rig


def recovered(rig: Rig, kind: str, **settings: str) -> dict[str, Any]:
    """Return the figures of one worker's recovery (`tests.bench.recovering`), and stop the worker.

    Raises RuntimeError with the end of its log if it did not recover.
    """
    target = Path(tempfile.mkdtemp(dir=rig.directory)) / "figures.json"
    own = {"TIDEMARK_DATA_DIR": str(target.parent), "TIDEMARK_WEB_PORT": str(free_port()), "PYTHONPATH": str(ROOT)}
    own |= {f"TIDEMARK_{key.upper()}": value for key, value in settings.items()}
    command = [sys.executable, "-m", "tests.bench.recovering", kind, str(target)]
    with (target.parent / "log").open("ab") as log:
        child = Child(command, log, env=rig.environment | own, cwd=rig.directory)
    try:
        done = lambda: target.exists() or child.poll() is not None  # noqa: E731  # a condition
        rig.wait(done, "the worker has recovered", timeout_s=_PATIENCE_S)
        if not target.exists():
            raise RuntimeError((target.parent / "log").read_text()[-2000:])
        figures: dict[str, Any] = json.loads(target.read_text())
    finally:
        child.stop(20)
    return figures


async def _fill(rig: Rig, records: Iterable[tuple[bytes, bytes]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=rig.settings.broker, max_batch_size=900_000, linger_ms=0)
    await producer.start()
    topic = f"{rig.settings.topic_prefix}{rig.changelog}"
    try:
        source, number = iter(records), 0
        while some := list(islice(source, 2_000)):
            batch = producer.create_batch()
            for key, row in some:
                if batch.append(timestamp=None, key=key, value=row) is None:
                    raise RuntimeError("a batch of rows does not fit; make it smaller")
            await (await producer.send_batch(batch, topic, partition=number % PARTITIONS))
            number += 1
    finally:
        await producer.stop()


def _rate(figures: dict[str, Any]) -> float:
    return float(figures["rows"] / figures["seconds"])
