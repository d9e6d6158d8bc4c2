"""E-mail through Mailgun: the adapter `email_mailgun`.

Owns the form of `POST /v3/{domain}/messages`, the reading of its answers, and Mailgun's webhooks. Refuses to know what
an address or a header may hold (`channels.email_parts`) and the wire (`channels.http`). Read for it, below
https://documentation.mailgun.com/docs/mailgun/: quickstart-guide/responses, user-manual/sending-messages (send-http,
send-attachments), user-manual/webhooks (securing-webhooks, webhook-payloads), user-manual/events/event-types.

Mailgun has no idempotency key: a lost answer is unknown. Its webhooks are tried again for eight hours, unless they are
answered 2xx or 406: whoever answers an event that can never be read should answer `DO_NOT_REPEAT`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from channels.contract import (
    Accepted,
    Attachment,
    Callback,
    CallbackRefused,
    Check,
    EventType,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    SettingsFault,
    StatusEvent,
    Tools,
)
from channels.email_parts import Mail, masked, read_callback, read_mail, refused, too_large, written
from channels.http import Answer, Part, Wire, WireSettings, basic, judge, words
from channels.mail_codes import is_policy
from channels.mail_events import EVENTS, REASONS
from channels.mime import MimeFault

__all__ = ["DO_NOT_REPEAT", "MailgunChannel", "MailgunSettings", "form"]

DO_NOT_REPEAT: Final = 406
"""The status that ends Mailgun's own retries of a webhook: "the POST is rejected and it will not be retried"."""

_MESSAGE_OCTETS: Final = 25_000_000  # "The maximum message size Mailgun supports is 25MB"
_TAGS: Final = 10
_TAG_CHARS: Final = 128
_MESSAGE_ID: Final = "gateway_message_id"  # our variable, which every event repeats below `user-variables`

# "There can be delays in webhook processing that are outside of Mailgun's control so you don't want to be too
# aggressive with this check": its eight hours of retries, and some. A repeated event changes nothing here.
_OLDEST_S: Final = 12 * 3600.0
_EARLIEST_S: Final = 300.0

_DOMAIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})").fullmatch
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_DIGITS: Final = re.compile(r"[0-9]{1,12}").fullmatch
_REGIONS: Final = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}


class MailgunSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One sending domain."""

    api_key: str
    """The account's key or the domain's sending key."""
    domain: Annotated[str, Meta(min_length=1, max_length=253)]
    region: Literal["us", "eu"] = "us"
    """Where the domain was created; a domain is unknown in the other region."""
    base_url: str | None = None
    """Another address than the region's, for tests."""
    webhook_signing_key: str | None = None
    """The account's "HTTP webhook signing key"; unset: no event is believed."""

    __repr__ = WireSettings.__repr__


class MailgunChannel:
    """Sends e-mail through one Mailgun domain and reads the events it reports."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = MailgunSettings

    def __init__(self, settings: MailgunSettings, tools: Tools) -> None:
        if not _DOMAIN(settings.domain):
            raise SettingsFault("domain", "a domain: letters, digits, dots and hyphens")
        self.limits = Limits(
            message_bytes=_MESSAGE_OCTETS,
            attachments=True,
            templates=True,
            concurrency=settings.connections,
            receipts=settings.webhook_signing_key is not None,  # without it, no report will ever be believed
        )
        self._now = tools.now
        self._domain = settings.domain
        self._signing_key = settings.webhook_signing_key
        self._wire = Wire(
            settings,
            tools,
            base_url=settings.base_url or _REGIONS[settings.region],
            headers={"Authorization": basic("api", settings.api_key)},
        )

    async def send(self, message: Message) -> Outcome:
        """Hand one message over. Never raises for what Mailgun does; safe to call concurrently."""
        try:
            parts = form(message)
        except MimeFault as fault:
            return refused(fault)
        size = sum(
            len(part.content) if isinstance(part.content, bytes) else len(part.content.encode()) for part in parts
        )
        if size > _MESSAGE_OCTETS:
            return too_large(size, _MESSAGE_OCTETS)
        return judge(await self._wire.post(f"/v3/{self._domain}/messages", parts=parts), _read)

    def verify(self, callback: Callback) -> None:
        """Check the HMAC over timestamp and token, which stand in the body.

        It does not cover the event itself: that nobody has seen a token but Mailgun and us is TLS's merit.
        """
        if self._signing_key is None:
            raise CallbackRefused("no webhook_signing_key is configured")
        signature = read_callback(callback, _Posted).signature
        wanted = hmac.new(
            self._signing_key.encode(), f"{signature.timestamp}{signature.token}".encode(), hashlib.sha256
        ).hexdigest()
        if not hmac.compare_digest(wanted.encode(), signature.signature.encode()):
            raise CallbackRefused("the signature is wrong")
        if not _DIGITS(signature.timestamp):
            raise CallbackRefused("the signature's timestamp is none")
        age_s = self._now() - int(signature.timestamp)
        if not -_EARLIEST_S <= age_s <= _OLDEST_S:
            raise CallbackRefused("the signature is too old or from the future")

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a verified event; kinds that are no affair of a sent message give none."""
        event = read_callback(callback, _Posted).event
        kind = _KINDS.get(event.event)
        return [] if kind is None else [_status(event, kind)]

    async def check(self) -> Check:
        """Ask for the domain's state. Sends nothing."""
        result = await self._wire.get(f"/v4/domains/{self._domain}")
        if isinstance(result, Answer) and result.ok and (found := result.decode(_Shown)) is not None:
            return Check(ok=found.domain.state == "active", detail=f"the domain is {found.domain.state}")
        if isinstance(result, Answer):
            return Check(ok=False, detail=f"{words(result)} (a key for sending alone cannot be asked, and may be good)")
        return Check(ok=False, detail=result.detail)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The request. Pure.


