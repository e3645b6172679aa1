"""Live applications for the tests: workers as processes of their own, and what goes in and comes out.

A `Rig` is one application on one broker: its topics under a prefix of their own, its workers, its records. Everything
here is synchronous and waits for a condition with a deadline, never for a time to pass. Leaving the rig ends every
worker it started, and a worker ends with this process even when that is killed.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from config.settings import PREFIX, Settings, load_settings
from models.customer.state import Customer
from streams.kafka.topics import changelog_name, create_topics
from streams.partition.fencing import Fence
from streams.partition.state import CLAIM_KEY, PROGRESS_KEY, Progress
from tests.support.process import LiveWorker

#: Seconds in which a worker must be up, caught up, or whatever else is waited for, on a machine that is busy.
PATIENCE_S = 180.0
#: The group session of the workers: how long the broker misses one that was killed.
SESSION_S = 3.0
_POLL_S = 0.05


class Timeout(AssertionError):
    """What was waited for did not happen. The message carries the end of each worker's log."""


class Sent(NamedTuple):
    """A record as it was produced, with the coordinates that the broker gave it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class ToSend(NamedTuple):
    """A record to be produced. `topic` is without the prefix; `partition` None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None


class State(NamedTuple):
    """What the changelog says in the end: rows by customer, progress by partition."""

    rows: dict[str, bytes]
    progress: dict[int, Progress]

    @property
    def customers(self) -> dict[str, Customer]:
        return {name: Customer.from_row(name, row) for name, row in self.rows.items()}


