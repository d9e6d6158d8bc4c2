"""How fast the store is: accepting, settling, claiming with little and with much waiting.

`run(url)` measures one database and answers a table; `python -m tests.bench.storage [url]` prints it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from gateway.model.ids import IdSource
from gateway.model.states import Mode, OnUnknown, Status
from gateway.storage.contract import (
    Acceptance,
    AttemptRow,
    DeliveryRow,
    Lease,
    NotificationRow,
    Settlement,
)
from gateway.storage.store import SqlStore

LANE = "email:normal"
REQUEST = json.dumps(
    {"template": "order-shipped", "data": {"order": "A-1234", "name": "Ada"}, "pad": "x" * 200}
).encode()
RECIPIENT = b'{"email":"ada@example.com","name":"Ada","locale":"de","timezone":"Europe/Berlin"}'
SWITCH_S = 0.0003


def now_ms() -> int:
    """Tell the time."""
    return time.time_ns() // 1_000_000


def acceptance(
    ids: IdSource, number: int, *, at: int | None = None, due_at: int | None = None, lease: Lease | None = None
) -> Acceptance:
    """Make a notification to one recipient, accepted now or `at` (Unix ms)."""
    now = now_ms() if at is None else at
    return Acceptance(
        notification=NotificationRow(
            id=ids.new(now),
            project="default",
            mode=Mode.LIVE,
            category="orders",
            priority="normal",
            template_key="order-shipped",
            template_version="sha256:" + "0" * 64,
            reference=f"order-{number}",
            request=REQUEST,
            created_at=now,
        ),
        deliveries=(
            DeliveryRow(
                id=ids.new(now),
                channel="email",
                lane=LANE,
                position=0,
                address=f"user{number}@example.com",
                user_id=None,
                recipient=RECIPIENT,
                status=Status.QUEUED,
                due_at=now if due_at is None else due_at,
                deadline_at=now + 86_400_000,
                on_unknown=OnUnknown.RESEND,
                lease=lease,
            ),
        ),
    )


def settlement(row: Acceptance, token: int, *, at: int | None = None) -> Settlement:
    """Say that it was sent at the first try, now or `at` (Unix ms)."""
    return settlement_of(row.deliveries[0].id, token, at=at)


def settlement_of(id_: UUID, token: int, *, at: int | None = None) -> Settlement:
    """Say that a delivery was sent at the first try, now or `at` (Unix ms)."""
    now = now_ms() if at is None else at
    provider_id = f"<{id_.hex}@example.com>"
    return Settlement(
        id=id_,
        token=token,
        status=Status.SENT,
        final=True,
        provider="smtp-main",
        provider_id=provider_id,
        due_at=now,
        attempts=(
            AttemptRow(
                number=1,
                provider="smtp-main",
                started_at=now,
                took_ms=12,
                outcome="accepted",
                detail="250 2.0.0 OK",
                provider_id=provider_id,
            ),
        ),
        now=now,
    )


async def accept_with(store: SqlStore, rows: Sequence[Acceptance], tasks: int) -> float:
    """Accept all rows from so many concurrent callers, one after the other each; answers rows per second."""
    waiting = iter(rows)

    async def caller() -> None:
        for row in waiting:
            await store.accept(row)

    began = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(tasks)])
    return len(rows) / (time.perf_counter() - began)


async def settle_with(store: SqlStore, rows: Sequence[Acceptance], tasks: int) -> float:
    """Settle rows born leased; answers rows per second."""
    waiting = iter(rows)

    async def caller() -> None:
        for row in waiting:
            if not await store.settle(settlement(row, 1)):
                raise AssertionError("a settlement was refused")

    began = time.perf_counter()
    await asyncio.gather(*[caller() for _ in range(tasks)])
    return len(rows) / (time.perf_counter() - began)


async def claim_ms(store: SqlStore, times: int) -> float:
    """Measure the middle one of many claims of 16, each released again; milliseconds."""
    # What was just filled in is still on its way to the disk, and every commit would wait behind it.
    await asyncio.to_thread(os.sync)
    took: list[float] = []
    for _ in range(times):
        now = now_ms()
        began = time.perf_counter()
        claimed = await store.claim({LANE: 16}, Lease(worker="bench", until=now + 60_000), now)
        took.append(time.perf_counter() - began)
        if len(claimed) != 16:
            raise AssertionError(f"claimed {len(claimed)}")
        await store.release([(row.id, row.token) for row in claimed], now)
    return sorted(took)[len(took) // 2] * 1000


async def run(url: str, *, count: int = 20_000, waiting: int = 1_000_000) -> dict[str, float]:
    """Measure everything on an empty database."""
    sys.setswitchinterval(SWITCH_S)
    ids = IdSource()
    store = SqlStore(url, now_ms, ids)
    await store.open()
    figures: dict[str, float] = {}
    try:
        lease = Lease(worker="bench", until=now_ms() + 3_600_000)
        born = [acceptance(ids, number, lease=lease) for number in range(count)]
        figures["accept_64_per_s"] = await accept_with(store, born, 64)
        figures["settle_64_per_s"] = await settle_with(store, born[: count // 2], 64)
        figures["settle_512_per_s"] = await settle_with(store, born[count // 2 :], 512)
        rows = [acceptance(ids, number, lease=lease) for number in range(count)]
        began = time.perf_counter()
        for start in range(0, count, 1000):
            await store.accept_many(rows[start : start + 1000])
        figures["accept_batch_per_s"] = count / (time.perf_counter() - began)
        del born, rows
        future = now_ms() - 1000
        await store.accept_many([acceptance(ids, number, due_at=future) for number in range(1000)])
        figures["claim_16_at_1k_ms"] = await claim_ms(store, 200)
        for start in range(0, waiting, 1000):
            await store.accept_many([acceptance(ids, start + number, due_at=future + start) for number in range(1000)])
        figures["claim_16_at_full_ms"] = await claim_ms(store, 200)
        figures["claim_ratio"] = figures["claim_16_at_full_ms"] / figures["claim_16_at_1k_ms"]
        figures["resident_peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    finally:
        await store.close()
    return figures


def main() -> None:
    """Print the table for a URL, or for a fresh SQLite file."""
    waiting = 1_000_000 if "--quick" not in sys.argv else 20_000
    named = [word for word in sys.argv[1:] if "://" in word]
    with tempfile.TemporaryDirectory() as folder:
        url = named[0] if named else f"sqlite:///{Path(folder) / 'bench.db'}"
        for name, figure in asyncio.run(run(url, waiting=waiting)).items():
            print(f"{name:24} {figure:12.2f}")


if __name__ == "__main__":
    main()
