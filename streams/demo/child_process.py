"""Child processes that end with their parent: the embedded broker, the demo's worker.

On Linux the kernel ends them even if the parent is killed (PR_SET_PDEATHSIG). On other systems they end only if the
parent exits normally.
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

# Runs in the child, which then becomes the command under the same pid. The death signal survives exec. Requesting it
# here is safe in a process with threads; preexec_fn is not.
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
    """A running command whose output goes to `log`. Raises OSError or ValueError if it cannot be run.

    It has its own session: Ctrl-C reaches only the parent, which then stops its children in order.
    """

    def __init__(self, command: list[str], log: IO[bytes], *, env: Mapping[str, str], cwd: Path) -> None:
        self._released = threading.Event()
        self._process = self._spawn(command, log, dict(env), cwd)
        atexit.register(self.stop)

    @property
    def pid(self) -> int:
        """The command's process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, None while the command runs."""
        return self._process.poll()

    def stop(self, timeout_s: float = 10.0) -> int:
        """Stop it with SIGTERM, then with SIGKILL after `timeout_s` (s); return the exit status. May be repeated."""
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
        """Start the child from a thread that lives until `stop`.

        Linux sends the death signal when the *thread* that forked ends, and the caller's thread may be short-lived.
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
