"""A time of day on some days of the week, as a person's own clock shows it.

Pure. Owns what such a time means on the days on which a zone moves its clocks: RFC 5545, 3.3.5. A time that the clock
leaps over is read with the offset from before the leap (02:30 becomes 03:30), and of one that comes twice the first
counts. Refuses to know why somebody waits for it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM: Final = re.compile(
    r"(?:(?P<days>[a-z]{3}(?:,[a-z]{3}){0,6}) )?(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9])"
)
_AHEAD: Final = range(-1, 9)
"""Days to look at, beginning with the day before: a week, and one more in case a zone leaves out a whole day."""


class Schedule(msgspec.Struct, frozen=True):
    """`08:00`, or `mon,thu 08:00`; `days` are numbered from Monday, 0."""

    hour: int
    minute: int
    days: frozenset[int] = frozenset(range(7))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read one; raises `ValueError` with a sentence for anything else."""
        found = _FORM.fullmatch(text.strip().lower())
        names = [] if found is None or found["days"] is None else found["days"].split(",")
        if found is None or not set(names) <= set(_DAYS):
            message = f"{text!r} is not a time of day: write 08:00, or mon,thu 08:00"
            raise ValueError(message)
        days = frozenset(map(_DAYS.index, names)) if names else frozenset(range(7))
        return cls(int(found["hour"]), int(found["minute"]), days)

    def after(self, now_ms: int, zone: ZoneInfo) -> int:
        """Tell the first such moment after `now_ms` where the clock is `zone`'s (both Unix ms)."""
        today = datetime.fromtimestamp(now_ms / 1000, zone).date()
        moments = (
            int(datetime(day.year, day.month, day.day, self.hour, self.minute, tzinfo=zone).timestamp()) * 1000
            for ahead in _AHEAD
            if (day := today + timedelta(days=ahead)).weekday() in self.days
        )
        return min(moment for moment in moments if moment > now_ms)


def zone_of(name: str | None, default: str) -> ZoneInfo:
    """Find a person's zone, or the default where theirs is not known (any more)."""
    try:
        return ZoneInfo(name or default)
    except (LookupError, ValueError, OSError):  # a name that is no zone here: the data of time zones changes
        return ZoneInfo("UTC") if name is None else zone_of(None, default)
