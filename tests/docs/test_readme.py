"""The README is short, shows what it speaks of, and says the same in Chinese."""

import re
from pathlib import Path

import click
import pytest

from streams.cli.main import cli
from tests.docs.pages import README, README_ZH, ROOT, blocks_of, codes, prose, table_rows

#: A stranger reads no more.
MOST_WORDS = 1_500
#: A picture that is larger is slow to load.
MOST_BYTES = 200_000


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= MOST_WORDS


def test_pictures_are_small_and_described():
    for page in (README, README_ZH):
        for description, target in re.findall(r"!\[(.*?)\]\((.*?)\)", prose(page)):
            assert description
            assert (ROOT / target).stat().st_size <= MOST_BYTES


@pytest.mark.parametrize(("page", "heading"), [(README, "## Commands"), (README_ZH, "## 命令")])
def test_every_command_is_listed(page: Path, heading: str):
    listed = [code.split() for row in table_rows(page, heading) for code in codes(row[0])]
    assert {" ".join(words[1:3] if words[1] in GROUPS else words[1:2]) for words in listed} == set(commands(cli))


GROUPS = {name for name, command in cli.commands.items() if isinstance(command, click.Group)}


def commands(group: click.Group) -> list[str]:
    """Return the commands of a group, those of its own groups with both words."""
    return [
        f"{name} {rest}".strip()
        for name, command in group.commands.items()
        for rest in (commands(command) if isinstance(command, click.Group) else [""])
    ]


def test_the_chinese_readme_has_the_same_blocks():
    english, chinese = blocks_of(README), blocks_of(README_ZH)
    assert [(block.language, block.mark) for block in chinese] == [(block.language, block.mark) for block in english]
    for ours, theirs in zip(english, chinese, strict=True):
        if ours.mark != "output":
            assert code_of(theirs.text) == code_of(ours.text)


def code_of(text: str) -> str:
    """Return a block without its comments and without the language that is asked for."""
    return re.sub(r" +#.*", "", text).replace("--lang zh", "--lang en")


def test_the_chinese_readme_names_and_links_the_same():
    assert set(codes(prose(README_ZH))) == set(codes(prose(README)))
    assert links(README_ZH) - {README.name} == links(README) - {README_ZH.name}
    assert prose(README_ZH).count("\n## ") == prose(README).count("\n## ")


def links(page: Path) -> set[str]:
    return set(re.findall(r"\]\(([^)\s]+)\)", prose(page)))
