"""Faults inside a worker process, asked for by its environment: where it dies, what fails, what its clock says.

    TIDEMARK_TEST_KILL=POINT:N      SIGKILL itself when POINT is reached for the Nth time (points: see `POINTS`)
    TIDEMARK_TEST_STOP=POINT:N      the same with SIGSTOP, once
    TIDEMARK_TEST_FREEZE=POINT:N:PID  then SIGSTOP to another process, as the broker
    TIDEMARK_TEST_FAIL_COMMITS=N    the first N commits of offsets fail
    TIDEMARK_TEST_CLOCK=FILE        the wall clock is off by the milliseconds that FILE holds at the moment
    TIDEMARK_TEST_FILE_BYTES=N      no file may grow beyond N bytes
    TIDEMARK_TEST_SLOW_RECOVERY=S   S seconds pass between seeking a changelog and reading it; the client fetches then
    TIDEMARK_TEST_SLOW_STATE=S      the state of each batch is written S seconds late, as by a slow broker

Nothing of this is in the worker itself: its methods are wrapped here.
"""

import asyncio
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import KafkaTimeoutError, NodeNotReadyError
from faust.tables.recovery import Recovery

from streams.faust_ext.consumer import MicroBatchConsumer
from streams.worker import app as composition
from streams.worker.committer import Committer
from streams.worker.context import WorkerContext, wall_clock_ms

#: Around each effect of a batch: outputs, then state, then the commit. `…-partly`: one acknowledgement is in, the
#: others are on their way.
POINTS = ("outputs", "outputs-partly", "outputs-done", "state", "state-partly", "state-done", "commit", "commit-done")


def shift_clock(file: Path, by_ms: int) -> None:
    """Set the offset (ms) of the wall clock of workers that read it from `file`."""
    whole = file.with_suffix(".new")
    whole.write_text(str(by_ms))
    whole.replace(file)  # a worker that reads meanwhile never sees a part of it


def install() -> None:
    """Wrap what the environment asks for."""
    for name, number in (("KILL", signal.SIGKILL), ("STOP", signal.SIGSTOP), ("FREEZE", signal.SIGSTOP)):
        if fault := os.environ.get(f"TIDEMARK_TEST_{name}"):
            point, count, *pid = fault.split(":")
            _install_fault(_Fault(point, int(count), number, int(pid[0]) if pid else os.getpid()))
    if commits := os.environ.get("TIDEMARK_TEST_FAIL_COMMITS"):
        _fail_commits(int(commits))
    if path := os.environ.get("TIDEMARK_TEST_CLOCK"):
        composition.WorkerContext = partial(WorkerContext, clock=lambda: wall_clock_ms() + int(Path(path).read_text()))
    if size := os.environ.get("TIDEMARK_TEST_FILE_BYTES"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
    if seconds := os.environ.get("TIDEMARK_TEST_SLOW_RECOVERY"):
        _slow_recovery(float(seconds))
    if seconds := os.environ.get("TIDEMARK_TEST_SLOW_STATE"):
        _slow_state(float(seconds))


class _Fault:
    """A signal to a process when a point is reached for the n-th time, counting steps that say something new."""

    def __init__(self, point: str, count: int, number: signal.Signals, pid: int) -> None:
        if point not in POINTS:
            raise ValueError(f"no such point: {point}")
        self.point = point
        self._left = count
        self._number = number
        self._pid = pid
        self._telling = False

    def reached(self, here: str) -> None:
        if here == self.point:
            self._left -= 1
            if not self._left:
                print(f"{self._number.name} at {here}", flush=True)
                os.kill(self._pid, self._number)

    def around(self, method: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
        async def wrapped(sender: Committer, partition: int, records: Any, *rest: Any) -> Any:
            if name == "outputs":
                self._telling = "tier-changes" in records
            if not self._telling:
                return await method(sender, partition, records, *rest)  # nothing whose repetition would be seen
            self.reached(name)
            sender.step = name  # type: ignore[attr-defined]  # a note for `partly`
            result = await method(sender, partition, records, *rest)
            sender.step = ""  # type: ignore[attr-defined]  # likewise
            self.reached(f"{name}-done")
            return result

        return wrapped

    def partly(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(sender: Committer, sends: list[Any]) -> Any:
            step = getattr(sender, "step", "")
            if sends and step and self.point == f"{step}-partly":
                await asyncio.wait([future for future, _ in sends], return_when=asyncio.FIRST_COMPLETED)
                self.reached(self.point)
            return await method(sender, sends)

        return wrapped

    def commits(self, method: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
        async def wrapped(consumer: MicroBatchConsumer, offsets: Any) -> bool:
            self.reached("commit")
            done = await method(consumer, offsets)
            self.reached("commit-done")
            return done

        return wrapped


def _install_fault(fault: _Fault) -> None:
    Committer.produce = fault.around(Committer.produce, "outputs")  # type: ignore[method-assign]  # the point of this module
    Committer.write = fault.around(Committer.write, "state")  # type: ignore[method-assign]  # likewise
    Committer._all = fault.partly(Committer._all)  # type: ignore[method-assign]  # likewise
    MicroBatchConsumer._commit = fault.commits(MicroBatchConsumer._commit)  # type: ignore[method-assign]  # likewise


def _fail_commits(count: int) -> None:
    commit = AIOKafkaConsumer.commit
    left = count

    async def commits(self: AIOKafkaConsumer, offsets: Any = None) -> None:
        nonlocal left
        if left:
            left -= 1
            print("a commit fails", flush=True)
            raise (NodeNotReadyError, KafkaTimeoutError)[left % 2]
        await commit(self, offsets)

    AIOKafkaConsumer.commit = commits


def _slow_recovery(seconds: float) -> None:
    """Have the first records of an assignment come after recovery has sought them, and before it reads on."""
    update, seek = Fetcher._update_fetch_positions, Recovery._seek_offsets

    async def late_update(self: Fetcher, *args: Any) -> Any:
        await asyncio.sleep(seconds / 2)
        return await update(self, *args)

    async def slow_seek(self: Recovery, *args: Any) -> None:
        await seek(self, *args)
        await asyncio.sleep(seconds)

    Fetcher._update_fetch_positions = late_update
    Recovery._seek_offsets = slow_seek  # type: ignore[method-assign]  # the point of this module


def _slow_state(seconds: float) -> None:
    write = Committer.write

    async def slow_write(self: Committer, *args: Any) -> Any:
        await asyncio.sleep(seconds)
        return await write(self, *args)

    Committer.write = slow_write  # type: ignore[method-assign]  # the point of this module
