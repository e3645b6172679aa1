import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.policy_files import check_file
from config.settings import PREFIX, Settings, SettingsError, load_settings, show_settings
from config.settings_file import unknown_variables
from models.instants import DAY_MS, HOUR_MS, MINUTE_MS


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ignore this machine's environment and its `.env`."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_usable() -> None:
    settings = load_settings()
    assert (settings.broker, settings.app_id, settings.partitions) == ("127.0.0.1:9092", "tidemark", 8)
    assert (settings.clock, settings.decide, settings.settled) == ("wall", "eager", False)
    assert (settings.lateness, settings.tick_interval, settings.max_bytes) == (5 * MINUTE_MS, 1_000, 65_536)
    assert check_file(settings.policy) == []
    assert settings.topic("orders") == "orders"


def test_reads_the_environment_in_its_own_notation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_BROKER", "a:9092, [::1]:9093")
    monkeypatch.setenv("TIDEMARK_LATENESS", "2h")
    monkeypatch.setenv("TIDEMARK_TICK_INTERVAL", "250ms")
    monkeypatch.setenv("TIDEMARK_DECIDE", "settled")
    monkeypatch.setenv("TIDEMARK_TOPIC_PREFIX", "shop.")
    monkeypatch.setenv("TIDEMARK_PARTITIONS", "64")
    monkeypatch.setenv("TIDEMARK_OF_ANOTHER_RELEASE", "1")
    settings = load_settings()
    assert (settings.lateness, settings.tick_interval, settings.partitions) == (2 * HOUR_MS, 250, 64)
    assert (settings.settled, settings.topic("orders")) == (True, "shop.orders")
    assert settings.broker.startswith("a:9092")


def test_the_environment_overrides_env_and_arguments_override_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TIDEMARK_APP_ID=file\nTIDEMARK_PARTITIONS=3\nTIDEMARK_WEB_PORT=7000\n")
    monkeypatch.setenv("TIDEMARK_PARTITIONS", "4")
    monkeypatch.setenv("TIDEMARK_WEB_PORT", "7001")
    settings = load_settings(web_port=7002)
    assert (settings.app_id, settings.partitions, settings.web_port) == ("file", 4, 7002)


@pytest.mark.parametrize(
    ("clock", "max_ahead", "ahead"),
    [("wall", None, DAY_MS), ("event", None, 366 * DAY_MS), ("wall", "0s", 0), ("event", "36h", 36 * HOUR_MS)],
)
def test_the_default_of_max_ahead_depends_on_the_clock(clock: str, max_ahead: str | None, ahead: int) -> None:
    assert load_settings(clock=clock, max_ahead=max_ahead).ahead == ahead


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER", "localhost"),
        ("BROKER", "localhost:"),
        ("BROKER", ":9092"),
        ("BROKER", "a:9092,b"),
        ("BROKER", ""),
        ("APP_ID", ""),
        ("APP_ID", "tide mark"),
        ("PARTITIONS", "0"),
        ("PARTITIONS", "1025"),
        ("PARTITIONS", "eight"),
        ("TOPIC_PREFIX", "a/b"),
        ("CLOCK", "sundial"),
        ("DECIDE", "later"),
        ("LATENESS", "5"),
        ("LATENESS", "-5m"),
        ("LATENESS", "five minutes"),
        ("TICK_INTERVAL", "49ms"),
        ("TICK_INTERVAL", "61s"),
        ("MAX_BYTES", "900001"),
        ("WEB_PORT", "65536"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_mistake_names_its_variable_and_what_was_found(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"TIDEMARK_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(f"TIDEMARK_{name}: found {value!r}: ")


def test_all_mistakes_are_reported_together_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER", "CLOCK", "LATENESS"):
        monkeypatch.setenv(f"TIDEMARK_{name}", "x")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    message = str(refused.value)
    assert all(f"TIDEMARK_{name}: found 'x'" in message for name in ("BROKER", "CLOCK", "LATENESS"))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LATENES", "LATENESS"),
        ("PARTITION", "PARTITIONS"),
        ("WEBTOKEN", "WEB_TOKEN"),
        ("SASL_PASWORD", "SASL_PASSWORD"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_setting_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(f"TIDEMARK_{variable}", "a secret")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value) == f"TIDEMARK_{variable}: no such setting; did you mean TIDEMARK_{meant}?"


def test_a_variable_that_is_meant_for_others_is_known_to_be_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "PORT_6066_TCP_ADDR"):  # Kubernetes' for a service named `tidemark`
        monkeypatch.setenv(f"TIDEMARK_{name}", "10.0.0.1")
    load_settings()
    assert {"TIDEMARK_SERVICE_HOST", "TIDEMARK_PORT_6066_TCP_ADDR"} <= {
        *unknown_variables(PREFIX, {*Settings.model_fields})[1]
    }


def test_blanks_around_a_token_are_dropped() -> None:
    token = load_settings(web_token="  a token of some length \n").web_token
    assert token is not None
    assert token.get_secret_value() == "a token of some length"
    with pytest.raises(SettingsError):
        load_settings(web_token=" " * 20)


def test_settings_are_immutable() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.partitions = 9  # type: ignore[misc]


def test_shown_settings_can_be_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = load_settings(lateness="90s", idle_after="0s", tick_interval="50ms", topic_prefix="p.", max_ahead="36h")
    shown = show_settings(original)
    assert shown["TIDEMARK_LATENESS"] == "90s"
    assert shown["TIDEMARK_MAX_AHEAD"] == "36h"
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == original


def test_unset_settings_are_shown_empty() -> None:
    assert show_settings(load_settings())["TIDEMARK_IDLE_AFTER"] == ""
