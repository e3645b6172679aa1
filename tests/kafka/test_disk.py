"""Rows on a disk that fills up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from tests.kafka.cluster import KafkaCluster
from tests.support.expected import assert_same_as_replay
from tests.support.live import Rig, run
from tests.support.mixed import assert_dead_letters, mixed, wait_settled
from tests.support.process import LiveWorker

pytestmark = pytest.mark.slow
pytest.importorskip("rocksdict", reason="the rocksdb extra is not installed")

EVENTS = 6_000
SETTLED = {"clock": "event", "decide": "settled", "lateness": "2d", "max_batch": "200", "store": "rocksdb"}
#: Free space (bytes) left on the full disk: less than half of the events need.
LEFT = 64 * 2**10


class Disk:
    """A disk for rows that can be filled and freed."""

    #: Settings with which a worker starts while the disk is full.
    full_settings: dict[str, str]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.full_settings = {}

    def fill(self) -> None:
        """Fill the disk except for `LEFT` bytes."""
        left = os.statvfs(self.path)
        with (self.path / "ballast").open("wb") as file:
            file.write(bytes(max(0, left.f_bavail * left.f_frsize - LEFT)))

    def free(self) -> None:
        """Free the space again."""
        (self.path / "ballast").unlink()


class ShortFiles(Disk):
    """A stand-in for users who may not mount: from the next start of the worker, its files may not grow."""

    def fill(self) -> None:
        self.full_settings = {"test_file_bytes": str(LEFT)}

    def free(self) -> None:
        self.full_settings = {}


@pytest.fixture(params=["device", "files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if request.param == "files":
        yield ShortFiles(path)
        return
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk; the other case limits the size of files instead")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_ends_the_worker_with_one_line_and_loses_nothing(
    kafka: KafkaCluster, tmp_path: Path, disk: Disk
) -> None:
    world = mixed(tmp_path / "events", EVENTS)
    half = len(world.slices) // 2
    with Rig(kafka.bootstrap, tmp_path, partitions=2, data_dir=str(disk.path / "data"), **SETTLED) as rig:
        worker = rig.start_worker()
        sent = rig.produce(world.slices[:half])
        rig.wait(lambda: not rig.backlog(), "the first half is applied")

        disk.fill()
        if disk.full_settings:
            worker.kill()
            worker = rig.start_worker(**disk.full_settings)
        sent += rig.produce(world.slices[half:])
        rig.wait(lambda: not worker.running, "the worker ends because the disk is full")
        assert_one_error_line(worker)
        assert_nothing_is_committed_beyond_the_state(rig)
        assert rig.backlog()

        # Its supervisor starts it again, and nothing gets worse.
        another = rig.start_worker(**disk.full_settings)
        rig.wait(lambda: not another.running, "it ends again")
        assert_one_error_line(another)
        assert_nothing_is_committed_beyond_the_state(rig)

        disk.free()
        rig.start_worker(idle_after="2s")
        wait_settled(rig, world)
        assert_same_as_replay(rig, world.history)
        assert_dead_letters(rig, sent, world)


def assert_one_error_line(worker: LiveWorker) -> None:
    assert worker._child.poll() == 1
    errors = [line for line in worker.log.splitlines() if "the worker cannot go on" in line]
    assert len(errors) == 1, worker.log
    assert " cannot be written: " in errors[0] or " cannot be opened: " in errors[0]
    assert "make room there" in errors[0]
    assert "RowsUn" not in worker.log, "the log has the error a second time, with a traceback"


def assert_nothing_is_committed_beyond_the_state(rig: Rig) -> None:
    progress = rig.state().progress
    inputs = {rig.settings.topic(topic): topic for topic in ("orders", "interactions", "customers")}
    committed = {
        (inputs[tp.topic], tp.partition): meta.offset for tp, meta in run(_committed(rig)).items() if tp.topic in inputs
    }
    assert committed
    for (topic, number), offset in committed.items():
        assert offset <= progress[number].applied.get(topic, 0), (topic, number)


async def _committed(rig: Rig) -> dict:
    admin = AIOKafkaAdminClient(bootstrap_servers=rig.settings.broker)
    await admin.start()
    try:
        return await admin.list_consumer_group_offsets(rig.settings.app_id)
    finally:
        await admin.close()
