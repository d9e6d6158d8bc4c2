"""SMTP is the first to be held to the contract that is shipped for every adapter."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, Unknown
from channels.email_smtp import SmtpChannel, SmtpSettings
from channels.testing import ChannelContract, Golden, Recorder, Shape
from tests.support.smtp_server import Behaviour, Do, SmtpServer

TO = "private-address@example.com"
NOBODY = "nobody listens"


@dataclass
class Facing:
    channel: SmtpChannel
    server: SmtpServer

    def received(self) -> int:
        return len(self.server.messages)


def at(step, script):
    return Behaviour(on={step: script})


def to(script):
    return Behaviour(rcpt={TO: script})


class TestSmtp(ChannelContract):
    channel = SmtpChannel
    settings: ClassVar = {
        "host": "127.0.0.1",
        "security": "none",
        "username": "gateway",
        "password": "s3cret-of-the-relay",
    }
    secrets = ("password",)
    shapes: ClassVar = {
        Shape.ACCEPTS: Behaviour(),
        Shape.REFUSED: NOBODY,
        Shape.CLOSED_BEFORE_SENDING: at("mail", Do.DROP),
        Shape.CLOSED_AFTER_SENDING: at("dot", Do.DROP),
        Shape.HALF_ANSWER: at("dot", Do.HALF),
        Shape.GARBAGE_ANSWER: at("dot", b"<html>hello</html>\r\n"),
        Shape.SILENT_BEFORE_SENDING: at("banner", Do.SILENCE),
        Shape.SILENT_AFTER_SENDING: at("dot", Do.SILENCE),
    }
    recovers = at("mail", [Do.SILENCE, "250 2.1.0 OK"])
    golden = (
        # Connecting: nothing was sent, and nothing was said about this message.
        Golden("greeting 421", at("banner", "421 4.3.2 shutting down"), Retry, Reason.PROVIDER_DOWN),
        Golden("greeting 554", at("banner", "554 5.3.2 no service"), Retry, Reason.PROVIDER_DOWN),
        Golden("greeting dropped", at("banner", Do.DROP), Retry, Reason.PROVIDER_DOWN),
        Golden("greeting reset", at("banner", Do.RESET), Retry, Reason.PROVIDER_DOWN),
        Golden("greeting garbage", at("banner", b"SSH-2.0-x\r\n"), Retry, Reason.PROVIDER_DOWN),
        Golden("EHLO 451", at("ehlo", "451 4.3.0 later"), Retry, Reason.PROVIDER_DOWN),
        Golden("EHLO 550", at("ehlo", "550 5.7.1 go away"), Retry, Reason.PROVIDER_DOWN),
        Golden("EHLO unknown, HELO works", at("ehlo", "502 5.5.1 no"), Accepted),
        Golden("EHLO dropped", at("ehlo", Do.DROP), Retry, Reason.PROVIDER_DOWN),
        Golden("EHLO silent", at("ehlo", Do.SILENCE), Retry, Reason.TIMED_OUT),
        Golden("AUTH needed", Behaviour(users={"someone": "else"}), Rejected, Reason.ACCOUNT_PROBLEM),
        # MAIL: the sender, never the recipient.
        Golden("MAIL 421", at("mail", "421 4.7.0 too many"), Retry, Reason.PROVIDER_DOWN),
        Golden("MAIL 451", at("mail", "451 4.3.0 later"), Retry, Reason.PROVIDER_DOWN),
        Golden("MAIL 452", at("mail", "452 4.3.1 full"), Retry, Reason.RATE_LIMITED, 30.0),
        Golden("MAIL 530", at("mail", "530 5.7.0 log in"), Rejected, Reason.ACCOUNT_PROBLEM),
        Golden("MAIL 550 5.1.1", at("mail", "550 5.1.1 sender unknown"), Rejected, Reason.POLICY),
        Golden("MAIL 550 5.1.8", at("mail", "550 5.1.8 sender's domain"), Rejected, Reason.POLICY),
        Golden("MAIL 552", at("mail", "552 5.3.4 too big"), Rejected, Reason.TOO_LARGE),
        Golden("MAIL 553", at("mail", "553 sender not allowed"), Rejected, Reason.POLICY),
        Golden("MAIL 555", at("mail", "555 parameters"), Rejected, Reason.MESSAGE_INVALID),
        Golden("MAIL dropped", at("mail", Do.DROP), Retry, Reason.PROVIDER_DOWN),
        Golden("MAIL garbage", at("mail", b"\x00\xff\r\n"), Retry, Reason.PROVIDER_DOWN),
        Golden("MAIL without end", at("mail", Do.ENDLESS), Retry, Reason.PROVIDER_DOWN),
        Golden("MAIL half an answer", at("mail", Do.HALF_SILENCE), Retry, Reason.TIMED_OUT),
        # RCPT: the recipient.
        Golden("RCPT 5.1.1", to("550 5.1.1 no such user"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 5.1.2", to("550 5.1.2 no such domain"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 5.1.3", to("501 5.1.3 bad syntax"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 5.1.6", to("551 5.1.6 moved"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 5.1.10", to("556 5.1.10 null MX"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 556", to("556 takes no mail"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT 5.1.0", to("550 5.1.0 rejected"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 5.1.8", to("550 5.1.8 sender's domain not found"), Rejected, Reason.POLICY),
        Golden("RCPT 5.2.1", to("550 5.2.1 disabled"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 5.2.2", to("552 5.2.2 full"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 5.2.3", to("552 5.2.3 too long for them"), Rejected, Reason.TOO_LARGE),
        Golden("RCPT 5.4.1", to("550 5.4.1 access denied"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 5.7.1", to("554 5.7.1 relaying denied"), Rejected, Reason.POLICY),
        Golden("RCPT 550 5.7.26", to("550 5.7.26 unauthenticated"), Rejected, Reason.POLICY),
        Golden("RCPT 550 alone", to("550 no such user"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 550, code of another class", to("550 4.1.1 odd"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 553 alone", to("553 not allowed"), Rejected, Reason.INVALID_ADDRESS),
        Golden("RCPT 554 alone", to("554 no"), Rejected, Reason.POLICY),
        Golden("RCPT 450 greylisted", to("450 4.7.1 greylisted"), Retry, Reason.RETRY),
        Golden("RCPT 451", to("451 try later"), Retry, Reason.RETRY),
        Golden("RCPT 4.2.2", to("452 4.2.2 mailbox full"), Retry, Reason.RETRY),
        Golden("RCPT 452", to("452 too many"), Retry, Reason.RATE_LIMITED, 30.0),
        Golden("RCPT 421", to("421 4.7.0 closing"), Retry, Reason.PROVIDER_DOWN),
        Golden("RCPT in many lines", to("550 5.1.1 no\n550 5.1.1 such user"), Rejected, Reason.ADDRESS_DEAD),
        Golden("RCPT dropped", to(Do.DROP), Retry, Reason.PROVIDER_DOWN),
        Golden("RCPT silent", to(Do.SILENCE), Retry, Reason.TIMED_OUT),
        Golden("RCPT 354", to("354 what"), Retry, Reason.RETRY),
        # DATA: before the message.
        Golden("DATA 421", at("data", "421 4.3.0 closing"), Retry, Reason.PROVIDER_DOWN),
        Golden("DATA 451", at("data", "451 4.3.0 later"), Retry, Reason.PROVIDER_DOWN),
        Golden("DATA 554", at("data", "554 5.5.1 no valid recipients"), Rejected, Reason.MESSAGE_INVALID),
        Golden("DATA 250", at("data", "250 what"), Retry, Reason.PROVIDER_DOWN),
        Golden("DATA dropped", at("data", Do.DROP), Retry, Reason.PROVIDER_DOWN),
        Golden("DATA silent", at("data", Do.SILENCE), Retry, Reason.TIMED_OUT),
        # After the dot.
        Golden("dot 421", at("dot", "421 4.3.0 closing"), Retry, Reason.PROVIDER_DOWN),
        Golden("dot 451", at("dot", "451 4.7.1 greylisted"), Retry, Reason.RETRY),
        Golden("dot 452", at("dot", "452 4.3.1 full"), Retry, Reason.RATE_LIMITED, 30.0),
        Golden("dot 550 5.1.1", at("dot", "550 5.1.1 no such user"), Rejected, Reason.ADDRESS_DEAD),
        Golden("dot 550 alone", at("dot", "550 no"), Rejected, Reason.POLICY),
        Golden("dot 552", at("dot", "552 too big"), Rejected, Reason.TOO_LARGE),
        Golden("dot 5.6.0", at("dot", "554 5.6.0 malformed"), Rejected, Reason.MESSAGE_INVALID),
        Golden("dot 5.7.1", at("dot", "554 5.7.1 spam"), Rejected, Reason.POLICY),
        Golden("dot 354", at("dot", "354 again?"), Unknown, Reason.TIMED_OUT),
        Golden("dot reset", at("dot", Do.RESET), Unknown, Reason.TIMED_OUT),
        Golden("dot half, then silence", at("dot", Do.HALF_SILENCE), Unknown, Reason.TIMED_OUT),
        Golden("dot without end", at("dot", Do.ENDLESS), Unknown, Reason.TIMED_OUT),
    )

    def message(self, number):
        return Message(
            id=f"dlv_{number}",
            kind="email",
            to=TO,
            sender="Shop <shop@example.com>",
            content=Content(subject="Hello", text="private-body"),
            idempotency_key=f"k{number}",
            created_at=1_795_000_000.0,
        )

    @asynccontextmanager
    async def facing(self, behaviour, recorder: Recorder):
        async with SmtpServer(None if behaviour is NOBODY else behaviour) as server:
            if behaviour is NOBODY:
                await server.stop()
            settings = SmtpSettings(
                host=server.host,
                port=server.port,
                security="none",
                connections=3,
                connect_timeout_s=1.0,
                command_timeout_s=1.0,
                data_timeout_s=1.0,
            )
            channel = SmtpChannel(settings, recorder.tools)
            try:
                yield Facing(channel, server)
            finally:
                await channel.aclose()
