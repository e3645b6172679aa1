"""The report of a benchmark: a table for people, and every figure for programs."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple


class Report(NamedTuple):
    """The outcome of one benchmark: a table, and `figures`, every measurement, ready for JSON."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: dict[str, Any]


class Scale(NamedTuple):
    """The size of a benchmark. The targets hold for the defaults; use smaller scales to try a benchmark."""

    orders: int = 1_000_000
    customers: int = 100_000
    runs: int = 3


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of paired runs, which ran in turn under the same conditions."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
