"""What a benchmark reports: a table for people, and every single figure for programs. Nothing here measures."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Report(NamedTuple):
    """The outcome of one benchmark: rows under `columns`, and `figures`, all that was measured, ready for JSON."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: dict[str, Any]


class Scale(NamedTuple):
    """How much is measured. The targets are stated for the defaults; smaller scales are for trying a benchmark out."""

    orders: int = 1_000_000
    customers: int = 100_000
    runs: int = 3


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of runs made in turn: each pair saw the same machine."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
