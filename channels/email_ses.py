"""E-mail through Amazon SES (API version 2): the adapter `email_ses`.

Owns the request of `SendEmail`, the reading of its answers, and SES's events. Refuses to know what an address or a
header may hold (`channels.email_parts`), MIME (`channels.mime`), how SNS signs what it posts (`channels.sns`) and the
wire (`channels.http`): botocore signs, and does nothing else. Read for it, below https://docs.aws.amazon.com/:
ses/latest/APIReference-V2/API_SendEmail.html, ses/latest/dg (quotas.html, manage-sending-quotas-errors.html,
troubleshoot-error-messages.html, event-publishing-retrieving-sns-contents.html).

SES has no idempotency key: a lost answer is unknown.

SNS signs with a key whose certificate has to be fetched, and asks once whether we want its messages at all. `verify`
and `parse` do no such thing: call `prepare` before them and `confirm` after them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final

# botocore ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
import msgspec
from botocore.credentials import Credentials
from msgspec import Meta

from channels.aws_signature import AwsSigner
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
    ProviderTemplate,
    masked,
    read_callback,
    read_mail,
    refused,
    too_large,
    unix_time,
    written,
)
from channels.http import Answer, Result, Wire, WireSettings, judge, words
from channels.mail_codes import is_policy
from channels.mail_events import AMAZON_SOFT, EVENTS, REASONS
from channels.mime import Mailbox, MimeFault, compose
from channels.sns import Sns, read_envelope

__all__ = ["SesChannel", "SesSettings", "mail"]

_MESSAGE_OCTETS: Final = 40_000_000  # "Maximum message size (including attachments): 40 MB", after encoding
_RECIPIENTS: Final = 50  # "Maximum number of recipients per message: 50"
_QUOTA_WAIT_S: Final = 600.0  # for the daily quota; "wait for an interval of up to 10 minutes, and then retry"
_MESSAGE_ID: Final = "gateway_message_id"  # our tag, which the events of a configuration set repeat

_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2}").fullmatch
_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,256}").fullmatch


class SesSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account in one region."""

    region: str
    access_key_id: Annotated[str, Meta(min_length=1)]
    secret_access_key: Annotated[str, Meta(min_length=1)]
    session_token: str | None = None
    configuration_set: str | None = None
    """Whose event destinations report what became of a message; without one no event names our id."""
    sns_topics: tuple[str, ...] = ()
    """The ARNs of the topics whose messages are believed; none: no callback is."""
    allow_sns_signature_1: bool = False
    """Also believe signature version 1, which is made with SHA-1; set the topic's `SignatureVersion` to 2 instead."""
    base_url: str | None = None
    """Another address than the region's, for tests and VPC endpoints."""
    sns_base_url: str | None = None
    """Where certificates and confirmations are fetched instead of from SNS, for tests; URLs are judged all the same."""

    __repr__ = WireSettings.__repr__


