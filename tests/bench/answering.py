"""Providers at the other end: a process that answers each path with the bytes it was given for it.

    python -m tests.bench.answering replies.json      prints `listening PORT`

`replies.json` has whole answers by path. It looks for the end of each request and at nothing else, so that it is not
what limits.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import uvloop

_NOTHING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class _Provider(asyncio.Protocol):
    """Answers each request as soon as its announced length has arrived."""

    def __init__(self, replies: dict[bytes, bytes]) -> None:
        self._replies = replies
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._held += data
        while (head := self._held.find(b"\r\n\r\n")) >= 0:
            at = self._held.lower().find(b"content-length:", 0, head)
            end = head + 4 + (int(self._held[at + 15 : self._held.find(b"\r\n", at)]) if at >= 0 else 0)
            if len(self._held) < end:
                return
            path = bytes(self._held[: self._held.find(b"\r\n")]).split(b" ")[1].partition(b"?")[0]
            del self._held[:end]
            self._transport.write(self._replies.get(path, _NOTHING))


async def _serve(replies: dict[bytes, bytes]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Provider(replies), "127.0.0.1", 0, backlog=512)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    written = json.loads(Path(sys.argv[1]).read_text(encoding="ascii"))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve({path.encode(): reply.encode("latin-1") for path, reply in written.items()}))
