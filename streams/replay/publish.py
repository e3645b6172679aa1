"""Publishing what a backfill decided: to shadow topics, or to the live ones where that was asked for expressly.

Every record is marked (`ce_backfill`), and comes from the files that were written. Care actions never reach the live
topic: somebody would get a second birthday offer. Records bear deterministic ids, so publishing again is harmless.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson

from config.settings import Settings
from models.errors import UnusableInput
from models.outputs import CareAction, CustomerTiers, TierChange
from streams.kafka.bulk_producer import bulk_producer
from streams.kafka.partitioner import partitioner
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, TIER_CHANGES, OutputRecord
from streams.kafka.topics import create_specs, topic_specs
from streams.partition.encoder import Encoder

#: The header of every record that a backfill publishes (a CloudEvents extension attribute).
MARK = ("ce_backfill", b"true")
_SUFFIX = re.compile(r"[A-Za-z0-9._-]{1,60}", re.ASCII)
#: From which file the records of a topic come.
_FILES = {TIER_CHANGES: "tier-changes.jsonl", CARE_ACTIONS: "care-actions.jsonl", CUSTOMER_TIERS: "customers.jsonl"}


class PublishError(UnusableInput):
    """The topics to publish to cannot be used. The message says what is allowed."""


class Target(NamedTuple):
    """An output and the topic that it is published to."""

    output: str
    topic: str


def targets(settings: Settings, suffix: str | None) -> list[Target]:
    """Return where outputs are published: to `NAME-SUFFIX`, or to the live topics, care actions excepted.

    Raises PublishError for a suffix that no topic can have.
    """
    if suffix is None:
        return [Target(output, settings.topic(output)) for output in (TIER_CHANGES, CUSTOMER_TIERS)]
    if not _SUFFIX.fullmatch(suffix):
        raise PublishError(f"--publish: found {suffix!r}; allowed are letters, digits, '.', '_' and '-'")
    joined = suffix if suffix[0] in "._-" else f"-{suffix}"
    return [Target(output, settings.topic(f"{output}{joined}")) for output in _FILES]


def announce(settings: Settings, chosen: list[Target], summary: Mapping[str, Any]) -> list[str]:
    """Return what publishing will do, a line for each topic."""
    counts = {
        TIER_CHANGES: summary["tier_changes"]["total"],
        CARE_ACTIONS: summary["care_actions"]["total"],
        CUSTOMER_TIERS: summary["customers"],
    }
    lines = [f"{counts[output]:,} records to {topic} at {settings.broker}" for output, topic in chosen]
    if CARE_ACTIONS not in {output for output, _ in chosen}:
        lines.append(f"none of {counts[CARE_ACTIONS]:,} care actions: those of a backfill never reach the live topic")
    return lines


async def publish(settings: Settings, chosen: list[Target], out: Path) -> int:
    """Produce the outputs in a directory to their topics, created where missing; return how many.

    Raises BrokerError.
    """
    likes = {spec.name: spec for spec in topic_specs(settings)}
    specs = [likes[settings.topic(output)] for output, _ in chosen]
    wanted = [replace(spec, name=topic) for spec, (_, topic) in zip(specs, chosen, strict=True)]
    await create_specs(settings, wanted)
    async with bulk_producer(settings) as bulk:
        for output, topic in chosen:
            partition_for = partitioner(await bulk.partitions(topic))
            for record in _records(output, out / _FILES[output]):
                key = record.key or b""
                await bulk.add(topic, partition_for(key), key, record.value, [*record.headers, MARK])
        await bulk.flush()
        return bulk.count


def _records(output: str, path: Path) -> Iterator[OutputRecord]:
    encoder = Encoder("/replay")
    with path.open("rb") as file:
        for line in file:
            if output == TIER_CHANGES:
                yield encoder.tier_change(msgspec.json.decode(line, type=TierChange))
            elif output == CARE_ACTIONS:
                yield encoder.care_action(msgspec.json.decode(line, type=CareAction))
            elif (state := orjson.loads(line))["tiers"]:
                tiers = msgspec.convert(state, CustomerTiers)
                yield encoder.customer_tiers(tiers.customer_id.encode(), tiers)
