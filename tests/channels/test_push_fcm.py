"""FCM over real servers, one for messages and one for access tokens; answers as Google documents them."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.auth import jwt

from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.push_fcm import FcmChannel, FcmSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, HttpFacing, Recorder
from tests.support.http_server import Do, HttpServer, Reply

NOW = 1_795_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PATH = "/v1/projects/shop-1/messages:send"
GRANTED = Reply(200, json={"access_token": "ya29.token", "expires_in": 3599, "token_type": "Bearer"})
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def account(token_uri: str = "https://oauth2.example.com/token", **changes) -> str:
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "shop-1",
            "private_key_id": "k1",
            "private_key": PEM,
            "client_email": "push@shop-1.iam.example.com",
            "token_uri": token_uri,
            **changes,
        }
    )


def push(number: int = 1, **more) -> Message:
    more.setdefault("content", Content(subject="Title", text="private-body"))
    return Message(
        id=f"dlv_{number}", kind="mobile_push", to="private-address", idempotency_key=f"dlv_{number}", **more
    )


def fault(
    status: int, name: str, code: str | None = None, message: str = "no", field: str | None = None, **more
) -> Reply:
    details = [{"@type": FCM_ERROR, "errorCode": code}] if code else []
    if field:
        details.append({"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": message}]})
    error = {"code": status, "message": message, "status": name, "details": details}
    return Reply(status, more, json={"error": error})


def notified(**parts):
    return {
        "message": {"token": "private-address", "notification": {"title": "Title", "body": "private-body"}, **parts}
    }


class TestFcm(HttpChannelContract):
    channel = FcmChannel
    settings: ClassVar = {"service_account": account()}
    secrets = ("service_account",)
    # Twice as many servers as elsewhere start at once, and each channel signs with RSA: more patience.
    short: ClassVar = {**HttpChannelContract.short, "connect_timeout_s": 2.5, "total_timeout_s": 4.0}
    accepted = Reply(200, json={"name": "projects/shop-1/messages/0:1"})
    answers = (
        GoldenAnswer("taken", accepted, Accepted, provider_id="projects/shop-1/messages/0:1"),
        GoldenAnswer("taken, unreadable", Reply(200, json={}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "unregistered",
            fault(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="UNREGISTERED Requested entity",
        ),
        GoldenAnswer("404 that blames no token", fault(404, "NOT_FOUND"), Retry, Reason.RETRY),
        GoldenAnswer("404 of another server", Reply(404, body="<html>"), Retry, Reason.RETRY),
        GoldenAnswer(
            "a token that is none, by its field",
            fault(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Invalid registration token", "message.token"),
            Rejected,
            Reason.ADDRESS_DEAD,
        ),
        GoldenAnswer(
            "a token that is none, by the sentence",
            fault(
                400,
                "INVALID_ARGUMENT",
                "INVALID_ARGUMENT",
                "The registration token is not a valid FCM registration token",
            ),
            Rejected,
            Reason.ADDRESS_DEAD,
        ),
        GoldenAnswer(
            "our message",
            fault(400, "INVALID_ARGUMENT", None, "Invalid value at 'message.data[0].value'", "message.data[0].value"),
            Rejected,
            Reason.MESSAGE_INVALID,
        ),
        GoldenAnswer("our message, no word why", fault(400, "INVALID_ARGUMENT"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer(
            "too big",
            fault(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Android message is too big"),
            Rejected,
            Reason.TOO_LARGE,
        ),
        GoldenAnswer(
            "another project's token",
            fault(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
            Rejected,
            Reason.INVALID_ADDRESS,
        ),
        GoldenAnswer("no permission", fault(403, "PERMISSION_DENIED"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "Apple refuses us",
            fault(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
            detail="THIRD_PARTY_AUTH_ERROR",
        ),
        GoldenAnswer("no credentials", fault(401, "UNAUTHENTICATED"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "quota, with a time",
            fault(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", **{"Retry-After": "90"}),
            Retry,
            Reason.RATE_LIMITED,
            90.0,
        ),
        GoldenAnswer(
            "quota, without",
            fault(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
            Retry,
            Reason.RATE_LIMITED,
            60.0,
        ),
        GoldenAnswer("internal", fault(500, "INTERNAL", "INTERNAL"), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer(
            "unavailable",
            fault(503, "UNAVAILABLE", "UNAVAILABLE", **{"Retry-After": "5"}),
            Retry,
            Reason.PROVIDER_DOWN,
            5.0,
        ),
        GoldenAnswer("a page from a gateway", Reply(502, body="<html>Error 502"), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "words",
            push(),
            PATH,
            json=notified(),
            headers={"authorization": "Bearer ya29.token", "content-type": "application/json"},
        ),
        GoldenRequest(
            "a request's content, with expiry and collapse key",
            push(
                content=Content(
                    text="**Bold** news\n\nhttps://example.com/o",
                    data={
                        "title": "T",
                        "body": "\\*\\*Bold\\*\\* news",
                        "url": "https://example.com/o",
                        "image_url": "https://example.com/i.png",
                        "actions": [],
                    },
                ),
                expires_at=NOW + 90.9,
                options={"collapse_key": "order-7"},
            ),
            PATH,
            json={
                "message": {
                    "token": "private-address",
                    "notification": {"title": "T", "body": "**Bold** news", "image": "https://example.com/i.png"},
                    "data": {"url": "https://example.com/o"},
                    "android": {"ttl": "90s", "collapse_key": "order-7"},
                    "apns": {"headers": {"apns-expiration": "1795000090", "apns-collapse-id": "order-7"}},
                }
            },
        ),
        GoldenRequest(
            "a template's own structure under the caller's overrides",
            push(
                content=Content(
                    data={
                        "notification": {"title": "T", "body": "B"},
                        "data": {"order": 7, "gift": True, "name": "Ada"},
                        "android": {"notification": {"channel_id": "orders"}},
                    }
                ),
                options={"ttl_s": 60, "android": {"priority": "HIGH"}, "token": "another", "cc": []},
                expires_at=NOW + 3600,
            ),
            PATH,
            json={
                "message": {
                    "token": "private-address",
                    "notification": {"title": "T", "body": "B"},
                    "data": {"order": "7", "gift": "true", "name": "Ada"},
                    "android": {"ttl": "60s", "notification": {"channel_id": "orders"}, "priority": "HIGH"},
                    "apns": {"headers": {"apns-expiration": "1795000060"}},
                }
            },
        ),
    )

    def message(self, number):
        return push(number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        """Answer on the message's path as told; tokens come from another server that is always well."""
        async with HttpServer(behaviour) as server, HttpServer(GRANTED) as tokens:
            settings = {"service_account": account(f"{tokens.url}/token"), "base_url": server.url, **self.short}
            channel = FcmChannel(msgspec.convert(settings, FcmSettings), recorder.tools)
            try:
                yield HttpFacing(channel, server, self.counts)
            finally:
                await channel.aclose()


