"""Quiet hours: whether somebody wants to be left alone at a moment, and until when.

Pure. Owns what the hours mean on the days when clocks change. One night is one stretch of time: it begins when the wall
clock first shows `start` or more, and ends after the last moment at which it shows less than `end`. So where an hour
comes twice nobody is woken between its two passes, and where the hands jump over `start` or `end`, the jump is the
beginning or the end.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

_DAY_MINUTES: Final = 1440
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
_NIGHTS_MOST: Final = 8
"""Nights that may follow one another without a moment between: only where a zone leaves out whole days."""


class QuietHours(msgspec.Struct, frozen=True, kw_only=True):
    """From `start` to before `end`, in minutes after midnight, perhaps over midnight. Equal: never.

    `timezone` is theirs alone; without one the hours are those of wherever the person is.
    """

    start: int
    end: int
    timezone: str | None = None


def read_clock(text: str) -> int:
    """Read `22:00` as minutes after midnight; the form was checked before."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def write_clock(minutes: int) -> str:
    """Write minutes after midnight as `22:00`."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def zone_of(*names: str | None) -> ZoneInfo:
    """Find the first of these zones that is known here; names are checked when stored, but machines differ."""
    for name in names:
        if name is not None:
            try:
                return ZoneInfo(name)
            except (LookupError, ValueError, OSError):
                continue
    return ZoneInfo("UTC")


def quiet_until(hours: QuietHours, zone: ZoneInfo, now: int) -> int | None:
    """Say until when (Unix ms) it is quiet; `None` if it is not quiet at `now`."""
    if hours.start == hours.end:
        return None
    until = _night_around(hours, zone, now)
    for _ in range(_NIGHTS_MOST):
        later = None if until is None else _night_around(hours, zone, until)
        if later is None:
            break
        until = later
    return until


def _night_around(hours: QuietHours, zone: ZoneInfo, at: int) -> int | None:
    """Find the end of the latest-ending night that holds a moment."""
    moment = datetime.fromtimestamp(at // 1000, UTC)
    today = moment.astimezone(zone).date()
    ends = [end for start, end in _nights(hours.start, hours.end, zone, today) if start <= moment < end]
    return int(max(ends).timestamp()) * 1000 if ends else None


@lru_cache(maxsize=4096)  # many people have the same hours, and each is asked about twice for every message
def _nights(start: int, end: int, zone: ZoneInfo, today: date) -> tuple[tuple[datetime, datetime], ...]:
    """Tell when the nights of yesterday, today and tomorrow begin and end."""
    evenings = (today - _DAY, today, today + _DAY)
    mornings = [evening + _DAY if end < start else evening for evening in evenings]
    return tuple(
        (_first_at(evening, start, zone), _last_before(morning, end, zone))
        for evening, morning in zip(evenings, mornings, strict=True)
    )


def _wall(day: date, minutes: int) -> datetime:
    return datetime(day.year, day.month, day.day, minutes // 60, minutes % 60)  # noqa: DTZ001 - a wall clock's


def _first_at(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Find when the wall clock first shows a time of day or more."""
    wall = _wall(day, minutes)
    return _jump_over(wall, zone) or wall.replace(tzinfo=zone).astimezone(UTC)


def _last_before(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Find the end of the last moment at which the wall clock shows less than a time of day."""
    wall = _wall(day, minutes) - _SECOND
    return _jump_over(wall, zone) or wall.replace(tzinfo=zone, fold=1).astimezone(UTC) + _SECOND


def _jump_over(wall: datetime, zone: ZoneInfo) -> datetime | None:
    """Find the moment at which the hands jump over a time that the wall clock never shows; `None` where it does."""
    before = wall.replace(tzinfo=zone, fold=0).utcoffset()
    after = wall.replace(tzinfo=zone, fold=1).utcoffset()
    if before is None or after is None or before >= after:
        return None
    low, high = (wall - after).replace(tzinfo=UTC), (wall - before).replace(tzinfo=UTC)
    while high - low > _SECOND:
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
