import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.policy_files import load_timeline
from models.events import Topic
from models.instants import parse_instant
from streams.history.formats import FileError
from streams.replay import plan as planning
from streams.replay import sorted_runs as runs
from streams.replay.command import Asked, InterruptedRun, plan_of, replay_history
from streams.replay.plan import Plan
from streams.replay.workspace import NAME, working_in
from tests.support.histories import contents, error_line, made_up, options, tidemark, written
from tests.support.in_steps import replay, write_result
from tests.support.process import ROOT

POLICY = Path("demo")
UNTIL = parse_instant("2027-02-01T00:00:00Z")
#: Seconds from one look at a run in another process to the next, which leave it the processor.
POLL_S = 0.005


def quiet(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[Topic, Path]:
    return written(tmp_path_factory.mktemp("history"), made_up())


@pytest.fixture(scope="module")
def expected(paths: dict[Topic, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the worker's processor decides, all customers together, step by step."""
    out = tmp_path_factory.mktemp("expected")
    timeline = load_timeline(POLICY)
    write_result(replay(timeline, paths, UNTIL), timeline, out)
    found = contents(out)
    assert all(found.values())
    assert found["tier-changes.jsonl"].count(b"\n") > 150
    assert found["dead-letters.jsonl"].count(b"\n") == 2
    return found


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut the work so small that a short history has many pieces."""
    monkeypatch.setattr(planning, "PART_BYTES", 20_000)
    monkeypatch.setattr(planning, "SHARD_BYTES", 40_000)
    monkeypatch.setattr(runs, "_FRAME_BYTES", 2_000)
    monkeypatch.setattr(runs, "BUCKET_BYTES", 20_000)


def planned(paths: dict[Topic, Path]) -> Plan:
    asked = Asked({topic: [path] for topic, path in paths.items()}, until=UNTIL)
    return plan_of(asked, [load_timeline(POLICY)])


# --- the same bytes, however it is done ---------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_outputs_do_not_depend_on_the_processes(
    paths: dict[Topic, Path], expected: dict[str, bytes], tmp_path: Path, small_pieces: None, processes: int
) -> None:
    plan = planned(paths)
    assert (len(plan.parts) > 8, plan.shards > 4) == (True, True)
    summary = replay_history(plan, POLICY, tmp_path / "out", quiet, processes=processes)
    assert contents(tmp_path / "out") == expected
    assert summary["customers"] == 40


def test_the_outputs_do_not_depend_on_the_cuts(
    paths: dict[Topic, Path], expected: dict[str, bytes], tmp_path: Path
) -> None:
    plan = planned(paths)
    assert (len(plan.parts), plan.shards) == (3, 1)
    replay_history(plan, POLICY, tmp_path / "out", quiet)
    assert contents(tmp_path / "out") == expected


def test_several_files_of_one_topic_are_one_history(
    paths: dict[Topic, Path], expected: dict[str, bytes], tmp_path: Path
) -> None:
    lines = paths[Topic.ORDERS].read_bytes().splitlines(keepends=True)
    for name, part in (("1.jsonl", lines[:400]), ("2.jsonl", lines[400:])):
        (tmp_path / name).write_bytes(b"".join(part))
    rest = {topic: path for topic, path in paths.items() if topic is not Topic.ORDERS}
    done = tidemark(
        tmp_path,
        *("replay", "--orders", "1.jsonl", "--orders", "2.jsonl", *options(rest)),
        *("--policy", "demo", "--until", "2027-02-01T00:00:00Z", "--out", "out"),
    )
    assert done.returncode == 0, done.stderr
    found = contents(tmp_path / "out")
    for name in ("tier-changes.jsonl", "care-actions.jsonl", "customers.jsonl", "summary.json"):
        assert found[name] == expected[name]


def test_from_and_to_bound_what_is_read(paths: dict[Topic, Path], tmp_path: Path) -> None:
    since, to = parse_instant("2026-03-01T00:00:00Z"), parse_instant("2026-05-01T00:00:00Z")
    orders = {Topic.ORDERS: [paths[Topic.ORDERS]]}
    timeline = load_timeline(POLICY)
    all_of = replay_history(plan_of(Asked(orders), [timeline]), POLICY, tmp_path / "all", quiet)
    some = replay_history(plan_of(Asked(orders, since=since, to=to), [timeline]), POLICY, tmp_path / "some", quiet)
    assert 0 < some["events"]["orders"] < all_of["events"]["orders"]
    assert some["events"]["orders"] + some["after_until"] + some["before_from"] == all_of["events"]["orders"]
    assert since < parse_instant(some["until"]) <= to


# --- interrupted, and resumed --------------------------------------------------------------------------------

#: The command, with the work cut small.
SMALL = """
from streams.replay import plan, topic_input
plan.PART_BYTES, plan.SHARD_BYTES, topic_input.PART_OFFSETS = 6_000, 10_000, 100
if __name__ == "__main__":
    from streams.cli.main import main
    main()
"""


def started(
    directory: Path, *arguments: str, stderr: int | None = None, **environment: str
) -> "subprocess.Popen[bytes]":
    (directory / "small.py").write_text(SMALL)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([sys.executable, "small.py", *arguments], cwd=directory, env=env, stderr=stderr)


def pieces(out: Path) -> dict[str, int]:
    """The pieces of work that are done, by name, with the file that holds each."""
    try:
        work = [*(out / NAME).glob("*.done"), *(out / NAME).glob("*.sorted")]
        return {path.name: path.stat().st_ino for path in work}
    except FileNotFoundError:
        return {}  # it is done, and clears up


def family(pid: int) -> Iterator[int]:
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        if f"\nPPid:\t{pid}\n" in text:
            yield int(status.parent.name)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    ("policy", "after"), [("demo", 2), ("demo", 12), ("demo", 30), ("abc", 5), ("abc", 30), ("care", 30)]
)
def test_killed_and_resumed_it_ends_in_the_same_bytes(
    paths: dict[Topic, Path], tmp_path: Path, policy: str, after: int
) -> None:
    timeline = load_timeline(Path(policy))
    write_result(replay(timeline, paths, UNTIL, partitions=4), timeline, tmp_path / "expected")
    names = [path.name for path in (tmp_path / "expected").iterdir()]
    arguments = ["replay", *options(paths), "--policy", policy, "--until", "2027-02-01T00:00:00Z", "--out", "out"]
    arguments += ["--partitions", "4"]
    out = tmp_path / "out"
    process = started(tmp_path, *arguments, "--processes", "2")
    deadline = time.monotonic() + 60
    while len(pieces(out)) < after:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    children = list(family(process.pid))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    while any(map(is_running, children)):
        assert time.monotonic() < deadline, "a process outlived its parent"
        time.sleep(POLL_S)
    done = pieces(out)
    assert len(done) >= after
    assert {path.name for path in out.iterdir()} == {NAME}

    resumed = started(tmp_path, *arguments, "--resume", "--processes", "1")
    while resumed.poll() is None:
        now = pieces(out)
        assert all(now.get(name, inode) == inode for name, inode in done.items()), "what was done was done again"
        time.sleep(POLL_S)
    assert resumed.wait(60) == 0
    assert contents(out, names) == contents(tmp_path / "expected", names)


def interrupted(paths: dict[Topic, Path], directory: Path) -> Path:
    """Leave a run behind that was interrupted after its plan."""
    out = directory / "out"
    with contextlib.suppress(KeyboardInterrupt), working_in(out) as work:
        work.begin(planned(paths), [POLICY])
        raise KeyboardInterrupt
    return out


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(customers=3))
    out = interrupted(paths, tmp_path)
    with paths[Topic.ORDERS].open("a") as file:
        file.write("\n")
    arguments = [*options(paths), "--until", "2027-02-01T00:00:00Z", "--out", str(out), "--resume"]
    line = error_line(tidemark(tmp_path, "replay", *arguments, "--policy", "demo"))
    assert line == f"{paths[Topic.ORDERS]} has changed since the interrupted run; run again without --resume"
    assert {path.name for path in out.iterdir()} == {NAME}


def test_another_policy_or_instant_is_refused(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(customers=3))
    out = interrupted(paths, tmp_path)
    common = [*options(paths), "--out", str(out), "--resume"]
    line = error_line(tidemark(tmp_path, "replay", *common, "--policy", "retail", "--until", "2027-02-01T00:00:00Z"))
    assert line.startswith("the policies are not those of the interrupted run")
    line = error_line(tidemark(tmp_path, "replay", *common, "--policy", "demo"))
    assert "--until are not those of the interrupted run" in line


def test_to_resume_where_nothing_was_interrupted_is_to_begin(tmp_path: Path, paths: dict[Topic, Path]) -> None:
    summary = replay_history(planned(paths), POLICY, tmp_path / "out", quiet, resume=True)
    assert summary["customers"] == 40


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(customers=3))
    with working_in(tmp_path / "out"):
        line = error_line(tidemark(tmp_path, "replay", *options(paths), "--policy", "demo", "--out", "out"))
    assert line == "out is being written by another run"


@pytest.mark.parametrize(
    ("good", "bad", "options_", "status", "line"),
    [
        (20, 1, (), 0, ""),
        (19, 2, (), 1, "2 of 21 records (9.5%) could not be read, allowed are 5.0%: correct the input"),
        (19, 2, ("--max-bad", "10"), 0, ""),
        (19, 1, ("--max-bad", "0"), 1, "1 of 20 records (5.0%) could not be read, allowed are 0.0%"),
        (0, 3, ("--max-bad", "100"), 2, "none of the 3 records could be read: see the mistakes above"),
    ],
)
def test_input_that_is_mostly_bad_is_a_failure(
    tmp_path: Path, good: int, bad: int, options_: tuple[str, ...], status: int, line: str
) -> None:
    order = (
        '{"type":"order.placed","order_id":"o%d","customer_id":"c","occurred_at":"2026-03-01T00:00:00Z","amount":"1"}\n'
    )
    text = "".join(order % number for number in range(good)) + '{"[bold]": "\x7f"}\n' * bad
    (tmp_path / "orders.jsonl").write_text(text)
    done = tidemark(tmp_path, "replay", "--orders", "orders.jsonl", "--policy", "demo", "--out", "out", *options_)
    assert done.returncode == status, done.stderr
    assert line in done.stderr
    assert f"the first missing_field: orders.jsonl, line {good + 1}: Object missing required field" in done.stdout
    assert len((tmp_path / "out" / "dead-letters.jsonl").read_text().splitlines()) == bad


def test_a_profile_that_is_taken_without_a_field_is_no_bad_input(tmp_path: Path) -> None:
    profile = '{"type":"customer.updated","customer_id":"c","updated_at":"2026-03-01T00:00:00Z","birthday":"soon"}\n'
    (tmp_path / "customers.jsonl").write_text(profile)
    done = tidemark(tmp_path, "replay", "--customers", "customers.jsonl", "--policy", "demo", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "the first field_ignored: customers.jsonl, line 1: birthday" in done.stdout


FUTURE = [
    '{"type":"order.placed","order_id":"o1","customer_id":"c1","occurred_at":"2026-03-01T00:00:00Z","amount":"900"}\n',
    '{"type":"order.placed","order_id":"o2","customer_id":"c1","occurred_at":"2999-01-01T00:00:00Z","amount":"1"}\n',
    '{"type":"order.placed","order_id":"o3","customer_id":"c2","occurred_at":"2998-01-01T00:00:00Z","amount":"1"}\n',
]
NOT_USED = "2 events are after now and not used; the first: orders.jsonl, line 2: 2999-01-01T00:00:00Z. --until uses"


@pytest.mark.parametrize("policy", ["demo", "abc"])
def test_events_after_now_are_not_used_but_named(tmp_path: Path, policy: str) -> None:
    (tmp_path / "orders.jsonl").write_text("".join(FUTURE))
    asked = ("--orders", "orders.jsonl", "--policy", policy)
    done = tidemark(tmp_path, "replay", *asked, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert NOT_USED in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["until"], summary["after_now"], summary["customers"]) == ("2026-03-01T00:00:00Z", 2, 1)
    assert "down" not in summary["tier_changes"]["by_direction"]

    done = tidemark(tmp_path, "simulate", *asked, "--policy", policy)
    assert NOT_USED in done.stderr
    assert "1 customers" in done.stdout
    done = tidemark(tmp_path, "explain", "c1", *asked)
    assert NOT_USED in done.stderr
    assert "2026" in done.stdout
    assert "2999" not in done.stdout


def test_events_after_now_are_used_if_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "orders.jsonl").write_text("".join(FUTURE))
    asked = ("--orders", "orders.jsonl", "--policy", "demo", "--until", "2999-06-01T00:00:00Z")
    done = tidemark(tmp_path, "replay", *asked, "--out", "out")
    assert "after now" not in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["until"], summary["after_now"], summary["customers"]) == ("2999-06-01T00:00:00Z", 0, 2)


def test_refunds_of_orders_that_never_came_are_shown(tmp_path: Path) -> None:
    refund = '{"type":"order.refunded","refund_id":"r%d","order_id":"o%d","customer_id":"c1",'
    refund += '"occurred_at":"2026-03-02T00:00:00Z","amount":"1"}\n'
    (tmp_path / "orders.jsonl").write_text(FUTURE[0] + refund % (1, 1) + refund % (2, 7))
    asked = ("--orders", "orders.jsonl", "--policy", "demo")
    for command in (("replay", *asked, "--out", "out"), ("simulate", *asked, "--policy", "demo")):
        done = tidemark(tmp_path, *command)
        assert ["│", "orphan", "│", "1", "│"] in [line.split() for line in done.stdout.splitlines()], done.stdout
    done = tidemark(tmp_path, "explain", "c1", *asked, "--lang", "en")
    assert "1 order was refunded or cancelled but never came itself" in done.stdout


@pytest.mark.parametrize(("good", "bad", "status"), [(20, 1, 0), (19, 2, 1), (0, 3, 2)])
def test_a_simulation_says_what_was_bad_and_fails_if_it_is_much(
    tmp_path: Path, good: int, bad: int, status: int
) -> None:
    (tmp_path / "orders.jsonl").write_text(FUTURE[0] * good + "nonsense\n" * bad)
    done = tidemark(tmp_path, "simulate", "--orders", "orders.jsonl", "--policy", "demo", "--policy", "retail")
    assert done.returncode == status, done.stderr
    assert f"the first not_json: orders.jsonl, line {good + 1}: " in done.stdout
    assert ("could " in done.stderr) is bool(status)


def test_repeated_and_contradicting_events_are_printed(tmp_path: Path) -> None:
    order = (
        '{"type":"order.placed","order_id":"o","customer_id":"c","occurred_at":"2026-03-01T00:00:00Z","amount":"%d"}\n'
    )
    (tmp_path / "orders.jsonl").write_text(order % 1 + order % 1 + order % 2)
    done = tidemark(tmp_path, "replay", "--orders", "orders.jsonl", "--policy", "demo", "--out", "out")
    shown = [line.split() for line in done.stdout.splitlines()]
    assert ["│", "duplicate", "│", "1", "│"] in shown
    assert ["│", "conflict", "│", "1", "│"] in shown


def test_an_output_is_never_an_input(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(customers=3))
    before = {path: path.read_bytes() for path in paths.values()}
    for out in (".", str(tmp_path)):
        line = error_line(tidemark(tmp_path, "replay", *options(paths), "--policy", "demo", "--out", out))
        assert "customers.jsonl is an input of this run and would be written over" in line
    assert {path: path.read_bytes() for path in paths.values()} == before
    assert not (tmp_path / NAME).exists()


def test_a_file_that_no_replay_wrote_is_not_replaced(tmp_path: Path) -> None:
    paths, out = written(tmp_path, made_up(customers=3)), tmp_path / "out"
    out.mkdir()
    arguments = ("replay", *options(paths), "--policy", "demo", "--out", "out")
    for name, text in (("dead-letters.jsonl", "mine"), ("summary.json", '{"mine": 1}'), ("summary.json", "[")):
        (out / name).write_text(text)
        line = error_line(tidemark(tmp_path, *arguments))
        assert line == f"out/{name} was not written by a replay; choose another --out, or move the file away"
        assert (out / name).read_text() == text
        (out / name).unlink()
    for _ in range(2):  # a replay's own outputs are replaced
        assert tidemark(tmp_path, *arguments).returncode == 0


def test_a_file_that_changes_while_it_is_read_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    paths = written(tmp_path, made_up(customers=3))
    plan = planned(paths)
    paths[Topic.CUSTOMERS].write_bytes(paths[Topic.CUSTOMERS].read_bytes().replace(b"East", b"West"))
    with pytest.raises(FileError, match=r"customers\.jsonl changed while it was read; nothing was written"):
        replay_history(plan, POLICY, tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_full_is_told_and_the_work_is_kept(
    paths: dict[Topic, Path], expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_told: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("streams.replay.job.merge", full)
        with pytest.raises(InterruptedRun, match="No space left on device; --resume goes on when it can"):
            replay_history(planned(paths), POLICY, tmp_path / "out", quiet)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {NAME}
    replay_history(planned(paths), POLICY, tmp_path / "out", quiet, resume=True)
    assert contents(tmp_path / "out") == expected


def test_interrupted_by_hand_it_says_how_to_go_on(
    paths: dict[Topic, Path], expected: dict[str, bytes], tmp_path: Path
) -> None:
    arguments = ["replay", *options(paths), "--policy", "demo", "--until", "2027-02-01T00:00:00Z", "--out", "out"]
    # In the background a shell has it ignored, and children would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = started(tmp_path, *arguments, "--processes", "2", stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not pieces(tmp_path / "out"):
        assert time.monotonic() < deadline
        time.sleep(POLL_S)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "tidemark: interrupted; the same command with --resume goes on" in errors.decode()
    assert b"Traceback" not in errors
    resumed = started(tmp_path, *arguments, "--resume")
    assert resumed.wait(60) == 0
    assert contents(tmp_path / "out") == expected


# --- what is taken in part, and what is not used -------------------------------------------------------------


def test_a_withdrawal_of_consent_with_odd_fields_is_taken_and_noted(tmp_path: Path) -> None:
    birthday = {"customer_id": "ann", "updated_at": "2025-06-01T00:00:00Z", "birthday": "1990-03-08"}
    withdrawn = {"customer_id": "ann", "updated_at": "2026-01-01T00:00:00Z", "timezone": "Mars/Base", "locale": ""}
    profiles = [birthday | {"consent": {"marketing": True}}, withdrawn | {"consent": {"marketing": False}}]
    paths = written(tmp_path, {Topic.CUSTOMERS: profiles})
    asked = Asked({topic: [path] for topic, path in paths.items()}, until=UNTIL)
    summary = replay_history(plan_of(asked, [load_timeline(POLICY)]), POLICY, tmp_path / "out", quiet)
    assert (summary["events"], summary["dead_letters"]["by_reason"]) == ({"customers": 2}, {"field_ignored": 1})
    assert b'"line":2,"reason":"field_ignored"' in (tmp_path / "out" / "dead-letters.jsonl").read_bytes()
    assert b"birthday" not in (tmp_path / "out" / "care-actions.jsonl").read_bytes()
