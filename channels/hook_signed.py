"""Outgoing webhooks, signed: the adapter `hook_signed`.

Owns the body, the signature and the reading of an endpoint's answer, as the Standard Webhooks specification has them
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md). Refuses to know whose
endpoint it is, and when an endpoint has failed for so long that it is switched off: that is the gateway's.

The address belongs to a caller: it is checked before anything is resolved, and the address that was checked is the one
that is dialled (`channels.address_guard`). Nothing of an endpoint's answer but its status is repeated anywhere: error
text must not show anyone what stands behind an address.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, cast

import msgspec
from msgspec import Meta

from channels.contract import Accepted, Limits, Message, Outcome, Reason, Rejected, Retry, SettingsFault, Tools
from channels.http import Answer, Guard, Wire, WireSettings, judge, words

__all__ = ["SignedHookChannel", "SignedHookSettings", "payload", "sign", "signing_key"]

Seconds = Annotated[float, Meta(gt=0, le=30)]
"""The specification: "somewhere between 15 and 30s"."""

_KEY_OCTETS: Final = range(24, 65)  # the specification: "At least 24 bytes (192 bits, 512 maximum)"
_BODY_OCTETS: Final = 262_144  # ours; the specification advises 20 kB and sets no limit
_SLOW_DOWN_S: Final = 60.0  # ours, where 429, 502 or 504 names no wait of its own
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch  # no dot: it separates the signed parts
_SHOWN: Final = frozenset({"title", "body", "url", "image_url", "actions"})  # what `content` is made of


class SignedHookSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How endpoints are called. Proxies are not used: they would resolve names past our check."""

    secrets: Annotated[tuple[str, ...], Meta(max_length=10)] = ()
    """`whsec_` and base64 of 24 to 64 random bytes. Each signs: keep an old one beside the new while receivers change.
    Endpoints that have secrets of their own (`Message.options["secrets"]`) are signed with those instead."""
    allow_private: tuple[str, ...] = ()
    """Networks that may be called although they are not public: `["10.1.2.0/24"]`."""
    plain_private: bool = False
    """Whether addresses in those networks, written as numbers, may be called over plain http and on any port."""
    ports: tuple[Annotated[int, Meta(ge=1, le=65_535)], ...] = (443,)
    allow_http_hosts: tuple[str, ...] = ()
    """Hosts that may be called without TLS, for tests."""
    connect_timeout_s: Seconds = 10.0
    read_timeout_s: Seconds = 20.0
    total_timeout_s: Seconds = 30.0
    answer_limit_bytes: Annotated[int, Meta(ge=1024, le=65_536)] = 4096
    """Answers are read to free the connection, and are never used."""

    __repr__ = WireSettings.__repr__


class SignedHookOverrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request may say about one endpoint."""

    secrets: Annotated[list[str], Meta(max_length=10)] | None = None
    """Of this endpoint alone (`whsec_…`), in the place of the provider's."""
    webhook_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


class SignedHookChannel:
    """Posts JSON to addresses that callers name, signed so that they can tell it is ours."""

    kind: ClassVar[str] = "webhook"
    Settings: ClassVar[type[msgspec.Struct]] = SignedHookSettings
    Overrides: ClassVar[type[msgspec.Struct]] = SignedHookOverrides

    def __init__(self, settings: SignedHookSettings, tools: Tools) -> None:
        self.limits = Limits(
            message_bytes=_BODY_OCTETS,
            concurrency=settings.connections,
            idempotent=True,  # receivers know a repeated message by its `webhook-id`
        )
        self._keys = [_settings_key(index, secret) for index, secret in enumerate(settings.secrets)]
        self._guard = _guard(settings)
        self._now = tools.now
        self._wire = Wire(settings, tools, guard=self._guard)

    def refuse(self, address: str) -> str | None:
        """Say why an address may not be called, or `None`: what `send` asks too, before anything is resolved."""
        return self._guard.check_url(address)

    async def send(self, message: Message) -> Outcome:
        """Post one message. Never raises for what endpoints do; safe to call concurrently."""
        if self.refuse(message.to) is not None:
            return Rejected(Reason.INVALID_ADDRESS, "the address is not one that may be called")
        body = payload(message)
        if len(body) > _BODY_OCTETS:
            return Rejected(Reason.TOO_LARGE, f"{len(body)} bytes; at most {_BODY_OCTETS} are sent")
        try:
            keys = _own_keys(message.options) or self._keys
            name = _own_id(message)
        except ValueError as fault:
            return Rejected(Reason.MESSAGE_INVALID, str(fault))
        if not keys:
            return Rejected(
                Reason.MESSAGE_INVALID, "no secret to sign with: neither the endpoint nor the provider has one"
            )
        at = int(self._now())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": name,
            "webhook-timestamp": str(at),  # of the attempt, not of the event: receivers refuse what is old
            "webhook-signature": sign(keys, name, at, body),
        }
        result = await self._wire.post(message.to, content=body, headers=headers)
        return judge(result, _read, callers_endpoint=True)

    def address_fault(self, address: str) -> str | None:
        """Say why an endpoint may not be called."""
        return self._guard.check_url(address)

    def raw(self, message: Message) -> bytes:
        """Show the bytes that would be posted."""
        return payload(message)

    async def aclose(self) -> None:
        """Close the connections. Repeatable."""
        await self._wire.aclose()


