"""One message for a REST e-mail provider, read into checked parts, and the small things that such adapters share.

Owns the reading of a `Message`'s mail options, the checks that no provider should be trusted with, and the proof of
callbacks by basic authentication. Refuses to know any provider, the wire (`channels.http`) and MIME's bytes: what an
address or a header may hold is said in `channels.mime`, and asked there, so that SMTP and REST refuse the same.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from channels.contract import Attachment, Callback, CallbackRefused, Message, Reason, Rejected
from channels.mime import Mailbox, MimeFault, header_faults, parse_mailbox, parse_sender

__all__ = [
    "Mail",
    "ProviderTemplate",
    "base64_of",
    "encoded",
    "masked",
    "prove_by_basic",
    "prove_by_bearer",
    "prove_by_secret",
    "read_callback",
    "read_mail",
    "refused",
    "too_large",
    "unix_time",
    "written",
]

T = TypeVar("T")


class ProviderTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template kept by the provider, as the caller's `overrides.email.template` names it."""

    id: str | int
    variables: dict[str, Any] = {}


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """A message whose every part was checked; nothing here can break out of a header.

    `headers` are in order, the List-Unsubscribe pair (RFC 8058) first. With a `template` the provider writes the body.
    """

    sender: Mailbox
    to: Mailbox
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: Mailbox | None = None
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = {}
    template: ProviderTemplate | None = None

    @property
    def recipients(self) -> int:
        """How many addresses it goes to."""
        return 1 + len(self.cc) + len(self.bcc)


