"""E-mail over Postmark: the adapter `email_postmark`.

Owns Postmark's request, the reading of its error codes and of its webhooks. Refuses to know what a header may hold
(`channels.email_parts`) and how the bytes travel (`channels.http`).

From https://postmarkapp.com/developer/api/overview, …/api/email-api, …/api/bounce-api and
https://postmarkapp.com/developer/webhooks/webhooks-overview, read in November 2026: 50 recipients "that includes any
collection of TO, CC, and BCC", 10 MB a request, one tag. A message to several goes out although some of them are
inactive, and only the sentence of the answer says to whom not. No idempotency key: a repeated attempt carries the same
Message-ID. No signatures: webhooks are proven by the user and password in their URL.

The batch calls (https://postmarkapp.com/developer/user-guide/send-email-with-api/batch-emails: "up to 500 messages per
API call, and up to 50 MB payload size") answer 200 and an `ErrorCode` for each message, in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import msgspec
from msgspec import Meta

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
from channels.email_calls import each_alone_if_refused, send_in_calls
from channels.email_parts import (
    Mail,
    base64_of,
    encoded,
    masked,
    prove_by_basic,
    read_callback,
    read_mail,
    refused,
    too_large,
    unix_time,
    written,
)
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.mail_events import Meaning, meaning
from channels.mime import MimeFault

__all__ = ["PostmarkChannel", "PostmarkSettings"]

_MOST_BYTES: Final = 10 * 1024 * 1024  # "10 MB payload size, including attachments"
_MOST_BYTES_A_CALL: Final = 50_000_000
_MOST_A_CALL: Final = 500
_MOST_RECIPIENTS: Final = 50
_TAG_CHARS: Final = 1000
# https://postmarkapp.com/support/article/1125-custom-metadata-faq: ten pairs, keys of 20 characters, values of 80, and
# no two keys that differ in case alone.
_METADATA_PAIRS: Final = 10
_METADATA_KEY_CHARS: Final = 20
_METADATA_VALUE_CHARS: Final = 80
_DELIVERY: Final = "delivery"  # echoed in every event: finds the delivery even where the answer was lost
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


class PostmarkSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Postmark server (their word for a group of streams)."""

    server_token: Annotated[str, Meta(min_length=1)]
    base_url: str = "https://api.postmarkapp.com"
    message_stream: str | None = None
    """`outbound` (theirs when unset) or the id of a broadcast stream."""
    callback_username: str | None = None
    callback_password: str | None = None
    """What stands in the webhook's URL, `https://user:password@gateway…`. Without them no callback is believed."""


