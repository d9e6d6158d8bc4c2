"""A real HTTP server on loopback that behaves as a test tells it, also badly: for the tests of REST adapters.

    async with HttpServer(Reply(202, json={"id": "m1"})) as server:
        ...                                       # talk to server.url
        server.requests[0].json()                 # what arrived
        server.requests[0].headers["authorization"]

What a server answers is an `Answering`: a `Reply`; a `Do` (a way to fail); a list of them, one for each request and the
last for all that follow; a dict by path or by method and path (`"POST /v1/messages"`; `"*"` for the others); or a
function of the `Received` request, plain or async, that gives one of these. `Held(event, then)` waits for the event.

Knows HTTP/1.1 as clients speak it: lengths, chunks, kept connections. Needs nothing but the standard library, and is
shipped for adapters in other packages, as `channels.testing` is.
"""

from __future__ import annotations

import asyncio
import inspect
import json as json_module
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, Self, cast
from urllib.parse import parse_qs, urlsplit

__all__ = ["Answering", "Do", "Held", "HttpServer", "Listener", "Received", "Reply", "stop_accepting"]

_HEAD_OCTETS: Final = 262_144  # of one request; more than any client sends
_TRICKLE_S: Final = 0.02


class Do(StrEnum):
    """Ways to fail. Those before the first blank line happen before a request is read: certainly nothing was taken."""

    REFUSE = "refuse"
    """Nobody listens on the port. Only as the server's whole behaviour."""
    HANG_UP = "hang_up"
    """Closes in the middle of the TLS handshake; the server's `url` says https. Only as the whole behaviour."""
    NO_HANDSHAKE = "no_handshake"
    """Accepts and never begins TLS; the server's `url` says https. Only as the whole behaviour."""
    CLOSE_AT_ONCE = "close_at_once"
    """Closes without reading. A client can be writing already: it may be unable to know. For whole connections."""

    CLOSE = "close"
    """Reads the whole request, then closes."""
    RESET = "reset"
    """Reads the whole request, then resets the connection."""
    HALF_HEAD = "half_head"
    """Answers a status line and half a header, then closes."""
    HALF_BODY = "half_body"
    """Answers 200 and fewer bytes than announced, then closes."""
    GARBAGE = "garbage"
    """Answers something that is not HTTP."""
    SILENCE = "silence"
    """Reads the whole request and never answers."""
    STALL = "stall"
    """Answers 200 and half of the body, then nothing, and stays."""
    TRICKLE = "trickle"
    """Answers 200 and a body of 900 bytes, one byte every 20 ms: never silent, never done."""
    ENDLESS_BODY = "endless_body"
    """Answers 200 and a body without end."""
    ENDLESS_HEAD = "endless_head"
    """Answers headers without end."""


_BEFORE_TLS: Final = frozenset({Do.HANG_UP, Do.NO_HANDSHAKE})


class Reply:
    """A whole answer. `json` is encoded and given its content type; `close` ends the connection after it.

    `length` announces another length than the body has. Equal to another with the same content.
    """

    def __init__(
        self,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        *,
        json: Any = None,
        close: bool = False,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.body = body.encode() if isinstance(body, str) else body
        if json is not None:
            self.body = json_module.dumps(json).encode()
            self.headers.setdefault("Content-Type", "application/json")
        self.close = close
        self.length = len(self.body) if length is None else length

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.headers!r}, {self.body[:80]!r})"

    def octets(self) -> bytes:
        """Write it down."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unheard Of"
        head = [f"HTTP/1.1 {self.status} {phrase}", f"Content-Length: {self.length}"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.close:
            head.append("Connection: close")
        return "\r\n".join([*head, "", ""]).encode() + self.body


@dataclass(frozen=True)
class Held:
    """Wait for the event, then go on with `then`."""

    until: asyncio.Event
    then: Any


@dataclass(frozen=True)
class Received:
    """One request as it arrived. Header names are in lower case; `path` is without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    connection: int
    """Which connection it came on, from 1: two with the same number shared one."""
    target: str = ""
    """The request line's own words, not decoded: what signatures are made over."""

    def json(self) -> Any:
        """Decode the body; raises `ValueError` if it is no JSON."""
        return json_module.loads(self.body)

    def form(self) -> dict[str, str]:
        """Decode an urlencoded body; of a repeated field the last one."""
        found = parse_qs(self.body.decode(), keep_blank_values=True, strict_parsing=bool(self.body))
        return {name: values[-1] for name, values in found.items()}


