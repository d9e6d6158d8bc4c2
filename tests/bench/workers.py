"""The rows of workers: how fast a queue is emptied by one and by two processes, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from tests.bench.bench import Bench, check
from tests.bench.growth import durable
from tests.bench.processes import BenchFailed, GatewayOptions, serving, sinking, working
from tests.bench.table import Row
from tests.support.postgres import running_postgres

_BATCH = 1000
_DRAIN_S = 300

SETUPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "work": ((),),
    "work, twice": ((), ()),
    "work --processes 2": (("--processes", "2"),),
}
"""The processes that send, each by its arguments."""


def emptying(bench: Bench) -> list[Row]:
    """Mails a second out of a queue that `serve --no-work` filled before any worker started."""
    rows = _rows(bench, "SQLite", [None for _ in SETUPS])
    with running_postgres() as server:

        async def databases() -> list[str]:
            made = [await server.new_database() for _ in SETUPS]
            await durable(server)
            return made

        return [*rows, *_rows(bench, "PostgreSQL", asyncio.run(databases()))]


def _rows(bench: Bench, kind: str, databases: Sequence[str | None]) -> list[Row]:
    rows: list[Row] = []
    for (name, setup), database in zip(SETUPS.items(), databases, strict=True):
        bench.say(f"workers, {kind}: {name}")
        rate = _emptied(bench, setup, database)
        alone = rows[0].measured if rows else None
        note = f"{bench.sizes.mails:,} mails out of a filled queue, from the first arrival to the last"
        row = Row(name=f"workers, {kind}: {name}", measured=rate, baseline=alone, unit="mails/s")
        rows.append(
            msgspec.structs.replace(row, ratio=rate / alone)
            if alone
            else msgspec.structs.replace(row, notes=(f"{note}; baseline of the others: one process",))
        )
    return rows


def _emptied(bench: Bench, setup: tuple[tuple[str, ...], ...], database: str | None) -> float:
    count = bench.sizes.mails
    with bench.folder("workers") as folder, sinking(folder) as sink:
        options = GatewayOptions(
            sink_port=sink.port, connections=bench.connections, database=database, arguments=("--no-work",)
        )
        with serving(folder, options) as gateway:
            asked = ("--count", str(count // _BATCH), "--batch", str(_BATCH), "--connections", "1")
            check(bench.loaded(folder, gateway.port, *asked, notifications=count))
        with contextlib.ExitStack() as workers:
            for arguments in setup:
                workers.enter_context(working(folder, *arguments))
            arrived = sink.wait_for(count, _DRAIN_S)
            took_s = sink.last_at() - sink.first_at()
        # Counted once the workers are gone: what was sent twice would show here.
        if arrived != count or sink.count() != count:
            raise BenchFailed(f"{sink.count()} mails arrived of {count}")
    return count / took_s
