"""Log lines: one shape for people, one for machines, and where it happened in both."""

import json
import logging
import sys

import pytest

from models.errors import TidemarkError
from streams.worker.logs import Console, Json, set_up_logging


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("streams.worker.loop", logging.WARNING, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


def test_a_line_for_people_ends_with_the_place() -> None:
    line = Console().format(record("%d rows", 3, topic="orders", partition=0, offset=7, customer="ann"))
    assert line.endswith(" WARNING streams.worker.loop: 3 rows [topic=orders partition=0 offset=7]")
    assert Console().format(record("fine")).endswith("WARNING streams.worker.loop: fine")


def test_a_line_for_machines_is_one_object() -> None:
    told = json.loads(Json().format(record("%d rows", 3, topic="orders", partition=0, offset=7, customer="ann")))
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "streams.worker.loop",
        "message": "3 rows",
        "topic": "orders",
        "partition": 0,
        "offset": 7,
    }


def test_an_exception_stays_on_the_line() -> None:
    made = record("it went wrong")
    try:
        int("two\nlines")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = Json().format(made)
    assert "\n" not in line
    assert "Traceback" in json.loads(line)["exception"]


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_upstream_chatter_is_left_out_unless_asked_for(
    level: str, told: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, loggers = logging.getLogger(), [logging.getLogger(name) for name in ("faust", "mode", "aiokafka", "asyncio")]
    monkeypatch.setattr(root, "handlers", [])
    before = root.level, [logger.level for logger in loggers]
    try:
        set_up_logging(level, "json")
        logging.getLogger("aiokafka.client").info("chatter")
        logging.getLogger("aiokafka.conn").debug("a password")
        logging.getLogger("faust.app").debug("a customer")
        logging.getLogger("streams.worker.app").info("[^Worker]: chatter")
        logging.getLogger("streams.worker.app").info("ours")
        logging.getLogger("streams.worker.app").error("[^Worker]: Crashed reason=%r", TidemarkError("a row"))
        logging.getLogger("streams.worker.app").error("[^Worker]: Crashed reason=%r", OSError("a bug"))
    finally:
        root.setLevel(before[0])
        for logger, old in zip(loggers, before[1], strict=True):
            logger.setLevel(old)
    lines = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    assert "ours" in lines
    assert not {"a password", "a customer"} & {*lines}
    assert any("chatter" in line for line in lines) is told
    assert any("a bug" in line for line in lines)
    assert any("a row" in line for line in lines) is told, "the worker says in one line why it ends"
