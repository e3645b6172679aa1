"""Several processes for pieces of work that do not depend on each other.

Each process is started afresh (no threads or locks are inherited), lets the garbage collector look less often, and ends
with its parent, even where that is killed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from models.errors import TidemarkError
from streams.gc_tuning import tune_gc

A = TypeVar("A")
R = TypeVar("R")


class PoolError(TidemarkError):
    """A process of the run ended, killed or out of memory. Run again with --resume, with fewer --processes."""


class Pool:
    """Calls functions for many arguments, in several processes or, where there is one only, right here."""

    def __init__(self, executor: ProcessPoolExecutor | None) -> None:
        self._executor = executor

    def each(self, function: Callable[[A], R], arguments: Iterable[A]) -> Iterator[tuple[A, R]]:
        """Yield each argument with what the function returned for it, in the order in which they are done.

        Raises what the function raises, and PoolError where a process ended.
        """
        if self._executor is None:
            for argument in arguments:
                yield argument, function(argument)
            return
        asked = {self._executor.submit(function, argument): argument for argument in arguments}
        try:
            for future in as_completed(asked):
                yield asked[future], future.result()
        except BrokenProcessPool:
            raise PoolError("a process of the run ended before its time; --resume goes on, see --processes") from None
        finally:
            for future in asked:
                future.cancel()


@contextmanager
def pool_of(processes: int) -> Iterator[Pool]:
    """Start a pool of so many processes."""
    if processes == 1:
        tune_gc()
        yield Pool(None)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as executor:
        yield Pool(executor)


def _begin() -> None:
    """Set a process of the pool up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its pool in order
    tune_gc()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
