"""Explains a customer: from history files, by a replay, or from the changelog of a running deployment.

It only reads: it produces nothing, commits no offset and joins no consumer group.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from config.policy_files import load_timeline
from config.settings import Settings
from models.customer.state import Customer
from models.engine.customer_report import customer_report
from models.engine.report_shapes import CustomerReport
from models.errors import UnusableInput
from models.events import Topic
from models.policy.cutoff_timeline import RankedTimeline, ranked
from models.policy.timeline import Timeline
from models.rules.ranking import CutoffSet
from streams.kafka.clients import TIMEOUT_S, make_consumer
from streams.kafka.partitioner import partition_for
from streams.kafka.topics import (
    BrokerError,
    TopicsError,
    changelog_name,
    partitions_of,
    populations_label,
    unreachable,
)
from streams.partition.cutoff_coordinator import CUTOFFS_KEY
from streams.partition.fencing import Fence
from streams.replay.command import Asked, plan_of
from streams.replay.final_state import final_state

_FETCH_MS = 500


class ExplainError(UnusableInput):
    """The customer is unknown. Check the id, and the files or the deployment that were searched."""


def explain_files(
    policy: Path,
    inputs: dict[Topic, Path],
    customer_id: str,
    until: int | None = None,
    at: int | None = None,
    *,
    partitions: int = 1,
    columns: Sequence[str] = (),
) -> CustomerReport:
    """Return the report on a customer from the events in files, as of `at` (ms; default: `until`, else the last event).

    Events after `until`, or after an earlier `at`, are not read. `partitions` is the number of partitions that share
    the care budgets. `columns` name the columns of tables, as in `tidemark replay`. Raises ExplainError for an unknown
    customer, UnusableInput if the policy or a file cannot be used.
    """
    bounds = [bound for bound in (until, at) if bound is not None]
    files = {topic: [path] for topic, path in inputs.items()}
    asked = Asked(
        files, until=min(bounds, default=None), columns=columns, partitions=partitions, only=customer_id, now=_now()
    )
    ended = final_state(plan_of(asked, [load_timeline(policy)]), policy, customer_id)
    if ended.customer is None:
        raise ExplainError(f"customer {customer_id!r} does not occur in the files, up to the requested instant")
    instant = ended.until if at is None else at
    if instant is None:
        instant = ended.customer.cursor or _now()  # nothing in the files has a time
    return customer_report(ended.customer, ended.timeline, instant)


async def explain_live(
    settings: Settings, timeline: Timeline, customer_id: str, at: int | None = None
) -> CustomerReport:
    """Return the report on a customer from the state of a running deployment, as of `at` (ms; default: now).

    Raises ExplainError for an unknown customer, TopicsError or BrokerError if the topics cannot be read, TidemarkError
    if a newer release wrote the customer's row.
    """
    row = await latest_row(settings, customer_id)
    if ranked(timeline):
        timeline = await _with_cutoffs(settings, timeline)
    if row is None:
        raise ExplainError(f"customer {customer_id!r} is not in {changelog_name(settings)} at {settings.broker}")
    customer = Customer.from_row(customer_id, row)  # damaged rows are not found: the row before them counts
    if at is None:
        # If stream time follows the events, decisions may be ahead of the wall clock.
        at = max(_now(), customer.cursor or 0)
    return customer_report(customer, timeline, at)


async def latest_row(settings: Settings, customer_id: str) -> bytes | None:
    """Return a customer's latest row in the changelog, None if there is none or the customer was erased.

    Raises TopicsError, BrokerError.
    """
    key = customer_id.encode()
    if not key or b"\0" in key:
        return None  # no customer_id is empty or has a NUL; keys with a NUL are internal rows
    return await _latest_value(settings, changelog_name(settings), key, fenced=True)


async def _with_cutoffs(settings: Settings, timeline: Timeline) -> Timeline:
    """Return a timeline with the latest cut-offs of a deployment."""
    value = await _latest_value(settings, settings.topic(populations_label(settings)), CUTOFFS_KEY)
    known = RankedTimeline(timeline.versions)
    if value is not None:
        known.learn(msgspec.msgpack.decode(value, type=CutoffSet))
    return known


async def _latest_value(settings: Settings, topic: str, key: bytes, *, fenced: bool = False) -> bytes | None:
    """Return the latest value of a key in a topic, None if there is none. Raises TopicsError, BrokerError.

    `fenced`: the topic is a changelog, whose records must count.
    """
    consumer = make_consumer(settings)
    try:
        await _start(consumer, settings)
        home, others = await _partitions(settings, topic, key)
        # A producer may use another partitioner, so the customer may be in any one partition.
        record = await _latest(consumer, [home], key, fenced) or await _latest(consumer, others, key, fenced)
    except (KafkaError, TimeoutError) as error:
        raise BrokerError(
            f"the broker at {settings.broker} cannot be read: {str(error) or 'it stopped answering'}"
        ) from None
    finally:
        await consumer.stop()
    return None if record is None else record.value


def _now() -> int:
    return time.time_ns() // 1_000_000


async def _start(consumer: AIOKafkaConsumer, settings: Settings) -> None:
    try:
        await asyncio.wait_for(consumer.start(), TIMEOUT_S)
    except (KafkaError, OSError, TimeoutError):
        raise await unreachable(settings) from None


async def _partitions(settings: Settings, name: str, key: bytes) -> tuple[TopicPartition, list[TopicPartition]]:
    """Return the partition that a key hashes to, and the topic's other partitions. Raises TopicsError."""
    numbers = await partitions_of(settings, name)
    if not numbers:
        raise TopicsError(f"{name} does not exist at {settings.broker}; are the app id and the topic prefix right?")
    home = numbers[partition_for(key, len(numbers))]
    return TopicPartition(name, home), [TopicPartition(name, number) for number in numbers if number != home]


async def _latest(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition], key: bytes, fenced: bool
) -> ConsumerRecord | None:
    """Return the latest record of a key in partitions, up to their current ends, None if there is none.

    Raises TimeoutError, KafkaError.
    """
    if not tps:
        return None
    consumer.assign(tps)
    ends = await consumer.end_offsets(tps)
    await consumer.seek_to_beginning(*tps)
    found: dict[TopicPartition, ConsumerRecord] = {}
    fences = {tp: Fence() for tp in tps}
    last_answer = time.monotonic()
    while any([await consumer.position(tp) < end for tp, end in ends.items()]):
        chunks = await consumer.getmany(timeout_ms=_FETCH_MS)
        last_answer = time.monotonic() if chunks else last_answer
        if time.monotonic() - last_answer > TIMEOUT_S:
            raise TimeoutError
        for tp, records in chunks.items():
            for record in records:
                if (not fenced or fences[tp].admits(record)) and record.key == key:
                    found[tp] = record
    # The last record of each partition counts; if several have one, the most recently written wins.
    return max(found.values(), key=lambda record: int(record.timestamp), default=None)
