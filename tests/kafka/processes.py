"""Child processes that end with this one, and ports for them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

# Runs a command that the kernel kills when the process in argv[1] ends (1 is PR_SET_PDEATHSIG).
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class KafkaError(RuntimeError):
    """The test harness failed. The message includes the end of the relevant log."""


@functools.cache
def _spawner(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-spawner")


def spawn(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a child in its own session. On Linux it is killed when this process ends, for any reason.

    The kernel ties such a child to the thread that started it, and a caller's thread may be short-lived. So one thread
    that lasts as long as the process starts all children.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

    return _spawner(os.getpid()).submit(start).result()


class Port:
    """A free loopback port, reserved among the test processes of this user until `release`. Raises KafkaError.

    It is below the range that the kernel uses for outgoing connections. So no client can get it, or connect to itself
    on it, while its broker is down.
    """

    def __init__(self) -> None:
        first_ephemeral = 32768
        with contextlib.suppress(OSError, ValueError):
            limits = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
            first_ephemeral = int(limits.split()[0])
        candidates = range(20000, first_ephemeral) if first_ephemeral > 21000 else range(20000, 32768)
        locks = Path(tempfile.gettempdir(), f"tidemark-kafka-ports-{os.getuid()}")
        locks.mkdir(mode=0o700, exist_ok=True)
        for number in random.SystemRandom().sample(candidates, 200):
            lock = os.open(locks / str(number), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                os.close(lock)
                continue
            self.number = number
            self._lock: int | None = lock
            return
        raise KafkaError("no free loopback port was found")

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
