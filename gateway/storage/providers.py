"""Providers' switches and reports, and setting free what was held for their sake.

Owns two small tables, and the statements that bring held deliveries forward. Refuses to know breakers and what a report
means.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection

from gateway.model.states import Why
from gateway.storage.bulk import Batch, Kind, Query, Values, ask, columns, insert_into, run
from gateway.storage.contract import ProviderReport, ProviderSwitch

SLICE: Final = 500
"""Deliveries set free in one transaction: others write in between."""

_PAUSE: Final = insert_into(
    "provider_switches",
    columns(provider=Kind.TEXT, paused_at=Kind.INT, paused_by=Kind.TEXT),
    """
    ON CONFLICT (provider) DO UPDATE SET
        paused_at = coalesce(provider_switches.paused_at, excluded.paused_at),
        paused_by = CASE WHEN provider_switches.paused_at IS NULL
                         THEN excluded.paused_by ELSE provider_switches.paused_by END
    RETURNING provider, paused_at, paused_by, resumed_at
    """,
)

_RESUME: Final = insert_into(
    "provider_switches",
    columns(provider=Kind.TEXT, resumed_at=Kind.INT),
    """
    ON CONFLICT (provider) DO UPDATE SET paused_at = NULL, paused_by = NULL, resumed_at = excluded.resumed_at
    RETURNING provider, paused_at, paused_by, resumed_at
    """,
)

_SWITCHES: Final = Query("SELECT provider, paused_at, paused_by, resumed_at FROM provider_switches ORDER BY provider")

_REPORT_COLUMNS: Final = columns(
    worker=Kind.TEXT,
    provider=Kind.TEXT,
    breaker=Kind.TEXT,
    until=Kind.INT,
    detail=Kind.TEXT,
    in_use=Kind.INT,
    places=Kind.INT,
    last_outcome=Kind.TEXT,
    last_reason=Kind.TEXT,
    last_at=Kind.INT,
    seen_at=Kind.INT,
)

_REPORT: Final = insert_into(
    "provider_reports",
    _REPORT_COLUMNS,
    "ON CONFLICT (worker, provider) DO UPDATE SET "
    + ", ".join(f'"{name}" = excluded."{name}"' for name, _ in _REPORT_COLUMNS[2:]),
)

_FORGET: Final = Query("DELETE FROM provider_reports WHERE seen_at < $1")

_REPORTS: Final = Query(
    f"""
    SELECT {", ".join(f'"{name}"' for name, _ in _REPORT_COLUMNS)} FROM provider_reports
    WHERE seen_at >= $1 ORDER BY provider, worker
    """,  # noqa: S608 - names of our own columns
)

_HELD: Final = Batch(
    f"""
    SELECT q.delivery_id, v.now
    FROM v
    JOIN queue AS q ON q.lane = v.lane AND q.due_at > v.now AND q.due_at <= v.until
    JOIN deliveries AS d ON d.id = q.delivery_id
    WHERE q.leased_by IS NULL AND d.status = 'held' AND d.reason = v.reason
    LIMIT {SLICE} {{lock q skip}}
    """,  # noqa: S608 - a number of our own
    columns(lane=Kind.TEXT, reason=Kind.TEXT, until=Kind.INT, now=Kind.INT),
)

_MOMENT: Final = columns(id=Kind.ID, now=Kind.INT)
_DUE: Final = Batch("UPDATE queue SET due_at = v.now FROM v WHERE queue.delivery_id = v.id", _MOMENT)
_SHOW: Final = Batch("UPDATE deliveries SET due_at = v.now FROM v WHERE deliveries.id = v.id", _MOMENT)


def pause(conn: Connection, provider: str, by: str, now: int) -> ProviderSwitch:
    """Pause; the first word stays."""
    return _switch(run(conn, _PAUSE, [(provider, now, by)])[0])


def resume(conn: Connection, provider: str, now: int) -> ProviderSwitch:
    """Take into use again."""
    return _switch(run(conn, _RESUME, [(provider, now)])[0])


def switches(conn: Connection) -> list[ProviderSwitch]:
    """List every switch."""
    return [_switch(row) for row in ask(conn, _SWITCHES)]


def report(conn: Connection, reports: Sequence[ProviderReport], forget_before: int) -> None:
    """Keep the latest word, and forget processes that are gone."""
    names = [name for name, _ in _REPORT_COLUMNS]
    run(conn, _REPORT, [tuple(getattr(one, name) for name in names) for one in reports])
    ask(conn, _FORGET, forget_before)


def reports(conn: Connection, since: int) -> list[ProviderReport]:
    """List the reports seen since then."""
    names = [name for name, _ in _REPORT_COLUMNS]
    return [ProviderReport(**dict(zip(names, row, strict=True))) for row in ask(conn, _REPORTS, since)]


def release(conn: Connection, lanes: Collection[str], reasons: Collection[Why], until: int, now: int) -> int:
    """Make one slice of what is held due now; answers how many it was."""
    asked = [(lane, reason.value, until, now) for lane in sorted(lanes) for reason in sorted(reasons)]
    found = sorted(set(run(conn, _HELD, asked)))
    run(conn, _DUE, found)
    run(conn, _SHOW, found)
    return len(found)


def _switch(row: Values) -> ProviderSwitch:
    return ProviderSwitch(provider=row[0], paused_at=row[1], paused_by=row[2], resumed_at=row[3])
