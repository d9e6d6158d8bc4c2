"""Text messages through Twilio, and WhatsApp through its senders: the adapter `sms_twilio`.

Owns the shape of a message, Twilio's error codes, and its two kinds of callbacks (what became of a message; STOP and
START from a person). Refuses to know when to try again and who has opted out of what.

Twilio's library shapes the request and checks signatures; the wire is `channels.http`. Its pages:
https://www.twilio.com/docs/messaging/api/message-resource (the request, the statuses),
https://www.twilio.com/docs/api/errors (the codes),
https://www.twilio.com/docs/usage/security (signatures),
https://help.twilio.com/articles/115002943027 (rates: "each queue can hold up to 10 hours' worth of message segments").

The rule that everything here serves: creating a message has no idempotency key, so what may have been created is
`Unknown`. Every message therefore carries its delivery's id in its callback URL: the callback settles a lost answer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, NoReturn, cast
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

import msgspec
from msgspec import Meta
from twilio.http import AsyncHttpClient  # pyright: ignore[reportMissingTypeStubs] - it ships none
from twilio.request_validator import RequestValidator  # pyright: ignore[reportMissingTypeStubs] - it ships none
from twilio.rest import Client  # pyright: ignore[reportMissingTypeStubs] - it ships none

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
from channels.http import Answer, Result, Wire, WireSettings, judge, words
from channels.sms_countries import check_countries, refuse_number
from channels.sms_segments import count_segments, text_of

__all__ = ["TwilioChannel", "TwilioSettings"]

_BODY_CHARS: Final = 1600  # "Can be up to 1,600 characters in length."
_VALIDITY_MOST_S: Final = 36_000  # "Accepted values are integers from 1 to 36000", which is also the default
_WHATSAPP: Final = "whatsapp:"
_DELIVERY: Final = "delivery"  # the name of our parameter in the callback URL
_LOGGER: Final = logging.getLogger("twilio.http_client")  # the SDK asks for one; our carrier never writes to it

_SID: Final = re.compile(r"[A-Z]{2}[0-9a-fA-F]{32}").fullmatch
_PHONE: Final = re.compile(r"\+[1-9][0-9]{6,14}").fullmatch
_SHORT_CODE: Final = re.compile(r"[0-9]{3,8}").fullmatch


class TwilioSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account. Set `messaging_service_sid`, or `sender`, or both for one sender of the service's pool."""

    account_sid: str
    auth_token: str
    """Also what callbacks are signed with, so it is needed beside an API key."""
    api_key_sid: str | None = None
    api_key_secret: str | None = None
    """Sends with this key instead of the auth token; it can be revoked alone."""
    messaging_service_sid: str | None = None
    sender: str | None = None
    """`+15550100001`, a short code, a name (`Example`), or `whatsapp:+15550100001`."""
    callback_url: str | None = None
    """Where Twilio reaches this gateway: `https://notify.example.com/v1/callbacks/NAME`. Without it there are no
    receipts. It must be the address as Twilio sees it, since signatures are made over it."""
    countries: tuple[Annotated[str, Meta(min_length=1)], ...] | None = None
    """Calling codes that may be written to (`["1", "49"]`); unset: all. See `channels.sms_countries`."""
    base_url: str = "https://api.twilio.com"
    """Another region's: `https://api.dublin.ie1.twilio.com`."""


class TwilioOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say in Twilio's own terms."""

    from_: Annotated[str, Meta(max_length=100)] | None = msgspec.field(name="from", default=None)
    content_sid: Annotated[str, Meta(pattern="^HX[0-9a-fA-F]{32}$")] | None = None
    """A prepared template of Twilio's, which WhatsApp wants outside a conversation."""
    content_variables: dict[str, Any] | None = None


