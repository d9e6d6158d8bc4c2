"""Kept template versions: what a notification was accepted with stays loadable.

Owns their table. Refuses to know what is in a version. They are few (one per template and deploy) and hold no personal
data, so none is pruned.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from gateway.storage.bulk import Kind, Query, ask, columns, insert_into, run

_INSERT: Final = insert_into(
    "template_versions",
    columns(version=Kind.TEXT, key=Kind.TEXT, source=Kind.BYTES, created_at=Kind.INT),
    "ON CONFLICT (version) DO NOTHING",
)

_FIND: Final = Query("SELECT source FROM template_versions WHERE version = $1")


def keep(conn: Connection, version: str, key: str, source: bytes, now: int) -> None:
    """Keep a version; the same one again changes nothing."""
    run(conn, _INSERT, [(version, key, source, now)])


def load(conn: Connection, version: str) -> bytes | None:
    """Load a kept version."""
    found = ask(conn, _FIND, version)
    return bytes(found[0][0]) if found else None
