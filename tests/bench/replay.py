"""A replay of files compared with the live path and with a simulation of two policies: events/s and memory.

The commands run in turn on the same file. The live path processes fewer orders of the same load, on the embedded
broker.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from streams.demo.broker import BrokerUnavailable, EmbeddedBroker
from tests.bench.backlog import PARTITIONS, partitioned, preload
from tests.bench.live import bench_rig, run_tidemark
from tests.bench.reference import POLICY, Course
from tests.bench.report import Report, Scale, ratio
from tests.bench.workload import orders

#: The replay has this many times the orders and customers of the scale.
TIMES = 10
PROCESSES = 2
TARGETS = {"seconds": 90, "memory_mb": 4_096, "of_live": 3.0, "simulate": 1.3}
_SAMPLE_S = 0.2
_TIMEOUT_S = 900.0


def run(scale: Scale) -> list[Report]:
    """Measure replay and simulation with ten times the orders of the scale, and the live path with its orders."""
    count, customers = TIMES * scale.orders, TIMES * scale.customers
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name:
        directory = Path(name)
        _write(directory / "orders.jsonl", count, customers)
        history = ["--orders", "orders.jsonl", "--processes", str(PROCESSES)]
        replay = ["replay", *history, "--policy", str(POLICY), "--out", "out"]
        simulate = ["simulate", *history, *["--policy", str(POLICY)] * 2]
        replays, simulations, live = [], [], []
        for number in range(scale.runs):
            replays.append(_measure(replay, directory))
            simulations.append(_measure(simulate, directory))
            live += _live(directory / f"live-{number}", scale)
    seconds, memory = [one[0] for one in replays], [one[1] for one in replays]
    rates = [count / one for one in seconds]
    cost = ratio([one[0] for one in simulations], seconds)
    rows = [
        ["seconds", f"{statistics.median(seconds):,.1f}", f"≤ {TARGETS['seconds']} for 10,000,000"],
        ["events/s", f"{statistics.median(rates):,.0f}", ""],
        ["peak memory, all processes, MB", f"{statistics.median(memory):,.0f}", f"≤ {TARGETS['memory_mb']:,}"],
        ["simulation of two policies, times a replay", f"{cost:.2f}", f"≤ {TARGETS['simulate']}"],
    ]
    if live:
        rows.append(["times the live path's events/s", f"{ratio(rates, live):.1f}", f"≥ {TARGETS['of_live']:g}"])
    figures = {"orders": count, "customers": customers, "seconds": seconds, "memory_mb": memory, "live_per_s": live}
    title = f"Replay from a file: {count:,} orders of {customers:,} customers, {PROCESSES} processes"
    shown = {**figures, "simulate_s": [one[0] for one in simulations], "targets": TARGETS}
    return [Report(title, ["", "", "target"], rows, shown)]


def _write(path: Path, count: int, customers: int) -> None:
    with path.open("wb") as file:
        for order in orders(count, customers):
            file.write(order.value + b"\n")


def _measure(arguments: list[str], directory: Path) -> tuple[float, float]:
    """Return the duration (s) of a command, and the peak memory (MB) of it and its child processes."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "streams", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _memory_mb(process.pid))
        time.sleep(_SAMPLE_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    return time.perf_counter() - started, peak


def _memory_mb(pid: int) -> float:
    """Return the resident memory (MB) of a process and its children; 0 without /proc."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(_resident_mb(each) for each in (str(pid), *children))


def _resident_mb(pid: str) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0  # it has ended


def _live(directory: Path, scale: Scale) -> list[float]:
    """Return the events/s of one worker on the embedded broker, an empty list if there is none."""
    course = Course(partitioned(scale.orders, scale.customers), PARTITIONS)
    try:
        with EmbeddedBroker() as broker, bench_rig(broker.address, directory) as rig:
            preload(broker.address, rig.settings.topic("orders"), partitioned(scale.orders, scale.customers))
            return [run_tidemark(rig, course, _TIMEOUT_S).rate]
    except BrokerUnavailable:
        return []
