"""The page of the architecture names the rooms and files that there are, and their order is that of the imports."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, codes, table_rows

PAGE = ROOT / "docs" / "architecture.md"
HEADS = {"streams": "| room of `streams/` | holds |", "models": "| room of `models/` | holds |"}


@pytest.mark.parametrize("package", HEADS)
def test_every_room_is_listed(package: str):
    assert set(rooms(package)) == {f"{package}/{path.parent.name}" for path in (ROOT / package).glob("*/__init__.py")}


@pytest.mark.parametrize("package", HEADS)
def test_a_room_imports_only_rooms_below_it(package: str):
    listed = rooms(package)
    for place, room in enumerate(listed):
        above = set(listed[:place])
        for file in (ROOT / room).rglob("*.py"):
            assert not above & imported(file), file.relative_to(ROOT)


def test_files_that_are_named_exist():
    named = re.findall(r"`((?:streams|models|config)/[\w/.]+)`", PAGE.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def rooms(package: str) -> list[str]:
    """Return the rooms of a package, as the page lists them: top to bottom."""
    return [codes(row[0])[0] for row in table_rows(PAGE, HEADS[package])]


def imported(file: Path) -> set[str]:
    """Return the rooms that a file imports from, wherever in it."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {"/".join(module.split(".")[:2]) for module in modules}
