"""Rows of tables (CSV, Parquet) as input events: which column is which field, and how its cell is written in JSON.

Fields are those of the input topics, nested ones with a dot (`consent.marketing`, `attributes.region`). Nothing is read
here, and nothing is checked but names: a row becomes a JSON value, which is then decoded like any other.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from models.errors import BadRecord, Reason, Unreadable, UnusableInput
from models.events import CUSTOMER_TOPICS, Topic

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
_IDS = ("customer_id", "order_id", "refund_id", "interaction_id", "action_id")
_YES = ("true", "yes", "y", "t", "on", "1", "1.0")
_NO = ("false", "no", "n", "f", "off", "0", "0.0")
#: Words that tables write for "nothing". No id may be one of them.
_NOTHING = frozenset({"null", "none", "nan", "nil", "n/a", "\\n", "undefined"})
#: The field under which a mapping has the words that mark an empty cell, separated by NUL.
_EMPTY = "\0"
#: Pairs of `--columns`: a comma within double quotes is a part of a column's name.
_PAIRS = re.compile(r'(?:[^,"]|"[^"]*")+')
_WHOLE_FLOAT = re.compile(r"(\d+)\.0", re.ASCII)
_ROUNDED = re.compile(r"\d(\.\d+)?[eE]\+?\d+", re.ASCII)
#: The largest whole number (exclusive) that a float holds exactly.
_EXACT = 2**53

Mapped = Mapping[str, str]
_encode = msgspec.json.Encoder(decimal_format="string").encode


class ColumnsError(UnusableInput):
    """Columns cannot be taken for the fields of events. The message names the column or the field."""


def parse_columns(texts: Iterable[str]) -> dict[Topic, dict[str, str]]:
    """Return the columns by topic and field of texts such as `orders:order_id=basket,amount=total,kind='visit'`.

    Without a topic in front, a text holds for each topic that knows the field. A column's name may stand in double
    quotes. What `empty_cells` returns is taken, too. Raises ColumnsError.
    """
    mapped: dict[Topic, dict[str, str]] = {topic: {} for topic in CUSTOMER_TOPICS}
    for text in texts:
        head, colon, rest = text.partition(":")
        named = [topic for topic in CUSTOMER_TOPICS if colon and topic.label == head]
        for pair in _PAIRS.findall(rest if named else text) or [text]:
            field, equals, column = (part.strip() for part in pair.partition("="))
            if len(column) > 1 and column[0] == column[-1] == '"':
                column = column[1:-1]
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
        self._width, self._nulls = len(columns), frozenset(mapped.get(_EMPTY, "").split("\0")) | {""}
        constants = {field: column[1:-1] for field, column in chosen.items() if _is_constant(column)}
        self._places: list[tuple[int, str, Callable[[Any], Any]]] = []
        for field, column in chosen.items():
            if field in constants:
                continue
            if column not in columns:
                raise ColumnsError(
                    f"{name}: column {column!r} is missing; there are {', '.join(columns)}{_hint(columns)}"
                )
            if columns.count(column) > 1:
                raise ColumnsError(f"{name}: found {columns.count(column)} columns {column!r}; rename all but one")
            self._places.append((columns.index(column), field, _READERS.get(field, _text)))
        kind = constants.get("type", None if "type" in chosen else _TYPES.get(topic))
        required = REQUIRED[topic] + (("amount",) if kind == "order.placed" else ())
        missing = [field for field in required if field not in chosen]
        if missing:
            names = ", ".join(missing)
            raise ColumnsError(
                f"{name}: no column for {names}; name it with --columns {missing[0]}=COLUMN{_hint(columns)}"
            )
        self._constants = {field: _READERS.get(field, _text)(text) for field, text in constants.items()}
        if kind is not None:
            self._constants["type"] = kind

    def value(self, row: Sequence[Any]) -> bytes:
        """Return a row as the JSON value of an event; empty cells are left out. One that cannot be is `Unreadable`."""
        if len(row) != self._width:
            detail = f"row: found {len(row)} cells, allowed are {self._width} as in the header"
            return self._refuse(row, Reason.WRONG_TYPE, f"{detail}; a cell that holds the delimiter stands in quotes")
        event: dict[str, Any] = {}
        for field, constant in self._constants.items():
            _put(event, field, constant)
        try:
            for place, field, read in self._places:
                cell = row[place]
                if isinstance(cell, bytes):
                    cell = cell.decode()
                if isinstance(cell, str):
                    cell = cell.strip()
                if cell is None or cell in self._nulls or cell != cell:  # noqa: PLR0124  # NaN differs from itself
                    continue
                _put(event, field, read(cell))
        except BadRecord as bad:
            return self._refuse(row, bad.reason, f"{field}: {bad.detail}")
        except UnicodeDecodeError:
            return self._refuse(row, Reason.WRONG_TYPE, f"{field}: allowed is text in UTF-8")
        return _encode(event)

    @staticmethod
    def _refuse(row: Sequence[Any], reason: Reason, detail: str) -> bytes:
        return Unreadable(reason, detail, _encode([str(cell) for cell in row]))


def _hint(columns: Sequence[str]) -> str:
    """Return what to do if a header is one cell that another delimiter would divide, else nothing."""
    delimiter = next((each for each in (";", "\t", "|") if len(columns) == 1 and each in columns[0]), None)
    if delimiter is None:
        return ""
    name = "tab" if delimiter == "\t" else delimiter
    return f". The delimiter looks like {name!r}: save the table with commas, or as .tsv with tabs"


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


def _text(cell: Any) -> Any:
    return cell.isoformat() if isinstance(cell, date) else str(cell)


def _id(cell: Any) -> str:
    """Return an id as text. Whole floats are what tables make of whole numbers beside empty cells."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return str(int(cell))
    text = str(cell)
    if text.lower() in _NOTHING:
        found = f"found {text!r}, which stands for nothing"
        raise BadRecord(Reason.MISSING_FIELD, f"{found}; with --null {text} such cells are empty")
    if match := _WHOLE_FLOAT.fullmatch(text):
        return match[1]
    if isinstance(cell, float) or _ROUNDED.fullmatch(text):
        raise BadRecord(Reason.BAD_VALUE, f"found {text!r}, a rounded number: write ids as text")
    return text


def _birthday(cell: Any) -> Any:
    return cell.date().isoformat() if isinstance(cell, datetime) else _text(cell)


def _plain(cell: Any) -> Any:
    """As the table has it: a text stays one, so that the decoder says what is wrong with it."""
    return cell if isinstance(cell, int | float | str) else str(cell)


def _amount(cell: Any) -> Any:
    return str(cell) if isinstance(cell, Decimal) else _plain(cell)


def _instant(cell: Any) -> Any:
    if isinstance(cell, datetime | date):
        return cell.isoformat()
    return int(cell) if isinstance(cell, str) and cell.isdecimal() else _plain(cell)


def _number(cell: Any) -> Any:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return _plain(cell)


def _flag(cell: Any) -> bool:
    text = str(cell).lower()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise BadRecord(Reason.BAD_VALUE, f"found {cell!r}, allowed are {', '.join(_YES)} and {', '.join(_NO)}")


def _list(cell: Any) -> list[str]:
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = msgspec.json.decode(cell)
        except msgspec.DecodeError:
            raise BadRecord(Reason.BAD_VALUE, f"found {cell!r}, allowed are names, separated by semicolons") from None
    parts = cell if isinstance(cell, list | tuple) else re.split("[;|,]", str(cell))
    return [name for part in parts if (name := str(part).strip().lower())]


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_IDS, _id),
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
