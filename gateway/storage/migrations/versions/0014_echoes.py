"""Which stored event to an endpoint speaks of which notification, delivery or address."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_ID = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
_AT_ONCE: Final = 500

_ECHOES = sa.table(
    "echoes",
    *(sa.column(name, _ID) for name in ("carrier_id", "notification_id", "delivery_id")),
    *(sa.column(name, sa.Text()) for name in ("channel", "address")),
)
_CARRIERS = sa.table("notifications", sa.column("id", _ID), sa.column("category", sa.Text()))
_REQUESTS = sa.table("requests", sa.column("notification_id", _ID), sa.column("request", sa.LargeBinary()))


def upgrade() -> None:
    """Make the table, and note what is stored already. What an older process relays meanwhile is not noted."""
    op.create_table(
        "echoes",
        sa.Column("carrier_id", _ID, nullable=False),
        sa.Column("notification_id", _ID, nullable=True),
        sa.Column("delivery_id", _ID, nullable=True),
        sa.Column("channel", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("carrier_id"),
        sqlite_with_rowid=False,
    )
    for name, columns in (("notification", ["notification_id"]), ("delivery", ["delivery_id"])):
        _index(f"echoes_by_{name}", columns)
    _index("echoes_by_address", ["address", "channel"])
    _note_stored()


def downgrade() -> None:
    """Drop it."""
    op.drop_table("echoes")


def _index(name: str, columns: list[str]) -> None:
    known = sa.text(f"{columns[0]} IS NOT NULL")
    op.create_index(name, "echoes", columns, sqlite_where=known, postgresql_where=known)


def _note_stored() -> None:
    bind = op.get_bind()
    after: Any = None
    while True:
        query = (
            sa.select(_CARRIERS.c.id, _REQUESTS.c.request)
            .join(_REQUESTS, _REQUESTS.c.notification_id == _CARRIERS.c.id)
            .where(_CARRIERS.c.category == "_events")
            .order_by(_CARRIERS.c.id)
            .limit(_AT_ONCE)
        )
        rows = bind.execute(query if after is None else query.where(_CARRIERS.c.id > after)).all()
        if not rows:
            return
        after = rows[-1][0]
        bind.execute(_ECHOES.insert(), [_echo(id_, json.loads(bytes(request))["event"]) for id_, request in rows])


def _echo(carrier_id: Any, event: dict[str, Any]) -> dict[str, Any]:
    return {
        "carrier_id": carrier_id,
        "notification_id": _read(event.get("notification_id"), carrier_id),
        "delivery_id": _read(event.get("delivery_id"), carrier_id),
        "channel": event.get("channel"),
        "address": event.get("address"),
    }


def _read(shown: str | None, like: Any) -> Any:
    """Read an id as the API shows it (`ntf_0195…`), in the form that this database keeps ids in."""
    if shown is None:
        return None
    id_ = UUID(hex=shown.rpartition("_")[2])
    return id_.bytes if isinstance(like, bytes) else id_
