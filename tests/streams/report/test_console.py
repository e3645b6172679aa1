"""Texts from outside are printed as they are: no markup, no escape sequences."""

import io

import pytest
from rich.table import Table

from streams.report.console import LiteralConsole, literal, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller 客户 ♥", "Müller 客户 ♥"),
        ("[bold red]c1[/]", "[bold red]c1[/]"),
        ("[/nothing opened]", "[/nothing opened]"),
        (":pile_of_poo:", ":pile_of_poo:"),
        ("\x1b[2Jc1\x07", "\\x1b[2Jc1\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("c\r1\t", "c\\r1\\t"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_terminal_shows_a_text_and_does_not_obey_it(text: str, shown: str) -> None:
    assert literal(text) == shown
    console = LiteralConsole(file=io.StringIO(), width=80)
    drawn = Table()
    drawn.add_column(text)
    drawn.add_row(text)
    console.print(drawn)
    console.print(text)
    table(text, {text: 1}, (text, "n"), console)
    assert console.file.getvalue().count(shown) == 6  # type: ignore[attr-defined]  # a StringIO


def test_line_ends_stay() -> None:
    assert literal("one\ntwo\x00") == "one\ntwo\\x00"
