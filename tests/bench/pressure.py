"""What deliveries cost a PostgreSQL in writing: heap-only updates, dead rows, log, and what other settings would do.

`run(count)` accepts, claims and settles as many on a new database for each variant; `python -m tests.bench.pressure`
prints it. The server writes as one does that keeps its data, and vacuums by itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
import uvloop

from gateway.model.ids import IdSource
from gateway.storage.contract import Claimed, Lease, Settlement
from gateway.storage.store import SqlStore
from tests.bench.growth import durable
from tests.bench.processes import BenchFailed
from tests.bench.storage import LANE, acceptance, now_ms, settlement, settlement_of
from tests.support.postgres import Postgres, running_postgres

TABLES: Final = ("notifications", "deliveries", "queue")
_AT_ONCE: Final = 64
_ACCEPTED_AT_ONCE: Final = 1000
_LEASE_MS: Final = 600_000


def _filled_to(factor: int, *tables: str) -> tuple[str, ...]:
    return tuple(f"ALTER TABLE {table} SET (fillfactor = {factor})" for table in tables)


VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "as it is": (),
    "pages filled to the brim": _filled_to(100, "notifications", "deliveries", "queue"),
    "85 and 70, as before 0015": (*_filled_to(85, "notifications"), *_filled_to(70, "deliveries")),
    "vacuum as the server does": tuple(
        f"ALTER TABLE {table} RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)"
        for table in ("deliveries", "queue")
    ),
    "an index of states": ("CREATE INDEX notifications_by_state_tried ON notifications (state, id)",),
}
"""What is laid over the schema in each."""

_STATS: Final = """
SELECT relname, n_tup_upd, n_tup_hot_upd, n_tup_del, n_dead_tup, autovacuum_count, pg_total_relation_size(relid)
FROM pg_stat_user_tables WHERE relname = ANY($1) ORDER BY relname
"""


class TableFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one table says of itself afterwards."""

    name: str
    updated: int
    hot: int
    deleted: int
    dead: int
    vacuumed: int
    size_bytes: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant cost; `log_bytes` is the write-ahead log for each delivery: of claim and settlement, or of all."""

    name: str
    per_s: float
    log_bytes: float
    tables: tuple[TableFigures, ...]


async def run(server: Postgres, count: int) -> list[Figures]:
    """Measure every variant, with a queue that filled first and with deliveries that are settled as they come."""
    await durable(server)
    return [
        await _variant(server, name, statements, count, waits=waits)
        for waits in (True, False)
        for name, statements in VARIANTS.items()
    ]


async def _variant(server: Postgres, name: str, statements: tuple[str, ...], count: int, *, waits: bool) -> Figures:
    url = await server.new_database()
    await server.execute(*statements, "CHECKPOINT", database=urlsplit(url).path[1:])
    ids = IdSource()
    store = SqlStore(url, now_ms, ids)
    await store.open()
    watch: Any = await asyncpg.connect(url)
    try:
        if waits:
            for start in range(0, count, _ACCEPTED_AT_ONCE):
                await store.accept_many([acceptance(ids, number) for number in range(start, start + _ACCEPTED_AT_ONCE)])
        log_before = await watch.fetchval("SELECT pg_current_wal_lsn()")
        began = time.perf_counter()
        await (_carry(store, count) if waits else _pass_through(store, ids, count))
        took_s = time.perf_counter() - began
        log = await watch.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", log_before)
    finally:
        await store.close()
    try:
        # A connection tells the server what it did when it ends.
        rows = await watch.fetch(_STATS, list(TABLES))
    finally:
        await watch.close()
    return Figures(
        name=f"{name}, {'from the queue' if waits else 'at once'}",
        per_s=count / took_s,
        log_bytes=float(log) / count,
        tables=tuple(TableFigures(**dict(zip(TableFigures.__struct_fields__, row, strict=True))) for row in rows),
    )


async def _carry(store: SqlStore, count: int) -> None:
    """Claim and settle all that waits, as two dispatchers would."""
    done = 0

    async def dispatcher() -> None:
        nonlocal done
        while claims := await store.claim(
            {LANE: _AT_ONCE}, Lease(worker="bench", until=now_ms() + _LEASE_MS), now_ms()
        ):
            kept = await asyncio.gather(*[store.settle(_settled(claim)) for claim in claims])
            done += sum(kept)

    await asyncio.gather(dispatcher(), dispatcher())
    if done != count:
        raise BenchFailed(f"{done} settled instead of {count}")


async def _pass_through(store: SqlStore, ids: IdSource, count: int) -> None:
    """Accept deliveries that are born leased, and settle each once it is stored, as a gateway that keeps up does."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            lease = Lease(worker="bench", until=now_ms() + _LEASE_MS)
            one = acceptance(ids, number, lease=lease)
            await store.accept(one)
            if not await store.settle(settlement(one, 1)):
                raise BenchFailed("a settlement was refused")

    await asyncio.gather(*[caller() for _ in range(_AT_ONCE)])


def _settled(claim: Claimed) -> Settlement:
    return settlement_of(claim.id, claim.token)


def shown(found: list[Figures]) -> str:
    """Write the figures down."""
    head = f"{'variant':40}{'per s':>8}{'log, bytes each':>17}  "
    lines = [f"{head}{'table':14}{'updates':>8}{'HOT':>6}{'dead':>8}{'vacuums':>9}{'MiB':>8}"]
    for one in found:
        left = f"{one.name:40}{one.per_s:8,.0f}{one.log_bytes:17,.0f}"
        for place, table in enumerate(one.tables):
            right = f"{table.name:14}{table.updated:8,}{_share(table):>6}{table.dead:8,}{table.vacuumed:9}"
            lines.append(f"{left if place == 0 else ' ' * len(left)}  {right}{table.size_bytes / 2**20:8,.1f}")
    return "\n".join(lines)


def _share(table: TableFigures) -> str:
    return f"{table.hot / table.updated:.0%}" if table.updated else "-"


def main() -> None:
    """Print the figures of fifty thousand deliveries, or of `--quick` ones."""
    count = 5000 if "--quick" in sys.argv else 50_000
    with running_postgres() as server:
        print(shown(uvloop.run(run(server, count))))


if __name__ == "__main__":
    main()
