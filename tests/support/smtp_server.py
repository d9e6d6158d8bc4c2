"""A real SMTP server on loopback that does what a test asks of it, every documented failure included.

    async with SmtpServer(Behaviour(rcpt={"no@example.com": "550 5.1.1 no such user"})) as server:
        ...  # connect to server.host, server.port
        mail = await server.wait_for_message()

It is also a program, for flows that need a mailbox to look into (prints `listening PORT`):

    python -m tests.support.smtp_server --port 2525 --mailbox mails.mbox

`mails.mbox` (a file in mbox format, with `X-Envelope-From` and `X-Envelope-To` on top of each message) or `mails/`
(a folder of numbered `.eml` files).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final, Self

from channels.testing_server import Listener
from tests.support.patience import PATIENCE_S


class Do(Enum):
    """What a server does instead of answering."""

    DROP = "close the connection"
    RESET = "cut the connection with a TCP reset"
    SILENCE = "never answer, and keep the connection open"
    HALF = "send half an answer, then close"
    HALF_SILENCE = "send half an answer, then nothing more"
    ENDLESS = "send an answer that never ends"


Action = str | bytes | Do
"""A reply line (or several, joined by line feeds), raw bytes written as they are, or something else to do."""
Script = Action | Sequence[Action]
"""One action for ever, or actions in turn, of which the last stays: `["451 4.7.1 greylisted", "250 OK"]`."""

EXTENSIONS: Final = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 26214400")


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How the server behaves. Steps in `on`: banner, ehlo, helo, starttls, auth, mail, data, body, dot, rset,
    noop, quit.

    `body` acts in mid-message, after 354 and the first octets; `dot` after the whole message was read (a 2xx there
    keeps it); `rcpt` by address. `drop_after` closes each connection, silently, after so many messages.
    """

    on: Mapping[str, Script] = field(default_factory=dict[str, Script])
    rcpt: Mapping[str, Script] = field(default_factory=dict[str, Script])
    extensions: Sequence[str] = EXTENSIONS
    security: str = "none"  # none | starttls | tls
    tls: ssl.SSLContext | None = None
    users: Mapping[str, str] = field(default_factory=dict[str, str])  # with users, AUTH is offered and required
    auth_methods: Sequence[str] = ("PLAIN", "LOGIN")
    drop_after: int | None = None
    keep_after: Do | None = None  # what to do after the message was kept: DROP loses the answer, not the message


