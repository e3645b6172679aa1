"""Hostile input among ordinary events does not stop a worker, and each refused record becomes a dead letter."""

import random
from pathlib import Path

import pytest

from models.errors import Reason
from tests.kafka.cluster import KafkaCluster
from tests.scenarios.test_hostile import mutant
from tests.support.expected import assert_same_as_replay
from tests.support.live import Rig, ToSend
from tests.support.mixed import assert_dead_letters, mixed, wait_settled

pytestmark = pytest.mark.slow

EVENTS = 3_000
MUTANTS = 5_000
#: 10 MB each: more than any of tidemark's own topics accepts.
LARGE = [ToSend("orders", b"large%d" % number, b"[" * 10_000_000, number) for number in range(3)]
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "500"}


def test_mutants_and_records_of_ten_megabytes_stop_nothing(kafka: KafkaCluster, tmp_path: Path) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    draw = random.Random(7)
    for number in range(MUTANTS):
        topic, value = mutant(draw)
        # No mutant has a customer with this key, so all of them must be refused.
        record = ToSend(topic.label, b"bad-mutant%d" % number, value)
        day = world.slices[draw.randrange(len(world.slices))]
        day.insert(draw.randrange(len(day) + 1), record)
    with Rig(kafka.bootstrap, tmp_path, **SETTLED) as rig:
        rig.configure("orders", **{"cleanup.policy": "delete", "max.message.bytes": "12000000"})
        half = len(world.slices) // 2
        rig.start_worker(idle_after="2s")
        sent = rig.produce(world.slices[:half])
        rig.produce([LARGE], max_request_size=12_000_000)
        sent += rig.produce(world.slices[half:])
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)

        letters = rig.read("dead-letters")["dead-letters"]
        large = {letter.key: letter for letter in letters if letter.key.startswith(b"large")}
        assert large.keys() == {record.key for record in LARGE}
        for letter in large.values():
            headers = dict(letter.headers)
            assert headers["reason"].decode() == Reason.TOO_LARGE.value
            assert headers["truncated"] == b"10000000"
            assert set(letter.value) == {ord("[")}
        assert_dead_letters(rig, sent, world, besides=large.keys())
