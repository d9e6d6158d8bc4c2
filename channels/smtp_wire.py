"""The wire of SMTP: opens sessions, keeps a bounded pool of them, carries commands there and replies back.

Owns connections, their time limits and the reading of replies. Refuses to know what a reply means for a delivery: that
is `channels.email_smtp`.

aiosmtplib opens the connection (greeting, EHLO, STARTTLS, AUTH); then `Session` takes the transport over with asyncio's
own `set_protocol`. Its reader pairs one command with one reply, which rules out pipelining (RFC 2920), and puts a timer
and a lock around each: with three commands in one write a message costs two round trips instead of four.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, cast

import aiosmtplib
import msgspec

__all__ = ["Dial", "Fault", "Pool", "Reply", "Session", "Step", "WireError", "dial"]

SERVICE_CLOSING: Final = 421  # RFC 5321, 3.8: may answer any command; the server closes
_REPLY_OCTETS: Final = 32_768  # one reply with all its lines; the longest real EHLO has a few thousand
_CHUNK_OCTETS: Final = 65_536  # a body beyond this is written piece by piece, under flow control
_QUIT_S: Final = 2.0  # how long a goodbye may take before the connection is cut
_UNKNOWN_COMMAND: Final = frozenset({500, 502, 504})  # RFC 5321, 4.2.3
_CODE: Final = re.compile(rb"[2-5][0-9][0-9](?=[ -]|$)")
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\S)")  # RFC 3463, 2: class.subject.detail


class Step(StrEnum):
    """Where in the conversation something happened."""

    CONNECT = "connect"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL FROM"
    RCPT = "RCPT TO"
    DATA = "DATA"
    ENVELOPE = "MAIL FROM, RCPT TO, DATA"  # in one write
    BODY = "the message"
    END = "the end of the message"
    NOOP = "NOOP"
    RSET = "RSET"


class Fault(StrEnum):
    """What went wrong with the wire itself."""

    UNREACHABLE = "unreachable"  # refused, no route, DNS
    TLS = "tls"  # certificate, handshake
    NOT_OFFERED = "not_offered"  # the server lacks what the settings require
    REFUSED = "refused"  # the server said no, politely: see the reply
    CLOSING = "closing"  # 421
    LOST = "lost"
    TIMED_OUT = "timed_out"
    UNREADABLE = "unreadable"


class Reply(msgspec.Struct, frozen=True):
    """One complete reply; the text of a longer one is joined with line feeds."""

    code: int
    text: str

    @property
    def enhanced(self) -> tuple[int, int] | None:
        """Subject and detail of the enhanced status code (RFC 3463), where one agrees with the reply code's class."""
        found = _ENHANCED.match(self.text)
        if found is None or int(found[1]) != self.code // 100:
            return None
        return int(found[2]), int(found[3])


class WireError(Exception):
    """The conversation broke at `step`; `reply` is there where the server still said why."""

    def __init__(self, step: Step, fault: Fault, words: str, reply: Reply | None = None) -> None:
        super().__init__(words)
        self.step = step
        self.fault = fault
        self.words = words
        self.reply = reply


