"""Which part of the tests runs, in which order, and what the end says of those that were left out.

`make test` runs the quick part, `make test-all` the rest: the tests marked `kafka`, those marked `slow`, and the laws
once more, with many more examples. Without `--part`, as with `-m`, everything that was asked for runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: What the rest is run with where the environment does not say otherwise.
DEPTH = {"TIDEMARK_LAW_EXAMPLES": "2000", "TIDEMARK_CHAOS_EVENTS": "500000"}
LAWS = Path(__file__).parent / "laws"
LEFT_OUT = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tidemark")
    group.addoption("--part", choices=("quick", "rest", "all"), default="all", help="quick: neither Kafka nor slow")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}
    if config.option.part == "rest":
        for name, value in DEPTH.items():
            os.environ.setdefault(name, value)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors, for many tests wait; and no crowd, for each worker starts brokers."""
    return min(os.cpu_count() or 1, 6) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if LAWS in item.path.parents:
            item.add_marker(pytest.mark.laws)
    # The longest begin, and those that wait for others; the short ones fill what is left.
    items.sort(key=lambda item: (not _has(item, "laws"), not _has(item, "broker", "kafka")))
    chosen = [item for item in items if _belongs(item, config.option.part)]
    if config.option.markexpr or not chosen:  # whoever names tests, or nothing but such tests, wants them
        chosen = list(items)
    left_out = set(items) - set(chosen)
    config.stash[LEFT_OUT] = {
        "kafka": sum(_has(item, "kafka") for item in left_out),
        "slow": sum(_has(item, "slow") and not _has(item, "kafka") for item in left_out),
        "laws": sum(_has(item, "laws") for item in chosen),
    }
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = chosen


def _has(item: pytest.Item, *names: str) -> bool:
    return any(item.get_closest_marker(name) for name in names)


def _belongs(item: pytest.Item, part: str) -> bool:
    rest = _has(item, "kafka", "slow")
    return {"quick": not rest, "rest": rest or _has(item, "laws"), "all": True}[part]


# --- what the summary says at the end -----------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Note what a worker of pytest-xdist left out: all of them left out the same."""
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = left_out


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> Iterator[None]:
    yield
    if line := summary(config.option.part, config.stash[LEFT_OUT]):
        terminalreporter.write_line(line)


def summary(part: str, left_out: dict[str, int]) -> str:
    """Say what the quick part left out, and how to run it; nothing of another part."""
    examples, depth = os.environ.get("TIDEMARK_LAW_EXAMPLES", "50"), DEPTH["TIDEMARK_LAW_EXAMPLES"]
    parts = [
        f"{left_out[name]:,} {what}"
        for name, what in (("kafka", "tests on Apache Kafka"), ("slow", "slow tests"))
        if left_out.get(name)
    ]
    if left_out.get("laws") and int(examples) < int(depth):
        parts.append(f"the laws beyond {int(examples):,} of {int(depth):,} examples")
    if part != "quick" or not parts:
        return ""
    return f"left out: {', '.join(parts)}; run them with `make test-all`"
