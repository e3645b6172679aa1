"""Reading policy files: presets, and mistakes reported in the terms of the file."""

import re
from pathlib import Path

import pytest

from config.policy_files import POLICIES, check_file, load_timeline, presets
from models.errors import PolicyError
from models.instants import DAY_MS, MIN_INSTANT, parse_instant

GOOD = """\
version: 2026-11-01
currency: USD
window: 90d
schemes:
  loyalty:
    tiers:
      - {name: low}
      - {name: high, when: {monetary: ">= 300"}}
    demotion: {grace: 30d}
care:
  - {name: birthday-offer, kind: birthday_offer, trigger: birthday, at: "09:00"}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def mistakes_after(tmp_path: Path, old: str, new: str) -> list[str]:
    """Return the mistakes of the good policy after one replacement."""
    assert GOOD.count(old) == 1
    return check_file(write(tmp_path, GOOD.replace(old, new)))


def test_loads_a_policy_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert check_file(path) == []
    (policy,) = load_timeline(path).versions
    assert policy.version == "2026-11-01"  # YAML parses a date; the version is its text
    assert (policy.horizon, policy.schemes[0].demotion.grace) == (90 * DAY_MS, 30 * DAY_MS)


@pytest.mark.parametrize("name", presets())
def test_every_preset_loads_by_its_bare_name_and_by_its_path(name: str) -> None:
    assert check_file(Path(name)) == []
    assert load_timeline(Path(name)).fingerprint == load_timeline(POLICIES / f"{name}.yaml").fingerprint


def test_presets_are_listed() -> None:
    assert {"retail", "demo"} <= set(presets())
    assert presets() == sorted(presets())


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("currency: USD", "currency: dollars", "currency: found 'dollars': String should match pattern '^[A-Z]{3}$'"),
        ("window: 90d", "window: soon", "window: found 'soon': 'soon' is not a duration"),
        ("grace: 30d", "grace: 30", "schemes.loyalty.demotion.grace: found 30: Input should be a valid string"),
        ("{name: low}", "{name: Low}", "schemes.loyalty.tiers.0.name: found 'Low'"),
        ("monetary:", "money:", "schemes.loyalty.tiers.1.when.money: unknown metric, allowed are recency_days, "),
        (">= 300", "300", "schemes.loyalty.tiers.1.when.monetary: found '300', allowed is one of >= > <= < =="),
        ('when: {monetary: ">= 300"}', "then: 5", "schemes.loyalty.tiers.1.then: found 5: Extra inputs"),
        ('at: "09:00"', "at: 10:30", "care.0.at: found 630: write the time in quotes"),
        ('at: "09:00"', "days_before: 99", "care.0.days_before: found 99: Input should be less than or equal to 60"),
        ("trigger: birthday", "trigger: whim", "care.0: "),
    ],
)
def test_a_mistake_names_its_path_and_what_was_found(tmp_path: Path, old: str, new: str, mistake: str) -> None:
    mistakes = mistakes_after(tmp_path, old, new)
    assert any(line.startswith(mistake) for line in mistakes), mistakes


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    text = GOOD.replace("currency: USD", "currency: 5").replace("grace: 30d", "grace: never").replace("low", "LOW")
    mistakes = check_file(write(tmp_path, text))
    assert [line.split(":")[0] for line in mistakes] == [
        "currency",
        "schemes.loyalty.demotion.grace",
        "schemes.loyalty.tiers.0.name",
    ]
    with pytest.raises(PolicyError) as refused:
        load_timeline(write(tmp_path, text))
    assert all(line in str(refused.value) for line in mistakes)
    assert "policy.yaml" in str(refused.value)


def test_mistakes_of_a_whole_part_name_the_key_inside_it(tmp_path: Path) -> None:
    (mistake,) = mistakes_after(tmp_path, ', when: {monetary: ">= 300"}', "")
    assert mistake.startswith("schemes.loyalty.tiers.1.when: ")
    (mistake,) = mistakes_after(tmp_path, "kind: birthday_offer", "kind: b, scheme: vip")
    assert mistake.startswith("care.0.scheme: found 'vip', allowed: loyalty")


def test_a_key_that_occurs_twice_is_a_mistake(tmp_path: Path) -> None:
    (mistake,) = mistakes_after(tmp_path, "window: 90d", "window: 90d\nwindow: 30d")
    assert re.fullmatch(r"line [34], column 1: not YAML: key 'window' occurs twice", mistake)
    (mistake,) = mistakes_after(tmp_path, 'monetary: ">= 300"', 'monetary: ">= 300", monetary: "< 900"')
    assert "'monetary' occurs twice" in mistake


def test_anchors_and_merges_are_no_repetition(tmp_path: Path) -> None:
    spend = """\
  spend:
    tiers: [{name: a}, {name: b, when: {monetary: "> 0"}}]
    demotion: {<<: *patient, step: one}
