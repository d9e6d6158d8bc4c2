"""Web push over a real server: decrypted by http_ece, signatures checked by py_vapid."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlsplit

import http_ece
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from channels.address_guard import Guard
from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.push_web import (
    Subscription,
    VapidKeys,
    WebPushChannel,
    WebPushSettings,
    read_subscription,
    vapid_keys,
)
from channels.testing import GoldenAnswer, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0
KEYS = vapid_keys()
BROWSER = ec.generate_private_key(ec.SECP256R1())
SECRET = bytes(range(16))
ENDPOINT = "https://updates.push.services.mozilla.com/wpush/v2/private-address"


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


P256DH = b64(BROWSER.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def written(endpoint: str = ENDPOINT, **keys) -> str:
    keys = {"p256dh": P256DH, "auth": b64(SECRET), **keys}
    return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys})


def push(endpoint: str = ENDPOINT, number: int = 1, **more) -> Message:
    more.setdefault("content", Content(subject="Title", text="private-body"))
    return Message(id=f"dlv_{number}", kind="web_push", to=written(endpoint), idempotency_key=f"dlv_{number}", **more)


def opened(body: bytes):
    """Decrypt as the browser does."""
    return json.loads(http_ece.decrypt(body, private_key=BROWSER, auth_secret=SECRET, version="aes128gcm"))


def claims(authorization: str) -> dict:
    assert Vapid02.verify(authorization)
    token = authorization.removeprefix("vapid t=").partition(",")[0]
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def facing(url: str, recorder: Recorder | None = None, **changes) -> WebPushChannel:
    settings = {
        "private_key": KEYS.private_key,
        "subject": "mailto:ops@example.com",
        "allow_private": ["127.0.0.0/8"],
        "allow_http_hosts": ["127.0.0.1"],
        "ports": [443, urlsplit(url).port],
        "proxy": "direct",
        **changes,
    }
    tools = (recorder or Recorder(now=lambda: NOW)).tools
    return WebPushChannel(msgspec.convert(settings, WebPushSettings), tools)


class Repointed:
    """The channel under test, with the endpoint of every message moved to the test's server."""

    def __init__(self, inner: WebPushChannel, url: str) -> None:
        self.kind, self.Settings, self.limits = inner.kind, inner.Settings, inner.limits
        self._inner = inner
        self._url = url
        self.aclose = inner.aclose

    async def send(self, message):
        subscription = json.loads(message.to)
        subscription["endpoint"] = self._url + urlsplit(subscription["endpoint"]).path
        return await self._inner.send(msgspec.structs.replace(message, to=json.dumps(subscription)))


class Front(tuple):
    __slots__ = ()
    channel = property(lambda self: self[0])
    server = property(lambda self: self[1])

    def received(self) -> int:
        return len(self.server.requests)


