"""The connections under every REST adapter, over aiohttp: they know whether any of a request went out.

Owns sessions, time limits, the reading of answers to a limit and the line between *not sent* and *maybe sent*. Refuses
to know what an answer means: that is `channels.http` and the adapters.

The line: a request is *sent* from the moment a connection is ready and its first byte is about to be written to it.
Whatever goes wrong before (no slot, DNS, refusal, TLS, a proxy that says no, a kept connection that the server has
closed meanwhile) is certain not to have reached anyone. Whatever goes wrong after may have been acted upon, even if
the server only closed the connection: nothing tells a server that closed before reading from one that closed after.

Why not httpx's own pool: see LIBRARIES in the project's design; it loses slots when sends are cancelled, and costs
several times the time. Why not httpx-aiohttp: it reports a server that closed after reading as a failure to connect.
"""

from __future__ import annotations

import asyncio
import math
import os
import select
import ssl
import weakref
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import aiohttp
import aiohttp.abc
import aiohttp.http
import aiohttp.payload
import httpx
import msgspec
from aiohttp.client import IDEMPOTENT_METHODS
from aiohttp.connector import Connection
from yarl import URL

from channels.address_guard import Guard, GuardedResolver
from channels.contract import Reason
from channels.http_proxy import Proxy, environment_proxy, read_proxy

__all__ = ["Answer", "Connections", "MaybeSent", "NotSent", "Result", "WireTransport", "result_of"]

T = TypeVar("T")

_PIECE_OCTETS: Final = 65_536  # a large body is written piece by piece, under flow control
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS  # zlib's own way to say: recognise either header
_NO_CONTENT: Final = 204  # RFC 9110 15.3.5
# A kept connection on which something can be read before we asked anything is closed, or holds an answer to nobody.
_CLOSED: Final = getattr(select, "POLLRDHUP", select.POLLHUP) | select.POLLHUP | select.POLLERR
_UNREACHABLE: Final = "the address could not be reached or may not be called"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider answered. Header names are in lower case; `retry_after` is its `Retry-After` in seconds.

    `body` is decompressed and cut at the limit; then `truncated` is true.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    truncated: bool = False
    retry_after: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300  # noqa: PLR2004 - RFC 9110 15.3

    def json(self) -> Any:
        """Decode the body; `None` if it is no JSON (an error page, an answer beyond the limit)."""
        return self.decode(object)

    def decode(self, kind: type[T]) -> T | None:
        """Decode the JSON body into a struct; `None` if it is no JSON or not of that shape."""
        if self.truncated:
            return None
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def text(self) -> str:
        """Read the body as UTF-8, with replacement characters where it is not; for providers that answer in words."""
        return self.body.decode("utf-8", "replace")


class NotSent(msgspec.Struct, frozen=True):
    """Certain: no byte of the request went out. `reason` is MESSAGE_INVALID where no other try would go out either."""

    detail: str
    reason: Reason = Reason.PROVIDER_DOWN


class MaybeSent(msgspec.Struct, frozen=True):
    """Bytes went out, and no whole, readable answer came back."""

    detail: str


Result = Answer | NotSent | MaybeSent


