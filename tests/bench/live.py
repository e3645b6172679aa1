"""A live run of tidemark for the benchmarks: one worker works through a backlog on a broker."""

from pathlib import Path

from tests.bench.backlog import PARTITIONS
from tests.bench.reference import POLICY, Course
from tests.bench.side import Outcome, Reader, observe
from tests.support.live import Rig


def bench_rig(broker: str, directory: Path, partitions: int = PARTITIONS) -> Rig:
    """Return a rig that does the job of rfm.yaml; stream time follows the events of the load."""
    directory.mkdir(parents=True, exist_ok=True)
    return Rig(broker, directory, partitions=partitions, clock="event", policy=str(POLICY), tick_interval="1s")


def run_tidemark(rig: Rig, course: Course, timeout_s: float) -> Outcome:
    """Measure how one worker works through the backlog in the `orders` topic of a rig. Raises Stalled."""
    reader = Reader(rig.settings.app_id, rig.settings.topic("orders"))
    return observe(rig, rig.start_worker(), course, reader, timeout_s)
