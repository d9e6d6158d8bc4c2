"""E-mail over Brevo: the adapter `email_brevo`.

Owns Brevo's request, the reading of its errors and of its webhooks. Refuses to know what a header may hold
(`channels.email_parts`) and how the bytes travel (`channels.http`).

From https://developers.brevo.com/reference/sendtransacemail, …/docs/how-it-works, …/docs/limit-headers,
…/docs/heterogenous-versions-batch-emails (idempotency), …/docs/transactional-webhooks and
…/docs/username-and-password-authentication, read in November 2026.

Its idempotency key is a UUID in the *body's* `headers` (https://github.com/getbrevo/brevo-node/issues/94 tells what
happens elsewhere), remembered for 30 minutes; a repetition is answered `duplicate_parameter`, without the first id. As
our own retries may come later than that, `Limits.idempotent` stays false: the key is a help, no promise.

Its API has no content ids: inline pictures go out as ordinary files, and the outcome's detail says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

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
)
from channels.email_parts import (
    Mail,
    base64_of,
    encoded,
    masked,
    prove_by_basic,
    prove_by_bearer,
    read_callback,
    read_mail,
    refused,
    too_large,
)
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.mail_events import Meaning, meaning
from channels.mime import Mailbox, MimeFault
from channels.retry_after import parse_retry_after

__all__ = ["BrevoChannel", "BrevoSettings"]

_MOST_BYTES: Final = 20 * 1024 * 1024  # not on the API's pages; usual for e-mail. What is beyond theirs answers 413
_MOST_RECIPIENTS: Final = 99  # "up to 99 recipients maximum in one message version"
_NAME_CHARS: Final = 70  # "Maximum length is 70 characters"
_KEYS: Final = uuid.UUID("7a1f6f0e-5c0b-4b4e-9b3a-0d6f6f2f9d11")  # ours: makes a UUID of a key that is none
_DELIVERY_HEADER: Final = "X-Mailin-custom"  # echoed in every event: finds the delivery even where the answer was lost
# Header names are made alike in case, so a caller's spelling of these would fight with ours or steer the account.
_OURS: Final = frozenset({"x-mailin-custom", "idempotencykey", "sender.ip"})
_MILLISECONDS: Final = 100_000_000_000  # a larger time is no count of seconds: that would be the year 5138


class BrevoSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Brevo account. Webhooks prove themselves by user and password in their URL, or by a token."""

    api_key: Annotated[str, Meta(min_length=1)]
    base_url: str = "https://api.brevo.com/v3"
    callback_username: str | None = None
    callback_password: str | None = None
    callback_token: str | None = None
    """The webhook's `auth.token`; it goes before user and password."""


