"""Rows of tables (CSV, Parquet) as input events: which column is which field, and how its cell is written in JSON.

Fields are those of the input topics, nested ones with a dot (`consent.marketing`, `attributes.region`). A row becomes a
JSON value, which is then decoded like any other. Only what JSON would hide is refused here: a row with too many or too
few cells, cells that are neither yes nor no, and ids that are none.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec

from models.errors import BadRecord, Reason, Unreadable, UnusableInput
from models.events import CUSTOMER_TOPICS, Topic
from models.identity import check_id

#: Every field that a column may fill, and those without which no row can be an event.
FIELDS: dict[Topic, tuple[str, ...]] = {
    Topic.ORDERS: (*("type", "order_id", "refund_id", "customer_id", "occurred_at", "amount", "margin", "currency"),),
    Topic.INTERACTIONS: ("type", "interaction_id", "customer_id", "occurred_at", "kind", "value", "action_id"),
    Topic.CUSTOMERS: (
        *("customer_id", "birthday", "timezone", "locale", "registered_at", "updated_at"),
        *("consent.marketing", "consent.channels"),
    ),
}
REQUIRED: dict[Topic, tuple[str, ...]] = {
    Topic.ORDERS: ("order_id", "customer_id", "occurred_at"),
    Topic.INTERACTIONS: ("interaction_id", "customer_id", "occurred_at", "kind"),
    Topic.CUSTOMERS: ("customer_id",),
}
#: Interactions and orders are of this type where no column says another.
_TYPES = {Topic.ORDERS: "order.placed", Topic.INTERACTIONS: "interaction"}
_ATTRIBUTES = "attributes."
_FLAGS = dict.fromkeys(("true", "yes", "y", "t", "1", "1.0"), True) | dict.fromkeys(
    ("false", "no", "n", "f", "0", "0.0"), False
)
#: The field under which a mapping has the words that mark an empty cell, separated by NUL.
_EMPTY = "\0"
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

Mapped = Mapping[str, str]
_encode = msgspec.json.Encoder(decimal_format="string").encode


class ColumnsError(UnusableInput):
    """Columns cannot be taken for the fields of events. The message names the column or the field."""


def parse_columns(texts: Iterable[str]) -> dict[Topic, dict[str, str]]:
    """Return the columns by topic and field of texts such as `orders:order_id=basket,amount=total,kind='visit'`.

    Without a topic in front, a text holds for each topic that knows the field. A column's name may contain commas; in
    double quotes, also `=`. What `empty_cells` returns is taken, too. Raises ColumnsError.
    """
    mapped: dict[Topic, dict[str, str]] = {topic: {} for topic in CUSTOMER_TOPICS}
    for text in texts:
        head, colon, rest = text.partition(":")
        named = [topic for topic in CUSTOMER_TOPICS if colon and topic.label == head]
        for pair in _pairs(rest if named else text):
            field, equals, column = (part.strip() for part in pair.partition("="))
            if len(column) > 1 and column[0] == column[-1] == '"':
                column = column[1:-1].strip()
            if field == _EMPTY and column:
                for known in mapped.values():
                    known[_EMPTY] = "\0".join([*filter(None, [known.get(_EMPTY)]), column])
                continue
            if not (field and equals and column):
                raise ColumnsError(f"--columns: found {pair!r}; allowed is field=column, several separated by commas")
            topics = [topic for topic in named or CUSTOMER_TOPICS if _knows(topic, field)]
            if not topics:
                fields = FIELDS[named[0]] if named else sorted({name for names in FIELDS.values() for name in names})
                raise ColumnsError(f"--columns: found the field {field!r}; allowed are {', '.join(fields)}")
            for topic in topics:
                mapped[topic][field] = column
    return mapped


def empty_cells(words: Iterable[str]) -> tuple[str, ...]:
    """Return texts for `parse_columns` that have cells with one of some words count as empty."""
    return tuple(f"{_EMPTY}={word}" for word in words)


class RowMapper:
    """Turns rows of one table into JSON values. Cells are texts, or what Parquet holds."""

    def __init__(self, name: str, topic: Topic, header: Iterable[str], mapped: Mapped) -> None:
        """`mapped` gives columns by field; columns that bear a field's name need not be named. Raises ColumnsError."""
        if topic not in FIELDS:
            raise ColumnsError(f"{name}: {topic.label} are read from JSON lines only")
        columns = [column.strip() for column in header]
        own = {field: column for field, column in mapped.items() if field != _EMPTY}
        chosen = {column: column for column in columns if _knows(topic, column)} | own
        self._nulls = frozenset(mapped.get(_EMPTY, "").split("\0")) | {""}
        constants = {field: column[1:-1] for field, column in chosen.items() if _is_constant(column)}
        self._width = len(columns)
        self._places: list[tuple[int, str, Callable[[Any], Any]]] = []
        for field, column in chosen.items():
            if field in constants:
                continue
            if column not in columns:
                problem = f"column {column!r} is missing; there are {', '.join(columns)}"
                raise ColumnsError(f"{name}: {problem}{_other_delimiter(columns)}")
            if columns.count(column) > 1:
                raise ColumnsError(f"{name}: {columns.count(column)} columns are named {column!r}; rename all but one")
            self._places.append((columns.index(column), field, _READERS.get(field, _text)))
        kind = constants.get("type", None if "type" in chosen else _TYPES.get(topic))
        required = REQUIRED[topic] + (("amount",) if kind == "order.placed" else ())
        missing = [field for field in required if field not in chosen]
        if missing:
            problem = f"no column for {', '.join(missing)}"
            remedy = _other_delimiter(columns) or f"; name it with --columns {missing[0]}=COLUMN"
            raise ColumnsError(f"{name}: {problem}{remedy}")
        try:
            self._constants = {field: _READERS.get(field, _text)(text) for field, text in constants.items()}
        except BadRecord as bad:
            raise ColumnsError(f"--columns: {bad.detail}") from None
        if kind is not None:
            self._constants["type"] = kind

    @property
    def places(self) -> frozenset[int]:
        """The places of the columns that are read, counted from 0."""
        return frozenset(place for place, _, _ in self._places)

    def value(self, row: Sequence[Any]) -> bytes:
        """Return a row as the JSON value of an event, or as `Unreadable`; empty cells are left out."""
        try:
            return _encode(self._event(row))
        except BadRecord as bad:
            return Unreadable(bad.reason, bad.detail, msgspec.json.encode(list(row), enc_hook=str))

    def _event(self, row: Sequence[Any]) -> dict[str, Any]:
        if len(row) != self._width:
            raise BadRecord(
                Reason.BAD_VALUE,
                f"row: found {len(row)} cells, allowed are {self._width}, as in the header; "
                "a cell that contains the delimiter needs quotes",
            )
        event: dict[str, Any] = {}
        for field, constant in self._constants.items():
            _put(event, field, constant)
        for place, field, read in self._places:
            cell = row[place]
            if isinstance(cell, bytes):
                cell = _decoded(field, cell)
            if isinstance(cell, str):
                cell = cell.strip()
            if cell is None or (isinstance(cell, str) and cell in self._nulls) or cell != cell:  # noqa: PLR0124  # a float that is no number means empty
                continue
            _put(event, field, read(cell))
        return event


