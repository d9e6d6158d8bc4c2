"""Templates edited through the API: numbers given out, versions kept, one of each published.

Owns their two tables. Refuses to know what is in a version.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection

from gateway.storage import templates
from gateway.storage.bulk import Batch, Kind, Query, ask, columns, insert_into, run
from gateway.storage.contract.edits import EditedRow, EditRow

_NEXT: Final = Query(
    """
    INSERT INTO edited_templates (project, key, last_number, changed_at) VALUES ($1, $2, 1, $3)
    ON CONFLICT (project, key) DO UPDATE SET last_number = edited_templates.last_number + 1
    RETURNING last_number
    """
)

_INSERT: Final = insert_into(
    "template_edits",
    columns(project=Kind.TEXT, key=Kind.TEXT, number=Kind.INT, version=Kind.TEXT, created_at=Kind.INT),
)

_LIST: Final = Query(
    """
    SELECT number, version, created_at, published_at FROM template_edits
    WHERE project = $1 AND key = $2 ORDER BY number DESC
    """
)

_MARK: Final = Query(
    """
    UPDATE template_edits SET published_at = COALESCE(published_at, $4)
    WHERE project = $1 AND key = $2 AND number = $3 RETURNING version
    """
)

_PUBLISH: Final = Query(
    """
    UPDATE edited_templates SET published_number = $3, published_version = $4, changed_at = $5
    WHERE project = $1 AND key = $2
    """
)

_UNPUBLISH: Final = Query(
    """
    UPDATE edited_templates SET published_number = NULL, published_version = NULL, changed_at = $3
    WHERE project = $1 AND key = $2 AND published_number IS NOT NULL RETURNING key
    """
)

_EDITED: Final = Query(
    "SELECT project, key, last_number, published_number, published_version FROM edited_templates ORDER BY project, key"
)

_SOURCES: Final = Batch(
    "SELECT t.version, t.source FROM v JOIN template_versions AS t ON t.version = v.version",
    columns(version=Kind.TEXT),
)


def next_number(conn: Connection, project: str, key: str, now: int) -> int:
    """Give out a number."""
    return int(ask(conn, _NEXT, project, key, now)[0][0])


def keep(conn: Connection, row: EditRow, source: bytes) -> None:
    """Keep a version and its text."""
    templates.keep(conn, row.version, row.key, source, row.created_at)
    run(conn, _INSERT, [(row.project, row.key, row.number, row.version, row.created_at)])


def of(conn: Connection, project: str, key: str) -> tuple[EditRow, ...]:
    """List a template's versions, newest first."""
    return tuple(
        EditRow(
            project=project,
            key=key,
            number=int(number),
            version=version,
            created_at=int(created_at),
            published_at=None if published_at is None else int(published_at),
        )
        for number, version, created_at, published_at in ask(conn, _LIST, project, key)
    )


def publish(conn: Connection, project: str, key: str, number: int, now: int) -> bool:
    """Publish a version. Two at once: the later one wins, in whole."""
    found = ask(conn, _MARK, project, key, number, now)
    if found:
        ask(conn, _PUBLISH, project, key, number, found[0][0], now)
    return bool(found)


def unpublish(conn: Connection, project: str, key: str, now: int) -> bool:
    """Take the published version back."""
    return bool(ask(conn, _UNPUBLISH, project, key, now))


def edited(conn: Connection) -> tuple[EditedRow, ...]:
    """List every edited template."""
    return tuple(
        EditedRow(
            project=project,
            key=key,
            last_number=int(last),
            published_number=None if number is None else int(number),
            published_version=version,
        )
        for project, key, last, number, version in ask(conn, _EDITED)
    )


def sources(conn: Connection, versions: Collection[str]) -> dict[str, bytes]:
    """Load several versions' texts."""
    return {version: bytes(source) for version, source in run(conn, _SOURCES, [(one,) for one in sorted(versions)])}