class BrevoChannel:
    """Sends e-mail through Brevo, one request a message."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = BrevoSettings

    def __init__(self, settings: BrevoSettings, tools: Tools) -> None:
        if (settings.callback_username is None) != (settings.callback_password is None):
            raise SettingsFault("callback_password", "callback_username and callback_password belong together")
        self._settings = settings
        self._now = tools.now
        self.limits = Limits(
            message_bytes=_MOST_BYTES,
            attachments=True,
            templates=True,
            rate="1000/s",  # the general plan's, for this one call
            concurrency=settings.connections,
            receipts=True,
        )
        headers = {"api-key": settings.api_key, "Accept": "application/json"}
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=headers)

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what Brevo does; safe to call concurrently, and again."""
        try:
            mail = _read_mail(message)
        except MimeFault as fault:
            return refused(fault)
        body = encoded(_body(mail, message))
        if len(body) > _MOST_BYTES:
            return too_large(len(body), _MOST_BYTES)
        result = await self._wire.post("/smtp/email", content=body, headers={"Content-Type": "application/json"})
        return judge(result, lambda answer: _read(answer, mail, message.attempt, self._now()))

    def raw(self, message: Message) -> bytes:
        """Show the request's body. Raises `MimeFault` where `send` would reject the message."""
        return encoded(_body(_read_mail(message), message))

    async def check(self) -> Check:
        """Ask for the account."""
        result = await self._wire.get("/account")
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        return Check(ok=result.ok, detail=words(result, (result.decode(_Fault) or _Fault()).message))

    def verify(self, callback: Callback) -> None:
        """Check the token, or user and password: Brevo signs nothing."""
        if self._settings.callback_token:
            prove_by_bearer(callback, self._settings.callback_token)
        else:
            prove_by_basic(callback, self._settings.callback_username, self._settings.callback_password)

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read one event, or a list of them ("batched webhooks"); those about no message give none. Pure."""
        found = read_callback(callback, object)
        try:
            events = msgspec.convert(found if isinstance(found, list) else [found], list[_Event])
        except msgspec.ValidationError:
            raise CallbackRefused("the callback is no event of Brevo's", unreadable=True) from None
        sorted_in = [(event, _EVENTS.get(event.event)) for event in events]
        return [_status_event(event, *what, self._now()) for event, what in sorted_in if what is not None]

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The request. Pure.


def _read_mail(message: Message) -> Mail:
    mail = read_mail(message)
    if mail.recipients > _MOST_RECIPIENTS:
        raise MimeFault("cc", f"Brevo takes {_MOST_RECIPIENTS} recipients a message")
    if mail.template is not None and not str(mail.template.id).isdecimal():
        raise MimeFault("template.id", "Brevo's templates have numbers")
    return mail


def _body(mail: Mail, message: Message) -> dict[str, Any]:
    body: dict[str, Any] = {
        "sender": _mailbox(mail.sender),
        "to": [_mailbox(mail.to)],
        "cc": [_mailbox(box) for box in mail.cc],
        "bcc": [_mailbox(box) for box in mail.bcc],
        "replyTo": _mailbox(mail.reply_to) if mail.reply_to else None,
        "subject": mail.subject,
        "headers": {
            **{name: value for name, value in mail.headers if name.lower() not in _OURS},
            _DELIVERY_HEADER: message.id,
            "idempotencyKey": _key(message.idempotency_key),
        },
        "attachment": [{"name": each.filename, "content": base64_of(each)} for each in mail.attachments],
        "tags": list(mail.tags),
    }
    if mail.template is None:
        return {**body, "htmlContent": mail.html, "textContent": mail.text}
    return {**body, "templateId": int(mail.template.id), "params": mail.template.variables}


def _mailbox(box: Mailbox) -> dict[str, str]:
    return {"email": box.address, "name": box.name[:_NAME_CHARS]} if box.name else {"email": box.address}


def _key(key: str) -> str:
    """Make the UUID that Brevo wants: the key itself where it is one, else always the same one for the same key."""
    try:
        return str(uuid.UUID(key))
    except ValueError:
        return str(uuid.uuid5(_KEYS, key))


# The answer. Pure.


class _Created(msgspec.Struct, frozen=True, rename="camel"):
    message_id: Annotated[str, Meta(min_length=1)]


class _Fault(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


_DUPLICATES: Final = frozenset({"duplicate_parameter", "duplicate_request"})
_REFUSALS: Final[Mapping[str, Reason]] = {
    "unauthorized": Reason.ACCOUNT_PROBLEM,
    "permission_denied": Reason.ACCOUNT_PROBLEM,
    "not_enough_credits": Reason.ACCOUNT_PROBLEM,
    "account_under_validation": Reason.ACCOUNT_PROBLEM,
    "invalid_parameter": Reason.MESSAGE_INVALID,
    "missing_parameter": Reason.MESSAGE_INVALID,
    "out_of_range": Reason.MESSAGE_INVALID,
    "document_not_found": Reason.MESSAGE_INVALID,  # the template
    "not_acceptable": Reason.MESSAGE_INVALID,
}
_INLINE: Final = "inline pictures went out as files: Brevo has no content ids"
_PAYMENT_REQUIRED: Final = 402
_PAYLOAD_TOO_LARGE: Final = 413
_TOO_MANY: Final = 429


def _read(answer: Answer, mail: Mail, attempt: int, now: float) -> Outcome | None:
    inline = _INLINE if any(each.content_id for each in mail.attachments) else None
    if answer.ok:
        created = answer.decode(_Created)
        return None if created is None else Accepted(created.message_id.strip("<>"), inline)
    fault = answer.decode(_Fault) or _Fault()
    said = words(answer, fault.code, fault.message)
    if fault.code in _DUPLICATES and attempt > 1:
        # "Used within the last 30 minutes": an earlier attempt of ours, whose answer was lost, was taken. The id that
        # it got is lost too; events are found by the delivery's own, which they echo.
        return Accepted(None, said)
    if (reason := _refusal(answer.status, fault)) is not None:
        return Rejected(reason, said)
    if answer.status == _TOO_MANY:
        wish = answer.headers.get("x-sib-ratelimit-reset")
        after = parse_retry_after(wish, now) if answer.retry_after is None and wish else answer.retry_after
        return Retry(Reason.RATE_LIMITED, after, said)
    return None


def _refusal(status: int, fault: _Fault) -> Reason | None:
    if fault.code == "invalid_parameter" and fault.message.endswith("valid in to"):  # "email is not valid in to"
        return Reason.INVALID_ADDRESS
    if fault.code in _DUPLICATES:  # at the first attempt it cannot be about our key
        return Reason.MESSAGE_INVALID
    if status == _PAYMENT_REQUIRED:
        return Reason.ACCOUNT_PROBLEM
    return _REFUSALS.get(fault.code) or (Reason.TOO_LARGE if status == _PAYLOAD_TOO_LARGE else None)


# The webhooks. Pure.


class _Event(msgspec.Struct, frozen=True):
    event: str
    email: str | None = None
    message_id: str | None = msgspec.field(default=None, name="message-id")
    custom: str | None = msgspec.field(default=None, name=_DELIVERY_HEADER)
    reason: str | None = None
    ts_epoch: int | float | None = None
    ts_event: int | float | None = None


_EVENTS: Final[Mapping[str, Meaning | None]] = {
    "request": meaning("queued"),
    "sent": meaning("sent"),
    "delivered": meaning("delivered"),
    "deferred": meaning("deferred"),
    "hard_bounce": meaning("bounced", "bounced"),
    "soft_bounce": meaning("bounced", "soft"),
    # The page says both of the sender's and of the recipient's address: too little to suppress anybody.
    "invalid_email": meaning("bounced", "invalid"),
    "blocked": meaning("rejected", "blocked"),  # on their block list, for one of several reasons that they keep
    "error": meaning("failed"),
    "spam": meaning("complained", "complained"),
    "unsubscribe": meaning("unsubscribed", "unsubscribed"),
    "unsubscribed": meaning("unsubscribed", "unsubscribed"),
    "opened": meaning("opened"),
    "unique_opened": meaning("opened"),
    "proxy_open": meaning("opened"),
    "unique_proxy_open": meaning("opened"),
    "click": meaning("clicked"),
    # About lists of contacts and about mail that comes in.
    "list_addition": None,
    "contact_updated": None,
    "contact_deleted": None,
    "inboundEmailProcessed": None,
}


def _status_event(event: _Event, kind: EventType, reason: Reason | None, now: float) -> StatusEvent:
    return StatusEvent(
        type=kind,
        at=_time(event, now),
        provider_id=event.message_id.strip("<>") if event.message_id else None,
        message_id=event.custom,
        address=event.email,
        reason=reason,
        detail=masked(event.event, event.reason),
    )


def _time(event: _Event, now: float) -> float:
    """Read `ts_epoch`, in milliseconds by its description and in seconds by its example; `date` is no UTC."""
    found = event.ts_epoch or event.ts_event or now
    return found / 1000 if found > _MILLISECONDS else float(found)
