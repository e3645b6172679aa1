"""Measures from outside how fast a process works through a backlog: one side of a comparison.

The observer is the same for tidemark and for every peer. Ten times a second it asks the broker for the number of
records in each partition of `tier-changes`; the load says which order caused the n-th of them. So time runs from the
first visible tier change to the last one. Start-up is excluded on both sides, and so are the orders decided before the
first sample. It does not wait for pending writes to the changelog.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.reference import Course
from tests.support.live import Rig

_SAMPLE_S = 0.1
_TAIL_CHARS = 3_000
_TICKS_PER_S = 100  # Linux counts the CPU time of a process in hundredths of a second


class Process(Protocol):
    """A running side: tidemark's worker or a peer's program."""

    @property
    def pid(self) -> int: ...

    @property
    def running(self) -> bool: ...

    @property
    def log(self) -> str: ...

    def stop(self, timeout_s: float = ...) -> int: ...


class Outcome(NamedTuple):
    """Records per second, CPU time (µs) per record, peak memory (MB); the latter two are None without /proc.

    `committed` is the number of records that the group's committed offsets cover after the process has stopped.
    """

    rate: float
    cpu_us: float | None
    peak_mb: float | None
    committed: int


class Stalled(AssertionError):
    """A side ended early, or did not finish its backlog in time. The message has the end of its log."""


class Reader(NamedTuple):
    """The consumer group with which a side reads its backlog, and the full name of the topic."""

    group: str
    topic: str


def observe(rig: Rig, process: Process, course: Course, reader: Reader, timeout_s: float) -> Outcome:
    """Measure how a side works through its backlog into the topics of `rig`, then stop the process. Raises Stalled."""
    started, ended = asyncio.run(_watch(rig, process, course, timeout_s))
    peak_mb = _peak_mb(process.pid)
    process.stop(60.0)
    count = ended.done - started.done
    cpu_us = None if started.cpu_s is None or ended.cpu_s is None else (ended.cpu_s - started.cpu_s) * 1e6 / count
    committed = asyncio.run(_committed(rig, reader))
    return Outcome(count / (ended.at - started.at), cpu_us, peak_mb, committed)


class _Sample(NamedTuple):
    at: float
    done: int
    cpu_s: float | None


async def _watch(rig: Rig, process: Process, course: Course, timeout_s: float) -> tuple[_Sample, _Sample]:
    """Return the first sample with a decision, and the first with all of them."""
    # Each fetch reports the end offsets. Its size limit keeps it to one batch, which is discarded.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=rig.settings.broker, fetch_max_wait_ms=50, max_partition_fetch_bytes=1
    )
    tps = [TopicPartition(rig.settings.topic("tier-changes"), number) for number in range(rig.settings.partitions)]
    deadline, first = time.monotonic() + timeout_s, None
    await consumer.start()
    try:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while True:
            await consumer.getmany(timeout_ms=int(_SAMPLE_S * 1000))
            ends = [consumer.highwater(tp) or 0 for tp in tps]
            sample = _Sample(time.perf_counter(), course.done(ends), _cpu_s(process.pid))
            if sample.done and first is None:
                first = sample
            if first is not None and sample.done == course.total:
                return first, sample
            if not process.running or time.monotonic() > deadline:
                why = "it ended" if not process.running else f"{timeout_s:.0f} s passed"
                raise Stalled(
                    f"{why} at {sample.done:,} of {course.total:,} records; its log:\n{process.log[-_TAIL_CHARS:]}"
                )
            for tp, end in zip(tps, ends, strict=True):
                consumer.seek(tp, end)
            await asyncio.sleep(_SAMPLE_S)
    finally:
        await consumer.stop()


async def _committed(rig: Rig, reader: Reader) -> int:
    broker, partitions = rig.settings.broker, range(rig.settings.partitions)
    async with AIOKafkaConsumer(bootstrap_servers=broker, group_id=reader.group, enable_auto_commit=False) as consumer:
        return sum([await consumer.committed(TopicPartition(reader.topic, number)) or 0 for number in partitions])


def _cpu_s(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _peak_mb(pid: int) -> float | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else None