def form(message: Message) -> list[Part]:
    """Make the fields of a message. Raises `MimeFault` for what must not or cannot be sent.

    Where a template of Mailgun's is named, it takes the place of text and HTML.
    """
    read = read_mail(message)
    for name, _ in read.headers:  # Mailgun takes its own steering as headers too
        if name.lower().startswith("x-mailgun-"):
            raise MimeFault(f"headers.{name}", "this header is Mailgun's own")
    fields = [("from", written(read.sender)), ("to", written(read.to))]
    fields += [("cc", written(box)) for box in read.cc]
    fields += [("bcc", written(box)) for box in read.bcc]
    fields.append(("subject", read.subject))
    if read.template is not None:
        variables = msgspec.json.encode(read.template.variables).decode()
        fields += [("template", str(read.template.id)), ("t:variables", variables)]
    else:
        fields.append(("text", read.text or ("" if read.html else " ")))  # one part at least has to be there
        fields.append(("html", read.html or ""))
    fields += _headers(message, read)
    fields += [("o:tag", tag) for tag in _tags(message)]
    fields += [(f"v:{name}", value) for name, value in read.metadata.items() if name != _MESSAGE_ID]
    fields.append((f"v:{_MESSAGE_ID}", message.id))
    files = [_file(each, inline=bool(read.html)) for each in read.attachments]
    return [Part(name=name, content=value) for name, value in fields if value or name == "subject"] + files


def _headers(message: Message, read: Mail) -> list[tuple[str, str]]:
    fields = [(f"h:{name}", value) for name, value in read.headers]
    if read.reply_to is not None:
        fields.append(("h:Reply-To", written(read.reply_to)))
    if _SAFE_ID(message.id):  # the same at every attempt: where two copies arrive, they can be told to be one
        fields.append(("h:Message-Id", f"<{message.id}@{read.sender.domain}>"))
    return fields


def _tags(message: Message) -> list[str]:
    every = dict.fromkeys((message.category, *message.tags))
    return [tag for tag in every if tag.isascii() and tag.isprintable() and 0 < len(tag) <= _TAG_CHARS][:_TAGS]


def _file(file: Attachment, *, inline: bool) -> Part:
    """Attach a file; of an inline one the name is what HTML calls it by: `cid:` and the file's name."""
    if file.content_id is not None and inline:
        return Part(name="inline", filename=file.content_id, content=file.content, content_type=file.content_type)
    return Part(name="attachment", filename=file.filename, content=file.content, content_type=file.content_type)


# What Mailgun answers. Pure.


class _Queued(msgspec.Struct):
    id: str


class _Fault(msgspec.Struct):
    message: str


class _Domain(msgspec.Struct):
    state: str


class _Shown(msgspec.Struct):
    domain: _Domain


_OK: Final = 200
_BAD_REQUEST: Final = 400
_TOO_LARGE: Final = 413


def _read(answer: Answer) -> Outcome | None:
    """Read the answers that Mailgun documents; the house rules do the rest (401 and 403 are the account).

    404 is left to them: it "can be temporal as our system is an eventually-consistent system".
    """
    if answer.status == _OK and (queued := answer.decode(_Queued)) is not None:
        return Accepted(_bare(queued.id))
    fault = answer.decode(_Fault)
    said = words(answer, fault.message if fault is not None else None)
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, said)
    if answer.status == _BAD_REQUEST and fault is not None:
        # "to parameter is not a valid address. please check documentation"
        about_to = fault.message.startswith("to parameter") or fault.message.startswith("'to' parameter")
        return Rejected(Reason.INVALID_ADDRESS if about_to else Reason.MESSAGE_INVALID, said)
    return None


