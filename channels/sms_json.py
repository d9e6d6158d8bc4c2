"""Text messages through any provider with the common REST shape: the adapter `sms_json`.

Owns a request of configurable field names and the reading of answers by configured paths. Refuses to know any provider:
what their codes mean is said in the settings. No common shape exists for receipts, so there are none: `sent` is final.

The shape, unless the settings say otherwise: `POST {from, to, text}` as JSON with a bearer key, answered by `{id}`:

    [providers.sms-main]
    use = "sms_json"
    base_url = "https://api.example.com"
    path = "/v1/messages"
    key = { env = "SMS_KEY" }
    sender = "Example"
    fields = { to = "recipients", text = "body" }
    to_list = true
    id_path = "messages.0.id"
    code_path = "error.code"
    codes = { invalid_number = "address_dead", blocked = "opted_out" }
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, cast

import msgspec
from msgspec import Meta

from channels.contract import (
    Accepted,
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
)
from channels.http import Answer, Wire, WireSettings, basic, check_by_get, judge, words
from channels.sms_countries import check_countries, refuse_number
from channels.sms_segments import count_segments, text_of

__all__ = ["JsonSmsChannel", "JsonSmsSettings"]

_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_TEXT_CHARS: Final = 1600  # ten segments of GSM-7, where most providers end

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names of the request's fields; an empty one is left out."""

    to: Name = "to"
    text: Name = "text"
    sender: Annotated[str, Meta(max_length=100)] = "from"
    reference: Annotated[str, Meta(max_length=100)] = ""
    """Gets the delivery's id, so that it is found in the provider's own log."""


class JsonSmsSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider. Paths into answers are names and positions between dots: `messages.0.id`."""

    base_url: str
    path: str = "/"
    key: str
    """The API's key; with `auth = "basic"`: user:password."""
    auth: Literal["bearer", "basic", "header"] = "bearer"
    auth_header: str = "Authorization"
    """With `auth = "header"`: the header whose value is the key alone, such as `X-API-Key`."""
    sender: str | None = None
    fields: Fields = Fields()
    extra: Mapping[str, Any] = {}
    """Further fields, sent as they are."""
    to_list: bool = False
    """Whether the recipient stands in a list."""
    plus: bool = True
    """Whether numbers keep their plus sign."""
    id_path: str = "id"
    code_path: str = "code"
    message_path: str = "message"
    codes: Mapping[str, Reason] = {}
    """What the provider's codes mean: a reason of the gateway's for each."""
    refused_path: str | None = None
    """Where a 200 may carry an error: if something stands there (not null, false, 0 or empty), it was refused."""
    idempotency_header: str | None = None
    """The header for the idempotency key, where the provider honours one: then a lost answer is repeated."""
    check_path: Annotated[str, Meta(max_length=500, pattern=r"^(/[!-~]*)?$")] = ""
    """What may be asked for with the key (GET) to see whether it is good, such as `/account`; empty: it cannot be."""
    text_chars: Annotated[int, Meta(ge=1, le=10_000)] = _TEXT_CHARS
    countries: tuple[Name, ...] | None = None
    """Calling codes that may be written to (`["1", "49"]`); unset: all. See `channels.sms_countries`."""


class JsonSmsOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say."""

    from_: Annotated[str, Meta(max_length=100)] | None = msgspec.field(name="from", default=None)


class JsonSmsChannel:
    """Sends text messages through one REST API."""

    kind: ClassVar[str] = "sms"
    Settings: ClassVar[type[msgspec.Struct]] = JsonSmsSettings
    Overrides: ClassVar[type[msgspec.Struct]] = JsonSmsOverrides

    def __init__(self, settings: JsonSmsSettings, tools: Tools) -> None:
        _refuse_what_cannot_work(settings)
        self.limits = Limits(
            text_chars=settings.text_chars,
            concurrency=settings.connections,
            idempotent=settings.idempotency_header is not None,
        )
        self._settings = settings
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=_authorization(settings))

    async def send(self, message: Message) -> Outcome:
        """Send one message. Never raises for what the provider does; safe to call concurrently."""
        shaped = _shape(message, self._settings)
        if isinstance(shaped, Rejected):
            return shaped
        header = self._settings.idempotency_header
        headers = {header: message.idempotency_key} if header is not None else None
        result = await self._wire.post(self._settings.path, json=shaped, headers=headers)
        outcome = judge(result, lambda answer: _read(answer, self._settings))
        if isinstance(outcome, Accepted):
            return msgspec.structs.replace(outcome, detail=str(count_segments(text_of(message.content))))
        return outcome

    def senders(self, chosen: str | None) -> Sequence[str]:
        """Name the sender of a message, if there is one: a refusal as `opted_out` concerns it alone."""
        sender = chosen or self._settings.sender
        return () if sender is None else (sender,)

    def raw(self, message: Message) -> bytes:
        """Show the request's body; empty where `send` would refuse the message."""
        shaped = _shape(message, self._settings)
        return b"" if isinstance(shaped, Rejected) else msgspec.json.encode(shaped)

    async def check(self) -> Check:
        """Ask for `check_path`, where there is one. Sends nothing."""
        return await check_by_get(self._wire, self._settings.check_path)

    def segments(self, message: Message) -> int:
        """Count the SMS this text becomes."""
        return count_segments(text_of(message.content)).segments

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The request. Pure.


