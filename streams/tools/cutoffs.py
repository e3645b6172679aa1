"""Reads the published cut-offs, from the topic or from a replay's file, and requests new ones.

Reading commits no offset and joins no consumer group. A request is one record on the internal topic
(`streams.partition.cutoff_coordinator`).
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from config.settings import Settings
from models.errors import UnusableInput
from models.instants import MINUTE_MS, format_instant
from models.outputs import TierCutoffs
from streams.kafka.clients import TIMEOUT_S, make_consumer, make_producer
from streams.kafka.range_reader import read_range
from streams.kafka.records import TIER_CUTOFFS
from streams.kafka.topics import BrokerError, TopicsError, populations_label
from streams.partition.cutoff_coordinator import LEADER, REQUEST_KEY

#: How far ahead (ms) a request takes effect by default: every worker has read it by then.
AHEAD = MINUTE_MS


class CutoffsError(UnusableInput):
    """The cut-offs cannot be read or requested. The message says what was found and what is allowed."""


def cutoffs_of_file(path: Path) -> list[TierCutoffs]:
    """Return the cut-offs in a `tier-cutoffs.jsonl`, in file order. Raises CutoffsError."""
    try:
        return msgspec.json.decode(b"[" + b",".join(path.read_bytes().splitlines()) + b"]", type=list[TierCutoffs])
    except OSError as error:
        raise CutoffsError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise CutoffsError(f"{path}: allowed are tier-cutoffs events, one per line; found: {error}") from None


def latest(cutoffs: Sequence[TierCutoffs], scheme: str | None, count: int) -> list[TierCutoffs]:
    """Return the last `count` cut-offs of `scheme` (None: of each scheme), in the given order, without duplicates."""
    unique = {each.event_id: each for each in cutoffs}.values()
    schemes = dict.fromkeys(each.scheme for each in unique) if scheme is None else [scheme]
    return [each for name in schemes for each in [one for one in unique if one.scheme == name][-count:]]


async def read_cutoffs(settings: Settings) -> list[TierCutoffs]:
    """Return the cut-offs that a deployment has published, oldest first. Raises TopicsError, BrokerError."""
    name = settings.topic(TIER_CUTOFFS)
    tp = TopicPartition(name, LEADER)
    consumer = make_consumer(settings)
    try:
        await asyncio.wait_for(consumer.start(), TIMEOUT_S)
        if name not in await consumer.topics():
            raise TopicsError(f"{name} does not exist at {settings.broker}; is the topic prefix right?")
        first = (await consumer.beginning_offsets([tp]))[tp]
        offsets = range(first, (await consumer.end_offsets([tp]))[tp])
        records = await read_range(settings, name, LEADER, offsets)
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerError(f"the broker at {settings.broker} cannot be read: {error or 'no answer'}") from None
    finally:
        await consumer.stop()
    return [msgspec.json.decode(record.value, type=TierCutoffs) for record in records if record.value is not None]


async def request_cutoffs(settings: Settings, at: int | None = None) -> int:
    """Request cut-offs that take effect at a future instant (ms; default: in a minute); return the instant.

    Raises CutoffsError if the instant has passed, or is missing while stream time follows the events; BrokerError.
    """
    now = time.time_ns() // 1_000_000
    if at is None and settings.clock == "event":
        raise CutoffsError("--at: required, because stream time follows the events here; give a future instant")
    if at is not None and settings.clock == "wall" and at <= now:
        raise CutoffsError(f"--at: found {format_instant(at)}, allowed is a future instant")
    at = now + AHEAD if at is None else at
    producer = make_producer(settings)
    try:
        await asyncio.wait_for(producer.start(), TIMEOUT_S)
        topic = settings.topic(populations_label(settings))
        await producer.send_and_wait(topic, msgspec.msgpack.encode(at), key=REQUEST_KEY, partition=LEADER)
    except (KafkaError, OSError, TimeoutError) as error:
        raise BrokerError(f"the broker at {settings.broker} cannot be reached: {error or 'no answer'}") from None
    finally:
        await producer.stop()
    return at
