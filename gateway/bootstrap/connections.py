"""One caller's connection, with an end to our patience.

uvicorn waits for ever for a request that does not come, or comes a byte a minute, and keeps whatever stands in a head.
Owns three limits that it has not: how long the head of a request may take, how large it may be, and how many
connections there are; and what becomes of a body that was refused while it was still coming. Other bodies have limits
of their own (`gateway.api.reading`); a connection at rest between two requests is uvicorn's affair.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api.exchange import LINE, Scope, headers_of
from gateway.api.problems import problem_reply
from gateway.errors import MALFORMED, TOO_LARGE, UNAVAILABLE, Problem

__all__ = ["Connection", "House", "house_of", "open_files"]

HEAD_S: Final = 20.0
"""From the first byte, or from connecting, to the end of the head: far more than the slowest honest line needs."""
HEAD_BYTES: Final = 65_536
"""Request line and headers together; proxies in front of us take 8 to 32 KiB."""
_READ_OFF_BYTES: Final = 33_554_432
"""Of a refused body that are read and thrown away, so that its sender lives to read the answer: a line that is closed
with octets unread is reset, and the reset overtakes the answer."""
_BUSY_RETRY_S: Final = 1
_FILES_KEPT: Final = 256
"""Open files that connections leave to the database, the providers and everything else."""
_FILES_WANTED: Final = 65_536


class House:
    """What the connections of one process share: how many there may be, and who among them asks for nothing."""

    def __init__(self, most: int, head_s: float = HEAD_S) -> None:
        self.most = most
        self.head_s = head_s
        self.resting: dict[Connection, None] = {}
        """Those without a request under way, the longest at rest first."""
        self.count = 0
        self._standing: tuple[object, bytes] = (None, b"")

    def standing(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Write the lines that uvicorn puts into every answer; it makes the list anew each second."""
        if self._standing[0] is not headers:
            self._standing = (headers, b"".join(b"%b: %b\r\n" % header for header in headers))
        return self._standing[1]

    def make_room(self) -> bool:
        """Close whoever has asked for nothing the longest, if the house is full; say whether there is room."""
        if self.count < self.most:
            return True
        if not self.resting:
            return False
        next(iter(self.resting)).leave()
        return True


class _OnePiece:
    """One request and its response, each in one piece where they are.

    It is the API's `Line`: a body that is here already needs no event and no timer, and an answer that is ready no
    messages. For ASGI's messages it stands where uvicorn writes: the head waits for the body, and both leave in one
    packet. uvicorn sends them apart, which costs two calls of the system here and two wake-ups there. A body that does
    not come at once, as that of a stream, is not waited for.
    """

    __slots__ = ("_cycle", "_head", "_house", "_loop", "_sent", "_transport")

    def __init__(
        self, cycle: RequestResponseCycle, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, house: House
    ) -> None:
        self._cycle = cycle
        self._house = house
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._sent = False

    def take(self) -> bytes | None:
        """Give the body, if all of it is here. Once."""
        cycle = self._cycle
        if cycle.more_body or cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        body = bytes(cycle.body)
        cycle.body = bytearray()
        cycle.message_event.clear()
        cycle.flow.resume_reading()
        return body

    def say(self, status: int, head: bytes, body: bytes) -> bool:
        """Answer, as uvicorn does with two messages; `False` where it would wait, or where there is nothing to say."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        cycle.response_started = cycle.response_complete = self._sent = True
        cycle.waiting_for_100_continue = False
        standing = self._house.standing(cycle.default_headers)
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self._transport.write(b"".join((STATUS_LINE[status], standing, head, end, body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            self._transport.close()
        cycle.on_response()
        return True

    def write(self, data: bytes) -> None:
        """Write a piece, unless it is the head."""
        if self._sent or not self._cycle.response_started:  # a "100 Continue" comes before the response
            self._transport.write(data)
        elif self._head is None:
            self._head = data
            self._loop.call_soon(self.flush)
        else:
            self._sent = True
            self._transport.writelines((self._head, data))

    def flush(self) -> None:
        """Let the head go alone, if it still waits. Repeatable."""
        if self._head is not None and not self._sent:
            self._sent = True
            self._transport.write(self._head)

    def is_closing(self) -> bool:
        """Say whether the connection is on its way out."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection after what was written."""
        self.flush()
        self._transport.close()


