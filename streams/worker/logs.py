"""Log lines for people (`console`) or machines (`json`), with the place of an event and never the customer.

Callers pass topic, partition and offset as `extra`. Keys, values and customers are not logged.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from aiohttp.http_exceptions import HttpProcessingError

from models.errors import TidemarkError

#: The `extra` attributes that a line shows besides its message.
PLACES = ("topic", "partition", "offset")
#: Chatty upstream loggers: only their warnings are shown.
_QUIET = ("faust", "mode", "aiokafka", "asyncio")


class Console(logging.Formatter):
    """One line for each event, for people; an exception follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the library's name
        """Return the line, with the place at its end."""
        place = " ".join(f"{name}={value}" for name, value in _places(record).items())
        return super().formatMessage(record) + (f" [{place}]" if place else "")


class Json(logging.Formatter):
    """One JSON object a line, for machines: time (RFC 3339, UTC), level, logger, message, place, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as text."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_places(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _places(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in PLACES if (value := getattr(record, name, None)) is not None}


def set_up_logging(level: str, form: Literal["console", "json"] = "console") -> None:
    """Log to stderr; of upstream libraries only warnings and errors are shown, unless `level` is debug: then also INFO.

    At their own debug level, the clients log requests with passwords and tokens, and records with their bytes.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Console())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        handler.addFilter(_is_not_faust_chatter)
        handler.addFilter(_is_not_a_repetition)
    handler.addFilter(_shorten_bad_requests)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING if level != "debug" else logging.INFO)


def _shorten_bad_requests(record: logging.LogRecord) -> bool:
    """Make one line of aiohttp's traceback for a request that is not HTTP: nothing is wrong on this side."""
    if record.name == "aiohttp.server" and record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.msg, record.args, record.exc_info = "a request that is not valid HTTP was refused", (), None
    return True


def _is_not_faust_chatter(record: logging.LogRecord) -> bool:
    # Faust's services log under the module of their subclass, with a bracket as mark.
    return record.levelno > logging.INFO or not str(record.msg).startswith("[^")


def _is_not_a_repetition(record: logging.LogRecord) -> bool:
    """Return False for Faust's and asyncio's traceback of an error raised on purpose, which was logged in one line."""
    again = record.name == "asyncio" or str(record.msg).startswith("[^")
    errors = [each for each in record.args or () if isinstance(each, BaseException)]  # Faust's "Crashed reason=%r"
    if record.exc_info and record.exc_info[1] is not None:
        errors.append(record.exc_info[1])
    ours = again and any(_comes_of_ours(error) for error in errors)
    return not (ours or str(record.msg).endswith("Reraising original exception..."))


def _comes_of_ours(error: BaseException | None) -> bool:
    """Return whether an error was raised on purpose, or while one was handled (the loop may be closed by then)."""
    while error is not None and not isinstance(error, TidemarkError):
        error = error.__cause__ or error.__context__
    return error is not None
