"""Quiet hours: whether a local time is quiet and when the quiet ends. Exact in nights in which the clocks change."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from models.instants import from_datetime, to_datetime
from models.policy.care_rules import QuietHours

#: Clocks change by a few hours at most, so the end of a quiet span is found within two days.
_DAYS = 3


def is_quiet(quiet: QuietHours, channel: str, at: int, zone: ZoneInfo) -> bool:
    """Whether an instant (ms) lies in quiet hours by the local wall clock: at or after `since`, before `until`."""
    if quiet.channels is not None and channel not in quiet.channels:
        return False
    local = to_datetime(at).astimezone(zone).time()
    if quiet.since < quiet.until:
        return quiet.since <= local < quiet.until
    return local >= quiet.since or local < quiet.until


def quiet_end(quiet: QuietHours, channel: str, at: int, zone: ZoneInfo) -> int:
    """Return the first instant (ms) after `at` that is not quiet; `at` (ms) itself is quiet.

    If the clocks skip the end, it is an hour later, like any local time. If they repeat it, it is the first of the two
    instants that follows `at`.
    """
    today = to_datetime(at).astimezone(zone).date()
    for ahead in range(_DAYS):
        end = datetime.combine(today + timedelta(days=ahead), quiet.until, tzinfo=zone)
        for fold in (0, 1):
            instant = from_datetime(end.replace(fold=fold))
            if instant > at and not is_quiet(quiet, channel, instant, zone):
                return instant
    raise AssertionError("quiet hours end within a day")
