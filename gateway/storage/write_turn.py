"""Taking turns at SQLite's one write lock, between processes.

SQLite keeps no queue: who finds the lock taken sleeps, a little longer each time, up to a tenth of a second, and
whoever asks at the right moment is let in. A process that writes without a pause then starves the others for seconds
(measured: one of two got nothing in three). Here who is refused asks again every millisecond, and says so by a shared
lock on a file beside the database; who begins to write looks there, and lets the other go first. Both locks end with
their process, so nobody waits for one that died.

Owns that file and the waiting. Refuses to know what is written. Used on the event loop, by one task at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_AGAIN_S: Final = 0.001
"""How often who was refused asks again: below the time of one commit, so that no free moment is missed."""
_BEFORE_YOU_S: Final = 0.002
"""How long who begins steps aside for who waits: some of those moments."""
_COMPANY_S: Final = 1.0
"""How long after the last sign of another process each transaction looks for it."""
_LOOK_S: Final = 0.02
"""How often it is looked for otherwise."""


class WriteTurn:
    """This process's turns. `patience_ms` is how long it waits for one."""

    def __init__(self, database: Path, patience_ms: int) -> None:
        self._path = database.with_name(database.name + "-turn")
        self._patience_s = patience_ms / 1000
        self._file: int | None = None
        self._company_until = 0.0
        self._looked_at = 0.0

    def open(self) -> None:
        """Make the file, for its owner only. Without one (a read-only folder), nobody is let go first."""
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                self._file = None

    def close(self) -> None:
        """Let go of the file. It stays: removing it would part those who have it open from those to come."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def take(self, begin: Callable[[], object]) -> None:
        """Begin a writing transaction. Raises what `begin` raised last when patience ends."""
        if self.is_wanted():
            await asyncio.sleep(_BEFORE_YOU_S)
        if _begins(begin):
            return
        ends = time.monotonic() + self._patience_s
        self._say(fcntl.LOCK_SH)
        try:
            while time.monotonic() < ends:
                await asyncio.sleep(_AGAIN_S)
                if _begins(begin):
                    return
            begin()
        finally:
            self._say(fcntl.LOCK_UN)
            self._company_until = time.monotonic() + _COMPANY_S

    def is_wanted(self) -> bool:
        """Say whether another process is seen to wait for its turn."""
        now = time.monotonic()
        if self._file is None or (now >= self._company_until and now - self._looked_at < _LOOK_S):
            return False
        self._looked_at = now
        if self._say(fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._say(fcntl.LOCK_UN)
            return False
        self._company_until = now + _COMPANY_S
        return True

    def _say(self, what: int) -> bool:
        """Change this process's lock on the file; `False` where another's is in the way."""
        if self._file is None:
            return True
        try:
            fcntl.flock(self._file, what)
        except OSError:
            return False
        return True


def _begins(begin: Callable[[], object]) -> bool:
    """Begin, unless another has the lock; answers whether."""
    try:
        begin()
    except sqlite3.OperationalError as fault:
        if getattr(fault, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            return False
        raise
    return True
