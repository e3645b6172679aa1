"""One side of a comparison, seen from outside: how fast a process works off a backlog.

The observer is the same for tidemark and for every peer. It asks the broker how many records each partition of
`tier-changes` holds, ten times a second; the load says which order caused the n-th of them. So time runs from the first
tier change that can be seen to the last one: start-up is left out on both sides, and the orders decided before the
first look are not counted. What a side still owes its changelog by then is not waited for.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.reference import Course
from tests.support.live import Rig

_LOOK_S = 0.1
_TAIL_CHARS = 3_000
_TICKS_PER_S = 100  # Linux tells the CPU time of a process in hundredths of a second


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
    """Records a second, CPU time (µs) a record, the most memory held (MB); both None where there is no /proc.

    `committed` is how many records the group's committed offsets cover once the process has stopped.
    """

    rate: float
    cpu_us: float | None
    peak_mb: float | None
    committed: int


class Stalled(AssertionError):
    """A side ended, or did not get through its backlog in time. The message has the end of its log."""


class Reader(NamedTuple):
    """As whom a side reads its backlog, and from where: a consumer group, and the full name of a topic."""

    group: str
    topic: str


def observe(rig: Rig, process: Process, course: Course, reader: Reader, timeout_s: float) -> Outcome:
    """Return how a side worked off its backlog into the topics of `rig`; the process is stopped afterwards."""
    started, ended = asyncio.run(_watch(rig, process, course, timeout_s))
    peak_mb = _peak_mb(process.pid)
    process.stop(60.0)
    count = ended.done - started.done
    cpu_us = None if started.cpu_s is None or ended.cpu_s is None else (ended.cpu_s - started.cpu_s) * 1e6 / count
    committed = asyncio.run(_committed(rig, reader))
    return Outcome(count / (ended.at - started.at), cpu_us, peak_mb, committed)


class _Look(NamedTuple):
    at: float
    done: int
    cpu_s: float | None


async def _watch(rig: Rig, process: Process, course: Course, timeout_s: float) -> tuple[_Look, _Look]:
    """Return the first look at which something was decided, and the first at which everything was."""
    # Ends come with each fetch, and a fetch is kept small: one batch, thrown away.
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
            await consumer.getmany(timeout_ms=int(_LOOK_S * 1000))
            ends = [consumer.highwater(tp) or 0 for tp in tps]
            look = _Look(time.perf_counter(), course.done(ends), _cpu_s(process.pid))
            if look.done and first is None:
                first = look
            if first is not None and look.done == course.total:
                return first, look
            if not process.running or time.monotonic() > deadline:
                why = "it ended" if not process.running else f"{timeout_s:.0f} s passed"
                raise Stalled(
                    f"{why} at {look.done:,} of {course.total:,} records; its log:\n{process.log[-_TAIL_CHARS:]}"
                )
            for tp, end in zip(tps, ends, strict=True):
                consumer.seek(tp, end)
            await asyncio.sleep(_LOOK_S)
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
