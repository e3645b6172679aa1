"""A live run for the benchmarks: a backlog on the embedded broker, one worker, and how fast it is worked off."""

import tempfile
import time
from pathlib import Path

from streams.broker import EmbeddedBroker
from streams.replay import FileRecord
from tests.support.live import LiveWorker, Rig, ToSend


def live_rate(records: list[FileRecord]) -> float:
    """Return events/s of one worker over a backlog of orders, from the first batch applied to the last."""
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedBroker() as broker,
        Rig(broker.address, Path(name), clock="event", policy="retail", tick_interval="500ms") as rig,
    ):
        rig.produce([[ToSend("orders", record.key, record.value) for record in records]])
        worker = rig.start_worker()
        first = rig.wait(lambda: _applied(worker), "the first batch")
        started = time.perf_counter()
        rig.wait(lambda: _applied(worker) >= len(records), "the whole backlog", timeout_s=600)
        elapsed = time.perf_counter() - started
        rig.stop_worker(worker)
    return (len(records) - first) / elapsed


def _applied(worker: LiveWorker) -> float:
    samples = worker.metrics().get("tidemark_events_total", {})
    return sum(count for labels, count in samples.items() if ("outcome", "applied") in labels)