class PostmarkChannel:
    """Sends e-mail through Postmark: one message a request, or several that come together."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = PostmarkSettings

    def __init__(self, settings: PostmarkSettings, tools: Tools) -> None:
        if (settings.callback_username is None) != (settings.callback_password is None):
            raise SettingsFault("callback_password", "callback_username and callback_password belong together")
        self._settings = settings
        self._now = tools.now
        self.limits = Limits(
            message_bytes=_MOST_BYTES,
            attachments=True,
            templates=True,
            concurrency=settings.connections,
            receipts=True,
            batch=_MOST_A_CALL,
        )
        headers = {"X-Postmark-Server-Token": settings.server_token, "Accept": "application/json"}
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=headers)

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what Postmark does; safe to call concurrently."""
        draft = self._draft(message)
        return await self._send(draft) if isinstance(draft, _Draft) else draft

    async def send_many(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Send several with one call; those that use a template at Postmark go in a call of their own."""
        return await send_in_calls(
            [self._draft(message) for message in messages],
            self._call,
            kind=lambda draft: "plain" if draft.mail.template is None else "template",
            size_bytes=lambda draft: len(draft.body),
            most_bytes=_MOST_BYTES_A_CALL,
        )

    async def _send(self, draft: _Draft) -> Outcome:
        path = "/email" if draft.mail.template is None else "/email/withTemplate"
        result = await self._wire.post(path, content=draft.body, headers={"Content-Type": "application/json"})
        return judge(result, lambda answer: _read(answer, draft.mail))

    async def _call(self, drafts: Sequence[_Draft]) -> Sequence[Outcome]:
        """Make one call of drafts of one kind."""
        if len(drafts) == 1:
            return [await self._send(drafts[0])]
        path, body = "/email/batch", b"[" + b",".join(draft.body for draft in drafts) + b"]"
        if drafts[0].mail.template is not None:
            path, body = "/email/batchWithTemplates", b'{"Messages":' + body + b"}"
        result = await self._wire.post(path, content=body, headers={"Content-Type": "application/json"})
        each = _read_call(result, drafts) if isinstance(result, Answer) and result.ok else None
        if each is not None:
            return each
        whole = judge(result, lambda answer: None if answer.ok else _read(answer, drafts[0].mail))
        return await each_alone_if_refused(whole, drafts, self._send)

    def _draft(self, message: Message) -> _Draft | Rejected:
        try:
            mail = _read_mail(message)
        except MimeFault as fault:
            return refused(fault)
        body = self._encoded(mail, message.id)
        return _Draft(mail, body) if len(body) <= _MOST_BYTES else too_large(len(body), _MOST_BYTES)

    def raw(self, message: Message) -> bytes:
        """Show the request's body. Raises `MimeFault` where `send` would reject the message."""
        return self._encoded(_read_mail(message), message.id)

    async def check(self) -> Check:
        """Ask which server the token belongs to."""
        result = await self._wire.get("/server")
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        return Check(ok=result.ok, detail=words(result, (result.decode(_Reply) or _Reply()).Message))

    def verify(self, callback: Callback) -> None:
        """Check user and password: Postmark signs nothing."""
        prove_by_basic(callback, self._settings.callback_username, self._settings.callback_password)

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read one webhook; those that say nothing about a delivery give none. Pure."""
        event = read_callback(callback, _Event)
        found = _meaning(event)
        if found is None:
            return ()
        kind, reason = found
        at = event.DeliveredAt or event.BouncedAt or event.ReceivedAt or event.ChangedAt
        return (
            StatusEvent(
                type=kind,
                at=unix_time(at) or self._now(),
                provider_id=event.MessageID,
                message_id=(event.Metadata or {}).get(_DELIVERY),
                address=event.Recipient or event.Email,
                reason=reason,
                detail=masked(event.Type, event.SuppressionReason, event.Description, event.Details),
                event_id=None if event.ID is None else str(event.ID),
            ),
        )

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    def _encoded(self, mail: Mail, message_id: str) -> bytes:
        return encoded({**_body(mail, message_id), "MessageStream": self._settings.message_stream})


# The request. Pure.


class _Draft(NamedTuple):
    """A message that may go, and its part of a request."""

    mail: Mail
    body: bytes


def _read_mail(message: Message) -> Mail:
    mail = read_mail(message)
    if mail.recipients > _MOST_RECIPIENTS:
        raise MimeFault("cc", f"Postmark takes {_MOST_RECIPIENTS} recipients a message")
    return mail


def _body(mail: Mail, message_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "From": written(mail.sender),
        "To": written(mail.to),
        "Cc": ", ".join(written(box) for box in mail.cc),
        "Bcc": ", ".join(written(box) for box in mail.bcc),
        "ReplyTo": written(mail.reply_to) if mail.reply_to else None,
        "Tag": mail.tags[0][:_TAG_CHARS] if mail.tags else None,
        "Headers": [{"Name": name, "Value": value} for name, value in _headers(mail, message_id)],
        "Attachments": [
            {
                "Name": attachment.filename,
                "Content": base64_of(attachment),
                "ContentType": attachment.content_type,
                **({"ContentID": f"cid:{attachment.content_id}"} if attachment.content_id else {}),
            }
            for attachment in mail.attachments
        ],
        "Metadata": _metadata(mail, message_id),
    }
    if mail.template is None:
        return {**body, "Subject": mail.subject, "HtmlBody": mail.html, "TextBody": mail.text}
    name = "TemplateId" if isinstance(mail.template.id, int) else "TemplateAlias"
    model = mail.template.variables or msgspec.Raw(b"{}")  # required, even where it is empty
    return {**body, name: mail.template.id, "TemplateModel": model}


def _headers(mail: Mail, message_id: str) -> list[tuple[str, str]]:
    """Add our own Message-ID, the same at every attempt: Postmark keeps it where X-PM-KeepID says so."""
    found = list(mail.headers)
    if _SAFE_ID.fullmatch(message_id):
        found += [("Message-ID", f"<{message_id}@{mail.sender.domain}>"), ("X-PM-KeepID", "true")]
    return found


def _metadata(mail: Mail, message_id: str) -> dict[str, str]:
    """Write our id, then the caller's pairs: what Postmark would refuse is left out, being worth no message."""
    found = {_DELIVERY: message_id[:_METADATA_VALUE_CHARS]}
    taken = {_DELIVERY}
    for name, value in mail.metadata.items():
        fits = 0 < len(name) <= _METADATA_KEY_CHARS and len(value) <= _METADATA_VALUE_CHARS
        if fits and name.lower() not in taken and len(found) < _METADATA_PAIRS:
            taken.add(name.lower())
            found[name] = value
    return found


# The answer. Pure.


class _Reply(msgspec.Struct, frozen=True):
    ErrorCode: int = 0
    Message: str = ""
    MessageID: str = ""


# https://postmarkapp.com/developer/api/overview, "API error codes".
_INACTIVE: Final = 406
_LATER: Final[Mapping[int, Reason]] = {
    100: Reason.PROVIDER_DOWN,  # maintenance
    429: Reason.RATE_LIMITED,  # without a header that says for how long
}
_REFUSALS: Final[Mapping[int, Reason]] = {
    10: Reason.ACCOUNT_PROBLEM,  # bad or missing API token
    300: Reason.MESSAGE_INVALID,  # invalid email request
    400: Reason.ACCOUNT_PROBLEM,  # sender signature not found
    401: Reason.ACCOUNT_PROBLEM,  # sender signature not confirmed
    402: Reason.MESSAGE_INVALID,  # invalid JSON
    403: Reason.ACCOUNT_PROBLEM,  # incompatible JSON: not one message but all of ours; the next provider takes over
    405: Reason.ACCOUNT_PROBLEM,  # not allowed to send: out of credits
    409: Reason.MESSAGE_INVALID,  # JSON required
    411: Reason.CONTENT_REFUSED,  # forbidden attachment type
    412: Reason.ACCOUNT_PROBLEM,  # account is pending
    413: Reason.ACCOUNT_PROBLEM,  # account may not send
}
_TEMPLATE_CODES: Final = range(1100, 1200)  # not found, inactive, a missing field
_PAYLOAD_TOO_LARGE: Final = 413  # the HTTP status; among the codes 413 means something else


def _read(answer: Answer, mail: Mail) -> Outcome | None:
    reply = answer.decode(_Reply)
    if answer.status == _PAYLOAD_TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, words(answer, reply.Message if reply else None))
    return None if reply is None else _meant(reply, answer, mail)


