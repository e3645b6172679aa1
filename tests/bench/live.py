"""A live run of tidemark for the benchmarks: a backlog on a broker, one worker, and how fast it is worked off."""

from pathlib import Path

from tests.bench.backlog import PARTITIONS
from tests.bench.reference import POLICY, Course
from tests.bench.side import Outcome, Reader, observe
from tests.support.live import Rig


def bench_rig(broker: str, directory: Path, partitions: int = PARTITIONS) -> Rig:
    """Return an application that does the job of rfm.yaml; its time follows the events of the load."""
    directory.mkdir(parents=True, exist_ok=True)
    return Rig(broker, directory, partitions=partitions, clock="event", policy=str(POLICY), tick_interval="1s")


def run_tidemark(rig: Rig, course: Course, timeout_s: float) -> Outcome:
    """Return how one worker works off the backlog that lies in the `orders` topic of a rig."""
    reader = Reader(rig.settings.app_id, rig.settings.topic("orders"))
    return observe(rig, rig.start_worker(), course, reader, timeout_s)
