"""How clients connect, without connecting: tests/kafka/test_security.py connects."""

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from config.settings import Settings, load_settings
from models.errors import UnusableInput
from streams.kafka.clients import client_options, credentials
from tests.kafka.identities import Identities
from tests.support.process import ROOT

USER = {"sasl_username": "u", "sasl_password": "p" * 20}


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not here")
    return Identities(tmp_path_factory.mktemp("identities"))


def settings(**values: Any) -> Settings:
    return load_settings(_env_file=None, broker="a:1, b:2", **values)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"security_protocol": "SSL"},
        {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", **USER},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-256", **USER},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", **USER},
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "oauth_token_file": __file__},
    ],
    ids=lambda values: " ".join([values.get("security_protocol", ""), values.get("sasl_mechanism", "")]),
)
def test_faust_connects_as_our_own_clients_do(values: dict[str, str]) -> None:
    given = settings(**values)
    ours, fausts = client_options(given), credentials_to_aiokafka_auth(credentials(given))
    assert ours.pop("bootstrap_servers") == "a:1, b:2"
    assert comparable(ours) == comparable(fausts)
    assert isinstance(ours["ssl_context"], ssl.SSLContext) is given.encrypted
    if given.encrypted:
        assert ours["ssl_context"].check_hostname
        assert ours["ssl_context"].verify_mode is ssl.CERT_REQUIRED


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """Options without those that are off, and with the types of those that are objects."""
    objects = {"ssl_context", "sasl_oauth_token_provider"}
    return {name: type(value) if name in objects else value for name, value in options.items() if value is not None}


def test_a_certificate_that_is_none_is_told(tmp_path: Path, identities: Identities) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("not a certificate")
    with pytest.raises(UnusableInput, match=r"TIDEMARK_TLS_CA: .*nothing\.pem is no certificate in PEM"):
        client_options(settings(security_protocol="SSL", tls_ca=nothing))
    with pytest.raises(UnusableInput, match="TIDEMARK_TLS_CERT, TIDEMARK_TLS_KEY: they cannot be used together"):
        client_options(
            settings(security_protocol="SSL", tls_cert=identities.client_cert, tls_key=identities.server_key)
        )


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    given = settings(security_protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", oauth_token_file=file)
    provider = client_options(given)["sasl_oauth_token_provider"]
    assert asyncio.run(provider.token()) == "one"
    file.write_text("two\n")
    assert asyncio.run(provider.token()) == "two"
    file.unlink()
    with pytest.raises(KafkaConnectionError, match=r"TIDEMARK_OAUTH_TOKEN_FILE: .* cannot be read"):
        asyncio.run(provider.token())


def test_no_client_of_ours_connects_in_another_way() -> None:
    """Addresses go to clients with how to connect, and only `streams.kafka.clients` knows both."""
    found = {path.name for path in (ROOT / "streams").rglob("*.py") if "bootstrap_servers" in path.read_text()}
    assert found == {"clients.py", "topics.py"}
    assert 'options.pop("bootstrap_servers")' in (ROOT / "streams/kafka/topics.py").read_text()
