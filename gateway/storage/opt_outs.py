"""Opt-outs by address: who wants no more of a category on a channel.

Owns its table. What a person says without signing in, through the link in a message, is said by an address. Refuses to
know which categories may be opted out of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import OptOut, OptOutRow

_KEY: Final = columns(channel=Kind.TEXT, address=Kind.TEXT, category=Kind.TEXT)

_INSERT: Final = insert_into(
    "opt_outs",
    columns(channel=Kind.TEXT, address=Kind.TEXT, category=Kind.TEXT, source=Kind.TEXT, created_at=Kind.INT),
    "ON CONFLICT (channel, address, category) DO NOTHING RETURNING channel",
)

_FIND: Final = Batch(
    """
    SELECT o.channel, o.address, o.category
    FROM v JOIN opt_outs AS o ON o.channel = v.channel AND o.address = v.address AND o.category = v.category
    """,
    _KEY,
)

_TAKE_BACK: Final = Batch(
    """
    DELETE FROM opt_outs WHERE (channel, address, category, source) IN
        (SELECT channel, address, category, source FROM v)
    """,
    columns(channel=Kind.TEXT, address=Kind.TEXT, category=Kind.TEXT, source=Kind.TEXT),
)

_REMOVE: Final = Query(
    "DELETE FROM opt_outs WHERE channel = $1 AND address = $2 AND category = $3 RETURNING channel",
)


def add(conn: Connection, row: OptOutRow) -> bool:
    """Note an opt-out; `False` if it was known."""
    return add_many(conn, [row]) > 0


def add_many(conn: Connection, rows: Sequence[OptOutRow]) -> int:
    """Note several, each (channel, address, category) once; answers how many were not known."""
    values = [(row.channel, row.address, row.category, row.source, row.created_at) for row in rows]
    return len(run(conn, _INSERT, values))


def take_back(conn: Connection, rows: Sequence[OptOutRow]) -> None:
    """Forget those that came from the same source; what a person said elsewhere stays."""
    run(conn, _TAKE_BACK, [(row.channel, row.address, row.category, row.source) for row in rows])


def remove(conn: Connection, one: OptOut) -> bool:
    """Forget an opt-out; `False` if there was none."""
    return bool(ask(conn, _REMOVE, *one))


def look_up(conn: Connection, asked: Sequence[Collection[OptOut]]) -> list[set[OptOut]]:
    """Find those of several callers' (channel, address, category) that were opted out of."""
    wanted = sorted({one for several in asked for one in several})
    found = {(row[0], row[1], row[2]) for row in run(conn, _FIND, wanted)}
    return [{one for one in several if one in found} for several in asked]
