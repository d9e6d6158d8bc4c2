"""The capture inbox: messages kept instead of sent.

Owns its table and its search. Refuses to know who may look: `project` is the caller's to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Select, delete, literal, select

from gateway.storage.bulk import Kind, columns, insert_into, run
from gateway.storage.contract import CapturedFilter, CapturedRow, Page
from gateway.storage.schema import CAPTURED

_INSERT: Final = insert_into(
    "captured",
    columns(
        id=Kind.ID,
        delivery_id=Kind.ID,
        notification_id=Kind.ID,
        project=Kind.TEXT,
        channel=Kind.TEXT,
        to_address=Kind.TEXT,
        original_to=Kind.TEXT,
        subject=Kind.TEXT,
        text=Kind.TEXT,
        html=Kind.TEXT,
        data=Kind.BYTES,
        headers=Kind.BYTES,
        attachments=Kind.BYTES,
        raw=Kind.BYTES,
        reference=Kind.TEXT,
        created_at=Kind.INT,
        searched=Kind.TEXT,
    ),
)

_SHOWN: Final = [column for column in CAPTURED.c if column.name not in {"searched", "raw"}]


def keep(conn: Connection, rows: Sequence[CapturedRow]) -> None:
    """Keep captured messages."""
    run(
        conn,
        _INSERT,
        [
            (
                row.id,
                row.delivery_id,
                row.notification_id,
                row.project,
                row.channel,
                row.to,
                row.original_to,
                row.subject,
                row.text,
                row.html,
                row.data,
                row.headers,
                row.attachments,
                row.raw,
                row.reference,
                row.created_at,
                f"{row.subject or ''}\n{row.text or ''}".casefold(),
            )
            for row in rows
        ],
    )


def listing(conn: Connection, where: CapturedFilter, page: Page) -> list[CapturedRow]:
    """List newest first, without `raw`, which may be megabytes each."""
    return [row_of(row) for row in conn.execute(listed(where, page)).mappings()]


def listed(where: CapturedFilter, page: Page) -> Select[Any]:
    """Write the query for a page."""
    c = CAPTURED.c
    query = select(*_SHOWN, literal(b"").label("raw"))
    for column, wanted in (
        (c.project, where.project),
        (c.channel, where.channel),
        (c.to_address, where.to),
        (c.notification_id, where.notification_id),
        (c.reference, where.reference),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if where.contains is not None:
        query = query.where(c.searched.contains(where.contains.casefold(), autoescape=True))
    if where.since is not None:
        query = query.where(c.created_at >= where.since)
    if page.before is not None:
        query = query.where(c.id < page.before)
    return query.order_by(c.id.desc()).limit(page.limit)


def one(conn: Connection, project: str | None, id_: UUID) -> CapturedRow | None:
    """Show one, `raw` included."""
    c = CAPTURED.c
    query = select(*_SHOWN, c.raw).where(c.id == id_)
    if project is not None:
        query = query.where(c.project == project)
    row = conn.execute(query).mappings().first()
    return None if row is None else row_of(row)


def clear(conn: Connection, project: str | None) -> int:
    """Delete all of a project's, or all."""
    query = delete(CAPTURED)
    if project is not None:
        query = query.where(CAPTURED.c.project == project)
    return conn.execute(query).rowcount


def row_of(row: Any) -> CapturedRow:
    """Read a whole row of the table."""
    return CapturedRow(
        id=row["id"],
        delivery_id=row["delivery_id"],
        notification_id=row["notification_id"],
        project=row["project"],
        channel=row["channel"],
        to=row["to_address"],
        original_to=row["original_to"],
        subject=row["subject"],
        text=row["text"],
        html=row["html"],
        data=row["data"],
        headers=row["headers"],
        attachments=row["attachments"],
        raw=row["raw"],
        reference=row["reference"],
        created_at=row["created_at"],
    )
