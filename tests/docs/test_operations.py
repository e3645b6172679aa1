"""Settings, topics and figures are documented as they are."""

import os
from pathlib import Path

import pytest

from config.settings import PREFIX, Settings, show_settings
from models.instants import DAY_MS, HOUR_MS
from streams.kafka.clients import MAX_ROW_BYTES
from streams.kafka.topics import MAX_DEAD_LETTER_BYTES, topic_specs
from streams.partition.time_steps import DUE_PER_STEP
from tests.docs.pages import OPERATIONS, codes, prose, table_rows


def test_every_setting_is_documented_with_its_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)  # no .env here
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    documented = {codes(row[0])[0]: row[1].strip("`") for row in table_rows(OPERATIONS, "## Settings")}
    actual = {name: value or "empty" for name, value in show_settings(Settings()).items()}
    actual["TIDEMARK_POLICY"] = f"the preset `{Path(actual['TIDEMARK_POLICY']).stem}"
    assert documented == actual


def test_every_topic_is_documented():
    settings = Settings(app_id="APP", _env_file=None)
    documented = {
        name.replace("<app id>", "APP"): (row[2], row[3])
        for row in table_rows(OPERATIONS, "## Topics")
        for name in codes(row[0])
    }
    kept = {None: "latest per key", -1: "for ever", 90 * DAY_MS: "90 days", 14 * DAY_MS: "14 days", HOUR_MS: "1 hour"}
    actual = {spec.name: (spec.configs["cleanup.policy"], kept[spec.retention_ms]) for spec in topic_specs(settings)}
    assert documented == actual


def test_figures_of_the_code_are_those_of_the_text():
    text = " ".join(prose(OPERATIONS).split())
    assert text.count(f"{MAX_ROW_BYTES:,}") == 2
    assert text.count(f"{MAX_DEAD_LETTER_BYTES:,}") == 2
    assert f"at most {DUE_PER_STEP:,} customers of a partition per step" in text
