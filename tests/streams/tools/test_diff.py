import json
from pathlib import Path
from typing import Any

import pytest

from models.events import CUSTOMER_TOPICS
from streams.tools.diff import OutputDiff, compare
from tests.support.histories import error_line, made_up, options, tidemark, written
from tests.support.live import lines


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the replay `one`."""
    directory = tmp_path_factory.mktemp("replayed")
    paths = written(directory, made_up(customers=8))
    done = tidemark(directory, "replay", *options(paths), "--policy", "demo", "--out", "one")
    assert done.returncode == 0, done.stderr
    return directory


def copied(replayed: Path, target: Path, **changed: list[dict[str, Any]]) -> Path:
    target.mkdir()
    for path in (replayed / "one").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    for name, records in changed.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (target / f"{name.replace('_', '-')}.jsonl").write_text(text)
    return target


def compared(one: Path, two: Path) -> dict[str, OutputDiff]:
    def no_settings() -> Any:
        raise AssertionError("no topic is compared")

    return {found.file: found for found in compare(str(one), str(two), no_settings)}


def test_equal_outputs_do_not_differ(replayed: Path, tmp_path: Path) -> None:
    two = copied(replayed, tmp_path / "two")
    found = compared(replayed / "one", two)
    assert set(found) == {"tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "dead-letters.jsonl"}
    assert all(each.is_clean for each in found.values())
    assert found["customers.jsonl"].same == 8
    done = tidemark(tmp_path, "diff", replayed / "one", two)
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_extra_and_different_records_are_reported_with_the_first_field(replayed: Path, tmp_path: Path) -> None:
    changes = lines(replayed / "one" / "tier-changes.jsonl")
    lost, moved, reworded = changes[3], changes[8], changes[12]
    odd = {**changes[-1], "customer_id": "somebody"}
    kept = [change for change in changes if change is not lost]
    kept[kept.index(moved)] = {**moved, "effective_at": "2025-01-01T00:00:00Z", "event_id": "another"}
    kept[kept.index(reworded)] = {**reworded, "why": []}
    two = copied(replayed, tmp_path / "two", tier_changes=[*kept, odd])
    found = compared(replayed / "one", two)["tier-changes.jsonl"]

    def identity(change: dict[str, Any]) -> tuple[Any, ...]:
        return change["customer_id"], change["scheme"], change["sequence"]

    assert found.missing == [identity(lost)]
    assert found.extra == [identity(odd)]
    assert {each.identity: each.field for each in found.different} == {
        identity(moved): "effective_at",
        identity(reworded): "why",
    }
    assert found.same == len(changes) - 3

    done = tidemark(tmp_path, "diff", replayed / "one", two)
    assert done.returncode == 1
    assert (
        f"different  {' '.join(map(str, identity(moved)))}: effective_at: {moved['effective_at']} | 2025" in done.stdout
    )
    assert f"missing    {lost['customer_id']}" in done.stdout
    assert "extra      somebody" in done.stdout
    assert "somebody" not in tidemark(tmp_path, "diff", replayed / "one", two, "--limit", "0").stdout


def test_two_policies_differ(replayed: Path, tmp_path: Path) -> None:
    paths = {topic: replayed / f"{topic.label}.jsonl" for topic in CUSTOMER_TOPICS}
    done = tidemark(tmp_path, "replay", *options(paths), "--policy", "retail", "--out", "two")
    assert done.returncode == 0, done.stderr
    found = compared(replayed / "one", tmp_path / "two")
    assert not found["tier-changes.jsonl"].is_clean
    assert found["dead-letters.jsonl"].is_clean


@pytest.mark.parametrize(
    ("second", "line"),
    [
        ("nowhere", "nowhere is not a directory; allowed are directories of replays, live and topic:NAME"),
        ("empty", "empty/tier-changes.jsonl cannot be read: No such file or directory"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(replayed: Path, tmp_path: Path, second: str, line: str) -> None:
    (tmp_path / "empty").mkdir()
    assert error_line(tidemark(tmp_path, "diff", replayed / "one", second)) == line