class TwilioChannel:
    """Sends text messages through one account."""

    kind: ClassVar[str] = "sms"
    Settings: ClassVar[type[msgspec.Struct]] = TwilioSettings
    Overrides: ClassVar[type[msgspec.Struct]] = TwilioOverrides

    def __init__(self, settings: TwilioSettings, tools: Tools) -> None:
        _refuse_what_cannot_work(settings)
        self.limits = Limits(
            text_chars=_BODY_CHARS,
            rate=_rate(settings),
            concurrency=settings.connections,
            receipts=settings.callback_url is not None,
        )
        self._settings = settings
        self._now = tools.now
        self._wire = Wire(settings, tools, base_url=settings.base_url)
        user, password = self._login()
        self._client = Client(user, password, settings.account_sid, http_client=_Carrier(self._wire))
        # The library is typed in part.
        self._validate = cast("Callable[[str, object, str], bool]", RequestValidator(settings.auth_token).validate)  # pyright: ignore[reportUnknownMemberType] - untyped

    async def send(self, message: Message) -> Outcome:
        """Create one message. Never raises for what Twilio does; safe to call concurrently."""
        shaped = _shape(message, self._settings, self._now())
        if isinstance(shaped, Rejected):
            return shaped
        callers_sender = _callers_sender(message) is not None
        result = await self._create(shaped)
        outcome = judge(result, lambda answer: _read(answer, callers_sender=callers_sender))
        if isinstance(outcome, Accepted) and (text := cast("str | None", shaped.get("body"))) is not None:
            return msgspec.structs.replace(outcome, detail=str(count_segments(text)))
        return outcome

    def senders(self, chosen: str | None) -> Sequence[str]:
        """Name the Messaging Service and the number that a message goes out under: STOP concerns these alone."""
        return tuple(each for each in (self._settings.messaging_service_sid, chosen or self._settings.sender) if each)

    async def check(self) -> Check:
        """Ask for the account. Sends no message."""
        path = f"/2010-04-01/Accounts/{self._settings.account_sid}.json"
        result = await self._wire.get(path, auth=self._login())
        if not isinstance(result, Answer):
            return Check(ok=False, detail=result.detail)
        account = result.decode(_Account) if result.ok else None
        if account is None:
            fault = result.decode(_Fault) or _Fault()
            return Check(ok=False, detail=words(result, fault.code, fault.message))
        return Check(ok=account.status == "active", detail=f"the account is {account.status}")

    def verify(self, callback: Callback) -> None:
        """Check `X-Twilio-Signature`: HMAC-SHA1 over the public URL and the sorted parameters, by Twilio's library.

        JSON has no parameters: then the URL carries `bodySHA256`, which must fit the body.
        """
        signature = callback.headers.get("x-twilio-signature", "")
        if not signature.isascii() or not signature:
            raise CallbackRefused("no X-Twilio-Signature")
        url = _public_url(callback, self._settings.callback_url)
        try:
            body = callback.body.decode()
        except UnicodeDecodeError:
            raise CallbackRefused("the body is not UTF-8") from None
        if _is_json(callback) and "bodySHA256" not in parse_qs(urlsplit(url).query):
            raise CallbackRefused("JSON without bodySHA256 is not signed")
        # Its comparison looks at every character whatever it finds.
        if not self._validate(url, body if _is_json(callback) else _Parameters(body), signature):
            raise CallbackRefused("X-Twilio-Signature does not fit; is `callback_url` what Twilio calls?")

    def parse(self, callback: Callback) -> Sequence[StatusEvent]:
        """Read a status callback or an incoming STOP or START; anything else that Twilio reports is no event."""
        fields = _fields(callback)
        sid = fields.get("MessageSid") or fields.get("SmsSid")
        if not sid:
            raise CallbackRefused("no MessageSid", unreadable=True)
        status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
        if status in {"received", "receiving"} or ("MessageStatus" not in fields and "Body" in fields):
            return _incoming(fields, sid, self._now())
        return _status(fields, sid, status, callback.query.get(_DELIVERY), self._now())

    def segments(self, message: Message) -> int:
        """Count the SMS this text becomes."""
        return count_segments(text_of(message.content)).segments

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()

    async def _create(self, shaped: Mapping[str, Any]) -> Result:
        try:
            await self._client.messages.create_async(**shaped)  # pyright: ignore[reportUnknownMemberType] - partly typed
        except _Carried as carried:
            return carried.result
        raise AssertionError("Twilio's library made no request")  # it has no other way out

    def _login(self) -> tuple[str, str]:
        settings = self._settings
        if settings.api_key_sid is not None and settings.api_key_secret is not None:
            return settings.api_key_sid, settings.api_key_secret
        return settings.account_sid, settings.auth_token


class _Carried(Exception):
    """Leaves the SDK with what came back: its own reading of answers knows neither lost ones nor `Retry-After`."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


class _Carrier(AsyncHttpClient):
    """Takes the request that the SDK has shaped to our wire."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(_LOGGER, is_async=True)
        self._wire = wire

    async def request(
        self,
        method: str,
        uri: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the SDK's signature; the wire has its own times
        allow_redirects: bool = False,  # noqa: FBT001, FBT002 - the SDK's signature
    ) -> NoReturn:
        """Send it and leave. Only the path of `uri` counts: the host is `base_url`, whatever the environment says."""
        del params, headers, timeout, allow_redirects
        form = {name: str(value) for name, value in (data or {}).items()}
        raise _Carried(await self._wire.request(method, urlsplit(uri).path, form=form, auth=auth))


