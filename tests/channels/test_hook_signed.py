"""Signed webhooks: judged by the library that receivers use, `standardwebhooks`, over a real server."""

from __future__ import annotations

import base64
import time
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest
import standardwebhooks

from channels.contract import Accepted, Content, Message, Outcome, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.hook_signed import SignedHookChannel, SignedHookSettings, payload, sign, signing_key
from channels.testing import GoldenAnswer, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

OLD = "whsec_" + base64.b64encode(b"old-secret-of-the-endpoint--").decode()
NEW = "whsec_" + base64.b64encode(b"new-secret-of-the-endpoint--").decode()


def hook(number: int = 1, *, to: str = "https://private-address.example.com/in", **changes) -> Message:
    fields = {
        "id": f"dlv_{number}",
        "kind": "webhook",
        "to": to,
        "content": Content(subject="Order shipped", text="private-body"),
        "idempotency_key": f"dlv_{number}",
        "created_at": 1_795_000_000.0,
    }
    return Message(**{**fields, **changes})


def build(url: str, *, now=lambda: 1_795_000_000.0, **settings) -> SignedHookChannel:
    return SignedHookChannel(msgspec.convert(reaching(url, **settings), SignedHookSettings), Recorder(now=now).tools)


def reaching(url: str, **settings):
    return {
        "secrets": [NEW],
        "allow_private": ["127.0.0.0/8"],
        "ports": [int(url.rpartition(":")[2])],
        "allow_http_hosts": ["127.0.0.1"],
        "connect_timeout_s": 2.0,
        "read_timeout_s": 0.5,
        "total_timeout_s": 2.0,
        "connections": 3,
        **settings,
    }


class Redirected:
    """The channel under test, sending every message to the test server: the address is the message's own."""

    def __init__(self, channel: SignedHookChannel, url: str) -> None:
        self.kind, self.Settings, self.limits = channel.kind, channel.Settings, channel.limits
        self._channel, self._url = channel, url

    async def send(self, message: Message) -> Outcome:
        return await self._channel.send(msgspec.structs.replace(message, to=f"{self._url}/private-address"))

    async def aclose(self) -> None:
        await self._channel.aclose()


