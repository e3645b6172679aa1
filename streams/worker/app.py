"""The composition root: settings in, a Faust app out, with its table, agent, watermarks and web pages wired up.

Nothing connects before the app starts. The command line calls `build`, and so do tests.
"""

import asyncio
import logging
from functools import partial
from typing import Any, cast

from faust.types import TP

from config.policy_files import load_timeline
from config.settings import Settings
from models.events import Topic
from models.policy.timeline import Timeline
from streams.faust_ext.chunk import RawSchema
from streams.faust_ext.clients import producer_of
from streams.faust_ext.recovery import StateTables
from streams.faust_ext.table import StateTable
from streams.kafka.partitioner import partition_for
from streams.kafka.range_reader import read_range
from streams.kafka.topics import (
    BrokerError,
    TopicsError,
    changelog_name,
    check_topics,
    populations_label,
    ticks_name,
)
from streams.metrics.collectors import Metrics, PartitionCollector
from streams.partition.cutoff_coordinator import CutoffCoordinator, cutoff_coordinator
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.step import Timing
from streams.worker.context import WorkerContext
from streams.worker.cutoff_listener import listen_to_cutoffs
from streams.worker.cutoff_page import CutoffHistory, follow_cutoffs
from streams.worker.faust_app import QUEUED_BATCHES, TidemarkApp, data_dir, faust_app
from streams.worker.loop import Worker
from streams.worker.readiness import Readiness
from streams.worker.watermarks import Watermarks
from streams.worker.web import add_pages

log = logging.getLogger(__name__)

#: The interval (seconds) at which the topics are checked.
TOPICS_CHECK_S = 20.0
#: How far (ms) beyond the lateness after a day's end records are read while it is not decided. Without a backlog it is
#: decided within a few seconds.
READ_BEYOND_MS = 60_000


def make_processor(settings: Settings, timeline: Timeline) -> Processor:
    """Return the processor that a worker with these settings uses."""
    beyond = settings.lateness + READ_BEYOND_MS
    timing = Timing(settings.settled, settings.lateness, settings.ahead, settings.clock == "wall", beyond)
    checked = partial(partition_for, partitions=settings.partitions) if settings.partitioner == "murmur2" else None
    return Processor(
        timeline,
        timing,
        Encoder(f"/{settings.app_id}"),
        max_bytes=settings.max_bytes,
        partition_for=checked,
        coordinator=cutoff_coordinator(timeline, populations_label(settings), settings.partitions),
        partitions=settings.partitions,
    )


def build(settings: Settings) -> TidemarkApp:
    """Return the app of one worker. Raises UnusableInput if the policy or the data directory cannot be used."""
    timeline = load_timeline(settings.policy)
    metrics = Metrics()
    metrics.expect(timeline)
    app = faust_app(settings, metrics, timeline)
    processor = make_processor(settings, timeline)
    table = _table(app, settings, processor)
    context = _context(app, settings, table)
    worker = Worker(context, processor, metrics)
    _agent(app, settings, context, worker)
    _lifecycle(app, settings, worker, Watermarks(settings, context, worker))
    _watch_topics(app, settings)
    readiness = Readiness(app, settings, lambda: table.data, worker)
    metrics.ready.set_function(lambda: not readiness.obstacles())
    clock = context.clock if settings.clock == "wall" else None
    remaining = cast("StateTables", app.tables).remaining
    metrics.registry.register(PartitionCollector(metrics, processor, lambda: table.data.partitions, remaining, clock))
    cutoffs = None
    if processor.coordinator is not None:
        _listen(app, settings, processor.coordinator, worker)
        cutoffs = _follow(app, settings, processor.coordinator)
    add_pages(app, metrics, readiness, cutoffs)
    return app


