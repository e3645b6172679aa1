"""One customer's whole state, and its compact bytes as a changelog row.

A row is a version byte, the next due instant (8 bytes), the fingerprint of the policy versions it was evaluated under
(4 bytes), and a msgpack array. An index can be built from the first 13 bytes without decoding more. Fields are only
ever added at the end of the array, with defaults, so a row of an older release stays readable. `models.engine` decides;
nothing here does.
"""

import struct
import sys
from array import array

import msgspec

from models.customer.interactions import Interactions
from models.customer.ledger import Adjustment, Ledger
from models.errors import TidemarkError
from models.events import Interaction, OrderCancelled, OrderPlaced, OrderRefunded, Profile
from models.instants import MIN_INSTANT

ROW_VERSION = 1
#: A release that changes the layout of rows raises their version by one. No row begins with more than this.
MAX_VERSION = 15
#: The due instant of a customer for whom time alone changes nothing.
NEVER = 2**63 - 1

_HEADER = struct.Struct("<BqI")

if sys.byteorder != "little":
    raise TidemarkError("tidemark keeps its rows in little-endian order and runs on such machines only")


class Standing(msgspec.Struct, array_like=True, gc=False):
    """A customer's tier in one scheme, since when (ms), and since when they have been below it (ms), if they are.

    `sequence` counts the changes emitted so far.
    """

    tier: str
    since: int
    below_since: int | None = None
    sequence: int = 0


class Mark(msgspec.Struct, array_like=True, gc=False):
    """What a care rule remembers of a customer: the last occasion, whether it holds, when it is due.

    `holding` is the level if the rule has several. `fired` (ms) is the last firing, kept if firings must lie apart.
    `due` is in ms.
    """

    occasion: int | None = None
    holding: int | bool = False
    due: int | None = None
    fired: int | None = None


class Sent(msgspec.Struct, array_like=True, gc=False):
    """An action emitted at `at` (ms), kept while caps, cool-downs, groups or outcomes need it. `outcomes`: bits."""

    at: int
    rule: str
    kind: str
    action: int
    tier: str | None
    holdout: bool
    outcomes: int = 0


class DeferredAction(msgspec.Struct, array_like=True, gc=False):
    """An action that waits until quiet hours end at `due` (ms). Its occasion arose at `since` (ms)."""

    due: int
    rule: str
    occasion: str
    since: int
    why: list[tuple[str, str | float | int | None, str, str | float | int, bool]]
    template: str
    tier: str | None
    anchor: int | None


class Care(msgspec.Struct, array_like=True, gc=False):
    """What care remembers beyond its rules' marks. `seen` holds the latest instant (ms) by kind of interaction."""

    seen: dict[str, int] = {}
    log: list[Sent] = []
    held: list[DeferredAction] = []


class Counters(msgspec.Struct, array_like=True, gc=False):
    """The number of the customer's events by what they came to."""

    events: int = 0
    duplicates: int = 0
    conflicts: int = 0
    expired: int = 0
    late: int = 0
    unknown_kinds: int = 0


class _Row(msgspec.Struct, array_like=True, gc=False):
    cursor: int | None
    due: int
    first_at: int | None
    orders: tuple[bytes, bytes, bytes, bytes]
    adjusted: dict[int, Adjustment]
    folded: tuple[int, int | None]
    interactions: tuple[bytes, bytes, list[str], list[int | None]]
    profile: Profile | None
    unsubscribed_at: int | None
    standings: dict[str, Standing]
    marks: dict[str, Mark]
    pending: list[OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile]
    counters: Counters
    policy_version: str | None = None
    care: Care | None = None
    foreign: dict[int, tuple[str, int]] = {}


class _Orders(msgspec.Struct, array_like=True, gc=False):
    """The beginning of a row: the fields that ranking by orders reads."""

    cursor: int | None
    due: int
    first_at: int | None
    orders: tuple[bytes, bytes, bytes, bytes]


class _Standings(msgspec.Struct, array_like=True, gc=False):
    """A row up to the standings; the fields before them are skipped."""

    cursor: msgspec.Raw
    due: msgspec.Raw
    first_at: msgspec.Raw
    orders: msgspec.Raw
    adjusted: msgspec.Raw
    folded: msgspec.Raw
    interactions: msgspec.Raw
    profile: msgspec.Raw
    unsubscribed_at: msgspec.Raw
    standings: dict[str, Standing]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Row)
_ORDERS_DECODER = msgspec.msgpack.Decoder(_Orders)
_STANDINGS_DECODER = msgspec.msgpack.Decoder(_Standings)


