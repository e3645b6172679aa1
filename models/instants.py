"""Instants, durations and local times, all as integers.

An *instant* is an `int`: milliseconds since 1970-01-01T00:00:00Z. A *duration* is an `int` of milliseconds. Every
comparison uses them; `datetime` appears only at the edges. No clock is read here.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
WEEK_MS = 7 * DAY_MS

UNITS_MS = {"ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS, "w": WEEK_MS}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Events are accepted between MIN_INSTANT and MAX_INSTANT; what follows from them may lie up to LAST_INSTANT.
MIN_INSTANT = (datetime(1, 1, 2, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
MAX_INSTANT = (datetime(9000, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
LAST_INSTANT = (datetime(9999, 12, 30, tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
#: Numbers (ms) that are taken for instants as they are: 1980 up to the date that 19800101000000 would be, in 2597.
FIRST_NUMBER, LAST_NUMBER = 315_532_800_000, 19_800_100_999_999
MAX_DURATION = 36_525 * DAY_MS

#: The texts of all seconds of an hour and all milliseconds of a second: instants are formatted several times an event.
_SECONDS = tuple(f":{second // 60:02d}:{second % 60:02d}" for second in range(3_600))
_MILLISECONDS = ("Z", *(f".{millisecond:03d}Z" for millisecond in range(1, 1_000)))

#: The numbers of the years 1980 to 2100 in other units, and what to do with them.
_FIRST_SECOND, _LAST_SECOND = 315_532_800, 4_102_444_799
_UNITS = (
    (1, "looks like epoch seconds: multiply by 1000"),
    (10**6, "looks like epoch microseconds: divide by 1000"),
    (10**9, "looks like epoch nanoseconds: divide by 1000000"),
)
_WRITTEN_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
#: Spreadsheets count days from here. These are the days of 1980 to 2100.
_SERIAL_ZERO, _FIRST_SERIAL, _LAST_SERIAL = date(1899, 12, 30), 29_221, 73_415

_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d|w)", re.ASCII)


def from_datetime(moment: datetime) -> int:
    """Return the instant (ms) of an aware datetime; fractions of a millisecond are dropped."""
    delta = moment - EPOCH
    return delta.days * DAY_MS + delta.seconds * 1_000 + delta.microseconds // 1_000


def to_datetime(instant: int) -> datetime:
    """Return the UTC datetime of an instant (ms). Raises OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(milliseconds=instant)


def parse_instant(text: str) -> int:
    """Return the instant (ms) of an RFC 3339 text with an offset. Raises ValueError without one."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset; write it as in 2026-11-01T00:00:00Z")
    return from_datetime(moment)


def is_written_date(number: int) -> bool:
    """Whether a number is a date of 1980 to 2100 in digits: 20260301, or with hours and minutes, or seconds."""
    text = str(number) if 0 < number < 10**15 else ""
    form = _WRITTEN_DATES.get(len(text))
    if form is None or not 1980 <= int(text[:4]) <= 2100:
        return False
    try:
        datetime.strptime(text, form)  # noqa: DTZ007  # only its form is looked at
    except ValueError:
        return False
    return True


def what_number_looks_like(number: int) -> str:
    """Return in words what a number is that does not look like epoch milliseconds."""
    if is_written_date(number):
        return f"looks like a date written {number}"
    for units, meaning in _UNITS:
        if _FIRST_SECOND <= number // units <= _LAST_SECOND:
            return meaning
    if _FIRST_SERIAL <= number <= _LAST_SERIAL:
        return f"looks like the number of {_SERIAL_ZERO + timedelta(days=number)} in a spreadsheet: write the date"
    if number > MAX_INSTANT:
        return "is after the year 8999 as epoch milliseconds"
    return "is before 1980 as epoch milliseconds"


def format_instant(instant: int) -> str:
    """Return an instant (ms) as RFC 3339 in UTC, with milliseconds only if they are not zero."""
    hour, rest = divmod(instant, HOUR_MS)
    return f"{_hour_text(hour)}{_SECONDS[rest // SECOND_MS]}{_MILLISECONDS[rest % SECOND_MS]}"


@lru_cache(maxsize=65_536)
def _hour_text(hour: int) -> str:
    return (EPOCH + timedelta(hours=hour)).replace(tzinfo=None).isoformat(timespec="hours")


def parse_duration(text: str) -> int:
    """Return the milliseconds of a duration such as `30d` (units ms s m h d w). Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write a whole number and one of ms s m h d w, as in 30d")
    duration = int(match[1]) * UNITS_MS[match[2]]
    if duration > MAX_DURATION:
        raise ValueError(f"{text!r} is longer than a century, which is the longest allowed")
    return duration


def format_duration(duration: int) -> str:
    """Return milliseconds in the largest unit that divides them, as in `30d`."""
    for unit in ("w", "d", "h", "m", "s"):
        if duration and duration % UNITS_MS[unit] == 0 and not (unit == "w" and duration < 2 * WEEK_MS):
            return f"{duration // UNITS_MS[unit]}{unit}"
    return f"{duration}ms"


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA time zone. Raises ValueError for a name that the tz database does not have."""
    if name not in _zone_names():
        raise ValueError(f"{name!r} is not an IANA time zone such as Europe/Paris")
    return ZoneInfo(name)


#: Names of the tz database that are no places: the zone of the machine, and that of a machine without one.
_NO_PLACES = frozenset({"localtime", "Factory", "posixrules"})


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES


def local_instant(day: date, at: time, tz: ZoneInfo) -> int:
    """Return the instant (ms) of a local wall-clock time.

    A time that the clocks skip is taken an hour later; a time that they repeat is the first of the two (PEP 495,
    fold=0).
    """
    return from_datetime(datetime.combine(day, at, tzinfo=tz))


def local_midnight(day: date, tz: ZoneInfo) -> int:
    """Return the instant (ms) at which a day begins in a time zone."""
    return local_instant(day, time(0), tz)


def next_midnight(instant: int, tz: ZoneInfo) -> int:
    """Return the instant (ms) at which the day that holds an instant ends in a time zone."""
    return local_midnight(local_date(instant, tz) + timedelta(days=1), tz)


def local_date(instant: int, tz: ZoneInfo) -> date:
    """Return the calendar date that an instant (ms) falls on in a time zone."""
    return to_datetime(instant).astimezone(tz).date()