class Session(asyncio.Protocol):
    """One open connection, past EHLO, TLS and AUTH; used by one sender at a time.

    A single timer serves every time limit: it is moved, not restarted, so that a command costs no timer of its own.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, extensions: dict[str, str]
    ) -> None:
        self.extensions = extensions
        self.messages = 0
        self.error: WireError | None = None
        self.closed: asyncio.Future[None] = loop.create_future()
        self.pipelining = "pipelining" in extensions
        self._loop = loop
        self._transport = transport
        self._step = Step.NOOP
        self._replies: list[Reply] = []
        self._lines: list[bytes] = []
        self._rest = b""
        self._read_octets = 0
        self._wanted = 0
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._quitting = False
        self._deadline = loop.time()
        self._timer: asyncio.TimerHandle | None = None
        transport.set_protocol(self)

    @property
    def usable(self) -> bool:
        """Whether the next message may be tried here."""
        return self.error is None and not self._quitting and not self._transport.is_closing()

    async def exchange(self, step: Step, commands: bytes, replies: int, timeout_s: float) -> list[Reply]:
        """Write and wait for that many replies. Fewer come back where the connection ended first: see `error`.

        Raises `WireError` where there is no reply at all. Time limit for the whole exchange, in seconds.
        """
        if self.error is not None:
            raise self.error
        self._step = step
        self._expect(replies, timeout_s)
        self._transport.write(commands)
        await self._settled()
        found = self._taken()
        if not found:
            raise self.error or WireError(step, Fault.LOST, "the connection is closed")
        return found[:replies]  # a server that says more than it was asked has broken the session already

    async def stream(self, body: bytes, timeout_s: float) -> Reply | None:
        """Write a large body under flow control; each piece has `timeout_s` to leave this process.

        Answers early where the server does (a refusal half-way). Raises `WireError` where the connection ends: the
        final dot has not been written then, so the message is certainly not sent.
        """
        self._step = Step.BODY
        # So low a high-water mark that "not paused" means that everything written so far was handed on. Not zero:
        # asyncio's TLS transport pauses at "size >= high" and would never resume.
        self._transport.set_write_buffer_limits(high=1, low=0)
        for at in range(0, len(body), _CHUNK_OCTETS):
            self._expect(1, timeout_s)
            self._transport.write(body[at : at + _CHUNK_OCTETS])
            if self._paused:
                await self._settled()
            if self._replies:
                return self._taken()[0]
            if self.error is not None:
                raise self.error
        self._transport.set_write_buffer_limits()
        return None

    def idle(self, timeout_s: float) -> None:
        """Rest in the pool for at most that long, then say goodbye."""
        self._wanted = 0
        self._move_deadline(timeout_s)

    def quit(self) -> None:
        """Say goodbye without waiting for the answer; `closed` resolves when the connection is gone. Repeatable."""
        if self.usable:
            self._quitting = True
            self._wanted = 0
            self._move_deadline(_QUIT_S)
            self._transport.write(b"QUIT\r\n")

    def abort(self) -> None:
        """Cut the connection now: it is half-way through something. Repeatable."""
        self._break(Fault.LOST, "the connection was cut from this side")
        self._transport.abort()

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        """Read replies; wake the sender once, when all that it waits for is there."""
        if self._quitting:
            self._transport.close()
            return
        self._read_octets += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._read_line(line.removesuffix(b"\r"))
        if self._read_octets > _REPLY_OCTETS * max(self._wanted, 1):
            self._unreadable("the reply does not end")
        elif len(self._replies) > self._wanted and self.error is None:
            self._unreadable("a reply that nothing had asked for")
        elif len(self._replies) == self._wanted or self.error is not None:
            self._wake()

    def eof_received(self) -> bool:
        """Let the transport close: a server that ends its side is done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end, wake whoever waits."""
        self._break(Fault.LOST, f"the connection was lost{f': {type(exc).__name__}' if exc else ''}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """Remember that something written is still here."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with a large body."""
        self._paused = False
        if self._step is Step.BODY:
            self._wake()

    # Inside

    def _expect(self, replies: int, timeout_s: float) -> None:
        self._wanted = replies
        self._read_octets = 0
        self._move_deadline(timeout_s)

    async def _settled(self) -> None:
        if len(self._replies) >= self._wanted or self.error is not None:
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _taken(self) -> list[Reply]:
        found, self._replies = self._replies, []
        return found

    def _read_line(self, line: bytes) -> None:
        if self.error is not None:
            return
        if _CODE.match(line) is None:
            self._unreadable("the server's answer is not SMTP")
            return
        self._lines.append(line[4:])
        if line[3:4] == b"-":
            return
        text = (self._lines[0] if len(self._lines) == 1 else b"\n".join(self._lines)).decode("utf-8", "replace")
        self._lines = []
        reply = Reply(int(line[:3]), text)
        self._replies.append(reply)
        if reply.code == SERVICE_CLOSING:
            self._break(Fault.CLOSING, "the server closes the connection", reply)
            self._transport.close()

    def _unreadable(self, words: str) -> None:
        self._break(Fault.UNREADABLE, words)
        self._transport.abort()

    def _break(self, fault: Fault, words: str, reply: Reply | None = None) -> None:
        if self.error is None:
            self.error = WireError(self._step, fault, words, reply)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _move_deadline(self, timeout_s: float) -> None:
        self._deadline = self._loop.time() + timeout_s
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return  # it will look again when it rings
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._ring)
        elif self._wanted or self._quitting:
            self._break(Fault.TIMED_OUT, "no answer in time")
            self._transport.abort()
        else:
            self.quit()


