"""`tidemark effects`, from the actions of a replay and the orders and interactions that followed."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from models.care.governance import is_held_out
from models.instants import DAY_MS, format_instant, parse_instant
from streams.cli.main import cli
from streams.tools.load import LoadError, campaign_lines
from tests.models.care.build import care_policy, rule

START = parse_instant("2026-01-01T00:00:00Z")
RULE = {**rule("welcome"), "holdout": "50%", "attribution": "30d"}
POLICY = {
    "version": "1",
    "currency": "USD",
    "schemes": {"loyalty": {"tiers": [{"name": "low"}, {"name": "high", "when": {"monetary": ">= 100"}}]}},
    "care": [RULE],
}


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def bought(customer: str, number: int, day: float, amount: str = "5") -> dict[str, Any]:
    at = format_instant(START + round(day * DAY_MS))
    event = {"type": "order.placed", "order_id": f"{customer}-{number}", "customer_id": customer}
    return {**event, "occurred_at": at, "amount": amount}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A hundred customers get a welcome at their first order. All who got it order again, and no held-out one does."""
    (compiled,) = care_policy(RULE).care
    names = [f"c{number}" for number in range(100)]
    orders = [bought(name, 1, 0) for name in names]
    treated = [name for name in names if not is_held_out(name, compiled.action)]
    orders += [bought(name, 2, 5) for name in treated]
    opened = {"type": "interaction", "kind": "care.opened", "occurred_at": format_instant(START + DAY_MS)}
    write(tmp_path / "orders.jsonl", orders)
    (tmp_path / "policy.yaml").write_text(json.dumps(POLICY))
    done = invoke("replay", "--orders", "orders.jsonl", "--policy", "policy.yaml", "--out", "result", place=tmp_path)
    assert done.exit_code == 0, done.output
    actions = [json.loads(line) for line in (tmp_path / "result" / "care-actions.jsonl").read_text().splitlines()]
    answers = [
        {
            **opened,
            "interaction_id": f"i{number}",
            "customer_id": action["customer_id"],
            "action_id": action["action_id"],
        }
        for number, action in enumerate(actions)
        if not action["holdout"]
    ]
    write(tmp_path / "interactions.jsonl", [*answers, *answers])
    return tmp_path


def invoke(*arguments: str, place: Path) -> Result:
    known = {"orders.jsonl", "interactions.jsonl", "policy.yaml", "result", "bad.jsonl"}
    whole = [str(place / each) if each.split("/")[0] in known else each for each in arguments]
    return CliRunner().invoke(cli, whole)


FILES = ("--orders", "orders.jsonl", "--interactions", "interactions.jsonl", "--policy", "policy.yaml")


def test_treated_customers_are_compared_with_the_held_out(history: Path) -> None:
    until = "2026-03-01T00:00:00Z"
    found = invoke("effects", "--result", "result", *FILES, "--until", until, "--json", place=history)
    assert found.exit_code == 0, found.output
    whole, low = json.loads(found.stdout)
    assert (whole["rule"], whole["tier"], low["tier"]) == ("welcome", None, "low")
    assert whole["sent"] + whole["held_out"] == 100
    assert whole["sent"] == whole["opened"] == whole["converted"] == whole["repurchase"]["treated"]
    assert (whole["repurchase"]["held"], whole["repurchase"]["verdict"], whole["delivered"]) == (0, "helps", 0)
    assert whole["repurchase"]["uplift"] == 1.0
    assert whole["open"] == 0


def test_a_history_may_be_in_several_files_of_several_formats(history: Path) -> None:
    command = (
        "effects",
        "--result",
        "result",
        "--policy",
        "policy.yaml",
        "--interactions",
        "interactions.jsonl",
        "--json",
    )
    whole = invoke(*command, "--orders", "orders.jsonl", place=history)
    orders = [json.loads(line) for line in (history / "orders.jsonl").read_text().splitlines()]
    table = ["basket,customer_id,occurred_at,amount"]
    table += [
        f"{each['order_id']},{each['customer_id']},{each['occurred_at']},{each['amount']}" for each in orders[:70]
    ]
    (history / "first.csv").write_text("\n".join(table) + "\n")
    rest = "".join(json.dumps(each) + "\n" for each in orders[70:])
    (history / "rest.jsonl.gz").write_bytes(gzip.compress(rest.encode()))
    names = [part for name in ("first.csv", "rest.jsonl.gz") for part in ("--orders", str(history / name))]
    parts = invoke(*command, *names, "--columns", "orders:order_id=basket", place=history)
    assert parts.exit_code == 0, parts.output
    assert json.loads(parts.stdout) == json.loads(whole.stdout)


def test_open_windows_are_not_compared(history: Path) -> None:
    found = invoke("effects", "--result", "result", *FILES, "--json", place=history)
    whole, _ = json.loads(found.stdout)
    assert (whole["open"], whole["repurchase"]["treated_of"], whole["repurchase"]["verdict"]) == (100, 0, "no_holdout")


@pytest.mark.parametrize(
    ("language", "texts"),
    [
        ("en", ["Outcomes of the actions", "held out", "it helps", "low"]),
        ("zh", ["已发送的关怀动作的结果", "对照组", "有效", "低"]),
    ],
)
def test_tables_are_printed_in_both_languages(
    history: Path, language: str, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    from config.messages import catalogue
    from config.policy_files import load_timeline
    from models.events import Topic
    from streams.tools.care_uplift import read_uplift
    from streams.tools.care_uplift_tables import print_uplift

    inputs = {Topic.ORDERS: history / "orders.jsonl"}
    timeline, actions = load_timeline(history / "policy.yaml"), history / "result" / "care-actions.jsonl"
    found = read_uplift(timeline, actions, inputs, START + 90 * DAY_MS)
    print_uplift(found, catalogue(language), Console(width=200))
    printed = capsys.readouterr().out
    assert all(text in printed for text in texts), printed
    print_uplift([], catalogue(language), Console(width=200))
    assert catalogue(language).text("effects.nothing") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--orders", "orders.jsonl", "--policy", "policy.yaml"], "give either --result or --actions"),
        (["--result", "result", "--policy", "policy.yaml"], "no history given"),
        (["--actions", "orders.jsonl", *FILES], "line 1: Object missing required field"),
        (["--actions", "bad.jsonl", *FILES], "bad.jsonl, line 1"),
        (["--actions", "orders.jsonl", *FILES, "--lang", "fr"], "allowed are en, zh"),
    ],
)
def test_unusable_arguments_are_reported(history: Path, arguments: list[str], message: str) -> None:
    (history / "bad.jsonl").write_text("oops\n")
    done = invoke("effects", *arguments, place=history)
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"


def test_campaigns_are_loaded_by_their_own_id(tmp_path: Path) -> None:
    good = write(tmp_path / "campaigns.jsonl", [{"campaign_id": "spring", "subject": "x"}])
    assert [line.key for line in campaign_lines(good)] == [b"spring"]
    with pytest.raises(LoadError, match=r"line 1: .*campaign_id"):
        list(campaign_lines(write(tmp_path / "other.jsonl", [{"customer_id": "c1"}])))
