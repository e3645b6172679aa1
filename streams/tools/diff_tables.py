"""Prints the comparison of two results as tables."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from streams.report.console import OUT
from streams.tools.diff import OutputDiff

_COUNTED = ("same", "missing", "extra", "different")


def _named(identity: Iterable[object]) -> str:
    return " ".join(str(part) for part in identity if part != "")


def comparison_tables(comparisons: Iterable[OutputDiff], limit: int, console: Console = OUT) -> None:
    """Print the counts of each output, then up to `limit` records of each kind of difference."""
    compared = list(comparisons)
    drawn = Table("output", *_COUNTED)
    for each in compared:
        counts = (each.same, len(each.missing), len(each.extra), len(each.different))
        drawn.add_row(each.file, *(f"{count:,}" for count in counts))
    console.print(drawn)
    for each in compared:
        found = [f"missing    {_named(key)}" for key in each.missing[:limit]]
        found += [f"extra      {_named(key)}" for key in each.extra[:limit]]
        found += [
            f"different  {_named(other.identity)}: {other.field}: {other.found[0]} | {other.found[1]}"
            for other in each.different[:limit]
        ]
        for line in found:
            console.print(f"{each.file}: {line}", markup=False, soft_wrap=True)
