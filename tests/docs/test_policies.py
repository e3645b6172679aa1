"""Policies in the documentation can be used, and its tables of keys are complete."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from config.policy_files import POLICIES, check_file, load_timeline, presets
from models.events import Topic
from models.instants import parse_instant
from models.policy import care_specs, scheme_specs
from models.policy.care_rules import Refusal
from models.policy.care_specs import CareRuleSpec
from models.policy.scheme_specs import DemotionSpec, SchemeSpec
from models.policy.spec import PolicySpec
from tests.docs.pages import (
    BLOCKS,
    CARE,
    GUIDE,
    README,
    README_ZH,
    Block,
    codes,
    following,
    marked,
    prose,
    table_rows,
)
from tests.support.in_steps import replay


@marked("yaml", "policy")
def test_policies_can_be_used(block: Block, tmp_path: Path):
    file = tmp_path / "policy.yaml"
    file.write_text(block.text)
    assert check_file(file) == []
    load_timeline(file)


@marked("json", "change")
def test_policies_make_the_changes_shown_after_them(block: Block, tmp_path: Path):
    (policy,) = [each for each in BLOCKS if each.mark == "policy" and following(each) == block]
    (tmp_path / "policy.yaml").write_text(policy.text)
    orders = next(each for each in BLOCKS if each.page == block.page and each.mark == "run").text
    (tmp_path / "orders.jsonl").write_text("".join(f"{line}\n" for line in orders.splitlines() if line.startswith("{")))
    timeline = load_timeline(tmp_path / "policy.yaml")
    until = parse_instant("2029-01-01T00:00:00Z")
    changes = msgspec.to_builtins(replay(timeline, {Topic.ORDERS: tmp_path / "orders.jsonl"}, until).changes)
    shown = json.loads(block.text)
    assert shown in [{key: change[key] for key in shown} for change in changes]


def test_every_kind_of_scheme_has_an_example():
    kinds = {
        scheme.get("kind", "thresholds")
        for block in BLOCKS
        if block.mark == "policy" and (following(block) or block).mark == "change"
        for document in yaml.safe_load_all(block.text)
        for scheme in document["schemes"].values()
    }
    assert kinds == set(KINDS)


@marked("yaml", "broken")
def test_mistakes_are_told_as_written(block: Block, tmp_path: Path):
    file = tmp_path / "policy.yaml"
    file.write_text(block.text)
    expected = following(block)
    assert expected is not None
    assert check_file(file) == expected.text.splitlines()


@marked("yaml", "")
def test_fragments_are_yaml(block: Block):
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize(
    ("heading", "keys"),
    [
        ("## A whole policy", PolicySpec.model_fields),
        ("## Schemes", ["kind", "window", *(f"demotion.{key}" for key in DemotionSpec.model_fields)]),
    ],
)
def test_policy_keys_are_documented(heading: str, keys: Any):
    assert sorted(codes(row[0])[0] for row in table_rows(GUIDE, heading)) == sorted(keys)


#: The triggers of care, by the heading under which their keys are listed; some have keys with parts.
TRIGGERS: dict[str, type[CareRuleSpec]] = {
    "### Birthday": care_specs.BirthdaySpec,
    "### Anniversary": care_specs.AnniversarySpec,
    "### Holiday": care_specs.HolidaySpec,
    "### Calendar": care_specs.CalendarDaysSpec,
    "### At risk": care_specs.AtRiskSpec,
    "### Near upgrade": care_specs.NearUpgradeSpec,
    "### Welcome": care_specs.WelcomeSpec,
    "### Churn": care_specs.ChurnSpec,
    "### Silence": care_specs.SilenceSpec,
    "### Call back": care_specs.CallBackSpec,
    "### Interaction": care_specs.OnInteractionSpec,
    "### Campaign": care_specs.OnCampaignSpec,
    "### Condition": care_specs.OnConditionSpec,
}


@pytest.mark.parametrize("heading", TRIGGERS)
def test_keys_of_triggers_are_documented(heading: str):
    keys = TRIGGERS[heading].model_fields.keys() - CareRuleSpec.model_fields.keys() - {"trigger"}
    documented = {codes(row[0])[0].partition(".")[0] for row in table_rows(CARE, heading)}
    assert documented == keys


def test_every_trigger_is_documented_and_in_the_preset():
    known = {
        name
        for spec in [*TRIGGERS.values(), care_specs.TierMoveSpec]
        for name in spec.model_fields["trigger"].annotation.__args__
    }
    listed = set(re.findall(r"`trigger: (\w+)`", CARE.read_text()))
    assert listed == known
    rules = yaml.safe_load((POLICIES / "care.yaml").read_text())["care"]
    assert {rule["trigger"] for rule in rules} == known - {"condition"}


def test_keys_of_care_and_its_governance_are_documented():
    assert {codes(row[0])[0] for row in table_rows(CARE, "## A rule")} == {*CareRuleSpec.model_fields, "trigger"}
    fields = {
        f"{part}.{key}"
        for part, spec in (
            ("quiet_hours", care_specs.QuietHoursSpec),
            ("caps", care_specs.CapSpec),
            ("budgets", care_specs.BudgetSpec),
        )
        for key in spec.model_fields
    }
    assert {codes(row[0])[0] for row in table_rows(CARE, "## Governance")} == {*fields, "groups"}
    assert set(care_specs.GovernanceSpec.model_fields) == {"quiet_hours", "caps", "budgets", "groups"}


def test_reasons_of_refusals_are_documented():
    section = prose(CARE).partition("## Governance\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"\(`(\w+)`\)", section)) == set(Refusal)


#: The kinds of schemes, and the parts of each that have keys of their own.
KINDS: dict[str, tuple[type[SchemeSpec], dict[str, Any]]] = {
    "thresholds": (scheme_specs.ThresholdsSpec, {"tiers": scheme_specs.ThresholdTierSpec}),
    "score": (scheme_specs.ScoreSpec, {"metrics": scheme_specs.GradedSpec, "tiers": scheme_specs.ScoreTierSpec}),
    "percentile": (scheme_specs.PercentileSpec, {"tiers": scheme_specs.PercentileTierSpec}),
    "matrix": (scheme_specs.MatrixSpec, {"rows": scheme_specs.AxisSpec, "columns": scheme_specs.AxisSpec}),
    "lifecycle": (scheme_specs.LifecycleSpec, {}),
    "segments": (scheme_specs.SegmentsSpec, {"segments": scheme_specs.SegmentSpec}),
}


def test_kinds_are_those_of_the_code():
    known = {scheme.model_fields["kind"].annotation.__args__[0] for scheme in SchemeSpec.__subclasses__()}
    assert set(KINDS) == known
    (row,) = [row for row in table_rows(GUIDE, "## Schemes") if row[0] == "`kind`"]
    assert set(codes(row[2])) == known
    assert set(SchemeSpec.model_fields) == {"window", "demotion"}


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_a_kind_are_documented_with_their_defaults(kind: str):
    scheme, parts = KINDS[kind]
    fields = {key: value for key, value in scheme.model_fields.items() if key not in {*SchemeSpec.model_fields, "kind"}}
    nested = {f"{part}.{key}": value for part, spec in parts.items() for key, value in spec.model_fields.items()}
    rows = {codes(row[0])[0]: row[1] for row in table_rows(GUIDE, f"### {kind.capitalize()}")}
    assert set(rows) == {*fields, *nested}
    for key, field in {**fields, **nested}.items():
        if field.is_required():
            assert rows[key] == "required", key
        elif field.default is not None:
            assert rows[key] == f"`{field.default}`", key


@pytest.mark.parametrize(("page", "heading"), [(README, "## Presets"), (README_ZH, "## 预设")])
def test_readme_names_every_preset(page: Path, heading: str):
    section = page.read_text().partition(f"{heading}\n")[2].partition("\n## ")[0]
    assert set(presets()) <= set(codes(section))
    assert len(presets()) == 14, "the README says thirteen, and demo"


def test_presets_are_listed_with_their_kinds():
    rows = {codes(row[0])[0]: row[1] for row in table_rows(GUIDE, "## Presets")}
    assert sorted(rows) == presets()
    for name, kind in rows.items():
        document = yaml.safe_load((POLICIES / f"{name}.yaml").read_text())
        assert {scheme.get("kind", "thresholds") for scheme in document["schemes"].values()} == {kind}, name
