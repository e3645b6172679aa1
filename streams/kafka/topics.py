"""The topics: their names, partitions and settings. They are created here, and a broker's are checked.

Inputs, outputs and internal topics all have the same number of partitions, and a record stays in its partition
number all the way through (co-partitioning).
"""

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAlreadyExistsError,
    for_code,
)

from config.settings import Settings
from models.errors import TidemarkError
from models.events import Topic
from models.instants import DAY_MS, HOUR_MS
from streams.kafka.clients import MAX_ROW_BYTES, TIMEOUT_S, client_options, make_admin
from streams.kafka.records import CARE_ACTIONS, CUSTOMER_TIERS, DEAD_LETTERS, TIER_CHANGES, TIER_CUTOFFS

#: The largest dead letter (bytes): a bad record of up to Kafka's default limit (1 MiB), with headers.
MAX_DEAD_LETTER_BYTES = 2_097_152


class TopicsError(TidemarkError):
    """Topics are missing or differ from the settings. Create them with `tidemark topics create`, or correct them."""


class BrokerError(TidemarkError):
    """The broker does not answer, or refuses. Check TIDEMARK_BROKER and that it runs."""


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be. `topics create` sets its `configs`; only compaction is checked afterwards."""

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
    """Return the name of the internal topic of watermarks."""
    return settings.topic(f"{settings.app_id}-ticks")


def populations_label(settings: Settings) -> str:
    """Return the label of the internal topic of populations and cut-offs; its name is `settings.topic` of it."""
    return f"{settings.app_id}-populations"


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
        TopicSpec(settings.topic(TIER_CUTOFFS), compacted=False, retention_ms=-1),
        TopicSpec(
            settings.topic(DEAD_LETTERS),
            compacted=False,
            retention_ms=14 * DAY_MS,
            max_bytes=MAX_DEAD_LETTER_BYTES,
        ),
        TopicSpec(ticks_name(settings), compacted=False, retention_ms=HOUR_MS),
        TopicSpec(settings.topic(populations_label(settings)), compacted=True),
        TopicSpec(changelog_name(settings), compacted=True, max_bytes=MAX_ROW_BYTES),
    ]


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics of a worker group that are missing; return their names. Raises BrokerError."""
    return await create_specs(settings, topic_specs(settings))


def acknowledged_by(replication: int) -> dict[str, str]:
    """Return the topic setting by which acknowledged records are on most replicas, and survive the loss of a broker.

    It is empty for fewer than three replicas: the loss of one would stop all writing.
    """
    return {"min.insync.replicas": str(replication // 2 + 1)} if replication > 2 else {}


async def create_specs(settings: Settings, specs: Iterable[TopicSpec]) -> list[str]:
    """Create the topics that are missing among some; return their names. Raises BrokerError."""
    admin, durable = await _connect(settings), acknowledged_by(settings.replication)
    try:
        existing = set(await admin.list_topics())
        missing = [spec for spec in specs if spec.name not in existing]
        new = [
            NewTopic(spec.name, settings.partitions, settings.replication, topic_configs=spec.configs | durable)
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


async def partition_counts(settings: Settings, names: Iterable[str]) -> dict[str, int]:
    """Return the number of partitions by topic. Raises TopicsError for one that does not exist, BrokerError."""
    admin = await _connect(settings)
    try:
        existing = set(await admin.list_topics())
        for name in names:
            if name not in existing:
                raise TopicsError(f"{name} does not exist at {settings.broker}; is the topic prefix right?")
        return {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics(list(names))}
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


async def partitions_of(settings: Settings, name: str) -> list[int]:
    """Return the partition numbers of a topic; none if it does not exist. Raises BrokerError."""
    admin = await _connect(settings)
    try:
        if name not in await admin.list_topics():
            return []
        (described,) = await admin.describe_topics([name])
        return sorted(part["partition"] for part in described["partitions"])
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
    admin = make_admin(settings)
    try:
        await asyncio.wait_for(admin.start(), TIMEOUT_S)
    except (KafkaError, OSError, TimeoutError):
        await admin.close()
        raise await unreachable(settings) from None
    return admin


async def unreachable(settings: Settings) -> BrokerError:
    """Return why a client could not connect. The client only logs it, so this asks the first broker again."""
    options = client_options(settings)
    host, _, port = options.pop("bootstrap_servers").split(",")[0].strip().rpartition(":")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            (await create_conn(host.strip("[]"), int(port), **options)).close()
    except ssl.SSLError as error:
        return BrokerError(f"the broker at {settings.broker} and we do not agree on TLS: {error}")
    except SaslAuthenticationFailed as error:
        return BrokerError(f"the broker at {settings.broker} does not let us in: {error}")
    except KafkaConnectionError as error:
        if "OAUTH" in str(error):  # no token was issued, and the message says why
            return BrokerError(str(error).removeprefix("KafkaConnectionError: "))
    except (KafkaError, OSError, TimeoutError):
        pass
    return BrokerError(f"no broker answers at {settings.broker}; is it running, is TIDEMARK_BROKER right?")
