"""E-mail over Resend: the adapter `email_resend`.

Owns Resend's request, the reading of its errors and of its events. Refuses to know what a header may hold
(`channels.email_parts`) and how the bytes travel (`channels.http`).

From https://resend.com/docs/api-reference/emails/send-email, …/errors, …/rate-limit and
https://resend.com/docs/webhooks/event-types, read in November 2026: 40 MB "per email, after Base64 encoding of the
attachments"; "5 requests per second per team", so two providers of one team share it; an `Idempotency-Key` of at most
256 characters is remembered for 24 hours. Callbacks are signed by Svix: Standard Webhooks with other header names.

The batch call (…/emails/send-batch-emails, https://resend.com/changelog/batch-validation-modes; at most 100 messages)
is used where `batch = true`. Its idempotency key covers a call and not a message, and no later call has the same
messages in it: a lost answer may then be repeated no more than at a provider that knows no keys. It takes no
attachments: messages that have some go alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Meta

from channels.contract import (
    Accepted,
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
    Unknown,
)
from channels.email_calls import each_alone_if_refused, send_in_calls
from channels.email_parts import (
    Mail,
    base64_of,
    encoded,
    masked,
    read_callback,
    read_mail,
    refused,
    too_large,
    unix_time,
    written,
)
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.mail_events import AMAZON_SOFT, EVENTS, REASONS
from channels.mime import MimeFault
from channels.retry_after import parse_retry_after

__all__ = ["ResendChannel", "ResendSettings"]

_MOST_BYTES: Final = 40_000_000  # "max 40MB per email, after Base64 encoding of the attachments"
_MOST_A_CALL: Final = 100  # "up to 100 emails in a single API call"
_MOST_RECIPIENTS: Final = 50  # "Max 50"
_KEY_CHARS: Final = 256
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")  # "ASCII letters, numbers, underscores, or dashes", name and value
_DELIVERY_TAG: Final = "delivery"  # echoed in every event: finds the delivery even where the answer was lost
_COPIES_TAG: Final = "copies"  # echoed too: an event does not say which of several recipients it is about
_TOLERANCE_S: Final = 300.0  # Standard Webhooks: "within a tolerance of the current timestamp"; Svix takes five minutes
_QUOTA_WAIT_S: Final = 3600.0  # a daily quota without a Retry-After: look again in an hour


class ResendSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key of a Resend team."""

    api_key: Annotated[str, Meta(min_length=1)]
    base_url: str = "https://api.resend.com"
    batch: bool = False
    """Let messages that come together share a call, which the team's rate counts as one. A lost answer then leaves all
    of them unknown: they are sent again only where `on_unknown` says so, and may arrive twice."""
    callback_secret: str | None = None
    """The signing secret of the webhook (`whsec_…`). Without it no callback is believed."""


