"""Every block of the documentation says what it is, and what can be run runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from config.settings import PREFIX
from models.events import Topic
from streams.cli.main import cli
from tests.docs.pages import (
    BLOCKS,
    CUTOFFS,
    OUTPUTS,
    PAGES,
    ROOT,
    Block,
    blocks_of,
    codes,
    following,
    marked,
    prose,
)


def test_every_block_says_what_it_is():
    known = {
        "bash": {"", "run"},
        "mermaid": {""},
        "json": {"output", *CUTOFFS, "change", *OUTPUTS, *(topic.label for topic in Topic)},
        "python": {""},
        "text": {"", "output", "mistakes"},
        "yaml": {"", "policy", "broken"},
    }
    for block in BLOCKS:
        assert block.mark in known.get(block.language, ()), block.name
    for page in PAGES:
        fences = re.findall(r"^\s*```", page.read_text(), re.MULTILINE)
        assert len(fences) == 2 * len(blocks_of(page)), page.name


@marked("python", "")
def test_python_runs(block: Block, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = following(block)
    assert expected is None or done.stdout == expected.text


class Workshop:
    """One directory a page: its bash blocks build on one another, so each runs once, after those before it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._said: dict[Block, str] = {}

    def output(self, block: Block) -> str:
        """Run the blocks of a page up to this one, where they have not run yet; return what this one prints."""
        place = self._root / block.page.stem
        place.mkdir(exist_ok=True)
        for each in BLOCKS:
            if each.page == block.page and each.mark == "run" and each.line <= block.line and each not in self._said:
                self._said[each] = run_bash(each.text, place)
        return self._said[block]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("docs"))


@marked("bash", "run")
def test_bash_runs(block: Block, workshop: Workshop):
    out = workshop.output(block)
    expected = following(block)
    assert expected is not None, "a block that runs is followed by its output"
    if expected.language == "json":
        assert json.loads(out) == json.loads(expected.text)
    else:
        assert out == expected.text


def run_bash(text: str, place: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(place: Path) -> dict[str, str]:
    """The environment of a reader who has installed tidemark: `tidemark` and `python3` are on the path."""
    tools = place / "bin"
    tools.mkdir(exist_ok=True)
    for name, arguments in (("tidemark", "-m streams"), ("python3", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n')
        (tools / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return {**clean, "PATH": f"{tools}{os.pathsep}{clean['PATH']}", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "bash"], ids=lambda block: block.name)
def test_commands_exist(block: Block):
    for line in re.findall(r"^tidemark (.*)$", block.text, re.MULTILINE):
        assert_command(line.split("#")[0].split())


def test_commands_named_in_prose_exist():
    for page in PAGES:
        for code in codes(prose(page)):
            if code.startswith("tidemark "):
                assert_command(code.split()[1:])


def assert_command(words: list[str]) -> None:
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        assert words[0] in command.commands, f"tidemark {' '.join(words)}"
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in words:
        assert not word.startswith("--") or word in options, f"{command.name} {word}"