class TestWebPush(HttpChannelContract):
    channel = WebPushChannel
    settings: ClassVar = {"private_key": KEYS.private_key, "subject": "mailto:ops@example.com"}
    secrets = ("private_key",)
    short: ClassVar = {**HttpChannelContract.short, "connect_timeout_s": 2.5, "total_timeout_s": 4.0}
    callers_endpoint = True
    unread_success = False  # RFC 8030 5: the status alone says it
    accepted = Reply(201, {"Location": "https://updates.push.services.mozilla.com/m/1"})
    answers = (
        GoldenAnswer("created", accepted, Accepted, provider_id="https://updates.push.services.mozilla.com/m/1"),
        GoldenAnswer("created without a place", Reply(201), Accepted),
        GoldenAnswer("Apple", Reply(200), Accepted),
        GoldenAnswer("with a receipt", Reply(202), Accepted),
        GoldenAnswer("a success nobody documented", Reply(204), Unknown, Reason.RETRY),
        GoldenAnswer("expired", Reply(404), Rejected, Reason.ADDRESS_DEAD),
        GoldenAnswer(
            "unsubscribed",
            Reply(410, json={"code": 410, "errno": 106, "message": "Request did not validate\ninvalid user"}),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="HTTP 410: 106 Request did not validate invalid user",
        ),
        GoldenAnswer("too large", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("no signature taken", Reply(401, json={"errno": 109}), Retry, Reason.RETRY, detail="109"),
        GoldenAnswer(
            "another key", Reply(403, json={"reason": "BadJwtToken"}), Rejected, Reason.INVALID_ADDRESS, detail="BadJwt"
        ),
        GoldenAnswer("slow down", Reply(429, {"Retry-After": "30"}), Retry, Reason.RETRY, 30.0),
        GoldenAnswer("down", Reply(503, {"Retry-After": "60"}), Retry, Reason.RETRY, 60.0),
        GoldenAnswer("bad request", Reply(400, body="<html>"), Retry, Reason.RETRY),
        GoldenAnswer("broken", Reply(500), Unknown, Reason.RETRY),
        GoldenAnswer("broken gateway", Reply(502), Unknown, Reason.RETRY),
    )

    def message(self, number):
        return push(number=number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        async with HttpServer(behaviour) as server:
            channel = facing(server.url, recorder, **self.short)
            try:
                yield Front((Repointed(channel, server.url), server))
            finally:
                await channel.aclose()

    async def test_the_same_message_is_the_same_request_at_every_attempt(self):
        """Encryption is new each time (RFC 8291 3.1); what the browser reads is the same."""
        async with self.facing(self.accepted, Recorder()) as front:
            await self._send(front.channel, self.message(1))
            await self._send(front.channel, msgspec.structs.replace(self.message(1), attempt=2))
            first, second = [opened(request.body) for request in front.server.requests]
        assert first == second == {"id": "dlv_1", "title": "Title", "body": "private-body"}


async def sent(*messages: Message, **changes):
    """Send to one server, one after the other; give the requests."""
    async with HttpServer(Reply(201)) as server:
        channel = facing(server.url, **changes)
        front = Repointed(channel, server.url)
        for message in messages:
            outcome = await front.send(message)
            assert isinstance(outcome, Accepted), outcome
        await channel.aclose()
        return server.requests


# --- what goes out --------------------------------------------------------------------------------------------------


async def test_a_push_carries_its_headers_and_opens_in_the_browser():
    native = Content(
        subject="Shipped",
        text="Your **order** is on its way.\n\nTrack: https://example.com/t\nhttps://example.com/o",
        data={
            "title": "Shipped",
            "body": "Your \\*\\*order\\*\\* is on its way.",
            "url": "https://example.com/o",
            "image_url": "https://example.com/i.png",
            "actions": [{"label": "Track", "url": "https://example.com/t"}],
        },
    )
    options = {"urgency": "high", "collapse_key": "order-7", "icon": "/icon.png"}
    (request,) = await sent(push(content=native, options=options, expires_at=NOW + 90.7))
    assert opened(request.body) == {
        "id": "dlv_1",
        "title": "Shipped",
        "body": "Your **order** is on its way.",
        "url": "https://example.com/o",
        "image": "https://example.com/i.png",
        "actions": [{"title": "Track", "url": "https://example.com/t"}],
        "icon": "/icon.png",
    }
    expected = {
        "ttl": "90",
        "urgency": "high",
        "topic": "order-7",
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
    }
    assert {name: request.headers[name] for name in expected} == expected
    assert (request.method, request.target) == ("POST", "/wpush/v2/private-address")


async def test_without_wishes_the_settings_decide():
    (request,) = await sent(push(), ttl_s=3600, urgency="low")
    assert (request.headers["ttl"], request.headers["urgency"]) == ("3600", "low")
    assert "topic" not in request.headers


@pytest.mark.parametrize(
    ("options", "expires_in_s", "ttl"),
    [
        ({}, None, "2419200"),
        ({"ttl_s": 0}, None, "0"),
        ({"ttl_s": 10**9}, None, "2419200"),
        ({"ttl_s": "soon", "urgency": ["x"]}, None, "2419200"),
        ({"ttl_s": 60}, 30, "30"),
        ({}, -5, "0"),
    ],
)
async def test_a_push_lives_no_longer_than_wished_and_never_past_its_expiry(options, expires_in_s, ttl):
    expires_at = None if expires_in_s is None else NOW + expires_in_s
    (request,) = await sent(push(options=options, expires_at=expires_at))
    assert request.headers["ttl"] == ttl


async def test_a_long_or_odd_collapse_key_becomes_a_topic_of_its_own():
    requests = await sent(
        push(options={"collapse_key": "Bestellung №7"}),
        push(options={"collapse_key": "Bestellung №7"}),
        push(options={"collapse_key": "x" * 33}),
    )
    first, again, other = [request.headers["topic"] for request in requests]
    assert first == again != other
    assert all(len(topic) == 32 and topic.replace("-", "").replace("_", "").isalnum() for topic in (first, other))


async def test_a_templates_own_structure_goes_out_as_it_is():
    (request,) = await sent(push(content=Content(text="x", data={"title": "T", "requireInteraction": True})))
    assert opened(request.body) == {"id": "dlv_1", "title": "T", "requireInteraction": True}


async def test_one_signature_serves_an_origin_for_half_a_day():
    clock = [NOW]
    recorder = Recorder(now=lambda: clock[0])
    async with HttpServer(Reply(201)) as server:
        channel = facing(server.url, recorder)
        front = Repointed(channel, server.url)
        for passed_s in (0, 39_599, 39_601):
            clock[0] = NOW + passed_s
            await front.send(push())
        await channel.aclose()
    tokens = [request.headers["authorization"] for request in server.requests]
    assert tokens[0] == tokens[1] != tokens[2]
    assert claims(tokens[0]) == {"aud": server.url, "exp": NOW + 43_200, "sub": "mailto:ops@example.com"}
    assert claims(tokens[2])["exp"] == NOW + 39_601 + 43_200
    assert tokens[0].endswith(f"k={KEYS.public_key}")


async def test_two_origins_get_two_signatures():
    async with HttpServer(Reply(201)) as one, HttpServer(Reply(201)) as other:
        channel = facing(one.url, ports=[one.port, other.port])
        for server in (one, other):
            await Repointed(channel, server.url).send(push())
        await channel.aclose()
    for server in (one, other):
        assert claims(server.requests[0].headers["authorization"])["aud"] == server.url


async def test_a_refused_signature_is_made_anew_and_told_to_the_log_without_the_address():
    recorder = Recorder(now=lambda: NOW)
    async with HttpServer([Reply(401), Reply(201)]) as server:
        channel = facing(server.url, recorder)
        front = Repointed(channel, server.url)
        outcomes = [await front.send(push()), await front.send(push())]
        await channel.aclose()
    assert [type(outcome) for outcome in outcomes] == [Retry, Accepted]
    first, second = [request.headers["authorization"] for request in server.requests]
    assert first != second  # ECDSA signs with a new nonce
    assert recorder.lines == ["web_push_signature_refused {'status': 401, 'service': 'another'}"]


@pytest.mark.parametrize("octets", [3993, 3994])
async def test_a_payload_fits_exactly_or_is_refused(octets):
    empty = len(b'{"id":"dlv_1","title":"","body":""}')
    message = push(content=Content(text="a" * (octets - empty)))
    if octets == 3993:
        (request,) = await sent(message)
        assert len(request.body) == 4096
        return
    outcome = await facing("https://127.0.0.1:1").send(message)
    assert outcome == Rejected(Reason.TOO_LARGE, "3994 bytes; a push carries 3993")


async def test_nothing_to_show_is_not_sent():
    outcome = await facing("https://127.0.0.1:1").send(push(content=Content()))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MESSAGE_INVALID


def test_what_is_captured_is_the_plaintext():
    assert json.loads(facing("https://127.0.0.1:1").raw(push())) == {
        "id": "dlv_1",
        "title": "Title",
        "body": "private-body",
    }


# --- subscriptions --------------------------------------------------------------------------------------------------


def test_a_subscription_is_read_as_text_or_decoded_with_padding_or_without():
    expected = Subscription(endpoint=ENDPOINT, p256dh=P256DH, auth=b64(SECRET))
    assert read_subscription(written()) == expected
    assert read_subscription(json.loads(written())) == expected
    padded = base64.b64encode(SECRET).decode()
    assert read_subscription(written(auth=padded)) == expected
    assert expected.origin == "https://updates.push.services.mozilla.com"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a push subscription"),
        ("[]", "not a push subscription"),
        ("{", "not a push subscription"),
        ('{"endpoint": "https://example.com/x"}', "not a push subscription"),
        ("\ud800", "not a push subscription"),
        (written("http://updates.push.services.mozilla.com/x"), "only https"),
        (written("https://127.0.0.1/x"), "endpoint"),
        (written("https://[::ffff:127.0.0.1]/x"), "endpoint"),
        (written("https://localhost/x"), "endpoint"),
        (written("https://push.example.com:22/x"), "port"),
        (written("https://user@push.example.com/x"), "endpoint"),
        (written(p256dh="AAAA"), "keys.p256dh"),
        (written(p256dh=b64(b"\x04" + bytes(64))), "keys.p256dh"),
        (written(p256dh="é"), "keys.p256dh"),
        (written(p256dh=""), "keys.p256dh"),
        (written(auth=b64(bytes(15))), "keys.auth"),
        (written(auth="!" * 22), "keys.auth"),
    ],
)
async def test_a_subscription_that_cannot_work_is_refused_with_the_reason(text, said):
    found = read_subscription(text)
    assert isinstance(found, str)
    assert said in found
    message = msgspec.structs.replace(push(), to=text)
    channel = WebPushChannel(msgspec.convert(TestWebPush.settings, WebPushSettings), Recorder().tools)
    outcome = await channel.send(message)
    await channel.aclose()
    assert outcome == Rejected(Reason.INVALID_ADDRESS, found)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("fcm.googleapis.com", True),
        ("updates.push.services.mozilla.com", True),
        ("web.push.apple.com", True),
        ("wns2-par02p.notify.windows.com", True),
        ("evil-fcm.googleapis.com", False),
        ("fcm.googleapis.com.example.com", False),
        ("push.example.com", False),
    ],
)
def test_only_known_push_services_where_the_settings_say_so(host, known):
    found = read_subscription(written(f"https://{host}/x"), Guard(), known_hosts_only=True)
    assert isinstance(found, Subscription) is known
    assert isinstance(read_subscription(written(f"https://{host}/x")), Subscription)