class SesChannel:
    """Sends e-mail through SES and reads the events that SNS posts."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = SesSettings

    def __init__(self, settings: SesSettings, tools: Tools) -> None:
        if not _REGION(settings.region):
            raise SettingsFault("region", "a region such as eu-central-1")
        self.limits = Limits(
            message_bytes=_MESSAGE_OCTETS,
            attachments=True,
            templates=True,
            concurrency=settings.connections,
            receipts=bool(settings.sns_topics),
        )
        self._settings = settings
        self._now = tools.now
        credentials = Credentials(settings.access_key_id, settings.secret_access_key, settings.session_token)
        base_url = (settings.base_url or _endpoint(settings.region)).rstrip("/")
        self._signer = AwsSigner(credentials, "ses", settings.region, base_url)
        self._wire = Wire(settings, tools, base_url=base_url)
        self._sns = Sns(
            self._wire,
            topics=settings.sns_topics,
            version_1=settings.allow_sns_signature_1,
            base_url=settings.sns_base_url,
            now=tools.now,
        )

    async def send(self, message: Message) -> Outcome:
        """Hand one message over. Never raises for what SES does; safe to call concurrently."""
        try:
            request, size = mail(message, configuration_set=self._settings.configuration_set)
        except MimeFault as fault:
            return refused(fault)
        if size > _MESSAGE_OCTETS:
            return too_large(size, _MESSAGE_OCTETS)
        return judge(await self._ask("POST", "/v2/email/outbound-emails", msgspec.json.encode(request)), _read)

    def raw(self, message: Message) -> bytes:
        """Show the JSON that would be posted. Raises `MimeFault` where `send` would reject the message."""
        return msgspec.json.encode(mail(message, configuration_set=self._settings.configuration_set)[0])

    async def check(self) -> Check:
        """Ask for the account's state. Sends nothing."""
        result = await self._ask("GET", "/v2/email/account", b"")
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        account = result.decode(_Account) if result.ok else None
        if account is None:
            return Check(ok=False, detail=_said(result))
        if not account.enabled:
            return Check(ok=False, detail="sending is paused for this account")
        return Check(ok=True, detail="may send" if account.production else "may send, in the sandbox only")

    async def prepare(self, callback: Callback) -> None:
        """Fetch the certificate that `verify` will need, once for each. Raises `CallbackRefused` as `verify` does."""
        await self._sns.prepare(callback)

    def verify(self, callback: Callback) -> None:
        """Check topic, signature and age of what SNS posted. The certificate is the one that `prepare` fetched."""
        self._sns.verify(callback)

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a verified message: one event for each recipient it names. A request to confirm holds none."""
        envelope = read_envelope(callback)
        # SES says this in words to every topic that becomes an event destination.
        if envelope.kind != "Notification" or envelope.message.startswith("Successfully validated SNS topic"):
            return []
        event = read_callback(msgspec.structs.replace(callback, body=envelope.message.encode()), _Event)
        return [_status(event, found, f"{envelope.message_id}/{number}") for number, found in enumerate(_found(event))]

    async def confirm(self, callback: Callback) -> Check:
        """Answer a verified request to confirm a subscription; may be called for any verified callback, and again."""
        return await self._sns.confirm(callback)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    async def _ask(self, method: str, path: str, body: bytes) -> Result:
        """Sign and send. The signature is made anew for each attempt: it holds for five minutes."""
        headers = self._signer.headers(method, path, body, self._now())
        return await self._wire.request(method, path, content=body or None, headers=headers)


def _endpoint(region: str) -> str:
    return f"https://email.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")


# The request. Pure.


def mail(message: Message, *, configuration_set: str | None = None) -> tuple[dict[str, Any], int]:
    """Make the body of `SendEmail` and say how large the message is. Raises `MimeFault` for what must not be sent.

    A message of subject and text goes as `Simple`, anything more as `Raw`, composed by us; a template of SES's as that.
    """
    read = read_mail(message)
    _refuse_what_ses_cannot(read)
    destination = {"ToAddresses": [read.to], "CcAddresses": read.cc, "BccAddresses": read.bcc}
    request: dict[str, Any] = {
        "FromEmailAddress": _shown(read.sender),
        "Destination": {name: [_shown(box) for box in boxes] for name, boxes in destination.items() if boxes},
        "EmailTags": _tags(message, read),
    }
    if configuration_set is not None:
        request["ConfigurationSetName"] = configuration_set
    if read.template is not None:
        content, size = _template(read, read.template), 0
    elif _is_plain(read):
        content, size = _simple(read)
    else:
        content, size = _raw(message)
    if read.reply_to is not None and "Raw" not in content:
        request["ReplyToAddresses"] = [_shown(read.reply_to)]
    return {**request, "Content": content}, size


def _refuse_what_ses_cannot(read: Mail) -> None:
    if read.recipients > _RECIPIENTS:
        raise MimeFault("cc", f"{read.recipients} recipients; SES takes {_RECIPIENTS}")
    fields = [("to", read.to), ("from", read.sender), *(("cc", box) for box in (*read.cc, *read.bcc))]
    for field, box in fields:
        if not box.local.isascii():  # "Amazon SES does not support the SMTPUTF8 extension"
            raise MimeFault(field, "SES takes no characters outside ASCII before the @")
    for name, _ in read.headers:  # its configuration set, source ARN and tags can be given as headers too
        if name.lower().startswith("x-ses-"):
            raise MimeFault(f"headers.{name}", "this header is Amazon's own")


def _is_plain(read: Mail) -> bool:
    boxes = [read.sender, read.to, *read.cc, *([read.reply_to] if read.reply_to else [])]
    return not read.attachments and not read.headers and all(box.name.isascii() for box in boxes)


def _simple(read: Mail) -> tuple[dict[str, Any], int]:
    body = {name: _text(text) for name, text in (("Text", read.text), ("Html", read.html)) if text}
    simple = {"Subject": _text(read.subject), "Body": body or {"Text": _text("")}}
    return {"Simple": simple}, len((read.text or "").encode()) + len((read.html or "").encode())


def _text(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}


def _raw(message: Message) -> tuple[dict[str, Any], int]:
    composed = compose(message)
    return {"Raw": {"Data": b64encode(composed.content).decode("ascii")}}, len(composed.content)


def _template(read: Mail, template: ProviderTemplate) -> dict[str, Any]:
    if read.attachments:
        raise MimeFault("attachments", "a template of SES's is sent without attachments")
    data = msgspec.json.encode(template.variables).decode()
    written_down: dict[str, Any] = {"TemplateName": str(template.id), "TemplateData": data}
    if read.headers:
        written_down["Headers"] = [{"Name": name, "Value": value} for name, value in read.headers]
    return {"Template": written_down}


def _shown(box: Mailbox) -> str:
    """Write a mailbox; a name that is not ASCII is left to the headers of the raw message."""
    return written(box) if box.name.isascii() else box.address


def _tags(message: Message, read: Mail) -> list[dict[str, str]]:
    """Tag with our id, the category and the metadata, as far as their letters allow it."""
    named = {**read.metadata, _MESSAGE_ID: message.id, "category": message.category}
    return [{"Name": name, "Value": value} for name, value in named.items() if _TAG(name) and _TAG(value)]


# What SES answers. Pure.


class _Sent(msgspec.Struct, rename="pascal"):
    message_id: str


class _Fault(msgspec.Struct):
    type: str = msgspec.field(default="", name="__type")
    message: str = ""
    title: str = msgspec.field(default="", name="Message")


class _Account(msgspec.Struct):
    enabled: bool = msgspec.field(default=True, name="SendingEnabled")
    production: bool = msgspec.field(default=False, name="ProductionAccessEnabled")


_OK: Final = 200
_TOO_LARGE: Final = 413
_THROTTLED: Final = frozenset(
    {"TooManyRequestsException", "LimitExceededException", "ThrottlingException", "Throttling"}
)
_NAMED: Final[Mapping[str, Reason]] = {
    "AccountSuspendedException": Reason.ACCOUNT_PROBLEM,  # "permanently restricted"
    "SendingPausedException": Reason.ACCOUNT_PROBLEM,
    "MailFromDomainNotVerifiedException": Reason.ACCOUNT_PROBLEM,
    "MessageRejected": Reason.CONTENT_REFUSED,  # "it contains invalid content"
    "BadRequestException": Reason.MESSAGE_INVALID,
    "NotFoundException": Reason.MESSAGE_INVALID,  # a template that does not exist
}


def _read(answer: Answer) -> Outcome | None:
    """Read the answers that SES documents; the house rules do the rest (401 and 403 are the account).

    Two refusals are ours whatever their name: an identity that is not verified, and a missing configuration set.
    """
    if answer.status == _OK and (sent := answer.decode(_Sent)) is not None:
        return Accepted(sent.message_id)
    name, sentence = _fault(answer)
    said = _said(answer)
    if name in _THROTTLED:
        daily = "daily" in sentence.lower()
        return Retry(Reason.RATE_LIMITED, _QUOTA_WAIT_S if daily else answer.retry_after, said)
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, said)
    reason = _NAMED.get(name)
    if reason is None:
        return None
    if "not verified" in sentence or (name == "NotFoundException" and "onfiguration set" in sentence):
        reason = Reason.ACCOUNT_PROBLEM
    return Rejected(reason, said)


def _fault(answer: Answer) -> tuple[str, str]:
    """Find the exception's name, in the header or the body, and its sentence."""
    fault = answer.decode(_Fault) or _Fault()
    name = answer.headers.get("x-amzn-errortype") or fault.type
    return name.partition(":")[0].rpartition("#")[2], fault.message or fault.title


