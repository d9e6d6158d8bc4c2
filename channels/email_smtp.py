"""E-mail over SMTP: the adapter `email_smtp`.

Owns the settings of one relay, one transaction per delivery and the reading of its replies. Refuses to know MIME
(`channels.mime`) and connections (`channels.smtp_wire`), and, as every adapter, whether and when to try again.

The rule that everything here serves: before the final dot is written nothing has been sent; once it is written and no
readable answer comes, it may have been.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from channels.bounce_mail import read_bounce_mail
from channels.contract import (
    Accepted,
    Callback,
    Check,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    StatusEvent,
    Tools,
    Unknown,
)
from channels.email_parts import prove_by_secret
from channels.mail_codes import permanent
from channels.mime import Composed, MimeFault, compose, parse_mailbox
from channels.smtp_wire import SERVICE_CLOSING, Dial, Fault, Pool, Reply, Session, Step, WireError, dial

__all__ = ["SmtpChannel", "SmtpSettings", "judge"]

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Port = Annotated[int, Meta(ge=1, le=65_535)]

_USUAL_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}  # RFC 8314, 3.3 and 7.3; RFC 5321, 4.5.4.2
_LARGE_OCTETS: Final = 65_536  # beyond it the body is streamed, so that a loss half-way is known as "not sent"
_DETAIL_CHARS: Final = 500
_RESET_S: Final = 5.0  # RSET only tidies up; a server slow at it loses the connection, the delivery nothing
_QUOTA_FIRST_S: Final = 30.0  # 452 may mean a per-second or a daily quota: begin with half a minute …
_QUOTA_FACTOR: Final = 3.0
_QUOTA_MOST_S: Final = 3600.0  # … and go up to an hour

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# How common relays name what they took: Postfix and many more, Exim, Amazon SES.
_QUEUE_ID: Final = re.compile(r"queued as ([\w.-]+)|\bid=([\w.-]+)|^(?:2\.\d\.\d )?Ok ([\w-]{16,})$", re.IGNORECASE)


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One relay. Times are in seconds."""

    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Port | None = None
    """587, or 465 with `security = "tls"`, or 25 with `security = "none"`."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """Required means required: without TLS nothing is sent, whatever the server offers."""
    username: str | None = None
    password: str | None = None
    connections: Annotated[int, Meta(ge=1, le=500)] = 8
    connect_timeout_s: Seconds = 10.0
    """From the first packet to the end of AUTH."""
    command_timeout_s: Seconds = 30.0
    data_timeout_s: Seconds = 60.0
    """After the final dot. RFC 5321, 4.5.3.2.6 says ten minutes; a minute, then `unknown`, keeps the others moving."""
    idle_s: Seconds = 30.0
    """Kept connections rest this long: well below the five minutes a server waits (RFC 5321, 4.5.3.2.7), so that ours
    is the side that closes, and long enough to span a lull."""
    messages_per_connection: Annotated[int, Meta(ge=1)] = 100
    """Relays commonly allow 100 and then answer 421; going on elsewhere costs one handshake in a hundred."""
    local_hostname: str | None = None
    message_id_domain: str | None = None
    return_path: str | None = None
    """The envelope's sender, where bounces are sent to; unset: the address of `From`."""
    callback_secret: str | None = None
    """What proves that a mail handed in at `/v1/callbacks/NAME` comes from our own mail server: as bearer token or as
    password. Unset: no such mail is taken."""
    verify: bool = True
    ca_file: str | None = None
    """Trust these certificates (PEM) instead of the system's."""

    def __repr__(self) -> str:
        return f"SmtpSettings({self.host}:{self.port or _USUAL_PORTS[self.security]}, {self.security})"


