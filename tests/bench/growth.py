"""The row of growth: what claiming, settling, listing and housekeeping cost with few rows and with very many.

On both databases, each filled twice from the same real rows (`tests.support.copies`): a month of finished
notifications, of which the last week still has its contents, and what waits since two hours. Both are measured in
turns, through the store's own verbs.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from gateway.model.ids import IdSource
from gateway.model.states import NotificationStatus
from gateway.storage.contract import Kept, Lease, NotificationFilter, Page, UpkeepRules
from gateway.storage.reading import first_id_of
from gateway.storage.store import SqlStore
from tests.bench.bench import Bench
from tests.bench.processes import BenchFailed
from tests.bench.storage import LANE, acceptance, now_ms, settlement
from tests.bench.table import Row, Target
from tests.support.copies import Copies, fill_postgres, fill_sqlite
from tests.support.postgres import Postgres, running_postgres

_REAL: Final = 1000
_DAY_MS: Final = 86_400_000
_MONTH_MS: Final = 30 * _DAY_MS
_WAITING_FOR_MS: Final = 2 * 3_600_000
_LEASE_MS: Final = 600_000
_CLAIMED: Final = 16
_SETTLED: Final = 64
_PAGE: Final = 50
_SLICE: Final = 100
_WARM_UP: Final = 5

_FINISHED_TABLES: Final = ("notifications", "requests", "deliveries", "attempts", "events")
_WAITING_TABLES: Final = ("notifications", "requests", "deliveries", "queue")

Act = Callable[["Filled", int], Awaitable[float]]


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is done again and again; `act` answers the milliseconds it took."""

    name: str
    act: Act
    most: float | None
    """The ratio that is still good. A list by status alone has none: it passes over what has another, up to a bound."""
    share: float = 1
    """How many of a run's rounds it gets."""


