"""A worker that measures its recovery: `python -m tests.bench.recovering KIND FIGURES`.

KIND `tidemark` is `tidemark worker`; `stock` is a plain Faust app with a plain table over the same changelog topic.
Both are measured at the same two places inside Faust, from the start of the recovery until the worker is ready. The
figures are written to the file FIGURES.
"""

import gc
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import faust

from config.settings import Settings, load_settings
from streams.kafka.topics import changelog_name
from streams.worker.app import build
from streams.worker.logs import set_up_logging

SESSION_S = 3.0


def resident_bytes(pid: int | str = "self") -> int:
    """Return the resident memory (bytes) of a process. Linux only."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def watch(app: faust.App, target: Path) -> None:
    """Make an app write the figures of its recovery to `target` once it is ready: seconds, bytes, rows."""
    recovery, seen = app.tables.recovery, {}
    begin, ready = recovery._set_recovery_started, app.tables.on_actives_ready

    def began() -> None:
        gc.collect()
        seen.update(at=time.perf_counter(), resident=resident_bytes())
        begin()

    def is_ready() -> None:
        ready()
        if seen and not target.exists():
            seconds = time.perf_counter() - seen["at"]
            gc.collect()
            grown = resident_bytes() - seen["resident"]
            held = target.with_suffix(".partial")
            held.write_text(json.dumps({"seconds": seconds, "resident_bytes": grown, "rows": rows_of(app)}))
            held.rename(target)

    recovery._set_recovery_started, app.tables.on_actives_ready = began, is_ready


def rows_of(app: faust.App) -> int:
    """Return the number of customers in the table of an app."""
    data = app.tables["state"].data
    partitions = getattr(data, "partitions", None)
    return len(data) if partitions is None else sum(each.customers for each in partitions.values())


def tidemark(settings: Settings) -> faust.App:
    """Return the app that a worker runs."""
    app = build(settings)
    app.conf.broker_session_timeout, app.conf.broker_heartbeat_interval = SESSION_S, SESSION_S / 6
    return app


def stock(settings: Settings) -> faust.App:
    """Return a Faust app as in its documentation, with a table over tidemark's changelog."""
    app: Any = faust.App(
        f"{settings.app_id}-stock",
        broker=f"kafka://{settings.broker}",
        store="memory://",
        datadir=str(settings.data_dir),
        topic_partitions=settings.partitions,
        topic_disable_leader=True,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=SESSION_S / 6,
        stream_wait_empty=False,
        recovery_consistency_check=False,
        web_enabled=False,
    )
    raw = faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    table = app.Table(
        "state",
        partitions=settings.partitions,
        schema=raw,
        changelog_topic=app.topic(
            changelog_name(settings), schema=raw, partitions=settings.partitions, compacting=True, internal=True
        ),
    )
    orders = app.topic(settings.topic("orders"), schema=raw, partitions=settings.partitions)

    @app.agent(orders)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            table[event.key] = event.value

    return app


def main() -> None:
    """Run a worker until SIGTERM."""
    kind, target = sys.argv.pop(1), Path(sys.argv.pop(1))
    settings = load_settings()
    set_up_logging(settings.log_level)
    app = {"tidemark": tidemark, "stock": stock}[kind](settings)
    logging.getLogger("faust").setLevel(logging.WARNING)
    watch(app, target)
    worker = faust.Worker(app, loglevel=None, logfile=None, redirect_stdouts=False, override_logging=False)
    sys.argv[1:] = []
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