# The request. Pure.


def _shape(message: Message, settings: TwilioSettings, now: float) -> dict[str, Any] | Rejected:
    phone = message.to.removeprefix(_WHATSAPP)
    if (refused := refuse_number(phone, settings.countries)) is not None:
        return refused
    sender = _callers_sender(message) or message.sender or settings.sender
    whatsapp = message.to.startswith(_WHATSAPP) or (sender or "").startswith(_WHATSAPP)
    shaped: dict[str, Any] = {"to": _WHATSAPP + phone if whatsapp else phone}
    if sender is not None:
        shaped["from_"] = sender
    if settings.messaging_service_sid is not None:
        shaped["messaging_service_sid"] = settings.messaging_service_sid
    what = _what(message)
    if isinstance(what, Rejected):
        return what
    shaped |= what
    if message.expires_at is not None and (left := message.expires_at - now) < _VALIDITY_MOST_S:
        shaped["validity_period"] = max(1, int(left))
    if settings.callback_url is not None:
        glue = "&" if "?" in settings.callback_url else "?"
        shaped["status_callback"] = f"{settings.callback_url}{glue}{_DELIVERY}={quote(message.id, safe='')}"
    return shaped


def _what(message: Message) -> dict[str, Any] | Rejected:
    """Take the text, or the prepared template that WhatsApp wants outside a conversation (`content_sid`)."""
    template = message.options.get("content_sid") or message.content.data.get("content_sid")
    if template is not None:
        variables: Any = message.options.get("content_variables") or message.content.data.get("content_variables")
        return {"content_sid": str(template), "content_variables": msgspec.json.encode(variables or {}).decode()}
    text = text_of(message.content)
    if not text.strip():
        return Rejected(Reason.MESSAGE_INVALID, "there is no text to send")
    if len(text) > _BODY_CHARS:
        return Rejected(Reason.TOO_LARGE, f"{len(text)} characters; Twilio takes {_BODY_CHARS}")
    return {"body": text}


def _callers_sender(message: Message) -> str | None:
    sender = message.options.get("from")
    return sender if isinstance(sender, str) and sender else None


def _rate(settings: TwilioSettings) -> str | None:
    """State what one sender passes on a second; a Messaging Service has as much as its pool, which Twilio knows."""
    sender = settings.sender
    if settings.messaging_service_sid is not None or sender is None:
        return None
    if sender.startswith(_WHATSAPP):
        return "80/s"
    if _SHORT_CODE(sender):
        return "100/s"
    return "1/s" if _PHONE(sender) else "10/s"  # a long code; "up to 10 message segments per second" for names


# The answer. Pure.


class _Created(msgspec.Struct, frozen=True):
    sid: str
    status: str | None = None
    error_code: int | None = None
    error_message: str | None = None


class _Fault(msgspec.Struct, frozen=True):
    code: int | None = None
    message: str | None = None


class _Account(msgspec.Struct, frozen=True):
    status: str


