"""How a peer is started: its command line, what it needs, and its process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bench.peers.arguments import Arguments
from tests.support.process import ROOT, Process

#: Names the interpreter of the Python peers: Quix Streams asks for older libraries than the lock files have.
#: It is to be the same version of Python as this one, for a fair comparison.
PYTHON = "TIDEMARK_PEERS_PYTHON"


class Missing(RuntimeError):
    """The peer cannot run on this machine. The message says what to install."""


class Program(Process):
    """A peer's process."""

    PATIENCE_S = 20.0

    def __init__(self, command: list[str], arguments: Arguments) -> None:
        directory = Path(arguments.directory)
        directory.mkdir(parents=True, exist_ok=True)
        super().__init__([*command, *arguments], directory / "peer.log", {**os.environ, "PYTHONPATH": str(ROOT)})


def python_command(module: str, needs: str) -> list[str]:
    """Return the command of a Python peer. Raises Missing where its interpreter does not have what it needs."""
    python = os.environ.get(PYTHON) or sys.executable
    probe = subprocess.run([python, "-c", f"import {needs}"], capture_output=True, text=True, timeout=120, check=False)
    if probe.returncode:
        raise Missing(f"{needs} is not installed; name an interpreter that has the extra 'bench' in {PYTHON}")
    return [python, "-m", f"tests.bench.peers.{module}"]