class SmtpChannel:
    """Sends e-mail through one relay, over a pool of kept connections."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = SmtpSettings

    def __init__(self, settings: SmtpSettings, tools: Tools) -> None:
        _refuse_what_cannot_work(settings)
        self.limits = Limits(attachments=True, receipts=False, concurrency=settings.connections)
        self._settings = settings
        self._tools = tools
        self._return_path = _return_path(settings)
        self._dial = Dial(
            host=settings.host,
            port=settings.port or _USUAL_PORTS[settings.security],
            security=settings.security,
            tls=_tls_context(settings),
            local_hostname=settings.local_hostname or _own_hostname(),
            username=settings.username,
            password=settings.password,
            timeout_s=settings.connect_timeout_s,
        )
        self._pool = Pool(
            self._open,
            size=settings.connections,
            idle_s=settings.idle_s,
            messages=settings.messages_per_connection,
        )

    async def send(self, message: Message) -> Outcome:
        """Hand one message to the relay. Never raises for what relays do; safe to call concurrently."""
        try:
            composed = compose(message, message_id_domain=self._settings.message_id_domain)
            if self._return_path is not None:
                composed = msgspec.structs.replace(composed, mail_from=self._return_path)
        except MimeFault as fault:
            reason = Reason.INVALID_ADDRESS if fault.field == "to" else Reason.MESSAGE_INVALID
            return Rejected(reason, str(fault))
        if self._pool.closed:
            return Retry(Reason.PROVIDER_DOWN, detail="this provider is being closed")
        if not await self._pool.enter(self._settings.command_timeout_s):
            return Retry(Reason.TIMED_OUT, detail="no connection became free in time")
        try:
            return await self._send(composed, message.attempt)
        finally:
            self._pool.leave()

    def raw(self, message: Message) -> bytes:
        """Show the bytes that would follow DATA. Raises `MimeFault` where `send` would reject the message."""
        return compose(message, message_id_domain=self._settings.message_id_domain).content

    def verify(self, callback: Callback) -> None:
        """Check the secret that our own mail server hands bounces in with."""
        prove_by_secret(callback, self._settings.callback_secret)

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read one raw mail: a delivery report, a complaint, a bounce of any shape. Other mail gives no event. Pure."""
        return read_bounce_mail(callback.body, self._tools.now())

    async def check(self) -> Check:
        """Connect, log in, NOOP: are host, TLS and credentials good? Sends no mail."""
        try:
            session = await self._open()
            (reply,) = await session.exchange(Step.NOOP, b"NOOP\r\n", 1, self._settings.command_timeout_s)
        except WireError as error:
            return Check(ok=False, detail=_words_of(error))
        session.quit()
        return Check(ok=reply.code < _FIRST_REFUSAL, detail=_words(Step.NOOP, reply))

    async def aclose(self) -> None:
        """Say QUIT on every kept connection. Repeatable."""
        await self._pool.aclose()

    async def _open(self) -> Session:
        try:
            session = await dial(self._dial)
        except WireError as error:
            # Only our own words and the kind of fault: a server's text may repeat an address.
            self._tools.log("smtp_connect_failed", step=str(error.step), fault=str(error.fault))
            raise
        self._tools.log("smtp_connected", security=self._settings.security)
        return session

    async def _send(self, composed: Composed, attempt: int) -> Outcome:
        """Use a kept connection; if it turns out dead before the message was written, renew it once, unseen."""
        try:
            if (kept := self._pool.take()) is not None:
                try:
                    return await self._transact(kept, composed, attempt)
                except WireError as error:
                    if error.fault is Fault.TIMED_OUT:
                        raise
            return await self._transact(await self._pool.open(), composed, attempt)
        except WireError as error:
            return _not_sent(error)

    async def _transact(self, session: Session, composed: Composed, attempt: int) -> Outcome:
        """Hold one mail transaction. Raises `WireError` only while it is certain that nothing was sent."""
        try:
            if (refusal := _beyond(session, composed)) is not None:
                return refusal
            session.messages += 1
            refusal, declined = await self._envelope(session, composed, attempt)
            if refusal is not None:
                return refusal
            return await self._content(session, composed, attempt, declined)
        except BaseException:  # broken or cancelled: half-way through a conversation, nobody else may continue it
            session.abort()
            raise
        finally:
            self._pool.keep(session)

    async def _envelope(self, session: Session, composed: Composed, attempt: int) -> tuple[Outcome | None, str | None]:
        """MAIL, RCPT for everyone, DATA. Answers why not (nothing is sent then), and which Cc or Bcc was declined."""
        timeout_s = self._settings.command_timeout_s
        replies: list[Reply] = []
        for step, commands in _batches(session, composed):
            replies += await session.exchange(step, b"\r\n".join(commands) + b"\r\n", len(commands), timeout_s)
            refusal = _envelope_refusal(replies, len(composed.rcpt_to), attempt)
            if refusal is None and session.error is not None:
                raise session.error
            if refusal is not None:
                if session.messages > 1 and session.error is not None and session.error.fault is Fault.CLOSING:
                    raise session.error  # a kept connection was told to go: that says nothing about this message
                await self._reset(session, replies, len(composed.rcpt_to))
                return refusal, None
        return None, _declined(replies, composed)

    async def _reset(self, session: Session, replies: list[Reply], recipients: int) -> None:
        """Clear the refused envelope, so that nothing goes to Cc and Bcc and the connection can be used again."""
        if len(replies) > recipients + 1 and replies[-1].code < _FIRST_REFUSAL:
            session.abort()  # it said yes to DATA, and may take whatever comes next for the message
        elif session.usable and replies[0].code < _FIRST_REFUSAL:
            try:
                (reply,) = await session.exchange(
                    Step.RSET, b"RSET\r\n", 1, min(_RESET_S, self._settings.command_timeout_s)
                )
            except WireError:
                return
            if reply.code >= _FIRST_REFUSAL:
                session.quit()

    async def _content(self, session: Session, composed: Composed, attempt: int, declined: str | None) -> Outcome:
        """Write the message and read the verdict on it."""
        body = composed.content
        if b"\n." in body:  # RFC 5321, 4.5.2; a message begins with a header, never with a dot
            body = body.replace(b"\r\n.", b"\r\n..")
        if len(body) > _LARGE_OCTETS:
            early = await session.stream(body, self._settings.command_timeout_s)
            if early is not None:
                session.abort()  # we stand in the middle of a message: there is no way back
                return judge(Step.BODY, early, attempt)
            body = b""
        if not session.usable:  # it ended since its last answer, and the message has not begun or its dot is missing
            raise session.error or WireError(Step.BODY, Fault.LOST, "the connection was lost")
        try:
            (reply,) = await session.exchange(Step.END, body + b".\r\n", 1, self._settings.data_timeout_s)
        except WireError as error:
            session.abort()
            return Unknown(Reason.TIMED_OUT, _words_of(error))
        return _final(reply, attempt, declined)