def _table(app: TidemarkApp, settings: Settings, processor: Processor) -> StateTable:
    schema = RawSchema(key_type=bytes, value_type=bytes)
    changelog = app.topic(
        changelog_name(settings),
        schema=schema,
        partitions=settings.partitions,
        compacting=True,
        acks=False,
        internal=True,
        maxsize=QUEUED_BATCHES,
        allow_empty=True,
    )
    table = StateTable(
        app,
        name="state",
        partitions=settings.partitions,
        key_type=bytes,
        value_type=bytes,
        changelog_topic=changelog,
        recovery_buffer_size=2,  # 1 would make Faust read the changelog of active partitions for ever
        open_partition=processor.open_partition,
        directory=data_dir(settings) if settings.store == "rocksdb" else None,
    )
    if settings.store == "rocksdb":
        _ = table.data  # a directory that cannot be used is reported before anything starts
    app.tables.add(table)
    return table


def _context(app: TidemarkApp, settings: Settings, table: StateTable) -> WorkerContext:
    return WorkerContext(
        store=lambda: table.data,
        consumer=lambda: app.micro_batches,
        producer=lambda: producer_of(app),
        inputs={settings.topic(topic.label): topic for topic in Topic},
        name_of=settings.topic,
        changelog=changelog_name(settings),
        ticks=ticks_name(settings),
        read_changelog=partial(read_range, settings, changelog_name(settings)),
    )


def _agent(app: TidemarkApp, settings: Settings, context: WorkerContext, worker: Worker) -> None:
    names = [*context.inputs, context.ticks]
    inputs = app.topic(
        *names, schema=RawSchema(key_type=bytes, value_type=bytes), partitions=settings.partitions, allow_empty=True
    )

    @app.agent(inputs, name="customers", concurrency=1)
    async def customers(stream: Any) -> None:
        try:
            await worker.run(stream.events())
        except Exception as error:
            # Going on would acknowledge work that was not done. The supervisor restarts the worker, state intact.
            await app.crash(error)
            raise


def _listen(app: TidemarkApp, settings: Settings, coordinator: CutoffCoordinator, worker: Worker) -> None:
    coordinator.mark_behind()

    @app.task
    async def listen() -> None:
        try:
            async for keys in listen_to_cutoffs(settings, coordinator):
                if app.tables.actives_ready and not app.rebalancing:
                    await worker.advance_after(keys)
        except Exception as error:
            log.exception("the reports of other partitions cannot be read")
            await app.crash(error)
            raise


def _follow(app: TidemarkApp, settings: Settings, coordinator: CutoffCoordinator) -> CutoffHistory:
    history = CutoffHistory(coordinator.timeline)

    @app.task
    async def follow() -> None:
        await follow_cutoffs(settings, history)

    return history


def _watch_topics(app: TidemarkApp, settings: Settings) -> None:
    """End the worker if its topics change: added partitions would never be read.

    A mistake must be seen twice: a broker that has just started may not know all topics yet.
    """

    @app.task
    async def check_now_and_then() -> None:
        seen: list[str] = []
        async for _ in app.itertimer(TOPICS_CHECK_S, name="topics"):
            try:
                before, seen = seen, await check_topics(settings)
            except BrokerError:
                continue  # the worker waits for its broker
            if mistakes := [mistake for mistake in seen if mistake in before]:
                await app.crash(TopicsError(f"the topics are no longer as they should be: {'; '.join(mistakes)}"))


def _lifecycle(app: TidemarkApp, settings: Settings, worker: Worker, watermarks: Watermarks) -> None:
    one = asyncio.Lock()

    async def send_watermarks() -> None:
        async with one:
            worker.paused.watermark_comes()
            if app.tables.actives_ready and not app.rebalancing:
                worker.check()
                for tp in await watermarks.send():
                    await worker.resume(tp)

    @app.task
    async def at_intervals() -> None:
        async for _ in app.itertimer(settings.tick_interval / 1000, name="watermarks"):
            await send_watermarks()

    @app.task
    async def when_needed() -> None:
        while True:
            await worker.paused.watermark_needed()
            await send_watermarks()

    @app.on_partitions_revoked.connect  # type: ignore[arg-type]  # its protocol fits no function that mypy accepts
    async def revoked(_app: Any, *args: Any, signal: Any = None, **_: Any) -> None:  # noqa: ARG001  # Faust's signature
        app.metrics.rebalances.inc()
        tps: set[TP] = args[0]
        await worker.release_partitions()
        await app.consumer.commit()
        app.micro_batches.forget(tps)