def _said(answer: Answer) -> str:
    return words(answer, *_fault(answer))


# SES's events. Pure.


class _Recipient(msgspec.Struct, rename="camel"):
    email_address: str | None = None
    status: str | None = None
    diagnostic_code: str | None = None


class _Mail(msgspec.Struct, rename="camel"):
    message_id: str
    timestamp: str
    destination: list[str] = []
    tags: dict[str, list[str]] = {}


class _Topic(msgspec.Struct, rename="camel"):
    subscription_status: str = ""


class _Topics(msgspec.Struct, rename="camel"):
    unsubscribe_all: bool = False
    topic_subscription_status: list[_Topic] = []


class _Detail(msgspec.Struct, rename="camel"):
    """What the events' own objects hold, of which each has a part."""

    timestamp: str | None = None
    bounce_type: str | None = None
    bounce_sub_type: str | None = None
    bounced_recipients: list[_Recipient] = []
    complained_recipients: list[_Recipient] = []
    complaint_sub_type: str | None = None
    complaint_feedback_type: str | None = None
    delayed_recipients: list[_Recipient] = []
    delay_type: str | None = None
    recipients: list[str] = []
    smtp_response: str | None = None
    reason: str | None = None
    error_message: str | None = None
    new_topic_preferences: _Topics | None = None


class _Event(msgspec.Struct, rename="camel"):
    mail: _Mail
    event_type: str | None = None
    notification_type: str | None = None
    bounce: _Detail | None = None
    complaint: _Detail | None = None
    delivery: _Detail | None = None
    reject: _Detail | None = None
    open: _Detail | None = None
    click: _Detail | None = None
    failure: _Detail | None = None
    delivery_delay: _Detail | None = None
    subscription: _Detail | None = None


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    type: EventType
    at: str
    address: str | None = None
    reason: Reason | None = None
    detail: str | None = None


