"""Option types and groups of options that several commands share, and defaults that the machine decides."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
POLICY = click.Path(path_type=Path)


class Instant(click.ParamType):
    """An option whose value is an RFC 3339 time with an offset. The command receives it in ms since 1970."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the instant in ms. Fails with click.BadParameter if the text is not such a time."""
        from models.instants import parse_instant

        try:
            return value if isinstance(value, int) else parse_instant(value)
        except ValueError:
            self.fail(f"{value!r} is not RFC 3339 with an offset, as in 2026-12-31T00:00:00Z", param, ctx)


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which history a command reads."""
    for option in reversed(_HISTORY):
        command = option(command)
    return command


ORDERS = click.option("--orders", type=FILE, multiple=True, help="A file of order events. May be repeated.")
INTERACTIONS = click.option("--interactions", type=FILE, multiple=True, help="A file of interactions. May be repeated.")
COLUMNS = click.option("--columns", multiple=True, help="For CSV and Parquet: [TOPIC:]field=column,field='constant',…")
MAX_BAD = click.option(
    "--max-bad",
    type=click.FloatRange(0, 100),
    default=5.0,
    show_default=True,
    help="Fail if more than this percentage of the records cannot be read.",
)
NULL = click.option("--null", "nulls", multiple=True, help="In CSV and Parquet, cells with this word are empty.")
_HISTORY = (
    ORDERS,
    INTERACTIONS,
    click.option("--customers", type=FILE, multiple=True, help="A file of customer profiles. May be repeated."),
    click.option("--campaigns", type=FILE, multiple=True, help="A file of campaigns. May be repeated."),
    COLUMNS,
    NULL,
    click.option("--offsets", multiple=True, help="Read topics: TOPIC[:PARTITION]=START..STOP. May be repeated."),
    click.option("--from", "since", type=Instant(), help="Read only events at or after this instant."),
    click.option("--to", type=Instant(), help="Read only events up to and including this instant."),
    click.option(
        "--until",
        type=Instant(),
        help="As --to, and stream time advances to it (default: the last event, but not after now).",
    ),
    click.option("--processes", type=click.IntRange(1), help="Number of processes (default: number of cores)."),
)


def default_language() -> str:
    """Return `zh` if LANG starts with it, else `en`."""
    return "zh" if os.environ.get("LANG", "").startswith("zh") else "en"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
