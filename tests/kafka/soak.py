"""`make soak`: half an hour of mixed load with faults, then a comparison with the oracle, and a table.

    python -m tests.kafka.soak [--minutes N] [--events N] [--seed N]

The load continues during faults. Two of the workers keep rows in memory, one on disk. This is not part of the test
suite. Exit code 1 if anything was lost or decided differently.
"""

import argparse
import logging
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.feed import Feed
from tests.support.live import Rig
from tests.support.mixed import assert_dead_letters, mixed, wait_settled
from tests.support.process import LiveWorker

STORES = ("memory", "memory", "rocksdb")
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "1000"}
#: Mean time (s) between two faults.
BETWEEN_S = 20.0
#: Time (s) after a fault within which everything produced before its end must be applied.
PATIENCE_S = 180.0


class Soak:
    """One run: its load, its faults and its counts."""

    def __init__(self, rig: Rig, cluster: KafkaCluster, feed: Feed, draw: random.Random) -> None:
        self.rig = rig
        self.cluster = cluster
        self.draw = draw
        self.done: Counter[str] = Counter()
        self.caught_up_s: list[float] = []
        self.largest_mib = 0
        self.group: list[LiveWorker] = [rig.start_worker(store=store) for store in STORES]
        self._feed = feed

    def run(self, minutes: float) -> None:
        """Release the load evenly over `minutes`, with faults in between."""
        with Progress(console=Console(stderr=True)) as progress:
            shown, began, total = progress.add_task("soak", total=1.0), time.monotonic(), minutes * 60

            def elapsed() -> float:
                seconds = time.monotonic() - began
                self._feed.allow(seconds / total)
                progress.update(shown, completed=seconds / total, description=f"soak: {self.done.total()} faults")
                return seconds

            self._elapsed = elapsed
            next_fault = self.draw.expovariate(1 / BETWEEN_S)
            while next_fault < total:
                self._wait(lambda until=next_fault: elapsed() >= until, "the next fault is due", total)
                self._one_fault()
                next_fault = elapsed() + self.draw.expovariate(1 / BETWEEN_S)

    def _one_fault(self) -> None:
        """Cause a random fault, and wait until everything produced until its end is applied."""
        faults: dict[str, Callable[[], None]] = {
            "a worker killed": self._kill_one,
            "a worker suspended": self._suspend_one,
            "a worker added, another ended": self._exchange_one,
            "all workers killed": self._kill_all,
            "the broker gone": self._stop_broker,
            "the broker frozen": self._freeze_broker,
        }
        name = self.draw.choice(list(faults))
        self.done[name] += 1
        faults[name]()
        began, ends = time.monotonic(), self.rig.ends()
        self._wait(lambda: not self.rig.backlog(ends=ends), f"caught up: {name}", PATIENCE_S)
        self.caught_up_s.append(time.monotonic() - began)
        self.largest_mib = max(self.largest_mib, *(_resident_mib(worker) for worker in self.group))

    def _kill_one(self) -> None:
        self._replace(self.draw.choice(self.group))

    def _kill_all(self) -> None:
        for worker in self.group:
            self._replace(worker)

    def _replace(self, worker: LiveWorker) -> None:
        worker.kill()
        worker.revive()

    def _exchange_one(self) -> None:
        place = self.draw.randrange(len(self.group))
        added = self.rig.start_worker(store=STORES[place])
        self._wait(lambda: added.ready, "the new one is ready", PATIENCE_S)
        self.rig.stop_worker(self.group[place])
        self.group[place] = added

    def _suspend_one(self) -> None:
        worker = self.draw.choice(self.group)
        worker.signal(signal.SIGSTOP)
        self._pass(self.rig.session_s * self.draw.uniform(0.5, 3))
        worker.signal(signal.SIGCONT)

    def _stop_broker(self) -> None:
        self.cluster.kill(0)
        self._pass(self.draw.uniform(1, 15))
        self.cluster.start(0)

    def _freeze_broker(self) -> None:
        node = self.cluster._nodes[0]
        node.signal(signal.SIGSTOP)
        self._pass(self.draw.uniform(1, 15))
        node.signal(signal.SIGCONT)

    def _pass(self, seconds: float) -> None:
        until = self._elapsed() + seconds
        self._wait(lambda: self._elapsed() > until, "the fault lasts", seconds + 60)

    def _wait(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait for a condition while the load continues. Raises AssertionError after `timeout_s` (s)."""
        self.rig.wait(lambda: self._elapsed() and condition(), what, timeout_s)


def _resident_mib(worker: LiveWorker) -> int:
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())
    return int(match[1]) // 1024 if match else 0


def run_soak(minutes: float, events: int, seed: int) -> dict[str, object]:
    """Run the soak test and return its table. Raises AssertionError if the outcome differs from the oracle's."""
    directory = Path(tempfile.mkdtemp(prefix="tidemark-soak-"))
    try:
        table = _run_in(directory, minutes, events, seed)
    except BaseException:
        print(f"kept for inspection, with the logs of the workers and the broker: {directory}", file=sys.stderr)
        raise
    shutil.rmtree(directory)
    return table


def _run_in(directory: Path, minutes: float, events: int, seed: int) -> dict[str, object]:
    world = mixed(directory / "events", events)
    with (
        KafkaCluster(directory / "kafka") as cluster,
        Rig(cluster.bootstrap, directory, partitions=12, supervised=True, **SETTLED) as rig,
    ):
        feed = Feed(rig, world.slices)
        soak = Soak(rig, cluster, feed, random.Random(seed))
        soak.run(minutes)
        sent = feed.finish()
        for worker in rig.workers:
            worker.kill()
        rig.start_worker(idle_after="5s")
        wait_settled(rig, world, PATIENCE_S)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)
        changes = [record.value for record in rig.read("tier-changes")["tier-changes"]]
        waits = sorted(soak.caught_up_s) or [0.0]
        return {
            "minutes": round(minutes, 1),
            "records in": len(sent),
            "distinct tier changes": len(set(changes)),
            "repeated tier changes": len(changes) - len(set(changes)),
            "lost, or decided differently": 0,
            "dead letters, all expected": len(world.bad),
            **dict(sorted(soak.done.items())),
            "workers that ended and were restarted": len(rig.revived),
            "ignored rows of replaced owners": rig.stale_rows,
            "catch-up time after a fault, median (s)": round(waits[len(waits) // 2], 1),
            "catch-up time after a fault, longest (s)": round(waits[-1], 1),
            "largest worker (resident MiB)": soak.largest_mib,
        }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Mixed load with faults, then a comparison with the oracle.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--events", type=int, default=600_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it logs every attempt while the broker is down
    table = run_soak(given.minutes, given.events, given.seed)
    print("| | |\n|---|---|")
    for name, value in table.items():
        print(f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |")


if __name__ == "__main__":
    main()
