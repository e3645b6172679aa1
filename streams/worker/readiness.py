"""Whether a worker does its work: what `/ready` and the metric `tidemark_ready` say. Nothing is changed here."""

import time
from collections.abc import Callable

import faust

from config.settings import Settings
from streams.faust_ext.memory_store import PartitionStore
from streams.worker.loop import Worker

#: How long (seconds) a partition may get no tick, or make no progress with records unread, before it is stalled.
STALLED_S = 30.0
#: With long tick intervals: so many of them.
_STALLED_TICKS = 5


class Readiness:
    """Asks a Faust app, its store and its worker."""

    def __init__(self, app: faust.App, settings: Settings, store: Callable[[], PartitionStore], worker: Worker) -> None:
        self._app = app
        self._store = store
        self._worker = worker
        self._patience_s = max(STALLED_S, _STALLED_TICKS * settings.tick_interval / 1000)

    def obstacles(self) -> list[str]:
        """Return what keeps the worker from its work, one line each; nothing where it is ready.

        A worker that the group gives no partitions to has nothing to wait for, and is ready.
        """
        if self._app.rebalancing:
            return ["rebalancing"]
        if not self._app.tables.actives_ready:
            return ["recovering"]
        now = time.monotonic()
        ticked_at = self._worker.ticked_at
        stalled = [
            f"partition {number}: no tick was applied for {now - since:.0f} s"
            if (since := ticked_at.get(number)) is not None
            else f"partition {number}: no tick was applied yet"
            for number in sorted(self._store().partitions)
            if now - ticked_at.get(number, float("-inf")) > self._patience_s
        ]
        return stalled + [
            f"{topic}, partition {number}: {lag} records are unread and none was applied for {now - since:.0f} s"
            for (topic, number), (lag, since) in sorted(self._worker.waiting.items())
            if now - since > self._patience_s
        ]