# What the server said, and what that means. Pure.

_FIRST_UNEXPECTED: Final = 300  # RFC 5321, 4.2.1: 3xx asks for more; only DATA may be answered so
_FIRST_REFUSAL: Final = 400
_FIRST_PERMANENT: Final = 500
_GO_AHEAD: Final = 354
_INSUFFICIENT_STORAGE: Final = 452
_TOO_LARGE: Final = 552
_BAD_PARAMETERS: Final = 555
_NULL_MX: Final = 556  # RFC 7504, 2: the domain says that it takes no mail
_ACCOUNT_CODES: Final = frozenset({530, 534, 535, 538})  # RFC 4954, 6: authentication required, too weak, wrong, …
_NO_SUCH_COMMAND: Final = range(500, 505)  # RFC 5321, 4.2.3: syntax and sequence: our words, not the recipient

_TRANSIENT_SUBJECTS: Final[dict[int, Reason]] = {
    3: Reason.PROVIDER_DOWN,  # the mail system itself: full, not accepting
}


def judge(step: Step, reply: Reply, attempt: int = 1) -> Retry | Rejected:
    """Read a refusal: 4xx is worth another try, 5xx is not; the enhanced code says whose affair it is.

    A 5xx without an enhanced code never counts as a dead address: 550 alone means "not found, no access, or command
    rejected for policy reasons" (RFC 5321, 4.2.3), and suppressing is for ever.
    """
    words = _words(step, reply)
    if reply.code < _FIRST_PERMANENT:
        return _transient(reply, attempt, words)
    return Rejected(_permanent(step, reply), words)


