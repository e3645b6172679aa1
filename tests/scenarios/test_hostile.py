"""Hostile input to the codecs and the policy parser: whatever comes, the answer is an event or a named refusal."""

import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import policy_files
from config.policy_files import check_file
from models import wire
from models.errors import Reason
from models.events import Topic
from models.instants import DAY_MS, format_instant, parse_instant
from streams.kafka.topics import MAX_DEAD_LETTER_BYTES
from streams.metrics.collectors import Metrics
from streams.partition.step import Timing
from tests.support.driver import Driver, order

MUTANTS = 100_000
KINDS = 1_000_000
SPOILT = 10_000
SPOILT_FILES = 600
HOT_ORDERS = 100_000
NOW = parse_instant("2026-06-01T00:00:00Z")

T = '"occurred_at":"2026-03-01T10:00:00Z"'
ORDER = '{"type":"order.placed","order_id":"o1","customer_id":"c1",' + T
REFUND = '{"type":"order.refunded","refund_id":"r1","order_id":"o1","customer_id":"c1",' + T
TOUCH = '{"type":"interaction","interaction_id":"i1","customer_id":"c1",' + T
PROFILE = (
    '{"customer_id":"c1","birthday":"1990-02-28","timezone":"Asia/Shanghai","locale":"zh-CN","consent":'
    '{"marketing":true,"channels":["sms","email"]},"registered_at":"2020-01-01T00:00:00Z",'
    '"attributes":{"region":"East","n":[1,2,{"a":null}]}}'
)
SEEDS: list[tuple[Topic, bytes]] = [
    (Topic.ORDERS, (ORDER + ',"amount":"120.00","margin":31.5,"currency":"USD"}').encode()),
    (Topic.ORDERS, (REFUND + ',"amount":20}').encode()),
    (Topic.ORDERS, b'{"type":"order.cancelled","order_id":"o1","customer_id":"c1","occurred_at":1772359200000}'),
    (Topic.INTERACTIONS, (TOUCH + ',"kind":"survey","value":9}').encode()),
    (Topic.CUSTOMERS, PROFILE.encode()),
]
#: What breaks parsers: depth, size, numbers, encodings, names used twice, characters that are none.
HORRORS = [
    b"-5",
    b'"-0.01"',
    b'"XXX"',
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"1e400",
    b"-1e400",
    b"NaN",
    b"Infinity",
    b"-0",
    b"0.1e-400",
    b"9" * 400,
    b"18446744073709551616",
    b"-9223372036854775809",
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"1e5"',
    b'"1_000"',
    b'"\xd9\xa1\xd9\xa2"',
    b'"NaN"',
    b'"0x10"',
    b'"9999-12-31T23:59:59.999999999Z"',
    b'"0000-00-00T00:00:00Z"',
    b'"2016-12-31T23:59:60Z"',
    b'"2026-03-01T10:00:00+99:99"',
    b'"lunar:02-30"',
    b'"--02-30"',
    b'"Asia/../../etc/passwd"',
    b'"/etc/passwd"',
    b'"' + b"x" * 70_000 + b'"',
]


def mutant(draw: random.Random) -> tuple[Topic, bytes]:
    """Return a record that was a good one."""
    topic, value = draw.choice(SEEDS)
    for _ in range(draw.randrange(1, 4)):
        value = draw.choice(MUTATIONS)(draw, value)
    return topic, value


def _flip(draw: random.Random, value: bytes) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + bytes([draw.randrange(256)]) + value[at + draw.randrange(2) :]


def _cut(draw: random.Random, value: bytes) -> bytes:
    at, end = sorted(draw.randrange(len(value) + 1) for _ in range(2))
    return value[:at] + value[end:]


def _double(draw: random.Random, value: bytes) -> bytes:
    at, end = sorted(draw.randrange(len(value) + 1) for _ in range(2))
    return value[:end] + value[at:]


def _insert(draw: random.Random, value: bytes) -> bytes:
    at = draw.randrange(len(value) + 1)
    return value[:at] + draw.choice(HORRORS) + value[at:]


