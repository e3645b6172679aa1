"""A year of made-up events of all topics, with bad records among them: as many as asked for, the same every time."""

import random
from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

from models.events import Topic
from models.instants import DAY_MS, format_instant, parse_instant
from tests.support.expected import History, written_history
from tests.support.live import PATIENCE_S, Rig, Sent, ToSend, sliced

START = parse_instant("2025-01-01T00:00:00Z")
YEAR_MS = 365 * DAY_MS
#: Events of a customer in the year, on average.
PER_CUSTOMER = 25
_KINDS = ("visit", "click", "survey", "support_ticket", "something_new")
_BAD = (b"", b"{nope", b"\xff\xfe", b'{"type":"order.placed"}', b'{"type":"order.eaten"}', b"[]", None)


class Mixed(NamedTuple):
    """Good events, as a history for the oracle, and all records in slices of a day, bad ones among them."""

    history: History
    slices: list[list[ToSend]]

    @property
    def bad(self) -> set[bytes]:
        """The keys of the bad records: each has one of its own."""
        return {record.key for day in self.slices for record in day if record.key and record.key.startswith(b"bad")}


def mixed(directory: Path, events: int, seed: int = 11, start: int = START, span: int = YEAR_MS) -> Mixed:
    """Write `events` good events, and add a bad record to each thousand, at least ten."""
    draw = random.Random(seed)
    people = max(1, events // PER_CUSTOMER)
    profiles = [_profile(number, start) for number in range(people)]
    placed: list[tuple[str, str]] = []
    orders: list[dict[str, Any]] = []
    touches: list[dict[str, Any]] = []
    for number in range(events - people):
        at = format_instant(start + span * number // (events - people))
        name = f"c{draw.randrange(people)}"
        roll = draw.random()
        if roll < 0.75 or not placed:
            order_id, amount = f"o{number}", f"{draw.randrange(100, 15_000) / 100:.2f}"
            orders.append(_event("order.placed", name, at, order_id=order_id, amount=amount))
            placed.append((name, order_id))
        elif roll < 0.80:
            buyer, order_id = draw.choice(placed[-1000:])
            orders.append(_event("order.refunded", buyer, at, refund_id=f"r{number}", order_id=order_id, amount=5))
        elif roll < 0.82:
            buyer, order_id = draw.choice(placed[-1000:])
            orders.append(_event("order.cancelled", buyer, at, order_id=order_id))
        else:
            kind = draw.choice(_KINDS)
            value = {"value": draw.randrange(11)} if kind == "survey" else {}
            touches.append(_event("interaction", name, at, interaction_id=f"i{number}", kind=kind, **value))
    history = written_history(directory, {Topic.CUSTOMERS: profiles, Topic.ORDERS: orders, Topic.INTERACTIONS: touches})
    slices = list(sliced(history.records, DAY_MS))
    for number in range(max(10, events // 1000)):
        record = ToSend("orders", b"bad%d" % number, _BAD[number % len(_BAD)])
        day = slices[draw.randrange(len(slices))]
        day.insert(draw.randrange(len(day) + 1), record)
    return Mixed(history, slices)


def _event(what: str, customer: str, at: str, **fields: Any) -> dict[str, Any]:
    return {"type": what, "customer_id": customer, "occurred_at": at, **fields}


def _profile(number: int, start: int) -> dict[str, Any]:
    born = format_instant(parse_instant("1960-01-01T00:00:00Z") + number * 37 * DAY_MS % (40 * YEAR_MS))[:10]
    return {
        "customer_id": f"c{number}",
        "birthday": born,
        "timezone": ("America/New_York", "Europe/Berlin", "Asia/Shanghai")[number % 3],
        "consent": {"marketing": number % 4 != 0, "channels": ["email"]},
        "registered_at": format_instant(start),
        "updated_at": format_instant(start),
    }


def wait_settled(rig: Rig, world: Mixed, timeout_s: float = PATIENCE_S) -> None:
    """Wait until nothing is pending and time is at the last event in every partition: one worker must hold them all."""
    reached = world.history.last_ms + rig.settings.lateness
    rig.wait(lambda: rig.is_settled() and rig.has_reached(reached), "everything is read and settled", timeout_s)


def assert_dead_letters(rig: Rig, sent: list[Sent], world: Mixed, besides: Container[bytes] = ()) -> None:
    """Each bad record is in dead-letters with its own bytes; what is there twice has the same coordinates.

    Nothing else is there but the keys in `besides`.
    """
    bad = world.bad
    wanted = {
        (rig.settings.topic(record.topic), record.partition, record.offset): (record.key, record.value)
        for record in sent
        if record.key in bad
    }
    assert len(wanted) == len(bad)
    found: dict[tuple[str, int, int], tuple[bytes | None, bytes | None]] = {}
    for letter in rig.read("dead-letters")["dead-letters"]:
        if letter.key in besides:
            continue
        headers = {name: value.decode() for name, value in letter.headers}
        place = (headers["topic"], int(headers["partition"]), int(headers["offset"]))
        assert found.setdefault(place, (letter.key, letter.value)) == (letter.key, letter.value)
    assert found == wanted
