"""The topics: their names, partitions and settings; creating them, and checking that a broker's agree.

Inputs, outputs and internal topics all have the same number of partitions, and a record stays in its partition
number all the way through (co-partitioning).
"""

import asyncio
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from config.settings import Settings
from models.errors import TidemarkError
from models.events import Topic
from models.instants import DAY_MS, HOUR_MS
from streams.encode import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES

#: How long (seconds) to wait for a broker to answer.
TIMEOUT_S = 30
#: Room for a bad record as large as Kafka's default limit (1 MiB), which grows by its headers.
MAX_DEAD_LETTER_BYTES = 2_097_152
#: Room for the largest row that the bounds of a customer's state allow, with as much again to spare.
MAX_ROW_BYTES = 4_194_304


class TopicsError(TidemarkError):
    """Topics are missing or disagree. Create them with `tidemark topics create`, or correct the broker's."""


class BrokerError(TidemarkError):
    """The broker does not answer, or refuses. Check TIDEMARK_BROKER and that it runs."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be. `configs` are what `topics create` sets; only compaction is checked afterwards."""

    name: str
    compacted: bool
    retention_ms: int | None = None
    max_bytes: int | None = None

    @property
    def configs(self) -> dict[str, str]:
        """The topic settings for the broker."""
        configs = {"cleanup.policy": "compact" if self.compacted else "delete"}
        if self.retention_ms is not None:
            configs["retention.ms"] = str(self.retention_ms)
        if self.max_bytes is not None:
            configs["max.message.bytes"] = str(self.max_bytes)
        return configs


def changelog_name(settings: Settings) -> str:
    """Return the name of the changelog topic."""
    return settings.topic(f"{settings.app_id}-state-changelog")


def ticks_name(settings: Settings) -> str:
    """Return the name of the internal topic that ticks travel through."""
    return settings.topic(f"{settings.app_id}-ticks")


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return every topic that a worker group reads or writes."""
    return [
        TopicSpec(settings.topic(Topic.ORDERS.label), compacted=False, retention_ms=-1),
        TopicSpec(settings.topic(Topic.INTERACTIONS.label), compacted=False, retention_ms=-1),
        TopicSpec(settings.topic(Topic.CUSTOMERS.label), compacted=True),
        TopicSpec(settings.topic(Topic.CAMPAIGNS.label), compacted=False, retention_ms=-1),
        TopicSpec(settings.topic(TIER_CHANGES), compacted=False, retention_ms=-1),
        TopicSpec(settings.topic(CARE_ACTIONS), compacted=False, retention_ms=90 * DAY_MS),
        TopicSpec(settings.topic(CUSTOMER_TIERS), compacted=True),
        TopicSpec(
            settings.topic(DEAD_LETTERS),
            compacted=False,
            retention_ms=14 * DAY_MS,
            max_bytes=MAX_DEAD_LETTER_BYTES,
        ),
        TopicSpec(ticks_name(settings), compacted=False, retention_ms=HOUR_MS),
        TopicSpec(changelog_name(settings), compacted=True, max_bytes=MAX_ROW_BYTES),
    ]


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; return their names. Raises BrokerError."""
    admin = await _connect(settings)
    try:
        existing = set(await admin.list_topics())
        missing = [spec for spec in topic_specs(settings) if spec.name not in existing]
        new = [
            NewTopic(spec.name, settings.partitions, settings.replication, topic_configs=spec.configs)
            for spec in missing
        ]
        if new:
            response = await admin.create_topics(new)
            for name, code, *_ in response.topic_errors:
                if code and code != TopicAlreadyExistsError.errno:
                    raise BrokerError(f"topic {name} could not be created: {for_code(code).__name__}")
        return [spec.name for spec in missing]
    except KafkaError as error:
        raise BrokerError(f"the broker at {settings.broker} refused: {error}") from None
    finally:
        await admin.close()


async def check_topics(settings: Settings) -> list[str]:
    """Return what is wrong with the broker's topics, one line each; nothing when all is well. Raises BrokerError."""
    admin = await _connect(settings)
    try:
        specs = topic_specs(settings)
        existing = set(await admin.list_topics())
        mistakes = [f"{spec.name}: missing" for spec in specs if spec.name not in existing]
        present = [spec for spec in specs if spec.name in existing]
        for described in await admin.describe_topics([spec.name for spec in present]):
            found = len(described["partitions"])
            if found != settings.partitions:
                mistakes.append(f"{described['topic']}: found {found} partitions, allowed are {settings.partitions}")
        mistakes += await _check_compaction(admin, present)
        return sorted(mistakes)
    except KafkaError as error:
        raise BrokerError(f"the broker at {settings.broker} refused: {error}") from None
    finally:
        await admin.close()


async def _check_compaction(admin: AIOKafkaAdminClient, specs: list[TopicSpec]) -> list[str]:
    mistakes = []
    for spec in specs:
        policy = None
        for response in await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name)]):
            for resource in response.resources:
                policy = next((entry[1] for entry in resource[4] if entry[0] == "cleanup.policy"), policy)
        if policy is not None and ("compact" in policy) is not spec.compacted:
            wanted = "compact" if spec.compacted else "delete"
            mistakes.append(f"{spec.name}: found cleanup.policy={policy}, allowed is {wanted}")
    return mistakes


async def _connect(settings: Settings) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker, request_timeout_ms=TIMEOUT_S * 1000)
    try:
        await asyncio.wait_for(admin.start(), TIMEOUT_S)
    except (KafkaError, OSError, TimeoutError):
        await admin.close()
        raise BrokerError(f"no broker answers at {settings.broker}; is it running, is TIDEMARK_BROKER right?") from None
    return admin