def _pairs(text: str) -> list[str]:
    """Return what lies between the commas that separate fields. A piece without `=` belongs to the name before it."""
    pairs: list[str] = []
    for piece in text.split(","):
        column = pairs[-1].partition("=")[2].strip() if pairs else ""
        quoted = column[:1] in {'"', "'"} and (len(column) == 1 or column[-1] != column[0])
        if pairs and (quoted or "=" not in piece):
            pairs[-1] += f",{piece}"
        else:
            pairs.append(piece)
    return pairs


def _other_delimiter(columns: Sequence[str]) -> str:
    """Return the remedy if a header seems to be separated by something else than the suffix says, else ""."""
    header = "".join(columns)
    found = max(_DELIMITERS, key=header.count)
    if header.count(found) < max(1, len(columns)):
        return ""
    remedy = "rename it to .tsv" if found == "\t" else "write it with commas"
    return f"; its header seems to be separated by {_DELIMITERS[found]}: {remedy}"


def _decoded(field: str, cell: bytes) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        raise BadRecord(
            Reason.BAD_VALUE, f"{field}: found bytes that are not UTF-8; write the column as text"
        ) from None


def _knows(topic: Topic, field: str) -> bool:
    if topic is Topic.CUSTOMERS and field.startswith(_ATTRIBUTES):
        return len(field) > len(_ATTRIBUTES)
    return field in FIELDS[topic]


def _is_constant(column: str) -> bool:
    return len(column) >= 2 and column[0] == column[-1] == "'"


def _put(event: dict[str, Any], field: str, value: Any) -> None:
    outer, dot, inner = field.partition(".")
    if dot:
        event.setdefault(outer, {})[inner] = value
    else:
        event[field] = value


def _id(field: str, cell: Any) -> str:
    if isinstance(cell, bool) or not isinstance(cell, str | int | Decimal | UUID):
        found = f"found a cell of type {type(cell).__name__}"
        raise BadRecord(Reason.BAD_VALUE, f"{field}: {found}; write the column as text or as whole numbers")
    text = str(cell)
    if "\n" in text or "\r" in text:
        raise BadRecord(Reason.BAD_VALUE, f"{field}: found a line's end; is there a quote without its other before it?")
    check_id(field, text)
    return text


def _text(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _plain(cell: Any) -> Any:
    """As the table has it: a text stays one, so that the decoder says what is wrong with it."""
    return cell if isinstance(cell, int | float | str) else str(cell)


def _amount(cell: Any) -> Any:
    return str(cell) if isinstance(cell, Decimal) else _plain(cell)


def _instant(cell: Any) -> Any:
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    return int(cell) if isinstance(cell, str) and cell.isdecimal() and len(cell) < 20 else _plain(cell)


def _birthday(cell: Any) -> Any:
    """A day that a table holds as a midnight is a day."""
    return cell.date().isoformat() if isinstance(cell, datetime) and cell.time() == time() else _text(cell)


def _number(cell: Any) -> Any:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return _plain(cell)
    return number if isfinite(number) and "_" not in str(cell) else str(cell)


def _flag(cell: Any) -> Any:
    flag = cell if isinstance(cell, bool) else _FLAGS.get(str(cell).lower())
    if flag is None:
        allowed = "true, yes, y, t, 1 and false, no, n, f, 0"
        raise BadRecord(Reason.BAD_VALUE, f"consent.marketing: found neither yes nor no; allowed are {allowed}")
    return flag


def _list(cell: Any) -> Any:
    if isinstance(cell, list | tuple):
        return list(cell)
    text = str(cell)
    if text.startswith("["):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError:
            return text  # which the decoder refuses
    parts = text.replace("|", ";").replace(",", ";").split(";")
    return [part.strip() for part in parts if part.strip()]


_READERS: dict[str, Callable[[Any], Any]] = {
    **{name: partial(_id, name) for name in ("customer_id", "order_id", "refund_id", "interaction_id", "action_id")},
    "birthday": _birthday,
    "occurred_at": _instant,
    "registered_at": _instant,
    "updated_at": _instant,
    "amount": _amount,
    "margin": _amount,
    "value": _number,
    "consent.marketing": _flag,
    "consent.channels": _list,
}