def facing(server: HttpServer, tokens: HttpServer, recorder: Recorder | None = None, **changes) -> FcmChannel:
    settings = {
        "service_account": account(f"{tokens.url}/token"),
        "base_url": server.url,
        "proxy": "direct",
        "connect_timeout_s": 1.0,
        "read_timeout_s": 0.5,
        **changes,
    }
    return FcmChannel(msgspec.convert(settings, FcmSettings), (recorder or Recorder(now=lambda: NOW)).tools)


# --- access tokens --------------------------------------------------------------------------------------------------


async def test_the_access_token_is_asked_for_with_a_signed_assertion():
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens)
        await channel.send(push())
        await channel.aclose()
    form = tokens.requests[0].form()
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims, _, _ = jwt._unverified_decode(form["assertion"])
    assert header == {"typ": "JWT", "alg": "RS256", "kid": "k1"}
    assert claims == {
        "iss": "push@shop-1.iam.example.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": f"{tokens.url}/token",
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
    }


async def test_the_assertion_is_signed_with_the_accounts_key():
    clock = int(time.time())  # the judge, google-auth, reads the real clock
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens, Recorder(now=lambda: float(clock)))
        await channel.send(push())
        await channel.aclose()
    assert jwt.decode(tokens.requests[0].form()["assertion"], certs=PUBLIC)["iat"] == clock


async def test_many_messages_share_one_token_until_shortly_before_its_end():
    clock = [NOW]
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens, Recorder(now=lambda: clock[0]))
        await asyncio.gather(*[channel.send(push(number)) for number in range(10)])
        asked = [len(tokens.requests)]
        for passed_s in (3298, 3300):
            clock[0] = NOW + passed_s
            await channel.send(push())
            asked.append(len(tokens.requests))
        await channel.aclose()
    assert asked == [1, 1, 2]
    assert len(server.requests) == 12


