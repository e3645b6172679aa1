"""Windows: how far a metric looks back, rolling or by counting periods of the calendar.

A *rolling* window is an `int`: the milliseconds W of (at − W, at]. A *counting period* holds what lies in the calendar
month, quarter or year of `at`, or in its month and whole months before it, in the policy's time zone. Both are used
through `opens` and `leaves`, which never fall as the instant rises. Pure functions only.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import MAXYEAR, date
from functools import lru_cache
from zoneinfo import ZoneInfo

from models.instants import DAY_MS, LAST_INSTANT, MIN_INSTANT, local_date, local_midnight, parse_duration

#: Counting periods as policies write them: (months that a period has, months between the starts of two).
NAMED = {"calendar_month": (1, 1), "calendar_quarter": (3, 3), "calendar_year": (12, 12)}
#: The years whose months begin at instants that are looked up; others are computed one by one.
_FIRST_YEAR, _LAST_YEAR = 1970, 2100


@dataclass(frozen=True, slots=True)
class CountingPeriod:
    """The last `months` months of a calendar that is cut every `step` months, up to the end of the running part.

    `months` is a multiple of `step`. The parts begin at local midnight in `zone`.
    """

    months: int
    step: int
    zone: ZoneInfo

    @property
    def longest(self) -> int:
        """More milliseconds than the period ever has."""
        return (31 * self.months + 2) * DAY_MS

    def opens(self, at: int) -> int:
        """Return the last instant (ms) before the period that an instant lies in."""
        return _month_start(self._part(at) + self.step - self.months, self.zone) - 1

    def leaves(self, at: int) -> int:
        """Return the instant (ms) at which what happened at an instant stops counting."""
        return _month_start(self._part(at) + self.months, self.zone)

    @property
    def running(self) -> bool:
        """Whether all of the period ends at once: a month, quarter or year of the calendar."""
        return self.months == self.step

    def _part(self, at: int) -> int:
        """Return the number of the first month of the part that an instant lies in."""
        month = _month_of(at, self.zone)
        return month - month % self.step


Window = int | CountingPeriod


def parse_window(text: str, zone: ZoneInfo) -> Window:
    """Return the window that a policy writes: `365d`, `calendar_year`, `12 months`. Raises ValueError."""
    if text in NAMED:
        return CountingPeriod(*NAMED[text], zone)
    number, _, unit = text.partition(" ")
    if unit in ("month", "months") and number.isascii() and number.isdecimal():
        if not 1 <= int(number) <= 1_200:
            raise ValueError(f"{text!r}: allowed are 1 to 1200 months")
        return CountingPeriod(int(number), 1, zone)
    try:
        window = parse_duration(text)
    except ValueError as error:
        raise ValueError(f"{error}, or whole months, as in 12 months, or {', '.join(NAMED)}") from None
    if window == 0:
        raise ValueError(f"{text!r} is empty; a window is longer than zero")
    return window


def is_rolling(text: str) -> bool:
    """Whether a valid written window is a duration."""
    return isinstance(parse_window(text, ZoneInfo("UTC")), int)


def opens(at: int, window: Window) -> int:
    """Return the instant (ms) after which things count as of `at` (ms)."""
    return at - window if type(window) is int else window.opens(at)  # type: ignore[union-attr]  # mypy wants isinstance


def leaves(at: int, window: Window) -> int:
    """Return the instant (ms) at which what happened at `at` (ms) stops counting."""
    return at + window if type(window) is int else window.leaves(at)  # type: ignore[union-attr]  # mypy wants isinstance


def longest(window: Window) -> int:
    """Return how far (ms) a window looks back at most."""
    return window if isinstance(window, int) else window.longest


def _month_of(at: int, zone: ZoneInfo) -> int:
    """Return the number of the local month that an instant lies in: months since the year 0."""
    starts = _month_starts(zone)
    if starts[0] <= at < starts[-1]:
        return 12 * _FIRST_YEAR + bisect_right(starts, at) - 1
    day = local_date(at, zone)
    return 12 * day.year + day.month - 1


def _month_start(month: int, zone: ZoneInfo) -> int:
    """Return the instant (ms) at which a month begins; far away if there is no such month."""
    starts = _month_starts(zone)
    place = month - 12 * _FIRST_YEAR
    if 0 <= place < len(starts):
        return starts[place]
    year, number = divmod(month, 12)
    if not 1 <= year <= MAXYEAR:
        return LAST_INSTANT + 1 if year > MAXYEAR else MIN_INSTANT
    return local_midnight(date(year, number + 1, 1), zone)


@lru_cache(maxsize=64)
def _month_starts(zone: ZoneInfo) -> tuple[int, ...]:
    years = range(_FIRST_YEAR, _LAST_YEAR + 1)
    return tuple(local_midnight(date(year, month, 1), zone) for year in years for month in range(1, 13))
