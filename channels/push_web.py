"""Push to browsers: the adapter `push_web`.

Owns subscriptions, the encrypted payload (RFC 8291), our signature (VAPID, RFC 8292) and what push services answer
(RFC 8030; Mozilla's list: https://mozilla-services.github.io/autopush-rs/errors.html). Refuses to know who subscribed.

The endpoint is a caller's word. It is dialled through the address guard, and nothing that one push service does stops
or slows this provider: all its answers are that one delivery's affair. A refused signature is logged with the service.

pywebpush encrypts, py_vapid signs; the wire is `channels.http`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, cast
from urllib.parse import urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec import Meta
from py_vapid import Vapid02, VapidException  # pyright: ignore[reportMissingTypeStubs] - it ships none
from pywebpush import WebPusher  # pyright: ignore[reportMissingTypeStubs] - it ships none

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
from channels.http import Answer, Guard, Wire, WireSettings, judge, words
from channels.push_words import own_structure, shown

__all__ = ["Subscription", "VapidKeys", "WebPushChannel", "WebPushSettings", "read_subscription", "vapid_keys"]

_PLAINTEXT_OCTETS: Final = 3993  # RFC 8291 4: 4,096 less header (86), padding delimiter (1) and tag (16)
_TTL_MOST_S: Final = 2_419_200  # four weeks, the most that Google keeps; Mozilla takes 2,592,000
_TOKEN_S: Final = 43_200  # RFC 8292 2: "MUST NOT be more than 24 hours"; half of it forgives clocks that differ
_TOKEN_REST_S: Final = 3_600  # a token is renewed with this much of its life left
_ORIGINS_MOST: Final = 256  # callers name the origins; browsers use four
_TOPIC_CHARS: Final = 32  # RFC 8030 5.4
_TOPIC: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{_TOPIC_CHARS}}}").fullmatch
_KEY_OCTETS: Final = 32
_POINT_OCTETS: Final = 65  # RFC 8291 3.1: an uncompressed point, which begins with 4
_SECRET_OCTETS: Final = 16  # RFC 8291 3.2

# Chrome, Edge and Opera; Firefox; Safari; Edge on Windows. An entry with a dot in front covers the names below it.
_KNOWN_HOSTS: Final = (
    "fcm.googleapis.com",
    "jmt17.google.com",
    ".push.services.mozilla.com",
    ".push.apple.com",
    ".notify.windows.com",
)

Urgency = Literal["very-low", "low", "normal", "high"]  # RFC 8030 5.3
_URGENCIES: Final = frozenset({"very-low", "low", "normal", "high"})


class WebPushSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key pair. `gateway vapid` makes it; browsers subscribe with its public half."""

    private_key: str
    """32 octets as base64url, as `vapid_keys` writes them."""
    subject: str
    """Whom a push service may write to about us: `mailto:ops@example.com` or an https URL (RFC 8292 2.1)."""
    ttl_s: Annotated[int, Meta(ge=0, le=_TTL_MOST_S)] = _TTL_MOST_S
    """How long a push service keeps a message for a browser that is away; the message's expiry shortens it."""
    urgency: Urgency = "normal"
    known_hosts_only: bool = False
    """Refuse endpoints that are not Google's, Mozilla's, Apple's or Microsoft's."""
    allow_private: tuple[str, ...] = ()
    """Networks of push services of your own, such as `10.1.2.0/24`."""
    ports: tuple[Annotated[int, Meta(ge=1, le=65_535)], ...] = (443,)
    allow_http_hosts: tuple[str, ...] = ()
    """Hosts that may be called without TLS, for tests."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A browser's `PushSubscription`, checked. `p256dh` and `auth` as the browser wrote them, without padding."""

    endpoint: str
    p256dh: str
    auth: str

    @property
    def origin(self) -> str:
        """Scheme, host and port: the audience of our signature."""
        split = urlsplit(self.endpoint)
        return f"{split.scheme}://{split.netloc}".lower()


class VapidKeys(msgspec.Struct, frozen=True, kw_only=True):
    """A new key pair: `private_key` for the configuration, `public_key` for `pushManager.subscribe`."""

    private_key: str
    public_key: str

    def __repr__(self) -> str:
        return f"VapidKeys(public_key={self.public_key!r})"


