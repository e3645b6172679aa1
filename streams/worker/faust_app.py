"""The Faust app of a worker: transport, tables, settings, the end after a crash. Making it connects nothing."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import faust

from config.settings import Settings
from models.errors import UnusableInput
from models.policy.timeline import Timeline
from streams.faust_ext.assignor import AgreeingAssignor
from streams.faust_ext.clients import credentials
from streams.faust_ext.consumer import MicroBatchConsumer, MicroBatchTransport
from streams.faust_ext.recovery import StateTables
from streams.kafka.clients import MAX_ROW_BYTES
from streams.metrics.collectors import Metrics
from streams.worker.watchdog import end_within
from streams.worker.web import Pages, web_options

log = logging.getLogger(__name__)

#: The largest produce batch (bytes): Kafka's default limit of a message set, less some room for its header.
MAX_PRODUCE_BATCH = 900_000
#: How long (seconds) a worker that cannot go on may take to shut down before it is ended.
SHUTDOWN_S = 20.0
#: Micro-batches that may wait in the stream's queue. Faust holds partitions back when it is four fifths full. It must
#: hold more than one round of all partitions, or each round would stall the next.
QUEUED_BATCHES = 8


class TidemarkApp(faust.App):
    """A Faust app with the micro-batched transport."""

    def __init__(self, *args: Any, metrics: Metrics, policy_contents: Mapping[str, str], **options: Any) -> None:
        """`policy_contents` are the hashes of the policy's versions by name, on which the group must agree."""
        self.metrics = metrics
        self.policy_contents = policy_contents
        self._owns_process = False
        super().__init__(*args, **options)

    @property
    def micro_batches(self) -> MicroBatchConsumer:
        """The consumer, with the type that our transport gives it."""
        return cast("MicroBatchConsumer", self.consumer)

    def own_process(self) -> None:
        """Note that the process runs only this app: if the shutdown after a crash hangs, the process is ended."""
        self._owns_process = True

    def _crash(self, reason: BaseException) -> None:
        """Log the crash, and make sure that the process ends: if no broker answers, Faust's shutdown never does."""
        if not self.crashed:
            log.error("the worker cannot go on: %s", str(reason) or repr(reason))
        if self._owns_process and not self.crashed:
            end_within(SHUTDOWN_S, "a worker that crashed was shutting down")
        super()._crash(reason)

    def _new_transport(self) -> MicroBatchTransport:
        return MicroBatchTransport(self.conf.broker_consumer, self)

    def _new_web(self) -> Pages:
        return Pages(self)


def faust_app(settings: Settings, metrics: Metrics, timeline: Timeline) -> TidemarkApp:
    """Return the app, configured and not started. Raises UnusableInput if the data directory cannot be used."""
    return TidemarkApp(
        settings.app_id,
        metrics=metrics,
        policy_contents=timeline.contents,
        PartitionAssignor=AgreeingAssignor,
        broker_credentials=credentials(settings),
        broker=[f"kafka://{address.strip()}" for address in settings.broker.split(",")],
        store="memory://",
        TableManager=StateTables,
        datadir=str(data_dir(settings)),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        topic_disable_leader=True,
        table_standby_replicas=settings.standbys,
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_max_poll_records=settings.max_batch,
        consumer_max_fetch_size=16_777_216,
        consumer_metadata_max_age_ms=30_000,  # how soon a topic that was created again is assigned
        stream_buffer_maxsize=QUEUED_BATCHES,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        # The check compares memory with the listed end offsets, which the embedded broker lists a batch too low. All
        # rows in memory were acknowledged.
        recovery_consistency_check=False,
        producer_acks=-1,
        producer_linger=0.0,
        producer_max_batch_size=MAX_PRODUCE_BATCH,
        producer_max_request_size=MAX_ROW_BYTES,
        producer_request_timeout=60.0,
        web_host=settings.web_host,
        web_bind=settings.web_host,
        web_port=settings.web_port,
        web_cors_options=None,
        web_application_options=web_options(settings.web_token),
        worker_redirect_stdouts=False,
    )


def data_dir(settings: Settings) -> Path:
    """Return this worker's directory, made if it is missing. Raises UnusableInput if it cannot be used."""
    path = Path(settings.data_dir).resolve() / settings.app_id
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableInput(f"TIDEMARK_DATA_DIR: {path} cannot be used: {error.strerror}") from None
    return path