class Customer:
    """A customer's state, decoded. Instants are in ms.

    `cursor` (`evaluated_to` in the contract) is the last instant evaluated, `due` the next one at which time alone may
    change something. `pending` holds the events that wait to be settled, in order. `asked` is the next instant in the
    row that the state was read from; NEVER if there was none.
    """

    __slots__ = (
        "asked",
        "care",
        "counters",
        "cursor",
        "customer_id",
        "due",
        "first_at",
        "interactions",
        "ledger",
        "marks",
        "pending",
        "policy_version",
        "profile",
        "standings",
        "timeline",
        "unsubscribed_at",
    )

    def __init__(self, customer_id: str) -> None:
        self.customer_id = customer_id
        self.asked = NEVER
        self.cursor: int | None = None
        self.due = NEVER
        self.first_at: int | None = None
        self.ledger = Ledger()
        self.interactions = Interactions()
        self.profile: Profile | None = None
        self.unsubscribed_at: int | None = None
        self.standings: dict[str, Standing] = {}
        self.marks: dict[str, Mark] = {}
        self.pending: list[OrderPlaced | OrderRefunded | OrderCancelled | Interaction | Profile] = []
        self.counters = Counters()
        self.policy_version: str | None = None
        self.care: Care | None = None
        self.timeline = 0

    @property
    def next_instant(self) -> int:
        """The earliest instant (ms) at which this customer must be processed; NEVER if there is none."""
        first = self.pending[0].at if self.pending else None
        return self.due if first is None else min(self.due, first)

    def forget_due(self) -> None:
        """Make the care rules compute their due instants again, because the profile or the policy changed."""
        for mark in self.marks.values():
            mark.due = None

    def to_row(self) -> bytes:
        """Return the whole state as the bytes of a row."""
        ledger, interactions = self.ledger, self.interactions
        row = _Row(
            self.cursor,
            self.due,
            self.first_at,
            ledger.arrays(),
            ledger.adjusted,
            (ledger.folded, ledger.folded_to),
            (interactions.times.tobytes(), interactions.ids.tobytes(), interactions.kinds, interactions.values),
            self.profile,
            self.unsubscribed_at,
            self.standings,
            self.marks,
            self.pending,
            self.counters,
            self.policy_version,
            self.care,
            ledger.foreign,
        )
        return _HEADER.pack(ROW_VERSION, self.next_instant, self.timeline) + _ENCODER.encode(row)

    @classmethod
    def from_row(cls, customer_id: str, data: bytes) -> "Customer":
        """Return the customer that `to_row` wrote. Raises TidemarkError for a row of an unknown version."""
        version, asked, timeline = _HEADER.unpack_from(data)
        if version != ROW_VERSION:
            raise TidemarkError(
                f"state row of version {version} cannot be read by this release (it reads {ROW_VERSION})"
            )
        row = _DECODER.decode(data[_HEADER.size :])  # at this size, copying is faster than a view
        customer = cls.__new__(cls)  # every field follows
        customer.customer_id = customer_id
        customer.ledger = Ledger(*row.orders, row.adjusted, *row.folded)
        customer.ledger.foreign = row.foreign
        customer.interactions = Interactions(*row.interactions)
        customer.asked, customer.timeline = asked, timeline
        customer.cursor, customer.due, customer.first_at = row.cursor, row.due, row.first_at
        customer.profile, customer.unsubscribed_at = row.profile, row.unsubscribed_at
        customer.standings, customer.marks = row.standings, row.marks
        customer.pending, customer.counters = row.pending, row.counters
        customer.policy_version, customer.care = row.policy_version, row.care
        return customer


def row_flaw(data: bytes) -> str | None:
    """Return why bytes are not a customer's row, without their content; None for a row, also of a newer release."""
    if len(data) < _HEADER.size:
        return f"row: found {len(data)} bytes, allowed are {_HEADER.size} or more"
    if not ROW_VERSION <= data[0] <= MAX_VERSION:
        return f"row: found version {data[0]}, allowed is {ROW_VERSION}"
    if data[0] > ROW_VERSION:
        return None
    try:
        row = _DECODER.decode(data[_HEADER.size :])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return "row: its fields cannot be decoded"
    times, ids, paid, margins = row.orders
    whole = len(times) == len(ids) == len(paid) == (len(margins) or len(paid)) and len(times) % 8 == 0
    times, ids, kinds, values = row.interactions
    if not whole or not len(times) == len(ids) == 8 * len(kinds) == 8 * len(values):
        return "row: its arrays differ in length"
    return None


def row_orders(data: bytes) -> tuple[int | None, int, "array[int]", "array[int]"]:
    """Return a row's cursor and due instant (ms), and the `times` and `paid` of its ledger."""
    row = _ORDERS_DECODER.decode(data[_HEADER.size :])
    times, _, paid, _ = row.orders
    return row.cursor, row.due, *Ledger.sums(times, paid)


def row_standings(data: bytes) -> dict[str, Standing]:
    """Return the standings of a row, by scheme."""
    return _STANDINGS_DECODER.decode(data[_HEADER.size :]).standings


def row_instant(data: bytes, timeline: int) -> int:
    """Return the instant (ms) at which the customer of a row must be processed, without decoding the row.

    It is MIN_INSTANT if the row was evaluated under other policy versions than those of the fingerprint `timeline`.
    """
    _, instant, evaluated_under = _HEADER.unpack_from(data)
    return int(instant) if evaluated_under == timeline else MIN_INSTANT