async def test_what_can_never_be_pushed_to_is_told_before_anything_is_sent():
    channel = facing("https://127.0.0.1:1", ports=[443], allow_private=[], allow_http_hosts=[])
    assert channel.address_fault(written("https://push.example.com/x")) is None
    for address in (written("https://127.0.0.1/x"), written("http://push.example.com/x"), "{}", "text"):
        fault = channel.address_fault(address)
        assert fault is not None
        assert "127.0.0.1" not in fault
    await channel.aclose()


async def test_an_address_that_cannot_be_signed_for_is_refused():
    channel = facing("https://127.0.0.1:1", allow_private=["::1/128"], ports=[443])
    outcome = await channel.send(push("https://[::1]/x"))
    await channel.aclose()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.INVALID_ADDRESS


# --- keys and settings ----------------------------------------------------------------------------------------------


async def test_new_keys_sign_what_browsers_subscribed_with_and_hide_the_private_half():
    keys = vapid_keys()
    assert keys != vapid_keys()
    assert isinstance(keys, VapidKeys)
    assert keys.private_key not in repr(keys)
    channel = facing("https://127.0.0.1:1", private_key=keys.private_key)
    assert channel.public_key == keys.public_key
    assert len(base64.urlsafe_b64decode(keys.public_key + "=")) == 65
    check = await channel.check()
    assert check.ok
    assert keys.public_key in check.detail


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"private_key": "short"}, "private_key"),
        ({"private_key": b64(bytes(32))}, "private_key"),
        ({"private_key": "é" * 43}, "private_key"),
        ({"subject": "ops@example.com"}, "subject"),
        ({"allow_private": ["10.0.0.0/99"]}, "allow_private"),
        ({"proxy": "http://proxy.example.com:3128"}, "proxy"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, field):
    with pytest.raises(SettingsFault) as caught:
        facing("https://127.0.0.1:1", **changes)
    assert caught.value.field == field
