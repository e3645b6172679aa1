"""The pages of the documentation: their blocks, tables and prose, for the tests that hold them true."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from models.outputs import CareAction, CustomerTiers, TierChange, TierCutoffs

ROOT = Path(__file__).parents[2]
README, README_ZH = ROOT / "README.md", ROOT / "README.zh-CN.md"
PAGES = [README, README_ZH, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRACT, GUIDE, OPERATIONS, CARE = (
    ROOT / "docs" / f"{name}.md" for name in ("contract", "policy-guide", "operations", "care")
)
OUTPUTS = {"tier-changes": TierChange, "care-actions": CareAction, "customer-tiers": CustomerTiers}
CUTOFFS = {"tier-cutoffs": TierCutoffs}
FENCE = re.compile(r"^```(\w*) ?([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the mark after it, and where it is."""

    page: Path
    line: int
    language: str
    mark: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = FENCE.finditer(text)
    return [Block(page, text.count("\n", 0, each.start()) + 1, each[1], each[2], each[3]) for each in found]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def marked(language: str, *marks: str) -> Any:
    found = [block for block in BLOCKS if block.language == language and block.mark in marks]
    assert found, f"no {language} blocks marked {marks}"
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def following(block: Block) -> Block | None:
    """The next block of the page, where it says what this one gives."""
    page = [each for each in BLOCKS if each.page == block.page]
    after = dict(pairwise(page)).get(block)
    return after if after is not None and after.mark in ("output", "mistakes", "change") else None


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def table_rows(page: Path, heading: str) -> Iterator[list[str]]:
    """The rows of the first table under a heading, cells stripped."""
    _, found, rest = page.read_text().partition(f"{heading}\n")
    assert found, f"{page.name} has no {heading}"
    lines = iter(rest.splitlines())
    for line in lines:
        if line.startswith("|---"):
            break
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def span(cell: str) -> str:
    """The text of a cell that is one code span, in as many backticks as it needs."""
    found = re.fullmatch(r"(`+) ?(.*?) ?\1", cell)
    assert found, cell
    return found[2]


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