class _Options(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `Message.options` that is read here; other keys are someone else's."""

    cc: list[str] = []
    bcc: list[str] = []
    reply_to: str | None = None
    headers: dict[str, str] = {}
    list_unsubscribe: str | None = None
    metadata: dict[str, str] = {}
    template: ProviderTemplate | None = None


_NO_OPTIONS: Final = _Options()


def read_mail(message: Message) -> Mail:
    """Read and check a message. Pure; raises `MimeFault` for what must not go out (line breaks in a name, no sender).

    A message with neither text nor HTML says its subject, since every provider refuses an empty body.
    """
    if message.sender is None:
        raise MimeFault("from", "no sender is configured")
    options = _options(message.options)
    content = message.content
    for field, sentence in header_faults(
        subject=content.subject,
        to_name=message.to_name,
        headers=options.headers,
        attachments=content.attachments,
        list_unsubscribe=options.list_unsubscribe,
    ):
        raise MimeFault(field, sentence)
    to = parse_mailbox("to", message.to)
    if message.to_name is not None:
        to = Mailbox(" ".join(message.to_name.split()), to.local, to.domain)
    subject = content.subject or ""
    return Mail(
        sender=parse_sender(message.sender),
        to=to,
        cc=tuple(parse_mailbox(f"cc[{index}]", text) for index, text in enumerate(options.cc)),
        bcc=tuple(parse_mailbox(f"bcc[{index}]", text) for index, text in enumerate(options.bcc)),
        reply_to=parse_mailbox("reply_to", options.reply_to) if options.reply_to else None,
        subject=subject,
        text=content.text if content.text is not None or content.html is not None else subject,
        html=content.html,
        headers=_headers(options),
        attachments=content.attachments,
        tags=message.tags,
        metadata=options.metadata,
        template=options.template,
    )


def _options(options: Mapping[str, Any]) -> _Options:
    if not options:
        return _NO_OPTIONS
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return msgspec.convert(given, _Options)
    except msgspec.ValidationError as error:
        raise MimeFault("overrides", str(error)) from None


def _headers(options: _Options) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    if (url := options.list_unsubscribe) is not None:
        found.append(("List-Unsubscribe", f"<{url}>"))
        if url.startswith("https://"):  # RFC 8058, 3.1: one-click needs https
            found.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    found += [(name, value.strip()) for name, value in options.headers.items()]
    return tuple(found)


def written(box: Mailbox) -> str:
    """Write a mailbox as JSON APIs take it: `Name <a@example.com>` in plain Unicode, quoted where it must be."""
    if not box.name:
        return box.address
    if all(char.isalnum() or char in " -_'" for char in box.name):
        return f"{box.name} <{box.address}>"
    escaped = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{box.address}>'


def base64_of(attachment: Attachment) -> str:
    """Write a file's content as base64 without line breaks."""
    return base64.b64encode(attachment.content).decode("ascii")


def encoded(body: Mapping[str, Any]) -> bytes:
    """Write a body as JSON, leaving out what is `None`, `""`, `[]` or `{}`: to providers an empty Cc is a fault."""
    return msgspec.json.encode({name: value for name, value in body.items() if value not in (None, "", [], {})})


def refused(fault: MimeFault) -> Rejected:
    """Say what was wrong with a message that was never sent; only `to` is the recipient's affair."""
    return Rejected(Reason.INVALID_ADDRESS if fault.field == "to" else Reason.MESSAGE_INVALID, str(fault))


def too_large(size_bytes: int, most_bytes: int) -> Rejected:
    """Refuse a message beyond the provider's published size, before it is sent."""
    return Rejected(Reason.TOO_LARGE, f"{size_bytes} bytes; the provider takes {most_bytes}")


# Callbacks

_DETAIL_CHARS: Final = 300
_ADDRESS: Final = re.compile(r"[^\s<>\"'(),;:=]+@[^\s<>\"'(),;]+")


def prove_by_basic(callback: Callback, username: str | None, password: str | None) -> None:
    """Raise `CallbackRefused` unless the request carries this user and password (RFC 7617). In constant time.

    Without a configured password nobody is let in.
    """
    if not username or not password:
        raise CallbackRefused("no callback_username and callback_password are configured")
    if not hmac.compare_digest(_basic(callback), f"{username}:{password}".encode()):
        raise CallbackRefused("the callback's user or password is missing or wrong")


def prove_by_secret(callback: Callback, secret: str | None) -> None:
    """Raise `CallbackRefused` unless the request carries this secret, as bearer token or as any user's password.

    In constant time. Without a configured secret nobody is let in.
    """
    if not secret:
        raise CallbackRefused("no callback_secret is configured")
    _, colon, password = _basic(callback).partition(b":")
    if not (colon and hmac.compare_digest(password, secret.encode())):
        prove_by_bearer(callback, secret)


def _basic(callback: Callback) -> bytes:
    """Read the user and password of a request, `user:password`; empty without."""
    scheme, _, credentials = callback.headers.get("authorization", "").partition(" ")
    try:
        return base64.b64decode(credentials.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (binascii.Error, ValueError):
        return b""


def prove_by_bearer(callback: Callback, token: str) -> None:
    """Raise `CallbackRefused` unless the request carries this bearer token (RFC 6750). In constant time."""
    scheme, _, given = callback.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise CallbackRefused("the callback's token is missing or wrong")


def read_callback(callback: Callback, kind: type[T]) -> T:
    """Decode a callback's JSON body; raises `CallbackRefused(unreadable=True)` for anything of another shape."""
    try:
        return msgspec.json.decode(callback.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallbackRefused("the callback's body is not what the provider documents", unreadable=True) from None


def unix_time(text: str | None) -> float | None:
    """Read an ISO 8601 time into Unix time in seconds; without an offset it is UTC. `None` for what is no time."""
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def masked(*said: str | None) -> str | None:
    """Join what a provider said about an event, without addresses and control characters; 300 characters at most."""
    joined = " ".join(each for each in said if each)[: 4 * _DETAIL_CHARS]
    clean = " ".join("".join(char if char.isprintable() else " " for char in joined).split())
    return _ADDRESS.sub("[address]", clean)[:_DETAIL_CHARS] or None
