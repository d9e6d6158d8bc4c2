"""Brevo: its requests, its error words, and its webhooks, proven by user and password or by a token."""

from __future__ import annotations

import base64
import json
import uuid
from typing import ClassVar

import msgspec
import pytest

from channels.contract import (
    Accepted,
    Attachment,
    Callback,
    CallbackRefused,
    Content,
    EventType,
    Message,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Unknown,
)
from channels.email_brevo import BrevoChannel, BrevoSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0
KEY = "0198c0de-0000-7000-8000-000000000001"
ID = "201798300811.5787683@relay.example.com"


def mail(number=1, **changes):
    message = Message(
        id=f"dlv_{number}",
        kind="email",
        to="private-address@example.com",
        to_name="Ada",
        sender="Shop <no-reply@example.com>",
        content=Content(subject="Hello", text="private-body", html="<p>private-body</p>"),
        idempotency_key=KEY,
    )
    return msgspec.structs.replace(message, **changes)


def fault(status, code, message="words", headers=None):
    return Reply(status, headers, json={"code": code, "message": message})


PLAIN = {
    "sender": {"email": "no-reply@example.com", "name": "Shop"},
    "to": [{"email": "private-address@example.com", "name": "Ada"}],
    "subject": "Hello",
    "htmlContent": "<p>private-body</p>",
    "textContent": "private-body",
    "headers": {"X-Mailin-custom": "dlv_1", "idempotencyKey": KEY},
}
LOGO = Attachment(filename="logo.png", content_type="image/png", content=b"png", content_id="logo")


