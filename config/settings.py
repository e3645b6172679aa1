"""Settings of a process, read once: the environment (`TIDEMARK_…`), `.env`, then the file that TIDEMARK_CONFIG names.

They are one frozen object, checked as a whole, so that all mistakes are reported together. The command line reads it
and passes it on; nothing else reads the environment.
"""

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.connection import PREFIX, ConnectionSettings, Mistake
from config.setting_types import MASKED, Duration, Milliseconds, Name, OptionalMilliseconds, OptionalPath, Token
from config.settings_file import FileSource, SettingsError, read_file, unknown_names, unknown_variables
from models.instants import DAY_MS, format_duration

__all__ = ["PREFIX", "Settings", "SettingsError", "load_settings", "show_settings"]

_DURATIONS = {"lateness", "clock_grace", "idle_after", "tick_interval", "max_ahead", "stop_within"}
#: Masked even in messages that refuse them.
_SECRETS = {"web_token", "tls_key_password", "sasl_password", "oauth_client_secret"}


class Settings(ConnectionSettings):
    """All settings. Durations are written as `30s` or `1d` and held in ms. See docs/operations.md."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    config: OptionalPath = None
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
    idle_after: OptionalMilliseconds = None
    tick_interval: Annotated[Duration, Field(ge=50, le=60_000)] = 1_000
    max_ahead: OptionalMilliseconds = None
    max_bytes: Annotated[int, Field(ge=256, le=900_000)] = 65_536
    max_batch: Annotated[int, Field(ge=1, le=100_000)] = 100_000
    partitioner: Literal["any", "murmur2"] = "any"
    store: Literal["memory", "rocksdb"] = "memory"
    data_dir: Path = Path(".tidemark")
    web_host: str = "127.0.0.1"
    web_token: Token = None
    web_open: bool = False
    web_port: Annotated[int, Field(ge=1, le=65_535)] = 6066
    stop_within: Annotated[Duration, Field(ge=1_000, le=600_000)] = 25_000
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # upstream's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values in order of precedence."""
        return init_settings, env_settings, dotenv_settings, FileSource(settings_cls)

    def mistakes(self) -> Iterator[Mistake]:
        """Yield the mistakes in combinations of values that are valid in themselves."""
        yield from self.connection_mistakes()
        if self.web_token is None and not self.web_open and not _is_loopback(self.web_host):
            yield Mistake(
                f"{PREFIX}WEB_HOST {self.web_host} is not the loopback address: set {PREFIX}WEB_TOKEN, "
                f"or {PREFIX}WEB_OPEN=true if the network itself keeps others out",
                ("web_host", "web_token", "web_open"),
            )

    @property
    def ahead(self) -> int:
        """How far (ms) in the future an event may lie: by default one day, or a year with the event clock."""
        if self.max_ahead is not None:
            return self.max_ahead
        return DAY_MS if self.clock == "wall" else 366 * DAY_MS

    @property
    def settled(self) -> bool:
        """Whether events wait until their instant is settled."""
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
    """Return the settings of this process; `overrides` override the environment. Raises SettingsError.

    Mistakes in combinations are reported together with mistakes in single values, unless they concern the same setting.
    """
    fields, wrong, lines = Settings.model_fields, dict[str, Any](), list[str]()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # checked by pydantic at run time
    except ValidationError as error:
        wrong = {str(details["loc"][0]): details for details in error.errors()}
        defaults = {name: fields[name].get_default() for name in wrong}
        settings = Settings(**overrides | defaults)  # type: ignore[arg-type]  # as above
    lines += unknown_variables(PREFIX, set(fields))[0]
    path = settings.config
    filed = {} if path is None else read_file(path)
    if path is not None:
        lines += unknown_names(path, set(fields) - {"config"})
    lines += [_line(name, details, path if _is_filed(details, filed) else None) for name, details in wrong.items()]
    lines += [mistake.told for mistake in settings.mistakes() if wrong.keys().isdisjoint(mistake.names)]
    if lines:
        raise SettingsError("; ".join(lines))
    return settings


def _is_filed(details: dict[str, Any], filed: dict[str, Any]) -> bool:
    """Whether a refused value comes from the settings file, not from the environment."""
    name = str(details["loc"][0])
    return name in filed and filed[name] == details["input"] and f"{PREFIX}{name.upper()}" not in os.environ


def show_settings(settings: Settings) -> dict[str, str]:
    """Return the settings in force as texts, with durations in their notation and secrets masked."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {
        f"{PREFIX}{name.upper()}": (
            "" if value is None else format_duration(value) if name in _DURATIONS else _text(value)
        )
        for name, value in values.items()
    }


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return MASKED
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(name: str, details: dict[str, Any], path: Path | None) -> str:
    told = str(details["msg"]).removeprefix("Value error, ")
    found = MASKED if name in _SECRETS else repr(details["input"])
    where = f"{PREFIX}{name.upper()}" if path is None else f"{path}: {name}"
    return f"{where}: found {found}: {told}"
