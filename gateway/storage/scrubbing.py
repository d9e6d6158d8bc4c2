"""What SQLite keeps of deleted rows, overwritten: in its file's free pages and in its log.

Owns the acts; `gateway.storage.sqlite` decides when. A small file is written anew as a whole, which leaves nothing of
before. A large one would keep writers waiting for too long: there deleted cells are overwritten as they are freed
(`secure_delete=FAST`, always on), and pages that were freed whole are filled with zeros here, some at a time.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from gateway.storage.bulk import driver_of

SMALL_BYTES: Final = 32 * 1024 * 1024
"""Files up to this size are written anew: about a tenth of a second, and as much memory for as long."""

_PAGES: Final = 256
"""Pages filled at once: a megabyte, so that others come between."""

_BLOBS: Final = 8


def is_small(conn: Connection) -> bool:
    """Say whether the file is quickly written anew."""
    return _number(conn, "page_count") * _number(conn, "page_size") <= SMALL_BYTES


def write_anew(conn: Connection) -> None:
    """Write the whole file anew. Outside any transaction."""
    driver_of(conn).execute("VACUUM")


def fill(conn: Connection) -> bool:
    """Fill some free pages with zeros, holding on to them; `False` when none is left."""
    free = _number(conn, "freelist_count")
    if not free:
        return False
    conn.exec_driver_sql("CREATE TABLE IF NOT EXISTS scrub (zeros BLOB)")
    size = min(free, _PAGES) * _number(conn, "page_size")
    conn.exec_driver_sql("INSERT INTO scrub VALUES (zeroblob(?))", (size,))
    return True


def let_go(conn: Connection) -> bool:
    """Give some filled pages back; `False` when all are given back."""
    if not conn.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'scrub'").all():
        return False
    gone = conn.exec_driver_sql(
        "DELETE FROM scrub WHERE rowid IN (SELECT rowid FROM scrub LIMIT ?) RETURNING 1", (_BLOBS,)
    )
    if gone.all():
        return True
    conn.exec_driver_sql("DROP TABLE scrub")
    return False


def empty_log(conn: Connection) -> bool:
    """Move the log into the file and cut it off; `False` while somebody reads an older state. Outside transactions."""
    busy, _, _ = driver_of(conn).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _number(conn: Connection, pragma: str) -> int:
    return int(driver_of(conn).execute(f"PRAGMA {pragma}").fetchone()[0])