def _replace_field(draw: random.Random, value: bytes) -> bytes:
    """Put a horror in the place of a field's value, or name the field twice."""
    try:
        fields = json.loads(value)
    except (ValueError, RecursionError):
        return value
    if not isinstance(fields, dict) or not fields:
        return value
    name = draw.choice(list(fields))
    parts = [json.dumps(key).encode() + b":" + json.dumps(fields[key]).encode() for key in fields]
    worse = json.dumps(name).encode() + b":" + draw.choice(HORRORS)
    if draw.random() < 0.5:
        parts = [part for part in parts if not part.startswith(json.dumps(name).encode())]
    parts.insert(draw.randrange(len(parts) + 1), worse)
    return b"{" + b",".join(parts) + b"}"


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    _flip,
    _cut,
    _double,
    _insert,
    _replace_field,
    _replace_field,
    _replace_field,
]


def test_a_hundred_thousand_mutants_are_events_or_refused_by_name() -> None:
    draw = random.Random(5)
    driver = Driver()
    seen: Counter[str] = Counter()
    for number in range(MUTANTS // 100):
        mutants = [mutant(draw) for _ in range(100)]
        for topic in Topic:
            records = [(b"c1", value) for each, value in mutants if each is topic]
            effects = driver.feed(topic, *records, now=NOW)
            refused = sum(effects.reasons.values()) - effects.reasons[Reason.FIELD_IGNORED]  # those are events, too
            assert effects.events + refused == len(records)
            assert len(effects.outputs.get("dead-letters", [])) == sum(effects.reasons.values())
            seen.update(reason.value for reason in effects.reasons.elements())
            seen["applied"] += effects.events
        if number % 100 == 0:
            driver.recover(dict(driver.partition.rows))  # what was accepted can be stored and read again
    # The fuzzing reached deep: every reason that a value alone can have, and events that were accepted.
    expected = set(Reason) - {Reason.WRONG_PARTITION, Reason.DAMAGED_ROW}
    assert {reason.value for reason in expected} <= set(seen), seen
    assert seen["applied"] > MUTANTS // 50


# --- the policy parser -----------------------------------------------------------------------------------

POLICIES = sorted((Path(__file__).parents[2] / "config" / "policies").glob("*.yaml"))
WRONG: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "NaN",
    ">= ",
    ">= NaN",
    ">= 1e999",
    "x" * 10_000,
    "-5d",
    "999999999999w",
    "5",
    [],
    {},
    [[[[]]]],
    {"any": []},
    {"all": {}},
    {"when": {}},
    [None],
    {"": ""},
    "\ud800",
    "\0",
]


def _spots(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(spot for key, child in children for spot in _spots(child, (*path, key)))]


