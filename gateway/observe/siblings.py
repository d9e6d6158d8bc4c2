"""One scrape for several processes: whichever is asked for its figures shows those of its siblings too.

Owns how they are told and put together: each serves its own text on a socket in a folder that only they can enter, and
every sample gets the label `process`. Refuses to know what the figures mean: adding up is Prometheus' work.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Final

_PATIENCE_S: Final = 1.0
"""How long a scrape waits for a sibling; one that is starting or gone is left out."""


class Siblings:
    """The processes of one family, seen from one of them."""

    def __init__(self, folder: Path, *, number: int, count: int) -> None:
        self._folder = folder
        self._number = number
        self._count = count

    @contextlib.asynccontextmanager
    async def tell(self, text: Callable[[], bytes]) -> AsyncGenerator[None]:
        """Answer siblings with this process's own figures for the time of the context."""

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(text())
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.close()

        path = self._socket(self._number)
        path.unlink(missing_ok=True)  # left by a process that died in this place
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()

    async def with_theirs(self, own: bytes) -> bytes:
        """Put the figures of all processes together with this one's own."""
        others = [number for number in range(self._count) if number != self._number]
        heard = await asyncio.gather(*(self._ask(number) for number in others))
        told = {number: text for number, text in zip(others, heard, strict=True) if text is not None}
        return merged({self._number: own, **told})

    async def _ask(self, number: int) -> bytes | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reader, writer = await asyncio.open_unix_connection(self._socket(number))
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None

    def _socket(self, number: int) -> Path:
        return self._folder / f"figures-{number}"


def merged(texts: Mapping[int, bytes]) -> bytes:
    """Put several processes' figures into one text, each sample with the label `process`. Pure.

    The format wants all samples of one metric in one group, under one `HELP` and one `TYPE` line.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number, text in sorted(texts.items()):
        family = ""
        for line in text.decode().splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                kept = heads.setdefault(family, [])
                if line not in kept:
                    kept.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, number))
    lines = [line for family, head in heads.items() for line in (*head, *samples.get(family, []))]
    return ("\n".join(lines) + "\n").encode()


def _labelled(sample: str, number: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{process="{number}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{process="{number}"}} {value}'
