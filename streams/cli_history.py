"""The commands over history: replay, diff, simulate, load. As in `streams.cli`, they parse and print."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


class Instant(click.ParamType):
    """An instant as RFC 3339 with an offset, taken as ms."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the instant."""
        from models.instants import parse_instant

        try:
            return value if isinstance(value, int) else parse_instant(value)
        except ValueError:
            self.fail(f"{value!r} is not RFC 3339 with an offset, as in 2026-12-31T00:00:00Z", param, ctx)


def history_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which history is read, and how."""
    for option in reversed(_HISTORY):
        command = option(command)
    return command


_HISTORY = (
    click.option("--orders", type=FILE, multiple=True, help="A file of order events; may be given several times."),
    click.option("--interactions", type=FILE, multiple=True, help="A file of interactions, likewise."),
    click.option("--customers", type=FILE, multiple=True, help="A file of customer profiles, likewise."),
    click.option("--columns", multiple=True, help="CSV, Parquet: [TOPIC:]field=column,field='constant'…"),
    click.option("--from", "since", type=Instant(), help="Only events at or after this instant."),
    click.option("--to", type=Instant(), help="Only events up to and including this instant."),
    click.option("--until", type=Instant(), help="The same, and time is advanced to it (default: the last event)."),
    click.option("--processes", type=click.IntRange(1), help="How many (default: the number of cores)."),
)


@click.command()
@history_options
@click.option("--policy", required=True, type=click.Path(path_type=Path), help="A policy file, or a preset's name.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Where to write.")
@click.option("--resume", is_flag=True, help="Go on with the interrupted run that --out holds, if there is one.")
@click.option("--in-steps", is_flag=True, help="All customers together, through the worker's processor; slower.")
def replay(policy: Path, out: Path, resume: bool, in_steps: bool, **options: Any) -> None:
    """Decide over history, through the same code as live; nothing is sent anywhere.

    \b
    tidemark replay --orders orders.jsonl --customers customers.jsonl --policy retail --out result
    tidemark replay --orders 2025.csv.gz --columns order_id=basket,amount=total --policy retail --out result
    tidemark replay --orders orders.jsonl --policy retail --out result --resume
    """  # noqa: D301  # click wants the character, not the two
    from config.policy_files import load_timeline
    from streams.backfill.command import plan_of, replay_history, replay_in_steps
    from streams.console import progress_bar, stage_bars, summary_tables

    asked, timeline = _asked(options), load_timeline(policy)
    plan = plan_of(asked, [timeline])
    if in_steps:
        with progress_bar("replaying") as told:
            summary = replay_in_steps(asked, timeline, out, told)
    else:
        processes = options["processes"] or cores()
        with stage_bars() as progress:
            summary = replay_history(plan, policy, out, progress, processes=processes, resume=resume)
    summary_tables(summary)


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _asked(options: dict[str, Any]) -> Any:
    from models.events import Topic
    from streams.backfill.command import Asked

    return Asked(
        files={topic: options[topic.label] for topic in Topic},
        columns=options["columns"],
        since=options["since"],
        to=options["to"],
        until=options["until"],
    )
