"""The documentation is true: its examples run, its tables are complete, its links lead somewhere."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import click
import msgspec
import pytest
import yaml

from config.policy_files import POLICIES, check_file, load_timeline, presets
from config.settings import PREFIX, Settings, show_settings
from models import scheme_specs, wire
from models.care import specs as care_specs
from models.care.rules import Refusal
from models.care.specs import CareRule
from models.contacts import MAX_CONTACTS
from models.customer import Customer
from models.engine import MAX_PENDING, MAX_PENDING_PROFILES, Engine
from models.errors import Reason
from models.events import KNOWN_KINDS, OrderPlaced, Topic
from models.identity import id64
from models.instants import DAY_MS, HOUR_MS, MAX_DURATION, parse_instant
from models.ledger import MAX_ADJUSTMENTS, MAX_ORDERS, MAX_REFUNDS_OF_ORDER
from models.metrics import METRICS
from models.money import MAX_MINOR, Money
from models.outputs import CareAction, CustomerTiers, Decisions, TierChange, TierCutoffs
from models.policy_spec import PolicySpec
from models.scheme_specs import Demotion, Scheme
from streams.cli import cli
from streams.encode import Encoder
from streams.metric_list import METRICS as METRIC_LIST
from streams.partition import Partition, Tick
from streams.processor import DUE_PER_STEP, Processor
from streams.replay import FileRecord, replay
from streams.step import Timing
from streams.topics import MAX_ROW_BYTES, topic_specs

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRACT, GUIDE, OPERATIONS, CARE = (
    ROOT / "docs" / f"{name}.md" for name in ("contract", "policy-guide", "operations", "care")
)
OUTPUTS = {"tier-changes": TierChange, "care-actions": CareAction, "customer-tiers": CustomerTiers}
CUTOFFS = {"tier-cutoffs": TierCutoffs}
FENCE = re.compile(r"^```(\w*) ?([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the mark after it, and where it is."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = FENCE.finditer(text)
    return [Block(page, text.count("\n", 0, each.start()) + 1, each[1], each[2], each[3]) for each in found]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def marked(language: str, *marks: str) -> Any:
    found = [block for block in BLOCKS if block.language == language and block.mark in marks]
    assert found, f"no {language} blocks marked {marks}"
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def following(block: Block) -> Block | None:
    """The next block of the page, where it says what this one gives."""
    page = [each for each in BLOCKS if each.page == block.page]
    after = dict(pairwise(page)).get(block)
    return after if after is not None and after.mark in ("output", "mistakes", "change") else None


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def table_rows(page: Path, heading: str) -> Iterator[list[str]]:
    """The rows of the first table under a heading, cells stripped."""
    _, found, rest = page.read_text().partition(f"{heading}\n")
    assert found, f"{page.name} has no {heading}"
    lines = iter(rest.splitlines())
    for line in lines:
        if line.startswith("|---"):
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def span(cell: str) -> str:
    """The text of a cell that is one code span, in as many backticks as it needs."""
    found = re.fullmatch(r"(`+) ?(.*?) ?\1", cell)
    assert found, cell
    return found[2]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_block_says_what_it_is():
    known = {
        "bash": {"", "run"},
        "json": {"output", *CUTOFFS, "change", *OUTPUTS, *(topic.label for topic in Topic)},
        "python": {""},
        "text": {"", "output", "mistakes"},
        "yaml": {"", "policy", "broken"},
    }
    for block in BLOCKS:
        assert block.mark in known.get(block.language, ()), block.name
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page.name


# --- what runs ----------------------------------------------------------------------------------


@marked("python", "")
def test_python_runs(block: Block, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = following(block)
    assert expected is None or done.stdout == expected.text


class Workshop:
    """One directory a page: its bash blocks build on one another, so each runs once, after those before it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._said: dict[Block, str] = {}

    def output(self, block: Block) -> str:
        """Run the blocks of a page up to this one, where they have not run yet; return what this one prints."""
        place = self._root / block.page.stem
        place.mkdir(exist_ok=True)
        for each in BLOCKS:
            if each.page == block.page and each.mark == "run" and each.line <= block.line and each not in self._said:
                self._said[each] = run_bash(each.text, place)
        return self._said[block]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("docs"))


@marked("bash", "run")
def test_bash_runs(block: Block, workshop: Workshop):
    out = workshop.output(block)
    expected = following(block)
    assert expected is not None, "a block that runs is followed by its output"
    if expected.language == "json":
        assert json.loads(out) == json.loads(expected.text)
    else:
        assert out == expected.text


