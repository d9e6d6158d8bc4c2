"""What a statement touches: asked of the planner that runs it, by running it and taking it back.

Owns how each database tells. PostgreSQL counts the rows that every node of a plan looked at, those it threw away
included; SQLite counts the steps of its machine. Either way a statement that reads a whole table, walks an index from
end to end, or sorts more than it gives, is told from one that walks to its rows, whatever its plan is called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from gateway.storage.bulk import driver_of

ITS_OWN: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "enable_bitmapscan")
"""What the gateway's connections turn off (`storage.postgres`): on again, PostgreSQL plans as it likes."""

_STEPS_A_ROW: Final = 60
"""Steps of SQLite's machine for one row of a join of a few tables, all columns read, generously."""

_STEPS_AT_FIRST: Final = 3000
"""… for opening what a statement uses and for its padding."""

_EVERY: Final = 10
_SCANS: Final = re.compile("Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan")


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """How far a statement went, in rows, and its plan."""

    rows: float
    plan: str


def walk(conn: Connection, text: str, values: tuple[Any, ...]) -> Walk:
    """Run a statement, see how far it goes, and take it back."""
    with conn.begin_nested() as point:
        found = (
            _on_postgres(conn, text, values) if conn.dialect.name == "postgresql" else _on_sqlite(conn, text, values)
        )
        point.rollback()
    return found


def plan_by_itself(conn: Connection) -> None:
    """Let PostgreSQL choose as if nobody had advised it, until the transaction ends."""
    if conn.dialect.name == "postgresql":
        for name in ITS_OWN:
            conn.exec_driver_sql(f"SET LOCAL {name} = on")


def _on_postgres(conn: Connection, text: str, values: tuple[Any, ...]) -> Walk:
    answer = conn.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", values).scalar_one()
    [top] = msgspec.json.decode(answer) if isinstance(answer, str) else answer
    nodes = list(_nodes(top["Plan"]))
    lines = [
        f"{node['Node Type']} {node.get('Relation Name', '')} {node.get('Index Name', '')} {_looked_at(node):g} rows"
        for node in nodes
    ]
    return Walk(rows=sum(_looked_at(node) for node in nodes), plan="\n".join(lines))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _looked_at(node: dict[str, Any]) -> float:
    if not _SCANS.fullmatch(node["Node Type"]):
        return 0
    kinds = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    return sum(node.get(kind, 0) for kind in kinds) * node["Actual Loops"]


def _on_sqlite(conn: Connection, text: str, values: tuple[Any, ...]) -> Walk:
    raw = driver_of(conn)
    plan = "\n".join(str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {text}", values))
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += _EVERY
        return 0

    raw.set_progress_handler(count, _EVERY)
    try:
        raw.execute(text, values).fetchall()
    finally:
        raw.set_progress_handler(None, 0)
    return Walk(rows=max(0, counted - _STEPS_AT_FIRST) / _STEPS_A_ROW, plan=f"{plan}\n{counted} steps")