class Rig:
    """One application on a broker. `settings` are TIDEMARK_… settings in lower case, as texts."""

    def __init__(
        self,
        broker: str,
        directory: Path,
        *,
        partitions: int = 4,
        session_s: float = SESSION_S,
        supervised: bool = False,
        **settings: str,
    ) -> None:
        self.directory = directory
        self.supervised = supervised
        self.revived: list[str] = []
        self.session_s = session_s
        name = uuid.uuid4().hex[:8]
        self.environment = {
            f"{PREFIX}{key.upper()}": value
            for key, value in {
                "broker": broker,
                "app_id": f"app-{name}",
                "topic_prefix": f"t-{name}-",
                "partitions": str(partitions),
                "policy": "demo",
                "tick_interval": "200ms",
                **settings,
            }.items()
        }
        values = {key.removeprefix(PREFIX).lower(): value for key, value in self.environment.items()}
        self.settings: Settings = load_settings(**values)
        self.workers: list[LiveWorker] = []
        #: Rows in the changelog that were written by somebody who owned their partition no longer.
        self.stale_rows = 0
        self._sent: dict[tuple[str, int], int] = {}
        self._rows: dict[bytes, bytes | None] = {}
        self.fences: defaultdict[int, Fence] = defaultdict(Fence)
        self._changelog_read: dict[TopicPartition, int] = {}

    def __enter__(self) -> Self:
        run(create_topics(self.settings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()

    def start_worker(self, **settings: str) -> LiveWorker:
        """Start a worker; `settings` win over the rig's."""
        environment = self.environment | {f"{PREFIX}{key.upper()}": value for key, value in settings.items()}
        worker = LiveWorker(self.directory, len(self.workers), environment, self.session_s)
        self.workers.append(worker)
        return worker

    def stop_worker(self, worker: LiveWorker) -> None:
        """End a worker politely; it must comply, and with status 0."""
        status = worker.stop()
        assert status == 0, f"the worker ended with status {status}; its log ends:\n{worker.tail()}"

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        """Return the first true value of a condition. Raises Timeout, and at once where a worker ended by itself.

        Where the rig is supervised, such a worker is restarted instead, and noted in `revived`.
        """
        running = [worker for worker in self.workers if worker.running]
        deadline = time.monotonic() + timeout_s
        while True:
            if found := condition():
                return found
            ended = [worker for worker in running if not worker.running]
            if self.supervised:
                for worker in ended:
                    self.revived.append(worker.tail(1_500))
                    worker.revive()
                ended = []
            if ended and (found := condition()):
                return found  # it is why they ended
            if ended or time.monotonic() > deadline:
                why = "a worker ended" if ended else f"{timeout_s:.0f} s passed"
                logs = "\n".join(worker.tail() for worker in self.workers)
                raise Timeout(f"{why} before {what}\n{logs}")
            time.sleep(_POLL_S)

    def configure(self, topic: str, **configs: str) -> None:
        """Give a topic (without the prefix) these settings, and the defaults for all others."""

        async def alter() -> None:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.broker)
            await admin.start()
            try:
                resource = ConfigResource(ConfigResourceType.TOPIC, self.settings.topic(topic), configs=configs)
                await admin.alter_configs([resource])
            finally:
                await admin.close()

        run(alter())

    # --- records in ---

    def produce(
        self,
        slices: Iterable[Iterable[ToSend]],
        *,
        max_request_size: int = 1_048_576,
        patient: bool = False,
        compression_type: str | None = None,
    ) -> list[Sent]:
        """Produce records slice by slice: each slice is acknowledged before the next is sent.

        `patient`: each record once, through a broker that is away for minutes. The embedded broker cannot do that.
        """
        options: dict[str, Any] = {"enable_idempotence": True, "request_timeout_ms": 300_000} if patient else {}
        options |= {"max_request_size": max_request_size, "compression_type": compression_type}
        return run(self._produce(slices, options))

    async def _produce(self, slices: Iterable[Iterable[ToSend]], options: dict[str, Any]) -> list[Sent]:
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.broker, linger_ms=1, **options)
        await producer.start()
        sent = []
        try:
            for records in slices:
                pending = [
                    (record, await _send(producer, self.settings.topic(record.topic), record)) for record in records
                ]
                for record, future in pending:
                    meta = await future
                    sent.append(Sent(record.topic, *_coordinates(meta), record.key, record.value))
                    self._sent[record.topic, meta.partition] = meta.offset + 1
        finally:
            await producer.stop()
        return sent

    # --- records out ---

    def read(self, *topics: str) -> dict[str, list[ConsumerRecord]]:
        """Return every record of topics (without the prefix), each partition in order, up to their ends now."""
        return run(self._read(topics))

    def each(self, topic: str, take: Callable[[list[ConsumerRecord]], object]) -> None:
        """Hand every record of a topic (without the prefix) to `take`, some of a partition at a time, in order."""
        run(self._each([topic], lambda _, fetched: take(fetched)))

    async def _read(
        self, topics: Iterable[str], positions: dict[TopicPartition, int] | None = None
    ) -> dict[str, list[ConsumerRecord]]:
        """Read from `positions` on, or from the beginning; where they are given they are moved to what was read."""
        records: dict[str, list[ConsumerRecord]] = {topic: [] for topic in topics}
        await self._each(records, lambda topic, fetched: records[topic].extend(fetched), positions)
        return records

    async def _each(
        self,
        topics: Iterable[str],
        take: Callable[[str, list[ConsumerRecord]], object],
        positions: dict[TopicPartition, int] | None = None,
    ) -> None:
        labels = {self.settings.topic(topic): topic for topic in topics}
        async with self._consumer(labels) as (consumer, tps):
            await consumer.seek_to_beginning(*tps)
            for tp, position in (positions or {}).items():
                consumer.seek(tp, position)
            deadline = time.monotonic() + PATIENCE_S
            while True:
                for tp, fetched in (await consumer.getmany(timeout_ms=50)).items():
                    take(labels[tp.topic], fetched)
                # The end that a fetch returns, not the listed one: on the embedded broker the list is a batch behind.
                ends = {tp: consumer.highwater(tp) for tp in tps}
                if all([end is not None and await consumer.position(tp) >= end for tp, end in ends.items()]):
                    break
                assert time.monotonic() < deadline, f"{', '.join(labels)} could not be read to their ends"
            if positions is not None:
                positions.update({tp: await consumer.position(tp) for tp in tps})

    def end(self, topic: str) -> int:
        """Return how many offsets a topic (without the prefix) has had, over all partitions."""
        return run(self._end(topic))

    async def _end(self, topic: str) -> int:
        async with self._consumer([self.settings.topic(topic)]) as (consumer, tps):
            await consumer.seek_to_end(*tps)
            deadline = time.monotonic() + PATIENCE_S
            while any(consumer.highwater(tp) is None for tp in tps):
                await consumer.getmany(timeout_ms=20)
                assert time.monotonic() < deadline, f"the end of {topic} could not be found"
            return sum(consumer.highwater(tp) for tp in tps)

    @contextlib.asynccontextmanager
    async def _consumer(self, names: Iterable[str]) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.broker,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await consumer.start()
        try:
            tps = [TopicPartition(name, number) for name in names for number in range(self.settings.partitions)]
            consumer.assign(tps)
            yield consumer, tps
        finally:
            await consumer.stop()

    @property
    def changelog(self) -> str:
        """The changelog topic, without the prefix."""
        return changelog_name(self.settings).removeprefix(self.settings.topic_prefix)

    def state(self) -> State:
        """Return what a worker that starts now would recover. Only what is new in the changelog is read."""
        for record in run(self._read([self.changelog], self._changelog_read))[self.changelog]:
            if not self.fences[record.partition].admits(record):
                self.stale_rows += 1
            elif not record.key.startswith(CLAIM_KEY):
                self._rows[record.key] = record.value
        progress = {}
        known = {}
        for key, row in self._rows.items():
            if row is None:
                continue
            if key.startswith(PROGRESS_KEY):
                number = int(key.removeprefix(PROGRESS_KEY))
                progress[number] = msgspec.msgpack.decode(row, type=Progress)
            else:
                known[key.decode()] = row
        return State(known, progress)

    # --- common conditions ---

    def backlog(self, state: State | None = None, ends: Mapping[tuple[str, int], int] | None = None) -> int:
        """Return how many records of the input topics, of those before `ends` where given, are not in the state.

        The state is what the changelog has acknowledged.
        """
        progress = (state or self.state()).progress
        none = Progress()
        return sum(
            max(0, end - progress.get(number, none).applied.get(topic, 0))
            for (topic, number), end in (self.ends() if ends is None else ends).items()
        )

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the next offset by (input topic without the prefix, partition) after the acknowledged records."""
        return dict(self._sent)

    def applied(self) -> int:
        """Return how many records of the input topics are in the acknowledged state."""
        return sum(sum(progress.applied.values()) for progress in self.state().progress.values())

    def is_settled(self) -> bool:
        """Whether everything is read, and no event waits for its instant."""
        state = self.state()
        return not self.backlog(state) and not any(customer.pending for customer in state.customers.values())

    def has_reached(self, instant: int) -> bool:
        """Whether the stream time of every partition of the running workers is at an instant (ms) or beyond."""
        times: dict[str, float] = {}
        for worker in self.workers:
            if worker.running:
                samples = worker.metrics().get("tidemark_stream_time_seconds", {})
                times |= {dict(labels)["partition"]: value for labels, value in samples.items()}
        return len(times) == self.settings.partitions and min(times.values()) >= instant / 1000


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on a loop of its own."""
    return asyncio.run(coroutine)