class ResendChannel:
    """Sends e-mail through Resend: one message a request, or several that come together."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = ResendSettings

    def __init__(self, settings: ResendSettings, tools: Tools) -> None:
        self._secret = _secret(settings.callback_secret)
        self._now = tools.now
        self.limits = Limits(
            message_bytes=_MOST_BYTES,
            attachments=True,
            templates=True,
            rate="5/s",
            rate_counts_calls=True,
            concurrency=settings.connections,
            receipts=True,
            idempotent=not settings.batch,
            batch=_MOST_A_CALL if settings.batch else 1,
        )
        authorization = {"Authorization": f"Bearer {settings.api_key}"}
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=authorization)

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what Resend does; safe to call concurrently, and again."""
        draft = self._draft(message)
        return await self._send(draft) if isinstance(draft, _Draft) else draft

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send several with one call; those with files or a template at Resend go alone, beside it."""
        return await send_in_calls(
            [self._draft(message) for message in messages],
            self._call,
            kind=lambda draft: "shared" if draft.shares else None,
            size_bytes=lambda draft: len(draft.body),
            most_bytes=_MOST_BYTES,
        )

    async def _send(self, draft: _Draft) -> Outcome:
        headers = {"Content-Type": "application/json", "Idempotency-Key": _key(draft.key)}
        result = await self._wire.post("/emails", content=draft.body, headers=headers)
        return judge(result, lambda answer: _read(answer, self._now()))

    async def _call(self, drafts: Sequence[_Draft]) -> Sequence[Outcome]:
        """Make one call."""
        if len(drafts) == 1:
            return [await self._send(drafts[0])]
        digest = hashlib.sha256(" ".join(draft.key for draft in drafts).encode()).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": digest,
            "x-batch-validation": "permissive",  # or one bad message would sink the others
        }
        body = b"[" + b",".join(draft.body for draft in drafts) + b"]"
        result = await self._wire.post("/emails/batch", content=body, headers=headers)
        each = _read_call(result, len(drafts)) if isinstance(result, Answer) and result.ok else None
        if each is not None:
            return each
        whole = judge(result, lambda answer: None if answer.ok else _read(answer, self._now()))
        return await each_alone_if_refused(whole, drafts, self._send)

    def _draft(self, message: Message) -> _Draft | Rejected:
        try:
            mail = _read_mail(message)
        except MimeFault as fault:
            return refused(fault)
        body = encoded(_body(mail, message.id))
        if len(body) > _MOST_BYTES:
            return too_large(len(body), _MOST_BYTES)
        return _Draft(body, message.idempotency_key, mail.template is None and not mail.attachments)

    def raw(self, message: Message) -> bytes:
        """Show the request's body. Raises `MimeFault` where `send` would reject the message."""
        return encoded(_body(_read_mail(message), message.id))

    async def check(self) -> Check:
        """Ask for the domains. A key that may only send is good too, and is told apart by its error's name."""
        result = await self._wire.get("/domains")
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        fault = result.decode(_Fault) or _Fault()
        return Check(ok=result.ok or fault.name == "restricted_api_key", detail=words(result, fault.name))

    def verify(self, callback: Callback) -> None:
        """Check Svix's signature over id, time and the raw bytes (https://docs.svix.com/receiving/verifying-payloads).

        Any of several signatures may match: during a rotation there are two.
        """
        if self._secret is None:
            raise CallbackRefused("no callback_secret is configured")
        found = [callback.headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")]
        event_id, stamp, signatures = found
        if not all(found) or not stamp.isdecimal() or not stamp.isascii():
            raise CallbackRefused("the callback is not signed")
        if abs(self._now() - int(stamp)) > _TOLERANCE_S:
            raise CallbackRefused("the callback's time is not now: repeated, or a clock is wrong")
        signed = f"{event_id}.{stamp}.".encode() + callback.body
        expected = base64.b64encode(hmac.digest(self._secret, signed, hashlib.sha256))
        given = [each.partition(",") for each in signatures.split(" ")]
        if not any(version == "v1" and hmac.compare_digest(value.encode(), expected) for version, _, value in given):
            raise CallbackRefused("the callback's signature is wrong")

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read one event; those that are not about a message sent give none. Pure."""
        event = read_callback(callback, _Event)
        kind = _EVENTS.get(event.type)
        if kind is None:
            return ()
        return (_status_event(event, kind, callback.headers.get("svix-id"), self._now()),)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The request. Pure.


class _Draft(NamedTuple):
    """A message that may go: its part of a request, its idempotency key, and whether it may share a call."""

    body: bytes
    key: str
    shares: bool


def _read_mail(message: Message) -> Mail:
    mail = read_mail(message)
    if mail.recipients > _MOST_RECIPIENTS:
        raise MimeFault("cc", f"Resend takes {_MOST_RECIPIENTS} recipients a message")
    return mail


def _body(mail: Mail, message_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "from": written(mail.sender),
        "to": [written(mail.to)],
        "cc": [written(box) for box in mail.cc],
        "bcc": [written(box) for box in mail.bcc],
        "reply_to": written(mail.reply_to) if mail.reply_to else None,
        "subject": mail.subject,
        "headers": dict(mail.headers),
        "attachments": [
            {
                "filename": attachment.filename,
                "content": base64_of(attachment),
                "content_type": attachment.content_type,
                **({"content_id": attachment.content_id} if attachment.content_id else {}),
            }
            for attachment in mail.attachments
        ],
        "tags": _tags(mail, message_id),
    }
    if mail.template is not None:  # "If a template is provided, you cannot send html, text"
        body["template"] = {"id": str(mail.template.id), "variables": mail.template.variables}
    else:
        body |= {"html": mail.html, "text": mail.text}
    return body


def _tags(mail: Mail, message_id: str) -> list[dict[str, str]]:
    """Write ours, then the caller's: what Resend would refuse is left out, since a tag is not worth a message."""
    tags = {_DELIVERY_TAG: message_id}
    if mail.recipients > 1:
        tags[_COPIES_TAG] = "yes"
    for name in mail.tags:
        tags.setdefault(name, "yes")
    return [{"name": n, "value": v} for n, v in tags.items() if _TAG.fullmatch(n) and _TAG.fullmatch(v)]


def _key(key: str) -> str:
    return key if len(key) <= _KEY_CHARS else hashlib.sha256(key.encode()).hexdigest()


# The answer. Pure.


class _Created(msgspec.Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1)]