class Connections:
    """A bounded set of kept connections. Opens nothing before the first exchange; belongs to one event loop.

    Times are in seconds: `connect_s` until a connection is ready (a free slot, DNS, TCP, proxy and TLS together),
    `silence_s` without a byte of the answer, `total_s` for everything, `idle_s` for keeping an unused connection.
    """

    def __init__(
        self,
        *,
        size: int,
        connect_s: float,
        silence_s: float,
        total_s: float,
        idle_s: float,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        direct: bool = False,
        guard: Guard | None = None,
        resolver: aiohttp.abc.AbstractResolver | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._size = size
        self._connect_s = min(connect_s, total_s)
        self._total_s = total_s
        # The time for a connection is aiohttp's to keep: where one is kept, it starts no timer for it.
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=self._connect_s, sock_read=silence_s, ceil_threshold=math.inf
        )
        self._silence_s = silence_s
        self._idle_s = idle_s
        self._tls = tls
        self._proxy = read_proxy(proxy) if proxy else None
        # Behind a proxy the names are resolved by the proxy, and no guard of ours could see the addresses.
        self._direct = direct or guard is not None
        self._environ = os.environ if environ is None else environ
        self._guard = guard
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._used: weakref.WeakSet[Any] = weakref.WeakSet()

    async def exchange(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> Result:
        """Send one request and read its answer, at most `limit` bytes of it. Every expected result is a value.

        Redirects are answers, cookies are forgotten. Where a kept connection turns out closed before anything was
        written, the next one is taken, down to a fresh one; nothing is ever written twice.
        """
        flight = _Flight(self._used)
        try:
            target, proxy = self._destination(url)
            async with asyncio.timeout(self._total_s):
                while True:
                    try:
                        return await self._once(flight, method, target, proxy, headers, body, limit)
                    except _Stale:
                        continue  # one kept connection less: at most as many rounds as there were
        except _Refused as refused:
            return NotSent(str(refused))
        except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, _Broken, OSError, ValueError) as error:
            return self._lost(flight, error)

    async def aclose(self) -> None:
        """Close every connection. Repeatable; later exchanges are *not sent*."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _once(
        self,
        flight: _Flight,
        method: str,
        url: URL,
        proxy: Proxy | None,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: int,
    ) -> Result:
        session = self._session or self._open()
        credentials = {"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else None
        if credentials and url.scheme == "http":  # not tunnelled: the proxy reads the request itself
            headers = {**headers, **credentials}
        _UNDER_WAY.set(flight)
        response = await session.request(
            method,
            url,
            headers=headers,
            data=None if body is None else _Body(body),
            allow_redirects=False,
            timeout=self._timeout,
            proxy=proxy.url if proxy else None,
            proxy_headers=credentials,
            middlewares=(_once_only,) if method in IDEMPOTENT_METHODS else None,
        )
        flight.status = response.status
        try:
            found, truncated = await _read(response, limit)
        finally:
            response.release()
        lowered = _lowered(response.headers)
        return _unpacked(Answer(status=response.status, headers=lowered, body=found, truncated=truncated), limit)

    def _destination(self, text: str) -> tuple[URL, Proxy | None]:
        """Read the URL as it stands, so that a signature over it holds, and find its proxy. Raises `_Refused`."""
        if self._closed:
            raise _Refused("this provider is being closed")
        if self._guard is not None and self._guard.check_url(text) is not None:
            raise _Refused(_UNREACHABLE)
        url = URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)
        if self._proxy is not None or self._direct:
            return url, self._proxy
        named = environment_proxy(url, self._environ)
        if named is None:
            return url, None
        proxy = read_proxy(named)
        if proxy is None:
            raise _Refused("the proxy that the environment names is no HTTP proxy")
        return url, proxy

    def _open(self) -> aiohttp.ClientSession:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        connector = aiohttp.TCPConnector(
            limit=self._size,
            keepalive_timeout=self._idle_s,
            ssl=self._tls or True,
            resolver=GuardedResolver(self._guard, resolver) if self._guard else resolver,
            # Guarded: judged and dialled from one answer, never from a remembered one.
            use_dns_cache=self._guard is None,
            socket_factory=self._guard.open_socket if self._guard else None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            request_class=_Request,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type", "User-Agent"),
        )
        return self._session

    def _lost(self, flight: _Flight, error: Exception) -> NotSent | MaybeSent:
        cause = error.__cause__ if isinstance(error, _Broken) and error.__cause__ else error
        if flight.sent:
            return MaybeSent(_words_of_loss(cause, flight.status, self._silence_s))
        if self._guard is not None:
            return NotSent(_UNREACHABLE)  # one sentence for all: error text must not map somebody's network
        if isinstance(cause, TimeoutError):
            return NotSent(f"no connection within {self._connect_s:g} s", Reason.TIMED_OUT)
        if flight.unwritable:
            return NotSent("the request cannot be written: a header holds a control character", Reason.MESSAGE_INVALID)
        return NotSent(_words_of_failure(cause))


class _Refused(Exception):
    """Nothing was tried."""


class _Stale(Exception):
    """A kept connection had ended before anything was written to it."""


class _Broken(Exception):
    """A connection failed: aiohttp's own error, as `__cause__`, under a name that aiohttp does not retry on."""


class _Flight:
    """One request under way."""

    def __init__(self, used: weakref.WeakSet[Any]) -> None:
        self.sent = False
        self.unwritable = False
        self.status: int | None = None
        self._used = used

    def take_off(self, connection: Connection) -> None:
        """Cross the line, unless the connection has ended meanwhile, which is proof that nothing was sent.

        Raises `_Stale` for a kept connection: there are others. A fresh one that has ended is the server's answer.
        """
        protocol = connection.protocol
        kept = protocol in self._used
        # On a kept connection nothing may be waiting to be read: it would be taken for the answer to this request.
        # On a fresh one it may: TLS 1.3 sends tickets after the handshake.
        events = _CLOSED | select.POLLIN if kept else _CLOSED
        if protocol is None or not protocol.is_connected() or protocol.should_close or _happened(connection, events):
            raise _Stale if kept else aiohttp.ServerDisconnectedError
        self._used.add(protocol)
        self.sent = True


_UNDER_WAY: Final[ContextVar[_Flight]] = ContextVar("flight")
"""The flight of the request that this task is about to send: aiohttp makes its requests itself."""


async def _once_only(
    request: aiohttp.ClientRequest,
    handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
) -> aiohttp.ClientResponse:
    """Go along with a request of a method that can be repeated (a client middleware of aiohttp's).

    aiohttp sends these a second time when a kept connection breaks (RFC 9110 9.2.2 allows it); whether to send again is
    the gateway's decision, so the error is hidden from it.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectionError, OSError) as error:
        raise _Broken from error


class _Request(aiohttp.ClientRequest):
    """aiohttp's request, which tells its flight that a connection is ready. Those *to* a proxy are plain ones."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        flight = _UNDER_WAY.get()
        flight.take_off(conn)
        try:
            return await super().send(conn)
        except ValueError:  # the head of the request is checked as a whole before any of it is written
            flight.sent = False
            flight.unwritable = True
            raise


