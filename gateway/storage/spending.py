"""Money set aside, by channel and day, shared by all processes.

Owns the table `spending`. A day's row is locked, judged and written back by one transaction, so that no day ever holds
more than it may. Refuses to know prices and time zones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import Spend

_KEPT_MS: Final = 8 * 86_400_000
"""How long a day is kept: its deliveries may still give back, and an operator may want to look."""

_DAY: Final = columns(channel=Kind.TEXT, day=Kind.INT)
_ROW: Final = columns(channel=Kind.TEXT, day=Kind.INT, amount=Kind.INT)

_FIND: Final = Query("SELECT amount FROM spending WHERE channel = $1 AND day = $2")

_FIND_LOCKED: Final = Batch(
    "SELECT s.channel, s.day, s.amount FROM v JOIN spending AS s ON s.channel = v.channel AND s.day = v.day"
    " ORDER BY s.channel, s.day {lock s}",
    _DAY,
)

_BEGIN: Final = insert_into("spending", _ROW, "ON CONFLICT (channel, day) DO NOTHING")

_KEEP: Final = insert_into("spending", _ROW, "ON CONFLICT (channel, day) DO UPDATE SET amount = excluded.amount")

_FORGET: Final = Batch(
    "DELETE FROM spending WHERE EXISTS (SELECT 1 FROM v WHERE v.channel = spending.channel AND spending.day < v.day)",
    _DAY,
)


def spend(conn: Connection, asked: Sequence[Spend]) -> list[int | None]:
    """Set aside what fits, in the order of asking; answers each with its day's sum, `None` where it does not fit."""
    days = sorted({(one.channel, one.day) for one in asked})
    sums = _lock(conn, days)
    granted = [_granted(sums, one) for one in asked]
    run(conn, _KEEP, [(*day, sums[day]) for day in days])
    return granted


def spent(conn: Connection, channel: str, day: int) -> int:
    """Tell a day's sum."""
    rows = ask(conn, _FIND, channel, day)
    return int(rows[0][0]) if rows else 0


def _granted(sums: dict[tuple[str, int], int], one: Spend) -> int | None:
    day = (one.channel, one.day)
    total = max(0, sums[day] + one.amount)
    if one.amount > 0 and total > one.most:
        return None
    sums[day] = total
    return total


def _lock(conn: Connection, days: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Read the days under a lock. A new one is begun first, since PostgreSQL locks only rows that are there."""
    sums = _read(conn, days)
    missing = [day for day in days if day not in sums]
    if missing:
        run(conn, _FORGET, [(channel, day - _KEPT_MS) for channel, day in missing])
        run(conn, _BEGIN, [(channel, day, 0) for channel, day in missing])
        sums |= _read(conn, missing)
    return sums


def _read(conn: Connection, days: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
    return {(channel, int(day)): int(amount) for channel, day, amount in run(conn, _FIND_LOCKED, days)}