_CODES: Final[Mapping[int, Reason]] = {
    20003: Reason.ACCOUNT_PROBLEM,  # authentication
    20005: Reason.ACCOUNT_PROBLEM,  # account not active
    20006: Reason.ACCOUNT_PROBLEM,  # access denied
    20404: Reason.ACCOUNT_PROBLEM,  # no such account: only its SID stands in the path
    20429: Reason.RATE_LIMITED,
    21211: Reason.ADDRESS_DEAD,  # "Invalid 'To' Phone Number"
    21408: Reason.POLICY,  # the account may not write to that region
    21602: Reason.MESSAGE_INVALID,  # no body
    21608: Reason.POLICY,  # trial accounts write to verified numbers only
    21610: Reason.OPTED_OUT,  # "replied with STOP": for that sender, until START
    21611: Reason.RATE_LIMITED,  # the sender's queue is full
    21612: Reason.INVALID_ADDRESS,  # this To cannot be reached from this From
    21614: Reason.ADDRESS_DEAD,  # not a mobile number
    21617: Reason.TOO_LARGE,
    21635: Reason.ADDRESS_DEAD,  # a landline
    21703: Reason.ACCOUNT_PROBLEM,  # the Messaging Service has no phone numbers
    21704: Reason.ACCOUNT_PROBLEM,  # the Messaging Service has no sender for that country
    30001: Reason.RATE_LIMITED,  # queue overflow
    30002: Reason.ACCOUNT_PROBLEM,  # account suspended
    30003: Reason.RETRY,  # unreachable handset: off, out of reach
    30004: Reason.INVALID_ADDRESS,  # blocked at the destination
    30005: Reason.ADDRESS_DEAD,  # unknown handset
    30006: Reason.ADDRESS_DEAD,  # a landline, or a carrier that cannot be reached
    30007: Reason.CONTENT_REFUSED,  # filtered
    30008: Reason.RETRY,  # unknown error
    30032: Reason.ACCOUNT_PROBLEM,  # toll-free number not verified
    30034: Reason.ACCOUNT_PROBLEM,  # unregistered number in the USA
    30410: Reason.TIMED_OUT,  # the carrier did not answer
    63016: Reason.POLICY,  # WhatsApp: free text outside a conversation, use `content_sid`
    63018: Reason.RATE_LIMITED,  # WhatsApp
    63024: Reason.INVALID_ADDRESS,  # WhatsApp: invalid recipient
    63038: Reason.RATE_LIMITED,  # the account's messages for this day are used up
}
_SENDER_CODES: Final = frozenset({21212, 21603, 21606, 21659, 21660, 21661, 63007})
"""The From is missing, wrong or not ours: the account's fault, or the message's where the caller chose it."""
_LATER: Final = frozenset({Reason.RATE_LIMITED, Reason.RETRY, Reason.TIMED_OUT})

_ACCOUNT_STATUSES: Final = frozenset({401, 403})
_TOO_MANY: Final = 429
_FIRST_SERVER_ERROR: Final = 500


def _read(answer: Answer, *, callers_sender: bool) -> Outcome | None:
    if answer.ok:
        created = answer.decode(_Created)
        if created is None or not created.sid:
            return None
        if created.status == "failed" and created.error_code is not None:
            return _refusal(answer, created.error_code, created.error_message, callers_sender=callers_sender)
        return Accepted(created.sid)
    if answer.status >= _FIRST_SERVER_ERROR:  # 503 too: nothing says that the message was not created
        fault = answer.decode(_Fault) or _Fault()
        return Unknown(Reason.TIMED_OUT, words(answer, fault.code, fault.message))
    fault = answer.decode(_Fault)
    if fault is None or fault.code is None:
        return None
    return _refusal(answer, fault.code, fault.message, callers_sender=callers_sender)


def _refusal(answer: Answer, code: int, sentence: str | None, *, callers_sender: bool) -> Retry | Rejected:
    said = words(answer, code, sentence)
    if code in _SENDER_CODES:
        return Rejected(Reason.MESSAGE_INVALID if callers_sender else Reason.ACCOUNT_PROBLEM, said)
    reason = _CODES.get(code)
    if reason is None:
        if answer.status in _ACCOUNT_STATUSES:
            return Rejected(Reason.ACCOUNT_PROBLEM, said)
        reason = Reason.RATE_LIMITED if answer.status == _TOO_MANY else Reason.RETRY
    return Retry(reason, answer.retry_after, said) if reason in _LATER else Rejected(reason, said)


# Callbacks. Pure.

_EVENTS: Final[Mapping[str, EventType]] = {
    "sent": EventType.SENT,
    "delivered": EventType.DELIVERED,
    "read": EventType.READ,
    "undelivered": EventType.BOUNCED,  # taken, then not delivered by the carrier
    "failed": EventType.FAILED,
    "canceled": EventType.FAILED,
}
"""The others (`accepted`, `scheduled`, `queued`, `sending`) say what the answer to the request has said."""

# https://help.twilio.com/articles/223134027: the default keywords; only a message of that one word counts.
_STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "REVOKE", "OPTOUT"})
_START: Final = frozenset({"START", "YES", "UNSTOP"})


class _Parameters(dict[str, list[str]]):
    """The parameters of a form as Twilio's validator reads those of Django: every value of a repeated name."""

    def __init__(self, body: str) -> None:
        super().__init__()
        for name, value in parse_qsl(body, keep_blank_values=True):
            self.setdefault(name, []).append(value)

    def getlist(self, name: str) -> list[str]:
        """Give all values of one name."""
        return self[name]