class _Refused(msgspec.Struct, frozen=True):
    index: int
    message: str = ""


class _CreatedMany(msgspec.Struct, frozen=True):
    data: list[_Created]
    errors: list[_Refused] = []


class _Fault(msgspec.Struct, frozen=True):
    name: str = ""
    message: str = ""


# https://resend.com/docs/api-reference/errors, by name, since one status has several meanings.
_REFUSALS: Final[Mapping[str, Reason]] = {
    "missing_api_key": Reason.ACCOUNT_PROBLEM,
    "restricted_api_key": Reason.ACCOUNT_PROBLEM,
    "invalid_api_key": Reason.ACCOUNT_PROBLEM,
    "invalid_access": Reason.ACCOUNT_PROBLEM,
    "invalid_region": Reason.ACCOUNT_PROBLEM,
    "monthly_quota_exceeded": Reason.ACCOUNT_PROBLEM,  # "upgrade your plan": no wait of ours will help
    "invalid_idempotency_key": Reason.MESSAGE_INVALID,
    "missing_required_field": Reason.MESSAGE_INVALID,
    "invalid_parameter": Reason.MESSAGE_INVALID,
    "invalid_attachment": Reason.MESSAGE_INVALID,
    "invalid_from_address": Reason.MESSAGE_INVALID,
    "security_error": Reason.CONTENT_REFUSED,
}
# 409, "same idempotency key used": with another body ("invalid"), or while the first is under way ("concurrent").
# Either way an earlier attempt at this delivery reached them: to say "not sent" would send it elsewhere as well.
_EARLIER_ATTEMPT: Final = frozenset({"invalid_idempotent_request", "concurrent_idempotent_requests"})
_FORBIDDEN: Final = 403
_PAYLOAD_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429


def _read(answer: Answer, now: float) -> Outcome | None:
    if answer.ok:
        created = answer.decode(_Created)
        return None if created is None else Accepted(created.id)
    fault = answer.decode(_Fault) or _Fault()
    said = words(answer, fault.name, fault.message)
    if fault.name in _EARLIER_ATTEMPT:
        return Unknown(Reason.TIMED_OUT, said)
    if (reason := _refusal(answer.status, fault.name)) is not None:
        return Rejected(reason, said)
    if answer.status == _TOO_MANY:
        return Retry(Reason.RATE_LIMITED, _wait(answer, fault.name, now), said)
    return None


def _read_call(answer: Answer, count: int) -> Sequence[Outcome] | None:
    """Read what a call's answer says of each message: ids in order of those taken, and who was refused by its place.

    `None` where the two do not make up the call.
    """
    found = answer.decode(_CreatedMany)
    if found is None:
        return None
    refused_at = {each.index: each.message for each in found.errors}
    if not all(0 <= place < count for place in refused_at) or len(found.data) + len(refused_at) != count:
        return None
    taken = iter(found.data)
    return [
        Rejected(Reason.MESSAGE_INVALID, words(answer, refused_at[place]))
        if place in refused_at
        else Accepted(next(taken).id)
        for place in range(count)
    ]