def run_bash(text: str, place: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(place: Path) -> dict[str, str]:
    """The environment of a reader who has installed tidemark: `tidemark` and `python3` are on the path."""
    tools = place / "bin"
    tools.mkdir(exist_ok=True)
    for name, arguments in (("tidemark", "-m streams"), ("python3", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (tools / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**clean, "PATH": f"{tools}{os.pathsep}{clean['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "bash"], ids=lambda block: block.name)
def test_commands_exist(block: Block):
    for line in re.findall(r"^tidemark (.*)$", block.text, re.MULTILINE):
        assert_command(line.split("#")[0].split())


def test_commands_named_in_prose_exist():
    for page in PAGES:
        for code in codes(prose(page)):
            if code.startswith("tidemark "):
                assert_command(code.split()[1:])


def assert_command(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        assert words[0] in command.commands, f"tidemark {' '.join(words)}"
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        assert not word.startswith("--") or word in options, f"{command.name} {word}"


# --- policies -----------------------------------------------------------------------------------


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
        ("## Schemes", ["kind", "window", *(f"demotion.{key}" for key in Demotion.model_fields)]),
    ],
)
def test_policy_keys_are_documented(heading: str, keys: Any):
    assert sorted(codes(row[0])[0] for row in table_rows(GUIDE, heading)) == sorted(keys)


#: The triggers of care, by the heading under which their keys are told; some have keys with parts.
TRIGGERS: dict[str, type[CareRule]] = {
    "### Birthday": care_specs.Birthday,
    "### Anniversary": care_specs.Anniversary,
    "### Holiday": care_specs.Holiday,
    "### Calendar": care_specs.CalendarDays,
    "### At risk": care_specs.AtRisk,
    "### Near upgrade": care_specs.NearUpgrade,
    "### Welcome": care_specs.Welcome,
    "### Churn": care_specs.Churn,
    "### Silence": care_specs.Silence,
    "### Call back": care_specs.CallBack,
    "### Interaction": care_specs.OnInteraction,
    "### Campaign": care_specs.OnCampaign,
    "### Condition": care_specs.OnCondition,
}


@pytest.mark.parametrize("heading", TRIGGERS)
def test_keys_of_triggers_are_documented(heading: str):
    keys = TRIGGERS[heading].model_fields.keys() - CareRule.model_fields.keys() - {"trigger"}
    documented = {codes(row[0])[0].partition(".")[0] for row in table_rows(CARE, heading)}
    assert documented == keys


def test_every_trigger_is_documented_and_in_the_preset():
    known = {
        name
        for spec in [*TRIGGERS.values(), care_specs.TierMove]
        for name in spec.model_fields["trigger"].annotation.__args__
    }
    told = set(re.findall(r"`trigger: (\w+)`", CARE.read_text()))
    assert told == known
    rules = yaml.safe_load((POLICIES / "care.yaml").read_text())["care"]
    assert {rule["trigger"] for rule in rules} == known - {"condition"}


def test_keys_of_care_and_its_governance_are_documented():
    assert {codes(row[0])[0] for row in table_rows(CARE, "## A rule")} == {*CareRule.model_fields, "trigger"}
    fields = {
        f"{part}.{key}"
        for part, spec in (
            ("quiet_hours", care_specs.QuietHours),
            ("caps", care_specs.Cap),
            ("budgets", care_specs.Budget),
        )
        for key in spec.model_fields
    }
    assert {codes(row[0])[0] for row in table_rows(CARE, "## Governance")} == {*fields, "groups"}
    assert set(care_specs.Governance.model_fields) == {"quiet_hours", "caps", "budgets", "groups"}


def test_reasons_of_refusals_are_documented():
    section = prose(CARE).partition("## Governance\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"\(`(\w+)`\)", section)) == set(Refusal)


#: The kinds of schemes, and the parts of each that have keys of their own.
KINDS: dict[str, tuple[type[Scheme], dict[str, Any]]] = {
    "thresholds": (scheme_specs.Thresholds, {"tiers": scheme_specs.ThresholdTier}),
    "score": (scheme_specs.Score, {"metrics": scheme_specs.Graded, "tiers": scheme_specs.ScoreTier}),
    "percentile": (scheme_specs.Percentile, {"tiers": scheme_specs.PercentileTier}),
    "matrix": (scheme_specs.Matrix, {"rows": scheme_specs.Axis, "columns": scheme_specs.Axis}),
    "lifecycle": (scheme_specs.Lifecycle, {}),
    "segments": (scheme_specs.Segments, {"segments": scheme_specs.Segment}),
}


def test_kinds_are_those_of_the_code():
    known = {scheme.model_fields["kind"].annotation.__args__[0] for scheme in Scheme.__subclasses__()}
    assert set(KINDS) == known
    (row,) = [row for row in table_rows(GUIDE, "## Schemes") if row[0] == "`kind`"]
    assert set(codes(row[2])) == known
    assert set(Scheme.model_fields) == {"window", "demotion"}


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_a_kind_are_documented_with_their_defaults(kind: str):
    scheme, parts = KINDS[kind]
    fields = {key: value for key, value in scheme.model_fields.items() if key not in {*Scheme.model_fields, "kind"}}
    nested = {f"{part}.{key}": value for part, spec in parts.items() for key, value in spec.model_fields.items()}
    rows = {codes(row[0])[0]: row[1] for row in table_rows(GUIDE, f"### {kind.capitalize()}")}
    assert set(rows) == {*fields, *nested}
    for key, field in {**fields, **nested}.items():
        if field.is_required():
            assert rows[key] == "required", key
        elif field.default is not None:
            assert rows[key] == f"`{field.default}`", key


def test_readme_names_every_preset():
    section = (ROOT / "README.md").read_text().partition("## Presets\n")[2].partition("\n## ")[0]
    assert set(presets()) <= set(codes(section))
    assert len(presets()) == 14, "the README says thirteen, and demo"


def test_presets_are_listed_with_their_kinds():
    rows = {codes(row[0])[0]: row[1] for row in table_rows(GUIDE, "## Presets")}
    assert sorted(rows) == presets()
    for name, kind in rows.items():
        document = yaml.safe_load((POLICIES / f"{name}.yaml").read_text())
        assert {scheme.get("kind", "thresholds") for scheme in document["schemes"].values()} == {kind}, name


# --- the contract -------------------------------------------------------------------------------


@marked("json", *(topic.label for topic in Topic))
def test_input_examples_are_accepted(block: Block):
    topic = Topic[block.mark.upper()]
    if topic is Topic.CAMPAIGNS:
        assert wire.Wire(Money("USD")).decode_campaign(block.text.encode()).campaign == "spring-2026"
        return
    customer_id, _ = wire.Wire(Money("USD")).decode(topic, b"c1", block.text.encode())
    assert customer_id == "c1"


@marked("json", *OUTPUTS)
def test_output_examples_have_the_keys_of_the_contract(block: Block):
    shape = OUTPUTS[block.mark]
    example = json.loads(block.text)
    assert list(example) == [field.encode_name for field in msgspec.structs.fields(shape)]
    assert msgspec.to_builtins(msgspec.convert(example, shape)) == example


@marked("json", *OUTPUTS)
def test_output_examples_are_what_the_engine_says(block: Block, tmp_path: Path):
    assert json.loads(block.text) in decided(tmp_path)[block.mark]


def decided(tmp_path: Path) -> dict[str, list[Any]]:
    """What the events of the examples lead to, by the policy of the examples, in the live processor."""
    policy = next(block for block in BLOCKS if block.page == CONTRACT and block.mark == "policy")
    file = tmp_path / "policy.yaml"
    file.write_text(policy.text)
    profile = next(block for block in BLOCKS if block.mark == "customers").text
    bought = [("o1", "01-10", "120.00"), ("o2", "02-20", "150.00"), ("o3", "03-05", "90.00"), ("o4", "04-10", "460.00")]
    orders = [
        {
            "type": "order.placed",
            "order_id": order,
            "customer_id": "c1",
            "occurred_at": f"2026-{day}T10:00:00Z",
            "amount": amount,
        }
        for order, day, amount in bought
    ]
    refund = next(block for block in BLOCKS if block.page == CONTRACT and "order.refunded" in block.text).text
    values = [*(json.dumps(order).encode() for order in orders), refund.encode()]
    timeline = load_timeline(file)
    processor = Processor(timeline, Timing(ahead=10**12, wall_decides=False), Encoder("/tidemark"))
    partition = Partition(0, timeline=timeline.fingerprint)
    now = parse_instant("2026-06-01T00:00:00Z")
    steps = [
        processor.process(partition, Topic.CUSTOMERS, "customers", [FileRecord(0, 0, b"c1", profile.encode())], now)
    ]
    for offset, value in enumerate(values):
        record = FileRecord(offset, 0, b"c1", value)
        steps.append(processor.process(partition, Topic.ORDERS, "orders", [record], now))
    steps.append(processor.tick(partition, Tick(parse_instant("2027-06-01T00:00:00Z")), now))
    return {
        topic: [json.loads(out.value or b"") for step in steps for out in step.outputs.get(topic, [])]
        for topic in OUTPUTS
    }


@pytest.mark.parametrize(("topic", "shape"), [*OUTPUTS.items(), *CUTOFFS.items()])
def test_output_fields_are_documented(topic: str, shape: Any):
    documented = [name for row in table_rows(CONTRACT, f"### `{topic}`") for name in codes(row[0])]
    assert sorted(documented) == sorted(field.encode_name for field in msgspec.structs.fields(shape))


@marked("json", *CUTOFFS)
def test_cut_offs_are_shown_as_they_are_told(block: Block):
    shown = json.loads(block.text)
    assert msgspec.to_builtins(msgspec.convert(shown, CUTOFFS[block.mark])) == shown


@pytest.mark.parametrize(
    ("topic", "shapes"),
    [
        (Topic.ORDERS, [wire._Placed, wire._Refunded, wire._Cancelled]),
        (Topic.INTERACTIONS, [wire._Interaction]),
        (Topic.CUSTOMERS, [wire._Profile]),
        (Topic.CAMPAIGNS, [wire._Campaign]),
    ],
)
def test_input_fields_are_documented(topic: Topic, shapes: list[Any]):
    documented = {name for row in table_rows(CONTRACT, f"### `{topic.label}`") for name in codes(row[0])}
    fields = {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}
    assert fields | {"type"} == {name for name in documented if "." not in name} | {"type"}


def test_interaction_kinds_are_documented():
    sentence = re.search(r"^Kinds: (.*?)\. Other", CONTRACT.read_text(), re.MULTILINE | re.DOTALL)
    assert sentence is not None
    assert set(codes(sentence[1])) == KNOWN_KINDS


def test_metrics_are_documented():
    assert [codes(row[0])[0] for row in table_rows(CONTRACT, "## Metrics")] == list(METRICS)
    sentence = re.search(r"^Metrics: (.*?)\. Their", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert sentence is not None
    assert codes(sentence[1]) == list(METRICS)


def test_bounds_are_those_of_the_code():
    bounds = {row[0]: row[1] for row in table_rows(CONTRACT, "## Bounds")}
    assert bounds["counted orders"] == f"{MAX_ORDERS:,}"
    assert bounds["refunded or cancelled orders"] == f"{MAX_ADJUSTMENTS:,}"
    assert bounds["refunds of one order"] == str(MAX_REFUNDS_OF_ORDER)
    assert bounds["interactions kept"] == f"{MAX_CONTACTS:,}"
    assert bounds["events that wait (settled)"] == f"{MAX_PENDING:,}"
    assert bounds["profiles among them"] == str(MAX_PENDING_PROFILES)
    assert bounds["attributes of a profile"] == f"{wire._ATTRIBUTES_MAX_BYTES:,} bytes of JSON"
    channels = msgspec.json.schema(wire._Consent)["$defs"]["_Consent"]["properties"]["channels"]
    assert f'"maxItems": {bounds["channels of a profile"]}' in json.dumps(channels)
    assert bounds["a duration in a policy or setting"] == f"{MAX_DURATION // DAY_MS:,} days"
    assert MAX_MINOR == 10**14


def test_cloudevents_headers_are_documented():
    documented = [codes(row[0])[0] for row in table_rows(CONTRACT, "### CloudEvents headers")]
    assert documented == [name for name, _ in Encoder("/x")._headers("", ("ce_type", b""), "")]


def order(**changes: Any) -> bytes:
    event = {
        "type": "order.placed",
        "order_id": "o1",
        "customer_id": "c1",
        "occurred_at": "2026-03-01T10:00:00Z",
        "amount": "1",
    }
    return json.dumps({**event, **changes}).encode()


BAD_RECORDS: dict[Reason, tuple[Topic, bytes, bytes]] = {
    Reason.TOO_LARGE: (Topic.ORDERS, b"c1", b" " * 70_000),
    Reason.NOT_JSON: (Topic.ORDERS, b"c1", b"oops"),
    Reason.WRONG_TYPE: (Topic.ORDERS, b"c1", order(order_id=7)),
    Reason.MISSING_FIELD: (Topic.ORDERS, b"c1", order().replace(b', "amount": "1"', b"")),
    Reason.UNKNOWN_TYPE: (Topic.ORDERS, b"c1", order(type="order.shipped")),
    Reason.KEY_MISMATCH: (Topic.ORDERS, b"c2", order()),
    Reason.BAD_TIME: (Topic.ORDERS, b"c1", order(occurred_at="2026-03-01T10:00:00")),
    Reason.UNKNOWN_CURRENCY: (Topic.ORDERS, b"c1", order(currency="GBP")),
    Reason.NEGATIVE_AMOUNT: (Topic.ORDERS, b"c1", order(amount="-1.00")),
    Reason.BAD_VALUE: (Topic.CUSTOMERS, b"c1", b'{"customer_id": "c1", "birthday": "1990-13-01"}'),
    Reason.TOO_FAR_AHEAD: (Topic.ORDERS, b"c1", order()),
    Reason.WRONG_PARTITION: (Topic.ORDERS, b"c1", order()),
}


def test_every_reason_is_documented():
    assert {codes(row[0])[0] for row in table_rows(CONTRACT, "### Reasons")} == set(Reason)


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_given_with_the_details_documented(reason: Reason):
    documented = {codes(row[0])[0]: span(row[2]) for row in table_rows(CONTRACT, "### Reasons")}
    topic, key, value = BAD_RECORDS[reason]
    ahead = reason is Reason.TOO_FAR_AHEAD
    processor = Processor(
        load_timeline(POLICIES / "retail.yaml"),
        Timing(ahead=0 if ahead else DAY_MS),
        Encoder("/tidemark"),
        home_of=(lambda _key: 0) if reason is Reason.WRONG_PARTITION else None,
    )
    now = parse_instant("2026-02-02T00:00:00Z" if ahead else "2026-06-01T00:00:00Z")
    effects = processor.process(Partition(3), topic, topic.label, [FileRecord(0, 0, key, value)], now)
    (letter,) = effects.outputs["dead-letters"]
    headers = {name: text.decode() for name, text in letter.headers}
    assert (headers["reason"], headers["detail"]) == (reason, documented[reason])
    assert (letter.key, letter.value) == (key, value)
    assert set(headers) == {name for row in table_rows(CONTRACT, "## Dead letters") for name in codes(row[0])}


# --- operations ---------------------------------------------------------------------------------


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
    text = prose(OPERATIONS)
    assert text.count(f"{MAX_ROW_BYTES:,}") == 2
    assert f"at most {DUE_PER_STEP:,}\nof a partition a step" in text


# --- names and links ----------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make (\w+)|`make (\w+)", page.read_text(), re.MULTILINE)
    assert {first or second for first, second in named} <= targets


def test_readme_names_every_make_target():
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help", "demo"}
    rows = table_rows(ROOT / "README.md", "## Development")
    assert {codes(row[0])[0].removeprefix("make ") for row in rows} == targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_exist(page: Path):
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"TIDEMARK_[A-Z_]*[A-Z]", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metric_names_exist(page: Path):
    named = set(re.findall(r"\btidemark_[a-z_]+", page.read_text()))
    assert named <= {metric.name for metric in METRIC_LIST}


def test_rows_are_as_large_as_said():
    # The table is part of a list, hence indented.
    rows = re.findall(r"^  \| ([\d,]+) \| ([\d,]+) \|$", OPERATIONS.read_text(), flags=re.MULTILINE)
    said = {int(orders.replace(",", "")): int(size.replace(",", "")) for orders, size in rows}
    assert said == {orders: len(row_of(orders)) for orders in (1, 5, 10, 100, 10_000)}


def row_of(orders: int) -> bytes:
    """Return the row of a customer with so many orders, an hour apart, by the preset `retail`."""
    customer = Customer("c1")
    placed = [OrderPlaced(1_700_000_000_000 + hour * HOUR_MS, id64(f"o{hour}"), 1999) for hour in range(orders)]
    for order in placed[:-1]:
        customer.ledger.apply(order)
    Engine(load_timeline(POLICIES / "retail.yaml")).ingest(customer, placed[-1], Decisions())
    return customer.to_row()
