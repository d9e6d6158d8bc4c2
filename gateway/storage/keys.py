"""API keys, by their hash.

Owns their table. Refuses to know the keys themselves and what a scope allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, select

from gateway.model.states import Mode, Scope
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract import KeyRow
from gateway.storage.schema import KEYS

_INSERT: Final = insert_into(
    "api_keys",
    columns(
        id=Kind.ID,
        name=Kind.TEXT,
        project=Kind.TEXT,
        mode=Kind.TEXT,
        scopes=Kind.TEXT,
        hash=Kind.BYTES,
        hint=Kind.TEXT,
        rate=Kind.TEXT,
        created_at=Kind.INT,
        expires_at=Kind.INT,
        revoked_at=Kind.INT,
        last_used_at=Kind.INT,
    ),
)

_REVOKE: Final = Query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $1) WHERE id = $2 RETURNING id")

_TOUCH: Final = Batch(
    """
    UPDATE api_keys SET last_used_at = v.used_at
    FROM v
    WHERE api_keys.id = v.id AND (api_keys.last_used_at IS NULL OR api_keys.last_used_at < v.used_at)
    """,
    columns(id=Kind.ID, used_at=Kind.INT),
)


def add(conn: Connection, key: KeyRow) -> None:
    """Keep a new key."""
    run(
        conn,
        _INSERT,
        [
            (
                key.id,
                key.name,
                key.project,
                key.mode,
                ",".join(key.scopes),
                key.hash,
                key.hint,
                key.rate,
                key.created_at,
                key.expires_at,
                key.revoked_at,
                key.last_used_at,
            ),
        ],
    )


def by_hash(conn: Connection, hashes: Sequence[bytes]) -> list[KeyRow | None]:
    """Find keys, revoked and expired ones too."""
    rows = conn.execute(select(KEYS).where(KEYS.c.hash.in_(sorted(set(hashes))))).mappings()
    found = {bytes(row["hash"]): _row(row) for row in rows}
    return [found.get(hash_) for hash_ in hashes]


def listing(conn: Connection, project: str | None) -> list[KeyRow]:
    """List newest first."""
    query = select(KEYS).order_by(KEYS.c.id.desc())
    if project is not None:
        query = query.where(KEYS.c.project == project)
    return [_row(row) for row in conn.execute(query).mappings()]


def revoke(conn: Connection, id_: UUID, now: int) -> bool:
    """Revoke; the first time stays on record."""
    return bool(ask(conn, _REVOKE, now, id_))


def touch(conn: Connection, used: Mapping[UUID, int]) -> None:
    """Note when keys were last used; an older note never replaces a newer one."""
    run(conn, _TOUCH, sorted(used.items()))


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=row["id"],
        name=row["name"],
        project=row["project"],
        mode=Mode(row["mode"]),
        scopes=tuple(Scope(scope) for scope in row["scopes"].split(",") if scope),
        hash=bytes(row["hash"]),
        hint=row["hint"],
        rate=row["rate"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
