"""Recurring days: birthdays in the Gregorian and the Chinese calendar, anniversaries, days of the week and the month.

Functions take and return dates; `models.instants` handles time zones. The Chinese calendar comes from the `lunardate`
library and covers the years 1900 to 2099. Outside them there are no lunar birthdays.
"""

from calendar import isleap
from collections.abc import Iterator
from datetime import MAXYEAR, date, timedelta
from functools import lru_cache

from lunardate import LunarDate

#: Birthdays are searched for this many years ahead: at most eight years in a row have no 29 February.
_YEARS_AHEAD = 10
LUNAR_YEARS = range(1900, 2100)


def birthday_in(year: int, birthday: str, leap_day: tuple[int, int]) -> date:
    """Return the date on which a birthday (`YYYY-MM-DD` or `--MM-DD`) is kept in a year.

    29 February is kept on `leap_day` (month, day) in common years.
    """
    return day_in(year, int(birthday[-5:-3]), int(birthday[-2:]), leap_day)


def day_in(year: int, month: int, day: int, leap_day: tuple[int, int]) -> date:
    """Return a month's day in a year; 29 February is `leap_day` (month, day) in common years."""
    if (month, day) == (2, 29) and not isleap(year):
        month, day = leap_day
    return date(year, month, day)


@lru_cache(maxsize=16_384)
def lunar_birthday_in(year: int, month: int, day: int, *, leap: bool) -> date | None:
    """Return the date of a day in the Chinese lunar year that begins in `year`; None outside 1900 to 2099.

    With `leap`, the leap month is used in years that double that month. Day 30 of a month with 29 days is its last day.
    """
    if year not in LUNAR_YEARS:
        return None
    doubled = leap and LunarDate.leap_month_for_year(year) == month
    for kept in (day, day - 1):
        try:
            solar: date = LunarDate(year, month, kept, doubled).to_solar_date()
        except ValueError:  # months have 29 or 30 days
            continue
        return solar
    return None


def yearly(today: date, month: int, day: int, leap_day: tuple[int, int], before: int) -> Iterator[tuple[int, date]]:
    """Yield (year, date `before` days earlier) of a day of each year, from about `today` on."""
    # A day that straddles the year's end still belongs to the coming occasion. The calendar begins with year 1,
    # and days before its first may not exist.
    first = max(2, (today + timedelta(days=before)).year)
    for year in range(first, min(today.year + _YEARS_AHEAD, MAXYEAR)):
        yield year, day_in(year, month, day, leap_day) - timedelta(days=before)


def lunar_yearly(today: date, month: int, day: int, before: int, *, leap: bool) -> Iterator[tuple[int, date]]:
    """Yield (lunar year, date `before` days earlier) of a day of the Chinese year, from about `today` on."""
    for year in range(today.year - 1, today.year + 3):
        solar = lunar_birthday_in(year, month, day, leap=leap)
        if solar is not None and solar - timedelta(days=before) >= today - timedelta(days=1):
            yield year, solar - timedelta(days=before)


def days_of(today: date, weekdays: frozenset[int], month_days: frozenset[int]) -> Iterator[tuple[int, date]]:
    """Yield (ordinal, date) of days of the week (0 is Monday) and of the month, for three months.

    They begin the day before `today`: an instant that the clocks skip may fall on the next day.
    """
    for ahead in range(-1, 93):
        if today.toordinal() + ahead > date.max.toordinal():
            return
        day = today + timedelta(days=ahead)
        if day.weekday() in weekdays or day.day in month_days:
            yield day.toordinal(), day
