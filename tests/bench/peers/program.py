"""Starts a peer: its command line, its requirements and its process."""

import os
import subprocess
import sys
from pathlib import Path

from tests.bench.peers.arguments import Arguments
from tests.support.process import ROOT, Process

#: The variable that names the interpreter of the Python peers: Quix Streams requires older libraries than those in the
#: lock files. For a fair comparison, use the same version of Python.
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
    """Return the command of a Python peer. Raises Missing if its interpreter lacks the module `needs`."""
    python = os.environ.get(PYTHON) or sys.executable
    probe = subprocess.run([python, "-c", f"import {needs}"], capture_output=True, text=True, timeout=120, check=False)
    if probe.returncode:
        raise Missing(f"{needs} is not installed; name an interpreter that has the extra 'bench' in {PYTHON}")
    return [python, "-m", f"tests.bench.peers.{module}"]
