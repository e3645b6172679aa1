"""Compares two replays, or a replay with what a live deployment has published.

A tier change is matched by customer, scheme and sequence, an action by its id. Two files are read side by side in their
own order, so memory grows only with the number of differences.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from config.settings import Settings
from models.errors import UnusableInput
from models.instants import parse_instant
from streams.kafka.clients import TIMEOUT_S
from streams.kafka.range_reader import bounds, consumer_of, partitions_of
from streams.kafka.records import TIER_CHANGES
from streams.kafka.topics import BrokerError

#: These stand for a topic in place of a directory: the live one, or another, as in `topic:tier-changes-shadow`.
LIVE = "live"
TOPIC = "topic:"
#: `decided_at` comes from the wall clock in a live deployment.
_NOT_COMPARED_LIVE = frozenset({"decided_at"})

Record = dict[str, Any]
Key = tuple[Any, ...]


class DiffError(UnusableInput):
    """There is nothing to compare. The message says what is missing."""


class Kind(NamedTuple):
    """An output to compare: `identity` names a record, `order` is the sort key of its file."""

    file: str
    identity: Callable[[Record], Key]
    order: Callable[[Record], Key]


def _change_identity(change: Record) -> Key:
    return change["customer_id"], change["scheme"], change["sequence"]


def _origin(letter: Record) -> Key:
    return tuple(str(letter.get(name, "")) for name in ("file", "line", "topic", "partition", "offset"))


KINDS = (
    Kind(
        "tier-changes.jsonl",
        _change_identity,
        lambda change: (parse_instant(change["effective_at"]), *_change_identity(change)),
    ),
    Kind(
        "care-actions.jsonl",
        lambda action: (action["action_id"],),
        lambda action: (parse_instant(action["due_at"]), action["customer_id"], action["rule"], action["action_id"]),
    ),
    Kind("customers.jsonl", lambda state: (state["customer_id"],), lambda state: (state["customer_id"],)),
    Kind("dead-letters.jsonl", _origin, lambda _letter: ()),  # the file keeps the order of the input
)


class Different(NamedTuple):
    """A record that both sides have, with the first field that differs and its two values."""

    identity: Key
    field: str
    found: tuple[Any, Any]


@dataclass
class OutputDiff:
    """The differences in one output: `missing` records are only on the first side, `extra` only on the second."""

    file: str
    same: int = 0
    missing: list[Key] = field(default_factory=list)
    extra: list[Key] = field(default_factory=list)
    different: list[Different] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different)


def compare(first: str, second: str, settings: Callable[[], Settings]) -> list[OutputDiff]:
    """Compare two directories, or a directory and a topic of tier changes; return one OutputDiff per output.

    `settings` is called only if a topic is compared. Raises DiffError, BrokerError.
    """
    topics = [side for side in (first, second) if side == LIVE or side.startswith(TOPIC)]
    if not topics:
        kinds = [kind for kind in KINDS if any([_has(first, kind), _has(second, kind)])]
        if not kinds:
            raise DiffError(f"{first} and {second} contain no outputs of a replay")
        return [_compare_files(kind, Path(first), Path(second)) for kind in kinds]
    return [_compare_with_topic(first, second, settings())]


def _has(side: str, kind: Kind) -> bool:
    if not Path(side).is_dir():
        raise DiffError(f"{side} is not a directory; allowed are directories of replays, {LIVE} and {TOPIC}NAME")
    return (Path(side) / kind.file).exists()


def _compare_files(kind: Kind, first: Path, second: Path) -> OutputDiff:
    """Read both files side by side; records that do not line up are matched by identity afterwards."""
    comparison = OutputDiff(kind.file)
    left: dict[Key, Record] = {}
    right: dict[Key, Record] = {}
    with ExitStack() as stack:
        a, b = (stack.enter_context(_opened(side / kind.file)) for side in (first, second))
        one, two = next(a, None), next(b, None)
        while one is not None or two is not None:
            if one == two:
                comparison.same += 1
                one, two = next(a, None), next(b, None)
                continue
            x, y = (None if line is None else _parsed(line, kind.file) for line in (one, two))
            ahead = None if x is None or y is None else (kind.order(x), kind.order(y))
            if x is not None and (ahead is None or ahead[0] <= ahead[1]):
                left[kind.identity(x)] = x
                one = next(a, None)
            if y is not None and (ahead is None or ahead[1] <= ahead[0]):
                right[kind.identity(y)] = y
                two = next(b, None)
    _match(comparison, left, right, frozenset())
    return comparison


def _match(comparison: OutputDiff, left: dict[Key, Record], right: dict[Key, Record], ignored: frozenset[str]) -> None:
    comparison.missing = sorted(left.keys() - right.keys())
    comparison.extra = sorted(right.keys() - left.keys())
    for identity in sorted(left.keys() & right.keys()):
        differing = _first_difference(left[identity], right[identity], ignored)
        if differing is None:
            comparison.same += 1
        else:
            comparison.different.append(Different(identity, *differing))


def _first_difference(one: Record, two: Record, ignored: frozenset[str]) -> tuple[str, tuple[Any, Any]] | None:
    """Return the first field that differs and its values. `event_id` comes last: it follows from the others."""
    names = [name for name in dict.fromkeys([*one, *two]) if name not in ignored]
    for name in sorted(names, key=lambda name: name == "event_id"):
        if one.get(name) != two.get(name):
            return name, (one.get(name), two.get(name))
    return None


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise DiffError(f"{path} cannot be read: {error.strerror}") from None


def _parsed(line: bytes, file: str) -> Record:
    try:
        record: Record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DiffError(f"{file}: a line is not JSON: {error}") from None
    return record


# --- topics -------------------------------------------------------------------------------------------------


def _compare_with_topic(first: str, second: str, settings: Settings) -> OutputDiff:
    """Compare tier changes up to the instant that the replay reached: the topic may have later ones."""
    sides, until = [], None
    for side in (first, second):
        if side != LIVE and not side.startswith(TOPIC):
            until = _until(Path(side))
    for side in (first, second):
        if side == LIVE or side.startswith(TOPIC):
            name = settings.topic(TIER_CHANGES if side == LIVE else side.removeprefix(TOPIC))
            records = asyncio.run(_read_topic(settings, name))
        else:
            with _opened(Path(side) / KINDS[0].file) as file:
                records = [_parsed(line, KINDS[0].file) for line in file]
        sides.append(
            {
                _change_identity(change): change
                for change in records
                if until is None or parse_instant(change["effective_at"]) <= until
            }
        )
    comparison = OutputDiff(TIER_CHANGES)
    _match(comparison, sides[0], sides[1], _NOT_COMPARED_LIVE)
    return comparison


def _until(directory: Path) -> int | None:
    with _opened(directory / "summary.json") as file:
        until = _parsed(file.read(), "summary.json").get("until")
    return None if until is None else parse_instant(until)


async def _read_topic(settings: Settings, name: str) -> list[Record]:
    """Return the changes now in a topic, each once, as first published. Raises BrokerError."""
    return [change async for change in _changes(settings, name)]


async def _changes(settings: Settings, name: str) -> Any:
    seen = set()
    tps = await partitions_of(settings, [name])
    async with consumer_of(settings) as consumer:
        begins, ends = await bounds(consumer, tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        last_answer = time.monotonic()
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            chunks = await consumer.getmany(timeout_ms=200)
            last_answer = time.monotonic() if chunks else last_answer
            if time.monotonic() - last_answer > TIMEOUT_S:
                raise BrokerError(f"the broker at {settings.broker} stopped answering for {name}")
            for records in chunks.values():
                for record in records:
                    change = _parsed(record.value or b"{}", name)
                    if change and change["event_id"] not in seen:
                        seen.add(change["event_id"])
                        yield change
