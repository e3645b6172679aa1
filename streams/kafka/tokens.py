"""OAuth tokens for Kafka clients: from a file, or by the client credentials grant."""

import asyncio
import json
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError

from config.settings import Settings
from streams.kafka.tls import tls_context

#: How long (seconds) the server that issues tokens may take.
_TOKEN_TIMEOUT_S = 10.0
#: A token is renewed when this share of its life is left.
_RENEW_SHARE = 0.2


def token_provider(settings: Settings) -> AbstractTokenProvider:
    """Return what gives a client its tokens."""
    return TokenFile(settings) if settings.oauth_token_file is not None else ClientCredentials(settings)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # untyped upstream
    """The token in a file, which is read each time: another process renews it."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.oauth_token_file

    async def token(self) -> str:
        """Return the token. Raises KafkaConnectionError if the file cannot be read."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> str:
        if self._path is None:
            raise KafkaConnectionError("TIDEMARK_OAUTH_TOKEN_FILE: missing")
        try:
            return self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise KafkaConnectionError(f"TIDEMARK_OAUTH_TOKEN_FILE: {self._path} cannot be read: {error}") from None


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]  # untyped upstream
    """Tokens by the client credentials grant (RFC 6749, 4.4), kept until they are about to expire.

    Clients on several event loops may share it, because it waits in a thread.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._token = ""
        self._renew_at = 0.0

    async def token(self) -> str:
        """Return a token that stays valid for a while. Raises KafkaConnectionError if none is issued."""
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
