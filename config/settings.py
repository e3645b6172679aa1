"""Settings of a process, read once from the environment (`TIDEMARK_…`) and an optional `.env` file.

One frozen object, checked as a whole, so that every mistake is told at once. The command line reads it and
hands it on; nothing else looks at the environment.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.errors import UnusableInput
from models.instants import DAY_MS, format_duration, parse_duration

PREFIX = "TIDEMARK_"
_TOKEN_LENGTH = 16
#: What is told in the place of a secret.
MASKED = "********"


class SettingsError(UnusableInput):
    """Some settings cannot be used. The message names each variable, what was found and what is allowed."""


def _milliseconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _token(value: object) -> object:
    """Take nothing for no token; refuse one that is easily guessed, without telling it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if text is None or text == "":
        return None
    if isinstance(text, str) and len(text) < _TOKEN_LENGTH:
        raise PydanticCustomError("token", f"a token has at least {_TOKEN_LENGTH} characters")
    return value


Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


class Settings(BaseSettings):
    """All settings. Durations are written as `30s` or `1d` and held in ms. See docs/operations.md."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    broker: str = "127.0.0.1:9092"
    policy: Path = Path(__file__).parent / "policies" / "retail.yaml"
    app_id: Name = "tidemark"
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    replication: Annotated[int, Field(ge=1, le=9)] = 1
    standbys: Annotated[int, Field(ge=0, le=8)] = 0
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    clock: Literal["wall", "event"] = "wall"
    decide: Literal["eager", "settled"] = "eager"
    lateness: Milliseconds = 5 * 60_000
    clock_grace: Milliseconds = 10_000
    idle_after: Milliseconds | None = None
    tick_interval: Annotated[int, BeforeValidator(_milliseconds), Field(ge=50, le=60_000)] = 1_000
    max_ahead: Milliseconds | None = None
    max_bytes: Annotated[int, Field(ge=256, le=900_000)] = 65_536
    max_batch: Annotated[int, Field(ge=1, le=100_000)] = 50_000
    partitioner: Literal["any", "murmur2"] = "any"
    store: Literal["memory", "rocksdb"] = "memory"
    data_dir: Path = Path(".tidemark")
    web_host: str = "127.0.0.1"
    web_token: Annotated[SecretStr | None, BeforeValidator(_token)] = None
    web_open: bool = False
    web_port: Annotated[int, Field(ge=1, le=65_535)] = 6066
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("broker")
    @classmethod
    def _broker_has_ports(cls, value: str) -> str:
        for address in value.split(","):
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
                raise ValueError("allowed is host:port, several separated by commas")
        return value

    @model_validator(mode="after")
    def _exposed_pages_want_a_token(self) -> Self:
        if self.web_token is None and not self.web_open and not _is_loopback(self.web_host):
            raise ValueError(
                f"{PREFIX}WEB_HOST {self.web_host} is not the loopback address: set {PREFIX}WEB_TOKEN, "
                f"or {PREFIX}WEB_OPEN=true where the network itself keeps others out"
            )
        return self

    @property
    def ahead(self) -> int:
        """How far (ms) in the future an event may lie: one day, or a year where time follows the events."""
        if self.max_ahead is not None:
            return self.max_ahead
        return DAY_MS if self.clock == "wall" else 366 * DAY_MS

    @property
    def settled(self) -> bool:
        """Whether events wait for their instant to be settled."""
        return self.decide == "settled"

    def topic(self, name: str) -> str:
        """Return a topic's full name."""
        return f"{self.topic_prefix}{name}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this process; `overrides` win over the environment. Raises SettingsError."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic at run time
    except ValidationError as error:
        lines = [_line(e) for e in error.errors()]
        raise SettingsError("; ".join(lines)) from None


def show_settings(settings: Settings) -> dict[str, str]:
    """Return the effective settings as texts, durations in their own notation, secrets masked."""
    durations = {"lateness", "clock_grace", "idle_after", "tick_interval", "max_ahead"}
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {
        f"{PREFIX}{name.upper()}": (
            "" if value is None else format_duration(value) if name in durations else _text(value)
        )
        for name, value in values.items()
    }


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASKED
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(error: object) -> str:
    details: dict[str, Any] = error  # type: ignore[assignment]  # pydantic's ErrorDetails
    told = str(details["msg"]).removeprefix("Value error, ")
    if not details["loc"]:
        return told  # of several settings; it names them
    name = ".".join(map(str, details["loc"])).upper()
    found = MASKED if name == "WEB_TOKEN" else repr(details["input"])
    return f"{PREFIX}{name}: found {found}: {told}"