"""
    text = GOOD.replace("demotion: {", "demotion: &patient {").replace("care:", f"{spend.rstrip()}\ncare:")
    demotions = {scheme.name: scheme.demotion for scheme in load_timeline(write(tmp_path, text)).latest.schemes}
    assert (demotions["spend"].grace, demotions["spend"].step) == (30 * DAY_MS, "one")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: [1, 2", "line 1, column 9: not YAML: "),
        ("a: 1\n  b: 2", "line 2, column 4: not YAML: "),
        ("\tversion: 1", "line 1, column 1: not YAML: "),
        ("!!python/object/apply:os.getcwd []", "line 1, column 1: not YAML: could not determine a constructor"),
        ("", "(the whole file): found None: "),
        ("- 1", "(the whole file): Input should be a valid dictionary"),
        ("just text", "(the whole file): found 'just text': "),
    ],
)
def test_a_file_that_is_not_a_policy_is_reported_with_the_position(tmp_path: Path, text: str, mistake: str) -> None:
    (found,) = check_file(write(tmp_path, text))
    assert found.startswith(mistake)


def test_an_unreadable_file_is_reported_with_the_presets(tmp_path: Path) -> None:
    (missing,) = check_file(tmp_path / "nowhere.yaml")
    assert missing.startswith("cannot be read: No such file or directory; presets are ")
    assert "retail" in missing
    (unknown,) = check_file(Path("no-such-preset"))
    assert unknown.startswith("cannot be read")
    path = tmp_path / "latin1.yaml"
    path.write_bytes("version: Größe".encode("latin-1"))
    (encoding,) = check_file(path)
    assert encoding.startswith("cannot be read: not UTF-8")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_timeline(tmp_path)


# --- several versions ---------------------------------------------------------------------------------

SECOND = GOOD.replace("version: 2026-11-01", "version: second\neffective_from: 2027-01-01T00:00:00-05:00")


def test_versions_are_documents_of_one_file(tmp_path: Path) -> None:
    timeline = load_timeline(write(tmp_path, f"{SECOND}---\n{GOOD}"))
    assert [policy.version for policy in timeline.versions] == ["2026-11-01", "second"]
    # YAML parses the start as a time; it is the same instant.
    assert timeline.next_start(MIN_INSTANT) == parse_instant("2027-01-01T05:00:00Z")


def test_mistakes_name_the_version_that_they_are_in(tmp_path: Path) -> None:
    text = f"{GOOD}---\n{SECOND}".replace("window: 90d", "window: 0d").replace("currency: USD", "currency: usd", 1)
    mistakes = check_file(write(tmp_path, text))
    assert [line.split(": found")[0] for line in mistakes] == [
        "version 1 of 2: currency",
        "version 1 of 2: window",
        "version 2 of 2: window",
    ]


def test_versions_that_cannot_follow_one_another_are_mistakes(tmp_path: Path) -> None:
    (twice,) = check_file(write(tmp_path, f"{GOOD}---\n{GOOD}"))
    assert twice.startswith("version: found the same twice")
    (money,) = check_file(write(tmp_path, GOOD + "---\n" + SECOND.replace("USD", "EUR")))
    assert money.startswith("currency: found several")