@dataclass(frozen=True, kw_only=True)
class Mail:
    """One message as it arrived: the envelope, the bytes after un-stuffing, and how it came."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...] = ()
    encrypted: bool = False
    user: str | None = None
    connection: int = 0
    at: float = 0.0


class SmtpServer:
    """The server. Start it with `async with`; everything that happened is in its attributes."""

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0, mailbox: Path | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.host = "127.0.0.1"
        self.port = port
        self.messages: list[Mail] = []
        self.commands: list[str] = []  # every line that came in clear or through TLS, AUTH's secrets left out
        self.connections = 0
        self.open_connections = 0
        self.most_open_connections = 0
        self.mailbox = mailbox
        self._turns: dict[str, int] = {}
        self._arrived = asyncio.Condition()
        self._listener = Listener(self._converse)

    async def __aenter__(self) -> Self:
        tls = self.behaviour.tls if self.behaviour.security == "tls" else None
        self.port = await self._listener.start(self.host, self.port, ssl=tls, limit=2**20)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Refuse new connections and cut the open ones. The port is free afterwards; `async with` again restarts it."""
        await self._listener.stop()

    async def wait_for_message(self, timeout: float = PATIENCE_S, *, count: int = 1) -> Mail:  # noqa: ASYNC109 - a test's patience
        """Wait until `count` messages have arrived in all; answers the latest of them."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return self.messages[count - 1]

    async def wait_for_command(self, start: str, timeout: float = PATIENCE_S) -> None:  # noqa: ASYNC109 - a test's patience
        """Wait until a command that begins so has come in."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(lambda: any(line.startswith(start) for line in self.commands))

    async def keep(self, mail: Mail) -> None:
        self.messages.append(mail)
        if self.mailbox is not None:
            append_to_mailbox(self.mailbox, mail, len(self.messages))
        await self.notify()

    async def notify(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    def turn(self, step: str, script: Script) -> Action:
        """Say what a script does this time."""
        if isinstance(script, str | bytes | Do):
            return script
        count = self._turns.get(step, 0)
        self._turns[step] = count + 1
        return script[min(count, len(script) - 1)]

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        self.most_open_connections = max(self.most_open_connections, self.open_connections)
        try:
            await _Conversation(self, reader, writer, self.connections).hold()
        except (_Over, ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the ordinary ends of a conversation
        finally:
            self.open_connections -= 1
            await self.notify()


class _Over(Exception):
    pass


class _Conversation:
    def __init__(
        self, server: SmtpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self.server = server
        self.behaviour = server.behaviour
        self.reader = reader
        self.writer = writer
        self.number = number
        self.encrypted = server.behaviour.security == "tls"
        self.user: str | None = None
        self.kept = 0
        self._clear()

    def _clear(self) -> None:
        self.mail_from: str | None = None
        self.mail_options: tuple[str, ...] = ()
        self.rcpt_tos: list[str] = []

    async def hold(self) -> None:
        await self.act("banner", "220 mail.example.com ESMTP ready")
        while True:
            line = (await self.reader.readuntil(b"\n")).decode("utf-8", "surrogateescape").rstrip("\r\n")
            word, _, rest = line.partition(" ")
            word = word.upper()
            self.server.commands.append("AUTH" if word == "AUTH" else line)
            await self.server.notify()
            handler = getattr(self, f"on_{word.lower()}", None)
            if handler is None:
                await self.say("500 5.5.1 what?")
            else:
                await handler(rest)

    async def act(self, step: str, usual: Action) -> bool:
        """Do what the behaviour says for this step, or the usual; answers whether that was a yes."""
        return await self.do(self.server.turn(step, self.behaviour.on.get(step, usual)))

    async def do(self, action: Action) -> bool:
        if isinstance(action, str):
            await self.say(action)
            return action[:1] in "23"
        if isinstance(action, bytes):
            self.writer.write(action)
            await self.writer.drain()
            return False
        if action in (Do.HALF, Do.HALF_SILENCE):
            self.writer.write(b"25")
            await self.writer.drain()
        elif action is Do.ENDLESS:
            while True:
                self.writer.write(b"250-and so on\r\n" * 1000)
                await self.writer.drain()
        if action in (Do.SILENCE, Do.HALF_SILENCE):
            while await self.reader.read(65_536):
                pass
        if action is Do.RESET:
            self.writer.transport.abort()
        raise _Over

    async def say(self, text: str) -> None:
        *first, last = text.split("\n")
        lines = [f"{last[:3]}-{line[4:]}" for line in first] + [last]
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()

    async def on_ehlo(self, rest: str) -> None:
        offered = list(self.behaviour.extensions)
        if self.behaviour.security == "starttls" and not self.encrypted:
            offered.append("STARTTLS")
        if self.behaviour.users:
            offered.append("AUTH " + " ".join(self.behaviour.auth_methods))
        self._clear()
        await self.act("ehlo", "\n".join(f"250 {line}" for line in ["mail.example.com", *offered]))

    async def on_helo(self, rest: str) -> None:
        await self.act("helo", "250 mail.example.com")

    async def on_starttls(self, rest: str) -> None:
        if self.behaviour.tls is None:
            await self.say("502 5.5.1 not here")
        elif await self.act("starttls", "220 2.0.0 go ahead"):
            await self.writer.start_tls(self.behaviour.tls)
            self.encrypted = True
            self._clear()

    async def on_auth(self, rest: str) -> None:
        method, _, initial = rest.partition(" ")
        if method.upper() == "PLAIN":
            _, user, password = base64.b64decode(initial or await self._ask("334 ")).decode().split("\0")
        else:
            user = base64.b64decode(initial or await self._ask("334 VXNlcm5hbWU6")).decode()
            password = base64.b64decode(await self._ask("334 UGFzc3dvcmQ6")).decode()
        good = self.behaviour.users.get(user) == password
        if await self.act("auth", "235 2.7.0 welcome" if good else "535 5.7.8 bad credentials"):
            self.user = user

    async def _ask(self, prompt: str) -> bytes:
        await self.say(prompt)
        return (await self.reader.readuntil(b"\n")).rstrip()

    async def on_mail(self, rest: str) -> None:
        address, options = _path(rest)
        if self.behaviour.users and self.user is None:
            await self.say("530 5.7.0 authentication required")
        elif self.mail_from is not None:
            await self.say("503 5.5.1 one at a time")
        elif await self.act("mail", "250 2.1.0 OK"):
            self.mail_from, self.mail_options = address, options

    async def on_rcpt(self, rest: str) -> None:
        address, _ = _path(rest)
        if self.mail_from is None:
            await self.say("503 5.5.1 MAIL first")
        elif await self.do(self.server.turn(f"rcpt {address}", self.behaviour.rcpt.get(address, "250 2.1.5 OK"))):
            self.rcpt_tos.append(address)

    async def on_data(self, rest: str) -> None:
        if not self.rcpt_tos:
            await self.say("503 5.5.1 nobody to send it to")
            return
        if not await self.act("data", "354 go ahead"):
            return
        if "body" in self.behaviour.on:
            await self.reader.read(1)
            await self.act("body", "")
        content = await self._read_message()
        mail = Mail(
            mail_from=self.mail_from or "",
            rcpt_tos=tuple(self.rcpt_tos),
            content=content,
            mail_options=self.mail_options,
            encrypted=self.encrypted,
            user=self.user,
            connection=self.number,
            at=time.time(),
        )
        self._clear()
        number = len(self.server.messages) + 1
        script = self.behaviour.on.get("dot", f"250 2.0.0 OK: queued as Q{number:06}")
        action = self.server.turn("dot", script)
        if isinstance(action, str) and action.startswith("2"):
            await self.server.keep(mail)
            self.kept += 1
            if self.behaviour.keep_after is not None:
                await self.do(self.behaviour.keep_after)
        await self.do(action)
        if self.behaviour.drop_after is not None and self.kept >= self.behaviour.drop_after:
            raise _Over

    async def _read_message(self) -> bytes:
        lines: list[bytes] = []
        while True:
            line = await self.reader.readuntil(b"\n")
            if line == b".\r\n":
                return b"".join(lines)
            lines.append(line[1:] if line.startswith(b".") else line)

    async def on_rset(self, rest: str) -> None:
        if await self.act("rset", "250 2.0.0 OK"):
            self._clear()

    async def on_noop(self, rest: str) -> None:
        await self.act("noop", "250 2.0.0 OK")

    async def on_quit(self, rest: str) -> None:
        await self.act("quit", "221 2.0.0 bye")
        raise _Over


def _path(rest: str) -> tuple[str, tuple[str, ...]]:
    """Read `FROM:<a@b> SIZE=1` into its address and its options."""
    _, _, after = rest.partition("<")
    address, _, options = after.rpartition(">")
    return address, tuple(options.split())


def append_to_mailbox(mailbox: Path, mail: Mail, number: int) -> None:
    """Write a message where a person or another process can find it."""
    envelope = f"X-Envelope-From: {mail.mail_from}\r\nX-Envelope-To: {', '.join(mail.rcpt_tos)}\r\n".encode()
    content = (envelope + mail.content).replace(b"\r\n", b"\n")
    if mailbox.is_dir():
        (mailbox / f"{number:06}.eml").write_bytes(content)
        return
    lines = [b">" + line if line.lstrip(b">").startswith(b"From ") else line for line in content.split(b"\n")]
    stamp = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(mail.at))
    with mailbox.open("ab") as file:
        file.write(f"From {mail.mail_from or 'MAILER-DAEMON'} {stamp}\n".encode() + b"\n".join(lines) + b"\n")


async def _serve(arguments: argparse.Namespace) -> None:
    mailbox = Path(arguments.mailbox) if arguments.mailbox else None
    extra: dict[str, Any] = {"users": {arguments.user: arguments.password}} if arguments.user else {}
    async with SmtpServer(Behaviour(**extra), port=arguments.port, mailbox=mailbox) as server:
        print(f"listening {server.port}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="A mailbox on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mailbox", help="an mbox file, or a folder that exists")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
