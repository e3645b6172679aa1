"""`make bench`: runs benchmarks by name, prints their tables, and writes every figure as JSON.

Figures are valid only for the machine that produced them. Each benchmark is a module with `run(scale) -> list[Report]`.
"""

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from models.errors import TidemarkError, UnusableInput
from streams.gc_tuning import tune_gc
from tests.bench.report import Report, Scale

#: Benchmarks by name, in the order in which they run: (module, what it measures).
BENCHES = {
    "profile": ("processor", "the processor alone: events/s and a profile"),
    "growth": ("growth", "events/s as the number of customers grows"),
    "tick": ("tick", "a tick with nothing due, and with a few due"),
    "cutoffs": ("cutoffs", "ranked tiers compared with thresholds"),
    "memory": ("memory", "resident bytes per idle customer"),
    "recovery": ("recovery", "customers/s of recovery, compared with stock Faust"),
    "latency": ("latency", "time from producing an order to consuming its tier change"),
    "replay": ("replay", "replay of files, compared with the live path and a simulation"),
    "burst": ("burst", "memory in a burst, and while the broker is frozen"),
    "peers": ("against_peers", "the same job in other stream processors"),
}
_HELP = "\b\n" + "\n".join(f"  {name:<9} {what}" for name, (_, what) in BENCHES.items())
_EXAMPLES = """\b
python -m tests.bench
python -m tests.bench latency
python -m tests.bench profile tick --customers 10000 --orders 100000 --runs 1
make bench ARGS="recovery --json recovery.json"
TIDEMARK_BENCH_BROKER=kafka python -m tests.bench latency memory recovery
"""


def _known(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        raise click.BadParameter(f"found {', '.join(unknown)}; allowed are {', '.join(BENCHES)}")
    return names or tuple(BENCHES)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help=f"Run the named benchmarks, or all, and print their figures.\n\n{_HELP}\n\n{_EXAMPLES}",
)
@click.argument("names", metavar="[NAME]…", nargs=-1, callback=_known)
@click.option("--orders", type=click.IntRange(1), default=Scale().orders, show_default=True, help="Orders per run.")
@click.option(
    "--customers", type=click.IntRange(1), default=Scale().customers, show_default=True, help="Customers per run."
)
@click.option("--runs", type=click.IntRange(1), default=Scale().runs, show_default=True, help="Runs per figure.")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write every figure to a file.")
def main(names: tuple[str, ...], orders: int, customers: int, runs: int, target: Path | None) -> None:
    """Measure, print and write the figures, including those measured before a failure."""
    tune_gc()  # as a worker does
    scale, console = Scale(orders, customers, runs), Console()
    measured: dict[str, list[dict[str, Any]]] = {}
    try:
        for name in names:
            console.print(f"{name}: {BENCHES[name][1]} …", style="dim")
            module = importlib.import_module(f"tests.bench.{BENCHES[name][0]}")
            reports = module.run(scale)
            measured[name] = [{"title": report.title, "figures": report.figures} for report in reports]
            for report in reports:
                console.print(_table(report))
    except UnusableInput as error:
        raise click.UsageError(str(error)) from None
    except TidemarkError as error:
        raise click.ClickException(str(error)) from None
    finally:
        if target is not None:
            target.write_bytes(
                orjson.dumps(
                    {**_machine(), "scale": scale._asdict(), "benches": measured},
                    option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS,
                )
            )


def _table(report: Report) -> Table:
    table = Table(title=report.title, title_justify="left")
    for place, head in enumerate(report.columns):
        table.add_column(head, justify="right" if place else "left", overflow="fold")
    for row in report.rows:
        table.add_row(*row)
    return table


def _machine() -> dict[str, Any]:
    root = Path(__file__).parents[2]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "python": sys.version,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "processor": platform.processor()},
    }


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
