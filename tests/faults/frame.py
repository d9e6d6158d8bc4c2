"""What every fault shares: the form of the run, its seed, the configuration, the table, and the judgement.

`FAULTS=long` is the long form (`make faults`), else it is short (`make test`). `SEED` repeats a run: the moments of
faults and their order come from it, the machine's own timing does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.faults.oracle import Ledger, arrived, final
from tests.support.gateway import ADMIN, FINAL, SECRET, merged, smtp, write_config
from tests.support.postgres import Postgres
from tests.support.smtp_server import SmtpServer

LONG: Final = os.environ.get("FAULTS") == "long"
SEED: Final = int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))

CONNECTIONS: Final = 8
IN_HAND: Final = 4 * CONNECTIONS
"""The slots of a lane: the most that can be in flight in one process."""

UNSENT: Final = frozenset({"failed", "expired", "cancelled", "skipped"})
"""Statuses that say it was not sent: a lie about anything that arrived."""

BOTH: Final = pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
LONG_ONLY: Final = pytest.mark.skipif(not LONG, reason="in the long form only: make faults")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    fault: str
    database: str
    accepted: int
    arrived: int
    final: int
    lost: int
    duplicates: int
    bound: int

    def told(self) -> dict[str, Any]:
        """Make it data that another process can read."""
        return asdict(self)

    @property
    def kept(self) -> bool:
        """Whether the promises held."""
        return self.lost == 0 and self.final == self.accepted and self.duplicates <= self.bound


@dataclass
class Faults:
    """One test's part of the run."""

    name: str
    folder: Path
    rows: list[Row]
    postgres: Any = None
    """Asks for the session's PostgreSQL."""
    ledger: Ledger = field(default_factory=Ledger)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{SEED}:{self.name}")

    def count(self, *, short: int, long: int) -> int:
        """Say how often, in this form."""
        return long if LONG else short

    async def database(self, kind: str) -> str:
        """Make a database of the test's own; answers its URL."""
        if kind == "sqlite":
            return f"sqlite:///{self.folder}/gateway.db"
        server: Postgres = self.postgres()
        return await server.new_database()

    def config(self, sink: SmtpServer, database: str, /, **more: Any) -> Path:
        """Write the configuration; answers where."""
        return write_config(self.folder / "gateway.toml", self.settings(sink, database, **more))

    def settings(self, sink: SmtpServer, database: str, /, **more: Any) -> dict[str, Any]:
        """Make a configuration of short leases and eight connections, that tells its log everything."""
        nothing = self.folder / "no-templates"
        nothing.mkdir(exist_ok=True)
        config = {
            "database": database,
            "bootstrap_key": ADMIN,
            "secret_key": SECRET,
            "templates": {"folder": str(nothing)},
            "server": {"lease_s": 2, "poll_s": 0.1},
            "logging": {"level": "debug", "format": "json"},
            "channels": {"email": {"retry": {"first_s": 1, "most_s": 2}}},
            "categories": {"careful": {"on_unknown": "hold"}},
            "providers": {"smtp-1": {"connections": CONNECTIONS}},
        }
        return merged(merged(smtp(sink), config), more)

    @contextlib.asynccontextmanager
    async def load(self, client: httpx.AsyncClient, clients: int = 12) -> AsyncIterator[Ledger]:
        """Send as fast as answers come, for the time of the context."""
        loading = asyncio.create_task(self.ledger.load(client, clients, categories=["default", "careful"]))
        try:
            yield self.ledger
        finally:
            loading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loading

    async def judge(
        self,
        fault: str,
        database: str,
        client: httpx.AsyncClient,
        server: SmtpServer,
        *,
        bound: int,
        may_miss: Mapping[str, int] | None = None,
    ) -> dict[str, str]:
        """Compare the three lists, write the table's line, and insist; answers the status of each accepted delivery.

        `may_miss`: how many may end in such a status without having arrived.
        """
        accepted = self.ledger.accepted
        there = arrived(server)
        statuses = await final(client, accepted)
        copies = {id_: count - 1 for id_, count in there.items() if count > 1}
        lost = [id_ for id_ in accepted if id_ not in there and statuses[id_] not in FINAL]
        self.rows.append(
            Row(
                fault=fault,
                database=database,
                accepted=len(accepted),
                arrived=sum(id_ in there for id_ in accepted),
                final=sum(status in FINAL for status in statuses.values()),
                lost=len(lost),
                duplicates=sum(copies.values()),
                bound=bound,
            )
        )
        again = f"again with SEED={SEED}"
        assert not lost, (again, {id_: statuses[id_] for id_ in lost})
        open_ = {id_: status for id_, status in statuses.items() if status not in FINAL}
        assert not open_, (again, open_)
        untrue = {id_: statuses[id_] for id_ in there if statuses.get(id_) in UNSENT}
        assert not untrue, ("reported as not sent, and arrived", again, untrue)
        missing = {id_: status for id_, status in statuses.items() if id_ not in there}
        allowed = may_miss or {}
        assert set(missing.values()) <= set(allowed), (again, missing)
        for status, most in allowed.items():
            assert sum(one == status for one in missing.values()) <= most, (again, missing)
        held = {id_ for id_ in missing if statuses[id_] == "unknown"}
        assert {accepted[id_] for id_ in held} <= {"careful"}, "what may be sent again was sent again"
        assert {accepted.get(id_) for id_ in copies} <= {"default", None}, "what is held is never sent twice"
        assert sum(copies.values()) <= bound, (again, copies)
        return statuses

    def no_secret_in_any_log(self) -> None:
        """Look through all that the processes said at DEBUG."""
        for log in self.folder.rglob("*.log"):
            said = log.read_text(errors="replace")
            for word in (ADMIN, SECRET, "@example.com"):
                assert word not in said, f"{word} in {log.name}: {said[max(0, said.find(word) - 300) :][:600]}"


async def until(condition: Callable[[], bool], within_s: float = 30) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to that"
        await asyncio.sleep(0.01)


def table_of(rows: list[Row]) -> str:
    """Draw the table."""
    heads = ("fault", "database", "accepted", "arrived", "final", "lost", "duplicates", "bound", "")
    lines = [
        (
            row.fault,
            row.database,
            *map(str, (row.accepted, row.arrived, row.final, row.lost, row.duplicates, row.bound)),
            "" if row.kept else "BROKEN",
        )
        for row in rows
    ]
    widths = [max(len(line[place]) for line in [heads, *lines]) for place in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heads, *lines]
    )
