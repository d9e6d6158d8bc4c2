"""Postmark: its requests, its error codes, and its webhooks, proven by user and password."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
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
from channels.email_postmark import PostmarkChannel, PostmarkSettings
from channels.testing import GoldenAnswer, GoldenCall, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0
ID = "b7bc2f4a-e38e-4336-af7d-e6c392c2f817"
TO = "private-address@example.com"
INACTIVE = (
    "Message OK, but will not deliver to these inactive addresses: {}. Inactive recipients are ones that bounced."
)


def mail(number=1, **changes):
    message = Message(
        id=f"dlv_{number}",
        kind="email",
        to=TO,
        to_name="Ada",
        sender="Shop <no-reply@example.com>",
        content=Content(subject="Hello", text="private-body", html="<p>private-body</p>"),
        idempotency_key=f"key-{number}",
    )
    return msgspec.structs.replace(message, **changes)


def ok(message="OK"):
    return Reply(
        200,
        json={"To": TO, "SubmittedAt": "2026-11-22T07:25:01Z", "MessageID": ID, "ErrorCode": 0, "Message": message},
    )


def code(number, message="words", status=422):
    return Reply(status, json={"ErrorCode": number, "Message": message})


def one(number=0):
    return {"To": TO, "MessageID": ID if not number else "", "ErrorCode": number, "Message": "words"}


TAKEN_AND_LOST = [(Accepted, None), (Unknown, Reason.TIMED_OUT)]
PLAIN = {
    "From": "Shop <no-reply@example.com>",
    "To": f"Ada <{TO}>",
    "Subject": "Hello",
    "HtmlBody": "<p>private-body</p>",
    "TextBody": "private-body",
    "Headers": [{"Name": "Message-ID", "Value": "<dlv_1@example.com>"}, {"Name": "X-PM-KeepID", "Value": "true"}],
    "Metadata": {"delivery": "dlv_1"},
}


class TestPostmark(HttpChannelContract):
    channel = PostmarkChannel
    settings: ClassVar = {
        "server_token": "s3cret-of-the-server",
        "callback_username": "hook",
        "callback_password": "pa55word",
    }
    secrets = ("server_token", "callback_password")
    accepted = ok()
    answers = (
        GoldenAnswer("taken", ok(), Accepted, provider_id=ID),
        GoldenAnswer("taken without id", Reply(200, json={"ErrorCode": 0}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "taken, but the recipient is inactive",
            ok(INACTIVE.format(f"someone@example.com, {TO.upper()}")),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="[address]",
        ),
        GoldenAnswer(
            "taken, but a copy is inactive", ok(INACTIVE.format("cc@example.com")), Accepted, detail="inactive"
        ),
        GoldenAnswer("token", code(10, status=401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("maintenance", code(100, status=503), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer(
            "invalid",
            code(300, "Invalid 'To' address: 'a@example.com'."),
            Rejected,
            Reason.MESSAGE_INVALID,
            detail="300 Invalid 'To' address: '[address]'.",
        ),
        GoldenAnswer("no such signature", code(400), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("signature not confirmed", code(401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("bad JSON", code(402), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("incompatible JSON", code(403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("out of credits", code(405), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("inactive", code(406, "words without a list"), Rejected, Reason.ADDRESS_DEAD, detail="406"),
        GoldenAnswer("JSON required", code(409), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("attachment type", code(411), Rejected, Reason.CONTENT_REFUSED),
        GoldenAnswer("pending", code(412), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("may not send", code(413), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("rate, by code", code(429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("rate, by status", code(429, status=429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("rate, by status alone", Reply(429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("no such template", code(1101), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a new code", code(9999), Retry, Reason.RETRY),
        GoldenAnswer("422 without words", Reply(422), Retry, Reason.RETRY),
        GoldenAnswer("401 without words", Reply(401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("403", Reply(403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("404", Reply(404), Retry, Reason.RETRY),
        GoldenAnswer("too large", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("theirs", Reply(500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("down", Reply(503, {"Retry-After": "5"}), Retry, Reason.PROVIDER_DOWN, 5.0),
    )
    calls = (
        GoldenCall(
            "each by its own code",
            Reply(200, json=[one(), one(300), one(406), one(9999), one(405)]),
            (
                (Accepted, None),
                (Rejected, Reason.MESSAGE_INVALID),
                (Rejected, Reason.ADDRESS_DEAD),
                (Retry, Reason.RETRY),
                (Rejected, Reason.ACCOUNT_PROBLEM),
            ),
        ),
        GoldenCall("fewer answers than messages", Reply(200, json=[one()]), [(Unknown, Reason.TIMED_OUT)] * 2),
        GoldenCall("a taken one without id", Reply(200, json=[one(), {"ErrorCode": 0}]), TAKEN_AND_LOST),
        GoldenCall("token", code(10, status=401), [(Rejected, Reason.ACCOUNT_PROBLEM)] * 2),
        GoldenCall("rate", code(429, status=429), [(Retry, Reason.RATE_LIMITED)] * 2),
        GoldenCall("theirs", Reply(500), [(Unknown, Reason.TIMED_OUT)] * 2),
        GoldenCall(
            "refused for its contents: each alone",
            {"/email/batch": code(402), "*": ok()},
            [(Accepted, None)] * 2,
        ),
    )
    requests = (
        GoldenRequest(
            "plain",
            mail(),
            "/email",
            json=PLAIN,
            headers={
                "x-postmark-server-token": "s3cret-of-the-server",
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
                    html="<img src='cid:logo'>",
                    attachments=(
                        Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF"),
                        Attachment(filename="logo.png", content_type="image/png", content=b"png", content_id="logo"),
                    ),
                ),
                tags=("welcome", "second"),
                options={
                    "cc": ["Bob <bob@example.com>", "carol@example.com"],
                    "bcc": ["eve@example.com"],
                    "reply_to": "help@example.com",
                    "headers": {"X-Order": "42"},
                    "list_unsubscribe": "https://gateway.example.com/u/t",
                    "metadata": {"order": "42", "ORDER": "43", "a key that is far too long": "1", "long": "v" * 81},
                },
            ),
            "/email",
            json={
                **PLAIN,
                "HtmlBody": "<img src='cid:logo'>",
                "TextBody": "t",
                "Cc": "Bob <bob@example.com>, carol@example.com",
                "Bcc": "eve@example.com",
                "ReplyTo": "help@example.com",
                "Tag": "welcome",
                "Headers": [
                    {"Name": "List-Unsubscribe", "Value": "<https://gateway.example.com/u/t>"},
                    {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
                    {"Name": "X-Order", "Value": "42"},
                    *PLAIN["Headers"],
                ],
                "Attachments": [
                    {"Name": "bill.pdf", "Content": "JVBERg==", "ContentType": "application/pdf"},
                    {"Name": "logo.png", "Content": "cG5n", "ContentType": "image/png", "ContentID": "cid:logo"},
                ],
                "Metadata": {"delivery": "dlv_1", "order": "42"},
            },
        ),
        GoldenRequest(
            "a template by its alias",
            mail(options={"template": {"id": "order-shipped", "variables": {"name": "Ada"}}}),
            "/email/withTemplate",
            json={
                **{name: PLAIN[name] for name in ("From", "To", "Headers", "Metadata")},
                "TemplateAlias": "order-shipped",
                "TemplateModel": {"name": "Ada"},
            },
        ),
        GoldenRequest(
            "a template by its number, without variables",
            mail(options={"template": {"id": 12}}),
            "/email/withTemplate",
            json={
                **{name: PLAIN[name] for name in ("From", "To", "Headers", "Metadata")},
                "TemplateId": 12,
                "TemplateModel": {},
            },
        ),
    )

    def message(self, number):
        return mail(number)


def built(**settings):
    given = {**TestPostmark.settings, **settings}
    return PostmarkChannel(msgspec.convert(given, PostmarkSettings), Recorder(now=lambda: NOW).tools)


async def sent(message, reply=None, **settings):
    async with HttpServer(reply or ok()) as server:
        channel = built(base_url=server.url, proxy="direct", **settings)
        outcome = await channel.send(message)
        await channel.aclose()
        return outcome, server.requests


async def test_a_configured_stream_is_named():
    _, (request,) = await sent(mail(), message_stream="broadcast")
    assert request.json()["MessageStream"] == "broadcast"


@pytest.mark.parametrize(
    ("listed", "reason"),
    [(TO, Reason.ADDRESS_DEAD), ("cc@example.com", Reason.INVALID_ADDRESS)],
)
async def test_with_copies_only_a_named_recipient_is_dead(listed, reason):
    words = f"You tried to send to recipients marked as inactive. Found inactive addresses: {listed}. Inactive ones …"
    outcome, _ = await sent(mail(options={"cc": ["cc@example.com"]}), code(406, words))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


async def test_more_than_fifty_recipients_are_refused_unsent():
    outcome, requests = await sent(mail(options={"bcc": [f"a{n}@example.com" for n in range(50)]}))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.MESSAGE_INVALID
    assert requests == []


async def test_a_message_beyond_ten_megabytes_is_refused_unsent():
    big = Attachment(filename="a.bin", content_type="application/octet-stream", content=b"x" * 8_000_000)
    outcome, requests = await sent(mail(content=Content(subject="s", text="t", attachments=(big,))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TOO_LARGE
    assert requests == []


TEMPLATE = {"template": {"id": "welcome", "variables": {"name": "Ada"}}}


async def test_several_go_in_one_call_in_order_and_templates_in_one_of_their_own():
    async with HttpServer({"*": lambda request: Reply(200, json=[one()] * len(listed(request)))}) as server:
        channel = built(base_url=server.url, proxy="direct")
        messages = [mail(1), mail(2, options=TEMPLATE), mail(3, sender="a\r\nb"), mail(4), mail(5, options=TEMPLATE)]
        found = await channel.send_many(messages)
        await channel.aclose()
    assert [type(outcome) for outcome in found] == [Accepted, Accepted, Rejected, Accepted, Accepted]
    sent = {request.target: [each["Metadata"]["delivery"] for each in listed(request)] for request in server.requests}
    assert sent == {"/email/batch": ["dlv_1", "dlv_4"], "/email/batchWithTemplates": ["dlv_2", "dlv_5"]}
    assert listed(server.requests[0])[0] == PLAIN


def listed(request):
    body = request.json()
    return body["Messages"] if isinstance(body, dict) else body


async def test_a_call_larger_than_they_take_is_made_as_several():
    big = Attachment(filename="a.bin", content_type="application/octet-stream", content=b"x" * 6_000_000)
    async with HttpServer(
        {"/email": ok(), "*": lambda request: Reply(200, json=[one()] * len(listed(request)))}
    ) as server:
        channel = built(base_url=server.url, proxy="direct")
        content = Content(subject="s", text="t", attachments=(big,))
        found = await channel.send_many([mail(number, content=content) for number in range(7)])
        await channel.aclose()
    assert {type(outcome) for outcome in found} == {Accepted}
    assert sorted(len(listed(request)) for request in server.requests if request.target == "/email/batch") == [6]
    assert max(len(request.body) for request in server.requests) <= 50_000_000


@pytest.mark.parametrize(("reply", "good"), [(Reply(200, json={"ID": 1}), True), (code(10, status=401), False)])
async def test_check_says_whether_the_token_is_good(reply, good):
    async with HttpServer({"GET /server": reply}) as server:
        channel = built(base_url=server.url, proxy="direct")
        assert (await channel.check()).ok is good
        await channel.aclose()


PROOF = "Basic " + base64.b64encode(b"hook:pa55word").decode()


def callback(body, authorization=PROOF):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    if authorization is not None:
        headers["authorization"] = authorization
    return Callback(url="https://gw.example.com/v1/callbacks/p", method="POST", headers=headers, query={}, body=raw)


def test_a_callback_with_user_and_password_is_believed():
    built().verify(callback({}))
    built().verify(callback({}, PROOF.replace("Basic", "basic")))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic ünlesbar",
        "Basic " + base64.b64encode(b"hook:wrong").decode(),
        "Basic " + base64.b64encode(b"hook").decode(),
        "Bearer " + base64.b64encode(b"hook:pa55word").decode(),
    ],
)
def test_a_callback_that_proves_nothing_is_refused(authorization):
    with pytest.raises(CallbackRefused) as caught:
        built().verify(callback({}, authorization))
    assert caught.value.unreadable is False


NOTHING = "Basic " + base64.b64encode(b"None:None").decode()


@pytest.mark.parametrize("authorization", [None, "Basic Og==", "Basic", NOTHING])
def test_without_a_configured_password_no_callback_is_believed(authorization):
    with pytest.raises(CallbackRefused):
        built(callback_username=None, callback_password=None).verify(callback({}, authorization))


def test_half_a_credential_is_a_fault_at_start():
    with pytest.raises(SettingsFault) as caught:
        built(callback_password=None)
    assert caught.value.field == "callback_password"


AT = "2026-11-05T16:33:54.9070259Z"
COMMON = {"MessageID": ID, "Metadata": {"delivery": "dlv_1"}, "MessageStream": "outbound", "Tag": "x"}


def bounced(kind):
    return {
        **COMMON,
        "RecordType": "Bounce",
        "ID": 42,
        "Type": kind,
        "TypeCode": 1,
        "Email": "a@example.com",
        "BouncedAt": AT,
        "Description": "The server was unable to deliver your message.",
        "Details": "smtp;550 5.1.1 <a@example.com>",
        "Inactive": True,
    }


def suppressed(why, *, sending=True):
    return {
        **COMMON,
        "RecordType": "SubscriptionChange",
        "Recipient": "a@example.com",
        "ChangedAt": AT,
        "SuppressSending": sending,
        "SuppressionReason": why,
    }


def seen(record, **fields):
    return {**COMMON, "RecordType": record, "Recipient": "a@example.com", "ReceivedAt": AT, **fields}


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (seen("Delivery", ReceivedAt=None, DeliveredAt=AT), EventType.DELIVERED, None),
        (seen("Open", FirstOpen=True), EventType.OPENED, None),
        (seen("Click", OriginalLink="https://example.com"), EventType.CLICKED, None),
        ({**bounced("SpamComplaint"), "RecordType": "SpamComplaint"}, EventType.COMPLAINED, Reason.COMPLAINED),
        (bounced("HardBounce"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (bounced("BadEmailAddress"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (bounced("SoftBounce"), EventType.BOUNCED, Reason.RETRY),
        (bounced("Unknown"), EventType.BOUNCED, None),
        (bounced("Transient"), EventType.DEFERRED, None),
        (bounced("DnsError"), EventType.DEFERRED, None),
        (bounced("SpamNotification"), EventType.BOUNCED, Reason.CONTENT_REFUSED),
        (bounced("VirusNotification"), EventType.BOUNCED, Reason.CONTENT_REFUSED),
        (bounced("Blocked"), EventType.BOUNCED, Reason.POLICY),
        (bounced("DMARCPolicy"), EventType.BOUNCED, Reason.POLICY),
        (bounced("SpamComplaint"), EventType.COMPLAINED, Reason.COMPLAINED),
        (bounced("Unsubscribe"), EventType.UNSUBSCRIBED, Reason.OPTED_OUT),
        (bounced("Subscribe"), EventType.RESUBSCRIBED, None),
        (bounced("ManuallyDeactivated"), EventType.FAILED, Reason.POLICY),
        (bounced("Unconfirmed"), EventType.FAILED, Reason.POLICY),
        (bounced("SMTPApiError"), EventType.FAILED, None),
        (bounced("TemplateRenderingFailed"), EventType.FAILED, Reason.MESSAGE_INVALID),
        (suppressed("HardBounce"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (suppressed("SpamComplaint"), EventType.COMPLAINED, Reason.COMPLAINED),
        (suppressed("ManualSuppression"), EventType.UNSUBSCRIBED, Reason.OPTED_OUT),
        (suppressed(None, sending=False), EventType.RESUBSCRIBED, None),
    ],
)
def test_each_webhook_means_what_the_page_says(body, kind, reason):
    (found,) = built().parse(callback(body))
    assert (found.type, found.reason) == (kind, reason)
    assert (found.provider_id, found.message_id, found.address) == (ID, "dlv_1", "a@example.com")
    assert found.at == datetime(2026, 11, 5, 16, 33, 54, 907025, tzinfo=UTC).timestamp()
    assert found.event_id == ("42" if "ID" in body else None)
    assert "@" not in (found.detail or "")


@pytest.mark.parametrize(
    "body",
    [
        bounced("AutoResponder"),
        bounced("AddressChange"),
        bounced("ChallengeVerification"),
        bounced("OpenRelayTest"),
        bounced("InboundError"),
        suppressed("A new reason"),
        seen("Inbound"),
        seen("A new record"),
    ],
)
def test_webhooks_that_say_nothing_about_a_delivery_change_nothing(body):
    assert list(built().parse(callback(body))) == []


def test_a_webhook_without_time_and_metadata_is_found_by_its_id_alone():
    (found,) = built().parse(callback({"RecordType": "Delivery", "MessageID": ID, "Metadata": None}))
    assert (found.at, found.provider_id, found.message_id, found.address) == (NOW, ID, None, None)


def test_a_time_without_an_offset_is_utc():
    (found,) = built().parse(callback({"RecordType": "Delivery", "DeliveredAt": "2026-11-05T16:33:54"}))
    assert found.at == datetime(2026, 11, 5, 16, 33, 54, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"MessageID": "x"}', b"\xff", b'{"RecordType": 1}'])
def test_a_body_nobody_can_read_is_unreadable(body):
    with pytest.raises(CallbackRefused) as caught:
        built().parse(callback(body))
    assert caught.value.unreadable is True
