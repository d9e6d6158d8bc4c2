"""A gateway in a process of its own, to be killed: started by the real command, watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from tests.support.gateway import ADMIN

COMMAND = Path(sys.executable).parent / "gateway"
_LISTENS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class GatewayProcess:
    """One run of `gateway serve` or `gateway work`. Its output is in `log`.

    `under` is a command that becomes the gateway, keeping its process id (`strace -D …`). With `apart` the terminal's
    Ctrl-C does not reach it: whoever started it stops it.
    """

    def __init__(
        self,
        config: Path,
        *words: str,
        variables: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        apart: bool = False,
    ) -> None:
        self.log = config.with_suffix(f".{time.monotonic_ns()}.log")
        self.started = time.monotonic()
        self._url: str | None = None
        environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*under, COMMAND, *words, "--config", config],
                stdout=log,
                stderr=log,
                env={**environ, "PYTHONUNBUFFERED": "1", **(variables or {})},
                process_group=0 if apart else None,
            )

    @property
    def url(self) -> str | None:
        """Tell where it listens, once it says so; read once, as the log of a long life is long."""
        if self._url is None and (found := _LISTENS.search(self.log.read_text())):
            self._url = f"http://127.0.0.1:{found[1]}"
        return self._url

    async def ready(self) -> str:
        """Wait until it answers; tells where."""
        async with httpx.AsyncClient() as client:
            for _ in range(2000):
                assert self.process.poll() is None, self.log.read_text()
                if (url := self.url) is not None:
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(f"{url}/health/ready")).status_code == 200:
                            return url
                await asyncio.sleep(0.01)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Speak with it, once it answers, with a key for everything."""
        limits = httpx.Limits(max_connections=32, max_keepalive_connections=32)
        headers = {"Authorization": f"Bearer {ADMIN}"}
        url = await self.ready()
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, limits=limits) as client:
            yield client

    def children(self) -> list[psutil.Process]:
        """List the processes of a family."""
        return psutil.Process(self.process.pid).children()

    async def until_children(self, count: int, within_s: float = 20) -> None:
        """Wait until a family has so many."""
        ends = time.monotonic() + within_s
        while len(self.children()) != count:
            assert time.monotonic() < ends, self.log.read_text()
            await asyncio.sleep(0.05)

    async def lose(self, child: psutil.Process, count: int) -> None:
        """End one process of a family, and wait until it is gone and another has its place."""
        child.kill()
        await asyncio.to_thread(child.wait, 20)  # a process that is ending may still take a request with it
        await self.until_children(count)

    def kill(self) -> None:
        """End it at once, as a crash would; a family's processes with it, which would end gently on their own."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self.children()
        self.process.kill()
        self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=1)

    async def stop(self) -> int:
        """Ask it to stop; answers its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, 30)


@contextlib.asynccontextmanager
async def serving(
    config: Path, variables: Mapping[str, str] | None = None, *, under: Sequence[str] = (), processes: int = 1
) -> AsyncIterator[tuple[GatewayProcess, httpx.AsyncClient]]:
    """Run `gateway serve`; whatever happened to it meanwhile, it is gone afterwards."""
    words = ["serve", "--port", "0", "--processes", str(processes)]
    process = GatewayProcess(config, *words, variables=variables, under=under)
    try:
        async with process.client() as client:
            yield process, client
    finally:
        process.kill()