def open_files() -> int:
    """Raise the process's limit of open files as far as it may itself, and answer it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def house_of(connections: int) -> House:
    """Make the house for so many connections, or for as many as the open files allow."""
    return House(max(1, min(connections, open_files() - _FILES_KEPT)))


class Connection(HttpToolsProtocol):
    """uvicorn's connection, held to the limits of a `House`."""

    def __init__(self, *, house: House, request_id: Callable[[], str], **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._house = house
        self._new_request_id = request_id
        self._patience: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._read_off = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Let the caller in if there is room."""
        room = self._house.make_room()
        self._house.count += 1
        super().connection_made(transport)
        if not room:
            self._refuse(Problem(UNAVAILABLE, "Too many connections are open.", retry_after_s=_BUSY_RETRY_S))
            return
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._house.count -= 1
        self._house.resting.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and begin to wait where more is owed."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(Problem(TOO_LARGE, f"The head of a request may have at most {HEAD_BYTES} bytes."))
                return
        if self._patience is None and self._is_resting():  # a head that did not come in one piece, or a body's remains
            self._patience = self.loop.call_later(self._house.head_s, self.leave)

    def on_message_begin(self) -> None:
        """Count from here."""
        self._read_off = 0
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting and waiting: there is a request, and the rest is the API's affair."""
        self._in_head = False
        self._stop_waiting()
        self._house.resting.pop(self, None)
        super().on_headers_complete()
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and cycle.transport is self.transport:
            piece = _OnePiece(cycle, self.transport, self.loop, self._house)
            cycle.transport = cast("asyncio.Transport", piece)
            cast("Scope", cycle.scope)[LINE] = piece

    def on_chunk_header(self) -> None:
        """Count what follows a chunk's size: after the last chunk it is trailers, which nobody else bounds."""
        self._begin_head()

    def on_body(self, body: bytes) -> None:
        """Stop counting: bodies are bounded where they are read, and here only once they were refused."""
        self._in_head = False
        super().on_body(body)
        if self._is_resting():
            self._read_off += len(body)
            if self._read_off > _READ_OFF_BYTES:
                self.leave()

    def on_message_complete(self) -> None:
        """Stop counting, for a request without a body."""
        self._in_head = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Be at rest, or end."""
        cast("_OnePiece", self.cycle.transport).flush()
        super().on_response_complete()
        if self.transport.is_closing():
            self._patience = self.loop.call_later(self._house.head_s, self.transport.abort)  # a caller who never reads
        elif self._is_resting():
            self._house.resting[self] = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as a problem document, which uvicorn does not know."""
        self._refuse(Problem(MALFORMED, msg))

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that was at rest for too long."""
        self.leave()

    def leave(self) -> None:
        """Close without a word: there is no request that an answer could belong to, or nobody reads the last one."""
        self._house.resting.pop(self, None)
        self._stop_waiting()
        self.transport.abort()

    def _rest(self) -> None:
        self._house.resting[self] = None
        self._patience = self.loop.call_later(self._house.head_s, self.leave)

    def _is_resting(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # uvicorn's own type leaves out how it begins
        return cycle is None or cycle.response_complete

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_bytes = 0

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, problem: Problem) -> None:
        """Answer a request that never became one, and close; in mid-answer, only close."""
        cycle = self.cycle
        if self._is_resting() or not cycle.response_started:
            reply = problem_reply(problem, request_id := self._new_request_id())
            head = b"".join(b"%b: %b\r\n" % header for header in headers_of(reply, request_id))
            status = b"HTTP/1.1 %d %b\r\n" % (reply.status, problem.type.title.encode("ascii"))
            self.transport.write(status + head + b"connection: close\r\n\r\n" + reply.body)
            if not self._is_resting():
                cycle.disconnected = True  # it ran already while its body was found to be none: its words come too late
        self.transport.close()
