"""Resend: its requests, every error on its page, and its events, signed as Standard Webhooks' own library signs."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import ClassVar

import msgspec
import pytest
from standardwebhooks import Webhook

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
    StatusEvent,
    Unknown,
)
from channels.email_resend import ResendChannel, ResendSettings
from channels.testing import GoldenAnswer, GoldenCall, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four!").decode()
NOW = 1_795_000_000.0
ID = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794"


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


def fault(status, name, message="words", headers=None):
    return Reply(status, headers, json={"statusCode": status, "name": name, "message": message})


PLAIN = {
    "from": "Shop <no-reply@example.com>",
    "to": ["Ada <private-address@example.com>"],
    "subject": "Hello",
    "html": "<p>private-body</p>",
    "text": "private-body",
    "tags": [{"name": "delivery", "value": "dlv_1"}],
}


class TestResend(HttpChannelContract):
    channel = ResendChannel
    settings: ClassVar = {"api_key": "re_s3cret", "callback_secret": SECRET}
    secrets = ("api_key", "callback_secret")
    accepted = Reply(200, json={"id": ID})
    answers = (
        GoldenAnswer("taken", Reply(200, json={"id": ID}), Accepted, provider_id=ID),
        GoldenAnswer("taken without id", Reply(200, json={}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("key too long", fault(400, "invalid_idempotency_key"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("400 validation", fault(400, "validation_error"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("no key", fault(401, "missing_api_key"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("restricted", fault(401, "restricted_api_key"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "invalid key",
            fault(403, "invalid_api_key", "API key is invalid."),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
            detail="invalid_api_key API key is invalid.",
        ),
        GoldenAnswer(
            "domain not verified",
            fault(403, "validation_error", "You can only send testing emails to your own (me@example.com)."),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
            detail="[address]",
        ),
        GoldenAnswer("not found", fault(404, "not_found"), Retry, Reason.RETRY),
        GoldenAnswer("wrong method", fault(405, "method_not_allowed"), Retry, Reason.RETRY),
        GoldenAnswer("same key, other body", fault(409, "invalid_idempotent_request"), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("same key, under way", fault(409, "concurrent_idempotent_requests"), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("413", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("422 validation", fault(422, "validation_error"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("attachment", fault(422, "invalid_attachment"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("from", fault(422, "invalid_from_address"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("access", fault(422, "invalid_access"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("parameter", fault(422, "invalid_parameter"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("region", fault(422, "invalid_region"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("field", fault(422, "missing_required_field"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a new word", fault(422, "unheard_of"), Retry, Reason.RETRY),
        GoldenAnswer(
            "too fast", fault(429, "rate_limit_exceeded", headers={"retry-after": "2"}), Retry, Reason.RATE_LIMITED, 2.0
        ),
        GoldenAnswer(
            "too fast, by the other header",
            fault(429, "rate_limit_exceeded", headers={"ratelimit-remaining": "0", "ratelimit-reset": "1"}),
            Retry,
            Reason.RATE_LIMITED,
            1.0,
        ),
        GoldenAnswer("daily quota", fault(429, "daily_quota_exceeded"), Retry, Reason.RATE_LIMITED, 3600.0),
        GoldenAnswer("monthly quota", fault(429, "monthly_quota_exceeded"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("security", fault(451, "security_error"), Rejected, Reason.CONTENT_REFUSED),
        GoldenAnswer("theirs", fault(500, "application_error"), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("theirs again", fault(500, "internal_server_error"), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "plain",
            mail(),
            "/emails",
            json=PLAIN,
            headers={
                "authorization": "Bearer re_s3cret",
                "idempotency-key": "key-1",
                "content-type": "application/json",
            },
        ),
        GoldenRequest(
            "everything",
            mail(
                content=Content(
                    subject="Hello",
                    text="t",
                    html="<img src='cid:logo'>",
                    attachments=(
                        Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF"),
                        Attachment(filename="logo.png", content_type="image/png", content=b"png", content_id="logo"),
                    ),
                ),
                tags=("welcome", "not allowed!"),
                options={
                    "cc": ['"Bob, B." <bob@example.com>'],
                    "bcc": ["eve@example.com"],
                    "reply_to": "help@example.com",
                    "headers": {"X-Order": "42"},
                    "list_unsubscribe": "https://gateway.example.com/u/t",
                },
            ),
            "/emails",
            json={
                **PLAIN,
                "html": "<img src='cid:logo'>",
                "text": "t",
                "cc": ['"Bob, B." <bob@example.com>'],
                "bcc": ["eve@example.com"],
                "reply_to": "help@example.com",
                "headers": {
                    "List-Unsubscribe": "<https://gateway.example.com/u/t>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                    "X-Order": "42",
                },
                "attachments": [
                    {"filename": "bill.pdf", "content": "JVBERg==", "content_type": "application/pdf"},
                    {"filename": "logo.png", "content": "cG5n", "content_type": "image/png", "content_id": "logo"},
                ],
                "tags": [
                    {"name": "delivery", "value": "dlv_1"},
                    {"name": "copies", "value": "yes"},
                    {"name": "welcome", "value": "yes"},
                ],
            },
        ),
        GoldenRequest(
            "a template of Resend's",
            mail(options={"template": {"id": "order-shipped", "variables": {"NAME": "Ada"}}}),
            "/emails",
            json={
                **{name: value for name, value in PLAIN.items() if name not in {"html", "text"}},
                "template": {"id": "order-shipped", "variables": {"NAME": "Ada"}},
            },
        ),
    )

    def message(self, number):
        return mail(number)


class TestResendTogether(TestResend):
    settings: ClassVar = {**TestResend.settings, "batch": True}
    calls = (
        GoldenCall(
            "the valid ones are taken, in order",
            Reply(200, json={"data": [{"id": "a"}, {"id": "c"}], "errors": [{"index": 1, "message": "bad `to`"}]}),
            ((Accepted, None), (Rejected, Reason.MESSAGE_INVALID), (Accepted, None)),
        ),
        GoldenCall("all are taken", Reply(200, json={"data": [{"id": "a"}, {"id": "b"}]}), [(Accepted, None)] * 2),
        GoldenCall("fewer ids", Reply(200, json={"data": [{"id": "a"}]}), [(Unknown, Reason.TIMED_OUT)] * 2),
        GoldenCall(
            "a refusal of nobody",
            Reply(200, json={"data": [{"id": "a"}], "errors": [{"index": 7, "message": "x"}]}),
            [(Unknown, Reason.TIMED_OUT)] * 2,
        ),
        GoldenCall("key", fault(403, "invalid_api_key"), [(Rejected, Reason.ACCOUNT_PROBLEM)] * 2),
        GoldenCall("too fast", fault(429, "rate_limit_exceeded"), [(Retry, Reason.RATE_LIMITED)] * 2),
        GoldenCall("under way", fault(409, "concurrent_idempotent_requests"), [(Unknown, Reason.TIMED_OUT)] * 2),
        GoldenCall(
            "refused for its contents: each alone",
            {"/emails/batch": fault(422, "validation_error"), "*": Reply(200, json={"id": ID})},
            [(Accepted, None)] * 2,
        ),
    )


async def test_several_go_in_one_call_and_those_with_files_or_templates_beside_it():
    file = Attachment(filename="a.txt", content_type="text/plain", content=b"x")
    taken = {"/emails": Reply(200, json={"id": ID}), "*": Reply(200, json={"data": [{"id": "a"}, {"id": "b"}]})}
    messages = [
        mail(1),
        mail(2, content=Content(subject="s", text="t", attachments=(file,))),
        mail(3),
        mail(4, options={"template": {"id": "welcome"}}),
    ]
    async with HttpServer(taken) as server:
        channel = built(base_url=server.url, proxy="direct", batch=True)
        found = await channel.send_many(messages)
        await channel.send_many(messages[:1])
        await channel.aclose()
    assert [outcome.provider_id for outcome in found] == ["a", ID, "b", ID]
    [call] = [request for request in server.requests if request.target == "/emails/batch"]
    assert call.json()[0] == PLAIN
    assert call.headers["x-batch-validation"] == "permissive"
    assert len(call.headers["idempotency-key"]) == 64
    assert [each["tags"][0]["value"] for each in call.json()] == ["dlv_1", "dlv_3"]
    assert sum(request.target == "/emails" for request in server.requests) == 3


def test_sharing_calls_gives_up_the_promise_of_a_key_for_each_message():
    alone, together = built().limits, built(batch=True).limits
    assert (alone.batch, alone.idempotent) == (1, True)
    assert (together.batch, together.idempotent, together.rate_counts_calls) == (100, False, True)


def built(**settings):
    given = {"api_key": "re_s3cret", "callback_secret": SECRET, **settings}
    return ResendChannel(msgspec.convert(given, ResendSettings), Recorder(now=lambda: NOW).tools)


async def sent(message):
    async with HttpServer(Reply(200, json={"id": ID})) as server:
        channel = built(base_url=server.url, proxy="direct")
        outcome = await channel.send(message)
        await channel.aclose()
        return outcome, server.requests


async def test_a_key_longer_than_resend_takes_is_shortened_the_same_way_each_time():
    keys = [(await sent(mail(idempotency_key=key * 257)))[1][0].headers["idempotency-key"] for key in "aab"]
    assert len(keys[0]) <= 256
    assert keys[0] == keys[1] != keys[2]


async def test_more_than_fifty_recipients_are_refused_unsent():
    outcome, requests = await sent(mail(options={"cc": [f"a{n}@example.com" for n in range(50)]}))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MESSAGE_INVALID
    assert requests == []


async def test_a_message_beyond_forty_megabytes_is_refused_unsent():
    big = Attachment(filename="a.bin", content_type="application/octet-stream", content=b"x" * 30_000_001)
    outcome, requests = await sent(mail(content=Content(subject="s", text="t", attachments=(big,))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TOO_LARGE
    assert requests == []


@pytest.mark.parametrize(
    ("reply", "ok"),
    [
        (Reply(200, json={"data": []}), True),
        (fault(401, "restricted_api_key"), True),
        (fault(403, "invalid_api_key"), False),
        (Reply(500), False),
    ],
)
async def test_check_says_whether_the_key_is_good(reply, ok):
    async with HttpServer({"GET /domains": reply}) as server:
        channel = built(base_url=server.url, proxy="direct")
        assert (await channel.check()).ok is ok
        await channel.aclose()


def event(kind, *, to=("a@example.com",), copies=False, **data):
    tags = {"delivery": "dlv_1", **({"copies": "yes"} if copies else {})}
    return {
        "type": kind,
        "created_at": "2026-11-22T23:41:12.126Z",
        "data": {"email_id": ID, "to": list(to), "tags": tags, "subject": "Hello", **data},
    }


def signed(body, *, at=NOW, secret=SECRET, event_id="msg_1"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signature = Webhook(secret).sign(event_id, datetime.fromtimestamp(at, tz=UTC), raw.decode("utf-8", "replace"))
    headers = {"svix-id": event_id, "svix-timestamp": str(int(at)), "svix-signature": signature}
    return Callback(url="https://gw.example.com/v1/callbacks/r", method="POST", headers=headers, query={}, body=raw)


def changed(callback, **headers):
    return msgspec.structs.replace(
        callback, headers={**callback.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
    )


def test_a_callback_signed_by_the_vendors_library_is_believed():
    built().verify(signed(event("email.sent")))


def test_one_of_several_signatures_is_enough():
    callback = signed(event("email.sent"))
    other = signed(event("email.sent"), secret="whsec_" + base64.b64encode(b"the secret before it").decode())
    both = f"v1a,xyz {other.headers['svix-signature']} {callback.headers['svix-signature']}"
    built().verify(changed(callback, svix_signature=both))


@pytest.mark.parametrize(
    "callback",
    [
        signed(event("email.sent"), secret="whsec_" + base64.b64encode(b"another secret").decode()),
        signed(event("email.sent"), at=NOW - 301),
        signed(event("email.sent"), at=NOW + 301),
        msgspec.structs.replace(signed(event("email.sent")), body=b'{"type": "email.sent"}'),
        msgspec.structs.replace(signed(event("email.sent")), headers={}),
        changed(signed(event("email.sent")), svix_id="msg_2"),
        changed(signed(event("email.sent")), svix_timestamp="now"),
        changed(signed(event("email.sent")), svix_timestamp=str(int(NOW) + 1)),
        changed(signed(event("email.sent")), svix_signature="v1,"),
        changed(signed(event("email.sent")), svix_signature="v1,ünlesbar"),
        changed(signed(event("email.sent")), svix_signature="v1"),
        changed(
            signed(event("email.sent")),
            svix_signature=signed(event("email.sent")).headers["svix-signature"].replace("v1,", "v2,"),
        ),
    ],
)
def test_a_callback_that_proves_nothing_is_refused(callback):
    with pytest.raises(CallbackRefused) as caught:
        built().verify(callback)
    assert caught.value.unreadable is False


def test_without_a_secret_no_callback_is_believed():
    with pytest.raises(CallbackRefused):
        built(callback_secret=None).verify(signed(event("email.sent")))


@pytest.mark.parametrize("secret", ["whsec_", "whsec_!!!", "ümlaut"])
def test_a_secret_that_is_no_secret_is_a_fault_at_start(secret):
    with pytest.raises(SettingsFault) as caught:
        built(callback_secret=secret)
    assert caught.value.field == "callback_secret"


def bounce(kind, sub):
    return {"bounce": {"type": kind, "subType": sub, "message": "550 for a@example.com"}}


@pytest.mark.parametrize(
    ("kind", "data", "type_", "reason"),
    [
        ("email.sent", {}, EventType.SENT, None),
        ("email.delivered", {}, EventType.DELIVERED, None),
        ("email.delivery_delayed", {}, EventType.DEFERRED, None),
        ("email.complained", {}, EventType.COMPLAINED, Reason.COMPLAINED),
        ("email.opened", {}, EventType.OPENED, None),
        ("email.clicked", {"click": {"link": "https://example.com"}}, EventType.CLICKED, None),
        ("email.suppressed", {}, EventType.FAILED, Reason.ADDRESS_DEAD),
        ("email.failed", {"failed": {"reason": "reached_daily_quota"}}, EventType.FAILED, None),
        ("email.bounced", bounce("Permanent", "General"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ("email.bounced", bounce("Permanent", "Suppressed"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ("email.bounced", bounce("Transient", "MailboxFull"), EventType.BOUNCED, Reason.RETRY),
        ("email.bounced", bounce("Transient", "MessageTooLarge"), EventType.BOUNCED, Reason.TOO_LARGE),
        ("email.bounced", bounce("Transient", "ContentRejected"), EventType.BOUNCED, Reason.CONTENT_REFUSED),
        ("email.bounced", bounce("Undetermined", "Undetermined"), EventType.BOUNCED, None),
    ],
)
def test_each_event_means_what_the_page_says(kind, data, type_, reason):
    (found,) = built().parse(signed(event(kind, **data)))
    assert (found.type, found.reason) == (type_, reason)
    assert (found.provider_id, found.message_id, found.event_id) == (ID, "dlv_1", "msg_1")
    assert found.address == "a@example.com"
    assert found.at == datetime(2026, 11, 22, 23, 41, 12, 126000, tzinfo=UTC).timestamp()
    assert "@" not in (found.detail or "")


@pytest.mark.parametrize("several", [{"copies": True}, {"to": ("a@example.com", "b@example.com")}])
def test_with_copies_nobody_is_named_since_nobody_knows_whose_event_it_is(several):
    (found,) = built().parse(signed(event("email.bounced", **several, **bounce("Permanent", "General"))))
    assert found.type is EventType.BOUNCED
    assert (found.address, found.reason) == (None, None)
    assert found.message_id == "dlv_1"


@pytest.mark.parametrize("kind", ["email.scheduled", "email.received", "contact.created", "domain.updated", "new"])
def test_events_about_other_things_change_nothing(kind):
    assert list(built().parse(signed({"type": kind, "data": {"id": "1"}}))) == []


def test_an_event_without_a_time_happened_now():
    body = {"type": "email.sent", "data": {"email_id": ID, "to": "a@example.com"}}
    assert built().parse(signed(body)) == (
        StatusEvent(type=EventType.SENT, at=NOW, provider_id=ID, address="a@example.com", event_id="msg_1"),
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"data": {}}', b'{"type": 1}'])
def test_a_body_nobody_can_read_is_unreadable(body):
    with pytest.raises(CallbackRefused) as caught:
        built().parse(signed(body))
    assert caught.value.unreadable is True
