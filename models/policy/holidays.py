"""Dates of holidays from the calendars of the `holidays` library, by calendar, name and year.

Spring Festival and the like are in the calendars of the countries that keep them. A new release of the library may add
or correct years; past decisions never change.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

#: Holidays are looked up in these years only: later calendars are guesses.
FIRST_YEAR, LAST_YEAR = 1950, 2099
#: Names are checked against several years, because a holiday may be missing in one.
_CHECKED = range(2020, 2031)


def _library() -> Any:
    import holidays  # slow to import, and few policies need it

    return holidays


@lru_cache(maxsize=1_024)
def _named_days(calendar: str, year: int) -> tuple[tuple[date, str], ...]:
    country, _, subdivision = calendar.partition("-")
    table = _library().country_holidays(country, subdiv=subdivision or None, years=year, language="en_US")
    return tuple(sorted(table.items()))


@lru_cache(maxsize=4_096)
def holiday_dates(calendar: str, names: tuple[str, ...], year: int) -> tuple[date, ...]:
    """Return the first day of each run of consecutive days in a year whose holiday matches one of the names.

    A name matches any part of the library's English name, ignoring case. Observed and substitute days do not count.
    Years outside FIRST_YEAR to LAST_YEAR have no holidays.
    """
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return ()
    days = {day for day, holiday in _named_days(calendar, year) if _is_one_of(holiday, names)}
    return tuple(sorted(day for day in days if day - timedelta(days=1) not in days))


def calendar_mistake(calendar: str) -> str | None:
    """Return what is wrong with the name of a calendar, such as `CN` or `US-NY`; None if it is valid."""
    country, _, subdivision = calendar.partition("-")
    supported = _library().list_supported_countries()
    if country not in supported:
        return (
            f"found {calendar!r}, allowed is a country of the holidays library, as in CN or US, or a part of it, US-NY"
        )
    if subdivision and subdivision not in supported[country]:
        return f"found {calendar!r}, allowed parts of {country}: {', '.join(supported[country]) or 'none'}"
    return None


def holiday_mistake(calendars: Sequence[str], name: str) -> str | None:
    """Return what is wrong with the name of a holiday that none of the calendars has; None if one has it."""
    if any(holiday_dates(calendar, (name,), year) for calendar in calendars for year in _CHECKED):
        return None
    known = sorted({name for calendar in calendars for year in _CHECKED for _, name in _named_days(calendar, year)})
    allowed = [holiday for holiday in known if not _is_substitute(holiday)]
    return f"found {name!r}, allowed is (a part of) one of: {', '.join(allowed[:40])}"


def _is_one_of(holiday: str, names: tuple[str, ...]) -> bool:
    # The library joins the names of holidays on the same day.
    parts = holiday.lower().split("; ")
    return any(name.lower() in part for part in parts if not _is_substitute(part) for name in names)


def _is_substitute(holiday: str) -> bool:
    name = holiday.lower()
    return "(observed" in name or "substituted" in name or "day off" in name
