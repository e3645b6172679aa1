"""Encrypted and authenticated connections to real Apache Kafka: every client of tidemark, every mechanism."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from config.settings import load_settings
from streams.kafka.topics import check_topics
from streams.tools.explain import latest_row
from streams.tools.load import load_files
from tests.kafka.cluster import KafkaCluster
from tests.kafka.conftest import require_kafka
from tests.kafka.identities import PASSWORD, USER, Identities
from tests.support.driver import order
from tests.support.live import Rig, ToSend, run
from tests.support.process import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def secured(identities: Identities, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    require_kafka()
    with KafkaCluster(
        tmp_path_factory.mktemp("secured"),
        cluster_overrides=identities.broker_settings(),
        listeners=identities.listeners,
        jvm=identities.jvm,
        formatting=identities.formatting,
    ) as cluster:
        yield cluster


@contextlib.contextmanager
def token_server(identities: Identities) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """Serve tokens to clients that send the secret; yield the URL and the list of requests."""
    requests: list[dict[str, list[str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            requests.append(form)
            granted = form["client_secret"] == [PASSWORD]
            self.send_response(200 if granted else 401)
            self.end_headers()
            self.wfile.write(
                json.dumps({"access_token": identities.token(), "expires_in": 300}).encode() if granted else b""
            )

        def log_message(self, *_: Any) -> None:
            """Log nothing: the tests inspect the requests themselves."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def connection(secured: KafkaCluster, identities: Identities, name: str, directory: Path) -> dict[str, str]:
    """Return the settings that connect by a mechanism."""
    ca = {"tls_ca": str(identities.ca)}
    if name == "mutual TLS":
        keys = {"tls_cert": str(identities.client_cert), "tls_key": str(identities.client_key)}
        return {"broker": secured.listener("TLS"), "security_protocol": "SSL"} | ca | keys
    if name == "OAUTHBEARER":
        token = directory / "token"
        token.write_text(identities.token() + "\n")
        given = {"sasl_mechanism": name, "oauth_token_file": str(token)}
    else:
        given = {"sasl_mechanism": name.split(maxsplit=1)[0], "sasl_username": USER, "sasl_password": PASSWORD}
    if name.endswith("in plain"):
        return {"broker": secured.listener("SASLPLAIN"), "security_protocol": "SASL_PLAINTEXT"} | given
    return {"broker": secured.listener("SASL"), "security_protocol": "SASL_SSL"} | ca | given


def tidemark(directory: Path, settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}
    env |= {"PYTHONPATH": str(ROOT)} | {f"TIDEMARK_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "streams", *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "name", ["mutual TLS", "PLAIN", "PLAIN in plain", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
)
def test_every_client_connects(secured: KafkaCluster, identities: Identities, tmp_path: Path, name: str) -> None:
    way = connection(secured, identities, name, tmp_path)
    key, value = order("ann", 1, "2026-01-01T00:00:00Z")
    (tmp_path / "orders.jsonl").write_bytes(value + b"\n")
    with Rig(secured.bootstrap, tmp_path, partitions=2, clock="event") as rig:
        common = {name.removeprefix("TIDEMARK_").lower(): value for name, value in rig.environment.items()} | way
        settings = load_settings(**common, _env_file=None)
        assert run(check_topics(settings)) == []
        rig.start_worker(**way, log_level="debug")
        rig.produce([[ToSend("orders", *order("bob", 2, "2026-01-01T00:00:00Z"))]])
        rig.wait(lambda: not rig.backlog() and rig.read("tier-changes")["tier-changes"], "the worker decides")
        assert run(load_files(settings, [tmp_path / "orders.jsonl"], "orders")) == 1
        rig.wait(lambda: key.decode() in rig.state().rows, "the loaded order is applied")
        assert run(latest_row(settings, "ann")) == rig.state().rows["ann"]
        log = rig.workers[0].log
        secrets = [PASSWORD, *(Path(way[name]).read_text().strip() for name in way if name == "oauth_token_file")]
        assert not any(secret in log for secret in secrets)
        assert "bob" not in log


def test_tokens_are_fetched_once_and_kept(secured: KafkaCluster, identities: Identities, tmp_path: Path) -> None:
    with token_server(identities) as (url, requests):
        way = connection(secured, identities, "OAUTHBEARER", tmp_path)
        del way["oauth_token_file"]
        way |= {
            "oauth_token_url": url,
            "oauth_client_id": USER,
            "oauth_client_secret": PASSWORD,
            "oauth_scope": "kafka",
        }
        created = tidemark(tmp_path, way | {"topic_prefix": "tokens-", "partitions": "1"}, "topics", "create")
        assert created.returncode == 0, created.stderr
        assert len(requests) == 1
        assert requests[0]["grant_type"] == ["client_credentials"]
        assert requests[0]["scope"] == ["kafka"]
        refused = tidemark(tmp_path, way | {"oauth_client_secret": "another secret"}, "topics", "check")
        assert error_line(refused) == f"TIDEMARK_OAUTH_TOKEN_URL: {url} gives no token: HTTP Error 401: Unauthorized"


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line with which a command failed."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    line = done.stderr.strip()
    assert line.startswith("tidemark: ")
    assert "\n" not in line, done.stderr
    return line.removeprefix("tidemark: ")


@pytest.mark.parametrize(
    ("name", "other", "why"),
    [
        ("PLAIN", {"sasl_password": "wrong"}, "Invalid username or password"),
        ("SCRAM-SHA-512", {"sasl_password": "wrong"}, "invalid credentials"),
        ("PLAIN", {"tls_ca": "OTHER"}, "CERTIFICATE_VERIFY_FAILED"),
        ("PLAIN", {"security_protocol": "SASL_PLAINTEXT", "tls_ca": ""}, "no broker answers"),
        ("OAUTHBEARER", {"oauth_token_file": "EXPIRED"}, "NodeNotReady"),
    ],
)
def test_a_refused_client_gets_the_reason_in_one_line(
    secured: KafkaCluster, identities: Identities, tmp_path: Path, name: str, other: dict[str, str], why: str
) -> None:
    (tmp_path / "expired").write_text(identities.token(lives_s=-600))
    files = {"OTHER": str(identities.other_ca), "EXPIRED": str(tmp_path / "expired")}
    way = connection(secured, identities, name, tmp_path) | {
        key: files.get(value, value) for key, value in other.items()
    }
    assert why.lower() in error_line(tidemark(tmp_path, way, "topics", "check")).lower()