def vapid_keys() -> VapidKeys:
    """Make a key pair. Changing it later makes every subscription invalid."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = _encoded(key.private_numbers().private_value.to_bytes(_KEY_OCTETS, "big"))
    return VapidKeys(private_key=private, public_key=_public(key))


class WebPushOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say: how to deliver it, and what of `showNotification` to lay over the payload."""

    urgency: Urgency | None = None
    ttl_s: Annotated[int, Meta(ge=0)] | None = None
    """More than push services keep is as much as they keep."""
    topic: Annotated[str, Meta(max_length=255)] | None = None
    """A newer message replaces one of the same topic that was not delivered yet."""
    title: str | None = None
    body: str | None = None
    url: Annotated[str, Meta(max_length=2048)] | None = None
    image: Annotated[str, Meta(max_length=2048)] | None = None
    icon: Annotated[str, Meta(max_length=2048)] | None = None
    badge: Annotated[str, Meta(max_length=2048)] | None = None
    tag: Annotated[str, Meta(max_length=255)] | None = None
    actions: list[dict[str, Any]] | None = None
    dir: Literal["auto", "ltr", "rtl"] | None = None
    lang: Annotated[str, Meta(max_length=35)] | None = None
    renotify: bool | None = None
    require_interaction: bool | None = msgspec.field(name="requireInteraction", default=None)
    silent: bool | None = None
    timestamp: int | None = None
    vibrate: list[int] | None = None
    data: dict[str, Any] | None = None
    """Whatever else your service worker wants to know."""


class WebPushChannel:
    """Sends to browsers with one key pair, through whichever push service each of them uses."""

    kind: ClassVar[str] = "web_push"
    Settings: ClassVar[type[msgspec.Struct]] = WebPushSettings
    Overrides: ClassVar[type[msgspec.Struct]] = WebPushOverrides

    new_keys = staticmethod(vapid_keys)
    """What `gateway vapid` calls, which knows adapters by their entry points alone."""

    def __init__(self, settings: WebPushSettings, tools: Tools) -> None:
        self.limits = Limits(message_bytes=_PLAINTEXT_OCTETS, concurrency=settings.connections)
        self._settings = settings
        self._tools = tools
        self._guard = _guard(settings)
        self._tokens = _Tokens(settings.private_key, settings.subject)
        self._wire = Wire(settings, tools, guard=self._guard)

    @property
    def public_key(self) -> str:
        """What browsers subscribe with (`applicationServerKey`), as base64url."""
        return self._tokens.public_key

    async def send(self, message: Message) -> Outcome:
        """Push one message. Never raises for what push services do; safe to call concurrently."""
        subscription = read_subscription(message.to, self._guard, known_hosts_only=self._settings.known_hosts_only)
        if isinstance(subscription, str):
            return Rejected(Reason.INVALID_ADDRESS, subscription)
        payload = _payload(message)
        if payload is None:
            return Rejected(Reason.MESSAGE_INVALID, "there is nothing to show: no title and no text")
        if len(payload) > _PLAINTEXT_OCTETS:
            return Rejected(Reason.TOO_LARGE, f"{len(payload)} bytes; a push carries {_PLAINTEXT_OCTETS}")
        now = self._tools.now()
        token = self._tokens.header(subscription.origin, now)
        if token is None:
            return Rejected(Reason.INVALID_ADDRESS, "the endpoint's host cannot stand in a signature")
        headers = {**_headers(message, self._settings, now), "Authorization": token}
        result = await self._wire.post(
            subscription.endpoint, content=_encrypted(subscription, payload), headers=headers
        )
        if isinstance(result, Answer) and result.status in _REFUSED_SIGNATURE:
            self._tokens.forget(subscription.origin)
            host = urlsplit(subscription.origin).hostname or ""
            self._tools.log(
                "web_push_signature_refused", status=result.status, service=host if _is_known(host) else "another"
            )
        return judge(result, _read, callers_endpoint=True)

    def option_faults(self, options: Mapping[str, Any]) -> Sequence[OptionFault]:
        """Weigh what would be laid over the payload: alone it may fill it."""
        size = len(msgspec.json.encode({name: own for name, own in options.items() if name not in _HEADER_OPTIONS}))
        if size <= _PLAINTEXT_OCTETS:
            return []
        return [OptionFault(field="", code="too_long", message=f"{size} bytes; a push takes {_PLAINTEXT_OCTETS}")]

    def raw(self, message: Message) -> bytes:
        """Show the payload as the service worker gets it; on the wire it is encrypted, differently each time."""
        return _payload(message) or b""

    def address_fault(self, address: str) -> str | None:
        """Say what is wrong with a subscription, as JSON text."""
        found = read_subscription(address, self._guard, known_hosts_only=self._settings.known_hosts_only)
        return found if isinstance(found, str) else None

    async def check(self) -> Check:
        """Sign once: there is nobody to ask whether a key is good, only browsers that subscribed with it."""
        return Check(ok=True, detail=f"signs for browsers that subscribed with {self.public_key}")

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# The subscription. Pure.


