"""Endpoints that hear of our events: kept, changed, judged by how they answer.

Owns their table and the rule of when one is hopeless. Refuses to know the events and the secrets, which come sealed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, run, uuid_of
from gateway.storage.contract import EndpointReport, WebhookRow

GONE: Final = "gone"
FAILING: Final = "failing"
BY_HAND: Final = "by_hand"

_SUCCESS_FRESH_MS: Final = 10_000
"""A healthy endpoint's row is written this often at the most: it is one row, and every process would wait for it."""

_NAMES: Final = """
    id, project, url, events, secrets, enabled, disabled_reason, disabled_at, failures, first_failure_at,
    last_failure_at, last_success_at, replay_since IS NOT NULL, created_at
"""

_ADD: Final = Query(
    """
    INSERT INTO webhooks (id, project, url, events, secrets, enabled, failures, created_at)
    SELECT $1, $2, $3, $4, $5, TRUE, 0, CAST($6 AS bigint)
    WHERE (SELECT count(*) FROM webhooks WHERE project = $2) < $7
    RETURNING id
    """,
)

_FIND: Final = Batch(
    f"SELECT {_NAMES.replace('id, project', 'webhooks.id, project', 1)} FROM v JOIN webhooks ON webhooks.id = v.id",  # noqa: S608 - constants
    columns(id=Kind.ID),
)

_LIST: Final = Query(
    f"""
    SELECT {_NAMES} FROM webhooks
    WHERE (CAST($1 AS text) IS NULL OR project = $1) AND (CAST($2 AS {{id}}) IS NULL OR id < $2)
    ORDER BY id DESC LIMIT $3
    """,  # noqa: S608 - constants
)

_DELETE: Final = Query(
    "DELETE FROM webhooks WHERE id = $1 AND (CAST($2 AS text) IS NULL OR project = $2) RETURNING id",
)

_DELETE_NOTED: Final = Query("DELETE FROM outbox WHERE webhook_id = $1")

_HEAR_OF: Final = Query("UPDATE webhooks SET events = $1 WHERE id = $2 RETURNING id")

_SWITCH_ON: Final = Query(
    """
    UPDATE webhooks
    SET enabled = TRUE, disabled_reason = NULL, disabled_at = NULL, failures = 0, first_failure_at = NULL
    WHERE id = $1
    """,
)

_SWITCH_OFF: Final = Query(
    "UPDATE webhooks SET enabled = FALSE, disabled_reason = $1, disabled_at = $2 WHERE id = $3 AND enabled",
)

_SWITCH_OFF_FAILING: Final = Query(
    f"""
    UPDATE webhooks SET enabled = FALSE, disabled_reason = '{FAILING}', disabled_at = $1
    WHERE enabled AND last_failure_at - first_failure_at >= $2
    RETURNING {_NAMES}
    """,  # noqa: S608 - constants
)

_REPLACE_SECRETS: Final = Query("UPDATE webhooks SET secrets = $1 WHERE id = $2 AND secrets = $3 RETURNING id")

_REPLAY: Final = Query(
    """
    UPDATE webhooks
    SET replay_since = CASE WHEN replay_since < $1 THEN replay_since ELSE $1 END, replay_until = $2, replay_after = NULL
    WHERE id = $3
    RETURNING id
    """,
)

_REPORT: Final = Batch(
    f"""
    UPDATE webhooks
    SET failures = CASE WHEN v.succeeded_at IS NULL THEN failures + v.failed ELSE 0 END,
        first_failure_at = CASE WHEN v.succeeded_at IS NULL THEN coalesce(first_failure_at, v.failed_at) END,
        last_failure_at = coalesce(v.failed_at, last_failure_at),
        last_success_at = coalesce(v.succeeded_at, last_success_at),
        disabled_reason = CASE WHEN enabled AND v.gone THEN '{GONE}' ELSE disabled_reason END,
        disabled_at = CASE WHEN enabled AND v.gone THEN v.failed_at ELSE disabled_at END,
        enabled = enabled AND NOT v.gone
    FROM v
    WHERE webhooks.id = v.id
        AND (v.failed > 0 OR failures > 0 OR coalesce(last_success_at, 0) + {_SUCCESS_FRESH_MS} <= v.succeeded_at)
    """,  # noqa: S608 - constants
    columns(id=Kind.ID, failed=Kind.INT, failed_at=Kind.INT, succeeded_at=Kind.INT, gone=Kind.BOOL),
)


