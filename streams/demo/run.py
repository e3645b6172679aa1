"""The demo in one command: a broker, real data, a worker and its decisions, all on one machine.

It uses only what a user has: topics, a `tidemark worker` process, and the events on its topics. Its files are in a
temporary directory, which is removed at the end, even after an error.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click

from config.connection import ConnectionSettings
from config.policy_files import load_timeline
from config.settings import PREFIX, Settings, load_settings, show_settings
from models.errors import TidemarkError
from models.instants import DAY_MS
from models.policy.compiled import Policy
from streams.demo.broker import EmbeddedBroker, free_port
from streams.demo.child_process import Child
from streams.demo.data import DemoFiles, merged, write_events
from streams.demo.watch import Watch
from streams.kafka.clients import make_producer
from streams.kafka.topics import create_topics
from streams.report.console import OUT, new_progress, summary_tables

#: Time (s) within which the worker must be ready, and then the whole year must be processed.
DEADLINE_S = 300
#: Maximum number of events produced but not yet applied. It keeps queueing out of the measured latency.
IN_FLIGHT = 20_000


class DemoError(TidemarkError):
    """The demo could not finish. The message quotes the end of the worker's log."""


def run_demo(*, stay: bool, households: int | None) -> int:
    """Run the demo and return the exit code.

    `stay` keeps it running after the summary; `households` limits it to that number of households (None: all). Raises
    DemoError, BrokerUnavailable, DemoDataUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="tidemark-demo-") as name, EmbeddedBroker() as broker:
        directory = Path(name)
        settings = _settings(broker.address, directory)
        policy = load_timeline(settings.policy).latest
        OUT.print(f"tidemark demo: broker on {broker.address}, policy {settings.policy.name}, all on this machine")
        asyncio.run(create_topics(settings))
        with (directory / "worker.log").open("wb") as log:
            worker = Child([sys.executable, "-m", "streams", "worker"], log, env=_environment(settings), cwd=directory)
            try:
                asyncio.run(_demo(settings, policy, directory, worker, households))
                if stay:
                    _serve(settings)
            except KeyboardInterrupt:
                click.echo("stopping …", err=True)
            finally:
                worker.stop()
    return 0


async def _demo(settings: Settings, policy: Policy, directory: Path, worker: Child, households: int | None) -> None:
    with OUT.status("writing a year of real baskets as events (The Complete Journey, 84.51°) …"):
        files = await asyncio.to_thread(write_events, directory / "events", households)
    total = files.order_count + files.interaction_count + files.customer_count
    OUT.print(
        f"{files.order_count:,} orders, {files.interaction_count:,} coupon redemptions, {files.customer_count:,} "
        "households (birthdays, time zones, locales and consent are invented; the rest is real)"
    )
    watch = Watch(settings, files, total)
    started = time.monotonic()
    async with watch:
        with OUT.status("waiting for the worker to take over its partitions …"):
            await _until_ready(watch, worker, directory)
        producing = asyncio.create_task(_produce(settings, files, watch))
        try:
            await _follow(watch, worker, directory)
            await producing
            await watch.drain()
        finally:
            producing.cancel()
    elapsed = time.monotonic() - started
    summary = watch.summary(policy)
    summary_tables(summary)
    OUT.print(
        f"{total:,} events in {elapsed:,.1f} s, including the worker's start; {watch.rate:,.0f} events/s once running",
        soft_wrap=True,
    )
    OUT.print(f"latency from producing an order to consuming its tier change: {watch.latency_text()}", soft_wrap=True)
    OUT.print(
        "(at full speed, with settled decisions: each waits until stream time is a day past its event)",
        soft_wrap=True,
    )


async def _until_ready(watch: Watch, worker: Child, directory: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await watch.ready():
        _check(worker, deadline, directory)


async def _follow(watch: Watch, worker: Child, directory: Path) -> None:
    """Show progress until every event is applied and settled."""
    deadline = time.monotonic() + DEADLINE_S
    with new_progress(OUT) as progress:
        task = progress.add_task("events", total=watch.total)
        while not watch.finished:
            _check(worker, deadline, directory)
            await watch.poll_metrics()
            progress.update(task, completed=watch.applied)
            for line in watch.headlines():
                progress.console.print(line, markup=True)


def _check(worker: Child, deadline: float, directory: Path) -> None:
    if worker.poll() is not None or time.monotonic() > deadline:
        tail = (directory / "worker.log").read_text(errors="replace")[-1_500:]
        raise DemoError(f"the worker stopped or did not finish in {DEADLINE_S} s; its log ends: {tail}")


async def _produce(settings: Settings, files: DemoFiles, watch: Watch) -> None:
    """Produce the merged year day by day, so that no event is later than TIDEMARK_LATENESS allows."""
    producer = make_producer(settings, linger_ms=2, max_batch_size=262_144)
    await producer.start()
    try:
        for slice_ in _days(merged(files)):
            for topic, at, key, value in slice_:
                watch.produced(topic, at, key)
                await producer.send(settings.topic(topic), value, key=key)
            await producer.flush()
            while watch.in_flight > IN_FLIGHT:  # noqa: ASYNC110  # the worker is another process: nothing to await
                await asyncio.sleep(0.02)
    finally:
        await producer.stop()


def _days(events: Iterator[tuple[str, int, bytes, bytes]]) -> Iterator[list[tuple[str, int, bytes, bytes]]]:
    day: list[tuple[str, int, bytes, bytes]] = []
    for event in events:
        if day and event[1] // DAY_MS != day[0][1] // DAY_MS:
            yield day
            day = []
        day.append(event)
    if day:
        yield day


def _serve(settings: Settings) -> None:
    OUT.print(
        f"still running: metrics on http://127.0.0.1:{settings.web_port}/metrics, broker on {settings.broker};",
        soft_wrap=True,
    )
    OUT.print(
        "topics orders, interactions, customers -> tier-changes, care-actions, customer-tiers. Press Ctrl-C to stop.",
        soft_wrap=True,
    )
    while True:
        time.sleep(3_600)


def _settings(broker: str, directory: Path) -> Settings:
    return load_settings(
        _env_file=None,
        config=None,
        **{name: field.get_default() for name, field in ConnectionSettings.model_fields.items()} | {"broker": broker},
        policy=Path("demo"),
        app_id="tidemark-demo",
        partitions=4,
        topic_prefix="",
        clock="event",
        decide="settled",
        lateness="1d",
        idle_after="2s",
        tick_interval="500ms",
        data_dir=directory / "data",
        web_host="127.0.0.1",
        web_token=None,
        web_port=free_port(),
    )


def _environment(settings: Settings) -> dict[str, str]:
    """Return the worker's environment: this process's, with the demo's settings in place of any TIDEMARK_….

    PYTHONPATH names the packages, because the worker runs in a directory of its own, out of reach of the user's .env.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    paths = [str(Path(__file__).parents[2]), *filter(None, [env.get("PYTHONPATH")])]
    given = {name: value for name, value in show_settings(settings).items() if value}
    return {**env, "PYTHONPATH": os.pathsep.join(paths), **given}
