"""Real Apache Kafka for the tests: KRaft clusters of one or more brokers, started from Maven artefacts.

`KafkaCluster` is a synchronous context manager. It runs combined broker-and-controller nodes on loopback ports, and can
kill, stop and restart each node with its data. The jars come from `tests.kafka.artefacts`.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.kafka.artefacts import java_executable, resolve_artefacts
from tests.kafka.processes import KafkaError, Port, spawn

READY_TIMEOUT = 180.0
STOP_TIMEOUT = 60.0
POLL_INTERVAL = 0.05
LOG_TAIL_LINES = 40

_JVM = ("-XX:TieredStopAtLevel=1", "-Xshare:auto", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_TOOL_JVM = (*_JVM, "-Xmx128m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
_BROKER_JVM = (
    *_JVM,
    "-Xmx512m",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


def _registered_brokers(port: int, timeout: float) -> set[int] | None:
    """Return the ids of the live brokers that the broker on a port lists (Metadata v1), None without an answer."""
    client = b"tidemark-tests"
    request = struct.pack(f">hhih{len(client)}si", 3, 1, 1, len(client), client, 0)
    found: set[int] = set()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as stream:
                (size,) = struct.unpack(">i", stream.read(4))
                answer = stream.read(size)
        (count,) = struct.unpack_from(">i", answer, 4)
        at = 8
        for _ in range(count):
            node, host = struct.unpack_from(">ih", answer, at)
            at += 6 + host + 4
            (rack,) = struct.unpack_from(">h", answer, at)
            at += 2 + max(rack, 0)
            found.add(node)
    except (OSError, struct.error):
        return None
    return found


class _Node:
    """One combined broker and controller: its directory, its ports, and its process while it runs."""

    def __init__(self, index: int, directory: Path) -> None:
        self.index = index
        self.directory = directory
        self.broker_port = Port()
        self.controller_port = Port()
        self.listener_ports: dict[str, Port] = {}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout: float) -> bool:
        """Return whether the process ended within `timeout` (s)."""
        if self.process is not None:
            try:
                self.process.wait(max(timeout, 0.0))
            except subprocess.TimeoutExpired:
                return False
            self.process = None
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def _random_cluster_id() -> str:
    # The formatting tool would read a leading dash as an option.
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


class KafkaCluster:
    """A KRaft cluster of `brokers` nodes under `directory`; entering the context starts it, leaving kills it.

    Nodes are numbered from 0; the number is the Kafka node id. A node keeps its ports and its data when it is killed,
    stopped and started again. Methods return when the operation is complete; a coroutine must call them with
    `asyncio.to_thread`, so that clients on the loop keep running. `cluster_overrides` are broker settings (as in
    server.properties) that override those chosen here. `listeners` are additional listeners: name and security
    protocol. `jvm` and `formatting` are additional options of the broker's Java and of the storage formatting tool.
    """

    def __init__(
        self,
        directory: Path,
        brokers: int = 1,
        cluster_overrides: Mapping[str, str] | None = None,
        *,
        listeners: Mapping[str, str] | None = None,
        jvm: Sequence[str] = (),
        formatting: Sequence[str] = (),
    ) -> None:
        if brokers < 1:
            raise ValueError("a cluster has at least one broker")
        self.directory = Path(directory).absolute()
        self._overrides = dict(cluster_overrides or {})
        self._listeners = dict(listeners or {})
        self._jvm = tuple(jvm)
        self._formatting = tuple(formatting)
        self._cluster_id = _random_cluster_id()
        self._nodes: list[_Node] = []
        try:
            for index in range(brokers):
                self._nodes.append(node := _Node(index, self.directory / f"node-{index}"))
                for name in self._listeners:
                    node.listener_ports[name] = Port()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> KafkaCluster:
        try:
            self.start_all()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def brokers(self) -> int:
        """The number of nodes, running or not."""
        return len(self._nodes)

    @property
    def bootstrap(self) -> str:
        """The addresses of all nodes, running or not: `host:port,host:port`."""
        return ",".join(self.address(index) for index in range(self.brokers))

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the nodes whose process is alive."""
        return tuple(node.index for node in self._nodes if node.running)

    def address(self, index: int) -> str:
        """Return the `host:port` at which clients reach this node."""
        return f"127.0.0.1:{self._nodes[index].broker_port.number}"

    def listener(self, name: str, index: int = 0) -> str:
        """Return the `host:port` of an additional listener of this node."""
        return f"localhost:{self._nodes[index].listener_ports[name].number}"

    def pid(self, index: int) -> int | None:
        """Return the process id of this node, None if it is not running."""
        node = self._nodes[index]
        return node.process.pid if node.process is not None and node.running else None

    def log_tail(self, index: int, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of this node's log."""
        with contextlib.suppress(FileNotFoundError), self._nodes[index].log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def kill(self, index: int) -> None:
        """Kill this node with SIGKILL. Does nothing if it is not running."""
        self._nodes[index].kill()

    def stop(self, index: int, timeout: float = STOP_TIMEOUT) -> None:
        """Stop this node with SIGTERM, and with SIGKILL if it still runs after `timeout` (s)."""
        self._stop([self._nodes[index]], timeout)

    def stop_all(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop all nodes at once, as `stop` does. The data is kept, and `start_all` starts the cluster again.

        A clean shutdown needs a quorum. The last nodes to stop no longer have one, so some may need the SIGKILL.
        """
        self._stop(self._nodes, timeout)

    def start(self, index: int, timeout: float = READY_TIMEOUT) -> None:
        """Start this node with its data, and return when all running nodes list each other.

        If most nodes are down, there is no quorum to join: use `start_all`.
        """
        self._start([self._nodes[index]], timeout)

    def start_all(self, timeout: float = READY_TIMEOUT) -> None:
        """Start every node that is not running, and return when all nodes list each other."""
        self._start([node for node in self._nodes if not node.running], timeout)

    def close(self) -> None:
        """Kill every node and release the ports. The cluster cannot be started again."""
        for node in self._nodes:
            node.signal(signal.SIGKILL)
        for node in self._nodes:
            node.kill()
            for port in (node.broker_port, node.controller_port, *node.listener_ports.values()):
                port.release()

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return when every running node lists all running nodes. Raises KafkaError after `timeout` (s)."""
        expected = [node for node in self._nodes if node.running]
        self._wait_ready(expected, time.monotonic() + timeout)

    def _start(self, nodes: Sequence[_Node], timeout: float) -> None:
        for node in nodes:
            if node.running:
                raise KafkaError(f"Kafka node {node.index} is running already")
        deadline = time.monotonic() + timeout
        java = java_executable()
        if java is None:
            raise KafkaError("there is no java in JAVA_HOME or on the PATH")
        classpath = str(resolve_artefacts() / "*")
        self._format(java, classpath, [node for node in nodes if not node.data.exists()], deadline)
        for node in nodes:
            command = [java, *_BROKER_JVM, *self._jvm, "-cp", classpath, "kafka.Kafka", str(node.properties)]
            with node.log.open("ab") as log:
                node.process = spawn(command, log)
        # The new nodes come first: until they have registered, the others still list their previous registration.
        others = [node for node in self._nodes if node.running and node not in nodes]
        self._wait_ready([*nodes, *others], deadline)

    def _format(self, java: str, classpath: str, nodes: Iterable[_Node], deadline: float) -> None:
        """Format the storage of new nodes in parallel: each costs a JVM start."""
        formatting: list[tuple[_Node, subprocess.Popen[bytes]]] = []
        try:
            for node in nodes:
                node.directory.mkdir(parents=True, exist_ok=True)
                settings = self._settings(node)
                node.properties.write_text(
                    "".join(f"{key}={value}\n" for key, value in settings.items()), encoding="utf-8"
                )
                arguments = ["format", "--cluster-id", self._cluster_id, "--config", str(node.properties)]
                arguments += self._formatting
                command = [java, *_TOOL_JVM, "-cp", classpath, "kafka.tools.StorageTool", *arguments]
                with node.log.open("ab") as log:
                    formatting.append((node, spawn(command, log)))
            for node, process in formatting:
                self._await_format(node, process, deadline)
        except BaseException:
            for node, process in formatting:
                process.kill()
                process.wait()
                shutil.rmtree(node.data, ignore_errors=True)
            raise

    def _await_format(self, node: _Node, process: subprocess.Popen[bytes], deadline: float) -> None:
        try:
            code = process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise self._error(node, "did not finish formatting its storage in time") from None
        if code != 0:
            raise self._error(node, f"could not format its storage (exit status {code})")

    def _wait_ready(self, nodes: Sequence[_Node], deadline: float) -> None:
        expected = {node.index for node in nodes}
        for node in nodes:
            while True:
                self._raise_if_one_exited(nodes)
                left = deadline - time.monotonic()
                known = _registered_brokers(node.broker_port.number, max(0.1, min(left, 2.0)))
                if known is not None and known >= expected:
                    break
                if left <= 0:
                    state = "did not answer" if known is None else f"knew only of brokers {sorted(known)}"
                    raise self._error(node, f"{state} in time; expected {sorted(expected)}")
                time.sleep(POLL_INTERVAL)

    def _raise_if_one_exited(self, nodes: Iterable[_Node]) -> None:
        for node in nodes:
            if not node.running:
                code = None if node.process is None else node.process.returncode
                raise self._error(node, f"exited with status {code} before the cluster was ready")

    def _stop(self, nodes: Sequence[_Node], timeout: float) -> None:
        for node in nodes:
            node.signal(signal.SIGTERM)
        deadline = time.monotonic() + timeout
        for node in nodes:
            if not node.wait(deadline - time.monotonic()):
                node.kill()

    def _error(self, node: _Node, what: str) -> KafkaError:
        tail = self.log_tail(node.index) or "(nothing)"
        return KafkaError(f"Kafka node {node.index} {what}. The end of {node.log}:\n{tail}")

    def _settings(self, node: _Node) -> dict[str, str]:
        replicas = str(min(3, self.brokers))
        in_sync = "2" if self.brokers >= 3 else "1"
        voters = ",".join(f"{one.index}@127.0.0.1:{one.controller_port.number}" for one in self._nodes)
        address = self.address(node.index)
        extra = "".join(f",{name}://{self.listener(name, node.index)}" for name in self._listeners)
        protocols = "".join(f",{name}:{protocol}" for name, protocol in self._listeners.items())
        return {
            "process.roles": "broker,controller",
            "node.id": str(node.index),
            "listeners": f"PLAINTEXT://{address},CONTROLLER://127.0.0.1:{node.controller_port.number}{extra}",
            "advertised.listeners": f"PLAINTEXT://{address}{extra}",
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.voters": voters,
            "log.dirs": str(node.data),
            # Only tests create topics, with the replication that the cluster allows.
            "auto.create.topics.enable": "false",
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": "4",
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # Groups form at once, short sessions are allowed, and a dead broker is noticed soon.
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "500",
            "broker.heartbeat.interval.ms": "300",
            "broker.session.timeout.ms": "3000",
            "replica.lag.time.max.ms": "5000",
            # Compaction runs often, with a buffer that fits the heap.
            "log.cleaner.backoff.ms": "200",
            "log.cleaner.dedupe.buffer.size": "4194304",
            "log.index.size.max.bytes": "1048576",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            **self._overrides,
        }


ClusterFactory = Callable[..., KafkaCluster]