class TestBrevo(HttpChannelContract):
    channel = BrevoChannel
    settings: ClassVar = {
        "api_key": "xkeysib-s3cret",
        "callback_username": "hook",
        "callback_password": "pa55word",
        "callback_token": "t0ken",
    }
    secrets = ("api_key", "callback_password", "callback_token")
    accepted = Reply(201, json={"messageId": f"<{ID}>"})
    answers = (
        GoldenAnswer("taken", Reply(201, json={"messageId": f"<{ID}>"}), Accepted, provider_id=ID),
        GoldenAnswer("scheduled", Reply(202, json={"messageId": ID, "batchId": "b"}), Accepted, provider_id=ID),
        GoldenAnswer("taken without id", Reply(201, json={}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "address",
            fault(400, "invalid_parameter", "email is not valid in to"),
            Rejected,
            Reason.INVALID_ADDRESS,
            detail="invalid_parameter email is not valid in to",
        ),
        GoldenAnswer(
            "sender",
            fault(400, "invalid_parameter", "Sending has been rejected because the sender you used is not valid."),
            Rejected,
            Reason.MESSAGE_INVALID,
        ),
        GoldenAnswer("missing", fault(400, "missing_parameter"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("range", fault(400, "out_of_range"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("template", fault(404, "document_not_found"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("not acceptable", fault(406, "not_acceptable"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("duplicate at once", fault(400, "duplicate_parameter"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("key", fault(401, "unauthorized"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("credits", fault(402, "not_enough_credits"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("credits as 400", fault(400, "not_enough_credits"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("payment", Reply(402), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("rights", fault(403, "permission_denied"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("account", fault(403, "account_under_validation"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("method", fault(405, "method_not_allowed"), Retry, Reason.RETRY),
        GoldenAnswer("too large", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("a new word", fault(400, "unheard_of"), Retry, Reason.RETRY),
        GoldenAnswer("rate", Reply(429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer(
            "rate with its header",
            fault(429, "too_many_requests", headers={"x-sib-ratelimit-reset": "45"}),
            Retry,
            Reason.RATE_LIMITED,
            45.0,
        ),
        GoldenAnswer(
            "rate with both headers",
            Reply(429, {"x-sib-ratelimit-reset": "45", "Retry-After": "7"}),
            Retry,
            Reason.RATE_LIMITED,
            7.0,
        ),
        GoldenAnswer("theirs", Reply(500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("down", Reply(503), Retry, Reason.PROVIDER_DOWN),
    )
    requests = (
        GoldenRequest(
            "plain",
            mail(),
            "/smtp/email",
            json=PLAIN,
            headers={
                "api-key": "xkeysib-s3cret",
                "content-type": "application/json",
                "accept": "application/json",
            },
        ),
        GoldenRequest(
            "everything",
            mail(
                content=Content(
                    subject="Hello",
                    text="t",
                    html="<p>h</p>",
                    attachments=(
                        Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF"),
                        LOGO,
                    ),
                ),
                tags=("welcome", "second"),
                options={
                    "cc": ['"Bob, B." <bob@example.com>'],
                    "bcc": ["eve@example.com"],
                    "reply_to": "Help <help@example.com>",
                    "headers": {"X-Order": "42"},
                    "list_unsubscribe": "https://gateway.example.com/u/t",
                },
            ),
            "/smtp/email",
            json={
                **PLAIN,
                "htmlContent": "<p>h</p>",
                "textContent": "t",
                "cc": [{"email": "bob@example.com", "name": "Bob, B."}],
                "bcc": [{"email": "eve@example.com"}],
                "replyTo": {"email": "help@example.com", "name": "Help"},
                "headers": {
                    "List-Unsubscribe": "<https://gateway.example.com/u/t>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                    "X-Order": "42",
                    "X-Mailin-custom": "dlv_1",
                    "idempotencyKey": KEY,
                },
                "attachment": [
                    {"name": "bill.pdf", "content": "JVBERg=="},
                    {"name": "logo.png", "content": "cG5n"},
                ],
                "tags": ["welcome", "second"],
            },
        ),
        GoldenRequest(
            "a template of Brevo's",
            mail(options={"template": {"id": "22", "variables": {"NAME": "Ada"}}}),
            "/smtp/email",
            json={
                **{name: PLAIN[name] for name in ("sender", "to", "subject", "headers")},
                "templateId": 22,
                "params": {"NAME": "Ada"},
            },
        ),
        GoldenRequest(
            "a name that is too long",
            mail(to_name="n" * 90),
            "/smtp/email",
            json={**PLAIN, "to": [{"email": "private-address@example.com", "name": "n" * 70}]},
        ),
    )

    def message(self, number):
        return mail(number)


def built(**settings):
    given = {"api_key": "xkeysib-s3cret", "callback_username": "hook", "callback_password": "pa55word", **settings}
    return BrevoChannel(msgspec.convert(given, BrevoSettings), Recorder(now=lambda: NOW).tools)


async def sent(message, reply=None):
    async with HttpServer(reply or TestBrevo.accepted) as server:
        channel = built(base_url=server.url, proxy="direct")
        outcome = await channel.send(message)
        await channel.aclose()
        return outcome, server.requests


@pytest.mark.parametrize("code", ["duplicate_parameter", "duplicate_request"])
async def test_a_repeated_attempt_that_brevo_calls_a_duplicate_was_taken_before(code):
    outcome, _ = await sent(mail(attempt=2), fault(400, code))
    assert isinstance(outcome, Accepted)
    assert code in (outcome.detail or "")


async def test_any_idempotency_key_becomes_the_same_uuid_each_time():
    keys = [
        (await sent(mail(idempotency_key=key)))[1][0].json()["headers"]["idempotencyKey"] for key in ("a", "a", "b")
    ]
    assert keys[0] == keys[1] != keys[2]
    assert str(uuid.UUID(keys[0])) == keys[0]


async def test_a_caller_cannot_set_the_headers_that_steer_brevo():
    headers = {"X-MAILIN-CUSTOM": "other", "Idempotencykey": "other", "Sender.IP": "192.0.2.1", "X-Mine": "yes"}
    _, (request,) = await sent(mail(options={"headers": headers}))
    assert request.json()["headers"] == {**PLAIN["headers"], "X-Mine": "yes"}


async def test_an_inline_picture_goes_out_as_a_file_and_the_outcome_says_so():
    outcome, _ = await sent(mail(content=Content(subject="s", html="<img src='cid:logo'>", attachments=(LOGO,))))
    assert isinstance(outcome, Accepted)
    assert "inline" in (outcome.detail or "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"options": {"cc": [f"a{n}@example.com" for n in range(99)]}}, Reason.MESSAGE_INVALID),
        ({"options": {"template": {"id": "order-shipped"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"template": {"name": "x"}}}, Reason.MESSAGE_INVALID),
        (
            {
                "content": Content(
                    subject="s",
                    text="t",
                    attachments=(Attachment(filename="a", content_type="a/b", content=b"x" * 16_000_000),),
                )
            },
            Reason.TOO_LARGE,
        ),
    ],
)
async def test_what_brevo_would_not_take_is_refused_unsent(changes, reason):
    outcome, requests = await sent(mail(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert requests == []


@pytest.mark.parametrize(
    ("reply", "good"), [(Reply(200, json={"email": "a@example.com"}), True), (fault(401, "unauthorized"), False)]
)
async def test_check_says_whether_the_key_is_good(reply, good):
    async with HttpServer({"GET /account": reply}) as server:
        channel = built(base_url=server.url, proxy="direct")
        assert (await channel.check()).ok is good
        await channel.aclose()


PROOF = "Basic " + base64.b64encode(b"hook:pa55word").decode()


def callback(body, authorization=PROOF):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if authorization is None else {"authorization": authorization}
    return Callback(url="https://gw.example.com/v1/callbacks/b", method="POST", headers=headers, query={}, body=raw)


def test_a_callback_with_user_and_password_is_believed():
    built().verify(callback({}))


def test_a_callback_with_the_configured_token_is_believed():
    built(callback_token="t0ken").verify(callback({}, "Bearer t0ken"))


@pytest.mark.parametrize(
    ("settings", "authorization"),
    [
        ({}, None),
        ({}, "Basic " + base64.b64encode(b"hook:wrong").decode()),
        ({}, "Bearer pa55word"),
        ({"callback_token": "t0ken"}, None),
        ({"callback_token": "t0ken"}, PROOF),
        ({"callback_token": "t0ken"}, "Bearer t0kem"),
        ({"callback_token": "t0ken"}, "Bearer ünlesbar"),
        ({"callback_username": None, "callback_password": None}, "Basic Og=="),
    ],
)
def test_a_callback_that_proves_nothing_is_refused(settings, authorization):
    with pytest.raises(CallbackRefused) as caught:
        built(**settings).verify(callback({}, authorization))
    assert caught.value.unreadable is False


def test_half_a_credential_is_a_fault_at_start():
    with pytest.raises(SettingsFault) as caught:
        built(callback_password=None)
    assert caught.value.field == "callback_password"


def event(kind, **fields):
    return {
        "event": kind,
        "email": "a@example.com",
        "id": 1,
        "date": "2026-11-09 00:00:00",
        "ts": 1_794_933_619,
        "message-id": f"<{ID}>",
        "ts_event": 1_794_933_654,
        "subject": "Hello",
        "X-Mailin-custom": "dlv_1",
        "ts_epoch": 1_794_933_654_000,
        "tags": ["welcome"],
        **fields,
    }


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (event("request"), EventType.SENT, None),
        (event("sent"), EventType.SENT, None),
        (event("delivered"), EventType.DELIVERED, None),
        (event("deferred", reason="450 4.2.1 try again"), EventType.DEFERRED, None),
        (event("hard_bounce", reason="550 5.1.1 <a@example.com>"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (event("soft_bounce", reason="452 4.2.2 full"), EventType.BOUNCED, Reason.RETRY),
        (event("invalid_email"), EventType.BOUNCED, Reason.INVALID_ADDRESS),
        (event("blocked", reason="blocked : due to blacklist user"), EventType.FAILED, Reason.POLICY),
        (event("error"), EventType.FAILED, None),
        (event("spam"), EventType.COMPLAINED, Reason.COMPLAINED),
        (event("unsubscribe"), EventType.UNSUBSCRIBED, Reason.OPTED_OUT),
        (event("unsubscribed"), EventType.UNSUBSCRIBED, Reason.OPTED_OUT),
        (event("opened"), EventType.OPENED, None),
        (event("unique_opened"), EventType.OPENED, None),
        (event("proxy_open"), EventType.OPENED, None),
        (event("unique_proxy_open"), EventType.OPENED, None),
        (event("click", link="https://example.com"), EventType.CLICKED, None),
    ],
)
def test_each_event_means_what_the_page_says(body, kind, reason):
    (found,) = built().parse(callback(body))
    assert (found.type, found.reason) == (kind, reason)
    assert (found.provider_id, found.message_id, found.address) == (ID, "dlv_1", "a@example.com")
    assert found.at == 1_794_933_654
    assert "@" not in (found.detail or "")


def test_batched_events_come_in_order_and_without_those_about_no_message():
    found = built().parse(callback([event("delivered"), event("list_addition"), event("opened")]))
    assert [each.type for each in found] == [EventType.DELIVERED, EventType.OPENED]


@pytest.mark.parametrize(
    ("times", "at"),
    [
        ({"ts_epoch": 1_794_933_000}, 1_794_933_000),
        ({"ts_epoch": 1_794_933_000_500}, 1_794_933_000.5),
        ({"ts_epoch": None}, 1_794_933_654),
        ({"ts_epoch": None, "ts_event": None}, NOW),
    ],
)
def test_times_are_read_in_seconds_and_milliseconds(times, at):
    (found,) = built().parse(callback(event("delivered", **times)))
    assert found.at == at


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"{}", b'{"event": 1}', b"\xff", b'"x"', b"null"])
def test_a_body_nobody_can_read_is_unreadable(body):
    with pytest.raises(CallbackRefused) as caught:
        built().parse(callback(body))
    assert caught.value.unreadable is True
