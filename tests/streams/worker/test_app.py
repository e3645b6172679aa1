import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT

#: A worker that has crashed, and whose shutdown hangs.
HANGS = """
import time
from config.settings import load_settings
from streams.worker import app, faust_app

faust_app.SHUTDOWN_S = 0.2
worker = app.build(load_settings(policy="demo", _env_file=None))
worker.own_process()
worker._crash(RuntimeError("no broker"))
time.sleep(600)
"""


def test_a_crashed_worker_ends_even_if_its_shutdown_hangs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", HANGS],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "a worker that crashed was shutting down, and did not end within 0.2 s" in ended.stderr
