"""What a database's exception means: gone for now, in each other's way, or somebody's own fault.

Owns the two drivers' error codes. Everything above knows only `StoreUnavailable` and `StoreDamaged`.
"""

from __future__ import annotations

import sqlite3
from enum import Enum, auto
from typing import Final

from sqlalchemy import exc

_SQLITE_GONE: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOTADB,
    },
)
_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_POSTGRES_GONE: Final = (
    "08",  # connection exceptions
    "25006",  # read-only: a standby after a failover
    "28",  # credentials
    "3D",  # no such database
    "42501",  # no privilege
    "53",  # out of disk, memory, connections
    "55P03",  # lock not available in time
    "57",  # cancelled by a timeout, shut down, starting up
    "58",  # system and I/O errors
    "XX",  # internal error, data corrupted
)
_POSTGRES_CLASH: Final = ("40001", "40P01")


class Meaning(Enum):
    """What to do about an exception."""

    GONE = auto()
    """The database cannot do it now. Nothing was kept unless the commit had already been sent."""
    CUT = auto()
    """The same, and the connection is lost: worth one more try on another."""
    CLASH = auto()
    """Two transactions were in each other's way and this one was chosen to give in: try again."""
    FAULT = auto()
    """The request's own fault, or a bug."""


def meaning_of(fault: BaseException) -> Meaning:
    """Say what an exception from SQLAlchemy or a driver means."""
    if isinstance(fault, exc.DBAPIError):
        return _meaning_of_driver(fault)
    if isinstance(fault, sqlite3.Error):
        return _meaning_of_sqlite(fault)
    if isinstance(fault, exc.TimeoutError | TimeoutError):
        return Meaning.GONE
    state = getattr(fault, "sqlstate", None)
    if isinstance(state, str):
        return _meaning_of_state(state)
    # While connecting, SQLAlchemy lets the network's and the driver's own exceptions through.
    lost = isinstance(fault, OSError) or type(fault).__module__.startswith("asyncpg")
    return Meaning.CUT if lost else Meaning.FAULT


def is_damage(fault: BaseException) -> bool:
    """Say whether an exception means that the SQLite file itself is bad."""
    original = fault.orig if isinstance(fault, exc.DBAPIError) else fault
    return isinstance(original, sqlite3.Error) and _sqlite_code(original) in _SQLITE_DAMAGED


def words_of(fault: BaseException) -> str:
    """Tell the driver's own words, without the statement and its values."""
    original = fault.orig if isinstance(fault, exc.DBAPIError) else fault
    return str(original).partition("\n")[0] or type(original).__name__


def _meaning_of_driver(fault: exc.DBAPIError) -> Meaning:
    original = fault.orig
    if isinstance(original, sqlite3.Error):
        return _meaning_of_sqlite(original)
    meaning = _meaning_of_state(str(getattr(original, "sqlstate", None) or ""))
    return Meaning.CUT if fault.connection_invalidated else meaning


def _meaning_of_sqlite(fault: sqlite3.Error) -> Meaning:
    return Meaning.GONE if _sqlite_code(fault) in _SQLITE_GONE else Meaning.FAULT


def _meaning_of_state(state: str) -> Meaning:
    if state in _POSTGRES_CLASH:
        return Meaning.CLASH
    if state.startswith(("08", "57P")):
        return Meaning.CUT
    return Meaning.GONE if state.startswith(_POSTGRES_GONE) else Meaning.FAULT


def _sqlite_code(fault: sqlite3.Error) -> int:
    # The extended code carries details in its upper bits; some errors of the module itself have none.
    return getattr(fault, "sqlite_errorcode", 0) & 0xFF
