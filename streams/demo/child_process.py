"""Child processes that end with their parent, even when that is killed: the embedded broker, the demo's worker.

On Linux the kernel sees to it (PR_SET_PDEATHSIG), elsewhere a normal exit does. Nothing about what the child does
belongs here.
"""

import atexit
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO

# Runs in the child, which then becomes the command under the same pid. A signal at the parent's death
# survives exec; asking for it here rather than in preexec_fn is safe in a process that has threads.
_LAUNCHER = """
import os, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    try:
        import ctypes
        ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
    except (ImportError, OSError, AttributeError):
        pass
    if os.getppid() != parent:
        sys.exit("the parent is gone")
os.execv(command[0], command)
"""


class Child:
    """A running command whose output goes to `log`. Raises OSError or ValueError where it cannot be run.

    It has a session of its own: Ctrl-C reaches the parent alone, which ends its children in order.
    """

    def __init__(self, command: list[str], log: IO[bytes], *, env: Mapping[str, str], cwd: Path) -> None:
        self._released = threading.Event()
        self._process = self._spawn(command, log, dict(env), cwd)
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """The process id of the command itself."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def stop(self, timeout_s: float = 10.0) -> int:
        """End it, SIGTERM, then SIGKILL after `timeout_s` seconds; return the exit status. May be called again."""
        atexit.unregister(self.stop)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._released.set()
        return self._process.returncode

    def _spawn(self, command: list[str], log: IO[bytes], env: dict[str, str], cwd: Path) -> "subprocess.Popen[bytes]":
        """Start the child from a thread that lives as long as it may.

        Linux signals the "parent's death" when the *thread* that forked ends, and that may be short-lived.
        """
        spawned: Future[subprocess.Popen[bytes]] = Future()

        def hold() -> None:
            try:
                process = subprocess.Popen(  # noqa: S603  # our own launcher and our own commands
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                spawned.set_exception(error)
            else:
                spawned.set_result(process)
                self._released.wait()

        threading.Thread(target=hold, name="child", daemon=True).start()
        return spawned.result()
