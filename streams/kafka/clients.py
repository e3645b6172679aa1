"""How every Kafka client of ours connects: addresses, TLS and SASL, from the settings. Nothing connects here.

Whoever makes a client of aiokafka passes `**client_options(settings)`; Faust takes `credentials(settings)`.
"""

import asyncio
import json
import ssl
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from faust.auth import Credentials, OAuthCredentials, SASLCredentials, SSLCredentials

from config.settings import Settings
from models.errors import UnusableInput

#: How long (seconds) the server that gives tokens may take.
_TOKEN_TIMEOUT_S = 10.0
#: A token is renewed when this share of its life is left.
_RENEW_SHARE = 0.2


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the options of an aiokafka client: where the brokers are, and how to connect to them.

    Raises UnusableInput where a certificate or key cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.broker,
        "security_protocol": settings.security_protocol,
        "ssl_context": tls_context(settings),
    }
    if settings.sasl_mechanism:
        options["sasl_mechanism"] = settings.sasl_mechanism
    if settings.sasl_mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = _tokens(settings)
    elif settings.sasl_mechanism:
        options["sasl_plain_username"], options["sasl_plain_password"] = _user(settings)
    return options


def credentials(settings: Settings) -> Credentials | None:
    """Return what Faust wants to know for the same; None for a plain connection. Raises UnusableInput."""
    context = tls_context(settings)
    if settings.sasl_mechanism == "OAUTHBEARER":
        return OAuthCredentials(oauth_cb=_tokens(settings), ssl_context=context)
    if settings.sasl_mechanism:
        username, password = _user(settings)
        return SASLCredentials(
            username=username, password=password, ssl_context=context, mechanism=settings.sasl_mechanism
        )
    return None if context is None else SSLCredentials(context)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Return how TLS is spoken, None where it is not. The broker's certificate and its name are always checked."""
    if not settings.encrypted:
        return None
    key_password = settings.tls_key_password
    try:
        context = ssl.create_default_context(cafile=settings.tls_ca)
    except OSError as error:
        raise UnusableInput(f"TIDEMARK_TLS_CA: {settings.tls_ca} is no certificate in PEM: {error}") from None
    if settings.tls_cert is not None:
        try:
            context.load_cert_chain(
                settings.tls_cert,
                settings.tls_key,
                # A callable, or OpenSSL would ask at the terminal where there is none.
                lambda: "" if key_password is None else key_password.get_secret_value(),
            )
        except OSError as error:
            raise UnusableInput(f"TIDEMARK_TLS_CERT, TIDEMARK_TLS_KEY: they cannot be used together: {error}") from None
    return context


def _user(settings: Settings) -> tuple[str, str]:
    username, password = settings.sasl_username, settings.sasl_password
    if username is None or password is None:  # `load_settings` refuses it
        raise UnusableInput("TIDEMARK_SASL_USERNAME, TIDEMARK_SASL_PASSWORD: missing")
    return username, password.get_secret_value()


def _tokens(settings: Settings) -> AbstractTokenProvider:
    return TokenFile(settings) if settings.oauth_token_file is not None else ClientCredentials(settings)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # untyped upstream
    """The token that a file holds, read each time: whoever renews it writes the file."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.oauth_token_file

    async def token(self) -> str:
        """Return the token. Raises KafkaConnectionError where the file cannot be read."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        if self._path is None:
            raise KafkaConnectionError("TIDEMARK_OAUTH_TOKEN_FILE: missing")
        try:
            return self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KafkaConnectionError(f"TIDEMARK_OAUTH_TOKEN_FILE: {self._path} cannot be read: {error}") from None


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]  # untyped upstream
    """Tokens by the client credentials grant (RFC 6749, 4.4), kept until they near their end.

    Clients on several event loops may share it: what it waits for, it waits for in a thread.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """Return a token that still lives for a while. Raises KafkaConnectionError where none is given."""
        return await asyncio.to_thread(self._current)

    def _current(self) -> str:
        with self._lock:
            if time.monotonic() >= self._renew_at:
                answer = self._ask()
                self._token = str(answer["access_token"])
                self._renew_at = time.monotonic() + float(answer.get("expires_in", 60)) * (1 - _RENEW_SHARE)
            return self._token

    def _ask(self) -> dict[str, Any]:
        settings, secret = self._settings, self._settings.oauth_client_secret
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.oauth_client_id or "",
            "client_secret": "" if secret is None else secret.get_secret_value(),
        }
        if settings.oauth_scope:
            form["scope"] = settings.oauth_scope
        url, data = str(settings.oauth_token_url), urllib.parse.urlencode(form).encode()
        context = tls_context(settings) if url.startswith("https:") else None
        try:
            with urllib.request.urlopen(url, data, _TOKEN_TIMEOUT_S, context=context) as response:  # noqa: S310  # http(s) by the settings
                answer = json.load(response)
            if not isinstance(answer, dict) or "access_token" not in answer:
                raise KafkaConnectionError(f"TIDEMARK_OAUTH_TOKEN_URL: {url} answers without an access_token")
        except (OSError, ValueError) as error:
            raise KafkaConnectionError(f"TIDEMARK_OAUTH_TOKEN_URL: {url} gives no token: {error}") from None
        return answer