class _Body(aiohttp.payload.Payload):
    """Bytes, written piece by piece. aiohttp's own payload writes them at once, and warns above a mebibyte."""

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._octets = value
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._octets.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002 - theirs
        return self._octets

    async def write(self, writer: aiohttp.abc.AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: aiohttp.abc.AbstractStreamWriter, content_length: int | None) -> None:
        octets = self._octets if content_length is None else self._octets[:content_length]
        for start in range(0, len(octets), _PIECE_OCTETS):
            await writer.write(octets[start : start + _PIECE_OCTETS])


def _happened(connection: Connection, events: int) -> bool:
    """Ask the kernel what our loop may not have heard yet: one system call, a microsecond."""
    transport = connection.transport
    found = transport.get_extra_info("socket") if transport is not None else None
    if found is None:
        return False
    poll = select.poll()
    with suppress(OSError, ValueError):
        poll.register(found.fileno(), events)
        return bool(poll.poll(0))
    return True


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Read up to `limit` bytes. What is beyond is not read but ends the connection."""
    pieces: list[bytes] = []
    left = limit
    async for piece in response.content.iter_any():
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            response.close()
            return b"".join(pieces)[:limit], True
    return (pieces[0] if len(pieces) == 1 else b"".join(pieces)), False


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def _unpacked(answer: Answer, limit: int) -> Answer:
    """Decompress what was compressed against our wish; the limit counts what comes out of it.

    What cannot be unpacked stays as it is: the status still says what it says, and the body is no JSON.
    """
    encoding = answer.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"gzip", "x-gzip", "deflate"} or not answer.body:
        return answer
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        body = unpacker.decompress(answer.body, limit)
    except zlib.error:
        return answer
    truncated = answer.truncated or bool(unpacker.unconsumed_tail) or not unpacker.eof
    headers = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
    return msgspec.structs.replace(answer, body=body, headers=headers, truncated=truncated)


_FAILURES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorCertificateError, "TLS: the certificate is not trusted"),
    (aiohttp.ClientSSLError, "TLS: the handshake failed"),
    (aiohttp.ClientConnectorDNSError, "the name does not resolve"),
    (aiohttp.ClientProxyConnectionError, "the proxy cannot be reached"),
    (aiohttp.ClientHttpProxyError, "the proxy refused to connect"),
    (aiohttp.ServerDisconnectedError, "the connection ended before anything was sent"),
    (aiohttp.InvalidURL, "the URL is not valid"),
)


def _words_of_failure(error: BaseException) -> str:
    """Say why there was no connection: never with a host, a URL or a credential, which error texts like to repeat."""
    for kind, said in _FAILURES:
        if isinstance(error, kind):
            return said
    number = error.errno if isinstance(error, OSError) else None
    return f"no connection: {os.strerror(number)}" if number else "no connection"


def _words_of_loss(error: BaseException, status: int | None, silence_s: float) -> str:
    if status is not None:
        return f"the answer (HTTP {status}) broke off"
    match error:
        case aiohttp.ServerTimeoutError():
            return f"sent; no answer for {silence_s:g} s"
        case TimeoutError():
            return "sent; no answer in time"
        case aiohttp.ClientResponseError():
            return "sent; the answer is not HTTP"
        case _:
            return "sent; the connection ended without an answer"


class WireTransport(httpx.AsyncBaseTransport):
    """The same connections under an `httpx.AsyncClient`, for vendors' SDKs that want one.

    Raises `httpx.ConnectError` for *not sent* and `httpx.ReadError` for *maybe sent*; `result_of` reads them back.
    httpx's own time limits are ignored: those of the connections hold.
    """

    def __init__(self, connections: Connections, *, limit: int) -> None:
        self._connections = connections
        self._limit = limit

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer is whole and in memory."""
        body = await request.aread()
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in request.headers.raw
            if name.lower() not in _OUR_AFFAIR
        }
        result = await self._connections.exchange(
            request.method,
            str(request.url),
            headers={**headers, "Accept-Encoding": "identity"},
            body=body or None,
            limit=self._limit,
        )
        match result:
            case Answer(truncated=False):
                kept = [(name, value) for name, value in result.headers.items() if name not in _ALREADY_DONE]
                return httpx.Response(result.status, headers=kept, content=result.body)
            case Answer():
                raise httpx.ReadError("the answer is longer than the limit", request=request)
            case NotSent():
                raise httpx.ConnectError(result.detail, request=request)
            case MaybeSent():
                raise httpx.ReadError(result.detail, request=request)


_OUR_AFFAIR: Final = frozenset({b"accept-encoding", b"connection", b"content-length", b"transfer-encoding"})
_ALREADY_DONE: Final = frozenset({"content-length", "transfer-encoding", "connection"})


def result_of(error: httpx.RequestError) -> NotSent | MaybeSent:
    """Read an error of an `httpx.AsyncClient` over `WireTransport`: what is not known to be unsent may be sent."""
    if isinstance(error, httpx.ConnectError | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return NotSent(str(error))
    return MaybeSent(str(error))