def _transient(reply: Reply, attempt: int, words: str) -> Retry:
    subject = reply.enhanced[0] if reply.enhanced else None
    if reply.code == SERVICE_CLOSING:
        return Retry(Reason.PROVIDER_DOWN, detail=words)
    # 452 4.2.2 is one full mailbox; every other 452 is a quota or a disk of the relay's.
    if reply.code == _INSUFFICIENT_STORAGE and subject != 2:  # noqa: PLR2004 - RFC 3463, 3.3: mailbox status
        after = min(_QUOTA_FIRST_S * _QUOTA_FACTOR ** min(attempt - 1, 10), _QUOTA_MOST_S)
        return Retry(Reason.RATE_LIMITED, after, words)
    return Retry(_TRANSIENT_SUBJECTS.get(subject or 0, Reason.RETRY), detail=words)


def _permanent(step: Step, reply: Reply) -> Reason:
    if reply.code in _ACCOUNT_CODES:
        return Reason.ACCOUNT_PROBLEM
    named = None if reply.enhanced is None else permanent(*reply.enhanced, about_sender=step is Step.MAIL)
    return named or _permanent_without_words(step, reply.code)


def _permanent_without_words(step: Step, code: int) -> Reason:
    if code == _TOO_LARGE:
        return Reason.TOO_LARGE
    if code in _NO_SUCH_COMMAND or code == _BAD_PARAMETERS:
        return Reason.MESSAGE_INVALID
    if step is Step.RCPT and code == _NULL_MX:
        return Reason.ADDRESS_DEAD
    if step is Step.RCPT and code != 554:  # noqa: PLR2004 - "transaction failed": mostly a rule of theirs
        return Reason.INVALID_ADDRESS
    return Reason.POLICY


def _not_sent(error: WireError) -> Retry | Rejected:
    """Read a broken conversation of which it is certain that it sent nothing."""
    words = _words_of(error)
    refused = error.reply is not None and error.reply.code >= _FIRST_PERMANENT
    if error.step is Step.AUTH and (error.fault is Fault.NOT_OFFERED or refused):
        return Rejected(Reason.ACCOUNT_PROBLEM, words)
    if error.reply is not None and error.reply.code in _ACCOUNT_CODES:
        return Rejected(Reason.ACCOUNT_PROBLEM, words)
    # A greeting of 554 or a missing STARTTLS is the server's state, not this message's: try again, or elsewhere.
    return Retry(Reason.TIMED_OUT if error.fault is Fault.TIMED_OUT else Reason.PROVIDER_DOWN, detail=words)


def _beyond(session: Session, composed: Composed) -> Rejected | None:
    """Find what this server says it cannot take, before asking it."""
    if composed.needs_smtputf8 and "smtputf8" not in session.extensions:
        return Rejected(Reason.INVALID_ADDRESS, "an address needs SMTPUTF8, which the server does not offer")
    most = session.extensions.get("size", "")
    if most.isdecimal() and 0 < int(most) < len(composed.content):  # RFC 1870, 4: 0 means no fixed maximum
        return Rejected(Reason.TOO_LARGE, f"{len(composed.content)} bytes; the server takes {int(most)}")
    return None