class Filled:
    """One database, filled."""

    def __init__(self, url: str, waiting: int, finished: int) -> None:
        self.waiting = waiting
        self.finished = finished
        self.ids = IdSource()
        self.store = SqlStore(url, now_ms, self.ids)
        self.bytes = 0

    async def make_real(self, now: int) -> None:
        """Store the rows that all others are copies of: a thousand finished long ago, a thousand that wait."""
        await self.store.open()
        began = now - _MONTH_MS
        lease = Lease(worker="bench", until=began + _LEASE_MS)
        born = [acceptance(self.ids, number, at=began, lease=lease) for number in range(_REAL)]
        await self.store.accept_many(born)
        settled = await asyncio.gather(*[self.store.settle(settlement(one, 1, at=began)) for one in born])
        due = now - _WAITING_FOR_MS
        await self.store.accept_many([acceptance(self.ids, number, at=due, due_at=due) for number in range(_REAL)])
        if not all(settled):
            raise BenchFailed("a settlement was refused")

    def copies(self, now: int) -> tuple[Copies, Copies]:
        """Say what to copy how often."""
        finished, waiting = self.finished // _REAL - 1, self.waiting // _REAL - 1
        return (
            Copies(
                tables=_FINISHED_TABLES,
                since=now - _MONTH_MS,
                until=now - _MONTH_MS + _DAY_MS // 24,
                sets=finished,
                step_ms=(_MONTH_MS - 2 * _WAITING_FOR_MS) // max(1, finished),
                from_set={"requests": finished * 23 // 30 + 1},
            ),
            Copies(
                tables=_WAITING_TABLES,
                since=now - _WAITING_FOR_MS,
                until=now,
                sets=waiting,
                step_ms=(_WAITING_FOR_MS - 60_000) // max(1, waiting),
            ),
        )


async def _claim(filled: Filled, _: int) -> float:
    now, store = now_ms(), filled.store
    began = time.perf_counter()
    claims = await store.claim({LANE: _CLAIMED}, Lease(worker="bench", until=now + _LEASE_MS), now)
    if len(claims) != _CLAIMED:
        raise BenchFailed(f"{len(claims)} claimed instead of {_CLAIMED}")
    await store.release([(claim.id, claim.token) for claim in claims], now)
    return _since(began)


async def _settle(filled: Filled, _: int) -> float:
    lease = Lease(worker="bench", until=now_ms() + _LEASE_MS)
    born = [acceptance(filled.ids, number, lease=lease) for number in range(_SETTLED)]
    await filled.store.accept_many(born)
    began = time.perf_counter()
    kept = await asyncio.gather(*[filled.store.settle(settlement(one, 1)) for one in born])
    took_ms = _since(began)
    if not all(kept):
        raise BenchFailed("a settlement was refused")
    return took_ms


def _listing(share: float | None = None, *, within_ms: int = 0, **where: object) -> Act:
    """List a page: the first, or from `share` of the month on, and then no further than `within_ms`."""
    filters = msgspec.convert(where, NotificationFilter)

    async def act(filled: Filled, number: int) -> float:
        until = now_ms() - int(_MONTH_MS * (share or 0)) + number
        before = None if share is None else first_id_of(until)
        wanted = msgspec.structs.replace(filters, since=until - within_ms) if within_ms else filters
        began = time.perf_counter()
        found = await filled.store.notifications(wanted, Page(limit=_PAGE, before=before))
        took_ms = _since(began)
        whole = 0 if wanted.status is NotificationStatus.CANCELLED else _PAGE
        if len(found.rows) != whole and found.passed is None:
            raise BenchFailed(f"{len(found.rows)} listed instead of {whole}")
        return took_ms

    return act


async def _keep_house(filled: Filled, _: int) -> float:
    now = now_ms()
    before = now - _WAITING_FOR_MS
    rules = UpkeepRules(
        notifications=Kept(before=before),
        contents=Kept(before=before),
        captured_before=before,
        captured_most=10_000,
        inbox_before=before,
        receipts_before=before,
        slice=_SLICE,
    )
    began = time.perf_counter()
    report = await filled.store.upkeep(rules, now)
    took_ms = _since(began)
    if report.deleted != _SLICE:
        raise BenchFailed(f"{report.deleted} deleted instead of {_SLICE}")
    return took_ms


# Listings come first: what is settled meanwhile would lie before all that waits.
MEASURES: Final = (
    Measure(name="list, first page", act=_listing(project="default"), most=2),
    Measure(name="list, a page of the month's middle", act=_listing(0.5, project="default"), most=2),
    Measure(name="list, completed", act=_listing(project="default", status="completed"), most=None, share=0.03),
    Measure(
        name="list, cancelled (there is none)",
        act=_listing(project="default", status="cancelled"),
        most=None,
        share=0.03,
    ),
    Measure(
        name="list, cancelled within an hour (there is none)",
        act=_listing(0.5, within_ms=3_600_000, project="default", status="cancelled"),
        most=None,
    ),
    Measure(name=f"claim {_CLAIMED} and release", act=_claim, most=1.3),
    Measure(name=f"settle {_SETTLED}", act=_settle, most=1.3),
    Measure(name=f"upkeep, a slice of {_SLICE}", act=_keep_house, most=2, share=0.1),
)


def growing(bench: Bench) -> list[Row]:
    """What each costs with few and with many rows, on both databases."""
    return [*_on_sqlite(bench), *_on_postgres(bench)]


def _sizes(bench: Bench) -> list[tuple[int, int]]:
    return [(1000, 5000), (bench.sizes.many_waiting, 5 * bench.sizes.many_waiting)]


def _on_sqlite(bench: Bench) -> list[Row]:
    with bench.folder("growth") as folder:
        paths = [folder / name for name in ("few.db", "many.db")]
        all_filled = [Filled(f"sqlite:///{path}", *sizes) for path, sizes in zip(paths, _sizes(bench), strict=True)]

        async def run() -> list[Row]:
            began = time.monotonic()
            for path, filled in zip(paths, all_filled, strict=True):
                bench.say(f"growth, SQLite: {filled.waiting:,} waiting and {filled.finished:,} finished")
                now = now_ms()
                await filled.make_real(now)
                await filled.store.close()
                await asyncio.to_thread(fill_sqlite, path, *filled.copies(now))
                await filled.store.open()
                filled.bytes = path.stat().st_size
            return await _measured(bench, "SQLite", all_filled, time.monotonic() - began)

        return uvloop.run(run())


def _on_postgres(bench: Bench) -> list[Row]:
    with running_postgres() as server:

        async def run() -> list[Row]:
            began = time.monotonic()
            all_filled: list[Filled] = []
            for sizes in _sizes(bench):
                url = await server.new_database()
                name = urlsplit(url).path[1:]
                filled = Filled(url, *sizes)
                bench.say(f"growth, PostgreSQL: {filled.waiting:,} waiting and {filled.finished:,} finished")
                now = now_ms()
                await filled.make_real(now)
                await fill_postgres(url, *filled.copies(now))
                await server.execute("VACUUM ANALYZE", database=name)
                filled.bytes = await server.value(f"SELECT pg_database_size('{name}')")
                all_filled.append(filled)
            await durable(server)
            return await _measured(bench, "PostgreSQL", all_filled, time.monotonic() - began)

        return uvloop.run(run())


async def durable(server: Postgres) -> None:
    """Let a server write as one does that keeps its data: filling it was another matter."""
    await server.execute(
        "ALTER SYSTEM RESET fsync",
        "ALTER SYSTEM RESET full_page_writes",
        "ALTER SYSTEM RESET autovacuum",
        "SELECT pg_reload_conf()",
        "CHECKPOINT",
    )


async def _measured(bench: Bench, database: str, all_filled: list[Filled], filling_s: float) -> list[Row]:
    bench.say(f"growth, {database}: measuring")
    await asyncio.to_thread(os.sync)  # what was just filled in would else hold up every commit
    rounds = bench.sizes.claims
    few, many = all_filled
    try:
        rows: list[Row] = []
        for measure in MEASURES:
            times = await _in_turns(measure, all_filled, max(5, int(rounds * measure.share)))
            rows.append(_row(database, measure, few, many, times))
    finally:
        for filled in all_filled:
            await filled.store.close()
    size = many.bytes / 2**20
    a_row = (many.bytes - few.bytes) / (many.finished + many.waiting - few.finished - few.waiting)
    note = f"{size:,.0f} MiB, {a_row:,.0f} bytes a notification with all that hangs on it; filled in {filling_s:.0f} s"
    return [msgspec.structs.replace(rows[0], notes=(*rows[0].notes, note)), *rows[1:]]


async def _in_turns(measure: Measure, all_filled: list[Filled], rounds: int) -> list[list[float]]:
    """Measure on each database in turns; answers milliseconds, per database."""
    times: list[list[float]] = [[] for _ in all_filled]
    for number in range(rounds + _WARM_UP):
        places = range(len(all_filled))
        # Now one first, now the other: whoever follows the other's fsync finds a busier disk.
        for place in places if number % 2 else reversed(places):
            took_ms = await measure.act(all_filled[place], number)
            if number >= _WARM_UP:
                times[place].append(took_ms)
    return times


def _row(database: str, measure: Measure, few: Filled, many: Filled, times: list[list[float]]) -> Row:
    few_ms, many_ms = (statistics.median(one) for one in times)
    return Row(
        name=f"growth, {database}: {measure.name}",
        measured=many_ms,
        baseline=few_ms,
        unit="ms",
        ratio=many_ms / few_ms,
        target=None if measure.most is None else Target(of="ratio", most=measure.most),
        notes=(
            (
                f"medians of {len(times[1])} in turns: {many.waiting:,} waiting and {many.finished:,} finished, against"
                f" {few.waiting:,} and {few.finished:,}; fastest {min(times[1]):.2f} ms against {min(times[0]):.2f} ms"
            ),
        ),
    )


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