async def test_a_token_that_is_refused_is_not_used_again():
    async with (
        HttpServer([fault(401, "UNAUTHENTICATED"), TestFcm.accepted]) as server,
        HttpServer([GRANTED, Reply(200, json={"access_token": "second"})]) as tokens,
    ):
        channel = facing(server, tokens)
        outcomes = [await channel.send(push()), await channel.send(push())]
        await channel.aclose()
    assert [type(outcome) for outcome in outcomes] == [Rejected, Accepted]
    assert server.requests[1].headers["authorization"] == "Bearer second"


@pytest.mark.parametrize(
    ("reply", "outcome", "reason", "after"),
    [
        (
            Reply(400, json={"error": "invalid_grant", "error_description": "Invalid JWT Signature."}),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
            None,
        ),
        (Reply(401, json={"error": "invalid_client"}), Rejected, Reason.ACCOUNT_PROBLEM, None),
        (Reply(403), Rejected, Reason.ACCOUNT_PROBLEM, None),
        (Reply(429, {"Retry-After": "9"}), Retry, Reason.PROVIDER_DOWN, 9.0),
        (Reply(500), Retry, Reason.PROVIDER_DOWN, None),
        (Reply(200, body="<html>"), Retry, Reason.PROVIDER_DOWN, None),
        (Do.CLOSE, Retry, Reason.PROVIDER_DOWN, None),
        (Do.SILENCE, Retry, Reason.PROVIDER_DOWN, None),
        (Do.REFUSE, Retry, Reason.PROVIDER_DOWN, None),
    ],
)
async def test_without_a_token_nothing_is_sent_and_the_outcome_says_so(reply, outcome, reason, after):
    async with HttpServer(TestFcm.accepted) as server, HttpServer(reply) as tokens:
        channel = facing(server, tokens)
        found = await channel.send(push())
        check = await channel.check()
        await channel.aclose()
    assert (type(found), found.reason, getattr(found, "after", None)) == (outcome, reason, after)
    assert "access token" in (found.detail or "")
    assert not check.ok
    assert server.requests == []


async def test_check_asks_for_a_new_token():
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens)
        await channel.send(push())
        check = await channel.check()
        await channel.aclose()
    assert check.ok
    assert len(tokens.requests) == 2
    assert len(server.requests) == 1


# --- what is refused before the wire --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (push(content=Content(text="a" * 4097)), Reason.TOO_LARGE),
        (push(content=Content(data={"data": {"blob": "ü" * 2050}})), Reason.TOO_LARGE),
        (push(content=Content()), Reason.MESSAGE_INVALID),
        (push(content=Content(data={"topic": "everyone", "data": {"a": "b"}})), Reason.MESSAGE_INVALID),
        (msgspec.structs.replace(push(), to=" "), Reason.INVALID_ADDRESS),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_a_token_is_fetched(message, reason):
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens)
        outcome = await channel.send(message)
        await channel.aclose()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert server.requests == tokens.requests == []


async def test_a_payload_of_exactly_the_limit_is_sent():
    empty = len(b'{"notification":{"title":"Title","body":""}}')
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens)
        fits = await channel.send(push(content=Content(subject="Title", text="a" * (4096 - empty))))
        beyond = await channel.send(push(content=Content(subject="Title", text="a" * (4097 - empty))))
        await channel.aclose()
    assert isinstance(fits, Accepted)
    assert beyond == Rejected(Reason.TOO_LARGE, "4097 bytes; FCM takes 4096")


async def test_a_collapse_key_longer_than_apple_takes_is_hashed():
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens)
        await channel.send(push(options={"collapse_key": "ü" * 33}))
        await channel.aclose()
    message = server.requests[0].json()["message"]
    assert len(message["android"]["collapse_key"]) == 64
    assert message["apns"]["headers"] == {"apns-collapse-id": message["android"]["collapse_key"]}


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"service_account": "/run/secrets/fcm.json"}, "service_account"),
        ({"service_account": '{"client_email": "x"}'}, "service_account"),
        ({"service_account": account(private_key="no key")}, "service_account"),
        ({"service_account": account("file:///etc/passwd")}, "service_account"),
        ({"service_account": account(project_id="")}, "project_id"),
        ({"project_id": "../other"}, "project_id"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, field):
    settings = msgspec.convert({**TestFcm.settings, **changes}, FcmSettings)
    with pytest.raises(SettingsFault) as caught:
        FcmChannel(settings, Recorder().tools)
    assert caught.value.field == field


async def test_another_project_may_be_named():
    async with HttpServer(TestFcm.accepted) as server, HttpServer(GRANTED) as tokens:
        channel = facing(server, tokens, project_id="shop-2")
        await channel.send(push())
        await channel.aclose()
    assert server.requests[0].path == "/v1/projects/shop-2/messages:send"
