"""The factory of Kafka clients: addresses, TLS, SASL, limits and timeouts, from the settings. Nothing connects here.

Every consumer, producer and admin client of ours is made here. Faust makes its own, with the credentials of
`streams.faust_ext.clients`.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from config.settings import Settings
from models.errors import UnusableInput
from streams.kafka.bounded_batches import bound_batches
from streams.kafka.tls import tls_context
from streams.kafka.tokens import token_provider

#: How long (seconds) to wait for a broker to answer.
TIMEOUT_S = 30
#: The largest row (bytes) that the bounds of a customer's state allow, doubled.
MAX_ROW_BYTES = 4_194_304


def make_consumer(settings: Settings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """Return a consumer that belongs to no group, begins at the earliest offset and reads what is committed.

    `options` override aiokafka's. Ends of partitions are last stable offsets. What is decompressed is bounded.

    Raises UnusableInput as `client_options` does.
    """
    bound_batches()
    given = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "max_partition_fetch_bytes": MAX_ROW_BYTES,
        "request_timeout_ms": TIMEOUT_S * 1000,
    }
    return AIOKafkaConsumer(*topics, **client_options(settings), **(given | options))


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """Return a producer; `options` override aiokafka's. Raises UnusableInput as `client_options` does."""
    given = {"request_timeout_ms": TIMEOUT_S * 1000}
    return AIOKafkaProducer(**client_options(settings), **(given | options))


def make_admin(settings: Settings) -> AIOKafkaAdminClient:
    """Return an admin client. Raises UnusableInput as `client_options` does."""
    return AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=TIMEOUT_S * 1000)


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the options that every aiokafka client needs: the brokers' addresses, and how to connect to them.

    Raises UnusableInput if a certificate or key cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.security_protocol,
        "ssl_context": tls_context(settings),
    }
    if settings.sasl_mechanism:
        options["sasl_mechanism"] = settings.sasl_mechanism
    if settings.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = token_provider(settings)
    elif settings.sasl_mechanism:
        options["sasl_plain_username"], options["sasl_plain_password"] = username_and_password(settings)
    return options


def username_and_password(settings: Settings) -> tuple[str, str]:
    """Return the name and password for SASL. Raises UnusableInput if one is missing."""
    username, password = settings.sasl_username, settings.sasl_password
    if username is None or password is None:  # `load_settings` refuses it
        raise UnusableInput("TIDEMARK_SASL_USERNAME, TIDEMARK_SASL_PASSWORD: missing")
    return username, password.get_secret_value()
