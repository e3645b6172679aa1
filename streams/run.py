"""Running a worker in this process, under Faust's own supervisor, with our logging."""

import logging
import sys

import faust

from config.settings import Settings
from models.errors import TidemarkError
from streams.app import build
from streams.collector import calm

#: Chatty upstream loggers, and the level below which nobody needs them.
_QUIET = {"faust": logging.WARNING, "mode": logging.WARNING, "aiokafka": logging.WARNING, "asyncio": logging.WARNING}


def set_up_logging(level: str) -> None:
    """Log to stderr, one line an event, upstream only where something is wrong."""
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    if level != "debug":
        logging.getLogger().handlers[0].addFilter(_is_not_faust_chatter)
        logging.getLogger().handlers[0].addFilter(_is_not_told_already)
        for name, quiet in _QUIET.items():
            logging.getLogger(name).setLevel(quiet)


def _is_not_faust_chatter(record: logging.LogRecord) -> bool:
    # Faust's services log under the module of whatever subclasses them, marked by a bracket.
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


def _is_not_told_already(record: logging.LogRecord) -> bool:
    """Faust and asyncio tell of a crash again: an error raised on purpose has said in a line what is to be done."""
    again = record.name == "asyncio" or str(record.msg).startswith("[^")
    return not (
        str(record.msg).endswith("Reraising original exception...")
        or (again and record.exc_info and isinstance(record.exc_info[1], TidemarkError))
    )


def run_worker(settings: Settings) -> None:
    """Run a worker until it is told to stop; exits the process with Faust's exit code."""
    set_up_logging(settings.log_level)
    calm()
    app = build(settings)
    app.owns_process = True
    worker = faust.Worker(app, loglevel=None, logfile=None, redirect_stdouts=False, override_logging=False)
    worker.execute_from_commandline()
