"""Rows (e) and (f): what very many waiting deliveries cost, in time and in memory."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Final

import uvloop

from gateway.clock import Clock
from gateway.model.ids import IdSource
from gateway.storage.contract import Lease
from gateway.storage.store import SqlStore
from tests.bench.bench import Bench, check
from tests.bench.fill import make_due, waiting
from tests.bench.processes import BenchFailed, sinking
from tests.bench.table import Row, Target

_CLAIMED: Final = 16
_LEASE_MS: Final = 600_000
_WARM_UP: Final = 20


def memory(bench: Bench) -> list[Row]:
    """(f) What a gateway occupies with very many waiting for a far day."""
    many = bench.sizes.many_waiting
    folder, filled = bench.filled(many)
    with sinking(folder) as sink, bench.gateway(folder, sink.port) as gateway:
        bench.say("(f) memory")
        cpu = gateway.child.cpu_s()
        time.sleep(bench.sizes.idle_s)
        cpu = (gateway.child.cpu_s() - cpu) / bench.sizes.idle_s
        idle = gateway.child.memory_mib()
        report = bench.loaded(folder, gateway.port, "--seconds", str(bench.sizes.load_s / 2))
        check(report)
        served = gateway.child.memory_mib()
        sink.wait_for(report.accepted, 120)
        most = gateway.child.memory_mib("VmHWM")
    return [
        Row(
            name=f"(f) memory, {many:,} waiting, most",
            measured=most,
            unit="MiB",
            target=Target(of="measured", most=150, unit="MiB"),
            notes=(
                f"idle {idle:.0f} MiB, under load {served:.0f} MiB; {filled}",
                f"idle, it uses {cpu:.1%} of a core and was ready in {gateway.started_s:.1f} s",
                f"meanwhile it accepted {report.per_s:,.0f}/s",
            ),
        ),
    ]


def claiming(bench: Bench) -> list[Row]:
    """(e) What claiming sixteen and giving them back costs, with few and with many due."""
    few, many = bench.sizes.few_waiting, bench.sizes.many_waiting
    (few_folder, _), (many_folder, filled) = bench.filled(few), bench.filled(many)
    bench.say("(e) claims")
    for folder in (few_folder, many_folder):
        make_due(folder / "gateway.db", time.time_ns() // 1_000_000 - 60_000)
    times = uvloop.run(_claims([few_folder, many_folder], bench.sizes.claims))
    few_ms, many_ms = (statistics.median(one) for one in times)
    return [
        Row(
            name=f"(e) claim {_CLAIMED} and release, {many:,} due",
            measured=many_ms,
            baseline=few_ms,
            unit="ms",
            ratio=many_ms / few_ms,
            target=Target(of="ratio", most=1.3),
            notes=(
                f"medians of {bench.sizes.claims} in turns, two commits each; baseline: {few:,} due",
                f"fastest {min(times[1]):.2f} ms against {min(times[0]):.2f} ms; {filled}",
            ),
        ),
    ]


async def _claims(folders: list[Path], rounds: int) -> list[list[float]]:
    """Claim and release on each database in turns; answers milliseconds, per database."""
    clock = Clock()
    stores = [SqlStore(f"sqlite:///{folder}/gateway.db", clock=clock, ids=IdSource()) for folder in folders]
    lanes = [waiting(folder / "gateway.db")[1] for folder in folders]
    times: list[list[float]] = [[] for _ in folders]
    for store in stores:
        await store.open()
    try:
        for number in range(rounds + _WARM_UP):
            places = range(len(stores))
            # Now one first, now the other: whoever follows the other's fsync finds a busier disk.
            for place in places if number % 2 else reversed(places):
                took_ms = await _claim_and_release(stores[place], lanes[place], clock())
                if number >= _WARM_UP:
                    times[place].append(took_ms)
    finally:
        for store in stores:
            await store.close()
    return times


async def _claim_and_release(store: SqlStore, lane: str, now: int) -> float:
    start = time.perf_counter()
    claims = await store.claim({lane: _CLAIMED}, Lease(worker="bench", until=now + _LEASE_MS), now)
    if len(claims) != _CLAIMED:
        raise BenchFailed(f"{len(claims)} claimed instead of {_CLAIMED}")
    await store.release([(claim.id, claim.token) for claim in claims], now)
    return (time.perf_counter() - start) * 1000
