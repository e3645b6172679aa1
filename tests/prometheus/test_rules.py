"""Rules and alerts: promtool accepts them, each alert fires only when it should, and the runbook explains each."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config/prometheus"
CASES = Path(__file__).with_name("alerts.test.yml")
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed"
)


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in sorted(RULES.glob("*.rules.yml"))
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], cwd=RULES, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", *sorted(RULES.glob("*.rules.yml")))
    promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_alert_fires_and_stays_silent_as_its_cases_say() -> None:
    promtool("test", "rules", CASES)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    found = {
        bool(case["exp_alerts"])
        for test in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    }
    assert found == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_section_in_the_runbook(alert: str) -> None:
    assert ALERTS[alert]["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"
    section = re.search(rf"^## {alert}\n(.+?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/runbook.md has no section {alert}"
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in section[1], f"{alert}: {part}"


def test_the_runbook_has_no_sections_for_removed_alerts() -> None:
    assert set(re.findall(r"^## (Tidemark\w+)$", RUNBOOK, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_use_metrics_that_exist(rule: dict[str, Any]) -> None:
    known = {metric.name for metric in METRICS}
    known |= {f"{m.name}_{part}" for m in METRICS if m.kind == "histogram" for part in ("bucket", "sum", "count")}
    known |= {rule["record"] for rule in rules() if "record" in rule}
    used = set(re.findall(r"\btidemark[_:][a-z0-9_:]+", rule["expr"]))
    assert used <= known
    assert used or "up{" in rule["expr"]
