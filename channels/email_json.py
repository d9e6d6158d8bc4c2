"""E-mail over any provider of the common REST shape: the adapter `email_json`.

Owns one configurable request, `POST {from, to, subject, html, text}` with a bearer key, and one configurable reading of
its answer, `{id}`. Refuses to know any provider by name: what differs between them is a setting. A field's name may be
a path (`message.subject` nests), and an empty name says that the provider has no such field; a message that needs one
is then refused rather than sent without its copy recipients, files or headers.

It has no callbacks: whatever is worth verifying has a scheme of its own, and then an adapter of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from msgspec import Meta

from channels.contract import (
    Accepted,
    Blame,
    Check,
    Limits,
    Message,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Tools,
    Unknown,
    blame_of,
)
from channels.email_parts import Mail, base64_of, read_mail, refused, too_large, written
from channels.http import Answer, Wire, WireSettings, check_by_get, judge, words
from channels.mime import Mailbox, MimeFault

__all__ = ["AttachmentFields", "Fields", "JsonEmailChannel", "JsonEmailSettings"]

FieldName = Annotated[str, Meta(max_length=100, pattern=r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?$")]
HeaderName = Annotated[str, Meta(max_length=100, pattern=r"^[A-Za-z0-9-]*$")]

_CONFLICT: Final = 409
_OUTCOMES: Final[Mapping[str, Reason]] = {"413": Reason.TOO_LARGE, "422": Reason.MESSAGE_INVALID}


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """What the provider calls each part: a name, a path (`message.to`), or nothing where it has no such field."""

    sender: FieldName = "from"
    to: FieldName = "to"
    cc: FieldName = "cc"
    bcc: FieldName = "bcc"
    reply_to: FieldName = "reply_to"
    subject: FieldName = "subject"
    html: FieldName = "html"
    text: FieldName = "text"
    headers: FieldName = "headers"
    attachments: FieldName = "attachments"
    tags: FieldName = ""
    metadata: FieldName = ""
    template: FieldName = ""
    """Where the id of a template at the provider goes."""
    template_data: FieldName = ""
    """Where its variables go."""


class AttachmentFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the provider calls the parts of one file; nothing where it has no such field. Content is base64."""

    filename: FieldName = "filename"
    content: FieldName = "content"
    content_type: FieldName = "content_type"
    content_id: FieldName = "content_id"


class JsonEmailSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. `base_url` and `api_key` are enough for the most common shape."""

    base_url: Annotated[str, Meta(min_length=8, max_length=500)]
    path: Annotated[str, Meta(max_length=500, pattern=r"^(/[!-~]*)?$")] = "/emails"
    api_key: Annotated[str, Meta(min_length=1)]
    key_header: HeaderName = "Authorization"
    key_scheme: Annotated[str, Meta(max_length=50)] = "Bearer"
    """Stands before the key; empty: the key alone."""
    request_headers: dict[HeaderName, str] = msgspec.field(default_factory=dict)
    """More headers of the HTTP request itself."""
    idempotency_header: HeaderName = "Idempotency-Key"
    """Sent with every request; empty: not at all."""
    idempotent: bool = False
    """Whether the provider promises to honour it; then a lost answer is repeated without fear."""
    fields: Fields = Fields()
    attachment_fields: AttachmentFields = AttachmentFields()
    constants: dict[str, Any] = msgspec.field(default_factory=dict)
    """Put into every body as they stand (a stream's name, a switch for tracking)."""
    addresses: Literal["text", "plain", "object"] = "text"
    """`Name <a@example.com>`, `a@example.com`, or `{"email": …, "name": …}`."""
    to_as: Literal["one", "list"] = "one"
    headers_as: Literal["object", "list"] = "object"
    """`{"X-A": "b"}`, or `[{"name": "X-A", "value": "b"}]`."""
    answer_id: FieldName = "id"
    """Where the answer holds the message's id; empty: the status alone says that it was taken."""
    answer_code: FieldName = "code"
    """Where an error answer holds its machine-readable word."""
    answer_error: FieldName = "message"
    """Where an error answer holds its sentence."""
    outcomes: dict[str, Reason] = msgspec.field(default_factory=dict)
    """What the provider's error words (first) and statuses (`"400"`) mean, where the general rules are too careful.
    Known without being told: 413 is `too_large`, 422 `message_invalid`."""
    check_path: Annotated[str, Meta(max_length=500, pattern=r"^(/[!-~]*)?$")] = ""
    """What may be asked for with the key (GET) to see whether it is good, such as `/account`; empty: it cannot be."""
    message_bytes: Annotated[int, Meta(ge=1000)] | None = None
    """The longest request body the provider takes."""


class JsonEmailChannel:
    """Sends e-mail with one POST request a message."""

    kind: ClassVar[str] = "email"
    Settings: ClassVar[type[msgspec.Struct]] = JsonEmailSettings

    def __init__(self, settings: JsonEmailSettings, tools: Tools) -> None:
        _refuse_what_cannot_work(settings)
        self._settings = settings
        self._outcomes = {**_OUTCOMES, **settings.outcomes}
        self.limits = Limits(
            message_bytes=settings.message_bytes,
            attachments=bool(settings.fields.attachments),
            templates=bool(settings.fields.template),
            concurrency=settings.connections,
            idempotent=settings.idempotent,
        )
        key = f"{settings.key_scheme} {settings.api_key}".strip()
        headers = {**settings.request_headers, settings.key_header: key}
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=headers)

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what providers do; safe to call concurrently."""
        settings = self._settings
        try:
            body = self.raw(message)
        except MimeFault as fault:
            return refused(fault)
        if settings.message_bytes is not None and len(body) > settings.message_bytes:
            return too_large(len(body), settings.message_bytes)
        headers = {"Content-Type": "application/json"}
        if settings.idempotency_header:
            headers[settings.idempotency_header] = message.idempotency_key
        result = await self._wire.post(settings.path, content=body, headers=headers)
        return judge(result, self._read)

    def raw(self, message: Message) -> bytes:
        """Show the request's body. Raises `MimeFault` where `send` would reject the message."""
        return msgspec.json.encode(_body(read_mail(message), self._settings))

    async def check(self) -> Check:
        """Ask for `check_path`, where there is one. Sends nothing."""
        return await check_by_get(self._wire, self._settings.check_path)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    def _read(self, answer: Answer) -> Outcome | None:
        settings, found = self._settings, answer.json()
        if answer.ok:
            if not settings.answer_id:
                return Accepted(None)
            given = _at(found, settings.answer_id)
            return Accepted(str(given)) if isinstance(given, str | int) and str(given) else None
        code, said = _at(found, settings.answer_code), _at(found, settings.answer_error)
        detail = words(answer, *(str(each) for each in (code, said) if isinstance(each, str | int)))
        reason = self._outcomes.get(str(code)) or self._outcomes.get(str(answer.status))
        if reason is not None:
            return _outcome(reason, answer, detail)
        if answer.status == _CONFLICT and settings.idempotent:
            # An earlier attempt under this key went out: whether it was taken is what nobody has said yet.
            return Unknown(Reason.TIMED_OUT, detail)
        general = judge(answer, lambda _: None)
        return msgspec.structs.replace(general, detail=detail)


def _outcome(reason: Reason, answer: Answer, detail: str) -> Outcome:
    """Turn a configured reason into an outcome: what is the provider's affair, or passes, is tried again."""
    if reason is Reason.RETRY or blame_of(reason) is Blame.PROVIDER:
        return Retry(reason, answer.retry_after, detail)
    return Rejected(reason, detail)


# How a body is put together. Pure.