def _bare(message_id: str) -> str:
    """Take off the angle brackets: events write the id without them."""
    return message_id.strip().removeprefix("<").removesuffix(">")


# Events. Pure.


class _Signature(msgspec.Struct):
    timestamp: str
    token: str
    signature: str


class _Headers(msgspec.Struct, rename="kebab"):
    message_id: str | None = None


class _Mail(msgspec.Struct):
    headers: _Headers = msgspec.field(default_factory=_Headers)


class _Delivery(msgspec.Struct, rename="kebab"):
    code: int | str | None = None
    message: str | None = None
    description: str | None = None
    enhanced_code: str | None = None
    bounce_type: str | None = None


class _Reject(msgspec.Struct):
    reason: str | None = None
    description: str | None = None


class _Event(msgspec.Struct, rename="kebab"):
    event: str
    timestamp: float
    id: str | None = None
    recipient: str | None = None
    severity: str | None = None
    reason: str | None = None
    message: _Mail = msgspec.field(default_factory=_Mail)
    delivery_status: _Delivery = msgspec.field(default_factory=_Delivery)
    reject: _Reject = msgspec.field(default_factory=_Reject)
    user_variables: dict[str, Any] | list[Any] = {}  # an empty one has been seen as a list


class _Posted(msgspec.Struct, rename={"event": "event-data"}):
    signature: _Signature
    event: _Event


_KINDS: Final[Mapping[str, EventType | None]] = {
    "accepted": EVENTS["queued"],  # "the message has been placed in queue"
    "delivered": EVENTS["delivered"],
    "failed": EVENTS["bounced"],
    "rejected": EVENTS["rejected"],
    "opened": EVENTS["opened"],
    "clicked": EVENTS["clicked"],
    "unsubscribed": EVENTS["unsubscribed"],
    "complained": EVENTS["complained"],
    # About mail that comes in, and about mailing lists.
    "stored": None,
    "list_member_uploaded": None,
    "list_member_upload_error": None,
    "list_uploaded": None,
}
# Why a message was never handed to the recipient's server, in Mailgun's `reason`.
_SUPPRESSED: Final[Mapping[str, Reason | None]] = {
    "suppress-bounce": REASONS["bounced"],
    "suppress-complaint": REASONS["complained"],
    "suppress-unsubscribe": REASONS["unsubscribed"],
}


def _status(event: _Event, kind: EventType) -> StatusEvent:
    reason: Reason | None = None
    if kind is EventType.BOUNCED:
        kind, reason = _failure(event)
    elif kind is EventType.FAILED:
        reason = Reason.POLICY
    variables = event.user_variables if isinstance(event.user_variables, dict) else {}
    ours = variables.get(_MESSAGE_ID)
    id_ = event.message.headers.message_id
    status = event.delivery_status
    return StatusEvent(
        type=kind,
        at=event.timestamp,
        provider_id=_bare(id_) if id_ else None,
        message_id=ours if isinstance(ours, str) else None,
        address=event.recipient,
        reason=reason,
        detail=masked(
            event.reason,
            None if status.code is None else str(status.code),
            status.message or status.description,
            event.reject.reason,
        ),
        event_id=event.id,
    )


def _failure(event: _Event) -> tuple[EventType, Reason | None]:
    """Read a `failed` event: Mailgun goes on trying what is temporary.

    Only a hard bounce means a dead address: 5.1.x or no enhanced code at all (RFC 3463). 5.7.x is policy, never dead;
    a message that grew "old" in the queue, an "espblock" or a "generic" failure says nothing about the address.
    """
    if event.severity == "temporary":
        return EventType.DEFERRED, None
    named = event.reason or ""
    if named in _SUPPRESSED:
        return EventType.FAILED, _SUPPRESSED[named]
    enhanced = event.delivery_status.enhanced_code or ""
    if is_policy(enhanced) or named == "espblock":
        return EventType.BOUNCED, Reason.POLICY
    if named == "old":
        return EventType.BOUNCED, Reason.TIMED_OUT
    hard = named == "bounce" and event.delivery_status.bounce_type != "soft"
    if hard and (not enhanced or enhanced.startswith("5.1.")):
        return EventType.BOUNCED, Reason.ADDRESS_DEAD
    return EventType.BOUNCED, Reason.INVALID_ADDRESS if named == "bounce" else None
