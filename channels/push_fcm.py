"""Push to phones through Firebase Cloud Messaging, HTTP v1: the adapter `push_fcm`.

Owns the message, the access token and Google's error codes. Refuses to know which devices a person has.

Its pages: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages (the message),
https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode (the codes; the message's limit: "4096 bytes for most
messages"), https://firebase.google.com/docs/cloud-messaging/throttling-and-quotas ("600,000 per minute" and, on 429
without a header, "a minimum of 60 seconds"), https://developers.google.com/identity/protocols/oauth2/service-account.

google-auth signs; the wire is `channels.http`. FCM says what it took, never what arrived: there are no receipts.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, cast

import msgspec
from google.auth import jwt
from google.auth.crypt import RSASigner
from msgspec import Meta

from channels.contract import (
    Accepted,
    Check,
    Limits,
    Message,
    OptionFault,
    Outcome,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Tools,
)
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.push_words import own_structure, shown

__all__ = ["FcmChannel", "FcmSettings"]

_PAYLOAD_OCTETS: Final = 4096
_TTL_MOST_S: Final = 2_419_200  # "an integer representing a duration in seconds between 0 and 2,419,200 (4 weeks)"
_QUOTA_S: Final = 60.0
_TOKEN_S: Final = 3600  # the longest life Google gives an access token
_TOKEN_REST_S: Final = 300  # it is renewed with this much of its life left
_COLLAPSE_OCTETS: Final = 64  # Apple's limit for apns-collapse-id
_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523 2.1

# What a template or a caller may set of FCM's Message; the target (token, topic, condition) is ours alone.
_PARTS: Final = frozenset({"notification", "data", "android", "apns", "webpush", "fcm_options"})


class FcmSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One Firebase project."""

    service_account: str
    """The JSON of a service account's key, whole: `{ file = "/run/secrets/fcm.json" }`."""
    project_id: str | None = None
    """Where it is not the service account's own project."""
    base_url: str = "https://fcm.googleapis.com"


class FcmOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say: parts of FCM's message, laid over ours."""

    notification: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    android: dict[str, Any] | None = None
    apns: dict[str, Any] | None = None
    webpush: dict[str, Any] | None = None
    fcm_options: dict[str, Any] | None = None
    ttl_s: Annotated[int, Meta(ge=0, le=_TTL_MOST_S)] | None = None


class FcmChannel:
    """Sends to the apps of one project."""

    kind: ClassVar[str] = "mobile_push"
    Settings: ClassVar[type[msgspec.Struct]] = FcmSettings
    Overrides: ClassVar[type[msgspec.Struct]] = FcmOverrides

    def __init__(self, settings: FcmSettings, tools: Tools) -> None:
        account = _account(settings.service_account)
        self.limits = Limits(message_bytes=_PAYLOAD_OCTETS, rate="10000/s", concurrency=settings.connections)
        self._now = tools.now
        self._wire = Wire(settings, tools, base_url=settings.base_url)
        self._tokens = _Tokens(account, self._wire, tools)
        self._path = f"/v1/projects/{_project(settings.project_id or account.project_id)}/messages:send"

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """Weigh the caller's own parts as Google does: what is shown and what is handed to the app."""
        size = _weight(options)
        if size <= _PAYLOAD_OCTETS:
            return []
        return [OptionFault(field="", code="too_long", message=f"{size} bytes; FCM takes {_PAYLOAD_OCTETS}")]

    async def send(self, message: Message) -> Outcome:
        """Send to one device. Never raises for what Google does; safe to call concurrently."""
        shaped = _shape(message, self._now())
        if isinstance(shaped, Rejected):
            return shaped
        token = await self._tokens.get()
        if not isinstance(token, str):
            return token
        result = await self._wire.post(self._path, json=shaped, headers={"Authorization": f"Bearer {token}"})
        if isinstance(result, Answer) and result.status == _UNAUTHORIZED:
            self._tokens.forget(token)
        return judge(result, _read)

    async def check(self) -> Check:
        """Ask for an access token. Sends nothing."""
        self._tokens.forget_all()
        token = await self._tokens.get()
        if isinstance(token, str):
            return Check(ok=True, detail="Google gave an access token")
        return Check(ok=False, detail=token.detail or "no access token")

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The access token.


class _Account(msgspec.Struct, frozen=True):
    """What we need of a service account's key file."""

    client_email: str
    private_key: str
    private_key_id: str = ""
    project_id: str = ""
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address

    def __repr__(self) -> str:
        return "_Account(...)"