def _body(mail: Mail, settings: JsonEmailSettings) -> dict[str, Any]:
    fields = settings.fields
    to = _address(mail.to, settings)
    body = copy.deepcopy(settings.constants)
    _put(body, fields.sender, _address(mail.sender, settings))
    _put(body, fields.to, [to] if settings.to_as == "list" else to)
    _put(body, fields.subject, mail.subject)
    if mail.template is None:
        _put(body, fields.html, mail.html)
        _put(body, fields.text, mail.text)
    else:
        _demand("template", fields.template)
        _put(body, fields.template, mail.template.id)
        if mail.template.variables:
            _demand("template", fields.template_data)
            _put(body, fields.template_data, mail.template.variables)
    needed: tuple[tuple[str, str, Any], ...] = (
        ("cc", fields.cc, [_address(box, settings) for box in mail.cc]),
        ("bcc", fields.bcc, [_address(box, settings) for box in mail.bcc]),
        ("reply_to", fields.reply_to, _address(mail.reply_to, settings) if mail.reply_to else None),
        ("headers", fields.headers, _headers(mail, settings)),
        ("attachments", fields.attachments, _attachments(mail, settings)),
    )
    for name, field, value in needed:
        if value:
            _demand(name, field)
            _put(body, field, value)
    # Nobody but us sees these two: a provider without them can still carry the message.
    _put(body, fields.tags, list(mail.tags) or None)
    _put(body, fields.metadata, dict(mail.metadata) or None)
    return body


def _demand(name: str, field: str) -> None:
    if not field:
        raise MimeFault(name, "this provider has no such field")


def _address(box: Mailbox, settings: JsonEmailSettings) -> str | dict[str, str]:
    if settings.addresses == "plain":
        return box.address
    if settings.addresses == "object":
        return {"email": box.address, "name": box.name} if box.name else {"email": box.address}
    return written(box)


def _headers(mail: Mail, settings: JsonEmailSettings) -> dict[str, str] | list[dict[str, str]]:
    if settings.headers_as == "list":
        return [{"name": name, "value": value} for name, value in mail.headers]
    return dict(mail.headers)


def _attachments(mail: Mail, settings: JsonEmailSettings) -> list[dict[str, Any]]:
    names = settings.attachment_fields
    found: list[dict[str, Any]] = []
    for attachment in mail.attachments:
        each: dict[str, Any] = {}
        _put(each, names.filename, attachment.filename)
        _put(each, names.content, base64_of(attachment))
        _put(each, names.content_type, attachment.content_type)
        if attachment.content_id is not None:
            _demand("attachments", names.content_id)
            _put(each, names.content_id, attachment.content_id)
        found.append(each)
    return found


def _put(body: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` where `path` says, making the objects on the way; nothing for `None` and for an empty path."""
    if value is None or not path:
        return
    *parents, last = path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
    body[last] = value


def _at(found: object, path: str) -> object:
    """Find what lies at `path` in a decoded answer; a number is an index into a list. `None` where nothing does."""
    for step in path.split(".") if path else ():
        if isinstance(found, Mapping):
            found = cast("Mapping[str, object]", found).get(step)
        elif isinstance(found, Sequence) and not isinstance(found, str) and step.isdecimal():
            items = cast("Sequence[object]", found)
            found = items[int(step)] if int(step) < len(items) else None
        else:
            return None
    return found if path else None


# Settings


def _refuse_what_cannot_work(settings: JsonEmailSettings) -> None:
    fields = settings.fields
    if not fields.sender or not fields.to or not fields.subject or not (fields.html or fields.text):
        raise SettingsFault("fields", "from, to, subject and one of html and text must have names")
    if not settings.key_header:
        raise SettingsFault("key_header", "name the header that carries the key")
    if settings.idempotent and not settings.idempotency_header:
        raise SettingsFault("idempotent", "needs a name in idempotency_header")
    body = copy.deepcopy(settings.constants)
    for name in msgspec.structs.astuple(fields):
        if name and (_at(body, name) is not None or not _fits(body, name)):
            raise SettingsFault("fields", f"{name!r} is taken, by another part or by a constant")


def _fits(body: dict[str, Any], path: str) -> bool:
    try:
        _put(body, path, "taken")
    except (AttributeError, TypeError):  # a step of the path leads through something that is no object
        return False
    return True