_PLAIN_KINDS: Final[Mapping[str, EventType]] = {
    "Send": EVENTS["sent"],
    "Delivery": EVENTS["delivered"],
    "Open": EVENTS["opened"],
    "Click": EVENTS["clicked"],
}


def _found(event: _Event) -> list[_Found]:
    """Read one event: one for each recipient that it names, none for a kind that we do not know."""
    kind, at = event.event_type or event.notification_type or "", event.mail.timestamp
    if kind == "Bounce" and (bounce := event.bounce) is not None:
        return [_bounced(bounce, each, bounce.timestamp or at) for each in bounce.bounced_recipients]
    if kind == "Complaint" and (complaint := event.complaint) is not None:
        return [_complained(complaint, each, complaint.timestamp or at) for each in complaint.complained_recipients]
    if kind == "DeliveryDelay" and (delay := event.delivery_delay) is not None:
        at = delay.timestamp or at
        return [
            _Found(
                type=EventType.DEFERRED,
                at=at,
                address=each.email_address,
                detail=each.diagnostic_code or delay.delay_type,
            )
            for each in delay.delayed_recipients
        ]
    return [_failed(event, kind, at)] if kind in {"Reject", "Rendering Failure"} else _plain_facts(event, kind, at)


def _failed(event: _Event, kind: str, at: str) -> _Found:
    if kind == "Reject":  # "SES accepted the email, but determined that it contained a virus"
        said = event.reject.reason if event.reject else None
        return _Found(type=EventType.FAILED, at=at, reason=Reason.CONTENT_REFUSED, detail=said)
    said = event.failure.error_message if event.failure else None
    return _Found(type=EventType.FAILED, at=at, reason=Reason.MESSAGE_INVALID, detail=said)


def _plain_facts(event: _Event, kind: str, at: str) -> list[_Found]:
    """Read what has no more to say than that it happened; of an opening SES does not say whose it was."""
    type_ = _subscribed(event.subscription) if kind == "Subscription" else _PLAIN_KINDS.get(kind)
    if type_ is None:
        return []
    own = event.delivery or event.open or event.click or event.subscription or _Detail()
    alone = event.mail.destination if len(event.mail.destination) == 1 else []
    addresses: list[str | None] = [*(own.recipients or alone)]
    at = own.timestamp or at
    return [_Found(type=type_, at=at, address=each, detail=own.smtp_response) for each in addresses or [None]]


def _subscribed(changed: _Detail | None) -> EventType:
    """Read a change of what a contact subscribes to: whoever leaves anything has unsubscribed."""
    wanted = (changed.new_topic_preferences if changed else None) or _Topics(unsubscribe_all=True)
    topics = wanted.topic_subscription_status
    all_in = topics and all(topic.subscription_status == "OptIn" for topic in topics)
    return EVENTS["subscribed" if all_in and not wanted.unsubscribe_all else "unsubscribed"]


def _bounced(bounce: _Detail, recipient: _Recipient, at: str) -> _Found:
    """Read a bounce: only a permanent one means a dead address, and 5.7.x is policy, never dead (RFC 3463)."""
    sub = bounce.bounce_sub_type or ""
    reason: Reason | None = None
    if is_policy(recipient.status):
        reason = REASONS["blocked"]
    elif bounce.bounce_type == "Permanent":
        reason = REASONS["bounced"]
    elif bounce.bounce_type == "Transient":
        reason = AMAZON_SOFT.get(sub, REASONS["soft"])  # it can be an automatic reply
    said = f"{bounce.bounce_type} {sub} {recipient.diagnostic_code or recipient.status or ''}"
    return _Found(type=EventType.BOUNCED, at=at, address=recipient.email_address, reason=reason, detail=said)


def _complained(complaint: _Detail, recipient: _Recipient, at: str) -> _Found:
    """Read a complaint. On the account's own suppression list, SES did not even try to send."""
    if complaint.complaint_sub_type == "OnAccountSuppressionList":
        type_, reason = EventType.FAILED, Reason.COMPLAINED
    else:
        type_, reason = EventType.COMPLAINED, None
    said = complaint.complaint_sub_type or complaint.complaint_feedback_type
    return _Found(type=type_, at=at, address=recipient.email_address, reason=reason, detail=said)


def _status(event: _Event, found: _Found, event_id: str) -> StatusEvent:
    ours = event.mail.tags.get(_MESSAGE_ID)
    at = unix_time(found.at)
    if at is None:
        raise CallbackRefused("an SES event at no time", unreadable=True)
    return StatusEvent(
        type=found.type,
        at=at,
        provider_id=event.mail.message_id,
        message_id=ours[0] if ours else None,
        address=found.address,
        reason=found.reason,
        detail=masked(found.detail),
        event_id=event_id,
    )
