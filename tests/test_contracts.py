"""Each import contract of pyproject.toml fails when it is broken: offending imports are added to a copy of the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.process import ROOT

pytest.importorskip("importlinter")

PACKAGES = ("streams", "config", "models")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache', '--no-logo'])"

ABOVE_ALL = "streams imports config, config imports models, never the other way round"
STREAMS = "a room of streams imports only rooms below it"
MODELS = "a room of models imports only rooms below it"
CONFIG = "a module of config imports only modules below it"
PURE = "models is pure: no framework, no clock, no randomness, no IO"
SETTINGS = "config knows settings and policies, not Kafka"
FAUST = "Faust is known to streams.faust_ext and streams.worker only"
PARTITION = "a partition knows no broker and no clock"
SIMULATE = "a worker never reaches streams.simulate"

#: By contract, modules that break it and what they import. The last ones of some break it through another room.
OFFENCES = {
    ABOVE_ALL: [("config.setting_types", "streams.report.html"), ("models.money", "config.settings")],
    STREAMS: [
        ("streams.kafka.records", "streams.partition.state"),
        ("streams.partition.encoder", "streams.metrics.collectors"),
        ("streams.replay.plan", "streams.worker.loop"),
        ("streams.tools.load", "streams.simulate.run"),
        ("streams.gc_tuning", "streams.report.html"),
    ],
    MODELS: [
        ("models.rules.ranking", "models.engine.decide"),
        ("models.policy.compiled", "models.care.evaluate_care"),
        ("models.money", "models.rules.metrics"),
        ("models.errors", "models.events"),
    ],
    CONFIG: [("config.setting_types", "config.settings")],
    PURE: [("models.customer.state", "time"), ("models.engine.decide", "random")],
    SETTINGS: [("config.settings", "aiokafka")],
    FAUST: [
        ("streams.kafka.clients", "faust"),
        ("streams.metrics.collectors", "faust"),
        ("streams.cli.main", "mode"),
    ],
    PARTITION: [
        ("streams.partition.state", "faust"),
        ("streams.partition.timers", "time"),
        ("streams.kafka.records", "aiokafka"),
    ],
    SIMULATE: [
        ("streams.worker.app", "streams.simulate.run"),
        ("streams.metrics.collectors", "streams.simulate.facts"),
    ],
}
FOR_TYPES_ONLY = "\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import streams.worker.loop\n"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            target = tmp_path / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def append(root: Path, module: str, code: str) -> None:
    with root.joinpath(*module.split(".")).with_suffix(".py").open("a") as file:
        file.write(code)


def broken(root: Path) -> dict[str, str]:
    """Return the report on each contract that is broken, by the contract's name."""
    env = {**os.environ, "PYTHONPATH": str(root), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=root, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    _, _, reports = done.stdout.partition("Broken contracts\n")
    parts = re.split(r"^(\S.*)\n-{5,}$", reports, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("contract", OFFENCES)
def test_imports_against_a_contract_break_it(copy: Path, contract: str) -> None:
    for importer, imported in OFFENCES[contract]:
        append(copy, importer, f"\nimport {imported}\n")
    report = broken(copy)[contract]
    for importer, imported in OFFENCES[contract]:
        assert f"{importer} -> {imported} (l." in report


def test_imports_for_types_only_count_and_new_modules_need_a_layer(copy: Path) -> None:
    append(copy, "streams.partition.step", FOR_TYPES_ONLY)
    report = broken(copy)[STREAMS]
    assert "streams.partition.step -> streams.worker.loop (l." in report
    for package in PACKAGES:
        append(copy, f"{package}.attic", "")
    reports = broken(copy)
    for package, contract in (("streams", STREAMS), ("models", MODELS), ("config", CONFIG)):
        assert f"{package}.attic" in reports[contract]


def test_every_contract_is_tried() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts] == list(OFFENCES)
