"""A real Prometheus server beside a live worker, on loopback: it scrapes, evaluates the rules, and is asked.

With `scale` the rules' durations are divided by it, so that what takes minutes in production takes seconds here;
nothing else of the rules differs.
"""

import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from streams.demo.broker import free_port
from streams.demo.child_process import Child
from tests.support.live import Rig
from tests.support.process import ROOT

RULES = ROOT / "config/prometheus"
_DURATION = re.compile(r"(?<=\[)(\d+)([smh])(?=\])|(?<=offset )(\d+)([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}


def missing() -> str | None:
    """Say why there is no server, or None."""
    return None if shutil.which("prometheus") else "prometheus (Debian package prometheus) is not here"


class Prometheus:
    """A running server. Raises OSError while it does not answer."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer of the HTTP API."""
        url = f"http://127.0.0.1:{self._port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            body = response.read()
        return json.loads(body)["data"] if path.startswith("/api") else body

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return (labels, value) of each series of an expression as of now."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def is_ready(self) -> bool:
        try:
            return bool(self.get("/-/ready"))
        except OSError:
            return False

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {labels["alertname"] for labels, _ in self.ask('ALERTS{alertstate="firing"}')}


@contextmanager
def scraping(rig: Rig, directory: Path, *, scale: int = 1) -> Iterator[Prometheus]:
    """Run a server that scrapes the workers of a rig twice a second."""
    directory.mkdir()
    for file in RULES.glob("*.rules.yml"):
        (directory / file.name).write_text(yaml.safe_dump(_scaled(yaml.safe_load(file.read_text()), scale)))
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{worker.port}" for worker in rig.workers]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        str(shutil.which("prometheus")),
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (directory / "log").open("wb") as log:
        child = Child(command, log, env={}, cwd=directory)
    try:
        server = Prometheus(port)
        rig.wait(server.is_ready, f"Prometheus is ready; its log: {directory / 'log'}")
        yield server
    finally:
        child.stop()


def _scaled(rules: dict[str, Any], scale: int) -> dict[str, Any]:
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule["expr"] = _DURATION.sub(
                lambda found: _milliseconds(*filter(None, found.groups()), scale), rule["expr"]
            )
            if "for" in rule:
                rule["for"] = _milliseconds(rule["for"][:-1], rule["for"][-1], scale)
    return rules


def _milliseconds(number: str, unit: str, scale: int) -> str:
    return f"{int(number) * _SECONDS[unit] * 1000 // scale}ms"