def add(conn: Connection, row: WebhookRow, most: int) -> bool:
    """Keep a new endpoint unless its project has enough."""
    values = (row.id, row.project, row.url, _written(row.events), row.secrets, row.created_at, most)
    return bool(ask(conn, _ADD, *values))


def find(conn: Connection, asked: Sequence[UUID]) -> list[WebhookRow | None]:
    """Show several, in the order they were asked for."""
    found = {uuid_of(row[0]): _row(row) for row in run(conn, _FIND, [(id_,) for id_ in sorted(set(asked))])}
    return [found.get(id_) for id_ in asked]


def listing(conn: Connection, project: str | None, limit: int, before: UUID | None) -> list[WebhookRow]:
    """List newest first."""
    kind = "uuid" if conn.dialect.name == "postgresql" else "blob"
    return [_row(row) for row in ask(conn, Query(_LIST.text.replace("{id}", kind)), project, before, limit)]


def remove(conn: Connection, project: str | None, id_: UUID) -> bool:
    """Forget an endpoint and what is noted for it."""
    if not ask(conn, _DELETE, id_, project):
        return False
    ask(conn, _DELETE_NOTED, id_)
    return True


def change(conn: Connection, id_: UUID, *, enabled: bool | None, events: tuple[str, ...] | None, now: int) -> bool:
    """Change what is given; answers whether there is such an endpoint."""
    if events is not None:
        ask(conn, _HEAR_OF, _written(events), id_)
    if enabled is True:
        ask(conn, _SWITCH_ON, id_)
    elif enabled is False:
        ask(conn, _SWITCH_OFF, BY_HAND, now, id_)
    return find(conn, [id_])[0] is not None


def replace_secrets(conn: Connection, id_: UUID, before: bytes, after: bytes) -> bool:
    """Exchange the secrets, unless they are no longer those that were read."""
    return bool(ask(conn, _REPLACE_SECRETS, after, id_, before))


def replay(conn: Connection, id_: UUID, since: int, until: int) -> bool:
    """Begin a replay."""
    return bool(ask(conn, _REPLAY, since, until, id_))


def switch_off_failing(conn: Connection, failing_ms: int, now: int) -> list[WebhookRow]:
    """Switch off what failed for so long without a success."""
    return [_row(row) for row in ask(conn, _SWITCH_OFF_FAILING, now, failing_ms)]


def report(conn: Connection, reports: Sequence[tuple[EndpointReport, int]]) -> None:
    """Write down how endpoints answered, and when; one success among a batch's failures is a success."""
    rows: dict[UUID, tuple[int, int | None, int | None, bool]] = {}
    for one, at in reports:
        failed, failed_at, succeeded_at, gone = rows.get(one.webhook_id, (0, None, None, False))
        if one.ok:
            succeeded_at = max(at, succeeded_at or at)
        else:
            failed, failed_at, gone = failed + 1, max(at, failed_at or at), gone or one.gone
        rows[one.webhook_id] = (failed, failed_at, succeeded_at, gone)
    run(conn, _REPORT, [(id_, *values) for id_, values in sorted(rows.items())])


def _written(events: tuple[str, ...]) -> str:
    return f",{','.join(events)},"


def _row(row: Values | Sequence[Any]) -> WebhookRow:
    return WebhookRow(
        id=uuid_of(row[0]),
        project=row[1],
        url=row[2],
        events=tuple(row[3].strip(",").split(",")),
        secrets=bytes(row[4]),
        enabled=bool(row[5]),
        disabled_reason=row[6],
        disabled_at=row[7],
        failures=row[8],
        first_failure_at=row[9],
        last_failure_at=row[10],
        last_success_at=row[11],
        replaying=bool(row[12]),
        created_at=row[13],
    )
