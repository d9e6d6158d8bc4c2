"""Idle latency: one mail at a time, with the clock that starts the request also stamping its arrival.

The sink runs in this process, so that no second clock and no polling comes between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Literal

from tests.bench.processes import BenchFailed, Gateway
from tests.bench.sink import Sink, Tally

_WARM_UP = 20
_PATIENCE_S = 20


class Latencies:
    """Milliseconds from the request's first octet: to its answer, and to the mail's last octet at the sink."""

    def __init__(self, started_s: float) -> None:
        self.started_s = started_s
        self.answered_ms: list[float] = []
        self.arrived_ms: list[float] = []

    def quantile(self, share: float, *, of: Literal["answered", "arrived"] = "arrived") -> float:
        """Give the value below which `share` of them lie."""
        ordered = sorted(self.arrived_ms if of == "arrived" else self.answered_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class _Stamps(Tally):
    """A tally that says when the next message arrived."""

    def __init__(self) -> None:
        super().__init__(record=False)
        self.next: asyncio.Future[float] | None = None

    def add(self, content: bytes) -> None:
        super().add(content)
        if self.next is not None and not self.next.done():
            self.next.set_result(time.perf_counter())


async def measure(
    *,
    gateway: Callable[[int], AbstractContextManager[Gateway]],
    requests: Iterator[bytes],
    count: int,
    pause_s: float,
) -> Latencies:
    """Start a gateway that delivers here (`gateway` is given the port), and send to it."""
    loop = asyncio.get_running_loop()
    stamps = _Stamps()
    server = await loop.create_server(lambda: Sink(stamps), "127.0.0.1", 0)
    context = gateway(server.sockets[0].getsockname()[1])
    served = await asyncio.to_thread(context.__enter__)
    try:
        found = Latencies(served.started_s)
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        for number, request in zip(range(count + _WARM_UP), requests, strict=False):
            stamps.next = loop.create_future()
            began = time.perf_counter()
            writer.write(request)
            await _answer(reader)
            answered = time.perf_counter()
            async with asyncio.timeout(_PATIENCE_S):
                arrived = await stamps.next
            if number >= _WARM_UP:
                found.answered_ms.append((answered - began) * 1000)
                found.arrived_ms.append((arrived - began) * 1000)
            await asyncio.sleep(pause_s)
        writer.close()
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)
        server.close()
    return found


async def _answer(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 202"):
        raise BenchFailed(f"{head[:30]!r} {body[:400]!r}")
