"""Days of holidays, by the calendars of the `holidays` library: pure tables of a calendar, a name and a year.

Spring Festival and its like are in the calendars of the countries that keep them. A new release of the library may know
more years, or correct one; what has been decided is not decided anew.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any

#: The years for which holidays are looked up at all: nobody plans further, and calendars are guesses there.
FIRST_YEAR, LAST_YEAR = 1950, 2099
#: Names are checked against this span of years: a holiday may be missing in one of them.
_CHECKED = range(2020, 2031)


def _library() -> Any:
    import holidays  # only policies with such rules pay for it

    return holidays


@lru_cache(maxsize=1_024)
def _named_days(calendar: str, year: int) -> tuple[tuple[date, str], ...]:
    country, _, subdivision = calendar.partition("-")
    table = _library().country_holidays(country, subdiv=subdivision or None, years=year, language="en_US")
    return tuple(sorted(table.items()))


@lru_cache(maxsize=4_096)
def holiday_dates(calendar: str, names: tuple[str, ...], year: int) -> tuple[date, ...]:
    """Return the first day of each run of days, beginning in a year, whose holiday has one of the names.

    A name is found anywhere in the library's English name, whatever its case; days that are merely observed, or off
    instead of others, are not days of the holiday.
    """
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return ()
    days = {day for day, told in _named_days(calendar, year) if _is_one_of(told, names)}
    return tuple(sorted(day for day in days if day - timedelta(days=1) not in days))


def calendar_mistake(calendar: str) -> str | None:
    """Return what is wrong with the name of a calendar, such as `CN` or `US-NY`; None where nothing is."""
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
    """Return what is wrong with the name of a holiday: that none of the calendars has it. None where one has."""
    if any(holiday_dates(calendar, (name,), year) for calendar in calendars for year in _CHECKED):
        return None
    known = sorted({told for calendar in calendars for year in _CHECKED for _, told in _named_days(calendar, year)})
    told = [holiday for holiday in known if not _is_substitute(holiday)]
    return f"found {name!r}, allowed is (a part of) one of: {', '.join(told[:40])}"


def _is_one_of(told: str, names: tuple[str, ...]) -> bool:
    # Holidays that fall on one day are told together.
    parts = told.lower().split("; ")
    return any(name.lower() in part for part in parts if not _is_substitute(part) for name in names)


def _is_substitute(told: str) -> bool:
    return "(observed" in told.lower() or "substituted" in told.lower() or "day off" in told.lower()
