import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.policy_files import POLICIES, load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.replay.command import Asked, plan_of, replay_history
from streams.simulate import facts
from streams.simulate.page import page
from streams.simulate.population import Kept, Population
from streams.simulate.run import simulate
from tests.support.histories import error_line, made_up, options, tidemark, written
from tests.support.live import lines

UNTIL = "2026-12-01T00:00:00Z"
#: Another care rule, for the end of a policy.
CONGRATULATION = """
  - {name: congratulation, kind: tier_up, trigger: tier_up, consent: not_needed}
"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Topic, Path]]:
    """A directory with a history, the demo's policy `a.yaml` and `b.yaml`, where gold is had for less.

    Both congratulate on tiers that are reached.
    """
    directory = tmp_path_factory.mktemp("history")
    text = (POLICIES / "demo.yaml").read_text().rstrip("\n") + CONGRATULATION
    (directory / "a.yaml").write_text(text)
    (directory / "b.yaml").write_text(text.replace(">= 600", ">= 420").replace("demo-1", "demo-2"))
    return directory, written(directory, made_up(seed=8, customers=60))


@pytest.fixture(scope="module")
def simulated(history: tuple[Path, dict[Topic, Path]]) -> tuple[Population, int | None]:
    directory, paths = history
    policies = [directory / "a.yaml", directory / "b.yaml"]
    asked = Asked({topic: [path] for topic, path in paths.items()}, until=parse_instant(UNTIL))
    timelines = [load_timeline(policy) for policy in policies]
    kept = Kept(names=frozenset(["c001"]))
    return simulate(asked, policies, timelines, lambda *_told: None, kept=kept)


@pytest.fixture(scope="module")
def replayed(history: tuple[Path, dict[Topic, Path]]) -> list[Path]:
    """The replays of the same history under each policy."""
    directory, paths = history
    outs = []
    for name in "ab":
        policy = directory / f"{name}.yaml"
        asked = Asked({topic: [path] for topic, path in paths.items()}, until=parse_instant(UNTIL))
        outs.append(directory / f"out-{name}")
        replay_history(plan_of(asked, [load_timeline(policy)]), policy, outs[-1], lambda *_told: None)
    return outs


def tiers(out: Path) -> dict[str, str]:
    found = {state["customer_id"]: state["tiers"] for state in lines(out / "customers.jsonl")}
    return {name: held["loyalty"]["tier"] for name, held in found.items()}


def test_both_sides_are_what_replays_decide(simulated: tuple[Population, int | None], replayed: list[Path]) -> None:
    population, until = simulated
    assert until == parse_instant(UNTIL)
    for side, out in zip(population.sides, replayed, strict=True):
        changes, actions = lines(out / "tier-changes.jsonl"), lines(out / "care-actions.jsonl")
        assert side.held["loyalty"] == Counter(tiers(out).values())
        assert side.moves["loyalty"] == Counter(change["direction"] for change in changes)
        assert side.actions == Counter(action["rule"] for action in actions)
        assert side.actions["congratulation"] == side.moves["loyalty"]["up"] > 0
        for change in changes:
            if change["customer_id"] == "c001":
                assert (change["from"], change["to"], parse_instant(change["effective_at"])) in {
                    (move.from_tier, move.to_tier, move.at) for move in population.named
                }
    assert {move.customer_id for move in population.named} == {"c001"}


def test_flows_are_from_tiers_under_a_to_tiers_under_b(
    simulated: tuple[Population, int | None], replayed: list[Path]
) -> None:
    a, b = (tiers(out) for out in replayed)
    expected = Counter((tier, b[name]) for name, tier in a.items())
    flows = simulated[0].flows["loyalty"]
    assert {(old, new): count for old, to in flows.items() for new, count in to.items()} == expected
    assert sum(count for (old, new), count in expected.items() if old != new) > 3


def test_the_population_of_each_day_follows_from_the_changes(
    simulated: tuple[Population, int | None], replayed: list[Path]
) -> None:
    population, until = simulated
    daily = facts.daily(population.sides[1].days["loyalty"], ["regular", "silver", "gold", "vip"], until)
    held: dict[str, str] = {}
    by_day: dict[int, Counter[str]] = {}
    for change in lines(replayed[1] / "tier-changes.jsonl"):
        held[change["customer_id"]] = change["to"]
        by_day[parse_instant(change["effective_at"]) // 86_400_000] = Counter(held.values())
    assert len(by_day) > 50
    for day, counts in by_day.items():
        assert {tier: series[day - daily.first] for tier, series in daily.tiers.items()} == {
            tier: counts[tier] for tier in daily.tiers
        }
    assert {tier: series[-1] for tier, series in daily.tiers.items()} == Counter(held.values()) | Counter(
        dict.fromkeys(daily.tiers, 0)
    )


def test_fairness_adds_up_by_attribute(
    simulated: tuple[Population, int | None], replayed: list[Path], history: tuple[Path, dict[Topic, Path]]
) -> None:
    a, b = (tiers(out) for out in replayed)
    ranks = {tier: rank for rank, tier in enumerate(("regular", "silver", "gold", "vip"))}
    profiles = {each["customer_id"]: each for each in lines(history[1][Topic.CUSTOMERS])}
    tables = facts.fairness(simulated[0], "loyalty")
    assert set(tables) == {"region", "gender", "age"}
    for attribute in ("region", "gender"):
        for value, counts in tables[attribute]:
            names = [name for name, each in profiles.items() if each["attributes"][attribute] == value]
            assert counts["customers"] == len(names)
            assert counts.get("up", 0) == sum(ranks[b[name]] > ranks[a[name]] for name in names)
            assert counts.get("down", 0) == sum(ranks[b[name]] < ranks[a[name]] for name in names)
    assert dict(tables["age"])["35-44"]["customers"] == 60  # all born in 1990


def test_a_threshold_for_a_share_is_reached_by_that_share(
    simulated: tuple[Population, int | None], history: tuple[Path, dict[Topic, Path]]
) -> None:
    timelines = [load_timeline(history[0] / f"{name}.yaml") for name in "ab"]
    population = simulated[0]
    values = population.sides[1].metrics["loyalty"]
    needs = facts.needs(population, timelines, {"vip": 0.05, "gold": 0.2})
    chosen = [need for need in needs if need.tier in {"vip", "gold"}]
    assert {(need.tier, round(need.share, 2)) for need in chosen} == {("vip", 0.05), ("gold", 0.25)}
    for need in chosen:
        compare = float.__ge__ if need.op == ">=" else float.__le__
        reached = sum(compare(value, need.threshold) for value in values[need.metric])
        assert reached >= round(need.share * 60)
        if need.metric == "monetary":  # no two are equal
            assert reached == round(need.share * 60)


def test_each_scheme_has_its_metrics_over_its_own_window(tmp_path: Path) -> None:
    scheme = """
  {name}:
    window: {window}
    tiers:
      - {{name: low}}
      - {{name: high, when: {{monetary: ">= 100"}}}}
    demotion: {{grace: 1d, step: qualified}}"""
    schemes = scheme.format(name="month", window="30d") + scheme.format(name="year", window="365d")
    text = f'version: "1"\ncurrency: EUR\ntimezone: UTC\nschemes:{schemes}\n'
    policies = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for policy in policies:
        policy.write_text(text)
    order = '{{"type":"order.placed","order_id":"{}","customer_id":"c","occurred_at":"{}","amount":"{}"}}\n'
    orders = tmp_path / "orders.jsonl"
    orders.write_text(order.format(1, "2026-01-01T00:00:00Z", 70) + order.format(2, "2026-05-01T00:00:00Z", 50))
    asked = Asked({Topic.ORDERS: [orders]})
    population, _ = simulate(asked, policies, [load_timeline(each) for each in policies], lambda *_: None, kept=Kept())
    for side in population.sides:
        assert side.metrics["month"]["monetary"] == [50.0]
        assert side.metrics["year"]["monetary"] == [120.0]
        assert side.held == {"month": {"low": 1}, "year": {"high": 1}}


# --- the command and the page -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(history: tuple[Path, dict[Topic, Path]]) -> tuple[Path, str]:
    directory, paths = history
    arguments = ("--policy", "a.yaml", "--policy", "b.yaml", "--until", UNTIL, "--customer", "c001", "--html", "r.html")
    done = tidemark(directory, "simulate", *options(paths), *arguments)
    assert done.returncode == 0, done.stderr
    return directory / "r.html", done.stdout


def test_the_command_prints_what_the_figures_say(
    report: tuple[Path, str], simulated: tuple[Population, int | None]
) -> None:
    text = re.sub(r"[│┃]", "|", report[1])
    assert "60 customers; A is demo-1, B is demo-2" in text
    flows = simulated[0].flows["loyalty"]["silver"]
    cells = " *| *".join(str(flows.get(tier, 0)) for tier in ("regular", "silver", "gold", "vip"))
    assert re.search(rf"\| silver +\| *{cells.replace('|', '[|]')} *\|", text)
    assert "loyalty: who moves, by region" in text
    assert "thresholds for a share" in text


def test_the_page_is_the_same_every_time_and_asks_for_nothing(
    report: tuple[Path, str], simulated: tuple[Population, int | None], history: tuple[Path, dict[Topic, Path]]
) -> None:
    timelines = [load_timeline(history[0] / f"{name}.yaml") for name in "ab"]
    text = page(simulated[0], timelines, {}, simulated[1])
    assert report[0].read_text() == text
    assert set(re.findall(r"https?://[^\"'\s<>)]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<script|<link|<img|@import|url\(", text)


def test_names_in_the_page_are_escaped(
    simulated: tuple[Population, int | None], history: tuple[Path, dict[Topic, Path]]
) -> None:
    timelines = [load_timeline(history[0] / f"{name}.yaml") for name in "ab"]
    population = simulated[0]
    hostile = Population(population.sides, 1, population.flows, {"<b>": {"<script>": population.fair["age"]["35-44"]}})
    text = page(hostile, timelines, {}, None)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (Debian: apt-get install chromium)")
def test_the_page_opens_in_a_browser_without_a_network(report: tuple[Path, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", report[0].as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    dom = done.stdout
    assert "<title>tidemark: demo-1 against demo-2</title>" in dom
    assert dom.count("<svg") == 3
    assert dom.count("<table") >= 8
    assert "CONSOLE" not in done.stderr, "the browser refused something, or missed it"


# --- what cannot be used ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--policy", "a.yaml"], "--policy: found 1, allowed are two: A and B"),
        (
            ["--policy", "a.yaml", "--policy", "euro.yaml"],
            "the policies count in different currencies, or at different rates; amounts are read once",
        ),
        (
            ["--policy", "a.yaml", "--policy", "b.yaml", "--customer", "nobody"],
            "customers that do not occur in the history: nobody",
        ),
        (
            ["--policy", "a.yaml", "--policy", "b.yaml", "--share", "gold=many"],
            "--share: found 'gold=many'; allowed is TIER=PERCENT, as in gold=5",
        ),
    ],
)
def test_what_cannot_be_simulated_is_told(
    history: tuple[Path, dict[Topic, Path]], arguments: list[str], line: str
) -> None:
    directory, paths = history
    (directory / "euro.yaml").write_text((directory / "a.yaml").read_text().replace("currency: USD", "currency: EUR"))
    done: Any = tidemark(directory, "simulate", *options(paths), *arguments, "--html", "none.html")
    assert error_line(done) == line
    assert not (directory / "none.html").exists()


def test_the_history_is_decoded_once(history: tuple[Path, dict[Topic, Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    from models.wire import Wire

    decoded = Counter[str]()
    decode_batch = Wire.decode_batch

    def counting(self: Wire, topic: Topic, values: list[bytes], *rest: Any) -> Any:
        decoded[topic.label] += len(values)
        return decode_batch(self, topic, values, *rest)

    monkeypatch.setattr(Wire, "decode_batch", counting)
    directory, paths = history
    policies = [directory / "a.yaml", directory / "b.yaml"]
    asked = Asked({topic: [path] for topic, path in paths.items()})
    simulate(asked, policies, [load_timeline(policy) for policy in policies], lambda *_told: None, kept=Kept())
    assert decoded == {topic.label: len(path.read_text().splitlines()) for topic, path in paths.items()}