def _shape(message: Message, settings: JsonSmsSettings) -> dict[str, Any] | Rejected:
    if (refused := refuse_number(message.to, settings.countries)) is not None:
        return refused
    text = text_of(message.content)
    if not text.strip():
        return Rejected(Reason.MESSAGE_INVALID, "there is no text to send")
    if len(text) > settings.text_chars:
        return Rejected(Reason.TOO_LARGE, f"{len(text)} characters; this provider takes {settings.text_chars}")
    to = message.to if settings.plus else message.to.removeprefix("+")
    names = settings.fields
    sender = message.options.get("from") or message.sender or settings.sender
    shaped = {**settings.extra, names.to: [to] if settings.to_list else to, names.text: text}
    optional = ((names.sender, sender), (names.reference, message.id))
    return shaped | {name: value for name, value in optional if name and value is not None}


def _authorization(settings: JsonSmsSettings) -> dict[str, str]:
    match settings.auth:
        case "bearer":
            return {"Authorization": f"Bearer {settings.key}"}
        case "basic":
            user, _, password = settings.key.partition(":")
            return {"Authorization": basic(user, password)}
        case "header":
            return {settings.auth_header: settings.key}


# The answer. Pure.

_LATER: Final = frozenset({Reason.RATE_LIMITED, Reason.RETRY, Reason.TIMED_OUT, Reason.PROVIDER_DOWN})
_TOO_LARGE: Final = 413
_SERVER_ERRORS: Final = range(500, 600)
_UNAVAILABLE: Final = 503


def _read(answer: Answer, settings: JsonSmsSettings) -> Outcome | None:
    found = answer.json()
    refused = settings.refused_path is not None and bool(_at(found, settings.refused_path))
    code = _word(_at(found, settings.code_path))
    said = words(answer, code, _word(_at(found, settings.message_path)))
    if answer.ok and not refused:
        id_ = _word(_at(found, settings.id_path))
        return Accepted(id_) if id_ else None
    if answer.status in _SERVER_ERRORS and answer.status != _UNAVAILABLE:
        return Unknown(Reason.TIMED_OUT, said)  # whatever code it names, it may have been sent before it broke
    reason = settings.codes.get(code or "")
    if reason is not None:
        return Retry(reason, answer.retry_after, said) if reason in _LATER else Rejected(reason, said)
    if answer.ok:
        return Retry(Reason.RETRY, answer.retry_after, said)
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, said)
    general = judge(answer, lambda _: None)
    return msgspec.structs.replace(general, detail=said)


def _at(found: object, path: str) -> object:
    """Follow a path of names and positions; `None` where it leads nowhere."""
    for step in path.split("."):
        if isinstance(found, Mapping):
            found = cast("Mapping[str, object]", found).get(step)
        elif isinstance(found, list) and step.isdecimal() and len(step) <= 3:  # noqa: PLR2004 - positions below 1,000
            items = cast("list[object]", found)
            found = items[int(step)] if int(step) < len(items) else None
        else:
            return None
    return found


def _word(found: object) -> str | None:
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return str(found)


# Settings.


def _refuse_what_cannot_work(settings: JsonSmsSettings) -> None:
    if not settings.base_url:
        raise SettingsFault("base_url", "write https://host")
    if not settings.path.startswith("/") or not settings.path.isascii() or " " in settings.path:
        raise SettingsFault("path", "begin with /, in plain ASCII without spaces")
    if not settings.key or not settings.key.isascii() or not settings.key.isprintable():
        raise SettingsFault("key", "empty, or has characters that no header takes")
    if settings.auth == "basic" and ":" not in settings.key:
        raise SettingsFault("key", 'with auth = "basic" write user:password')
    for field in ("auth_header", "idempotency_header"):
        value = cast("str | None", getattr(settings, field))
        if value is not None and not _HEADER(value):
            raise SettingsFault(field, "not the name of a header")
    names = [name for name in msgspec.structs.astuple(settings.fields) if name]
    if len(set(names)) < len(names):
        raise SettingsFault("fields", "two of them have the same name")
    if overlap := set(names) & settings.extra.keys():
        raise SettingsFault("extra", f"would be overwritten: {', '.join(sorted(overlap))}")
    check_countries(settings.countries)
