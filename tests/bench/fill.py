"""A database with very many deliveries waiting, made from a thousand real ones.

A gateway accepts the first thousand, so that every row is what it really writes; the rest are copies with ids, and
addresses, of their own. Knows which tables hold ids and no column besides.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

_ID_COLUMNS: Final = {
    "notifications": ("id",),
    "requests": ("notification_id",),
    "deliveries": ("id", "notification_id"),
    "queue": ("delivery_id",),
}
_CACHE_KIB: Final = 512 * 1024
_STEP_MS: Final = 10_000
"""By how much each set of copies is younger: more than the real ones took, so that keys only ever grow."""


def multiply(path: Path, wanted: int) -> float:
    """Copy what waits until `wanted` deliveries do; answers the seconds it took. Nobody else may have the file open."""
    start = time.monotonic()
    with _opened(path) as raw:
        real = _count(raw)
        copies = wanted // real - 1
        raw.create_function("younger", 2, _younger, deterministic=True)
        raw.execute("BEGIN")
        raw.execute("CREATE TEMP TABLE numbers (n INTEGER PRIMARY KEY)")
        raw.executemany("INSERT INTO numbers VALUES (?)", ((number,) for number in range(1, copies + 1)))
        for table, ids in _ID_COLUMNS.items():
            _copy(raw, table, ids)
        raw.execute("COMMIT")
    return time.monotonic() - start


def make_due(path: Path, at: int) -> None:
    """Make everything that waits due at `at` (Unix ms), as if its time had come."""
    with _opened(path) as raw:
        raw.execute("BEGIN")
        raw.execute("UPDATE queue SET due_at = ?", (at,))
        raw.execute("UPDATE deliveries SET due_at = ?", (at,))
        raw.execute("COMMIT")


def waiting(path: Path) -> tuple[int, str]:
    """Count what waits, and name its lane."""
    with _opened(path) as raw:
        return _count(raw), raw.execute("SELECT lane FROM queue LIMIT 1").fetchone()[0]


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        # A crash while filling loses a file that nobody keeps.
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        raw.execute("PRAGMA temp_store=MEMORY")
        yield raw
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _count(raw: sqlite3.Connection) -> int:
    return raw.execute("SELECT count(*) FROM queue").fetchone()[0]


def _copy(raw: sqlite3.Connection, table: str, ids: tuple[str, ...]) -> None:
    columns = [row[1] for row in raw.execute(f"PRAGMA table_info({table})")]
    written = {name: f'r."{name}"' for name in columns}
    written |= {name: f'younger(r."{name}", numbers.n)' for name in ids}
    if "address" in written:
        written["address"] = "numbers.n || '.' || r.\"address\""
    key = ", ".join(f'r."{name}"' for name in ids)
    raw.execute(f"CREATE TEMP TABLE real_{table} AS SELECT * FROM {table}")
    raw.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(written.values())}"
        f" FROM numbers CROSS JOIN (SELECT * FROM real_{table} AS r ORDER BY {key}) AS r",
    )


def _younger(id_: bytes, sets: int) -> bytes:
    """Move a UUIDv7 forward in time: its first 48 bits are milliseconds (RFC 9562, 5.7)."""
    return (int.from_bytes(id_) + (sets * _STEP_MS << 80)).to_bytes(16)
