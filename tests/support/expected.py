"""What a live run must come to: the replay of the same files, and the comparison of the two, byte by byte."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import ConsumerRecord

from config.policy_files import load_timeline
from models.engine.decide import Engine
from models.events import Topic
from models.instants import parse_instant
from models.policy.timeline import Timeline
from streams.demo.campaigns import write_campaigns
from streams.demo.data import merged, write_events
from tests.support.in_steps import Result, replay
from tests.support.live import Rig, ToSend, by_id

Timed = tuple[int, ToSend]
#: A row begins with its version, its next due instant and the fingerprint of its timeline: the length in bytes.
HEADER = 13


@dataclass(frozen=True)
class History:
    """Input events in files, and the same as records in order of time."""

    files: dict[Topic, Path]
    records: list[Timed]

    @property
    def last_ms(self) -> int:
        return self.records[-1][0]


def demo_history(directory: Path, households: int, topics: Iterable[Topic] = Topic) -> History:
    """Write the demo's events of some households and topics."""
    demo = write_events(directory, households)
    paths = {Topic.ORDERS: demo.orders, Topic.INTERACTIONS: demo.interactions, Topic.CUSTOMERS: demo.customers}
    labels = {topic.label for topic in topics}
    records = [(at, ToSend(label, key, value)) for label, at, key, value in merged(demo) if label in labels]
    return History({topic: path for topic, path in paths.items() if topic.label in labels}, records)


def written_history(directory: Path, events: dict[Topic, list[dict[str, Any]]]) -> History:
    """Write events of one's own, each list in order of time."""
    directory.mkdir(parents=True, exist_ok=True)
    records: list[Timed] = []
    files = {}
    for topic, entries in events.items():
        values = [msgspec.json.encode(entry) for entry in entries]
        files[topic] = directory / f"{topic.label}.jsonl"
        files[topic].write_bytes(b"".join(value + b"\n" for value in values))
        for entry, value in zip(entries, values, strict=True):
            at = parse_instant(entry.get("occurred_at") or entry["updated_at"])
            records.append((at, ToSend(topic.label, entry["customer_id"].encode(), value)))
    return History(files, sorted(records, key=lambda record: record[0]))


def with_campaigns(history: History, directory: Path, partitions: int) -> History:
    """Add the year's real campaigns, each produced to every partition."""
    path = write_campaigns(directory)
    records = list(history.records)
    for line in path.read_bytes().splitlines():
        event = msgspec.json.decode(line)
        records += [
            (parse_instant(event["occurred_at"]), ToSend("campaigns", event["campaign_id"].encode(), line, number))
            for number in range(partitions)
        ]
    return History({**history.files, Topic.CAMPAIGNS: path}, sorted(records, key=lambda record: record[0]))


def replayed(history: History, policy: str = "demo", partitions: int = 1) -> tuple[Result, Timeline]:
    timeline = load_timeline(Path(policy))
    return replay(timeline, history.files, partitions=partitions), timeline


def assert_same_as_replay(rig: Rig, history: History, policy: str = "demo") -> None:
    """The live run's outputs, state and counters are those of the replay; repeated outputs are exact repetitions."""
    result, timeline = replayed(history, policy, rig.settings.partitions)
    outputs = rig.read("tier-changes", "care-actions", "customer-tiers")

    _assert_same(by_id(outputs["tier-changes"], "event_id"), _by_id(result.changes, "event_id"))
    _assert_same(by_id(outputs["care-actions"], "action_id"), _by_id(result.actions, "action_id"))
    _assert_sequences(outputs["tier-changes"])

    _assert_same_rows(rig.state().rows, {customer.customer_id: customer.to_row() for customer in result.customers})
    engine = Engine(timeline)
    latest = {record.key.decode(): record.value for record in outputs["customer-tiers"]}
    assert {name: msgspec.json.decode(value) for name, value in latest.items()} == {
        customer.customer_id: msgspec.to_builtins(engine.tiers(customer))
        for customer in result.customers
        if customer.cursor is not None
    }


def _assert_same(found: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> None:
    """What was found is what was wanted; else say of the first few what differs, for there may be 100,000 of them."""
    if found == wanted:
        return
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    other = [name for name in wanted.keys() & found.keys() if wanted[name] != found[name]]
    differing = [
        {field: (found[name][field], value) for field, value in wanted[name].items() if found[name][field] != value}
        for name in other[:3]
    ]
    whole = (
        [wanted[name] for name in [*missing][:3]],
        [found[name] for name in [*extra][:3]],
        [wanted[n] for n in other[:1]],
    )
    raise AssertionError(f"{len(missing)} missing, {len(extra)} too many, {len(other)} other: {differing} {whole}")


def _assert_same_rows(found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """The rows are the same; else say of the first few which of their parts differ, and how (found, wanted)."""
    assert found.keys() == wanted.keys()
    other = [name for name, row in wanted.items() if found[name] != row and _shown(found[name]) != _shown(row)]
    differing = {
        name: {
            part: (ours, theirs)
            for part, (ours, theirs) in enumerate(zip(_shown(found[name]), _shown(wanted[name]), strict=True))
            if ours != theirs
        }
        for name in other[:3]
    }
    if other:
        raise AssertionError(f"{len(other)} rows differ, by part: {differing}")


def _assert_sequences(records: list[ConsumerRecord]) -> None:
    """As it is first read, each customer's sequence counts 1, 2, 3 … and each `from` is the `to` before."""
    last: dict[tuple[str, str], tuple[int, str | None]] = {}
    seen = set()
    for record in records:
        change = msgspec.json.decode(record.value)
        if change["event_id"] in seen:
            continue
        seen.add(change["event_id"])
        sequence, tier = last.get((change["customer_id"], change["scheme"]), (0, None))
        assert (change["sequence"], change["from"]) == (sequence + 1, tier), change
        last[change["customer_id"], change["scheme"]] = (change["sequence"], change["to"])


def _by_id(decisions: Iterable[Any], name: str) -> dict[str, Any]:
    return {getattr(decision, name): msgspec.to_builtins(decision) for decision in decisions}


def _shown(row: bytes) -> list[Any]:
    """Return a row taken apart, so that a difference says where it is."""
    return [row[:HEADER].hex(), *msgspec.msgpack.decode(row[HEADER:], strict=False)]