def _spoilt(draw: random.Random, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a policy with one to three of its parts replaced, or keys added to them."""
    spec = copy.deepcopy(spec)
    for _ in range(draw.randrange(1, 4)):
        path = draw.choice(_spots(spec)[1:])
        holder: Any = spec
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict) and draw.random() < 0.3:
            holder[draw.choice(["", "when", "grace", "x", 5])] = copy.deepcopy(draw.choice(WRONG))
        else:
            holder[path[-1]] = copy.deepcopy(draw.choice(WRONG))
    return spec


def _told_in_lines(file: Path) -> bool:
    """Check a policy file; every flaw is a line of error. Return whether something is."""
    mistakes = check_file(file)
    assert all(0 < len(mistake) < 1_000 and "\n" not in mistake for mistake in mistakes), mistakes
    return bool(mistakes)


def test_a_spoilt_policy_is_a_policy_or_a_named_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(6)
    specs = [yaml.safe_load(policy.read_text()) for policy in POLICIES]
    file = tmp_path / "spoilt.yaml"
    refused = 0
    for number in range(SPOILT):
        spec = _spoilt(draw, draw.choice(specs))
        if number < SPOILT_FILES:
            file.write_text(yaml.safe_dump(spec, allow_unicode=True), encoding="utf-8", errors="backslashreplace")
        else:  # reading YAML is what takes the time
            monkeypatch.setattr(policy_files, "_read", lambda _path, spec=spec: [spec])
        refused += _told_in_lines(file)
    assert SPOILT // 2 < refused < SPOILT


def test_a_policy_file_whose_bytes_are_spoilt_is_a_policy_or_a_named_mistake(tmp_path: Path) -> None:
    draw = random.Random(8)
    file = tmp_path / "spoilt.yaml"
    refused = 0
    for _ in range(SPOILT_FILES):
        text = draw.choice(POLICIES).read_bytes()
        for _ in range(draw.randrange(1, 4)):
            text = draw.choice((_flip, _cut, _insert))(draw, text)
        file.write_bytes(text)
        refused += _told_in_lines(file)
    assert SPOILT_FILES // 3 < refused < SPOILT_FILES


@pytest.mark.parametrize(
    "text",
    [
        b"a: &a [*a]",
        b"[" * 20_000,
        b"&a [x,x,x,x,x,x,x,x,x]\n" * 50,
        b"!!python/object/apply:os.system ['true']",
        b"\xff\xfe\x00",
        b"version: 1\nversion: 2\n",
        b"a: " + b"x" * 1_000_000,
        b"",
        b"- 1\n- 2\n",
    ],
)
def test_a_file_that_is_no_policy_is_reported_in_lines_and_does_nothing(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_bytes(text)
    mistakes = check_file(path)
    assert mistakes
    assert all(len(mistake) < 2_000 for mistake in mistakes)


# --- size and number -------------------------------------------------------------------------------------


def test_ten_megabytes_are_refused_unread_and_their_dead_letter_fits_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    value = b'{"type":"order.placed","order_id":"' + b"x" * 10_000_000 + b'"}'
    effects = driver.feed(Topic.ORDERS, (b"k" * 3_000_000, b"{}"))
    (keyed,) = effects.outputs["dead-letters"]
    monkeypatch.setattr(wire, "DECODERS", {})  # whoever reads further fails
    effects = driver.feed(Topic.ORDERS, (b"c1", value))
    assert effects.reasons[Reason.TOO_LARGE] == 1
    (large,) = effects.outputs["dead-letters"]
    assert value.startswith(large.value)
    assert dict(large.headers)["truncated"] == str(len(value)).encode()
    assert len(keyed.key) + len(keyed.value) < MAX_DEAD_LETTER_BYTES
    assert 1_000_000 < len(large.key) + len(large.value) < MAX_DEAD_LETTER_BYTES


def test_what_a_topic_of_default_size_can_hold_is_a_dead_letter_untouched() -> None:
    value = b"x" * 1_048_576
    (letter,) = Driver().feed(Topic.ORDERS, (b"c1", value)).outputs["dead-letters"]
    assert letter.value == value
    assert "truncated" not in dict(letter.headers)


@pytest.mark.slow
def test_a_million_unknown_kinds_are_one_note_no_label_and_no_byte_of_state() -> None:
    driver, metrics = Driver(), Metrics()
    # Few customers a batch: what is measured is the kinds, not the rows.
    template = '{"type":"interaction","interaction_id":"i%d","customer_id":"c%d",' + T + ',"kind":"kind-%d"}'
    noted, before = 0, None
    for start in range(0, KINDS, 4_000):
        records = [
            (b"c%d" % (number % 5), (template % (number, number % 5, number)).encode())
            for number in range(start, start + 4_000)
        ]
        effects = driver.feed(Topic.INTERACTIONS, *records, now=NOW)
        metrics.observe("interactions", effects)
        noted += effects.decisions.counts["unknown_kind"]
        samples = sum(len(family.samples) for family in metrics.registry.collect())
        before = before or samples
        assert samples == before
    assert noted == KINDS
    assert max(len(row) for row in driver.partition.rows.values()) < 1_000


@pytest.mark.slow
@pytest.mark.parametrize("arrival", ["in order", "backwards", "waiting to be settled"])
def test_a_customer_with_a_hundred_thousand_orders_has_a_bounded_row_and_costs_no_more_with_each(arrival: str) -> None:
    settled = arrival == "waiting to be settled"
    # Settled, all of them come within the lateness: none may be decided but those that are too many.
    driver = Driver(Timing(settled=True, lateness=365 * DAY_MS) if settled else None)
    numbers = range(HOT_ORDERS - 1, -1, -1) if arrival == "backwards" else range(HOT_ORDERS)
    elapsed, sizes = [], []
    for start in range(0, HOT_ORDERS, 1_000):
        records = [
            order("hot", number, format_instant(NOW - 200 * DAY_MS + number * 100_000))
            for number in numbers[start : start + 1_000]
        ]
        began = time.process_time()
        driver.feed(Topic.ORDERS, *records, now=NOW)
        elapsed.append(time.process_time() - began)
        driver.advance(NOW)
        sizes.append(len(driver.partition.rows[b"hot"]))
    # The ledger keeps 10,000 orders, and folds the oldest for each one more; 2,000 may wait.
    assert max(sizes) <= 1.01 * sizes[12]
    assert max(sizes) < 400_000
    assert len(driver.partition.timers) < 100
    assert min(elapsed[-3:]) < 3 * min(elapsed[12:15]), elapsed