class Dial(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how to connect. Times in seconds; `tls` is there unless `security` is `none`."""

    host: str
    port: int
    security: str
    tls: ssl.SSLContext | None
    local_hostname: str
    username: str | None
    password: str | None
    timeout_s: float

    def __repr__(self) -> str:
        return f"Dial({self.host}:{self.port}, {self.security})"


async def dial(to: Dial) -> Session:
    """Open a session: greeting, EHLO, TLS, AUTH. Raises `WireError`; nothing stays open then.

    Where TLS is required and not to be had, neither the credentials nor any mail command has been written.
    """
    client = aiosmtplib.SMTP(
        hostname=to.host,
        port=to.port,
        local_hostname=to.local_hostname,
        timeout=None,  # the limit around all of it is below
        use_tls=to.security == "tls",
        start_tls=False,
        tls_context=to.tls,
    )
    step = Step.CONNECT
    try:
        async with asyncio.timeout(to.timeout_s):
            await client.connect()
            step = Step.EHLO
            await _greet(client, to)
            if to.security == "starttls":
                step = Step.STARTTLS
                await _encrypt(client)
                step = Step.EHLO
                await _greet(client, to)
            if to.username is not None:
                step = Step.AUTH
                await _authenticate(client, to.username, to.password or "", encrypted=to.security != "none")
        return _take_over(client)
    except WireError:
        client.close()
        raise
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        client.close()
        raise _as_wire_error(step, error) from error
    except BaseException:
        client.close()
        raise


def _take_over(client: aiosmtplib.SMTP) -> Session:
    if client.transport is None or client.transport.is_closing():
        raise WireError(Step.CONNECT, Fault.LOST, "the connection was lost")
    return Session(asyncio.get_running_loop(), cast("asyncio.Transport", client.transport), client.esmtp_extensions)


async def _encrypt(client: aiosmtplib.SMTP) -> None:
    if not client.supports_extension("starttls"):
        raise WireError(Step.STARTTLS, Fault.NOT_OFFERED, "STARTTLS is required and the server does not offer it")
    await client.starttls()


async def _greet(client: aiosmtplib.SMTP, to: Dial) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        # RFC 5321, 3.2: an old server may know HELO only; it can then offer neither TLS nor AUTH.
        if error.code not in _UNKNOWN_COMMAND or to.security == "starttls" or to.username is not None:
            raise
        await client.helo()


async def _authenticate(client: aiosmtplib.SMTP, username: str, password: str, *, encrypted: bool) -> None:
    """Log in by the first method both sides know. One try only: repeated wrong passwords lock accounts."""
    known = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
    order = ("plain", "login", "cram-md5") if encrypted else ("cram-md5", "plain", "login")
    for method in order:
        if method in client.server_auth_methods:
            await known[method](username, password)
            return
    raise WireError(
        Step.AUTH, Fault.NOT_OFFERED, "a username is set and the server offers no way to log in that we know"
    )


def _as_wire_error(step: Step, error: Exception) -> WireError:
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else error
    match error:
        case aiosmtplib.SMTPResponseException() if error.code > 0:
            return WireError(step, Fault.REFUSED, "the server refused", Reply(error.code, error.message))
        case aiosmtplib.SMTPResponseException():
            return WireError(step, Fault.UNREADABLE, "the server's answer is not SMTP")
        case TimeoutError():
            return WireError(step, Fault.TIMED_OUT, "no answer in time")
        case _ if isinstance(cause, ssl.SSLError):
            return WireError(step, Fault.TLS, f"TLS failed: {cause.reason or cause}")
        case aiosmtplib.SMTPServerDisconnected():
            return WireError(step, Fault.LOST, "the connection was lost")
        case _:
            return WireError(step, Fault.UNREACHABLE, f"cannot connect: {cause or error}")


class Pool:
    """A bounded number of sessions to one server; the most recently used is taken first, so that the rest can retire.

    Waiting is first come, first served. A session is either kept here or in one sender's hands.
    """

    def __init__(self, connect: Callable[[], Awaitable[Session]], *, size: int, idle_s: float, messages: int) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(size)
        self._size = size
        self._kept: list[Session] = []
        self._open: set[Session] = set()
        self._idle_s = idle_s
        self._messages = messages
        self.closed = False

    async def enter(self, timeout_s: float) -> bool:
        """Wait for a slot, in turn; `False` when none became free in time. Every `True` needs one `leave`."""
        if self._slots.locked():
            try:
                async with asyncio.timeout(timeout_s):
                    await self._slots.acquire()
            except TimeoutError:
                return False
            return True
        await self._slots.acquire()
        return True

    def leave(self) -> None:
        """Give the slot back."""
        self._slots.release()

    def take(self) -> Session | None:
        """Take a kept session, if one is alive."""
        while self._kept:
            session = self._kept.pop()
            if session.usable:
                return session
        return None

    async def open(self) -> Session:
        """Open a new session, once those that are saying goodbye have made room for it. Raises `WireError`.

        Relays count connections, and refuse one too many, however short its overlap.
        """
        if len(self._open) >= self._size:
            leaving = [session.closed for session in self._open if not session.usable]
            if leaving:
                await asyncio.wait(leaving, timeout=_QUIT_S + 1, return_when=asyncio.FIRST_COMPLETED)
        session = await self._connect()
        self._open.add(session)
        session.closed.add_done_callback(lambda _: self._open.discard(session))
        return session

    def keep(self, session: Session) -> None:
        """Put a session back: for the next message, or to its rest when it is broken, worn out or no longer wanted."""
        if not session.usable:
            return
        if self.closed or session.messages >= self._messages:
            session.quit()
        else:
            session.idle(self._idle_s)
            self._kept.append(session)

    async def aclose(self) -> None:
        """Say goodbye on every kept session and wait for it, shortly. Repeatable; nothing is kept from now on."""
        self.closed = True
        kept, self._kept = self._kept, []
        for session in kept:
            session.quit()
        if kept:
            await asyncio.wait([session.closed for session in kept], timeout=_QUIT_S + 1)
