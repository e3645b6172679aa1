"""Drives a processor without a broker, the way a topology test driver does: records and ticks in, effects out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from config.policy_files import load_timeline
from models.customer.state import Customer
from models.events import Topic
from models.instants import parse_instant
from models.policy.compiled import Policy, compile_policy
from models.policy.spec import PolicySpec
from models.policy.timeline import Timeline
from streams.partition.effects import Effects
from streams.partition.encoder import Encoder
from streams.partition.processor import Processor
from streams.partition.state import PROGRESS_KEY, Partition, Watermark
from streams.partition.step import Timing

NOW = parse_instant("2026-06-01T00:00:00Z")


class Record(NamedTuple):
    """What the processor reads of a consumed record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Driver:
    """One partition and its processor. Offsets count up by themselves, per topic."""

    def __init__(
        self,
        timing: Timing | None = None,
        *,
        timeline: Timeline | None = None,
        number: int = 0,
        max_bytes: int = 65_536,
        partition_for: Callable[[bytes], int] | None = None,
        partitions: int = 1,
    ) -> None:
        self.timeline = timeline or load_timeline(Path("demo"))
        self.partition = Partition(number, timeline=self.timeline.fingerprint)
        self.processor = Processor(
            self.timeline,
            timing or Timing(),
            Encoder("/test"),
            max_bytes=max_bytes,
            partition_for=partition_for,
            partitions=partitions,
        )
        self._next = dict.fromkeys(Topic, 0)

    def recover(self, rows: dict[bytes, bytes]) -> None:
        """Go on with a partition that is built from rows, as after a restart."""
        self.partition = Partition(self.partition.number, rows, timeline=self.timeline.fingerprint)

    def feed(self, topic: Topic, *records: tuple[bytes | None, bytes | None], now: int = NOW) -> Effects:
        """Process (key, value) pairs as one batch at the next offsets."""
        first = self._next[topic]
        self._next[topic] = first + len(records)
        return self.feed_at(topic, first, *records, now=now)

    def feed_at(self, topic: Topic, first: int, *records: tuple[bytes | None, bytes | None], now: int = NOW) -> Effects:
        """Process (key, value) pairs as one batch whose offsets begin at `first`."""
        batch = [Record(first + place, 1_000 + first + place, key, value) for place, (key, value) in enumerate(records)]
        return self.processor.process(self.partition, topic, f"prefix-{topic.label}", batch, now)

    def advance(self, at: str | int, now: int = NOW) -> Effects:
        """Move stream time, one step."""
        return self.processor.advance(self.partition, Watermark(instant(at)), now)

    def customer(self, name: str) -> Customer:
        return Customer.from_row(name, self.partition.rows[name.encode()])

    @property
    def customers(self) -> set[str]:
        return {key.decode() for key in self.partition.rows if not key.startswith(PROGRESS_KEY)}


def version(name: str, silver: int, start: str | None = None) -> Policy:
    """Return a version of a policy: silver from so much money in a quarter on, and a birthday offer."""
    loyalty = {
        "tiers": [{"name": "regular"}, {"name": "silver", "when": {"monetary": f">= {silver}"}}],
        "demotion": {"grace": "14d", "step": "qualified"},
    }
    offer = {"name": "offer", "kind": "birthday_offer", "trigger": "birthday", "consent": "not_needed"}
    spec = {"version": name, "currency": "USD", "window": "91d", "schemes": {"loyalty": loyalty}, "care": [offer]}
    return compile_policy(PolicySpec.model_validate({**spec, "effective_from": start}))


def instant(at: str | int) -> int:
    return at if isinstance(at, int) else parse_instant(at)


def order(name: str, number: int | str, at: str | int, amount: str = "10.00", **fields: Any) -> tuple[bytes, bytes]:
    event = {"type": "order.placed", "order_id": f"o{number}", "customer_id": name, "occurred_at": at, "amount": amount}
    return name.encode(), json.dumps(event | fields).encode()


def touch(name: str, number: int | str, at: str, kind: str = "visit", **fields: Any) -> tuple[bytes, bytes]:
    event = {
        "type": "interaction",
        "interaction_id": f"i{number}",
        "customer_id": name,
        "occurred_at": at,
        "kind": kind,
    }
    return name.encode(), json.dumps(event | fields).encode()


def profile(name: str, **fields: Any) -> tuple[bytes, bytes]:
    return name.encode(), json.dumps({"customer_id": name} | fields).encode()


def values(effects: Effects, topic: str) -> list[Any]:
    """Return the JSON values that are to be produced to an output topic; None for a tombstone."""
    outs = effects.outputs.get(topic, [])
    return [None if out.value is None else json.loads(out.value) for out in outs]
