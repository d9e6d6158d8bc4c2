"""One request and its answer, as the API's own handlers see them.

Owns `Call` (what came in, already checked), `Reply` (what goes out) and the headers that every answer carries. Knows
ASGI's messages; knows no route.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, MutableMapping
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from gateway.router.caller import Caller

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""ASGI's own words (asgiref 3). Litestar's types name its private keys and are only partly known to a type checker."""

Header = tuple[bytes, bytes]
Q = TypeVar("Q")
B = TypeVar("B")

JSON_TYPE: Final = b"application/json"
_API_POLICY: Final[Header] = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_SAFETY: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_SEALED: Final = (*_SAFETY, _API_POLICY, (b"cache-control", b"no-store"))
"""What every answer of the API carries: it is data for one caller, never a page and never cached."""

_SHARING: Final[tuple[Header, ...]] = (
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"access-control-allow-origin", b"*"),
)
_SEALED_LINES: Final = b"".join(b"%b: %b\r\n" % header for header in _SEALED)
SLOW_S: Final = 30
"""How long a reader may leave a piece of a stream untaken (beyond what the connection buffers) before it is let go."""

_ENCODER: Final = msgspec.json.Encoder()


class Call(msgspec.Struct, Generic[Q, B], frozen=True, kw_only=True, gc=False):
    """A request that passed every check of its operation: `query` and `body` are of the operation's types."""

    request_id: str
    caller: Caller
    path: Mapping[str, str]
    query: Q
    body: B
    raw: bytes
    headers: Mapping[bytes, bytes]
    query_string: str = ""
    """As it was sent; only untouched operations look at it."""


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An answer. `page` (a Content-Security-Policy) makes it a page or a file of one instead of data."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    media_type: bytes = JSON_TYPE
    page: bytes | None = None
    shared: bool = False
    """Pages of elsewhere may use it, too: a file that is everybody's."""


class Stream(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An answer that goes on: `pieces` are sent as they come, each only once the one before it was taken.

    `ended` is called once at the end, also if no piece was ever asked for.
    """

    pieces: AsyncGenerator[bytes]
    ended: Callable[[], None]
    media_type: bytes
    headers: tuple[Header, ...] = ()


LINE: Final = "gateway.line"
"""The key under which a server may leave a `Line` in the ASGI scope."""


class Line(Protocol):
    """The caller's connection, for what comes or leaves in one piece; ASGI's messages do for everything else."""

    def take(self) -> bytes | None:
        """Give the body, if all of it is here. Once."""
        ...

    def say(self, status: int, head: bytes, body: bytes) -> bool:
        """Answer with header lines (each with its end) and a body; `False` if that must go the long way."""
        ...


class Exchange:
    """What is noted about one request while it is answered: for headers, metrics and the log."""

    __slots__ = ("answered_at", "caller", "line", "request_id", "route", "status")

    def __init__(self, request_id: str, line: Line | None = None) -> None:
        self.request_id = request_id
        self.line = line
        self.route = "unmatched"
        self.status = 0
        self.caller: str | None = None
        self.answered_at: float | None = None
        """When an answer that goes on for long began (`time.perf_counter`)."""


def json_reply(answer: Any, status: int = 200, *headers: Header) -> Reply:
    """Encode an answer."""
    return Reply(status=status, body=_ENCODER.encode(answer), headers=headers)


def headers_of(reply: Reply, request_id: str) -> list[Header]:
    """List all headers of a reply."""
    sealed = _SEALED if reply.page is None else (*_SAFETY, (b"content-security-policy", reply.page))
    if reply.shared:
        sealed = (*(one for one in sealed if one[0] != _SHARING[0][0]), *_SHARING)
    return [
        (b"content-type", reply.media_type),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode("ascii")),
        *reply.headers,
        *sealed,
    ]


async def send_reply(send: Send, exchange: Exchange, reply: Reply, *, head: bool = False) -> None:
    """Send a reply; `head` leaves its body out."""
    exchange.status = reply.status
    if exchange.line is not None and not head and _is_plain(reply):
        lines = b"content-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b" % (
            reply.media_type,
            len(reply.body),
            exchange.request_id.encode("ascii"),
            _SEALED_LINES,
        )
        if exchange.line.say(reply.status, lines, reply.body):
            return
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": headers_of(reply, exchange.request_id),
        },
    )
    await send({"type": "http.response.body", "body": b"" if head else reply.body, "more_body": False})


def _is_plain(reply: Reply) -> bool:
    """Say whether nothing but the body tells this answer from any other."""
    return reply.page is None and not reply.shared and not reply.headers


async def send_stream(
    send: Send, receive: Receive, exchange: Exchange, stream: Stream, *, head: bool = False, slow_s: float = SLOW_S
) -> None:
    """Send a stream until it ends, its reader hangs up, or leaves a piece untaken for `slow_s` seconds."""
    exchange.status = 200
    exchange.answered_at = time.perf_counter()
    headers = [
        (b"content-type", stream.media_type),
        (b"x-request-id", exchange.request_id.encode("ascii")),
        *stream.headers,
        *_SEALED,
    ]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if head:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _until_gone(_send_pieces(send, stream.pieces, slow_s), _hung_up(receive))
    finally:
        await stream.pieces.aclose()
        stream.ended()


async def _until_gone(*acts: Coroutine[Any, Any, None]) -> None:
    """Run acts until one of them ends, and end the others."""
    tasks = [asyncio.create_task(act) for act in acts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send_pieces(send: Send, pieces: AsyncGenerator[bytes], slow_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async for piece in pieces:
            async with asyncio.timeout(slow_s):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        async with asyncio.timeout(slow_s):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