class _Keys(msgspec.Struct, frozen=True):
    p256dh: str
    auth: str


class _Written(msgspec.Struct, frozen=True):
    """As `JSON.stringify(subscription)` writes it; `expirationTime` and what browsers may add are not needed."""

    endpoint: str
    keys: _Keys


def read_subscription(
    text: str | Mapping[str, Any], guard: Guard | None = None, *, known_hosts_only: bool = False
) -> Subscription | str:
    """Check a subscription, as JSON text or decoded; answers what is wrong with it in words that repeat none of it."""
    try:
        written = msgspec.json.decode(text, type=_Written) if isinstance(text, str) else msgspec.convert(text, _Written)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "not a push subscription: an object with endpoint and keys (p256dh, auth)"
    fault = (guard or Guard()).check_url(written.endpoint)
    if fault is not None:
        return f"endpoint: {fault}"
    host = urlsplit(written.endpoint).hostname or ""
    if known_hosts_only and not _is_known(host):
        return "endpoint: not one of the known push services"
    point, secret = _decoded(written.keys.p256dh), _decoded(written.keys.auth)
    if point is None or len(point) != _POINT_OCTETS or not _on_the_curve(point):
        return "keys.p256dh: not a public key on P-256"
    if secret is None or len(secret) != _SECRET_OCTETS:
        return f"keys.auth: not {_SECRET_OCTETS} octets as base64url"
    return Subscription(endpoint=written.endpoint, p256dh=_encoded(point), auth=_encoded(secret))


def _is_known(host: str) -> bool:
    return any(host == known or (known[0] == "." and host.endswith(known)) for known in _KNOWN_HOSTS)


def _on_the_curve(point: bytes) -> bool:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return False
    return True


def _decoded(text: str) -> bytes | None:
    """Read base64url; with padding, and with + and / for - and _, since libraries write both."""
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


# The message.


def _payload(message: Message) -> bytes | None:
    """Write what the service worker gets: JSON, a template's own or title, body and links.

    The caller's overrides (`icon`, `badge`, `tag` …) are laid over it; headers (`urgency`, `ttl_s`, `topic`) are not.
    """
    own = own_structure(message.content)
    payload: dict[str, Any]
    if own is not None:
        payload = dict(own)
    else:
        found = shown(message.content)
        if found.title is None and found.body is None:
            return None
        payload = {"title": found.title or "", "body": found.body or ""}
        payload |= {"url": found.url} if found.url else {}
        payload |= {"image": found.image_url} if found.image_url else {}
        payload |= (
            {"actions": [{"title": each.label, "url": each.url} for each in found.actions]} if found.actions else {}
        )
    overrides = {name: value for name, value in message.options.items() if name not in _HEADER_OPTIONS}
    return msgspec.json.encode({"id": message.id, **payload, **overrides})


_HEADER_OPTIONS: Final = frozenset({"urgency", "ttl_s", "topic", "collapse_key", "list_unsubscribe"})


def _headers(message: Message, settings: WebPushSettings, now: float) -> dict[str, str]:
    urgency = message.options.get("urgency")
    headers = {
        "TTL": str(_ttl_s(message, settings, now)),
        "Urgency": urgency if isinstance(urgency, str) and urgency in _URGENCIES else settings.urgency,
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
    }
    topic = message.options.get("topic") or message.options.get("collapse_key")
    if isinstance(topic, str) and topic:
        headers["Topic"] = topic if _TOPIC(topic) else _encoded(hashlib.sha256(topic.encode()).digest())[:_TOPIC_CHARS]
    return headers


def _ttl_s(message: Message, settings: WebPushSettings, now: float) -> int:
    wished = message.options.get("ttl_s")
    ttl_s = min(wished, _TTL_MOST_S) if isinstance(wished, int) and wished >= 0 else settings.ttl_s
    if message.expires_at is None:
        return ttl_s
    return max(0, min(ttl_s, int(message.expires_at - now)))


