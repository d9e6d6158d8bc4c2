"""The configurable SMS adapter over a real server: the plain shape, and one with every name changed."""

from __future__ import annotations

import json
from typing import ClassVar

import msgspec
import pytest

from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.sms_json import JsonSmsChannel, JsonSmsSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

SETTINGS = {"base_url": "https://api.example.com", "key": "s3cret-of-the-api", "sender": "Example"}
CODES = {"invalid_number": "address_dead", "stop": "opted_out", "busy": "rate_limited", "17": "content_refused"}


def sms(text: str | None = "private-body", number: int = 1, to: str = "+15550100001", **more) -> Message:
    more.setdefault("content", Content(text=text))
    return Message(id=f"dlv_{number}", kind="sms", to=to, idempotency_key=f"key-{number}", **more)


class TestJsonSms(HttpChannelContract):
    channel = JsonSmsChannel
    settings: ClassVar = {**SETTINGS, "codes": CODES}
    secrets = ("key",)
    short: ClassVar = {**HttpChannelContract.short, "connect_timeout_s": 2.5, "total_timeout_s": 4.0}
    private_address = "5550100001"
    accepted = Reply(202, json={"id": "m1"})
    answers = (
        GoldenAnswer("taken", accepted, Accepted, provider_id="m1", detail="1 segment GSM-7"),
        GoldenAnswer("taken, a number for an id", Reply(200, json={"id": 42}), Accepted, provider_id="42"),
        GoldenAnswer("taken without an id", Reply(200, json={"status": "ok"}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "a code the settings know",
            Reply(400, json={"code": "invalid_number", "message": "+1 555 010 0001 is wrong"}),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="HTTP 400: invalid_number [address] is wrong",
        ),
        GoldenAnswer("opted out", Reply(422, json={"code": "stop"}), Rejected, Reason.OPTED_OUT),
        GoldenAnswer("a code that is a number", Reply(400, json={"code": 17}), Rejected, Reason.CONTENT_REFUSED),
        GoldenAnswer(
            "a code for later", Reply(400, {"Retry-After": "4"}, json={"code": "busy"}), Retry, Reason.RATE_LIMITED, 4.0
        ),
        GoldenAnswer("an unknown code", Reply(400, json={"code": "odd"}), Retry, Reason.RETRY, detail="odd"),
        GoldenAnswer(
            "our key", Reply(401, json={"message": "bad key"}), Rejected, Reason.ACCOUNT_PROBLEM, detail="bad"
        ),
        GoldenAnswer("not allowed", Reply(403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("too large", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("slow down", Reply(429, {"Retry-After": "9"}), Retry, Reason.RATE_LIMITED, 9.0),
        GoldenAnswer("down", Reply(503, {"Retry-After": "9"}), Retry, Reason.PROVIDER_DOWN, 9.0),
        GoldenAnswer("broken, with a code", Reply(500, json={"code": "invalid_number"}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("broken", Reply(504), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "plain",
            sms("Hi"),
            "/",
            json={"from": "Example", "to": "+15550100001", "text": "Hi"},
            headers={"authorization": "Bearer s3cret-of-the-api", "content-type": "application/json"},
        ),
        GoldenRequest(
            "the caller's sender",
            sms("Hi", options={"from": "+15550109999"}),
            "/",
            json={"from": "+15550109999", "to": "+15550100001", "text": "Hi"},
        ),
        GoldenRequest(
            "from a request's content",
            sms(content=Content(data={"title": "T", "body": "B", "url": "https://example.com/"})),
            "/",
            json={"from": "Example", "to": "+15550100001", "text": "T\nB\nhttps://example.com/"},
        ),
    )

    def message(self, number):
        return sms(number=number)


class TestJsonSmsRenamed(HttpChannelContract):
    channel = JsonSmsChannel
    settings: ClassVar = {
        **SETTINGS,
        "path": "/v3/send?format=json",
        "auth": "header",
        "auth_header": "X-API-Key",
        "fields": {"to": "recipients", "text": "body", "sender": "", "reference": "client_ref"},
        "extra": {"route": "transactional", "options": {"flash": False}},
        "to_list": True,
        "plus": False,
        "id_path": "messages.0.id",
        "code_path": "messages.0.error.code",
        "message_path": "messages.0.error.text",
        "refused_path": "messages.0.error",
        "codes": CODES,
        "idempotency_header": "Idempotency-Key",
    }
    secrets = ("key",)
    short: ClassVar = {**HttpChannelContract.short, "connect_timeout_s": 2.5, "total_timeout_s": 4.0}
    private_address = "5550100001"
    accepted = Reply(200, json={"messages": [{"id": "m1", "error": None}]})
    answers = (
        GoldenAnswer("taken", accepted, Accepted, provider_id="m1"),
        GoldenAnswer(
            "a 200 that carries an error",
            Reply(200, json={"messages": [{"id": "m1", "error": {"code": "stop", "text": "left"}}]}),
            Rejected,
            Reason.OPTED_OUT,
            detail="stop left",
        ),
        GoldenAnswer(
            "a 200 that carries an unknown error",
            Reply(200, json={"messages": [{"id": "m1", "error": {"code": "odd"}}]}),
            Retry,
            Reason.RETRY,
        ),
        GoldenAnswer("an empty list", Reply(200, json={"messages": []}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("another shape", Reply(200, json=["m1"]), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "every name changed",
            sms("Hi"),
            "/v3/send?format=json",
            json={
                "recipients": ["15550100001"],
                "body": "Hi",
                "client_ref": "dlv_1",
                "route": "transactional",
                "options": {"flash": False},
            },
            headers={"x-api-key": "s3cret-of-the-api", "idempotency-key": "key-1"},
        ),
    )

    def message(self, number):
        return sms(number=number)


def built(**changes) -> JsonSmsChannel:
    return JsonSmsChannel(msgspec.convert({**SETTINGS, **changes}, JsonSmsSettings), Recorder().tools)


async def test_basic_authentication_takes_user_and_password_from_the_key():
    async with HttpServer(TestJsonSms.accepted) as server:
        channel = built(base_url=server.url, proxy="direct", auth="basic", key="user:pass:word")
        await channel.send(sms())
        await channel.aclose()
    assert server.requests[0].headers["authorization"] == "Basic dXNlcjpwYXNzOndvcmQ="


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (sms(to="+33612345678"), Reason.POLICY),
        (sms(to="0151123456"), Reason.INVALID_ADDRESS),
        (sms("a" * 161), Reason.TOO_LARGE),
        (sms(" "), Reason.MESSAGE_INVALID),
        (sms(None), Reason.MESSAGE_INVALID),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    async with HttpServer(TestJsonSms.accepted) as server:
        channel = built(base_url=server.url, proxy="direct", countries=["1"], text_chars=160)
        outcome = await channel.send(message)
        await channel.aclose()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert server.requests == []
    assert channel.raw(message) == b""


def test_an_idempotency_header_and_the_text_limit_are_told_to_the_gateway():
    assert not built().limits.idempotent
    limits = built(idempotency_header="Idempotency-Key", text_chars=612).limits
    assert (limits.idempotent, limits.text_chars) == (True, 612)


def test_what_is_captured_is_the_body():
    assert json.loads(built().raw(sms("Hi"))) == {"from": "Example", "to": "+15550100001", "text": "Hi"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base_url": ""}, "base_url"),
        ({"path": "v1"}, "path"),
        ({"path": "/v1 x"}, "path"),
        ({"key": ""}, "key"),
        ({"key": "line\nbreak"}, "key"),
        ({"auth": "basic"}, "key"),
        ({"auth": "header", "auth_header": "X Key"}, "auth_header"),
        ({"idempotency_header": ""}, "idempotency_header"),
        ({"fields": {"to": "text"}}, "fields"),
        ({"extra": {"to": "+15550100001"}}, "extra"),
        ({"countries": ["DE"]}, "countries"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, field):
    with pytest.raises(SettingsFault) as caught:
        built(**changes)
    assert caught.value.field == field


def test_a_meaning_that_the_gateway_does_not_know_is_refused():
    with pytest.raises(msgspec.ValidationError, match="codes"):
        msgspec.convert({**SETTINGS, "codes": {"x": "exploded"}}, JsonSmsSettings)
