"""Reading policy files: presets, and mistakes reported in the terms of the file."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from config.policy_files import POLICIES, check_file, load_timeline, presets, remarks
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


def unnumbered(mistake: str) -> str:
    """Return a mistake without the line in front."""
    return re.sub(r"^(version \d of \d: )?line \d+, ", r"\1", mistake)


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
        (
            "currency: USD",
            "currency: dollars",
            "currency: found 'dollars', allowed is a currency of three capital letters",
        ),
        ("window: 90d", "window: soon", "window: found 'soon': 'soon' is not a duration"),
        ("grace: 30d", "grace: 30", "schemes.loyalty.demotion.grace: found 30: allowed is a text; write it in quotes"),
        ("{name: low}", "{name: Low}", "schemes.loyalty.tiers.0.name: found 'Low'"),
        (
            "monetary:",
            "money:",
            "schemes.loyalty.tiers.1.when.money: unknown metric; did you mean 'monetary'? Allowed are recency_days, ",
        ),
        (">= 300", "300", "schemes.loyalty.tiers.1.when.monetary: found '300', allowed is one of >= > <= < =="),
        (
            'when: {monetary: ">= 300"}',
            "then: 5",
            "schemes.loyalty.tiers.1.then: unknown key; did you mean 'when'? Allowed are name, when",
        ),
        ('at: "09:00"', "at: 10:30", "care.0.at: found 630: write the time in quotes"),
        ('at: "09:00"', "days_before: 99", "care.0.days_before: found 99: allowed are at most 60"),
        ("trigger: birthday", "trigger: whim", "care.0: trigger: found 'whim'; allowed are birthday, "),
    ],
)
def test_a_mistake_names_its_path_and_what_was_found(tmp_path: Path, old: str, new: str, mistake: str) -> None:
    mistakes = mistakes_after(tmp_path, old, new)
    assert any(unnumbered(line).startswith(mistake) for line in mistakes), mistakes


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    text = GOOD.replace("currency: USD", "currency: 5").replace("grace: 30d", "grace: never").replace("low", "LOW")
    mistakes = check_file(write(tmp_path, text))
    assert [unnumbered(line).split(":")[0] for line in mistakes] == [
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
    assert unnumbered(mistake).startswith("schemes.loyalty.tiers.1.when: ")
    (mistake,) = mistakes_after(tmp_path, "kind: birthday_offer", "kind: b, scheme: vip")
    assert unnumbered(mistake).startswith("care.0.scheme: found 'vip', allowed: loyalty")


def test_a_key_that_occurs_twice_is_a_mistake(tmp_path: Path) -> None:
    (mistake,) = mistakes_after(tmp_path, "window: 90d", "window: 90d\nwindow: 30d")
    assert re.fullmatch(r"line [34], column 1: key 'window' occurs twice", mistake)
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
        ("!!python/object/apply:os.getcwd []", "line 1, column 1: could not determine a constructor"),
        ("", "(the whole file): found None: "),
        ("- 1", "(the whole file): allowed is a mapping: keys with values"),
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
        "version 1 of 2: line 2, currency",
        "version 1 of 2: line 3, window",
        "version 2 of 2: line 16, window",
    ]


def test_versions_that_cannot_follow_one_another_are_mistakes(tmp_path: Path) -> None:
    (twice,) = check_file(write(tmp_path, f"{GOOD}---\n{GOOD}"))
    assert twice.startswith("version: found the same twice")
    (money,) = check_file(write(tmp_path, GOOD + "---\n" + SECOND.replace("USD", "EUR")))
    assert money.startswith("currency: found several")


MISTAKES = {
    "currency: RMB": (
        "currency: USD",
        "line 2, currency: found 'RMB', which ISO 4217 does not have; did you mean 'CNY'?",
    ),
    "currency: ZZZ": ("currency: USD", "line 2, currency: found 'ZZZ', which ISO 4217 does not have"),
    "window: 90d\ntimezone: Asia/Shangai": (
        "window: 90d",
        "line 4, timezone: found 'Asia/Shangai': 'Asia/Shangai' is not an IANA time zone such as Europe/Paris; did you "
        "mean 'Asia/Shanghai'?",
    ),
    "widow: 90d": ("window: 90d", "line 3, widow: unknown key; did you mean 'window'? Allowed are version, currency, "),
    "grase: 30d": (
        "grace: 30d",
        "line 9, schemes.loyalty.demotion.grase: unknown key; did you mean 'grace'? Allowed are ",
    ),
    "triger: birthday": (
        "trigger: birthday",
        "line 11, care.0: trigger is missing, and required; did you mean 'trigger' by",
    ),
    "trigger: birtday": (
        "trigger: birthday",
        "line 11, care.0: trigger: found 'birtday'; did you mean 'birthday'? Allowed",
    ),
}


@pytest.mark.parametrize("new", MISTAKES)
def test_a_mistake_is_in_words_with_its_line_and_what_was_meant(tmp_path: Path, new: str) -> None:
    old, mistake = MISTAKES[new]
    found = mistakes_after(tmp_path, old, new)
    assert any(line.startswith(mistake) for line in found), found
    jargon = ("Input", "tag", "pattern", "^[", "discriminator", "permitted", "Field required")
    assert not [word for line in found for word in jargon if word in line]


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in pairwise("abcdefghijkl")
)
HUGE = {
    "a bomb of aliases": (BOMB, "line 4, column 4: more than 10,000 keys and values, counted with every alias"),
    "a part within itself": ("a: &a [*a]", "line 1, column 4: more than 10,000 keys and values"),
    "a number of base 60": ("version: " + ":".join("1" * 20_000), "line 1, column 10: a number of 39,999 characters"),
    "many alternatives": (
        GOOD.replace('when: {monetary: ">= 300"}', f"when: {{any: [{', '.join(['{monetary: 1}'] * 20_000)}]}}"),
        "not a policy: found 3",
    ),
    "fewer alternatives": (
        GOOD.replace('when: {monetary: ">= 300"}', f"when: {{any: [{', '.join(['{monetary: 1}'] * 6_000)}]}}"),
        "line 8, column ",
    ),
    "deep nesting": ("version: " + "[" * 5_000 + "]" * 5_000, "not a policy: it is nested too deeply"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    text, mistake = HUGE[name]
    (found,) = check_file(write(tmp_path, text))
    assert found.startswith(mistake)


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ('{monetary: "< 100"}', ["monetary"]),
        ('{all: [{monetary: ">= 100"}, {frequency: "<= 3"}]}', ["all.1.frequency"]),
        ('{any: [{monetary: "< 100"}, {frequency: "> 3"}]}', []),
        ('{any: [{monetary: "< 100"}, {frequency: "< 3"}]}', ["any.0.monetary", "any.1.frequency"]),
        ('{recency_days: "<= 30", monetary: ">= 1"}', []),
    ],
)
def test_a_rule_that_is_met_by_spending_less_is_remarked_on(tmp_path: Path, rule: str, keys: list[str]) -> None:
    path = write(tmp_path, GOOD.replace('{monetary: ">= 300"}', rule))
    assert check_file(path) == []
    where = "line 8, schemes.loyalty.tiers.1.when."
    assert [remark.removeprefix(where).split(":")[0] for remark in remarks(path)] == keys
    assert all("by buying or doing less" in remark for remark in remarks(path))


@pytest.mark.parametrize("name", presets())
def test_no_preset_is_odd(name: str) -> None:
    assert remarks(Path(name)) == []


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        (
            {'{monetary: ">= 300"}': '{growth: ">= 2"}'},
            "schemes.loyalty: found window calendar_year, allowed with growth",
        ),
        (
            {"schemes:": "schemes:\n  top: {kind: percentile, tiers: [{name: a}, {name: b, top: 5%}]}"},
            "schemes.top: found",
        ),
        (
            {"trigger: birthday": 'trigger: condition, when: {growth: ">= 2"}', ', at: "09:00"': ""},
            "care: found window",
        ),
        ({"calendar_year": "calendar_yea"}, "window: found 'calendar_yea': 'calendar_yea' is not a duration; write a"),
        ({"calendar_year": "0 months"}, "window: found '0 months': '0 months': allowed are 1 to 1200 months"),
    ],
)
def test_a_counting_period_is_refused_where_it_means_nothing(
    tmp_path: Path, changes: dict[str, str], mistake: str
) -> None:
    text = GOOD.replace("window: 90d", "window: calendar_year")
    assert check_file(write(tmp_path, text)) == []
    for old, new in changes.items():
        text = text.replace(old, new)
    found = check_file(write(tmp_path, text))
    assert any(unnumbered(line).startswith(mistake) for line in found), found
