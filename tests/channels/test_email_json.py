"""The configurable e-mail adapter: what it asks for, in every shape it can be told, and how it reads answers."""

from __future__ import annotations

import base64
from typing import ClassVar

import msgspec
import pytest

from channels.contract import (
    Accepted,
    Attachment,
    Content,
    Message,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Unknown,
)
from channels.email_json import JsonEmailChannel, JsonEmailSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

KEY = "s3cret-of-the-provider"


def mail(number=1, **changes):
    message = Message(
        id=f"dlv_{number}",
        kind="email",
        to="private-address@example.com",
        to_name="Ada",
        sender="Shop <no-reply@example.com>",
        content=Content(subject="Hello", text="private-body", html="<p>private-body</p>"),
        idempotency_key=f"key-{number}",
    )
    return msgspec.structs.replace(message, **changes)


PDF = Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF")
LOGO = Attachment(filename="logo.png", content_type="image/png", content=b"png", content_id="logo")
FULL = mail(
    content=Content(subject="Hello", text="t", html="<p>h</p>", attachments=(PDF, LOGO)),
    tags=("welcome",),
    options={
        "cc": ["Bob <bob@example.com>"],
        "bcc": ["eve@example.com"],
        "reply_to": "help@example.com",
        "headers": {"X-Order": " 42 "},
        "list_unsubscribe": "https://gateway.example.com/unsubscribe/t",
        "metadata": {"order": "42"},
    },
)
PLAIN_BODY = {
    "from": "Shop <no-reply@example.com>",
    "to": "Ada <private-address@example.com>",
    "subject": "Hello",
    "html": "<p>private-body</p>",
    "text": "private-body",
}
HEADERS = {
    "List-Unsubscribe": "<https://gateway.example.com/unsubscribe/t>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    "X-Order": "42",
}


