"""Rows of tables (CSV, Parquet) as input events: which column is which field, and how its cell is written in JSON.

Fields are those of the input topics, nested ones with a dot (`consent.marketing`, `attributes.region`). Nothing is read
here, and nothing is checked but names: a row becomes a JSON value, which is then decoded like any other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import msgspec

from models.errors import UnusableInput
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
_TRUE = frozenset({"true", "yes", "y", "t", "1"})

Mapped = Mapping[str, str]
_encode = msgspec.json.Encoder(decimal_format="string").encode


class ColumnsError(UnusableInput):
    """Columns cannot be taken for the fields of events. The message names the column or the field."""


def parse_columns(texts: Iterable[str]) -> dict[Topic, dict[str, str]]:
    """Return the columns by topic and field of texts such as `orders:order_id=basket,amount=total,kind='visit'`.

    Without a topic in front, a text holds for each topic that knows the field. Raises ColumnsError.
    """
    mapped: dict[Topic, dict[str, str]] = {topic: {} for topic in CUSTOMER_TOPICS}
    for text in texts:
        head, colon, rest = text.partition(":")
        named = [topic for topic in CUSTOMER_TOPICS if colon and topic.label == head]
        for pair in (rest if named else text).split(","):
            field, equals, column = (part.strip() for part in pair.partition("="))
            if not (field and equals and column):
                raise ColumnsError(f"--columns: found {pair!r}; allowed is field=column, several separated by commas")
            topics = [topic for topic in named or CUSTOMER_TOPICS if _knows(topic, field)]
            if not topics:
                fields = FIELDS[named[0]] if named else sorted({name for names in FIELDS.values() for name in names})
                raise ColumnsError(f"--columns: found the field {field!r}; allowed are {', '.join(fields)}")
            for topic in topics:
                mapped[topic][field] = column
    return mapped


class RowMapper:
    """Turns rows of one table into JSON values. Cells are texts, or what Parquet holds."""

    def __init__(self, name: str, topic: Topic, header: Iterable[str], mapped: Mapped) -> None:
        """`mapped` gives columns by field; columns that bear a field's name need not be named. Raises ColumnsError."""
        if topic not in FIELDS:
            raise ColumnsError(f"{name}: {topic.label} are read from JSON lines only")
        columns = list(header)
        chosen = {column: column for column in columns if _knows(topic, column)} | dict(mapped)
        constants = {field: column[1:-1] for field, column in chosen.items() if _is_constant(column)}
        self._places: list[tuple[int, str, Callable[[Any], Any]]] = []
        for field, column in chosen.items():
            if field in constants:
                continue
            if column not in columns:
                raise ColumnsError(f"{name}: column {column!r} is missing; there are {', '.join(columns)}")
            self._places.append((columns.index(column), field, _READERS.get(field, _text)))
        kind = constants.get("type", None if "type" in chosen else _TYPES.get(topic))
        required = REQUIRED[topic] + (("amount",) if kind == "order.placed" else ())
        missing = [field for field in required if field not in chosen]
        if missing:
            names = ", ".join(missing)
            raise ColumnsError(f"{name}: no column for {names}; name it with --columns {missing[0]}=COLUMN")
        self._constants = {field: _READERS.get(field, _text)(text) for field, text in constants.items()}
        if kind is not None:
            self._constants["type"] = kind

    def value(self, row: Sequence[Any]) -> bytes:
        """Return a row as the JSON value of an event; empty cells are left out."""
        event: dict[str, Any] = {}
        for field, constant in self._constants.items():
            _put(event, field, constant)
        for place, field, read in self._places:
            cell = row[place] if place < len(row) else None
            if cell is not None and cell != "":
                _put(event, field, read(cell))
        return _encode(event)


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


def _flag(cell: Any) -> Any:
    return cell if isinstance(cell, bool) else str(cell).strip().lower() in _TRUE


def _list(cell: Any) -> Any:
    return (
        list(cell)
        if isinstance(cell, list | tuple)
        else [part for part in str(cell).replace("|", ";").split(";") if part]
    )


_READERS: dict[str, Callable[[Any], Any]] = {
    "occurred_at": _instant,
    "registered_at": _instant,
    "updated_at": _instant,
    "amount": _amount,
    "margin": _amount,
    "value": _number,
    "consent.marketing": _flag,
    "consent.channels": _list,
}