def by_id(records: Iterable[ConsumerRecord], name: str) -> dict[str, dict[str, Any]]:
    """Return the JSON values of records by an id in them; a repeated id must repeat the very same bytes."""
    values: dict[str, bytes] = {}
    for record in records:
        identity = json.loads(record.value)[name]
        assert values.setdefault(identity, record.value) == record.value, f"{identity} came twice, differently"
    return {identity: json.loads(value) for identity, value in values.items()}


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file."""
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


def sliced(records: Iterable[tuple[int, ToSend]], length_ms: int) -> Iterator[list[ToSend]]:
    """Cut (instant, record) pairs, in order of time, into slices of event time."""
    current: list[ToSend] = []
    number = None
    for at, record in records:
        if number is not None and at // length_ms != number:
            yield current
            current = []
        number = at // length_ms
        current.append(record)
    if current:
        yield current


async def _send(producer: AIOKafkaProducer, topic: str, record: ToSend) -> "asyncio.Future[Any]":
    if record.key is not None or record.value is not None:
        return await producer.send(topic, record.value, key=record.key, partition=record.partition)
    # The client's `send` refuses a record without both, which others produce all the same.
    batch = producer.create_batch()
    batch.append(timestamp=None, key=None, value=None)
    return await producer.send_batch(batch, topic, partition=record.partition or 0)


def _coordinates(meta: Any) -> tuple[int, int, int]:
    return meta.partition, meta.offset, meta.timestamp