def _public_url(callback: Callback, configured: str | None) -> str:
    """Rebuild the URL that Twilio called: a proxy before us changes scheme and host, never the query."""
    query = urlsplit(callback.url).query or urlencode(callback.query)
    front = (configured or callback.url).partition("?")[0]
    return f"{front}?{query}" if query else front


def _is_json(callback: Callback) -> bool:
    return callback.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


def _fields(callback: Callback) -> Mapping[str, str]:
    if _is_json(callback):
        try:
            found = msgspec.json.decode(callback.body, type=dict[str, object])
        except (msgspec.DecodeError, RecursionError):
            raise CallbackRefused("not a JSON object", unreadable=True) from None
        return {name: str(value) for name, value in found.items() if value is not None}
    try:
        return dict(parse_qsl(callback.body.decode(), keep_blank_values=True)) or callback.query
    except UnicodeDecodeError:
        raise CallbackRefused("the body is not UTF-8", unreadable=True) from None


def _status(
    fields: Mapping[str, str], sid: str, status: str, delivery: str | None, now: float
) -> Sequence[StatusEvent]:
    kind = _EVENTS.get(status)
    if kind is None:
        return ()
    code = fields.get("ErrorCode", "")
    number = int(code) if code.isascii() and code.isdigit() and len(code) <= 6 else 0  # noqa: PLR2004 - codes have five
    reason = Reason.ACCOUNT_PROBLEM if number in _SENDER_CODES else _CODES.get(number)
    return (
        StatusEvent(
            type=kind,
            at=now,  # Twilio sends no time
            provider_id=sid,
            message_id=delivery,
            address=_bare(fields.get("To")),
            sender=fields.get("MessagingServiceSid") or fields.get("From"),
            reason=reason,
            detail=f"{status} {number}" if number else status,
            event_id=f"{sid}:{status}",  # the same for a repeated callback
        ),
    )


def _incoming(fields: Mapping[str, str], sid: str, now: float) -> Sequence[StatusEvent]:
    """Read STOP and START: one event for each name of ours that it was sent to, the service and its number.

    `OptOutType` is there where the Messaging Service has its own keywords, and then decides. Twilio answers HELP.
    """
    said = fields.get("OptOutType", "").upper() or fields.get("Body", "").strip().upper()
    sender = _bare(fields.get("From"))
    if sender is None or said not in _STOP | _START:
        return ()
    stop = said in _STOP
    return tuple(
        StatusEvent(
            type=EventType.UNSUBSCRIBED if stop else EventType.RESUBSCRIBED,
            at=now,  # Twilio sends no time
            address=sender,
            sender=ours,
            reason=Reason.OPTED_OUT if stop else None,
            detail=f"{'STOP' if stop else 'START'} to {ours}",
            event_id=sid,
        )
        for ours in (fields.get("MessagingServiceSid"), fields.get("To"))
        if ours
    )


def _bare(number: str | None) -> str | None:
    return number.removeprefix(_WHATSAPP) if number else None


# Settings.


def _refuse_what_cannot_work(settings: TwilioSettings) -> None:
    if not _SID(settings.account_sid) or not settings.account_sid.startswith("AC"):
        raise SettingsFault("account_sid", "an account's SID is AC and 32 hexadecimal digits")
    if not settings.auth_token:
        raise SettingsFault("auth_token", "it is empty")
    if (settings.api_key_sid is None) != (settings.api_key_secret is None):
        raise SettingsFault("api_key_secret", "api_key_sid and api_key_secret belong together: set both or neither")
    if settings.messaging_service_sid is None and settings.sender is None:
        raise SettingsFault("sender", "set messaging_service_sid or sender")
    service = settings.messaging_service_sid
    if service is not None and not (_SID(service) and service.startswith("MG")):
        raise SettingsFault("messaging_service_sid", "a Messaging Service's SID is MG and 32 hexadecimal digits")
    if settings.callback_url is not None:
        _refuse_callback_url(settings.callback_url)
    check_countries(settings.countries)


def _refuse_callback_url(url: str) -> None:
    try:
        split = urlsplit(url)
        sound = split.scheme in {"https", "http"} and bool(split.hostname) and not split.fragment
        _ = split.port  # raises for what is no number
    except ValueError:
        sound = False
    if not sound or not url.isascii() or " " in url:
        raise SettingsFault("callback_url", "write https://host/v1/callbacks/NAME, as Twilio can reach it")
