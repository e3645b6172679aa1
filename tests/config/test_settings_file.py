"""Settings from a file, and settings that contradict each other: all mistakes are reported together."""

import os
from pathlib import Path

import pytest
import yaml

from config.setting_types import MASKED
from config.settings import PREFIX, Settings, SettingsError, load_settings, show_settings
from models.instants import HOUR_MS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ignore this machine's environment and its `.env`."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def config(text: str) -> Path:
    path = Path("settings.yaml").absolute()
    path.write_text(text)
    return path


def refused(**overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as error:
        load_settings(**overrides)
    return str(error.value).split("; ")


def test_the_environment_overrides_env_which_overrides_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = config("app_id: file\npartitions: 2\nlateness: 2h\nreplication: 2\nmax_ahead:\n")
    Path(".env").write_text(f"TIDEMARK_CONFIG={path}\nTIDEMARK_PARTITIONS=3\nTIDEMARK_REPLICATION=3\n")
    monkeypatch.setenv("TIDEMARK_REPLICATION", "4")
    settings = load_settings(standbys=1)
    assert (settings.app_id, settings.partitions, settings.replication, settings.standbys) == ("file", 3, 4, 1)
    assert (settings.lateness, settings.max_ahead, settings.config) == (2 * HOUR_MS, None, path)


def test_a_mistake_in_the_file_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = config("clock: sundial\npartitions: 5000\npartitons: 8\nweb_port: 1\nconfig: other.yaml\n")
    monkeypatch.setenv("TIDEMARK_CONFIG", str(path))
    monkeypatch.setenv("TIDEMARK_WEB_PORT", "70000")
    mistakes = refused()
    assert f"{path}: partitons: no such setting" in mistakes
    assert "did you mean partitions?" in mistakes
    assert any(line.startswith(f"{path}: clock: found 'sundial': ") for line in mistakes)
    assert any(line.startswith(f"{path}: partitions: found 5000: ") for line in mistakes)
    assert any(line.startswith("TIDEMARK_WEB_PORT: found '70000': ") for line in mistakes)
    assert any(line.startswith(f"{path}: config: no such setting") for line in mistakes)


@pytest.mark.parametrize(
    ("text", "why"),
    [("- a\n- b\n", "found a list, allowed is name: value"), ("a: [1\n", "is not YAML"), (None, "cannot be read")],
)
def test_an_unusable_file_is_reported_in_one_line(text: str | None, why: str) -> None:
    path = Path("missing.yaml").absolute() if text is None else config(text)
    with pytest.raises(SettingsError) as error:
        load_settings(config=path)
    assert str(error.value).startswith(f"TIDEMARK_CONFIG: {path}")
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_file_changes_nothing() -> None:
    assert load_settings(config=config("# nothing yet\n")).partitions == Settings().partitions


def test_contradictions_are_reported_together_with_wrong_values() -> None:
    mistakes = refused(partitions=0, web_host="0.0.0.0", security_protocol="SASL_SSL", sasl_mechanism="PLAIN")  # noqa: S104
    assert any(line.startswith("TIDEMARK_PARTITIONS: found 0") for line in mistakes)
    assert any(line.startswith("TIDEMARK_WEB_HOST 0.0.0.0 is not the loopback address") for line in mistakes)
    assert "TIDEMARK_SASL_USERNAME: missing" in mistakes
    assert "TIDEMARK_SASL_PASSWORD: missing" in mistakes


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"security_protocol": "SASL_SSL"}, "TIDEMARK_SASL_MECHANISM: found none"),
        ({"sasl_mechanism": "PLAIN"}, "TIDEMARK_SASL_MECHANISM: found PLAIN with"),
        ({"tls_ca": __file__}, "TIDEMARK_SECURITY_PROTOCOL: found PLAINTEXT with TIDEMARK_TLS_CA"),
        ({"security_protocol": "SSL", "tls_cert": __file__}, "TIDEMARK_TLS_CERT and TIDEMARK_TLS_KEY"),
        (
            {"security_protocol": "SSL", "tls_ca": "/nowhere.pem"},
            "TIDEMARK_TLS_CA: found '/nowhere.pem': the file cannot",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"},
            "TIDEMARK_OAUTH_TOKEN_FILE and TIDEMARK_OAUTH_TOKEN_URL",
        ),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth_token_url": "https://t"},
            "TIDEMARK_OAUTH_CLIENT_ID: missing",
        ),
        ({"oauth_token_url": "ftp://t"}, "TIDEMARK_OAUTH_TOKEN_URL: found 'ftp://t': allowed is a URL"),
    ],
)
def test_contradictory_connection_settings_are_refused(settings: dict[str, str], why: str) -> None:
    assert any(line.startswith(why) for line in refused(**settings)), refused(**settings)


def test_secrets_are_never_shown() -> None:
    secret = "a secret of some length"
    names = ("web_token", "tls_key_password", "sasl_password", "oauth_client_secret")
    settings = load_settings(**dict.fromkeys(names, secret))
    shown = show_settings(settings)
    assert {shown[f"{PREFIX}{name.upper()}"] for name in names} == {MASKED}
    assert secret not in repr(settings)
    for name in names:
        assert not any("['" in line for line in refused(**{name: [secret]}))


def test_the_example_names_every_setting_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#TIDEMARK_")]
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    example = dict(line.split("=", 1) for line in lines)
    shown = show_settings(Settings(_env_file=None))
    assert example == shown | {"TIDEMARK_POLICY": Path(shown["TIDEMARK_POLICY"]).stem}
    Path(".env").write_text("\n".join(lines))
    loaded = load_settings()
    assert loaded.model_copy(update={"policy": Settings(_env_file=None).policy}) == Settings(_env_file=None)


def test_the_kubernetes_and_compose_files_name_settings_that_exist() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in ("docker-compose.yml", *map(str, (ROOT / "config/kubernetes").glob("*.yaml"))):
        for document in yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")):
            assert settings_named(document) <= known, name


def settings_named(value: object) -> set[str]:
    """Return the names of settings among the keys and the `name` values of a document."""
    if isinstance(value, list):
        return set().union(*map(settings_named, value))
    if not isinstance(value, dict):
        return set()
    keys = {key for key in value if str(key).startswith(PREFIX)}
    named = {value["name"]} if str(value.get("name", "")).startswith(PREFIX) else set()
    return keys.union(named, *map(settings_named, value.values()))
