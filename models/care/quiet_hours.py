"""Quiet hours: whether a local time is quiet, and when the quiet ends. Exact in nights in which clocks change."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from models.instants import from_datetime, to_datetime
from models.policy.care_rules import QuietHours

#: Clocks are set by some hours at the most; the end of a quiet span is found within two days.
_DAYS = 3


def is_quiet(quiet: QuietHours, channel: str, at: int, zone: ZoneInfo) -> bool:
    """Whether an instant (ms) lies in quiet hours by the local wall clock: from `since` on, and before `until`."""
    if quiet.channels is not None and channel not in quiet.channels:
        return False
    told = to_datetime(at).astimezone(zone).time()
    if quiet.since < quiet.until:
        return quiet.since <= told < quiet.until
    return told >= quiet.since or told < quiet.until


def quiet_end(quiet: QuietHours, channel: str, at: int, zone: ZoneInfo) -> int:
    """Return the first instant (ms) after a quiet one at which it is not quiet.

    Where the clocks skip the end, it is taken an hour later, as local times are elsewhere; where they repeat it, it is
    the first of the two that is after `at`.
    """
    today = to_datetime(at).astimezone(zone).date()
    for ahead in range(_DAYS):
        end = datetime.combine(today + timedelta(days=ahead), quiet.until, tzinfo=zone)
        for fold in (0, 1):
            instant = from_datetime(end.replace(fold=fold))
            if instant > at and not is_quiet(quiet, channel, instant, zone):
                return instant
    raise AssertionError("a day has an end of its quiet hours")
