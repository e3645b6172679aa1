"""`tidemark cutoffs`, on the file of a replay."""

import json
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner

from models.errors import UnusableInput
from models.outputs import TierCutoffs
from streams.cli.main import cli
from streams.report import console
from streams.tools.cutoffs import cutoffs_of_file, latest
from tests.streams.partition.test_cutoff_coordinator import orders, replayed, timeline


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TierCutoffs]]:
    """The cut-offs of some days, and the file that has them."""
    directory = tmp_path_factory.mktemp("cutoffs")
    cutoffs = replayed(orders(Random(5), 120), timeline(), directory).cutoffs
    file = directory / "tier-cutoffs.jsonl"
    file.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in cutoffs))
    return file, cutoffs


def test_the_file_of_a_replay_is_read_as_it_was_told(told: tuple[Path, list[TierCutoffs]]) -> None:
    file, cutoffs = told
    assert cutoffs_of_file(file) == cutoffs
    assert {each.scheme for each in cutoffs} == {"top", "often"}
    assert latest([*cutoffs, *cutoffs], "top", 3) == [each for each in cutoffs if each.scheme == "top"][-3:]
    assert latest(cutoffs, "none", 3) == []


def test_tables_show_each_day_s_cut_and_the_share_that_reaches_it(
    told: tuple[Path, list[TierCutoffs]], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cutoffs = told
    # The console takes its width from the environment once, when it is first imported: by whichever test that was.
    monkeypatch.setattr(console.OUT, "_width", 200)
    done = CliRunner().invoke(cli, ["cutoffs", "--file", str(file), "--last", "2"])
    assert done.exit_code == 0, done.output
    shown = [each for scheme in ("top", "often") for each in [c for c in cutoffs if c.scheme == scheme][-2:]]
    for each in shown:
        assert each.effective_at in done.output
        for cutoff in each.cutoffs:
            assert f"{cutoff.cut} ({cutoff.share:.2%}, held {cutoff.held:.2%})" in done.output
    assert "top 30%" in done.output


def test_json_shows_the_events(told: tuple[Path, list[TierCutoffs]]) -> None:
    file, cutoffs = told
    done = CliRunner().invoke(cli, ["cutoffs", "--file", str(file), "--scheme", "often", "--last", "1", "--json"])
    assert json.loads(done.output) == msgspec.to_builtins([c for c in cutoffs if c.scheme == "often"][-1])


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    assert "no cut-offs yet" in CliRunner().invoke(cli, ["cutoffs", "--file", str(tmp_path / "none.jsonl")]).output


@pytest.mark.parametrize("arguments", [["--at", "2026-01-01T00:00:00Z"], ["--compute", "--file", "FILE"]])
def test_what_does_not_go_together_is_refused(told: tuple[Path, list[TierCutoffs]], arguments: list[str]) -> None:
    file, _ = told
    done = CliRunner().invoke(cli, ["cutoffs", *(str(file) if each == "FILE" else each for each in arguments)])
    assert done.exit_code == 2
    assert "goes with" in done.output


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"event_id": "x"}\n')
    with pytest.raises(UnusableInput, match="allowed are tier-cutoffs events"):
        cutoffs_of_file(tmp_path / "other.jsonl")
