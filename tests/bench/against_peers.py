"""Compares tidemark's worker with other stream processors: the same job, the same input, the same broker.

Both runs of a pair read the same `orders` topic, one after the other, and take turns in going first. The benchmark
fails unless both sides have the same results: every field of every tier change except its id and `decided_at`, the
latest tiers and metrics of every customer, the number of dead letters. `python -m tests.bench.against_peers` runs it
alone.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from streams.demo.broker import BrokerUnavailable, EmbeddedBroker
from tests.bench.backlog import PARTITIONS, broken, partitioned, preload
from tests.bench.live import bench_rig, run_tidemark
from tests.bench.peers.arguments import Arguments
from tests.bench.peers.kafka_streams import java_command
from tests.bench.peers.program import Missing, Program, python_command
from tests.bench.reference import Course
from tests.bench.report import Report, Scale, ratio
from tests.bench.results import compare, read_result
from tests.bench.side import Outcome, Reader, observe
from tests.bench.workload import Skew
from tests.kafka.artefacts import unavailable_reason
from tests.kafka.cluster import KafkaCluster
from tests.support.live import Rig

COLUMNS = (
    "peer",
    "load",
    "ours, events/s",
    "theirs, events/s",
    "ratio",
    "target",
    "CPU µs per event",
    "peak memory, MB",
)
#: Mean number of orders per customer, for any size of the load, so that the state per customer is the same.
ORDERS_EACH = 10
_TIMEOUT_S = 900.0


class Peer(NamedTuple):
    """A peer, its maximum number of orders (None: that of the scale), and the broker that both sides use.

    Slower peers get fewer orders, about half a minute's work; both sides get the same. `target` is the minimum ratio.
    """

    name: str
    orders: int | None
    broker: str
    command: Callable[[], list[str]]
    target: float
    skew: Skew = "uniform"


# With Zipf's law one customer has 9,441 of 60,000 orders; tidemark counts at most 10,000 per customer.
PEERS = (
    Peer("Faust", 60_000, "embedded", lambda: python_command("faust_app", "faust"), 15.0),
    Peer("Quix Streams", None, "Apache Kafka", lambda: python_command("quix_app", "quixstreams"), 3.0),
    Peer("Quix Streams, Zipf", 60_000, "Apache Kafka", lambda: python_command("quix_app", "quixstreams"), 6.0, "zipf"),
    Peer("Kafka Streams", None, "Apache Kafka", java_command, 1.0),
)


def run(scale: Scale, peers: Sequence[Peer] = PEERS) -> list[Report]:
    """Measure tidemark against each peer that can run here, and list the others with the reason. Raises Mismatch."""
    rows, figures = [], {}
    for peer in peers:
        count = scale.orders if peer.orders is None else min(scale.orders, peer.orders)
        customers = max(1, min(scale.customers, count // ORDERS_EACH))
        load = f"{count:,} orders, {customers:,} customers ({peer.skew}), {peer.broker}"
        try:
            pairs = _pairs(peer, count, customers, scale.runs)
        except (Missing, BrokerUnavailable) as missing:
            rows.append((peer.name, f"not measured: {missing}", *[""] * (len(COLUMNS) - 2)))
            continue
        rows.append(_row(peer, load, pairs))
        setting = {"orders": count, "customers": customers, "skew": peer.skew, "broker": peer.broker}
        figures[peer.name] = {**setting, **_figures(pairs)}
    return [Report("Against peers, the same job on the same input", COLUMNS, rows, figures)]


def _pairs(peer: Peer, count: int, customers: int, runs: int) -> list[tuple[Outcome, Outcome]]:
    command = peer.command()
    course = Course(partitioned(count, customers, peer.skew), PARTITIONS)
    pairs = []
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, _broker(peer.broker, Path(name)) as broker:
        for number in range(runs):
            directory = Path(name, str(number))
            with bench_rig(broker, directory / "ours") as ours, bench_rig(broker, directory / "theirs") as theirs:
                preload(broker, ours.settings.topic("orders"), partitioned(count, customers, peer.skew))
                sides = [
                    lambda: run_tidemark(ours, course, _TIMEOUT_S),
                    lambda: _run_peer(command, ours, theirs, course),
                ]
                # The order may matter to the machine's caches, so the sides take turns in going first.
                outcomes = [side() for side in (sides if number % 2 == 0 else sides[::-1])]
                pair = (outcomes[0], outcomes[1]) if number % 2 == 0 else (outcomes[1], outcomes[0])
                compare(peer.name, read_result(ours), read_result(theirs), broken(count))
            pairs.append(pair)
    return pairs


def _run_peer(command: list[str], source: Rig, target: Rig, course: Course) -> Outcome:
    """Measure how a peer processes the orders of one rig into the topics of another."""
    settings = target.settings
    directory = str(target.directory / "peer")
    orders, group = source.settings.topic("orders"), f"{settings.app_id}-peer"
    arguments = Arguments(settings.broker, group, orders, settings.topic_prefix, str(PARTITIONS), directory)
    program = Program(command, arguments)
    try:
        return observe(target, program, course, Reader(group, orders), _TIMEOUT_S)
    finally:
        program.stop()


@contextmanager
def _broker(kind: str, directory: Path) -> Iterator[str]:
    if kind == "embedded":
        with EmbeddedBroker() as broker:
            yield broker.address
        return
    reason = unavailable_reason()
    if reason is not None:
        raise Missing(reason)
    with KafkaCluster(directory / "kafka") as cluster:
        yield cluster.bootstrap


def _row(peer: Peer, load: str, pairs: list[tuple[Outcome, Outcome]]) -> tuple[str, ...]:
    ours, theirs = zip(*pairs, strict=True)
    rates = [[one.rate for one in side] for side in (ours, theirs)]
    return (
        peer.name,
        load,
        *(f"{statistics.median(side):,.0f}" for side in rates),
        f"{ratio(*rates):.2f}",
        f"≥ {peer.target:g}",
        " / ".join(_median([one.cpu_us for one in side]) for side in (ours, theirs)),
        " / ".join(_median([one.peak_mb for one in side]) for side in (ours, theirs)),
    )


def _median(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):,.0f}" if known else "-"


def _figures(pairs: list[tuple[Outcome, Outcome]]) -> dict[str, list[dict[str, float | None]]]:
    return {
        side: [
            {"rate": one.rate, "cpu_us": one.cpu_us, "peak_mb": one.peak_mb, "committed": one.committed}
            for one in outcomes
        ]
        for side, outcomes in zip(("ours", "theirs"), zip(*pairs, strict=True), strict=True)
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--orders", default=Scale().orders, show_default=True, help="Maximum number of orders per run.")
@click.option("--runs", default=Scale().runs, show_default=True, help="Pairs of runs per peer.")
@click.option(
    "--peer",
    multiple=True,
    type=click.Choice([peer.name for peer in PEERS]),
    help="Only this peer. May be repeated.",
)
def main(orders: int, runs: int, peer: tuple[str, ...]) -> None:
    """Measure tidemark against its peers, and print the figures.

    Example: python -m tests.bench.against_peers --peer Faust --runs 1
    """
    chosen = [one for one in PEERS if not peer or one.name in peer]
    for report in run(Scale(orders=orders, runs=runs), chosen):
        table = Table(*report.columns, title=report.title)
        for row in report.rows:
            table.add_row(*row)
        Console(width=200).print(table)


if __name__ == "__main__":
    main()
