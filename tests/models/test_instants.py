from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from models.instants import (
    DAY_MS,
    LAST_INSTANT,
    MAX_DURATION,
    MAX_INSTANT,
    MIN_INSTANT,
    format_duration,
    format_instant,
    from_datetime,
    local_date,
    local_instant,
    parse_duration,
    parse_instant,
    to_datetime,
    zone,
)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-03-01T10:00:00Z", 1_772_359_200_000),
        ("2026-03-01T18:00:00+08:00", 1_772_359_200_000),
        ("2026-03-01T04:30:00-05:30", 1_772_359_200_000),
    ],
)
def test_parses_instants_with_any_offset(text: str, instant: int) -> None:
    assert parse_instant(text) == instant


@pytest.mark.parametrize("text", ["2026-03-01T10:00:00", "2026-03-01", "yesterday", ""])
def test_refuses_instants_without_an_offset(text: str) -> None:
    with pytest.raises(ValueError, match=r"no offset|Invalid isoformat"):
        parse_instant(text)


def test_what_is_finer_than_a_millisecond_is_cut_off_on_both_sides_of_1970() -> None:
    assert from_datetime(datetime(1970, 1, 1, 0, 0, 0, 1_999, tzinfo=UTC)) == 1
    assert from_datetime(datetime(1969, 12, 31, 23, 59, 59, 999_001, tzinfo=UTC)) == -1


def test_instants_of_offset_datetimes_do_not_overflow_at_the_ends_of_the_calendar() -> None:
    east, west = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))
    assert from_datetime(datetime(1, 1, 1, tzinfo=east)) < MIN_INSTANT
    assert from_datetime(datetime(9999, 12, 31, 23, 59, tzinfo=west)) > LAST_INSTANT


@pytest.mark.parametrize("instant", [0, 1, -1, 999, -62_135_500_000_000, 1_772_359_200_123, MIN_INSTANT, LAST_INSTANT])
def test_formatting_and_parsing_are_inverse(instant: int) -> None:
    assert parse_instant(format_instant(instant)) == instant
    assert from_datetime(to_datetime(instant)) == instant


def test_milliseconds_are_shown_only_where_there_are_some() -> None:
    assert format_instant(0) == "1970-01-01T00:00:00Z"
    assert format_instant(10) == "1970-01-01T00:00:00.010Z"
    assert format_instant(MAX_INSTANT) == "9000-01-01T00:00:00Z"
    assert format_instant(MIN_INSTANT) == "0001-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0d", 0),
        ("250ms", 250),
        ("90s", 90000),
        ("5m", 300000),
        ("12h", DAY_MS // 2),
        (" 30d ", 30 * DAY_MS),
        ("2w", 14 * DAY_MS),
        ("36525d", MAX_DURATION),
    ],
)
def test_parses_durations(text: str, duration: int) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "1y", "30 d", "1d12h", "30D", "٣d", "1_0d"])
def test_refuses_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "999999999w"])
def test_refuses_durations_beyond_a_century(text: str) -> None:
    with pytest.raises(ValueError, match="longer than a century"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0ms", "1ms", "1500ms", "90s", "1m", "36h", "1d", "7d", "30d", "2w"])
def test_durations_are_shown_in_the_largest_unit_that_divides_them(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "europe/paris", "UTC\0", "localtime", "Factory"])
def test_refuses_names_that_are_no_time_zone(name: str) -> None:
    with pytest.raises(ValueError, match="not an IANA time zone"):
        zone(name)


@pytest.mark.parametrize(
    ("day", "at", "tz", "expected"),
    [
        (date(2026, 7, 1), time(9), "America/New_York", "2026-07-01T13:00:00Z"),
        (date(2026, 3, 8), time(2, 30), "America/New_York", "2026-03-08T07:30:00Z"),  # skipped: an hour later
        (date(2026, 11, 1), time(1, 30), "America/New_York", "2026-11-01T05:30:00Z"),  # repeated: the first time
        (date(2026, 3, 1), time(0), "Asia/Kathmandu", "2026-02-28T18:15:00Z"),
        (date(2026, 10, 4), time(2, 15), "Australia/Lord_Howe", "2026-10-03T15:45:00Z"),  # half an hour is skipped
    ],
)
def test_local_times_on_ordinary_days_and_dst_nights(day: date, at: time, tz: str, expected: str) -> None:
    assert format_instant(local_instant(day, at, zone(tz))) == expected


def test_the_local_date_changes_at_local_midnight() -> None:
    midnight = parse_instant("2026-03-01T00:00:00+08:00")
    assert local_date(midnight, zone("Asia/Shanghai")) == date(2026, 3, 1)
    assert local_date(midnight - 1, zone("Asia/Shanghai")) == date(2026, 2, 28)
    assert local_date(midnight, zone("America/Los_Angeles")) == date(2026, 2, 28)
