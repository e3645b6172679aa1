"""The settings of the connection to Kafka: addresses, encryption (TLS) and authentication (SASL).

`streams.kafka.clients` turns them into options for every client.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import field_validator
from pydantic_settings import BaseSettings

from config.setting_types import ReadableFile, Secret, Text

PREFIX = "TIDEMARK_"
_PASSWORDS = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}


class Mistake(NamedTuple):
    """A mistake in the combination of several settings, and the names of their fields."""

    told: str
    names: tuple[str, ...]


class ConnectionSettings(BaseSettings):
    """How to reach Kafka. The names are those of Kafka's own client settings if it has them."""

    broker: str = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    tls_ca: ReadableFile = None
    tls_cert: ReadableFile = None
    tls_key: ReadableFile = None
    tls_key_password: Secret = None
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = ""
    sasl_username: Text = None
    sasl_password: Secret = None
    oauth_token_file: ReadableFile = None
    oauth_token_url: Text = None
    oauth_client_id: Text = None
    oauth_client_secret: Secret = None
    oauth_scope: Text = None

    @field_validator("broker")
    @classmethod
    def _broker_has_ports(cls, value: str) -> str:
        for address in value.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
                raise ValueError("allowed is host:port, several separated by commas")
        return value

    @field_validator("oauth_token_url")
    @classmethod
    def _url_of_a_web_server(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("allowed is a URL that begins with https:// (or http://)")
        return value

    @property
    def encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.security_protocol.endswith("SSL")

    @property
    def authenticated(self) -> bool:
        """Whether the connection is SASL."""
        return self.security_protocol.startswith("SASL")

    def connection_mistakes(self) -> Iterator[Mistake]:
        """Yield the mistakes in combinations of settings."""
        yield from self._tls_mistakes()
        if self.authenticated != bool(self.sasl_mechanism):
            found = self.sasl_mechanism or "none"
            yield Mistake(
                f"{PREFIX}SASL_MECHANISM: found {found} with {PREFIX}SECURITY_PROTOCOL={self.security_protocol}; "
                "SASL_PLAINTEXT and SASL_SSL need a mechanism, other protocols allow none",
                ("sasl_mechanism", "security_protocol"),
            )
        elif self.sasl_mechanism in _PASSWORDS:
            yield from self._missing("sasl_username", "sasl_password")
        elif self.sasl_mechanism == "OAUTHBEARER":
            yield from self._oauth_mistakes()

    def _tls_mistakes(self) -> Iterator[Mistake]:
        given = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(self, name) is not None]
        if given and not self.encrypted:
            listed = ", ".join(PREFIX + name.upper() for name in given)
            yield Mistake(
                f"{PREFIX}SECURITY_PROTOCOL: found {self.security_protocol} with {listed}; TLS needs SSL or SASL_SSL",
                ("security_protocol", *given),
            )
        if (self.tls_cert is None) is not (self.tls_key is None):
            yield Mistake(f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY: found one without the other", ("tls_cert", "tls_key"))

    def _oauth_mistakes(self) -> Iterator[Mistake]:
        if (self.oauth_token_file is None) is (self.oauth_token_url is None):
            yield Mistake(
                f"{PREFIX}OAUTH_TOKEN_FILE and {PREFIX}OAUTH_TOKEN_URL: OAUTHBEARER needs exactly one of them",
                ("oauth_token_file", "oauth_token_url"),
            )
        elif self.oauth_token_url is not None:
            yield from self._missing("oauth_client_id", "oauth_client_secret")

    def _missing(self, *names: str) -> Iterator[Mistake]:
        for name in names:
            if getattr(self, name) is None:
                yield Mistake(f"{PREFIX}{name.upper()}: missing; {self.sasl_mechanism} needs it", (name,))