class TestJsonEmail(HttpChannelContract):
    channel = JsonEmailChannel
    settings: ClassVar = {"base_url": "https://api.example.com", "api_key": KEY}
    secrets = ("api_key",)
    accepted = Reply(200, json={"id": "m1"})
    answers = (
        GoldenAnswer("taken", Reply(202, json={"id": "m7"}), Accepted, provider_id="m7"),
        GoldenAnswer("an id that is a number", Reply(200, json={"id": 7}), Accepted, provider_id="7"),
        GoldenAnswer("no id", Reply(200, json={"ok": True}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("an empty id", Reply(200, json={"id": ""}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("an empty success", Reply(200), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "invalid",
            Reply(422, json={"code": "bad_to", "message": "to: a@example.com is odd"}),
            Rejected,
            Reason.MESSAGE_INVALID,
            detail="bad_to to: [address] is odd",
        ),
        GoldenAnswer("too large", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("no key", Reply(401, json={"message": "who?"}), Rejected, Reason.ACCOUNT_PROBLEM, detail="who?"),
        GoldenAnswer("no right", Reply(403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("400 may be anything", Reply(400, body="no"), Retry, Reason.RETRY),
        GoldenAnswer("wrong path", Reply(404), Retry, Reason.RETRY),
        GoldenAnswer("conflict", Reply(409), Retry, Reason.RETRY),
        GoldenAnswer("slower", Reply(429, {"Retry-After": "3"}), Retry, Reason.RATE_LIMITED, 3.0),
        GoldenAnswer("down", Reply(503, {"Retry-After": "9"}), Retry, Reason.PROVIDER_DOWN, 9.0),
        GoldenAnswer("broken", Reply(500, json={"message": "oops"}), Unknown, Reason.TIMED_OUT, detail="oops"),
        GoldenAnswer("gateway", Reply(502), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "the common shape",
            mail(),
            "/emails",
            json=PLAIN_BODY,
            headers={
                "authorization": f"Bearer {KEY}",
                "content-type": "application/json",
                "idempotency-key": "key-1",
            },
        ),
        GoldenRequest(
            "everything",
            FULL,
            "/emails",
            json={
                **PLAIN_BODY,
                "html": "<p>h</p>",
                "text": "t",
                "cc": ["Bob <bob@example.com>"],
                "bcc": ["eve@example.com"],
                "reply_to": "help@example.com",
                "headers": HEADERS,
                "attachments": [
                    {
                        "filename": "bill.pdf",
                        "content": base64.b64encode(b"%PDF").decode(),
                        "content_type": "application/pdf",
                    },
                    {
                        "filename": "logo.png",
                        "content": base64.b64encode(b"png").decode(),
                        "content_type": "image/png",
                        "content_id": "logo",
                    },
                ],
            },
        ),
        GoldenRequest(
            "text alone",
            mail(content=Content(subject="Hi", text="only")),
            "/emails",
            json={"from": PLAIN_BODY["from"], "to": PLAIN_BODY["to"], "subject": "Hi", "text": "only"},
        ),
        GoldenRequest(
            "nothing but a subject",
            mail(content=Content(subject="Hi")),
            "/emails",
            json={"from": PLAIN_BODY["from"], "to": PLAIN_BODY["to"], "subject": "Hi", "text": "Hi"},
        ),
    )

    def message(self, number):
        return mail(number)


ODD = {
    "base_url": "https://api.example.com/v2",
    "path": "/send?region=eu",
    "api_key": KEY,
    "key_header": "X-Api-Key",
    "key_scheme": "",
    "request_headers": {"Accept": "application/json"},
    "idempotency_header": "X-Request-Key",
    "idempotent": True,
    "fields": {
        "from": "message.from",
        "to": "message.to",
        "cc": "message.cc",
        "subject": "message.subject",
        "html": "message.content.html",
        "text": "message.content.text",
        "reply_to": "replyTo",
        "headers": "message.headers",
        "tags": "labels",
        "metadata": "custom",
        "template": "template.id",
        "template_data": "template.data",
    },
    "attachment_fields": {"filename": "name", "content_type": "type", "content_id": "cid"},
    "constants": {"stream": "outbound", "message": {"track": False}},
    "addresses": "object",
    "to_as": "list",
    "headers_as": "list",
    "answer_id": "messages.0.id",
    "answer_code": "error.code",
    "answer_error": "error.message",
    "outcomes": {"gone": "address_dead", "400": "message_invalid", "busy": "rate_limited", "422": "policy"},
    "message_bytes": 4000,
}


class TestJsonEmailOfAnotherShape(HttpChannelContract):
    channel = JsonEmailChannel
    settings = ODD
    secrets = ("api_key",)
    accepted = Reply(200, json={"messages": [{"id": "m1"}]})
    answers = (
        GoldenAnswer("nested id", Reply(200, json={"messages": [{"id": "m9"}]}), Accepted, provider_id="m9"),
        GoldenAnswer("no messages", Reply(200, json={"messages": []}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("a list", Reply(200, json=[1]), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "a word before a status",
            Reply(400, json={"error": {"code": "gone", "message": "left"}}),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="gone left",
        ),
        GoldenAnswer("a status", Reply(400), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a status told anew", Reply(422), Rejected, Reason.POLICY),
        GoldenAnswer("a status known without", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer(
            "a word that passes",
            Reply(409, {"Retry-After": "4"}, json={"error": {"code": "busy"}}),
            Retry,
            Reason.RATE_LIMITED,
            4.0,
        ),
        GoldenAnswer("an attempt under way", Reply(409), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "everything elsewhere",
            msgspec.structs.replace(FULL, options={**FULL.options, "bcc": None}),
            "/send?region=eu",
            json={
                "stream": "outbound",
                "message": {
                    "track": False,
                    "from": {"email": "no-reply@example.com", "name": "Shop"},
                    "to": [{"email": "private-address@example.com", "name": "Ada"}],
                    "cc": [{"email": "bob@example.com", "name": "Bob"}],
                    "subject": "Hello",
                    "content": {"html": "<p>h</p>", "text": "t"},
                    "headers": [{"name": name, "value": value} for name, value in HEADERS.items()],
                },
                "replyTo": {"email": "help@example.com"},
                "attachments": [
                    {"name": "bill.pdf", "content": "JVBERg==", "type": "application/pdf"},
                    {"name": "logo.png", "content": "cG5n", "type": "image/png", "cid": "logo"},
                ],
                "labels": ["welcome"],
                "custom": {"order": "42"},
            },
            headers={"x-api-key": KEY, "x-request-key": "key-1", "accept": "application/json"},
        ),
        GoldenRequest(
            "a template of the provider's",
            mail(options={"template": {"id": "tpl-1", "variables": {"name": "Ada"}}}),
            "/send?region=eu",
            json={
                "stream": "outbound",
                "message": {
                    "track": False,
                    "from": {"email": "no-reply@example.com", "name": "Shop"},
                    "to": [{"email": "private-address@example.com", "name": "Ada"}],
                    "subject": "Hello",
                },
                "template": {"id": "tpl-1", "data": {"name": "Ada"}},
            },
        ),
    )

    def message(self, number):
        return mail(number)


def built(**settings):
    given = {"base_url": "https://api.example.com", "api_key": KEY, **settings}
    return JsonEmailChannel(msgspec.convert(given, JsonEmailSettings), Recorder().tools)


async def sent(message, **settings):
    """Send to a server that takes everything; answer the outcome and how many requests came."""
    async with HttpServer(Reply(202, json={"id": "m1"})) as server:
        channel = built(base_url=server.url, proxy="direct", **settings)
        outcome = await channel.send(message)
        await channel.aclose()
        return outcome, server.requests


@pytest.mark.parametrize("name", ["cc", "bcc", "reply_to", "headers", "attachments"])
async def test_a_message_that_needs_a_field_the_provider_lacks_is_refused_unsent(name):
    outcome, requests = await sent(FULL, fields={name: ""})
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MESSAGE_INVALID
    assert name in (outcome.detail or "")
    assert requests == []


@pytest.mark.parametrize("fields", [{}, {"template": "template"}])
async def test_a_template_goes_only_to_a_provider_that_has_some(fields):
    message = mail(options={"template": {"id": 7, "variables": {"a": 1}}})
    outcome, requests = await sent(message, fields=fields)
    assert isinstance(outcome, Rejected)
    assert requests == []


async def test_an_inline_picture_needs_a_content_id():
    outcome, requests = await sent(FULL, attachment_fields={"content_id": ""})
    assert isinstance(outcome, Rejected)
    assert requests == []


async def test_a_message_beyond_the_limit_is_refused_unsent():
    message = mail(content=Content(subject="s", text="x" * 4000))
    outcome, requests = await sent(message, message_bytes=4000)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TOO_LARGE
    assert requests == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "not an address"}, Reason.INVALID_ADDRESS),
        ({"to": "a@example.com\r\nBcc: b@example.com"}, Reason.INVALID_ADDRESS),
        ({"to_name": "A\nB"}, Reason.MESSAGE_INVALID),
        ({"sender": None}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": ["a@example.com, b@example.com"]}}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-A": "a\r\nBcc: b@example.com"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"Bcc": "b@example.com"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": "a@example.com"}}, Reason.MESSAGE_INVALID),
        ({"content": Content(subject="a\nb", text="t")}, Reason.MESSAGE_INVALID),
    ],
)
async def test_what_must_not_go_out_is_refused_unsent(changes, reason):
    outcome, requests = await sent(mail(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert requests == []


async def test_where_the_status_says_it_all_an_empty_answer_is_success():
    async with HttpServer(Reply(202)) as server:
        channel = built(base_url=server.url, proxy="direct", answer_id="")
        assert await channel.send(mail()) == Accepted(None)
        await channel.aclose()


async def test_no_idempotency_header_is_sent_where_none_is_named():
    _, (request,) = await sent(mail(), idempotency_header="")
    assert "idempotency-key" not in request.headers


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"fields": {"html": "", "text": ""}}, "fields"),
        ({"fields": {"to": ""}}, "fields"),
        ({"fields": {"html": "text"}}, "fields"),
        ({"fields": {"html": "text.html"}}, "fields"),
        ({"constants": {"to": "x@example.com"}}, "fields"),
        ({"constants": {"message": "x"}, "fields": {"to": "message.to"}}, "fields"),
        ({"idempotent": True, "idempotency_header": ""}, "idempotent"),
        ({"key_header": ""}, "key_header"),
    ],
)
def test_settings_that_cannot_work_are_faults_at_start(settings, field):
    with pytest.raises(SettingsFault) as caught:
        built(**settings)
    assert caught.value.field == field


def test_constants_are_never_changed_by_a_message():
    channel = built(constants={"message": {"track": True}}, fields={"to": "message.to"})
    first, second = channel.raw(mail(1, to="a@example.com")), channel.raw(mail(2, to="b@example.com"))
    assert b"a@example.com" in first
    assert b"a@example.com" not in second


def test_limits_follow_the_settings():
    assert built().limits.attachments is True
    assert built().limits.idempotent is False
    limits = built(fields={"attachments": ""}, idempotent=True, message_bytes=5000, connections=3).limits
    assert (limits.attachments, limits.idempotent, limits.message_bytes, limits.concurrency) == (False, True, 5000, 3)
