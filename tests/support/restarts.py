"""The restart scenario: a worker ended again and again in the middle of a backlog, politely and with SIGKILL.

Shared by the tests on the embedded broker and on Apache Kafka. Events wait for the event clock to settle them, so what
is decided does not depend on where the worker was ended. Some workers keep their rows on disk, in one directory: after
a polite end, after SIGKILL, and after others have gone on without it.
"""

import random
from pathlib import Path

from tests.support.expected import History, assert_same_as_replay, demo_history
from tests.support.live import Rig

RESTARTS = 10
#: Those that keep their rows on disk: 2 starts with none, 3 is killed, 8 finds rows that 5 to 7 have left behind.
ON_DISK = {2, 3, 4, 8, 9}
HOUSEHOLDS = 120
#: Seconds by which each batch is slowed down, so that none of these workers is done before it is ended.
SLOW_S = "0.2"


def run_with_restarts(broker: str, directory: Path, seed: int) -> None:
    """Run the whole scenario: nothing may be lost, nothing decided otherwise, nothing repeated differently."""
    history = demo_history(directory / "events", HOUSEHOLDS)
    # Small batches, so that every worker is ended between two of the same partition.
    settings = {"clock": "event", "decide": "settled", "lateness": "1d", "idle_after": "3s", "max_batch": "40"}
    with Rig(broker, directory, **settings) as rig:
        _restart_in_backlog(rig, history, random.Random(seed))
        rig.start_worker(max_batch="4000", **_on_disk(rig))
        rig.wait(rig.is_settled, "everything is read and settled")
        assert_same_as_replay(rig, history)


def _restart_in_backlog(rig: Rig, history: History, choose: random.Random) -> None:
    rig.produce([[record for _, record in history.records]])
    total = backlog = rig.backlog()
    for number in range(RESTARTS):
        worker = rig.start_worker(test_slow_state=SLOW_S, **(_on_disk(rig) if number in ON_DISK else {}))
        enough = backlog - choose.randrange(200)
        rig.wait(lambda enough=enough: rig.backlog() < enough, f"worker {number} has made progress")
        if number % 2:
            worker.kill()
        else:
            rig.stop_worker(worker)
        left = rig.backlog()
        assert 0 < left < backlog, f"after worker {number}: {left} of {total} records left, {backlog} before it"
        backlog = left


def _on_disk(rig: Rig) -> dict[str, str]:
    return {"store": "rocksdb", "data_dir": str(rig.directory / "rows")}