class TestSignedHook(HttpChannelContract):
    channel = SignedHookChannel
    settings: ClassVar = {"secrets": [OLD, NEW]}
    secrets = ()  # a list of them: the test below
    accepted = Reply(204)
    callers_endpoint = True
    unread_success = False  # the status alone says it all
    answers = (
        GoldenAnswer("200", Reply(200, body="thanks"), Accepted),
        GoldenAnswer("201", Reply(201), Accepted),
        GoldenAnswer("gone", Reply(410, body="go away"), Rejected, Reason.ADDRESS_DEAD, detail="HTTP 410"),
        GoldenAnswer("a redirect is a failure", Reply(301, {"Location": "https://example.com/"}), Retry, Reason.RETRY),
        GoldenAnswer("their 401 is theirs", Reply(401), Retry, Reason.RETRY),
        GoldenAnswer("their 403 is theirs", Reply(403), Retry, Reason.RETRY),
        GoldenAnswer("404", Reply(404), Retry, Reason.RETRY),
        GoldenAnswer("429 without a wait", Reply(429), Retry, Reason.RETRY, 60.0),
        GoldenAnswer("429 with one", Reply(429, {"Retry-After": "300"}), Retry, Reason.RETRY, 300.0),
        GoldenAnswer("502", Reply(502), Retry, Reason.RETRY, 60.0),
        GoldenAnswer("504", Reply(504, {"Retry-After": "5"}), Retry, Reason.RETRY, 5.0),
        GoldenAnswer("503", Reply(503), Retry, Reason.RETRY),
        GoldenAnswer("500 may have been acted upon", Reply(500), Unknown, Reason.RETRY),
    )

    def message(self, number):
        return hook(number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        async with HttpServer(behaviour) as server:
            settings = msgspec.convert(reaching(server.url), SignedHookSettings)
            channel = SignedHookChannel(settings, recorder.tools)
            try:
                yield _Facing(Redirected(channel, server.url), server)
            finally:
                await channel.aclose()


class _Facing:
    def __init__(self, channel, server):
        self.channel, self.server = channel, server

    def received(self):
        return len(self.server.requests)


def test_secrets_are_not_printed():
    settings = SignedHookSettings(secrets=(OLD,))
    assert OLD not in repr(settings)
    assert OLD not in str(settings)


async def test_the_receivers_library_accepts_the_signature_of_every_secret():
    async with HttpServer() as server:
        channel = build(server.url, now=time.time, secrets=[NEW, OLD])
        assert isinstance(await channel.send(hook(to=f"{server.url}/in")), Accepted)
        await channel.aclose()
    (request,) = server.requests
    assert request.headers["webhook-id"] == "dlv_1"
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (OLD, NEW):
        judged = standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
        assert judged["data"]["body"] == "private-body"
    stranger = "whsec_" + base64.b64encode(b"x" * 24).decode()
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(stranger).verify(request.body, dict(request.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(request.body + b" ", dict(request.headers))


def test_the_specifications_own_example_is_signed_as_it_says():
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_an_endpoints_own_secrets_and_event_id_replace_the_providers():
    async with HttpServer() as server:
        channel = build(server.url, now=time.time, secrets=[OLD])
        options = {"secrets": [NEW], "webhook_id": "evt_7"}
        assert isinstance(await channel.send(hook(to=f"{server.url}/in", options=options)), Accepted)
        await channel.aclose()
    (request,) = server.requests
    assert request.headers["webhook-id"] == "evt_7"
    standardwebhooks.Webhook(NEW).verify(request.body, dict(request.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OLD).verify(request.body, dict(request.headers))


async def test_the_timestamp_is_the_attempts_own():
    moments = iter([1000.9, 2000.2])
    async with HttpServer() as server:
        channel = build(server.url, now=lambda: next(moments))
        for attempt in (1, 2):
            await channel.send(hook(to=f"{server.url}/in", attempt=attempt))
        await channel.aclose()
    first, second = server.requests
    assert (first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]) == ("1000", "2000")
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


@pytest.mark.parametrize(
    "options",
    [{"secrets": ["whsec_short"]}, {"secrets": ["whsec_###"]}, {"secrets": "whsec_x"}, {"webhook_id": "evt.7"}],
)
async def test_what_cannot_be_signed_is_not_sent(options):
    async with HttpServer() as server:
        channel = build(server.url)
        outcome = await channel.send(hook(to=f"{server.url}/in", options=options))
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.MESSAGE_INVALID
        unsigned = build(server.url, secrets=[])
        assert isinstance(await unsigned.send(hook(to=f"{server.url}/in")), Rejected)
        await channel.aclose()
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/in",
        "https://127.0.0.1/in",
        "https://[::1]/in",
        "https://169.254.169.254/latest/meta-data",
        "https://2130706433/",
        "https://user@example.com/",
        "https://example.com:8443/",
        "https://localhost/",
        "file:///etc/passwd",
        "",
    ],
)
async def test_addresses_that_may_not_be_called_are_refused_in_one_sentence(url):
    channel = SignedHookChannel(SignedHookSettings(secrets=(NEW,)), Recorder().tools)
    outcome = await channel.send(hook(to=url))
    assert outcome == Rejected(Reason.INVALID_ADDRESS, "the address is not one that may be called")
    await channel.aclose()


async def test_a_message_beyond_the_limit_is_refused_before_it_is_sent():
    async with HttpServer() as server:
        channel = build(server.url)
        outcome = await channel.send(hook(to=f"{server.url}/in", content=Content(text="x" * 300_000)))
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.TOO_LARGE
        await channel.aclose()
    assert server.requests == []


async def test_nothing_of_the_answer_but_its_status_is_repeated():
    async with HttpServer(Reply(500, body="internal-network-secrets")) as server:
        channel = build(server.url)
        outcome = await channel.send(hook(to=f"{server.url}/in"))
        assert "internal-network-secrets" not in (outcome.detail or "")
        await channel.aclose()


def test_a_structure_of_its_own_is_sent_as_it_stands_and_content_in_the_standard_envelope():
    event = {"type": "delivery.delivered", "timestamp": "2026-11-23T00:00:00Z", "data": {"id": "dlv_1"}}
    assert msgspec.json.decode(payload(hook(content=Content(data=event)))) == event
    shown = payload(hook(content=Content(subject="T", text="B", data={"title": "T", "body": "**B**", "url": None})))
    assert msgspec.json.decode(shown) == {
        "type": "notification",
        "timestamp": "2026-11-18T11:06:40Z",
        "data": {"title": "T", "body": "**B**", "url": None, "category": "default"},
    }
    plain = msgspec.json.decode(payload(hook(content=Content(subject="T", text="B"))))
    assert plain["data"] == {"title": "T", "body": "B", "category": "default"}
    channel = SignedHookChannel(SignedHookSettings(), Recorder().tools)
    assert channel.raw(hook()) == payload(hook())


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"secrets": ["whsec_" + base64.b64encode(b"short").decode()]}, "secrets[0]"),
        ({"secrets": [OLD, "not base64!"]}, "secrets[1]"),
        ({"allow_private": ["10.0.0.0/99"]}, "allow_private"),
        ({"proxy": "http://127.0.0.1:3128"}, "proxy"),
    ],
)
def test_settings_that_cannot_work_are_faults_with_their_field(settings, field):
    with pytest.raises(SettingsFault) as caught:
        SignedHookChannel(msgspec.convert(settings, SignedHookSettings), Recorder().tools)
    assert caught.value.field == field
    assert "whsec" not in str(caught.value) or "`whsec_`" in str(caught.value)


@pytest.mark.parametrize("seconds", [0, 31])
def test_nobody_waits_longer_than_the_specification_advises(seconds):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"total_timeout_s": seconds}, SignedHookSettings)
