"""Triggers on dates: birthdays, anniversaries, holidays, days of the week and the month, at exact local instants."""

from collections.abc import Iterator
from datetime import date, timedelta

from models.care.calendar_days import days_of, lunar_yearly, yearly
from models.care.context import CareContext
from models.instants import DAY_MS, local_date, local_instant
from models.policy.care_rules import AnniversaryRule, BirthdayRule, CalendarRule, HolidayRule
from models.policy.holidays import FIRST_YEAR, LAST_YEAR, holiday_dates

#: The shortest time (ms) between two birthday offers, even if the profile changes in between.
BIRTHDAYS_APART = 180 * DAY_MS

DatedRule = BirthdayRule | AnniversaryRule | HolidayRule | CalendarRule


def evaluate_dated(context: CareContext, rule: DatedRule) -> int | None:
    """Fire the rule if one of its days has come. Return the instant (ms) of the next one; None if there is none.

    A profile that arrives or changes on the day itself is still in time.
    """
    mark = context.customer.marks.get(rule.action.rule)
    at = context.at
    if mark is not None and mark.due is not None:
        if at < mark.due:
            return mark.due
        mark.due = None
    days = _days(context, rule)
    if days is None:
        return None
    mark = context.mark(rule.action)
    apart = BIRTHDAYS_APART if isinstance(rule, BirthdayRule) else 0
    for occasion, day in days:
        instant = local_instant(day, rule.at, context.zone)
        if mark.occasion is not None and occasion <= mark.occasion:
            continue
        if mark.fired is not None and max(at, instant) - mark.fired < apart:
            continue
        # An instant that the clocks skip may fall on the next day.
        if instant <= at and local_date(instant, context.zone) == context.today:
            mark.occasion = occasion
            if apart:
                mark.fired = at
            context.fire(rule.action, str(occasion))
        elif instant > at:
            mark.due = instant
            break
    return mark.due


def _days(context: CareContext, rule: DatedRule) -> Iterator[tuple[int, date]] | None:
    """Return (occasion, date) from about today on, in order; None if the profile lacks what the rule reads."""
    if isinstance(rule, BirthdayRule):
        return _birthdays(context, rule)
    if isinstance(rule, CalendarRule):
        return days_of(context.today, rule.weekdays, rule.month_days)
    if isinstance(rule, HolidayRule):
        return _holidays(context, rule)
    profile = context.customer.profile
    if profile is None or profile.registered_at is None:
        return None
    registered = local_date(profile.registered_at, context.zone)
    days = yearly(context.today, registered.month, registered.day, rule.leap_day, rule.days_before)
    return ((year, day) for year, day in days if year > registered.year)


def _birthdays(context: CareContext, rule: BirthdayRule) -> Iterator[tuple[int, date]] | None:
    profile = context.customer.profile
    if profile is None or profile.birthday is None:
        return None
    month, day = int(profile.birthday[-5:-3]), int(profile.birthday[-2:])
    if profile.birthday.startswith("lunar:"):
        return lunar_yearly(context.today, month, day, rule.days_before, leap=rule.leap_month)
    return yearly(context.today, month, day, rule.leap_day, rule.days_before)


def _holidays(context: CareContext, rule: HolidayRule) -> Iterator[tuple[int, date]] | None:
    calendar = rule.default
    profile = context.customer.profile
    if rule.attribute is not None and profile is not None:
        calendar = rule.calendars.get(str(profile.attributes.get(rule.attribute)), calendar)
    if calendar is None:
        return None
    return _holidays_of(calendar, rule, context.today)


def _holidays_of(calendar: str, rule: HolidayRule, today: date) -> Iterator[tuple[int, date]]:
    before = timedelta(days=rule.days_before)
    for year in range(max(today.year, FIRST_YEAR), min(today.year + 3, LAST_YEAR) + 1):
        for day in holiday_dates(calendar, rule.holidays, year):
            if day - before >= today - timedelta(days=1):
                yield day.toordinal(), day - before
