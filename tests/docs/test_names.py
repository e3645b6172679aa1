"""Links lead somewhere; commands, variables and metrics that are named exist."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from config.policy_files import POLICIES, load_timeline
from config.settings import PREFIX, Settings
from models.customer.state import Customer
from models.engine.decide import Engine
from models.events import OrderPlaced
from models.identity import id64
from models.instants import HOUR_MS
from models.outputs import Decisions
from streams.metrics.catalogue import METRICS as METRIC_LIST
from tests.bench.brokers import VARIABLE as BENCH_BROKER
from tests.docs.pages import FENCE, OPERATIONS, PAGES, README, README_ZH, ROOT, codes, prose, table_rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"^make ([\w-]+)|`make ([\w-]+)", page.read_text(), re.MULTILINE)
    assert {first or second for first, second in named} <= targets


@pytest.mark.parametrize(("page", "heading"), [(README, "## Development"), (README_ZH, "## 开发")])
def test_readme_names_every_make_target(page: Path, heading: str):
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)) - {"help", "demo"}
    rows = table_rows(page, heading)
    assert {codes(row[0])[0].removeprefix("make ") for row in rows} == targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_exist(page: Path):
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {BENCH_BROKER}
    assert set(re.findall(r"TIDEMARK_[A-Z_]*[A-Z]", page.read_text())) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metric_names_exist(page: Path):
    named = set(re.findall(r"\btidemark_[a-z_]+", page.read_text()))
    assert named <= {metric.name for metric in METRIC_LIST}


def test_rows_are_as_large_as_said():
    # The table is part of a list, hence indented.
    rows = re.findall(r"^  \| ([\d,]+) \| ([\d,]+) \|$", OPERATIONS.read_text(), flags=re.MULTILINE)
    said = {int(orders.replace(",", "")): int(size.replace(",", "")) for orders, size in rows}
    assert said == {orders: len(row_of(orders)) for orders in (1, 5, 10, 100, 10_000)}


def row_of(orders: int) -> bytes:
    """Return the row of a customer with so many orders, an hour apart, by the preset `retail`."""
    customer = Customer("c1")
    placed = [OrderPlaced(1_700_000_000_000 + hour * HOUR_MS, id64(f"o{hour}"), 1999) for hour in range(orders)]
    for order in placed[:-1]:
        customer.ledger.apply(order)
    Engine(load_timeline(POLICIES / "retail.yaml")).ingest(customer, placed[-1], Decisions())
    return customer.to_row()
