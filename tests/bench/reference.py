"""The expected result of a load, by the peers' logic and by tidemark's processor, and the progress of a run."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

import orjson

from config.policy_files import load_timeline
from models.events import Topic
from streams.kafka.records import CUSTOMER_TIERS, TIER_CHANGES
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import Partition
from streams.partition.step import Timing
from tests.bench.peers.kafka_streams import java_command
from tests.bench.peers.orders import Invalid, parse
from tests.bench.peers.rfm import State, apply
from tests.bench.results import Result, change_of, tiers_of
from tests.bench.workload import Order
from tests.support.in_steps import FileRecord

POLICY = Path(__file__).with_name("rfm.yaml")


def decided_by_peer(load: Iterable[Order]) -> Result:
    """Return the result of the peers' logic."""
    states: dict[str, State] = {}
    result = Result(set(), {}, 0)
    for record in load:
        order = parse(record.key, record.value)
        states[order.customer_id], changes, tiers = apply(states.get(order.customer_id), order)
        result.changes.update(change_of(orjson.dumps(change)) for change in changes)
        result.tiers[record.key] = tiers_of(orjson.dumps(tiers))
    return result


def decided_by_java(load: Iterable[Order]) -> Result:
    """Return the result of the Kafka Streams peer's logic, without a broker. Raises Missing if it cannot run."""
    *java, _ = java_command()
    lines = b"".join(b"%b %b\n" % (record.key, record.value) for record in load)
    written = subprocess.run([*java, "bench.Lines"], input=lines, capture_output=True, check=True).stdout.splitlines()
    result = Result(set(), {}, 0)
    for line in written:
        output = orjson.loads(line)
        if "scheme" in output:
            result.changes.add(change_of(line))
        else:
            result.tiers[output["customer_id"].encode()] = tiers_of(line)
    return result


def decided_by_tidemark(load: Iterable[Order]) -> Result:
    """Return the result of tidemark's processor, without a broker."""
    timeline = load_timeline(POLICY)
    processor = Processor(timeline, Timing(), Encoder("/bench"))
    records = [FileRecord(offset, order.at, order.key, order.value) for offset, order in enumerate(load)]
    partition = Partition(0, timeline=timeline.fingerprint)
    outputs = processor.process(partition, Topic.ORDERS, "orders", records, now=2**42).outputs
    tiers = {out.key or b"": tiers_of(out.value or b"") for out in outputs[CUSTOMER_TIERS]}
    return Result({change_of(out.value or b"") for out in outputs[TIER_CHANGES]}, tiers, 0)


class Course:
    """The progress of a run, derived from the number of tier changes in each partition of its output.

    Both sides decide a partition's orders in order, so the n-th change of a partition shows which order was decided
    last. `total` is the number of records, including the invalid ones.
    """

    def __init__(self, load: Iterable[tuple[int, Order]], partitions: int) -> None:
        """Take `load`, which has each order with its partition."""
        self._positions: list[list[int]] = [[] for _ in range(partitions)]
        counts = [0] * partitions
        states: dict[str, State] = {}
        for partition, record in load:
            counts[partition] += 1
            try:
                order = parse(record.key, record.value)
            except Invalid:
                continue
            states[order.customer_id], changes, _ = apply(states.get(order.customer_id), order)
            self._positions[partition] += [counts[partition]] * len(changes)
        self.total = sum(counts)

    def done(self, changes: Iterable[int]) -> int:
        """Return the number of records processed, given the number of changes in each partition."""
        return sum(
            positions[min(count, len(positions)) - 1] if count else 0
            for positions, count in zip(self._positions, changes, strict=True)
        )