class _Granted(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = _TOKEN_S


class _Denied(msgspec.Struct, frozen=True):
    error: str | None = None
    error_description: str | None = None


class _Tokens:
    """One access token for all messages, fetched by whoever comes first; the others wait for it."""

    def __init__(self, account: _Account, wire: Wire, tools: Tools) -> None:
        self._account = account
        self._signer = _signer(account)
        self._wire = wire
        self._now = tools.now
        self._lock = asyncio.Lock()
        self._token = ""
        self._until = 0.0

    async def get(self) -> str | Retry | Rejected:
        """Give a token that lives for some minutes yet, or say why there is none. No message was sent then."""
        async with self._lock:
            if self._token and self._now() < self._until:
                return self._token
            asked = self._now()
            result = await self._wire.post(
                self._account.token_uri, form={"grant_type": _GRANT, "assertion": self._assertion(asked)}
            )
            if not isinstance(result, Answer):
                return Retry(Reason.PROVIDER_DOWN, detail=f"access token: {result.detail}")
            granted = result.decode(_Granted) if result.ok else None
            if granted is None:
                return _no_token(result)
            self._token, self._until = granted.access_token, asked + granted.expires_in - _TOKEN_REST_S
            return self._token

    def forget(self, token: str) -> None:
        """Fetch a new one next time, if this is still the one."""
        if token == self._token:
            self.forget_all()

    def forget_all(self) -> None:
        """Fetch a new one next time."""
        self._token = ""

    def _assertion(self, now: float) -> str:
        claims = {
            "iss": self._account.client_email,
            "scope": _SCOPE,
            "aud": self._account.token_uri,
            "iat": int(now),
            "exp": int(now) + _TOKEN_S,
        }
        return jwt.encode(self._signer, claims).decode("ascii")  # pyright: ignore[reportUnknownMemberType] - untyped


_UNAUTHORIZED: Final = 401
_DENIED: Final = frozenset({400, 401, 403})


def _no_token(answer: Answer) -> Retry | Rejected:
    denied = answer.decode(_Denied) or _Denied()
    said = words(answer, "access token:", denied.error, denied.error_description)
    if answer.status in _DENIED:  # invalid_grant: a revoked key, or our clock is wrong
        return Rejected(Reason.ACCOUNT_PROBLEM, said)
    return Retry(Reason.PROVIDER_DOWN, answer.retry_after, said)


# The request. Pure.


def _shape(message: Message, now: float) -> dict[str, Any] | Rejected:
    if not message.to.strip():
        return Rejected(Reason.INVALID_ADDRESS, "no registration token")
    own = own_structure(message.content)
    if own is not None and (strange := sorted(own.keys() - _PARTS)):
        return Rejected(Reason.MESSAGE_INVALID, f"not a part of FCM's message: {', '.join(strange)[:100]}")
    parts = _native(message) if own is None else dict(own)
    parts = _laid_over(_delivery(message, now), parts)
    parts = _laid_over(parts, {name: value for name, value in message.options.items() if name in _PARTS})
    if not parts.get("notification") and not parts.get("data"):
        return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title, no text and no data")
    size = _weight(parts)
    if size > _PAYLOAD_OCTETS:
        return Rejected(Reason.TOO_LARGE, f"{size} bytes; FCM takes {_PAYLOAD_OCTETS}")
    if isinstance(data := parts.get("data"), Mapping):  # "data: map (key: string, value: string)"
        parts["data"] = {name: _as_text(value) for name, value in cast("Mapping[str, object]", data).items()}
    return {"message": {**parts, "token": message.to}}


def _weight(parts: Mapping[str, Any]) -> int:
    return len(msgspec.json.encode({name: parts[name] for name in ("notification", "data") if name in parts}))


def _native(message: Message) -> dict[str, Any]:
    found = shown(message.content)
    notification = {"title": found.title, "body": found.body, "image": found.image_url}
    parts: dict[str, Any] = {"notification": {name: word for name, word in notification.items() if word}}
    if found.url:
        parts["data"] = {"url": found.url}
    return parts


def _delivery(message: Message, now: float) -> dict[str, Any]:
    """Say how long the message is worth delivering, and what it replaces, in Android's terms and in Apple's."""
    android: dict[str, Any] = {}
    apns: dict[str, str] = {}
    wished = message.options.get("ttl_s")
    left = None if message.expires_at is None else max(0, int(message.expires_at - now))
    ttl_s = min(wished, left if left is not None else wished) if isinstance(wished, int) and wished >= 0 else left
    if ttl_s is not None and ttl_s < _TTL_MOST_S:  # four weeks is the default
        android["ttl"] = f"{ttl_s}s"
        apns["apns-expiration"] = str(int(now) + ttl_s)
    collapse = message.options.get("collapse_key")
    if isinstance(collapse, str) and collapse:
        long = len(collapse.encode()) > _COLLAPSE_OCTETS
        key = hashlib.sha256(collapse.encode()).hexdigest()[:_COLLAPSE_OCTETS] if long else collapse
        android["collapse_key"] = key
        apns["apns-collapse-id"] = key
    return ({"android": android} if android else {}) | ({"apns": {"headers": apns}} if apns else {})


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one structure over the other, object by object."""
    both = dict(under)
    for name, value in over.items():
        below = both.get(name)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            both[name] = _laid_over(cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", value))
        else:
            both[name] = value
    return both


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# The answer. Pure.


class _Sent(msgspec.Struct, frozen=True):
    name: str


class _Violation(msgspec.Struct, frozen=True):
    field: str = ""
    description: str = ""


class _Detail(msgspec.Struct, frozen=True, rename="camel"):
    error_code: str | None = None
    field_violations: tuple[_Violation, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""
    details: tuple[_Detail, ...] = ()

    @property
    def code(self) -> str:
        """FCM's own code; Google's general one (`NOT_FOUND`, `UNAUTHENTICATED`) where it gives none."""
        return next((each.error_code for each in self.details if each.error_code), self.status)


class _Failed(msgspec.Struct, frozen=True):
    error: _Error


_REFUSALS: Final[Mapping[str, Reason]] = {
    "UNREGISTERED": Reason.ADDRESS_DEAD,
    # The token belongs to another project. One caller's token, so it may not stop the provider for all.
    "SENDER_ID_MISMATCH": Reason.INVALID_ADDRESS,
    "THIRD_PARTY_AUTH_ERROR": Reason.ACCOUNT_PROBLEM,  # our certificate at Apple, our key for browsers
    "UNAUTHENTICATED": Reason.ACCOUNT_PROBLEM,
    "PERMISSION_DENIED": Reason.ACCOUNT_PROBLEM,
}
_DOWN: Final = frozenset({"INTERNAL", "UNAVAILABLE"})
_NOT_A_TOKEN: Final = "not a valid FCM registration token"  # noqa: S105 - their sentence


def _read(answer: Answer) -> Outcome | None:
    if answer.ok:
        sent = answer.decode(_Sent)
        return Accepted(sent.name) if sent is not None else None
    failed = answer.decode(_Failed)
    if failed is None:
        return None
    error = failed.error
    said = words(answer, error.code, error.message)
    if error.code == "QUOTA_EXCEEDED" or error.status == "RESOURCE_EXHAUSTED":
        return Retry(Reason.RATE_LIMITED, _QUOTA_S if answer.retry_after is None else answer.retry_after, said)
    if error.code in _DOWN:  # "You could retry the same request"
        return Retry(Reason.PROVIDER_DOWN, answer.retry_after, said)
    if error.code == "INVALID_ARGUMENT":
        return Rejected(_invalid(error), said)
    reason = _REFUSALS.get(error.code)
    return None if reason is None else Rejected(reason, said)


def _invalid(error: _Error) -> Reason:
    """Find out what is invalid: suppressing an address for a fault of ours would be for ever."""
    violations = [each for detail in error.details for each in detail.field_violations]
    if _NOT_A_TOKEN in error.message or any(each.field == "message.token" for each in violations):
        return Reason.ADDRESS_DEAD
    if "too big" in error.message.lower() or any("too big" in each.description.lower() for each in violations):
        return Reason.TOO_LARGE
    return Reason.MESSAGE_INVALID


# Settings.


def _account(text: str) -> _Account:
    try:
        account = msgspec.json.decode(text, type=_Account)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise SettingsFault(
            "service_account", "not the JSON of a service account's key (client_email, private_key, project_id)"
        ) from None
    if not account.token_uri.startswith(("https://", "http://")):
        raise SettingsFault("service_account", "its token_uri is no address")
    return account


def _signer(account: _Account) -> RSASigner:
    info = {"private_key": account.private_key, "private_key_id": account.private_key_id}
    try:
        return cast("RSASigner", RSASigner.from_service_account_info(info))  # pyright: ignore[reportUnknownMemberType] - untyped
    except ValueError:
        raise SettingsFault("service_account", "its private_key is no RSA key in PEM") from None


def _project(name: str) -> str:
    if not name or not name.isascii() or not name.replace("-", "").replace(":", "").replace(".", "").isalnum():
        raise SettingsFault("project_id", "name the Firebase project: letters, digits and hyphens")
    return name
