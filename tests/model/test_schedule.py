"""A time of day in a person's zone, on every kind of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.schedule import Schedule, zone_of

MINUTE = 60_000
ZONES = sorted(
    name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix", "right"))
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def wall(at_ms: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, zone).replace(tzinfo=None, fold=0)


def reference(schedule: Schedule, zone: ZoneInfo, now_ms: int) -> int:
    """Watch the clock minute by minute: answer when it first shows the time on a day, or has leapt over it."""
    at = now_ms - now_ms % MINUTE - 2 * 86_400_000  # long enough before, to know which times were shown already
    seen: set[datetime] = set()
    before = wall(at - MINUTE, zone)
    while True:
        shown = wall(at, zone)
        target = shown.replace(hour=schedule.hour, minute=schedule.minute, second=0, microsecond=0)
        if shown >= before + timedelta(minutes=1):
            for day in (target - timedelta(days=1), target):
                leapt = before < day < shown and shown > before + timedelta(minutes=1)
                if (leapt or day == shown) and day not in seen:
                    seen.add(day)
                    # What the clock leapt over comes as long after the leap as it would have come after its beginning.
                    due = at + int((day - (before + timedelta(minutes=1))) / timedelta(milliseconds=1)) if leapt else at
                    if day.weekday() in schedule.days and due > now_ms:
                        return due
        before = max(before, shown) if shown > before else before
        at += MINUTE


@pytest.mark.parametrize(
    ("text", "zone", "now", "expected"),
    [
        ("08:00", "Europe/Vienna", "2026-06-10T05:59:59+00:00", "2026-06-10T06:00:00+00:00"),
        ("08:00", "Europe/Vienna", "2026-06-10T06:00:00+00:00", "2026-06-11T06:00:00+00:00"),
        ("mon 08:00", "Europe/Vienna", "2026-06-10T06:00:00+00:00", "2026-06-15T06:00:00+00:00"),
        ("tue,thu 08:00", "Asia/Kolkata", "2026-06-10T06:00:00+00:00", "2026-06-11T02:30:00+00:00"),
        ("02:30", "Europe/Vienna", "2026-03-28T12:00:00+00:00", "2026-03-29T01:30:00+00:00"),  # shown as 03:30
        ("02:30", "Europe/Vienna", "2026-10-24T12:00:00+00:00", "2026-10-25T00:30:00+00:00"),  # the first of two
        ("02:30", "Europe/Vienna", "2026-10-25T00:30:00+00:00", "2026-10-26T01:30:00+00:00"),  # and only that one
        ("00:00", "America/Havana", "2026-03-07T12:00:00+00:00", "2026-03-08T05:00:00+00:00"),  # a day begins at one
        ("08:00", "Pacific/Apia", "2011-12-29T19:00:00+00:00", "2011-12-30T18:00:00+00:00"),  # the 30th was left out
        ("08:00", "Australia/Lord_Howe", "2026-10-03T12:00:00+00:00", "2026-10-03T21:00:00+00:00"),
    ],
)
def test_the_next_moment(text: str, zone: str, now: str, expected: str):
    assert Schedule.parse(text).after(ms(now), ZoneInfo(zone)) == ms(expected)


@given(
    name=st.sampled_from(ZONES),
    at=st.integers(ms("1971-01-01T00:00:00+00:00"), ms("2037-12-01T00:00:00+00:00")),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
)
def test_it_is_always_later_within_two_days_and_shows_the_time_or_follows_a_leap(
    name: str, at: int, hour: int, minute: int
):
    zone = ZoneInfo(name)
    due = Schedule(hour, minute).after(at, zone)
    assert at < due <= at + 50 * 3_600_000
    shown = wall(due, zone)
    if (shown.hour, shown.minute) != (hour, minute):
        offset = datetime.fromtimestamp(due / 1000, zone).utcoffset()
        earlier = datetime.fromtimestamp(due / 1000 - 86_400, zone).utcoffset()
        assert offset is not None
        assert earlier is not None
        assert offset > earlier
        assert shown - (offset - earlier) == shown.replace(hour=hour, minute=minute) - (
            timedelta(days=1) if (hour, minute) > (shown.hour, shown.minute) else timedelta()
        )


def changes(zone: ZoneInfo, year: int) -> list[int]:
    """Find the hours of a year in which a zone moves its clocks."""
    hours = range(
        int(datetime(year, 1, 1, tzinfo=UTC).timestamp()), int(datetime(year, 12, 31, tzinfo=UTC).timestamp()), 3600
    )
    offsets = [datetime.fromtimestamp(at, zone).utcoffset() for at in hours]
    return [at * 1000 for at, one, two in zip(hours, offsets, offsets[1:], strict=False) if one != two]


@given(
    name=st.sampled_from(ZONES),
    year=st.integers(1971, 2037),
    before_min=st.integers(0, 1500),
    after_min=st.integers(-90, 200),
    days=st.frozensets(st.integers(0, 6), min_size=1),
    data=st.data(),
)
def test_on_the_days_on_which_clocks_move_it_agrees_with_a_watched_clock(
    name: str, year: int, before_min: int, after_min: int, days: frozenset[int], data: st.DataObject
):
    zone = ZoneInfo(name)
    moved = changes(zone, year)
    if not moved:
        return
    moment = data.draw(st.sampled_from(moved))
    shown = wall(moment + after_min * MINUTE, zone)
    schedule = Schedule(shown.hour, shown.minute, days)
    now = moment - before_min * MINUTE
    if any(abs(other - moment) < 9 * 86_400_000 for other in moved if other != moment):
        return
    offsets = [datetime.fromtimestamp((moment + hours * 3_600_000) / 1000, zone).utcoffset() for hours in (-3, 3)]
    if any(offset is None or offset % timedelta(minutes=1) for offset in offsets):
        return  # offsets with seconds, as Liberia had: no clock shows whole minutes at a whole minute
    assert schedule.after(now, zone) == reference(schedule, zone, now)


@pytest.mark.parametrize("text", ["8:00", "24:00", "08:60", "noon", "xyz 08:00", "mon 08:00 tue", "mon, tue 08:00", ""])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a time of day"):
        Schedule.parse(text)


def test_a_zone_nobody_knows_is_the_default_one():
    assert zone_of("Europe/Atlantis", "Europe/Vienna").key == "Europe/Vienna"
    assert zone_of(None, "Europe/Vienna").key == "Europe/Vienna"
    assert zone_of(None, "Europe/Atlantis").key == "UTC"
