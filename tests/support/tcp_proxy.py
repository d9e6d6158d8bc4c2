"""A wire that tests can cut: TCP on loopback in front of any socket, passing bytes on until told otherwise.

async with TcpProxy(unix="/tmp/x/.s.PGSQL.5432") as proxy:
    proxy.swallow()   # as behind a firewall that forgot the connections: no byte, no FIN, no RST
    proxy.mend()      # new connections pass; those of before stay silent for ever
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self

from channels.testing_server import Listener


class TcpProxy:
    """The wire. Start it with `async with`."""

    def __init__(self, *, unix: str) -> None:
        self._unix = unix
        self._listener = Listener(self._connected)
        self._cut = 0  # connections of an earlier age are silent
        self._silent = False
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = await self._listener.start("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.stop()

    def swallow(self) -> None:
        """Keep every connection open, new ones too, and pass nothing on."""
        self._silent = True
        self._cut += 1

    def mend(self) -> None:
        """Pass on what comes by new connections."""
        self._silent = False

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        age = -1 if self._silent else self._cut
        if age == -1:
            await _swallow(reader)
            return
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_unix_connection(self._unix)
            ways = [self._pass(reader, back, age), self._pass(there, writer, age)]
            passing = [asyncio.ensure_future(one) for one in ways]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in passing:
                    one.cancel()
                back.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, age: int) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if age != self._cut:
                    await _swallow(reader)
                    await asyncio.Event().wait()
                writer.write(data)
                await writer.drain()


async def _swallow(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
