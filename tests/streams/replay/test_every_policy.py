"""Whatever couples customers, the pipeline decides what the processor decides in steps: the same bytes."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.replay import coupled
from streams.replay import plan as planning
from streams.replay import sorted_runs as runs
from streams.replay.command import Asked, plan_of, replay_history
from streams.replay.plan import Plan
from streams.simulate.population import Kept
from streams.simulate.run import simulate
from tests.support.histories import OUTPUTS, Events, campaigns, contents, made_up, written
from tests.support.in_steps import replay, write_result

UNTIL = parse_instant("2027-02-01T00:00:00Z")
PARTITIONS = 4
LAUNCHES = """
version: "1"
currency: USD
window: 90d
schemes:
  loyalty:
    tiers: [{name: regular}, {name: silver, when: {monetary: ">= 100"}}, {name: gold, when: {monetary: ">= 300"}}]
care:
  - {name: news, kind: news, trigger: campaign, subjects: [launch], consent: not_needed}
"""


class Case(NamedTuple):
    policy: Path
    paths: dict[Topic, Path]
    expected: dict[str, bytes]
    coupled: bool

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self.expected)

    def plan(self, paths: dict[Topic, Path] | None = None) -> Plan:
        files = {topic: [path] for topic, path in (paths or self.paths).items()}
        return plan_of(Asked(files, until=UNTIL, partitions=PARTITIONS), [load_timeline(self.policy)])


def history(seed: int = 11) -> Events:
    return {**made_up(seed, customers=30), Topic.CAMPAIGNS: campaigns()}


@pytest.fixture(scope="module", params=["independent", "abc", "care", "retail"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp(request.param)
    policy = Path(request.param)
    if request.param == "independent":  # campaigns alone do not make customers depend on each other
        policy = directory / "launches.yaml"
        policy.write_text(LAUNCHES)
    paths = written(directory / "in", history())
    timeline = load_timeline(policy)
    write_result(replay(timeline, paths, UNTIL, partitions=PARTITIONS), timeline, directory / "out")
    names = [path.name for path in (directory / "out").iterdir()]
    assert ("tier-cutoffs.jsonl" in names) is (request.param == "abc")
    return Case(policy, paths, contents(directory / "out", names), request.param in ("abc", "care"))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the work small: many parts, shards, frames, runs and steps. The pieces of other processes stay large."""
    monkeypatch.setattr(planning, "PART_BYTES", 20_000)
    monkeypatch.setattr(planning, "SHARD_BYTES", 40_000)
    monkeypatch.setattr(runs, "_FRAME_BYTES", 2_000)
    monkeypatch.setattr(runs, "BUCKET_BYTES", 20_000)
    monkeypatch.setattr("streams.replay.collect.RUN_ENTRIES", 40)
    monkeypatch.setattr(coupled, "FRAME_EVENTS", 7)
    monkeypatch.setattr(coupled, "SLICE_EVENTS", 100)
    monkeypatch.setattr(coupled, "SLICE_PER_CUSTOMER", 10)


def replayed(case: Case, out: Path, paths: dict[Topic, Path] | None = None, processes: int = 1) -> dict[str, bytes]:
    replay_history(case.plan(paths), case.policy, out, lambda *_: None, processes=processes)
    return contents(out, case.outputs)


def test_the_pipeline_decides_what_the_processor_decides_in_steps(case: Case, tmp_path: Path) -> None:
    assert case.plan().request.coupled is case.coupled
    assert replayed(case, tmp_path / "out") == case.expected
    if case.policy.name != "abc":
        assert case.expected["care-actions.jsonl"].count(b"\n") > 10


@pytest.mark.parametrize("processes", [1, 2])
def test_it_does_not_depend_on_the_cuts_or_the_processes(
    case: Case, tmp_path: Path, small_pieces: None, processes: int
) -> None:
    plan = case.plan()
    assert (len(plan.parts) > 8, plan.shards > 2) == (True, True)
    assert replayed(case, tmp_path / "out", processes=processes) == case.expected


def test_it_does_not_depend_on_the_order_of_lines_or_files(case: Case, tmp_path: Path) -> None:
    draw = random.Random(3)
    events = {topic: list(known) for topic, known in history().items()}
    for known in events.values():
        draw.shuffle(known)
    halves: dict[Topic, list[Path]] = {}
    for topic, known in events.items():
        middle = len(known) // 2
        first = written(tmp_path / "b", {topic: known[:middle]})[topic]
        second = written(tmp_path / "a", {topic: known[middle:]})[topic]
        halves[topic] = [first, second]
    for name, files in {"one": halves, "two": {topic: paths[::-1] for topic, paths in halves.items()}}.items():
        plan = plan_of(Asked(files, until=UNTIL, partitions=PARTITIONS), [load_timeline(case.policy)])
        replay_history(plan, case.policy, tmp_path / name, lambda *_: None)
    one, two = contents(tmp_path / "one", case.outputs), contents(tmp_path / "two", case.outputs)
    assert one == two
    lines = [name for name in case.outputs if name != "dead-letters.jsonl"]  # which say in which line they were
    assert {name: one[name] for name in lines} == {name: case.expected[name] for name in lines}


def test_ties_of_one_instant_do_not_depend_on_the_order_of_lines(case: Case, tmp_path: Path) -> None:
    draw, found = random.Random(5), []
    instants = [f"2026-03-0{day}T00:00:00Z" for day in range(1, 8)]
    events = made_up(seed=2, customers=6, orders=25)
    for topic in (Topic.ORDERS, Topic.INTERACTIONS):
        for event in events[topic]:
            if "occurred_at" in event:
                event["occurred_at"] = draw.choice(instants)
    profile = events[Topic.CUSTOMERS][0]
    events[Topic.CUSTOMERS] += [{**profile, "attributes": {"region": region}} for region in ("North", "South")]
    events[Topic.ORDERS].append({**events[Topic.ORDERS][0], "amount": "1.00"})  # two orders of one id and one instant
    for name in ("a", "b", "c"):
        for known in events.values():
            draw.shuffle(known)
        paths = written(tmp_path / f"{name}-in", events)
        out = replayed(case, tmp_path / name, paths)
        found.append({file: out[file] for file in case.outputs if file != "dead-letters.jsonl"})
    assert found[0] == found[1] == found[2]
    assert set(OUTPUTS) <= set(case.outputs)


def test_a_simulation_counts_what_the_replay_decides(case: Case) -> None:
    timeline = load_timeline(case.policy)
    asked = Asked({topic: [path] for topic, path in case.paths.items()}, until=UNTIL, partitions=PARTITIONS)
    population, until = simulate(asked, [case.policy] * 2, [timeline] * 2, lambda *_: None, kept=Kept())
    actions = [json.loads(line) for line in case.expected["care-actions.jsonl"].splitlines()]
    changes = [json.loads(line) for line in case.expected["tier-changes.jsonl"].splitlines()]
    assert until == UNTIL
    for side in population.sides:
        assert side.actions == Counter(action["rule"] for action in actions)
        moves = Counter((change["scheme"], change["direction"]) for change in changes)
        assert {(s, d): n for s, directions in side.moves.items() for d, n in directions.items()} == moves
