import base64
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config.policy_files import load_timeline
from models.customer.state import Customer
from models.engine.decide import Engine
from models.errors import Reason
from models.events import Topic
from models.instants import DAY_MS, HOUR_MS, format_instant, parse_instant
from models.outputs import Decisions
from models.policy.timeline import Timeline
from models.wire import Wire
from streams.partition.effects import Effects
from streams.partition.step import Timing
from tests.support.driver import Driver, order, profile, touch, version
from tests.support.in_steps import SLICE_PER_CUSTOMER, Result, replay, write_result
from tests.support.live import lines
from tests.support.process import ROOT

FILES = ("tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "dead-letters.jsonl", "summary.json")
START = parse_instant("2026-01-01T00:00:00Z")

Keyed = tuple[bytes, bytes]
Events = dict[Topic, list[Keyed]]


@pytest.fixture(scope="module")
def timeline() -> Any:
    return load_timeline(Path("demo"))


def write(directory: Path, events: Events) -> dict[Topic, Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = {}
    for topic, records in events.items():
        paths[topic] = directory / f"{topic.label}.jsonl"
        paths[topic].write_bytes(b"".join(value + b"\n" for _, value in records))
    return paths


def replayed(directory: Path, events: Events, until: str | None = None) -> Result:
    at = None if until is None else parse_instant(until)
    return replay(load_timeline(Path("demo")), write(directory, events), at)


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in FILES}


def history(seed: int, customers: int = 12, orders: int = 40) -> Events:
    """A made-up year: no two events of a customer at one instant."""
    choose = random.Random(seed)
    events: Events = {topic: [] for topic in Topic}
    for number in range(customers):
        name = f"c{number:02}"
        consent = {"marketing": choose.random() < 0.8}
        birthday = f"1990-{choose.randrange(1, 13):02}-{choose.randrange(1, 29):02}"
        at = format_instant(START + choose.randrange(DAY_MS))
        events[Topic.CUSTOMERS].append(profile(name, birthday=birthday, consent=consent, updated_at=at))
        instants = choose.sample(range(START + DAY_MS, START + 300 * DAY_MS, 1_000), orders)
        for place, instant in enumerate(instants):
            at = format_instant(instant)
            if place % 9 == 0:
                events[Topic.INTERACTIONS].append(touch(name, place, at, choose.choice(["visit", "unsubscribe"])))
            else:
                events[Topic.ORDERS].append(order(name, place, at, f"{choose.randrange(500, 9_000) / 100:.2f}"))
    return events


# --- the same result, always --------------------------------------------------------------------------------


def test_two_runs_write_the_same_bytes(tmp_path: Path, timeline: Any) -> None:
    paths = write(tmp_path, history(1) | {Topic.INTERACTIONS: [(b"", b"nope"), *history(1)[Topic.INTERACTIONS]]})
    for name in ("one", "two"):
        write_result(replay(timeline, paths), timeline, tmp_path / name)
    one, two = bytes_of(tmp_path / "one"), bytes_of(tmp_path / "two")
    assert one == two
    assert all(one.values())
    assert {path.name for path in (tmp_path / "one").iterdir()} == set(FILES)


def test_the_order_of_the_files_and_of_their_lines_does_not_matter(tmp_path: Path, timeline: Any) -> None:
    events = history(2)
    write_result(replay(timeline, write(tmp_path / "a", events)), timeline, tmp_path / "one")
    shuffled = {}
    for topic in reversed(Topic):
        shuffled[topic] = list(events[topic])
        random.Random(topic).shuffle(shuffled[topic])
    write_result(replay(timeline, write(tmp_path / "b", shuffled)), timeline, tmp_path / "two")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_files_are_sorted_by_instant_customer_scheme_and_sequence(tmp_path: Path, timeline: Any) -> None:
    write_result(replay(timeline, write(tmp_path, history(3))), timeline, tmp_path / "out")
    changes = lines(tmp_path / "out" / "tier-changes.jsonl")
    keys = [(parse_instant(c["effective_at"]), c["customer_id"], c["scheme"], c["sequence"]) for c in changes]
    assert len(keys) > 20
    assert keys == sorted(keys)
    customers = [entry["customer_id"] for entry in lines(tmp_path / "out" / "customers.jsonl")]
    assert customers == sorted(customers)
    assert len(customers) == 12


def test_a_run_replaces_the_files_of_the_run_before(tmp_path: Path, timeline: Any) -> None:
    for seed in (4, 5):
        write_result(replay(timeline, write(tmp_path, history(seed))), timeline, tmp_path / "out")
    write_result(replay(timeline, write(tmp_path, history(5))), timeline, tmp_path / "fresh")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(FILES)


# --- until --------------------------------------------------------------------------------------------------


def test_events_after_until_are_counted_and_not_read(tmp_path: Path, timeline: Any) -> None:
    until = "2026-06-01T00:00:00Z"
    events = history(6)
    limit = parse_instant(until)
    early = {
        topic: [
            record
            for record in records
            if parse_instant(json.loads(record[1]).get("occurred_at") or json.loads(record[1])["updated_at"]) <= limit
        ]
        for topic, records in events.items()
    }
    whole = replayed(tmp_path / "whole", events, until)
    cut = replayed(tmp_path / "cut", early, until)
    assert whole.after_until == sum(map(len, events.values())) - sum(map(len, early.values())) > 0
    assert (whole.changes, whole.actions, whole.events) == (cut.changes, cut.actions, cut.events)
    assert [customer.to_row() for customer in whole.customers] == [customer.to_row() for customer in cut.customers]


def test_an_event_at_until_itself_is_read_and_time_reaches_it(tmp_path: Path) -> None:
    at = "2026-03-01T00:00:00Z"
    result = replayed(tmp_path, {Topic.ORDERS: [order("ann", 1, at)]}, at)
    assert [change.effective_at for change in result.changes] == [at]
    assert result.customers[0].pending == []


def test_time_goes_on_to_until_after_the_last_event(tmp_path: Path) -> None:
    records = [order("ann", n, "2026-01-01T00:00:00Z", "60.00") for n in range(3)]
    falls = START + (91 + 14) * DAY_MS
    events = {Topic.ORDERS: records}
    short = replayed(tmp_path, events, format_instant(falls - 1))
    assert [change.to_tier for change in short.changes] == ["regular", "silver"]
    long = replayed(tmp_path, events, format_instant(falls))
    assert [change.to_tier for change in long.changes] == ["regular", "silver", "regular"]
    assert long.changes[-1].effective_at == format_instant(falls)
    assert replayed(tmp_path, events).until == START


def test_an_event_far_in_the_future_is_read(tmp_path: Path) -> None:
    result = replayed(tmp_path, {Topic.ORDERS: [order("ann", 1, "2200-01-01T00:00:00Z")]})
    assert (len(result.changes), result.bad_lines) == (1, [])


# --- order --------------------------------------------------------------------------------------------------


def test_events_of_one_instant_are_ordered_by_topic_and_then_by_content(tmp_path: Path) -> None:
    at = "2026-03-01T00:00:00Z"
    events = {
        Topic.INTERACTIONS: [touch("ann", 1, at)],
        Topic.ORDERS: [order("ann", 1, at, "200.00"), order("ann", 2, at), order("ann", 3, at)],
        Topic.CUSTOMERS: [profile("ann", updated_at=at)],
    }
    changes = replayed(tmp_path, events).changes
    assert [(change.to_tier, change.cause) for change in changes] == [("regular", "profile"), ("silver", "order")]
    without = {topic: records for topic, records in events.items() if topic is not Topic.CUSTOMERS}
    assert replayed(tmp_path / "b", without).changes[0].cause == "order"

    twice = {Topic.ORDERS: [order("ann", 1, at, "200.00"), order("ann", 1, at, "1.00")]}
    for name, orders in (("c", twice[Topic.ORDERS]), ("d", twice[Topic.ORDERS][::-1])):
        result = replayed(tmp_path / name, {Topic.ORDERS: orders})
        assert result.customers[0].ledger.paid.tolist() == [0, 1_00]
        assert result.notes == {"conflict": 1}


def test_a_profile_without_any_time_holds_from_the_beginning(tmp_path: Path, timeline: Any) -> None:
    ann = profile("ann", birthday="1990-05-05", timezone="UTC", consent={"marketing": True})
    events = {Topic.CUSTOMERS: [ann], Topic.ORDERS: [order("ann", 1, "2026-05-01T00:00:00Z")]}
    result = replayed(tmp_path, events, "2026-05-06T00:00:00Z")
    assert [(action.rule, action.due_at) for action in result.actions] == [("birthday-offer", "2026-05-05T09:00:00Z")]
    assert [change.cause for change in result.changes] == ["order"]

    alone = replayed(tmp_path / "alone", {Topic.CUSTOMERS: [ann]})
    assert (alone.until, alone.changes, len(alone.customers)) == (None, [], 1)
    write_result(alone, timeline, tmp_path / "out")
    (entry,) = lines(tmp_path / "out" / "customers.jsonl")
    assert (entry["customer_id"], entry["tiers"], entry["metrics"]) == ("ann", {}, {})


def test_one_huge_customer_is_decided_as_the_eager_engine_decides(tmp_path: Path, timeline: Any) -> None:
    choose = random.Random(7)
    count = 5 * SLICE_PER_CUSTOMER
    instants = sorted(choose.sample(range(START, START + 400 * DAY_MS, 1_000), count))
    records = [
        order("ann", n, format_instant(at), f"{choose.randrange(100, 4_000) / 100:.2f}")
        if n % 3
        else touch("ann", n, format_instant(at), "coupon_redeemed")
        for n, at in enumerate(instants)
    ]
    events: Events = {Topic.ORDERS: [], Topic.INTERACTIONS: []}
    for number, record in enumerate(records):
        events[Topic.ORDERS if number % 3 else Topic.INTERACTIONS].append(record)
    result = replayed(tmp_path, events)

    engine, customer, decisions = Engine(timeline), Customer("ann"), Decisions()
    wire = Wire(timeline.latest.money)
    for number, (key, value) in enumerate(records):
        _, event = wire.decode(Topic.ORDERS if number % 3 else Topic.INTERACTIONS, key, value)
        engine.ingest(customer, event, decisions)
    engine.advance(customer, instants[-1], decisions)
    assert result.notes == decisions.counts
    assert result.changes == decisions.changes
    assert result.actions == decisions.actions
    assert result.customers[0].to_row() == customer.to_row()


def test_many_events_of_one_instant_are_not_torn_apart(tmp_path: Path) -> None:
    at = "2026-03-01T00:00:00Z"
    count = SLICE_PER_CUSTOMER + 500
    orders = [order("ann", n, at, "1.00") for n in range(count)]
    events = {Topic.ORDERS: orders, Topic.CUSTOMERS: [profile("ann", updated_at=at)]}
    result = replayed(tmp_path, events)
    assert len(result.customers[0].ledger.times) == count
    assert result.changes[0].cause == "profile"


# --- versions of the policy ---------------------------------------------------------------------------------

BOUNDARIES = ("2026-04-01T00:00:00Z", "2026-08-15T12:30:00Z")
VERSIONS = (version("v1", 600), version("v2", 480, BOUNDARIES[0]), version("v3", 350, BOUNDARIES[1]))
LATENESS = DAY_MS


def live(directory: Path, events: Events, *, announced: int, settled: bool) -> tuple[list[Effects], Driver]:
    """Take the events as a worker does, with ticks between; stopped now and then, and started from the rows.

    The worker begins with the first version alone; all are in its file from `announced` (ms) on.
    """
    choose = random.Random(11)
    records = []
    for topic, path in write(directory, events).items():
        for line in path.read_bytes().splitlines():
            entry = json.loads(line)
            at = parse_instant(entry.get("occurred_at") or entry["updated_at"])
            records.append((at, topic, (entry["customer_id"].encode(), line)))
    records.sort(key=lambda record: record[:2])
    timing = Timing(settled=settled, lateness=LATENESS if settled else 0, wall_decides=False)
    now = records[-1][0]
    driver = Driver(timing, timeline=Timeline(VERSIONS[:1]))
    steps = []
    while records:
        count = choose.randrange(1, 40) if settled else 1
        batch, records = records[:count], records[count:]
        reached = batch[-1][0]
        if reached >= announced or choose.random() < 0.1:
            versions = VERSIONS if reached >= announced else VERSIONS[:1]
            rows, fresh = dict(driver.partition.rows), Driver(timing, timeline=Timeline(versions))
            fresh.recover(rows)
            driver, fresh._next = fresh, driver._next
        choose.shuffle(batch)
        fed = {topic: [record for _, rank, record in batch if rank is topic] for topic in Topic}
        steps += [driver.feed(topic, *pairs, now=now) for topic, pairs in fed.items()]
        if choose.random() < 0.5:
            steps.append(driver.advance(reached))
    steps.append(driver.advance(now + (LATENESS + 1 if settled else 0)))
    return steps, driver


@pytest.mark.parametrize("settled", [False, True], ids=["eager", "settled"])
@pytest.mark.parametrize("announced", ["2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z"])
def test_a_boundary_between_versions_comes_to_the_same_in_files_and_live(
    tmp_path: Path, announced: str, settled: bool
) -> None:
    events = history(10, customers=30)
    timeline = Timeline(VERSIONS)
    result = replay(timeline, write(tmp_path / "files", events))
    at_start = [change for change in result.changes if change.cause == "policy"]
    assert {change.effective_at for change in at_start} == set(BOUNDARIES)
    assert {change.direction for change in at_start} >= {"up"}
    assert {change.policy_version for change in result.changes} == {"v1", "v2", "v3"}
    for change in result.changes:
        assert change.policy_version == timeline.at(parse_instant(change.effective_at)).version

    steps, driver = live(tmp_path / "live", events, announced=parse_instant(announced), settled=settled)
    changes = {change.event_id: change for step in steps for change in step.decisions.changes}
    actions = {action.action_id: action for step in steps for action in step.decisions.actions}
    assert changes == {change.event_id: change for change in result.changes}
    assert actions == {action.action_id: action for action in result.actions}
    assert {action.policy_version for action in result.actions} == {"v1", "v2", "v3"}
    rows = {customer.customer_id: customer.to_row() for customer in result.customers}
    assert {name: driver.customer(name).to_row() for name in driver.customers} == rows


# --- bad lines ----------------------------------------------------------------------------------------------


def test_bad_lines_are_told_with_file_line_reason_and_content(tmp_path: Path, timeline: Any) -> None:
    good = order("ann", 1, "2026-03-01T00:00:00Z")[1]
    path = tmp_path / "orders.jsonl"
    path.write_bytes(b"\n".join([good, b"", b"nope", good.replace(b'"10.00"', b'"-1"'), b'\xff{"x', b"  "]) + b"\r\n")
    write_result(replay(timeline, {Topic.ORDERS: path}), timeline, tmp_path / "out")
    letters = lines(tmp_path / "out" / "dead-letters.jsonl")
    assert [(letter["file"], letter["line"], letter["reason"]) for letter in letters] == [
        ("orders.jsonl", 3, Reason.NOT_JSON),
        ("orders.jsonl", 4, Reason.NEGATIVE_AMOUNT),
        ("orders.jsonl", 5, Reason.NOT_JSON),
        ("orders.jsonl", 6, Reason.NOT_JSON),
    ]
    assert letters[0]["value"] == "nope"
    assert base64.b64decode(letters[2]["value_base64"]) == b'\xff{"x'
    assert all(letter["detail"] for letter in letters)
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["dead_letters"] == {"total": 4, "by_reason": {"not_json": 3, "negative_amount": 1}}
    assert summary["events"] == {"orders": 1}


def test_an_empty_history_is_no_mistake(tmp_path: Path, timeline: Any) -> None:
    result = replay(timeline, write(tmp_path, {Topic.ORDERS: []}))
    summary = write_result(result, timeline, tmp_path / "out")
    assert (summary["customers"], summary["until"]) == (0, None)
    assert bytes_of(tmp_path / "out")["tier-changes.jsonl"] == b""


def test_the_summary_counts_what_the_files_hold(tmp_path: Path, timeline: Any) -> None:
    summary = write_result(replay(timeline, write(tmp_path, history(8))), timeline, tmp_path / "out")
    out = tmp_path / "out"
    assert summary["tier_changes"]["total"] == len(lines(out / "tier-changes.jsonl"))
    assert summary["care_actions"]["total"] == len(lines(out / "care-actions.jsonl"))
    held = [entry["tiers"]["loyalty"]["tier"] for entry in lines(out / "customers.jsonl")]
    assert {tier: count for tier, count in summary["tiers"]["loyalty"].items() if count} == {
        tier: held.count(tier) for tier in set(held)
    }
    assert summary["policy_version"] == timeline.latest.version


# --- the command --------------------------------------------------------------------------------------------


def command(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams", "replay", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_what_the_function_writes(tmp_path: Path, timeline: Any) -> None:
    paths = write(tmp_path, history(9))
    inputs = [part for topic, path in reversed(paths.items()) for part in (f"--{topic.label}", str(path))]
    until = "2026-11-30T00:00:00+02:00"
    done = command(tmp_path, *inputs, "--policy", "demo", "--until", until, "--out", "deep/result")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    expected = replay(timeline, paths, parse_instant("2026-11-29T22:00:00Z"))
    write_result(expected, timeline, tmp_path / "expected")
    assert bytes_of(tmp_path / "deep" / "result") == bytes_of(tmp_path / "expected")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--orders good.jsonl --policy nowhere --out out", "nowhere"),
        ("--orders good.jsonl --policy broken.yaml --out out", "broken.yaml"),
        ("--orders good.jsonl --policy demo --out good.jsonl/out", "good.jsonl/out"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(tmp_path: Path, arguments: str, problem: str) -> None:
    (tmp_path / "good.jsonl").write_bytes(order("ann", 1, "2026-03-01T00:00:00Z")[1])
    (tmp_path / "broken.yaml").write_text("version: '1'\nwindow: long\n")
    done = command(tmp_path, *arguments.split())
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("tidemark: ")]
    assert len(errors) == 1
    assert problem in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        "--policy demo --out out",
        "--orders missing.jsonl --policy demo --out out",
        "--orders . --policy demo --out out",
        "--orders good.jsonl --policy demo --out out --until yesterday",
        "--orders good.jsonl --policy demo --out out --until 2026-01-01T00:00:00",
        "--orders good.jsonl --policy demo",
        "--orders good.jsonl --out out",
    ],
)
def test_unusable_arguments_are_told_and_status_2(tmp_path: Path, arguments: str) -> None:
    (tmp_path / "good.jsonl").write_bytes(order("ann", 1, "2026-03-01T00:00:00Z")[1])
    done = command(tmp_path, *arguments.split())
    assert done.returncode == 2
    (problem,) = done.stderr.splitlines()
    assert problem.startswith("tidemark: ")
    assert not (tmp_path / "out").exists()


def test_late_profiles_and_duplicates_are_counted(tmp_path: Path) -> None:
    at, later = "2026-03-01T00:00:00Z", format_instant(parse_instant("2026-03-01T00:00:00Z") + HOUR_MS)
    events = {
        Topic.ORDERS: [order("ann", 1, at), order("ann", 1, at), order("ann", 1, later)],
        Topic.INTERACTIONS: [touch("ann", 1, at, "levitation")],
    }
    result = replayed(tmp_path, events)
    assert result.notes == {"duplicate": 1, "conflict": 1, "unknown_kind": 1}
    counters = result.customers[0].counters
    assert (counters.events, counters.duplicates, counters.conflicts, counters.unknown_kinds) == (4, 1, 1, 1)
