"""Quiet hours over all zones, on the days when clocks change too, against a walk through every minute."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.quiet import QuietHours, quiet_until, read_clock, write_clock, zone_of

VIENNA = ZoneInfo("Europe/Vienna")
MINUTE_MS = 60_000
ZONES = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))


def hours(start: str, end: str) -> QuietHours:
    return QuietHours(start=read_clock(start), end=read_clock(end))


def at(text: str, zone: ZoneInfo = VIENNA, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp() * 1000)


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-01 21:59:59", None),
        ("2026-06-01 22:00", "2026-06-02 07:00"),
        ("2026-06-01 23:59", "2026-06-02 07:00"),
        ("2026-06-02 00:00", "2026-06-02 07:00"),
        ("2026-06-02 06:59:59", "2026-06-02 07:00"),
        ("2026-06-02 07:00", None),
        ("2026-06-02 12:00", None),
    ],
)
def test_a_night_spans_midnight(now: str, until: str | None):
    assert quiet_until(hours("22:00", "07:00"), VIENNA, at(now)) == (None if until is None else at(until))


def test_hours_within_one_day_and_hours_that_are_none():
    noon = hours("12:00", "13:30")
    assert quiet_until(noon, VIENNA, at("2026-06-01 12:00")) == at("2026-06-01 13:30")
    assert quiet_until(noon, VIENNA, at("2026-06-01 13:30")) is None
    assert quiet_until(hours("12:00", "12:00"), VIENNA, at("2026-06-01 12:00")) is None


def test_an_end_in_the_gap_is_the_moment_of_the_jump():
    # On 29 March 2026 the hands go from 01:59 to 03:00.
    assert quiet_until(hours("22:00", "02:30"), VIENNA, at("2026-03-29 01:30")) == at("2026-03-29 03:00")
    assert quiet_until(hours("02:30", "07:00"), VIENNA, at("2026-03-29 01:59")) is None
    assert quiet_until(hours("02:30", "07:00"), VIENNA, at("2026-03-29 03:00")) == at("2026-03-29 07:00")
    assert quiet_until(hours("02:10", "02:50"), VIENNA, at("2026-03-29 03:00")) is None


def test_nobody_is_woken_between_the_two_passes_of_an_hour():
    # On 25 October 2026 the hour from 02:00 comes twice.
    second_end = at("2026-10-25 02:30", fold=1)
    for minute, fold in (("02:29", 0), ("02:45", 0), ("02:10", 1), ("02:29", 1)):
        assert quiet_until(hours("22:00", "02:30"), VIENNA, at(f"2026-10-25 {minute}", fold=fold)) == second_end
    assert quiet_until(hours("22:00", "02:30"), VIENNA, second_end) is None
    for minute, fold in (("02:30", 0), ("02:10", 1), ("06:59", 0)):
        assert quiet_until(hours("02:30", "07:00"), VIENNA, at(f"2026-10-25 {minute}", fold=fold)) == at(
            "2026-10-25 07:00"
        )
    # An end before the hour that comes twice is no hour later for it.
    assert quiet_until(hours("22:00", "02:00"), VIENNA, at("2026-10-25 01:59")) == at("2026-10-25 02:00")


def test_where_a_day_is_left_out_two_nights_are_one():
    apia = ZoneInfo("Pacific/Apia")  # which had no 30 December 2011
    until = quiet_until(hours("22:00", "07:00"), apia, at("2011-12-29 23:00", apia))
    assert until == at("2011-12-31 07:00", apia)


def test_clock_times_are_read_and_written():
    assert [read_clock("00:00"), read_clock("07:05"), read_clock("23:59")] == [0, 425, 1439]
    assert all(read_clock(write_clock(minute)) == minute for minute in range(1440))


def test_a_zone_that_is_unknown_here_gives_way_to_the_next():
    assert zone_of(None, "Mars/Olympus", "Europe/Vienna", "Asia/Tokyo") == VIENNA
    assert zone_of("../etc/passwd", None) == ZoneInfo("UTC")


@cache
def changes(name: str) -> list[datetime]:
    """Find every hour in which a zone's offset changes, from 1973 on."""
    zone, found = ZoneInfo(name), []
    day = datetime(1973, 1, 1, tzinfo=UTC)
    before = day.astimezone(zone).utcoffset()
    while day.year < 2038:
        day += timedelta(days=1)
        after = day.astimezone(zone).utcoffset()
        if after != before:
            found += [day]
        before = after
    return found


def quiet_minutes(wanted: QuietHours, zone: ZoneInfo, around: datetime) -> tuple[datetime, list[bool]]:
    """Walk through every minute of five days: a night is all from the first minute of it to the last."""
    first = around - timedelta(days=3)
    clock = [(first + timedelta(minutes=n)).astimezone(zone).replace(tzinfo=None) for n in range(6 * 1440)]
    quiet = [False] * len(clock)
    days = sorted({moment.date() for moment in clock})
    for day in (days[0] - timedelta(days=1), *days):
        midnight = datetime.combine(day, time())
        start = midnight + timedelta(minutes=wanted.start)
        end = midnight + timedelta(minutes=wanted.end, days=wanted.end < wanted.start)
        begun = next((n for n, moment in enumerate(clock) if moment >= start), len(clock))
        over = max((n for n, moment in enumerate(clock) if moment < end), default=-1)
        for n in range(begun, over + 1):
            quiet[n] = True
    return first, quiet


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_every_zone_and_every_change_of_clocks_against_a_walk_through_the_minutes(data: st.DataObject):
    name = data.draw(st.sampled_from(ZONES))
    zone = ZoneInfo(name)
    moments = changes(name) or [datetime(2026, 3, 29, tzinfo=UTC)]
    around = data.draw(st.sampled_from(moments))
    minute = st.one_of(st.integers(0, 1439), st.integers(0, 239))
    wanted = QuietHours(start=data.draw(minute), end=data.draw(minute))
    first, quiet = quiet_minutes(wanted, zone, around)
    if wanted.start == wanted.end:
        quiet = [False] * len(quiet)
    for n in data.draw(st.lists(st.integers(1440, 4 * 1440), min_size=20, max_size=20)):
        now = int((first + timedelta(minutes=n)).timestamp() * 1000)
        ends = next((m for m in range(n, len(quiet)) if not quiet[m]), None)
        if ends is None:
            continue
        expected = None if ends == n else now + (ends - n) * MINUTE_MS
        assert quiet_until(wanted, zone, now) == expected, (name, wanted, now)
