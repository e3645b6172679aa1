"""Policies that rank customers against each other, simulated: everybody is decided in the order of time."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import parse_instant
from models.outputs import TierCutoffs
from streams.replay.command import Asked
from streams.report.charts import spread
from streams.simulate import tables
from streams.simulate.page import page
from streams.simulate.population import Kept, Population
from streams.simulate.run import simulate
from streams.tools.cutoffs import cutoffs_of_file
from tests.support.histories import made_up, written
from tests.support.in_steps import replay, write_result
from tests.support.live import lines

UNTIL = parse_instant("2026-12-01T00:00:00Z")
POLICY = """
version: "{version}"
currency: USD
timezone: Europe/Berlin
window: 30d
schemes:
  loyalty:
    kind: percentile
    tiers: [{{name: regular}}, {{name: silver, top: 30%}}, {{name: gold, top: {gold}}}]
    demotion: {{grace: 5d}}
"""
PLAIN = """
version: plain
currency: USD
window: 30d
schemes:
  loyalty:
    tiers: [{name: regular}, {name: silver, when: {monetary: ">= 100"}}, {name: gold, when: {monetary: ">= 300"}}]
"""


class Simulated:
    """A history, two policies, what a simulation counted, and what replays in steps decide."""

    def __init__(self, directory: Path, a: str, b: str, processes: int) -> None:
        self.paths = written(directory, made_up(seed=8, customers=40))
        self.policies = [directory / "a.yaml", directory / "b.yaml"]
        for path, text in zip(self.policies, (a, b), strict=True):
            path.write_text(text)
        self.asked = Asked({topic: [path] for topic, path in self.paths.items()}, until=UNTIL)
        self.timelines = [load_timeline(policy) for policy in self.policies]
        self.kept = Kept(names=frozenset(["c001"]))
        self.population, self.until = self.run(processes)
        self.outs = [directory / "out-a", directory / "out-b"]
        for timeline, out in zip(self.timelines, self.outs, strict=True):
            write_result(replay(timeline, self.paths, UNTIL), timeline, out)

    def run(self, processes: int) -> tuple[Population, int | None]:
        asked = self.policies, self.timelines, lambda *_told: None
        return simulate(self.asked, *asked, kept=self.kept, processes=processes)

    def tiers(self, place: int) -> list[str]:
        return [state["tiers"]["loyalty"]["tier"] for state in lines(self.outs[place] / "customers.jsonl")]


RANKED = POLICY.format(version="one", gold="5%")
WIDER = POLICY.format(version="two", gold="15%")


@pytest.fixture(scope="module", params=[(RANKED, WIDER, 2), (PLAIN, RANKED, 1)], ids=["both", "one"])
def known(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return Simulated(tmp_path_factory.mktemp("coupled"), *request.param)


def test_both_sides_are_what_replays_in_steps_decide(known: Simulated) -> None:
    assert known.until == UNTIL
    for place, side in enumerate(known.population.sides):
        changes = lines(known.outs[place] / "tier-changes.jsonl")
        assert side.held["loyalty"] == Counter(known.tiers(place))
        assert side.moves["loyalty"] == Counter(change["direction"] for change in changes)
        named = [(move.from_tier, move.to_tier, move.at) for move in known.population.named if move.side == place]
        mine = [change for change in changes if change["customer_id"] == "c001"]
        assert named == [(each["from"], each["to"], parse_instant(each["effective_at"])) for each in mine]


def test_the_cut_offs_are_those_of_the_replays(known: Simulated) -> None:
    for out, side in zip(known.outs, known.population.sides, strict=True):
        file = out / "tier-cutoffs.jsonl"
        assert side.cutoffs == (cutoffs_of_file(file) if file.exists() else [])
    assert known.population.sides[1].cutoffs


def test_flows_and_fairness_compare_customer_by_customer(known: Simulated) -> None:
    flows = Counter(zip(known.tiers(0), known.tiers(1), strict=True))
    found = known.population.flows["loyalty"]
    assert Counter({(old, new): count for old, to in found.items() for new, count in to.items()}) == flows
    for values in known.population.fair.values():
        assert sum(counts["loyalty"]["customers"] for counts in values.values()) == known.population.customers == 40


def test_tables_and_page_show_the_cut_offs_over_time(known: Simulated) -> None:
    console = Console(record=True, width=200, highlight=False)
    tables.print_tables(known.population, known.timelines, {}, console)
    text = console.export_text()
    shown = page(known.population, known.timelines, {}, known.until)
    for name, side in zip("AB", known.population.sides, strict=True):
        assert (f"{name}: cut-offs, loyalty" in text) == (f"{name}: cut-offs (monetary)" in shown) == bool(side.cutoffs)
        for last in side.cutoffs[-1:]:
            for cutoff in last.cutoffs:
                assert f"{cutoff.cut} ({cutoff.share:.2%}, held {cutoff.held:.2%})" in text
                cells = (cutoff.tier, cutoff.cut, f"{cutoff.top:.2%}", f"{cutoff.share:.2%}", f"{cutoff.held:.2%}")
                assert "".join(f"<td>{cell}</td>" for cell in cells) in shown


def test_the_page_does_not_depend_on_the_processes(known: Simulated) -> None:
    pages = {page(known.run(count)[0], known.timelines, {}, known.until) for count in (1, 2)}
    assert pages == {page(known.population, known.timelines, {}, known.until)}


def test_the_history_is_decoded_once(known: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.wire import Wire

    decoded = Counter[str]()
    decode_batch = Wire.decode_batch

    def counting(self: Wire, topic: Topic, values: list[bytes], *rest: Any) -> Any:
        decoded[topic.label] += len(values)
        return decode_batch(self, topic, values, *rest)

    monkeypatch.setattr(Wire, "decode_batch", counting)
    known.run(1)
    assert decoded == {topic.label: len(path.read_text().splitlines()) for topic, path in known.paths.items()}


def test_many_cut_offs_are_shown_evenly_spread_with_the_last() -> None:
    assert spread(range(10), 3) == range(1, 10, 4)
    assert spread([1, 2], 3) == [1, 2]
    assert spread(list[TierCutoffs](), 3) == []