Step = Reply | Do | Held
Answering = (
    Step
    | Sequence[Any]
    | Mapping[str, Any]
    | Callable[[Received], Step | Sequence[Any] | Mapping[str, Any]]
    | Callable[[Received], Awaitable[Step | Sequence[Any] | Mapping[str, Any]]]
)


@dataclass
class _Script:
    """How far each list has been read: lists are written by tests, and shared between servers."""

    read: dict[int, int] = field(default_factory=dict[int, int])

    def next_of(self, steps: Sequence[Any]) -> Any:
        at = self.read.get(id(steps), 0)
        self.read[id(steps)] = at + 1
        return steps[min(at, len(steps) - 1)]


async def stop_accepting(server: asyncio.Server) -> None:
    """Accept nobody more, and let whoever was accepted just now become a connection; close the server after this.

    `Server.close` alone leaves a connection behind that was accepted in the same turn of the loop: nobody hears of it,
    and nobody closes it.
    """
    loop = asyncio.get_running_loop()
    for one in server.sockets:
        loop.remove_reader(one.fileno())
    for _ in range(2):  # in one turn its transport is made, in the next its protocol hears of it
        await asyncio.sleep(0)


class Listener:
    """A listening socket whose connections are all gone when it has stopped, those too that came while it did.

    `converse` holds the conversation of one connection, which is closed when that ends.
    """

    def __init__(
        self, converse: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
    ) -> None:
        self._converse = converse
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str | None = None, port: int | None = None, **how: Any) -> int:
        """Listen, with the arguments of `asyncio.start_server`; answers the port."""
        self._server = await asyncio.start_server(self._connected, host, port, **how)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def stop(self) -> None:
        """Refuse new connections, and cut the open ones. `start` listens again."""
        server, self._server = self._server, None
        if server is not None:
            await stop_accepting(server)
            server.close()
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note the connection at once: `stop` must find it even if its conversation has not had its first turn."""
        if self._server is None:
            writer.transport.abort()
            return
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, writer))

    def _ended(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._tasks.discard(task)
        if self._server is None:
            writer.transport.abort()  # closing would wait for a reader who may never read
        else:
            writer.close()


class HttpServer:
    """One server on a free port of 127.0.0.1, for as long as the `async with` lasts.

    `tls`, a server-side context, makes it speak https. `host` is what stands in `url`.
    """

    def __init__(
        self, answering: Answering | None = None, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.answering: Any = Reply() if answering is None else answering
        """May be changed at any time; holds from the next request on."""
        self.requests: list[Received] = []
        """Whatever was read to its end, in order of arrival; also what was never answered."""
        self.connections = 0
        """How many connections were made so far."""
        self.open = 0
        """How many are open now."""
        self.arrived = asyncio.Event()
        """Set with every request that was read; clear it to wait for the next."""
        self.left = asyncio.Event()
        """Set whenever a connection ended."""
        self._tls = tls
        self._host = host
        self._port = 0
        self._script = _Script()
        self._listener = Listener(self._serve)
        self._bound: socket.socket | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port."""
        return self._port

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        secure = self._tls is not None or (isinstance(self.answering, Do) and self.answering in _BEFORE_TLS)
        return f"{'https' if secure else 'http'}://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.bind(("127.0.0.1", 0))
        self._port = self._bound.getsockname()[1]
        if self.answering is not Do.REFUSE:  # a port that is bound and not listened on is nobody else's, and refuses
            await self._listener.start(sock=self._bound, ssl=self._tls, limit=_HEAD_OCTETS, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self._bound is not None:
            self._bound.close()

    async def stop(self) -> None:
        """Stop listening and cut every connection; from now on connecting is refused."""
        self.cut()
        await self._listener.stop()

    def cut(self) -> None:
        """Close every open connection, as a server does with those that were idle for long; go on listening."""
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
                await self._converse(reader, writer, self.connections)
        except asyncio.CancelledError:
            pass  # the server is being stopped
        finally:
            self.open -= 1
            self.left.set()
            self._writers.discard(writer)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        if self.answering is Do.NO_HANDSHAKE:
            await reader.read(-1)
        if self.answering is Do.CLOSE_AT_ONCE or self.answering is Do.HANG_UP:
            return
        while (request := await _read(reader, number)) is not None:
            self.requests.append(request)
            self.arrived.set()
            step = await self._step(request)
            if not await self._answer(step, reader, writer):
                return

    async def _step(self, request: Received) -> Reply | Do:
        found: Any = self.answering
        while not isinstance(found, Reply | Do):
            if isinstance(found, Held):
                await found.until.wait()
                found = found.then
            elif isinstance(found, Mapping):
                named = cast("Mapping[str, Any]", found)
                keys = (f"{request.method} {request.path}", request.path, "*")
                found = next((named[key] for key in keys if key in named), Reply(404, body="no such path"))
            elif callable(found):
                answered = found(request)
                found = await answered if inspect.isawaitable(answered) else answered
            else:
                found = self._script.next_of(cast("Sequence[Any]", found))
        return found

    async def _answer(self, step: Reply | Do, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer; says whether the connection goes on."""
        if isinstance(step, Reply):
            writer.write(step.octets())
            await writer.drain()
            return not step.close and step.length == len(step.body)
        if step is Do.RESET:
            # Closing with this option set sends RST instead of FIN: zero seconds of patience for what is unsent.
            raw = cast("socket.socket", writer.get_extra_info("socket"))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        writer.write(_BROKEN.get(step, b""))
        await writer.drain()
        if step in {Do.SILENCE, Do.STALL}:
            await reader.read(-1)  # until the client gives up
        if step is Do.TRICKLE:
            await _trickle(reader, writer)
        while (more := _ENDLESS.get(step)) is not None:
            writer.write(more)
            await writer.drain()
        return False


_BROKEN: Final[Mapping[Do, bytes]] = {
    Do.HALF_HEAD: b"HTTP/1.1 200 OK\r\nContent-Type: appl",
    Do.HALF_BODY: b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"id": "m1"}',
    Do.STALL: b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"id": "m1"}',
    Do.TRICKLE: b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n",
    Do.GARBAGE: b"<html><body>It works</body></html>\r\n\r\n",
    Do.ENDLESS_BODY: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    Do.ENDLESS_HEAD: b"HTTP/1.1 200 OK\r\n",
}
_ENDLESS: Final[Mapping[Do, bytes]] = {
    Do.ENDLESS_BODY: b"4000\r\n" + b" " * 0x4000 + b"\r\n",
    Do.ENDLESS_HEAD: b"X-More: " + b"x" * 1000 + b"\r\n",
}


async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        with suppress(TimeoutError):
            async with asyncio.timeout(_TRICKLE_S):
                await reader.read(1)
            return  # the client closed


async def _read(reader: asyncio.StreamReader, connection: int) -> Received | None:
    """Read one request to its end; `None` when the client closes instead of asking."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")[:-2]
    method, target, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    split = urlsplit(target)
    return Received(
        method=method,
        path=split.path,
        query={name: values[-1] for name, values in parse_qs(split.query, keep_blank_values=True).items()},
        headers=headers,
        body=await _read_body(reader, headers),
        connection=connection,
        target=target,
    )


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    pieces: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)
