"""E-mail through Twilio SendGrid: the adapter `email_sendgrid`.

Owns the request of `POST /v3/mail/send`, the reading of its answers, and the Event Webhook. Refuses to know what an
address or a header may hold (`channels.email_parts`) and the wire (`channels.http`). Read for it, below
https://www.twilio.com/docs/sendgrid/: api-reference/mail-send (limits, errors),
api-reference/how-to-use-the-sendgrid-v3-api/rate-limits, for-developers/tracking-events (event,
getting-started-event-webhook-security-features).

SendGrid has no idempotency key, and answers 202 when it has queued a message: a lost answer is unknown.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

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
    Retry,
    SettingsFault,
    StatusEvent,
    Tools,
)
from channels.email_parts import Mail, base64_of, masked, read_callback, read_mail, refused, too_large
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.mail_codes import is_policy
from channels.mail_events import EVENTS, REASONS
from channels.mime import Mailbox, MimeFault

__all__ = ["SendGridChannel", "SendGridSettings", "mail"]

_MESSAGE_OCTETS: Final = 30_000_000  # "The total size of your email, including attachments, must be less than 30MB"
_RECIPIENTS: Final = 1000  # "There is a limit of 1000 total recipients (to + cc + bcc) per request"
_CATEGORIES: Final = 10
_CATEGORY_CHARS: Final = 255
_MESSAGE_ID: Final = "gateway_message_id"  # our key among the custom arguments, which every event repeats

# SendGrid tries an event for 24 hours and does not say whether it signs again. Repeated events change nothing here, so
# a window that spans an outage of ours costs little, and a narrow one would lose what happened in it.
_OLDEST_S: Final = 25 * 3600.0
_EARLIEST_S: Final = 300.0  # how far SendGrid's clock may be before ours


class SendGridSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account or subuser."""

    api_key: str
    region: Literal["global", "eu"] = "global"
    """`eu` for EU regional subusers."""
    base_url: str | None = None
    """Another address than the region's, for tests."""
    webhook_public_key: str | None = None
    """The Event Webhook's verification key, as SendGrid's console shows it (base64); unset: no event is believed."""

    __repr__ = WireSettings.__repr__


_REGIONS: Final = {"global": "https://api.sendgrid.com", "eu": "https://api.eu.sendgrid.com"}


class SendGridChannel:
    """Sends e-mail through one SendGrid account and reads the events it reports."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = SendGridSettings

    def __init__(self, settings: SendGridSettings, tools: Tools) -> None:
        self.limits = Limits(
            message_bytes=_MESSAGE_OCTETS,
            attachments=True,
            templates=True,
            concurrency=settings.connections,
            receipts=settings.webhook_public_key is not None,  # without it, no report will ever be believed
        )
        self._now = tools.now
        self._public_key = _public_key(settings.webhook_public_key)
        self._wire = Wire(
            settings,
            tools,
            base_url=settings.base_url or _REGIONS[settings.region],
            headers={"Authorization": f"Bearer {settings.api_key}", "Accept": "application/json"},
        )

    async def send(self, message: Message) -> Outcome:
        """Hand one message over. Never raises for what SendGrid does; safe to call concurrently."""
        try:
            request = mail(message)
        except MimeFault as fault:
            return refused(fault)
        body = msgspec.json.encode(request)
        if len(body) > _MESSAGE_OCTETS:
            return too_large(len(body), _MESSAGE_OCTETS)
        headers = {"Content-Type": "application/json"}
        result = await self._wire.post("/v3/mail/send", content=body, headers=headers)
        return judge(result, lambda answer: _read(answer, self._now()))

    def raw(self, message: Message) -> bytes:
        """Show the JSON that would be posted. Raises `MimeFault` where `send` would reject the message."""
        return msgspec.json.encode(mail(message))

    def verify(self, callback: Callback) -> None:
        """Check the ECDSA signature over the timestamp and the raw body."""
        if self._public_key is None:
            raise CallbackRefused("no webhook_public_key is configured")
        timestamp = callback.headers.get("x-twilio-email-event-webhook-timestamp", "")
        signature = callback.headers.get("x-twilio-email-event-webhook-signature", "")
        if not _DIGITS(timestamp) or not signature:
            raise CallbackRefused("the signature or its timestamp is missing")
        try:
            octets = b64decode(signature, validate=True)
            self._public_key.verify(octets, timestamp.encode("ascii") + callback.body, ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature):
            raise CallbackRefused("the signature is wrong") from None
        age_s = self._now() - int(timestamp)
        if not -_EARLIEST_S <= age_s <= _OLDEST_S:
            raise CallbackRefused("the signature is too old or from the future")

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a verified batch of events; kinds that are no affair of a message are left out."""
        found = read_callback(callback, list[_Event])
        return [_status(event, kind) for event in found if (kind := _KINDS.get(event.event)) is not None]

    async def check(self) -> Check:
        """Ask which scopes the key has. Sends nothing."""
        result = await self._wire.get("/v3/scopes")
        if isinstance(result, Answer) and result.ok and (found := result.decode(_Scopes)) is not None:
            ok = "mail.send" in found.scopes
            return Check(ok=ok, detail="the key may send" if ok else "the key has no permission mail.send")
        return Check(ok=False, detail=words(result) if isinstance(result, Answer) else result.detail)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The request. Pure.


