"""What Amazon SNS posts: whose it is, and the request to confirm a subscription.

Owns the signature, the certificate it needs, and which of SNS's URLs may be asked. Refuses to know what the messages
say. Read for it: https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from collections.abc import Callable, Collection
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from channels.contract import Callback, CallbackRefused, Check
from channels.email_parts import read_callback, unix_time
from channels.http import Answer, Wire, words

__all__ = ["Envelope", "Sns", "read_envelope"]

_CERTIFICATES: Final = 16  # kept; SNS has one for each region and renews it once a year

# SNS tries an endpoint for about an hour and keeps the message's first time. A repeated event changes nothing here, so
# the window spans an outage of ours.
_OLDEST_S: Final = 24 * 3600.0
_EARLIEST_S: Final = 300.0

_SNS_HOST: Final = re.compile(r"sns\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?").fullmatch
_CERTIFICATE_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{8,64}\.pem").fullmatch


class Sns:
    """Believes what certain topics post. `base_url` stands in the place of SNS's own hosts, for tests."""

    def __init__(
        self,
        wire: Wire,
        *,
        topics: Collection[str],
        version_1: bool,
        base_url: str | None,
        now: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._topics = topics
        self._version_1 = version_1
        self._base_url = base_url
        self._now = now
        self._keys: dict[str, _Certificate] = {}
        self._fetching = asyncio.Lock()

    async def prepare(self, callback: Callback) -> None:
        """Fetch the certificate that `verify` will need, once for each. Raises `CallbackRefused` as `verify` does."""
        envelope = self._judged(callback)
        url = envelope.certificate_url
        async with self._fetching:
            if url in self._keys:
                return
            result = await self._wire.get(self._target(url))
            if not isinstance(result, Answer) or not result.ok:
                raise CallbackRefused("SNS's certificate cannot be fetched")
            while len(self._keys) >= _CERTIFICATES:
                self._keys.pop(next(iter(self._keys)))
            self._keys[url] = _certificate(result.body)

    def verify(self, callback: Callback) -> None:
        """Check topic, signature and age of what SNS posted. The certificate is the one that `prepare` fetched."""
        envelope = self._judged(callback)
        certificate = self._keys.get(envelope.certificate_url)
        if certificate is None:
            raise CallbackRefused("SNS's certificate was not fetched")
        if not certificate.since <= self._now() <= certificate.until:
            raise CallbackRefused("SNS's certificate is not valid now")
        digest = hashes.SHA256() if envelope.version == "2" else hashes.SHA1()  # noqa: S303 - only where it is allowed
        try:
            octets = b64decode(envelope.signature, validate=True)
            certificate.key.verify(octets, _signed(envelope), padding.PKCS1v15(), digest)
        except (ValueError, InvalidSignature):
            raise CallbackRefused("the signature is wrong") from None
        age_s = self._now() - (unix_time(envelope.timestamp) or 0.0)
        if not -_EARLIEST_S <= age_s <= _OLDEST_S:
            raise CallbackRefused("the message is too old or from the future")

    async def confirm(self, callback: Callback) -> Check:
        """Answer a verified request to confirm a subscription, by a GET of its URL; nothing else is ever answered.

        May be called for any verified callback, and again.
        """
        envelope = self._judged(callback)
        if envelope.kind != "SubscriptionConfirmation":
            return Check(ok=True, detail="nothing to confirm")
        url = envelope.subscribe_url or ""
        query = parse_qs(urlsplit(url).query) if _is_sns(url, envelope.topic) else {}
        if query.get("Action") != ["ConfirmSubscription"] or query.get("TopicArn") != [envelope.topic]:
            return Check(ok=False, detail="the URL to confirm is not one of SNS's for this topic")
        result = await self._wire.get(self._target(url))
        if isinstance(result, Answer) and result.ok:
            return Check(ok=True, detail="the subscription is confirmed")
        return Check(ok=False, detail=words(result) if isinstance(result, Answer) else result.detail)

    def _judged(self, callback: Callback) -> Envelope:
        """Read the envelope and refuse, before anything is fetched, what could not be believed anyway."""
        envelope = read_envelope(callback)
        if envelope.topic not in self._topics:
            raise CallbackRefused("the topic is not among sns_topics")
        if envelope.version != "2" and not (envelope.version == "1" and self._version_1):
            raise CallbackRefused("the signature's version is not allowed")
        url = envelope.certificate_url
        if not _is_sns(url, envelope.topic) or not _CERTIFICATE_PATH(urlsplit(url).path) or "?" in url:
            raise CallbackRefused("the certificate is not one of SNS's")
        return envelope

    def _target(self, url: str) -> str:
        if self._base_url is None:
            return url
        split = urlsplit(url)
        return self._base_url + split.path + (f"?{split.query}" if split.query else "")


class Envelope(msgspec.Struct, rename="pascal"):
    """What SNS posts, around `message`."""

    kind: str = msgspec.field(name="Type")
    message_id: str
    topic: str = msgspec.field(name="TopicArn")
    message: str
    timestamp: str
    version: str = msgspec.field(name="SignatureVersion")
    signature: str
    certificate_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    token: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")


class _Certificate(msgspec.Struct, frozen=True):
    key: rsa.RSAPublicKey
    since: float
    until: float


_KINDS: Final = frozenset({"Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"})


def read_envelope(callback: Callback) -> Envelope:
    """Read what SNS posted; raises `CallbackRefused(unreadable=True)` for anything else. Believes nothing yet."""
    envelope = read_callback(callback, Envelope)
    if envelope.kind not in _KINDS or unix_time(envelope.timestamp) is None:
        raise CallbackRefused("not a message that SNS posts", unreadable=True)
    return envelope


def _is_sns(url: str, topic: str) -> bool:
    """Say whether a URL is one of SNS's own, in the topic's region: https, that host, no port, no user."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        split = urlsplit(url)
    except ValueError:
        return False
    found = _SNS_HOST(split.netloc)
    return split.scheme == "https" and found is not None and topic.split(":")[3:4] == [found[1]]


def _signed(envelope: Envelope) -> bytes:
    """Write what was signed: these names in this order, each followed by its value, one a line."""
    fields: dict[str, str | None] = {"Message": envelope.message, "MessageId": envelope.message_id}
    if envelope.kind == "Notification":
        fields |= {"Subject": envelope.subject}  # "if present"
    else:
        fields |= {"SubscribeURL": envelope.subscribe_url}
    fields |= {"Timestamp": envelope.timestamp}
    if envelope.kind != "Notification":
        fields |= {"Token": envelope.token}
    fields |= {"TopicArn": envelope.topic, "Type": envelope.kind}
    return "".join(f"{name}\n{value}\n" for name, value in fields.items() if value is not None).encode()


def _certificate(pem: bytes) -> _Certificate:
    try:
        found = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CallbackRefused("SNS's certificate cannot be read") from None
    key = found.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise CallbackRefused("SNS's certificate has no RSA key")
    return _Certificate(key, found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())
