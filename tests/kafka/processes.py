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

# Runs a command that the kernel kills when the process in argv[1] is gone (1 is PR_SET_PDEATHSIG).
_TIED_TO_PARENT = """
import ctypes, os, signal, sys
if ctypes.CDLL(None, use_errno=True).prctl(1, int(signal.SIGKILL), 0, 0, 0) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class KafkaError(RuntimeError):
    """The test harness could not do what was asked of it; the message carries the end of the relevant log."""


@functools.cache
def _spawner(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-spawner")


def spawn(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own that on Linux dies with this process, however that ends.

    The kernel ties such a child to the thread that started it, not to the process, so children are started
    by one thread that lasts as long as the process: a caller may be on a short-lived thread.
    """
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *command]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )

    return _spawner(os.getpid()).submit(start).result()


class Port:
    """A loopback port nobody listens on, reserved among the test processes of this user until released.

    It lies below the range the kernel gives to outgoing connections, so no client can be given it (or
    connect to itself on it) while the broker it belongs to is down.
    """

    def __init__(self) -> None:
        first_ephemeral = 32768
        with contextlib.suppress(OSError, ValueError):
            told = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
            first_ephemeral = int(told.split()[0])
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
