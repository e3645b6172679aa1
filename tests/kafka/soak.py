"""`make soak`: mixed load with faults for half an hour, then everything against the oracle, and a table.

    python -m tests.kafka.soak [--minutes N] [--events N] [--seed N]

Not part of the test suite: it takes as long as it is told to. Exit code 1 where anything was lost or decided otherwise.
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.live import LiveWorker, Rig, Sent, ToSend
from tests.support.mixed import assert_dead_letters, mixed, wait_settled

WORKERS = 3
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "1000"}
#: Seconds between two faults, on average.
BETWEEN_S = 20.0
#: Seconds within which the group must go on after a fault.
PATIENCE_S = 180.0


class Soak:
    """One run: its load, its faults, and what is counted."""

    def __init__(self, rig: Rig, cluster: KafkaCluster, draw: random.Random) -> None:
        self.rig = rig
        self.cluster = cluster
        self.draw = draw
        self.done: Counter[str] = Counter()
        self.longest_s = 0.0
        self.group: list[LiveWorker] = [rig.start_worker() for _ in range(WORKERS)]

    def one_fault(self) -> None:
        """Do one of them, at random, and wait until records are applied again."""
        before = self.rig.applied()
        name = self.draw.choice(
            ("worker killed", "worker suspended", "all workers killed", "broker gone", "broker frozen")
        )
        self.done[name] += 1
        getattr(self, f"_{name.replace(' ', '_')}")()
        began = time.monotonic()
        self.rig.wait(lambda: self.rig.applied() > before or not self.rig.backlog(), f"going on: {name}", PATIENCE_S)
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def _replace(self, place: int) -> None:
        self.group[place].kill()
        self.group[place].revive()

    def _worker_killed(self) -> None:
        self._replace(self.draw.randrange(WORKERS))

    def _all_workers_killed(self) -> None:
        for place in range(WORKERS):
            self._replace(place)

    def _worker_suspended(self) -> None:
        worker = self.draw.choice(self.group)
        worker.signal(signal.SIGSTOP)
        self._pass(self.rig.session_s * self.draw.uniform(0.5, 3))
        worker.signal(signal.SIGCONT)

    def _broker_gone(self) -> None:
        self.cluster.kill(0)
        self._pass(self.draw.uniform(1, 15))
        self.cluster.start(0)

    def _broker_frozen(self) -> None:
        node = self.cluster._nodes[0]
        node.signal(signal.SIGSTOP)
        self._pass(self.draw.uniform(1, 15))
        node.signal(signal.SIGCONT)

    def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.rig.wait(lambda: time.monotonic() > until, "the fault lasts", seconds + 60)


def run_soak(minutes: float, events: int, seed: int) -> dict[str, object]:
    """Run it; return the table. Raises AssertionError where the outcome is not the oracle's."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        world = mixed(directory / "events", events)
        with (
            KafkaCluster(directory / "kafka") as cluster,
            Rig(cluster.bootstrap, directory, partitions=12, supervised=True, **SETTLED) as rig,
        ):
            soak = Soak(rig, cluster, draw)
            sent = _load(soak, world.slices, minutes, draw)
            for worker in rig.workers:
                worker.kill()
            rig.start_worker(idle_after="5s")
            wait_settled(rig, world)
            assert_same_as_replay(rig, world.history)
            assert_dead_letters(rig, sent, world)
            changes = [record.value for record in rig.read("tier-changes")["tier-changes"]]
            return {
                "minutes": round(minutes, 1),
                "records in": len(sent),
                "tier changes, each once": len(set(changes)),
                "of these repeated": len(changes) - len(set(changes)),
                "lost, or decided otherwise": 0,
                "dead letters, exact": len(world.bad),
                **dict(sorted(soak.done.items())),
                "ended by itself and started anew": len(rig.revived),
                "rows of replaced owners, ignored": rig.stale_rows,
                "longest until records were applied again (s)": round(soak.longest_s, 1),
            }


def _load(soak: Soak, slices: list[list[ToSend]], minutes: float, draw: random.Random) -> list[Sent]:
    """Produce the slices evenly over the time, with faults in between."""
    began, total = time.monotonic(), minutes * 60
    sent: list[Sent] = []
    next_fault = draw.expovariate(1 / BETWEEN_S)
    for number, day in enumerate(slices):
        soak.rig.wait(lambda number=number: time.monotonic() - began >= total * number / len(slices), "its time", total)
        sent += soak.rig.produce([day])
        if time.monotonic() - began >= next_fault:
            soak.one_fault()
            next_fault = time.monotonic() - began + draw.expovariate(1 / BETWEEN_S)
    return sent


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Mixed load with faults, then everything against the oracle.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    table = run_soak(given.minutes, given.events, given.seed)
    print("| | |\n|---|---|")
    for name, value in table.items():
        print(f"| {name} | {value:,} |" if isinstance(value, int) else f"| {name} | {value} |")


if __name__ == "__main__":
    main()
