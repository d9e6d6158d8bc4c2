"""Rates shared by all processes: when the next one may go.

Owns the ring of granted moments per key. A reservation is exact: no window of `window_ms` ever holds more than `count`
granted moments, and moments never go backwards.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import PaceUse, Reservation

_INT64: Final = "q"
"""Eight bytes each, in the machine's order: a database is not moved between machines of different order while rates
are remembered for minutes."""

_KEY: Final = columns(key=Kind.TEXT)

_FIND: Final = Batch("SELECT p.key, p.grants FROM v JOIN pacing AS p ON p.key = v.key", _KEY)

_FIND_LOCKED: Final = Batch(
    "SELECT p.key, p.grants FROM v JOIN pacing AS p ON p.key = v.key ORDER BY p.key {lock p}",
    _KEY,
)

_WALK: Final = Query("SELECT key, until FROM pacing WHERE key > $1 ORDER BY key LIMIT $2 {lock skip}")

_FORGET: Final = Batch("DELETE FROM pacing WHERE key IN (SELECT key FROM v)", _KEY)

_RING: Final = columns(key=Kind.TEXT, grants=Kind.BYTES, until=Kind.INT)

_START: Final = insert_into("pacing", _RING, "ON CONFLICT (key) DO NOTHING")

_KEEP: Final = insert_into(
    "pacing",
    _RING,
    "ON CONFLICT (key) DO UPDATE SET grants = excluded.grants, until = excluded.until",
)


def reserve(conn: Connection, reservations: Sequence[Reservation]) -> list[int]:
    """Grant a moment to each; several under one key get successive ones, in the order of asking."""
    keys = sorted({reservation.key for reservation in reservations})
    rings = _lock(conn, keys)
    windows: dict[str, int] = {}
    granted: list[int] = []
    for asked in reservations:
        ring = rings.setdefault(asked.key, [])
        moment = next_moment(ring, asked)
        granted.append(moment)
        windows[asked.key] = max(windows.get(asked.key, 0), asked.window_ms)
        if moment > asked.now and not asked.ahead:
            continue
        ring.append(moment)
        # What lies a whole window behind the last grant can hold nothing back any more.
        del ring[: max(len(ring) - asked.count, bisect_right(ring, moment - asked.window_ms))]
    run(
        conn,
        _KEEP,
        [(key, array(_INT64, rings[key]).tobytes(), rings[key][-1] + windows[key]) for key in keys],
    )
    return granted


def prune(conn: Connection, after: str, now: int, limit: int) -> str:
    """Forget idle rates among the next few keys after `after`; answers where to go on, empty at the end.

    A walk through the keys needs no index on time, which every reservation would have to move.
    """
    rows = ask(conn, _WALK, after, limit)
    run(conn, _FORGET, [(key,) for key, until in rows if until < now])
    return rows[-1][0] if len(rows) == limit else ""


def peek(conn: Connection, reservation: Reservation) -> int:
    """Tell what `reserve` would grant."""
    rings = [_read(grants) for _, grants in run(conn, _FIND, [(reservation.key,)])]
    return next_moment(rings[0] if rings else [], reservation)


def use(conn: Connection, rates: Sequence[Reservation]) -> list[PaceUse]:
    """Tell how many moments of each rate's window are taken, those reserved ahead included."""
    keys = sorted({(rate.key,) for rate in rates})
    rings = {key: _read(grants) for key, grants in run(conn, _FIND, keys)}
    found: list[PaceUse] = []
    for rate in rates:
        ring = rings.get(rate.key, [])
        next_at = next_moment(ring, rate)
        # A ring forgets what lies a window behind its last grant, and that may have been granted ahead of now.
        used = rate.count if next_at > rate.now else len(ring) - bisect_right(ring, rate.now - rate.window_ms)
        found.append(PaceUse(used=used, next_at=next_at))
    return found


def next_moment(ring: Sequence[int], asked: Reservation) -> int:
    """Decide the next moment after those granted, oldest first."""
    moment = max(asked.now, ring[-1]) if ring else asked.now
    if len(ring) >= asked.count:
        moment = max(moment, ring[-asked.count] + asked.window_ms)
    return moment


def _lock(conn: Connection, keys: Sequence[str]) -> dict[str, list[int]]:
    """Read the rings under a lock. SQLite has one writer; PostgreSQL can only lock rows that are there."""
    rings = {key: _read(grants) for key, grants in run(conn, _FIND_LOCKED, [(key,) for key in keys])}
    if conn.dialect.name != "postgresql":
        return rings
    while missing := [key for key in keys if key not in rings]:
        run(conn, _START, [(key, b"", 0) for key in missing])
        # Housekeeping may take an idle row away between the two statements: then once more.
        rings.update((key, _read(grants)) for key, grants in run(conn, _FIND_LOCKED, [(key,) for key in missing]))
    return rings


def _read(grants: bytes) -> list[int]:
    ring = array(_INT64)
    ring.frombytes(grants)
    return ring.tolist()
