"""Windows by the calendar against dates counted by hand, and against days counted one by one."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.instants import DAY_MS, MAX_INSTANT, MIN_INSTANT, from_datetime, local_date, local_midnight, parse_instant
from models.rules.periods import CountingPeriod, leaves, longest, opens, parse_window

UTC = ZoneInfo("UTC")
ZONES = [UTC, ZoneInfo("Asia/Shanghai"), ZoneInfo("America/New_York"), ZoneInfo("Africa/Cairo")]
PERIODS = ["calendar_month", "calendar_quarter", "calendar_year", "1 month", "3 months", "12 months"]


def period(text: str, zone: ZoneInfo = UTC) -> CountingPeriod:
    window = parse_window(text, zone)
    assert isinstance(window, CountingPeriod)
    return window


@pytest.mark.parametrize(
    ("text", "at", "first", "gone"),
    [
        ("calendar_year", "2026-03-01T12:00:00Z", "2026-01-01", "2027-01-01"),
        ("calendar_year", "2026-12-31T23:59:59.999Z", "2026-01-01", "2027-01-01"),
        ("calendar_year", "2027-01-01T00:00:00Z", "2027-01-01", "2028-01-01"),
        ("calendar_quarter", "2026-03-31T12:00:00Z", "2026-01-01", "2026-04-01"),
        ("calendar_quarter", "2026-12-01T12:00:00Z", "2026-10-01", "2027-01-01"),
        ("calendar_month", "2024-02-29T12:00:00Z", "2024-02-01", "2024-03-01"),
        ("12 months", "2026-06-10T12:00:00Z", "2025-07-01", "2027-06-01"),
        ("12 months", "2026-01-31T12:00:00Z", "2025-02-01", "2027-01-01"),
        ("1 month", "2026-01-31T12:00:00Z", "2026-01-01", "2026-02-01"),
        ("18 months", "2026-06-10T12:00:00Z", "2025-01-01", "2027-12-01"),
        ("12 months", "2150-06-10T12:00:00Z", "2149-07-01", "2151-06-01"),
        ("calendar_year", "1969-06-10T12:00:00Z", "1969-01-01", "1970-01-01"),
    ],
)
def test_a_period_begins_and_ends_with_the_calendar(text: str, at: str, first: str, gone: str) -> None:
    window, instant = period(text), parse_instant(at)
    assert opens(instant, window) + 1 == local_midnight(date.fromisoformat(first), UTC)
    assert leaves(instant, window) == local_midnight(date.fromisoformat(gone), UTC)


def test_periods_are_cut_at_midnight_of_the_zone() -> None:
    shanghai = period("calendar_year", ZoneInfo("Asia/Shanghai"))
    assert opens(parse_instant("2025-12-31T16:00:00Z"), shanghai) + 1 == parse_instant("2025-12-31T16:00:00Z")
    assert leaves(parse_instant("2025-12-31T15:59:59.999Z"), shanghai) == parse_instant("2025-12-31T16:00:00Z")


INSTANTS = st.one_of(
    st.integers(0, from_datetime(datetime(2101, 1, 1, tzinfo=UTC))), st.integers(MIN_INSTANT, MAX_INSTANT)
)


@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), INSTANTS, st.integers(0, 800 * DAY_MS))
def test_what_counts_is_in_the_period_until_it_leaves(text: str, zone: ZoneInfo, at: int, later: int) -> None:
    window = period(text, zone)
    assert opens(at, window) < at < leaves(at, window)
    assert (opens(at + later, window) < at) is (at + later < leaves(at, window))
    assert opens(at + later, window) >= opens(at, window)
    assert leaves(at + later, window) >= leaves(at, window)
    assert leaves(at, window) - opens(at, window) <= 2 * longest(window)
    assert at - opens(at, window) <= longest(window)


@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), INSTANTS.filter(lambda at: at > 0))
def test_a_period_begins_on_the_first_day_of_its_first_month(text: str, zone: ZoneInfo, at: int) -> None:
    window = period(text, zone)
    first = local_date(opens(at, window) + 1, zone)
    day, months = local_date(at, zone), 1
    while day != first:
        before = day - timedelta(days=1)
        months += before.month != day.month
        day = before
    assert first.day == 1
    assert months <= window.months
    assert months == window.months or text.startswith("calendar")


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_a_rolling_window_is_as_long_as_it_says(window: int, at: int) -> None:
    assert (opens(at, window), leaves(at, window), longest(window)) == (at - window, at + window, window)


@pytest.mark.parametrize(
    "text", ["0 months", "1201 months", "0d", "a year", "1.5 months", "-1 months", "calendar year", "٣ months"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"months|empty"):
        parse_window(text, UTC)
