"""Policies with budgets, simulated: everybody is served from the same budget, as in a replay in steps."""

from collections import Counter
from pathlib import Path

from rich.console import Console

from config.policy_files import load_timeline
from models.instants import parse_instant
from streams.replay.command import Asked
from streams.simulate import tables
from streams.simulate.page import page
from streams.simulate.population import Kept
from streams.simulate.run import simulate
from tests.support.histories import made_up, written
from tests.support.in_steps import replay, write_result
from tests.support.live import lines

UNTIL = parse_instant("2026-12-01T00:00:00Z")
POLICY = """
version: "{version}"
currency: USD
window: 30d
schemes:
  loyalty:
    tiers: [{{name: regular}}, {{name: silver, when: {{monetary: ">= 50"}}}}]
care:
  - {{name: bravo, kind: praise, trigger: tier_up, consent: not_needed, cost: 3}}
  - {{name: hello, kind: greeting, trigger: welcome, consent: not_needed, holdout: 50%}}
governance:
  budgets: [{{name: praises, at_most: {at_most}, period: year, kinds: [praise]}}]
"""


def test_what_is_spent_is_what_a_replay_in_steps_spends(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(seed=8, customers=40))
    asked = Asked({topic: [path] for topic, path in paths.items()}, until=UNTIL)
    policies = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for policy, at_most in zip(policies, (12, 10_000), strict=True):
        policy.write_text(POLICY.format(version=str(at_most), at_most=at_most))
    timelines = [load_timeline(policy) for policy in policies]
    population, until = simulate(asked, policies, timelines, lambda *_told: None, kept=Kept(), processes=1)
    spent = []
    for timeline, side, name in zip(timelines, population.sides, "ab", strict=True):
        write_result(replay(timeline, paths, UNTIL), timeline, tmp_path / name)
        actions = lines(tmp_path / name / "care-actions.jsonl")
        assert side.actions == Counter(action["rule"] for action in actions)
        assert side.spent == {"praises": 3 * side.actions["bravo"]}
        spent.append(side.spent["praises"])
    assert spent[0] == 12 < spent[1], "the smaller budget is used up, the larger one is not"
    assert population.sides[0].actions["hello"] == population.sides[1].actions["hello"] > 0
    console = Console(record=True, width=120, highlight=False)
    tables.print_tables(population, timelines, {}, console)
    text = console.export_text()
    assert "cost that care actions took of budgets" in text
    row = next(line for line in text.splitlines() if "praises" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][1:3] == ["12", str(spent[1])]
    assert f"<td>praises</td><td>12</td><td>{spent[1]}</td>" in page(population, timelines, {}, until)
