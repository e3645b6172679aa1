"""Ending a process that does not end by itself: if no broker answers, Faust's shutdown never finishes."""

import logging
import os
import threading

log = logging.getLogger(__name__)


def end_within(seconds: float, why: str) -> None:
    """End this process with status 1 if it still runs after `seconds`. No state is lost: it is on Kafka.

    `why` begins the log line: "the worker was asked to stop, and did not end within …".
    """
    watchdog = threading.Timer(seconds, _end, (seconds, why))
    watchdog.daemon = True
    watchdog.start()


def _end(seconds: float, why: str) -> None:
    log.error("%s, and did not end within %g s: it is ended now", why, seconds)
    logging.shutdown()
    os._exit(1)
