"""Made-up histories in files, and replays of them in processes of their own."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.events import CUSTOMER_TOPICS, Topic
from models.instants import DAY_MS, format_instant, parse_instant
from tests.support.driver import order, profile, touch
from tests.support.process import ROOT

OUTPUTS = ("tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "dead-letters.jsonl", "summary.json")
START = parse_instant("2026-01-01T00:00:00Z")

Events = dict[Topic, list[dict[str, Any]]]


def made_up(seed: int = 1, customers: int = 40, orders: int = 30) -> Events:
    """A year of customers with orders, refunds, interactions and profiles, in no order, with two bad events."""
    draw = random.Random(seed)
    events: Events = {topic: [] for topic in CUSTOMER_TOPICS}
    for number in range(customers):
        name = f"c{number:03}" if number % 5 else f"顧客{number:03}"
        birthday = f"1990-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}"
        attributes = {"region": draw.choice(["East", "West"]), "gender": draw.choice("fm")}
        known = {"birthday": birthday, "consent": {"marketing": True}, "attributes": attributes}
        events[Topic.CUSTOMERS].append(_event(profile(name, updated_at=format_instant(START), **known)))
        for place in range(orders):
            at = format_instant(START + draw.randrange(300 * DAY_MS))
            placed = _event(order(name, f"{number}-{place}", at, f"{draw.randrange(500, 15_000) / 100:.2f}"))
            events[Topic.ORDERS].append(placed)
            if place % 7 == 0:
                refund = {"refund_id": f"r{number}-{place}", "type": "order.refunded", "amount": "4.00"}
                events[Topic.ORDERS].append({**placed, **refund})
            if place % 3 == 0:
                events[Topic.INTERACTIONS].append(_event(touch(name, f"{number}-{place}", at)))
    for topic in (Topic.ORDERS, Topic.INTERACTIONS):
        draw.shuffle(events[topic])
        events[topic].insert(len(events[topic]) // 2, {"type": "order.eaten", "customer_id": "nobody"})
    return events


def campaigns(count: int = 6) -> list[dict[str, Any]]:
    """Some campaigns over the year, of which one is repeated and one addresses gold customers in the East only."""
    made = [
        {
            "type": "campaign",
            "campaign_id": f"k{number}",
            "occurred_at": format_instant(START + (20 + 40 * number) * DAY_MS),
            "subject": "launch" if number % 2 else "coupons",
        }
        for number in range(count)
    ]
    made[1] |= {"tiers": ["silver", "gold"], "attributes": {"region": ["East"]}}
    return [*made, {**made[0], "occurred_at": made[-1]["occurred_at"]}]


def written(directory: Path, events: Events) -> dict[Topic, Path]:
    """Write events as JSON lines, a file for each topic."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {topic: directory / f"{topic.label}.jsonl" for topic in events}
    for topic, path in paths.items():
        path.write_text("".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events[topic]))
    return paths


def options(paths: dict[Topic, Path]) -> list[str]:
    """Return the options of the command that name the files."""
    return [part for topic, path in paths.items() for part in (f"--{topic.label}", str(path))]


def tidemark(directory: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in a directory; in one process unless more are asked for.

    To start more takes longer than so little work, and that nothing depends on how many there are has tests of its own.
    """
    few = ("--processes", "1") if arguments[0] in ("replay", "simulate") and "--processes" not in arguments else ()
    return subprocess.run(
        [sys.executable, "-m", "streams", *map(str, arguments), *few],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def error_line(done: subprocess.CompletedProcess[str], status: int = 2) -> str:
    """Return the one line of error that a command wrote when it ended with a status."""
    assert done.returncode == status, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tidemark: ")]
    return line.removeprefix("tidemark: ")


def contents(directory: Path, names: Iterable[str] = OUTPUTS) -> dict[str, bytes]:
    """Return the outputs in a directory; there must be nothing else."""
    assert {path.name for path in directory.iterdir()} == set(names)
    return {name: (directory / name).read_bytes() for name in names}


def _event(record: tuple[bytes, bytes]) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(record[1])
    return event