def _read_call(answer: Answer, drafts: Sequence[_Draft]) -> Sequence[Outcome] | None:
    """Read what a call's answer says of each message; `None` where it does not say so of every one."""
    replies = answer.decode(list[_Reply])
    if replies is None or len(replies) != len(drafts):
        return None
    return [_said_of_one(reply, answer, draft.mail) for reply, draft in zip(replies, drafts, strict=True)]


def _said_of_one(reply: _Reply, answer: Answer, mail: Mail) -> Outcome:
    meant = _meant(reply, answer, mail)
    if meant is not None:
        return meant
    said = words(answer, reply.ErrorCode or None, reply.Message)
    # A code nobody documented is still a refusal; a success without an id is no success we could find again.
    return Retry(Reason.RETRY, None, said) if reply.ErrorCode else Unknown(Reason.TIMED_OUT, said)


def _meant(reply: _Reply, answer: Answer, mail: Mail) -> Outcome | None:
    code = reply.ErrorCode
    said = words(answer, code or None, reply.Message)
    if answer.ok and code == 0:
        return _accepted(reply, mail, said)
    if code == _INACTIVE:
        alone = mail.recipients == 1 or _names(reply.Message, mail)
        return Rejected(Reason.ADDRESS_DEAD if alone else Reason.INVALID_ADDRESS, said)
    if code in _LATER:
        return Retry(_LATER[code], answer.retry_after, said)
    reason = Reason.MESSAGE_INVALID if code in _TEMPLATE_CODES else _REFUSALS.get(code)
    return None if reason is None else Rejected(reason, said)


