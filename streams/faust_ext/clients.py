"""Faust's own Kafka clients: the credentials they get, and the producer that a running app has."""

from typing import cast

import faust
from aiokafka import AIOKafkaProducer
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import Producer

from config.settings import Settings
from streams.kafka.clients import username_and_password
from streams.kafka.tls import tls_context
from streams.kafka.tokens import token_provider


def credentials(settings: Settings) -> Credentials | None:
    """Return the credentials for Faust; None for a plain connection. Raises UnusableInput as `tls_context` does."""
    context = tls_context(settings)
    if settings.sasl_mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=token_provider(settings), ssl_context=context)
    if settings.sasl_mechanism:
        username, password = username_and_password(settings)
        return SASLCredentials(
            username=username, password=password, ssl_context=context, mechanism=settings.sasl_mechanism
        )
    return None if context is None else SSLCredentials(context)


def producer_of(app: faust.App) -> AIOKafkaProducer:
    """Return the aiokafka producer of a started app."""
    return cast("Producer", app.producer)._ensure_producer()  # noqa: SLF001  # there is no public way