def _batches(session: Session, composed: Composed) -> list[tuple[Step, list[bytes]]]:
    """Group the commands: one write where the server takes pipelining.

    DATA joins it only for a single recipient: with more, a refused `to` would leave a 354 for the others, and the only
    way out of that is to send something or to hang up (RFC 2920, 3.1).
    """
    mail = f"MAIL FROM:<{composed.mail_from}>"
    if "size" in session.extensions:
        mail += f" SIZE={len(composed.content)}"
    if composed.needs_8bitmime and "8bitmime" in session.extensions:
        mail += " BODY=8BITMIME"
    if composed.needs_smtputf8:
        mail += " SMTPUTF8"
    first = mail.encode()
    recipients = [f"RCPT TO:<{address}>".encode() for address in composed.rcpt_to]
    if not session.pipelining:
        each = [(Step.RCPT, [recipient]) for recipient in recipients]
        return [(Step.MAIL, [first]), *each, (Step.DATA, [b"DATA"])]
    if len(recipients) == 1:
        return [(Step.ENVELOPE, [first, *recipients, b"DATA"])]
    return [(Step.ENVELOPE, [first, *recipients]), (Step.DATA, [b"DATA"])]


def _envelope_refusal(replies: list[Reply], recipients: int, attempt: int) -> Retry | Rejected | None:
    """Judge the envelope so far: MAIL, `to` and DATA decide; what Cc and Bcc are answered does not."""
    if replies[0].code >= _FIRST_UNEXPECTED:
        return judge(Step.MAIL, replies[0], attempt)
    if len(replies) > 1 and replies[1].code >= _FIRST_UNEXPECTED:
        return judge(Step.RCPT, replies[1], attempt)
    if len(replies) > recipients + 1 and replies[-1].code != _GO_AHEAD:
        if replies[-1].code >= _FIRST_REFUSAL:
            return judge(Step.DATA, replies[-1], attempt)
        return Retry(Reason.PROVIDER_DOWN, detail=_words(Step.DATA, replies[-1]))
    return None


def _declined(replies: list[Reply], composed: Composed) -> str | None:
    refused = [
        f"{address} refused: {reply.code} {reply.text}"
        for address, reply in zip(composed.rcpt_to[1:], replies[2:-1], strict=True)
        if reply.code >= _FIRST_UNEXPECTED
    ]
    return "; ".join(refused) or None


def _final(reply: Reply, attempt: int, declined: str | None) -> Outcome:
    if reply.code >= _FIRST_REFUSAL:
        return judge(Step.END, reply, attempt)
    if reply.code >= _FIRST_UNEXPECTED:
        return Unknown(Reason.TIMED_OUT, _words(Step.END, reply))
    found = _QUEUE_ID.search(reply.text)
    said = f"{reply.code} {reply.text}"
    return Accepted(
        next((group for group in found.groups() if group), None) if found else None,
        _clean(f"{said}; {declined}" if declined else said),
    )


def _words(step: Step, reply: Reply) -> str:
    return _clean(f"{step}: {reply.code} {reply.text}")


def _words_of(error: WireError) -> str:
    said = f" ({error.reply.code} {error.reply.text})" if error.reply else ""
    return _clean(f"{error.step}: {error.words}{said}")


def _clean(text: str) -> str:
    return _CONTROLS.sub(" ", text)[:_DETAIL_CHARS]


# Settings


def _refuse_what_cannot_work(settings: SmtpSettings) -> None:
    if (settings.username is None) != (settings.password is None):
        raise SettingsFault("password", "username and password belong together: set both or neither")
    for field in ("host", "local_hostname", "message_id_domain"):
        value = getattr(settings, field)
        if value is not None and (not value.isascii() or not value.isprintable() or " " in value or not value):
            raise SettingsFault(field, "letters, digits, dots and hyphens only")


def _return_path(settings: SmtpSettings) -> str | None:
    if settings.return_path is None:
        return None
    try:
        return parse_mailbox("return_path", settings.return_path).address
    except MimeFault as fault:
        raise SettingsFault("return_path", fault.message) from None


def _tls_context(settings: SmtpSettings) -> ssl.SSLContext | None:
    if settings.security == "none":
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsFault("ca_file", f"cannot be read as certificates: {error}") from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _own_hostname() -> str:
    """Name this machine for EHLO without asking DNS (which can hang); RFC 5321, 4.1.4 allows an address literal."""
    name = socket.gethostname()
    return name if "." in name and name.isascii() else "[127.0.0.1]"