def _accepted(reply: _Reply, mail: Mail, said: str) -> Outcome | None:
    """Read a success, which may leave out inactive recipients: the answer for `to` decides."""
    if not reply.MessageID:
        return None
    if _names(reply.Message, mail):
        return Rejected(Reason.ADDRESS_DEAD, said)
    return Accepted(reply.MessageID, said if "inactive" in reply.Message else None)


def _names(sentence: str, mail: Mail) -> bool:
    """Say whether a sentence like "…inactive addresses: a@example.com, b@example.com." names the recipient."""
    _, _, listed = sentence.lower().partition("inactive addresses:")
    return mail.to.address.lower() in {word.strip(".") for word in re.split(r"[\s,]+", listed)}


# The webhooks. Pure.


class _Event(msgspec.Struct, frozen=True):
    RecordType: str
    MessageID: str | None = None
    ID: int | None = None
    Type: str | None = None
    Recipient: str | None = None
    Email: str | None = None
    Description: str | None = None
    Details: str | None = None
    DeliveredAt: str | None = None
    BouncedAt: str | None = None
    ReceivedAt: str | None = None
    ChangedAt: str | None = None
    SuppressSending: bool | None = None
    SuppressionReason: str | None = None
    Metadata: dict[str, str] | None = None


_RECORDS: Final[Mapping[str, Meaning | None]] = {
    "Delivery": meaning("delivered"),
    "Open": meaning("opened"),
    "Click": meaning("clicked"),
    "SpamComplaint": meaning("complained", "complained"),
    "Inbound": None,
}
# https://postmarkapp.com/developer/api/bounce-api#bounce-types
_BOUNCES: Final[Mapping[str, Meaning | None]] = {
    "HardBounce": meaning("bounced", "bounced"),
    "BadEmailAddress": meaning("bounced", "bounced"),
    "SoftBounce": meaning("bounced", "soft"),
    "Unknown": meaning("bounced"),
    "Transient": meaning("deferred"),  # "cannot deliver at this time, but may deliver later"
    "DnsError": meaning("deferred"),
    # "Either blocked by the user, or classified as spam, bulk mail, or had rejected content": a filter's word, not a
    # person's complaint, so it suppresses nobody.
    "SpamNotification": meaning("bounced", "spam"),
    "VirusNotification": meaning("bounced", "content"),
    "Blocked": meaning("bounced", "blocked"),
    "DMARCPolicy": meaning("bounced", "blocked"),
    "SpamComplaint": meaning("complained", "complained"),
    "Unsubscribe": meaning("unsubscribed", "unsubscribed"),
    "Subscribe": meaning("subscribed"),
    "ManuallyDeactivated": meaning("rejected", "blocked"),
    "Unconfirmed": meaning("rejected", "blocked"),
    "SMTPApiError": meaning("failed"),
    "TemplateRenderingFailed": meaning("failed", "message"),
    # A mailbox that answers by itself has got the message; the others are about mail that comes in.
    "AutoResponder": None,
    "AddressChange": None,
    "ChallengeVerification": None,
    "OpenRelayTest": None,
    "InboundError": None,
}
_SUPPRESSIONS: Final[Mapping[str, Meaning]] = {
    "HardBounce": meaning("bounced", "bounced"),
    "SpamComplaint": meaning("complained", "complained"),
    "ManualSuppression": meaning("unsubscribed", "unsubscribed"),
}


def _meaning(event: _Event) -> Meaning | None:
    if event.RecordType == "Bounce":
        return _BOUNCES.get(event.Type or "")
    if event.RecordType == "SubscriptionChange":
        if not event.SuppressSending:
            return meaning("subscribed")
        return _SUPPRESSIONS.get(event.SuppressionReason or "")
    return _RECORDS.get(event.RecordType)
