"""Running a worker in this process, under Faust's own supervisor, with our logging and a bounded shutdown."""

import asyncio
import logging
import os
import signal
import socket

import faust

from config.settings import PREFIX, Settings
from config.settings_file import unknown_variables
from models.errors import TidemarkError
from streams.gc_tuning import tune_gc
from streams.kafka.topics import TopicsError, check_topics
from streams.worker.app import build
from streams.worker.logs import set_up_logging
from streams.worker.watchdog import end_within

log = logging.getLogger(__name__)


class _Worker(faust.Worker):
    """Faust's supervisor, whose shutdown takes a bounded time."""

    stop_within_s = 25.0

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        log.info("stopping on %s: batches under way are finished and committed", signal.name)
        end_within(self.stop_within_s, "the worker was asked to stop")
        super()._schedule_shutdown(signal)


def run_worker(settings: Settings) -> None:
    """Run a worker until a signal stops it; exits the process with Faust's exit code.

    Raises TopicsError if topics are not as they should be, BrokerError if no broker answers, TidemarkError if the web
    port is taken, UnusableInput as `build`.
    """
    set_up_logging(settings.log_level, settings.log_format)
    tune_gc()
    refuse_wrong_topics(settings)
    refuse_taken_port(settings)
    if others := unknown_variables(PREFIX, set(Settings.model_fields))[1]:
        log.info("no settings, and ignored: %s", ", ".join(others))
    app = build(settings)
    app.own_process()
    worker = _Worker(app, loglevel=None, logfile=None, redirect_stdouts=False, override_logging=False, quiet=True)
    worker.spinner = None  # only log lines are written
    log.info("a worker of %s, with the broker at %s", settings.app_id, settings.broker)
    worker.stop_within_s = settings.stop_within / 1000
    worker.execute_from_commandline()


def refuse_taken_port(settings: Settings) -> None:
    """Raise TidemarkError if nothing can listen on the web address."""
    try:
        family = socket.AF_INET6 if ":" in settings.web_host else socket.AF_INET
        with socket.create_server((settings.web_host, settings.web_port), family=family):
            pass
    except OSError as error:
        raise TidemarkError(
            f"{PREFIX}WEB_PORT: {settings.web_host}:{settings.web_port} cannot be listened on: "
            f"{os.strerror(error.errno) if error.errno else error}; end what listens there, or choose another port"
        ) from None


def refuse_wrong_topics(settings: Settings) -> None:
    """Raise TopicsError if topics are missing, differ in partitions or are not compacted: state would be lost in them.

    Raises BrokerError if no broker answers.
    """
    # On an event loop of its own, which does not stay the thread's: Faust makes its own.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        mistakes = runner.run(check_topics(settings))
    if mistakes:
        raise TopicsError(
            f"the topics are not as they should be: {'; '.join(mistakes)}. `tidemark topics create` creates what is "
            "missing; what is there must be corrected on the broker"
        )
