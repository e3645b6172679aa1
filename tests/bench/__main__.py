"""`make bench`: how many events a second, without a broker (the processor alone) and live (broker, worker, acks).

Prints a table and writes JSON. Figures hold for the machine they were made on; the median of the runs is the one
to quote. Nothing here is asserted.
"""

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import orjson
from rich.console import Console
from rich.table import Table

from config.policy_files import load_timeline
from models.events import Topic
from streams.encode import Encoder
from streams.partition import Partition
from streams.processor import Processor, Timing
from streams.replay import FileRecord
from tests.bench.live import live_rate

START_MS = 1_700_000_000_000
BATCH = 4_000


class Workload(NamedTuple):
    """Orders of `customers` customers drawn uniformly, a minute apart, in the order of their time."""

    orders: int
    customers: int

    def records(self) -> list[FileRecord]:
        """Return the same orders for the same figures, every time."""
        draw = random.Random(7)
        return [
            self._record(index, draw.randrange(self.customers), draw.randrange(100, 20_000))
            for index in range(self.orders)
        ]

    @staticmethod
    def _record(index: int, customer: int, cents: int) -> FileRecord:
        at, key = START_MS + index * 60_000, f"c{customer}"
        value = {"type": "order.placed", "order_id": f"o{index}", "customer_id": key, "occurred_at": at}
        return FileRecord(
            index, at, key.encode(), orjson.dumps({**value, "amount": f"{cents // 100}.{cents % 100:02d}"})
        )


def processor_rate(work: Workload) -> float:
    """Return events/s of decode, validation, ledger, tiers, care and encoding in one partition, nothing sent."""
    timeline = load_timeline(Path("retail"))
    processor = Processor(timeline, Timing(), Encoder("/bench"))
    partition, records = Partition(0, timeline=timeline.fingerprint), work.records()
    started = time.perf_counter()
    for first in range(0, len(records), BATCH):
        processor.process(partition, Topic.ORDERS, "orders", records[first : first + BATCH], now=2**42)
    return len(records) / (time.perf_counter() - started)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--orders", default=100_000, show_default=True, help="Orders in a run.")
@click.option("--customers", default=10_000, show_default=True, help="Customers they are spread over.")
@click.option("--runs", default=3, show_default=True, help="Runs of each benchmark.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Where to write the figures.")
def main(orders: int, customers: int, runs: int, target: Path | None) -> None:
    """Measure, print, and write the figures."""
    work = Workload(orders, customers)
    benches: dict[str, Callable[[], float]] = {
        "processor alone": lambda: processor_rate(work),
        "live, one worker, embedded broker": lambda: live_rate(work.records()),
    }
    figures = {name: [bench() for _ in range(runs)] for name, bench in benches.items()}
    table = Table(title=f"{orders:,} orders of {customers:,} customers, events/s over {runs} runs")
    for head in ("benchmark", "median", "lowest", "highest"):
        table.add_column(head, justify="left" if head == "benchmark" else "right")
    for name, rates in figures.items():
        table.add_row(name, *(f"{rate:,.0f}" for rate in (statistics.median(rates), min(rates), max(rates))))
    Console().print(table)
    if target is not None:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        target.write_bytes(
            orjson.dumps({"commit": commit, "python": sys.version, "work": work._asdict(), "rates": figures})
        )


if __name__ == "__main__":
    main()
