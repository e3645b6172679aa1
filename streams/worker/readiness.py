"""Whether a worker does its work, as `/ready` and the metric `tidemark_ready` show it. Nothing is changed here."""

import time
from collections.abc import Callable

import faust

from config.settings import Settings
from streams.faust_ext.memory_store import PartitionStore
from streams.worker.loop import Worker

#: How long (seconds) a partition may apply no watermark, or none of its unread records, before it counts as stalled.
STALLED_S = 30.0
#: If tick intervals are long, the number of them after which a partition counts as stalled.
_STALLED_TICKS = 5


class Readiness:
    """Asks a Faust app, its store and its worker for the obstacles to their work."""

    def __init__(self, app: faust.App, settings: Settings, store: Callable[[], PartitionStore], worker: Worker) -> None:
        self._app = app
        self._store = store
        self._worker = worker
        self._patience_s = max(STALLED_S, _STALLED_TICKS * settings.tick_interval / 1000)

    def obstacles(self) -> list[str]:
        """Return the obstacles to the worker's work, one line each; none if it is ready.

        A worker without partitions is ready: it has nothing to wait for.
        """
        if self._app.rebalancing:
            return ["rebalancing"]
        if not self._app.tables.actives_ready:
            return ["recovering"]
        now = time.monotonic()
        advanced_at = self._worker.advanced_at
        stalled = [
            f"partition {number}: no tick was applied for {now - since:.0f} s"
            if (since := advanced_at.get(number)) is not None
            else f"partition {number}: no tick was applied yet"
            for number in sorted(self._store().partitions)
            if now - advanced_at.get(number, float("-inf")) > self._patience_s
        ]
        lost = [
            f"{topic}, partition {number}: the log ended at {end} before the applied offset; `tidemark topics "
            f"accept-loss {topic}` goes on from the beginning of the log"
            for number, partition in sorted(self._store().partitions.items())
            for topic, end in sorted(partition.progress.lost.items())
        ]
        return (
            lost
            + stalled
            + [
                f"{topic}, partition {number}: {lag} records are unread and none was applied for {now - since:.0f} s"
                for (topic, number), (lag, since) in sorted(self._worker.waiting.items())
                if now - since > self._patience_s
            ]
        )
