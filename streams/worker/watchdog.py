"""The end of a process that does not end by itself: with no broker to answer, Faust's shutdown never does."""

import logging
import os
import threading

log = logging.getLogger(__name__)


def end_within(seconds: float, why: str) -> None:
    """Have this process end after so many seconds, with status 1, unless it has ended by then. State is on Kafka."""
    watchdog = threading.Timer(seconds, _end, (seconds, why))
    watchdog.daemon = True
    watchdog.start()


def _end(seconds: float, why: str) -> None:
    log.error("%s, and did not end within %g s: it is ended now", why, seconds)
    logging.shutdown()
    os._exit(1)