def _encrypted(subscription: Subscription, payload: bytes) -> bytes:
    info = {
        "endpoint": subscription.endpoint,
        "keys": {"p256dh": subscription.p256dh, "auth": subscription.auth},
    }
    encoded = cast("Mapping[str, bytes]", WebPusher(info).encode(payload))
    return encoded["body"]


class _Tokens:
    """Our signatures, one for each origin. Signing costs as much as a push, so each serves for half a day."""

    def __init__(self, private_key: str, subject: str) -> None:
        self._vapid = Vapid02(_private(private_key))
        self._subject = subject
        self._known: dict[str, tuple[str, float]] = {}
        self.public_key = _public(cast("ec.EllipticCurvePrivateKey", self._vapid.private_key))
        if self._sign("https://push.example.com", 1) is None:
            raise SettingsFault("subject", "write mailto:somebody@example.com or https://example.com")

    def header(self, origin: str, now: float) -> str | None:
        """Give the `Authorization` header for an origin; `None` where the library refuses its form."""
        kept = self._known.get(origin)
        if kept is not None and kept[1] - now > _TOKEN_REST_S:
            return kept[0]
        expires = int(now) + _TOKEN_S
        signed = self._sign(origin, expires)
        if signed is None:
            return None
        self._known.pop(origin, None)
        if len(self._known) >= _ORIGINS_MOST:
            del self._known[next(iter(self._known))]  # the one signed longest ago
        self._known[origin] = (signed, expires)
        return signed

    def forget(self, origin: str) -> None:
        """Sign anew next time."""
        self._known.pop(origin, None)

    def _sign(self, origin: str, expires: int) -> str | None:
        # A new dict each time: the library's claims would leak from one push service to the next.
        claims: dict[str, object] = {"aud": origin, "exp": expires, "sub": self._subject}
        try:
            signed = cast("Mapping[str, str]", self._vapid.sign(claims))  # pyright: ignore[reportUnknownMemberType]
        except VapidException:
            return None
        return signed["Authorization"]


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    octets = _decoded(text.strip())
    if octets is None or len(octets) != _KEY_OCTETS:
        raise SettingsFault("private_key", f"not {_KEY_OCTETS} octets as base64url; `gateway vapid` makes a key pair")
    try:
        return ec.derive_private_key(int.from_bytes(octets, "big"), ec.SECP256R1())
    except ValueError:
        raise SettingsFault("private_key", "not a key on P-256; `gateway vapid` makes a key pair") from None


def _public(key: ec.EllipticCurvePrivateKey) -> str:
    return _encoded(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


# The answer. Pure.

_TAKEN: Final = frozenset({200, 201, 202})  # RFC 8030 5: 201; 5.1: 202 with a receipt; Apple has answered 200
_GONE: Final = frozenset({404, 410})  # RFC 8030 7.3: expired or unsubscribed
_TOO_LARGE: Final = 413
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_REFUSED_SIGNATURE: Final = frozenset({_UNAUTHORIZED, _FORBIDDEN})


def _read(answer: Answer) -> Outcome | None:
    said = words(answer, *_reasons(answer))
    if answer.status in _TAKEN:
        return Accepted(answer.headers.get("location"))
    if answer.status in _GONE:
        return Rejected(Reason.ADDRESS_DEAD, said)
    if answer.status == _TOO_LARGE:
        return Rejected(Reason.TOO_LARGE, said)
    if answer.status == _UNAUTHORIZED:  # the signature: perhaps our clock; the next try signs anew
        return Retry(Reason.RETRY, detail=said)
    if answer.status == _FORBIDDEN:  # RFC 8292 4.2: the browser subscribed with another key than ours
        return Rejected(Reason.INVALID_ADDRESS, said)
    return None


class _Said(msgspec.Struct, frozen=True):
    errno: int | None = None
    message: str | None = None
    reason: str | None = None


def _reasons(answer: Answer) -> tuple[object, ...]:
    """Find what Mozilla (`errno`, `message`) and Apple (`reason`) add; others answer with a sentence or a page."""
    said = answer.decode(_Said)
    return (said.errno, said.message, said.reason) if said is not None else ()


def _guard(settings: WebPushSettings) -> Guard:
    try:
        return Guard(settings.allow_private, settings.ports, settings.allow_http_hosts)
    except ValueError as error:
        raise SettingsFault("allow_private", str(error)) from None
