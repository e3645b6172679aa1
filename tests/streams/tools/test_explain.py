"""`tidemark explain` from files, and from the changelog of a running deployment."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from config.policy_files import load_timeline
from config.settings import PREFIX, Settings, load_settings
from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import Topic
from models.instants import DAY_MS, parse_instant
from models.outputs import Decisions
from streams.demo.broker import EmbeddedBroker
from streams.kafka.topics import changelog_name, create_topics
from streams.partition.state import PROGRESS_KEY
from streams.replay.command import Asked, plan_of
from streams.replay.final_state import final_state
from streams.tools.explain import explain_files, explain_live, latest_row
from tests.models.build import order
from tests.support.in_steps import replay

ROOT = Path(__file__).parents[3]
T0 = parse_instant("2026-01-01T00:00:00Z")
POLICY = """\
version: "1"
currency: USD
window: 100d
schemes:
  loyalty:
    tiers:
      - {name: regular}
      - {name: silver, when: {monetary: ">= 300"}}
      - {name: gold, when: {any: [{monetary: ">= 800"}, {frequency: ">= 12"}]}}
    demotion: {grace: 30d}
"""


def line(customer: str, name: str, number: int, amount: str) -> str:
    at = f"2026-01-{number:02}T00:00:00Z"
    event = {"type": "order.placed", "order_id": name, "customer_id": customer, "occurred_at": at, "amount": amount}
    return json.dumps(event)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    lines = [line("c1", "a", 1, "500.00"), line("客户", "b", 2, "900"), "not json", line("c2", "c", 20, "1")]
    (tmp_path / "orders.jsonl").write_text("\n".join(lines))
    (tmp_path / "customers.jsonl").write_text('{"customer_id": "c3"}\n')
    return tmp_path


def run(place: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "LANG", "LC_"))}
    return subprocess.run(
        [sys.executable, "-m", "streams", "explain", *arguments],
        cwd=place,
        env={**clean, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


FILES = ("--orders", "orders.jsonl", "--policy", "policy.yaml")


# --- files --------------------------------------------------------------------------------------


def test_files_are_explained_as_of_their_last_event(place: Path) -> None:
    done = run(place, "c1", *FILES)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Customer c1, as of 20 January 2026, 00:00 (UTC+00:00), under version 1 of the policy.",
        "The last decision about this customer was made as of 1 January 2026, 00:00 (UTC+00:00). The situation since "
        "then is calculated; nothing was stored or sent.",
        "In loyalty, the customer has been silver since 1 January 2026, 00:00 (UTC+00:00).",
        "The customer meets the conditions of silver: net spending in the last 100 days is 500.00 USD (required: at "
        "least 300.00 USD).",
        "The shortest way to gold is this: net spending in the last 100 days must rise by 300.00 USD (now 500.00 USD, "
        "required: at least 800.00 USD).",
        "If nothing more happens, the customer falls to regular on 11 May 2026, 00:00 (UTC+00:00).",
    ]


def test_columns_name_those_of_a_table(place: Path) -> None:
    (place / "sales.csv").write_text("no,client,when,total\na,c1,2026-01-01T00:00:00Z,500.00\n")
    columns = "order_id=no,customer_id=client,occurred_at=when,amount=total"
    done = run(place, "c1", "--orders", "sales.csv", "--columns", columns, "--policy", "policy.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "net spending in the last 100 days is 500.00 USD" in done.stdout


def test_a_customer_cannot_write_to_the_terminal(place: Path) -> None:
    (place / "orders.jsonl").write_text(line("c\x1b[2J[red]1", "a", 1, "500.00"))
    done = run(place, "c\x1b[2J[red]1", *FILES)
    assert done.stdout.startswith(r"Customer c\x1b[2J[red]1, as of")


@pytest.mark.parametrize(
    ("arguments", "environment", "chinese"),
    [
        ([], {"LANG": "zh_CN.UTF-8"}, True),
        ([], {"LANG": "de_DE.UTF-8"}, False),
        (["--lang", "en"], {"LANG": "zh_CN.UTF-8"}, False),
        (["--lang", "zh"], {}, True),
    ],
)
def test_the_language_is_the_requested_one_else_that_of_the_environment(
    place: Path, arguments: list[str], environment: dict[str, str], chinese: bool
) -> None:
    done = run(place, "客户", *FILES, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    assert ("在“会员等级”中，客户自2026年1月2日 00:00（UTC+00:00）起为“金卡”。" in done.stdout) is chinese


def facts(place: Path, *arguments: str) -> dict[str, Any]:
    done = run(place, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_until_bounds_the_events_and_at_advances_time(place: Path) -> None:
    second = line("c1", "late", 10, "400.00")
    with (place / "orders.jsonl").open("a") as file:
        file.write(f"\n{second}\n")
    until = ["--until", "2026-01-05T00:00:00Z"]
    tiers = {
        "to the end": facts(place, "c1", *FILES),
        "until": facts(place, "c1", *FILES, *until),
        "at": facts(place, "c1", *FILES, "--at", "2026-01-05T00:00:00Z"),
        "until and later": facts(place, "c1", *FILES, *until, "--at", "2026-06-01T08:00:00+08:00"),
    }
    found = {name: (each["as_of"], each["schemes"][0]["tier"]) for name, each in tiers.items()}
    assert found == {
        "to the end": ("2026-01-20T00:00:00Z", "gold"),
        "until": ("2026-01-05T00:00:00Z", "silver"),
        "at": ("2026-01-05T00:00:00Z", "silver"),
        "until and later": ("2026-06-01T00:00:00Z", "regular"),
    }
    assert [each["to"] for each in tiers["until and later"]["passed"]] == ["regular"]


def test_the_policy_may_come_from_the_settings(place: Path) -> None:
    done = run(place, "c1", "--orders", "orders.jsonl", TIDEMARK_POLICY="policy.yaml")
    assert "gold" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", *FILES], "'nobody' does not occur"),
        (["c2", *FILES, "--until", "2026-01-05T00:00:00Z"], "'c2' does not occur"),
        (["c1", *FILES, "--lang", "fr"], "found 'fr', allowed are en, zh"),
        (["c1", *FILES, "--at", "2026-01-05"], "is not RFC 3339"),
        (["c1", "--until", "2026-01-05T00:00:00Z"], "--until needs files"),
        (["c1", "--orders", "absent.jsonl", "--policy", "policy.yaml"], "absent.jsonl"),
        (["c1", "--orders", "orders.jsonl", "--policy", "absent.yaml"], "absent.yaml"),
        (["c1", *FILES, "--at", "9500-01-01T00:00:00Z"], "1 to 8999"),
        ([], "CUSTOMER"),
    ],
)
def test_unusable_arguments_are_reported_in_one_line(place: Path, arguments: list[str], message: str) -> None:
    done = run(place, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_customer_without_decisions_is_known(place: Path) -> None:
    done = run(place, "c3", "--customers", "customers.jsonl", *FILES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Nothing has been decided about this customer yet."


def test_help_has_examples(place: Path) -> None:
    done = run(place, "--help")
    assert "tidemark explain c1 --lang zh --at 2026-12-31T00:00:00+08:00" in done.stdout


def test_one_customer_alone_is_decided_as_among_all(place: Path) -> None:
    policy, inputs = place / "policy.yaml", {Topic.ORDERS: place / "orders.jsonl"}
    everybody, files = replay(load_timeline(policy), inputs), {topic: [path] for topic, path in inputs.items()}
    for customer in everybody.customers:
        plan = plan_of(Asked(files, only=customer.customer_id), [load_timeline(policy)])
        alone = final_state(plan, policy, customer.customer_id)
        assert alone.until == everybody.until
        assert alone.customer is not None
        assert alone.customer.to_row() == customer.to_row()
    assert explain_files(policy, inputs, "c1").as_of == "2026-01-20T00:00:00Z"


# --- changelog ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def live(broker: EmbeddedBroker, place: Path) -> Settings:
    settings = load_settings(
        broker=broker.address, app_id=f"app-{place.name}", policy=str(place / "policy.yaml"), partitions="4"
    )
    asyncio.run(create_topics(settings))
    return settings


def row(customer_id: str, *amounts: int) -> bytes:
    customer, engine = Customer(customer_id), Engine(load_timeline(ROOT / "config" / "policies" / "retail.yaml"))
    for number, amount in enumerate(amounts):
        engine.ingest(customer, order(T0 + number * DAY_MS, str(number), amount), Decisions())
    return customer.to_row()


def home(customer_id: str) -> int:
    return int((murmur2(customer_id.encode()) & 0x7FFFFFFF) % 4)


def write(settings: Settings, *rows: tuple[str | bytes, bytes | None, int]) -> None:
    """Append rows to the changelog, one by one."""

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.broker)
        await producer.start()
        try:
            for key, value, partition in rows:
                raw = key.encode() if isinstance(key, str) else key
                await producer.send_and_wait(changelog_name(settings), value, key=raw, partition=partition)
        finally:
            await producer.stop()

    asyncio.run(send())


def explain_cli(place: Path, settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "TIDEMARK_BROKER": settings.broker,
        "TIDEMARK_APP_ID": settings.app_id,
        "TIDEMARK_POLICY": str(settings.policy),
    }
    return run(place, *arguments, **environment)


@pytest.mark.broker
def test_the_latest_row_of_the_changelog_is_explained(place: Path, live: Settings) -> None:
    here = home("c1")
    write(live, ("c1", row("c1", 1), here), ("c2", row("c2", 2), here), ("c1", row("c1", 50_000), here))
    write(live, (PROGRESS_KEY + b"0", b"\x93", here))
    done = explain_cli(place, live, "c1", "--at", "2026-01-20T00:00:00Z", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    account = json.loads(done.stdout)
    assert (account["as_of"], account["decided_to"]) == ("2026-01-20T00:00:00Z", "2026-01-01T00:00:00Z")
    assert account["schemes"][0]["metrics"]["monetary"] == "500.00"
    assert account["schemes"][0]["tier"] == "silver"


@pytest.mark.broker
def test_by_default_the_report_is_as_of_now(place: Path, live: Settings) -> None:
    write(live, ("c1", row("c1", 50_000), home("c1")))
    account = asyncio.run(explain_live(live, load_timeline(live.policy), "c1"))
    assert parse_instant(account.as_of) > parse_instant("2026-01-02T00:00:00Z") or account.as_of == account.decided_to


@pytest.mark.broker
def test_a_customer_in_another_partition_is_found(live: Settings) -> None:
    there = (home("c1") + 1) % 4
    write(live, ("c1", row("c1", 1), there), ("c1", row("c1", 2), there))
    assert asyncio.run(latest_row(live, "c1")) == row("c1", 2)


@pytest.mark.broker
def test_of_several_partitions_the_latest_row_wins(live: Settings) -> None:
    one, other = ((home("c1") + step) % 4 for step in (1, 2))
    write(live, ("c1", row("c1", 1), other))
    write(live, ("c1", row("c1", 2), one))
    assert asyncio.run(latest_row(live, "c1")) == row("c1", 2)


@pytest.mark.broker
def test_an_erased_customer_is_unknown(place: Path, live: Settings) -> None:
    write(live, ("c1", row("c1", 1), home("c1")), ("c1", None, home("c1")))
    for customer in ("c1", "nobody", ""):
        done = explain_cli(place, live, customer)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"tidemark: customer {customer!r} is not in {changelog_name(live)} at {live.broker}"
        ]


@pytest.mark.broker
def test_an_instant_before_the_last_decision_is_refused(place: Path, live: Settings) -> None:
    write(live, ("c1", row("c1", 1, 2), home("c1")))
    done = explain_cli(place, live, "c1", "--at", "2026-01-01T12:00:00Z")
    assert done.returncode == 2
    (error,) = done.stderr.splitlines()
    assert "2026-01-01T12:00:00Z is too early: the customer is decided about as of 2026-01-02T00:00:00Z" in error


@pytest.mark.broker
def test_a_damaged_row_is_passed_over_as_a_worker_does(live: Settings) -> None:
    here = home("c1")
    write(live, ("c1", row("c1", 1), here), *[("c1", value, here) for value in (b"\x01", bytes(30), row("c1", 2)[:40])])
    assert asyncio.run(latest_row(live, "c1")) == row("c1", 1)


@pytest.mark.broker
def test_a_row_of_a_newer_release_is_a_failure(place: Path, live: Settings) -> None:
    write(live, ("c1", b"\x02" + row("c1", 1)[1:], home("c1")))
    done = explain_cli(place, live, "c1")
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert error == "tidemark: state row of version 2 cannot be read by this release (it reads 1)"


@pytest.mark.broker
def test_a_missing_changelog_is_a_failure(place: Path, live: Settings) -> None:
    done = run(place, "c1", TIDEMARK_BROKER=live.broker, TIDEMARK_APP_ID="other", TIDEMARK_POLICY="policy.yaml")
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert "other-state-changelog does not exist" in error


def test_no_broker_is_a_failure(place: Path) -> None:
    done = run(place, "c1", TIDEMARK_BROKER="127.0.0.1:1", TIDEMARK_POLICY="policy.yaml")
    assert done.returncode == 1
    (error,) = done.stderr.splitlines()
    assert "no broker answers at 127.0.0.1:1" in error