def _refusal(status: int, name: str) -> Reason | None:
    if name == "validation_error":  # 403: a domain that is not verified; 400 and 422: the message
        return Reason.ACCOUNT_PROBLEM if status == _FORBIDDEN else Reason.MESSAGE_INVALID
    return _REFUSALS.get(name) or (Reason.TOO_LARGE if status == _PAYLOAD_TOO_LARGE else None)


def _wait(answer: Answer, name: str, now: float) -> float | None:
    """Find how long to wait: `retry-after`, else `ratelimit-reset` ("how many seconds until the limits are reset")."""
    if answer.retry_after is not None:
        return answer.retry_after
    if name == "daily_quota_exceeded":
        return _QUOTA_WAIT_S
    reset = answer.headers.get("ratelimit-reset")
    return None if reset is None else parse_retry_after(reset, now)


# The events. Pure.


class _Bounce(msgspec.Struct, frozen=True):
    type: str = ""
    subType: str = ""  # noqa: N815 - Resend's spelling, taken over from SES
    message: str = ""


class _Failed(msgspec.Struct, frozen=True):
    reason: str = ""


class _Data(msgspec.Struct, frozen=True):
    email_id: str | None = None
    to: list[str] | str = []
    tags: dict[str, str] | list[dict[str, str]] = {}
    bounce: _Bounce = _Bounce()
    failed: _Failed = _Failed()


class _Event(msgspec.Struct, frozen=True):
    type: str
    created_at: str | None = None
    data: _Data = _Data()


_EVENTS: Final[Mapping[str, EventType | None]] = {
    "email.sent": EVENTS["sent"],
    "email.delivered": EVENTS["delivered"],
    "email.delivery_delayed": EVENTS["deferred"],
    "email.bounced": EVENTS["bounced"],
    "email.complained": EVENTS["complained"],
    "email.opened": EVENTS["opened"],
    "email.clicked": EVENTS["clicked"],
    "email.failed": EVENTS["failed"],
    "email.suppressed": EVENTS["rejected"],  # on their list of dead addresses: it never left
    "email.scheduled": None,  # the answer to the request has said it
    # About mail that comes in, the account's domains and its contacts.
    "email.received": None,
    "domain.created": None,
    "domain.updated": None,
    "domain.deleted": None,
    "contact.created": None,
    "contact.updated": None,
    "contact.deleted": None,
}


def _status_event(event: _Event, kind: EventType, event_id: str | None, now: float) -> StatusEvent:
    data = event.data
    tags = data.tags if isinstance(data.tags, dict) else {t.get("name", ""): t.get("value", "") for t in data.tags}
    to = [data.to] if isinstance(data.to, str) else data.to
    # With copies an event may be about any of them: it names nobody then, and no address is suppressed for another's.
    alone = _COPIES_TAG not in tags and len(to) == 1
    return StatusEvent(
        type=kind,
        at=unix_time(event.created_at) or now,
        provider_id=data.email_id,
        message_id=tags.get(_DELIVERY_TAG),
        address=to[0] if alone else None,
        reason=_event_reason(event) if alone else None,
        detail=masked(data.bounce.type, data.bounce.subType, data.bounce.message, data.failed.reason),
        event_id=event_id,
    )


def _event_reason(event: _Event) -> Reason | None:
    match event.type:
        case "email.suppressed":
            return REASONS["bounced"]
        case "email.complained":
            return REASONS["complained"]
        case "email.bounced" if event.data.bounce.type == "Permanent":
            return REASONS["bounced"]
        case "email.bounced" if event.data.bounce.type == "Transient":
            return AMAZON_SOFT.get(event.data.bounce.subType, REASONS["soft"])
        case _:
            return None


# Settings


def _secret(written_down: str | None) -> bytes | None:
    """Read `whsec_` and base64 (with or without its padding) into the key's bytes."""
    if not written_down:
        return None
    text = written_down.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise SettingsFault("callback_secret", "copy the webhook's signing secret, whsec_ and base64")
    return key