def mail(message: Message) -> dict[str, Any]:
    """Make the body of `mail/send`. Raises `MimeFault` for what must not or cannot be sent.

    Where a template of SendGrid's is named, its subject and content win over ours.
    """
    read = read_mail(message)
    envelope = _envelope(read)
    envelope["custom_args"] = {**_metadata(read), _MESSAGE_ID: message.id}
    request: dict[str, Any] = {
        "personalizations": [envelope],
        "from": _address(read.sender),
        "subject": read.subject or "(no subject)",  # an empty one is refused
        "content": _content(read.text, read.html),
        "headers": _headers(message, read),
        "categories": _categories(message),
    }
    if read.reply_to is not None:
        request["reply_to"] = _address(read.reply_to)
    if read.attachments:
        request["attachments"] = [_attachment(each, inline=bool(read.html)) for each in read.attachments]
    if read.template is not None:
        request["template_id"] = str(read.template.id)
        envelope["dynamic_template_data"] = read.template.variables
    return request


def _envelope(read: Mail) -> dict[str, Any]:
    """Name the recipients, each once: a second mention of one is refused as a whole request."""
    named = {read.to.address.lower()}
    envelope: dict[str, Any] = {"to": [_address(read.to)]}
    for field, boxes in (("cc", read.cc), ("bcc", read.bcc)):
        fresh: list[dict[str, str]] = []
        for box in boxes:
            if box.address.lower() not in named:
                named.add(box.address.lower())
                fresh.append(_address(box))
        if fresh:
            envelope[field] = fresh
    if len(named) > _RECIPIENTS:
        raise MimeFault("cc", f"{len(named)} recipients; SendGrid takes {_RECIPIENTS}")
    return envelope


def _metadata(read: Mail) -> dict[str, str]:
    """Leave out what events would be misread by: SendGrid lays these arguments over the event's own fields."""
    return {name: value for name, value in read.metadata.items() if name not in _Event.__struct_encode_fields__}


def _address(box: Mailbox) -> dict[str, str]:
    return {"email": box.address, "name": box.name} if box.name else {"email": box.address}


def _content(text: str | None, html: str | None) -> list[dict[str, str]]:
    """Write the parts in SendGrid's order, plain text first; a part must have at least one character."""
    parts = [("text/plain", text), ("text/html", html)]
    written = [{"type": kind, "value": value} for kind, value in parts if value]
    return written or [{"type": "text/plain", "value": " "}]


def _headers(message: Message, read: Mail) -> dict[str, str]:
    headers = dict(read.headers)
    if _SAFE_ID(message.id):  # the same at every attempt: where two copies arrive, they can be told to be one
        headers["Message-ID"] = f"<{message.id}@{read.sender.domain}>"
    return headers


def _categories(message: Message) -> list[str]:
    """Name what SendGrid counts by: our category and the caller's tags, unique, as many as it takes."""
    every = dict.fromkeys(name for name in (message.category, *message.tags) if 0 < len(name) <= _CATEGORY_CHARS)
    return list(every)[:_CATEGORIES]


def _attachment(file: Attachment, *, inline: bool) -> dict[str, str]:
    written = {
        "content": base64_of(file),
        "type": file.content_type,
        "filename": file.filename,
        "disposition": "attachment",
    }
    if file.content_id is not None and inline:
        written |= {"disposition": "inline", "content_id": file.content_id}
    return written


_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_DIGITS: Final = re.compile(r"[0-9]{1,12}").fullmatch


# What SendGrid answers. Pure.


class _Fault(msgspec.Struct):
    message: str = ""
    field: str | None = None


class _Faults(msgspec.Struct):
    errors: list[_Fault]


class _Scopes(msgspec.Struct):
    scopes: list[str]


_ACCEPTED: Final = 202
_BAD_REQUEST: Final = 400
_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429
_TO_FIELD: Final = re.compile(r"personalizations\.0\.to\b").match
_EPOCH_S: Final = 1_000_000_000  # `X-RateLimit-Reset` is Unix time; a smaller number can only be a wait