# What is sent. Pure.


def payload(message: Message) -> bytes:
    """Write the body: a structure of the template's or the gateway's own as it stands, else `type, timestamp, data`.

    The envelope is the specification's ("Payload structure"); `data` then holds `title`, `body` and what else was
    given to show. The same message is the same bytes at every attempt.
    """
    content = message.content
    if content.data and not _SHOWN.issuperset(content.data):
        return msgspec.json.encode(content.data)
    data = {"title": content.subject, "body": content.text, **content.data}
    at = datetime.fromtimestamp(message.created_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    shown = {"type": "notification", "timestamp": at, "data": {**data, "category": message.category}}
    return msgspec.json.encode(shown)


def signing_key(secret: str) -> bytes:
    """Read a `whsec_` secret. Raises `ValueError`, whose text repeats nothing of it."""
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("a secret is `whsec_` and base64") from None
    if len(key) not in _KEY_OCTETS:
        raise ValueError(f"a secret is base64 of {_KEY_OCTETS.start} to {_KEY_OCTETS.stop - 1} bytes")
    return key


def sign(keys: Sequence[bytes], name: str, at: int, body: bytes) -> str:
    """Make the `webhook-signature`: one `v1,` signature for each key, separated by spaces. `at` is Unix time."""
    signed = b"%b.%d.%b" % (name.encode(), at, body)
    return " ".join("v1," + b64encode(hmac.digest(key, signed, hashlib.sha256)).decode("ascii") for key in keys)


def _own_keys(options: Mapping[str, Any]) -> list[bytes]:
    """Read the secrets that belong to this one endpoint."""
    secrets: object = options.get("secrets") or ()
    if not isinstance(secrets, list | tuple):
        raise ValueError("`secrets` is a list of text")  # noqa: TRY004 - a fault of the message, told as one
    return [signing_key(str(each)) for each in cast("Sequence[object]", secrets)]


def _own_id(message: Message) -> str:
    """Name the message: by the event it tells of, where the gateway says so, so that a replayed one is known again."""
    name = str(message.options.get("webhook_id") or message.id)
    if not _ID(name):
        raise ValueError("a webhook id is 1 to 128 letters, digits, hyphens and underscores")
    return name


# What an endpoint's answer means. Pure.

_GONE: Final = 410
_SLOWER: Final = frozenset({429, 502, 504})


def _read(answer: Answer) -> Outcome | None:
    """Read a status as the specification does ("Delivery success and failure").

    Any 2xx is success. 410: "no longer interested in receiving webhooks from this source". At 429, 502 and 504 "it's
    recommended to throttle". 502 and 504 may have been acted upon; the `webhook-id` makes it harmless to send again.
    """
    if answer.ok:
        return Accepted(detail=words(answer))
    if answer.status == _GONE:
        return Rejected(Reason.ADDRESS_DEAD, words(answer))
    if answer.status in _SLOWER:
        after = _SLOW_DOWN_S if answer.retry_after is None else answer.retry_after
        return Retry(Reason.RETRY, after, words(answer))
    return None


# Settings.


def _settings_key(index: int, secret: str) -> bytes:
    try:
        return signing_key(secret)
    except ValueError as fault:
        raise SettingsFault(f"secrets[{index}]", str(fault)) from None


def _guard(settings: SignedHookSettings) -> Guard:
    try:
        return Guard(settings.allow_private, settings.ports, settings.allow_http_hosts, settings.plain_private)
    except ValueError:
        raise SettingsFault("allow_private", "write networks such as 10.1.2.0/24") from None
