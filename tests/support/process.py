"""Processes of the tests, each with a log, and workers among them. They end with this process, even a killed one."""

import contextlib
import os
import signal
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from prometheus_client.parser import text_string_to_metric_families

from config.settings import PREFIX
from streams.demo.broker import free_port
from streams.demo.child_process import Child

ROOT = Path(__file__).parents[2]


class Process:
    """A process, from the start to `stop`. Its log is a file, in the directory that it works in."""

    #: Seconds in which it must comply with SIGTERM where nothing else is said.
    PATIENCE_S: ClassVar[float] = 60.0

    def __init__(self, command: Sequence[str], log_path: Path, env: dict[str, str]) -> None:
        self.log_path = log_path
        self._command, self._env = command, env
        self._child = self._start()

    def _start(self) -> Child:
        with self.log_path.open("ab") as log:
            return Child(self._command, log, env=self._env, cwd=self.log_path.parent)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def tail(self, size: int = 3_000) -> str:
        """Return how it ended, and the end of its log."""
        return f"--- {self.log_path.name} (exit {self._child.poll()}):\n{self.log[-size:]}"

    def stop(self, timeout_s: float | None = None) -> int:
        """End it with SIGTERM and return its exit status, which is -9 where it had to be killed after all."""
        return self._child.stop(self.PATIENCE_S if timeout_s is None else timeout_s)


class LiveWorker(Process):
    """A worker process. Its web pages are on a port of its own."""

    def __init__(self, directory: Path, number: int, environment: dict[str, str], session_s: float) -> None:
        """Start it in a directory, with these TIDEMARK_… variables; `session_s`: its session with the group."""
        self.port = free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        env |= {
            "PYTHONPATH": str(ROOT),
            f"{PREFIX}WEB_PORT": str(self.port),
            f"{PREFIX}DATA_DIR": str(directory / f"data-{number}"),
        }
        # The working directory has no .env.
        command = [sys.executable, "-m", "tests.support.worker", str(session_s)]
        super().__init__(command, directory / f"worker-{number}.log", env | environment)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, as SIGSTOP."""
        os.kill(self.pid, number)

    def revive(self) -> None:
        """Start it again after it ended, as its supervisor would."""
        self._child = self._start()

    def kill(self) -> None:
        """End it at once with SIGKILL, even where it is stopped."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._child.stop(0)

    @property
    def ready(self) -> bool:
        return self.metrics().get("tidemark_ready", {}).get(()) == 1.0

    def get(self, path: str) -> tuple[int, str, str]:
        """Return (status, content type, body) of a web page. Raises OSError while nobody answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()

    def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """Return the samples of `/metrics`, by name and then by labels; nothing while nobody answers."""
        try:
            text = self.get("/metrics")[2]
        except OSError:
            return {}
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return samples