def _read(answer: Answer, now: float) -> Outcome | None:
    """Read the answers that SendGrid documents; the house rules do the rest (401 and 403 are the account)."""
    if answer.status == _ACCEPTED:  # "Your message is both valid, and queued to be delivered"
        return Accepted(answer.headers.get("x-message-id"))
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, _said(answer))
    if answer.status == _TOO_MANY:
        return Retry(Reason.RATE_LIMITED, _wait(answer, now), _said(answer))
    if answer.status == _BAD_REQUEST and (found := answer.decode(_Faults)) is not None and found.errors:
        about_to = all(_TO_FIELD(fault.field or "") for fault in found.errors)
        return Rejected(Reason.INVALID_ADDRESS if about_to else Reason.MESSAGE_INVALID, _said(answer))
    return None


def _wait(answer: Answer, now: float) -> float | None:
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.retry_after is not None or not _DIGITS(reset):
        return answer.retry_after
    return max(0.0, int(reset) - now) if int(reset) >= _EPOCH_S else float(reset)


def _said(answer: Answer) -> str:
    found = answer.decode(_Faults)
    return words(answer, *(f"{fault.field or ''} {fault.message}" for fault in found.errors[:3]) if found else ())


# Events. Pure.


class _Event(msgspec.Struct, rename={"message_id": _MESSAGE_ID}):
    event: str
    timestamp: float = 0.0
    email: str | None = None
    sg_event_id: str | None = None
    sg_message_id: str | None = None
    message_id: str | None = None
    reason: str | None = None
    response: str | None = None
    status: str | int | None = None
    type: str | None = None
    bounce_classification: str | None = None


_KINDS: Final[Mapping[str, EventType | None]] = {
    "processed": EVENTS["queued"],
    "deferred": EVENTS["deferred"],
    "delivered": EVENTS["delivered"],
    "bounce": EVENTS["bounced"],
    "dropped": EVENTS["rejected"],
    "open": EVENTS["opened"],
    "click": EVENTS["clicked"],
    "spamreport": EVENTS["complained"],
    "unsubscribe": EVENTS["unsubscribed"],
    "group_unsubscribe": EVENTS["unsubscribed"],
    "group_resubscribe": EVENTS["subscribed"],
    "account_status_change": None,
}
_DROPPED: Final[Mapping[str, Reason | None]] = {
    "bounced address": REASONS["bounced"],
    "invalid": REASONS["invalid"],
    "unsubscribed address": REASONS["unsubscribed"],
    "spam reporting address": REASONS["complained"],
    "spam content": REASONS["spam"],
    "invalid smtpapi header": REASONS["message"],
    "recipient list over package quota": Reason.ACCOUNT_PROBLEM,
}
# "Bounce classification": none but the first says that the address itself is gone.
_CLASSES: Final[Mapping[str, Reason | None]] = {
    "invalid address": REASONS["bounced"],
    "content": REASONS["content"],
    "reputation": REASONS["blocked"],
    "frequency/volume": REASONS["blocked"],
    "frequency or volume too high": REASONS["blocked"],
    "mailbox unavailable": REASONS["invalid"],
    "technical": REASONS["soft"],
    "technical failure": REASONS["soft"],
}
# How `sg_message_id` goes on after the X-Message-Id that `mail/send` answered.
_SUFFIX: Final = re.compile(r"\.(?:filter|recvd)[^.]*[-\d].*")


def _status(event: _Event, kind: EventType) -> StatusEvent:
    reason: Reason | None = None
    if kind is EventType.BOUNCED:
        reason = _bounce(event)
    elif kind is EventType.FAILED:
        reason = _DROPPED.get((event.reason or "").lower().partition(" (")[0])
    return StatusEvent(
        type=kind,
        at=event.timestamp,
        provider_id=_SUFFIX.sub("", event.sg_message_id) if event.sg_message_id else None,
        message_id=event.message_id,
        address=event.email,
        reason=reason,
        detail=masked(event.reason or event.response),
        event_id=event.sg_event_id,
    )


def _bounce(event: _Event) -> Reason:
    """Say whether the address is dead: 5.7.x is policy (RFC 3463), "blocked" is a passing refusal, whatever its class.

    An unclassified "bounce" is what SendGrid itself calls a hard one, and puts on its own list.
    """
    named = _CLASSES.get((event.bounce_classification or "").lower())
    if is_policy(str(event.status)) or (event.type == "blocked" and named is Reason.ADDRESS_DEAD):
        return Reason.POLICY
    if event.type == "blocked":
        return named or Reason.POLICY
    return named or Reason.ADDRESS_DEAD


# Settings.


def _public_key(text: str | None) -> ec.EllipticCurvePublicKey | None:
    if text is None:
        return None
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except ValueError:
        raise SettingsFault("webhook_public_key", "not a public key in base64 as SendGrid shows it") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SettingsFault("webhook_public_key", "not an elliptic-curve key")
    return key
