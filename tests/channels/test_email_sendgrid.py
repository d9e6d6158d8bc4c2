"""The SendGrid adapter against its documented requests and answers; callbacks against SendGrid's own test vector."""

from __future__ import annotations

import base64
from typing import ClassVar

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

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
from channels.email_sendgrid import SendGridChannel, SendGridSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0


def letter(number: int = 1, **changes) -> Message:
    fields = {
        "id": f"dlv_{number}",
        "kind": "email",
        "to": "private-address@example.com",
        "sender": "Shop <no-reply@example.com>",
        "content": Content(subject="Order shipped", text="private-body"),
        "idempotency_key": f"dlv_{number}",
    }
    return Message(**{**fields, **changes})


def fault(message: str, field: str | None = None, status: int = 400) -> Reply:
    return Reply(status, json={"errors": [{"message": message, "field": field, "help": None}]})


FULL = letter(
    to="Ann <ann@example.com>",
    content=Content(
        subject="Bestellung ✓",
        text="Hi",
        html="<img src='cid:logo'>",
        attachments=(
            Attachment(filename="a.pdf", content_type="application/pdf", content=b"%PDF"),
            Attachment(filename="logo.png", content_type="image/png", content=b"PNG", content_id="logo"),
        ),
    ),
    category="orders",
    tags=("vip", "orders", "x" * 256),
    options={
        "metadata": {"order": "42", "event": "delivered", "gateway_message_id": "forged"},
        "cc": ["Bob <bob@example.com>", "ANN@example.com"],
        "bcc": ["audit@example.com", "bob@example.com"],
        "reply_to": "help@example.com",
        "headers": {"X-Order": "42"},
        "list_unsubscribe": "https://example.com/u/1",
    },
)


class TestSendGrid(HttpChannelContract):
    channel = SendGridChannel
    settings: ClassVar = {"api_key": "SG.s3cret-key"}
    secrets = ("api_key",)
    accepted = Reply(202, {"X-Message-Id": "14c5d75ce93.dfd.64b469"})
    answers = (
        GoldenAnswer("queued", accepted, Accepted, provider_id="14c5d75ce93.dfd.64b469"),
        GoldenAnswer("queued without an id", Reply(202), Accepted),
        GoldenAnswer(
            "the recipient",
            fault("Does not contain a valid address.", "personalizations.0.to.0.email"),
            Rejected,
            Reason.INVALID_ADDRESS,
            detail="personalizations.0.to.0.email Does not contain a valid address.",
        ),
        GoldenAnswer(
            "a copy",
            fault("Does not contain a valid address.", "personalizations.0.cc.0.email"),
            Rejected,
            Reason.MESSAGE_INVALID,
        ),
        GoldenAnswer(
            "the recipient and more",
            Reply(
                400,
                json={
                    "errors": [
                        {"message": "Does not contain a valid address.", "field": "personalizations.0.to.0.email"},
                        {"message": "The subject is required.", "field": "subject"},
                    ]
                },
            ),
            Rejected,
            Reason.MESSAGE_INVALID,
        ),
        GoldenAnswer("the content", fault("The subject is required.", "subject"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a 400 nobody can read", Reply(400, body="Bad Request"), Retry, Reason.RETRY),
        GoldenAnswer("no key", fault("authorization required", status=401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "the sender is not verified",
            fault("The from address does not match a verified Sender Identity.", "from", 403),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
        ),
        GoldenAnswer("404", fault("not found", status=404), Retry, Reason.RETRY),
        GoldenAnswer("405", fault("method not allowed", status=405), Retry, Reason.RETRY),
        GoldenAnswer(
            "413", fault("content too large", status=413), Rejected, Reason.TOO_LARGE, detail="content too large"
        ),
        GoldenAnswer(
            "429 until a time", Reply(429, {"X-RateLimit-Reset": str(int(NOW) + 40)}), Retry, Reason.RATE_LIMITED, 40.0
        ),
        GoldenAnswer("429 until now", Reply(429, {"X-RateLimit-Reset": "1392815263"}), Retry, Reason.RATE_LIMITED, 0.0),
        GoldenAnswer("429 for seconds", Reply(429, {"X-RateLimit-Reset": "9"}), Retry, Reason.RATE_LIMITED, 9.0),
        GoldenAnswer("429 without a word", fault("too many requests", status=429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("500 may have sent", fault("internal server error", status=500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("503", Reply(503), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer("200 is not SendGrid's success", Reply(200, json={}), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "plain",
            letter(to_name="Ann"),
            "/v3/mail/send",
            json={
                "personalizations": [
                    {
                        "to": [{"email": "private-address@example.com", "name": "Ann"}],
                        "custom_args": {"gateway_message_id": "dlv_1"},
                    }
                ],
                "from": {"email": "no-reply@example.com", "name": "Shop"},
                "subject": "Order shipped",
                "content": [{"type": "text/plain", "value": "private-body"}],
                "headers": {"Message-ID": "<dlv_1@example.com>"},
                "categories": ["default"],
            },
            headers={"authorization": "Bearer SG.s3cret-key", "content-type": "application/json"},
        ),
        GoldenRequest(
            "everything",
            FULL,
            "/v3/mail/send",
            json={
                "personalizations": [
                    {
                        "to": [{"email": "ann@example.com", "name": "Ann"}],
                        "cc": [{"email": "bob@example.com", "name": "Bob"}],
                        "bcc": [{"email": "audit@example.com"}],
                        "custom_args": {"order": "42", "gateway_message_id": "dlv_1"},
                    }
                ],
                "from": {"email": "no-reply@example.com", "name": "Shop"},
                "reply_to": {"email": "help@example.com"},
                "subject": "Bestellung ✓",
                "content": [
                    {"type": "text/plain", "value": "Hi"},
                    {"type": "text/html", "value": "<img src='cid:logo'>"},
                ],
                "headers": {
                    "X-Order": "42",
                    "List-Unsubscribe": "<https://example.com/u/1>",
                    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                    "Message-ID": "<dlv_1@example.com>",
                },
                "categories": ["orders", "vip"],
                "attachments": [
                    {
                        "content": base64.b64encode(b"%PDF").decode(),
                        "type": "application/pdf",
                        "filename": "a.pdf",
                        "disposition": "attachment",
                    },
                    {
                        "content": base64.b64encode(b"PNG").decode(),
                        "type": "image/png",
                        "filename": "logo.png",
                        "disposition": "inline",
                        "content_id": "logo",
                    },
                ],
            },
        ),
        GoldenRequest(
            "a template of SendGrid's, and nothing to show",
            letter(content=Content(), options={"template": {"id": "d-1", "variables": {"order": 42}}}),
            "/v3/mail/send",
            json={
                "personalizations": [
                    {
                        "to": [{"email": "private-address@example.com"}],
                        "custom_args": {"gateway_message_id": "dlv_1"},
                        "dynamic_template_data": {"order": 42},
                    }
                ],
                "from": {"email": "no-reply@example.com", "name": "Shop"},
                "subject": "(no subject)",
                "content": [{"type": "text/plain", "value": " "}],
                "headers": {"Message-ID": "<dlv_1@example.com>"},
                "categories": ["default"],
                "template_id": "d-1",
            },
        ),
    )

    def message(self, number):
        return letter(number)


def build(**settings) -> SendGridChannel:
    return SendGridChannel(
        msgspec.convert({"api_key": "k", **settings}, SendGridSettings), Recorder(now=lambda: NOW).tools
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "no address"}, Reason.INVALID_ADDRESS),
        ({"to": "a@example.com\r\nBcc: b@example.com"}, Reason.INVALID_ADDRESS),
        ({"sender": None}, Reason.MESSAGE_INVALID),
        ({"content": Content(subject="a\nb", text="x")}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-SMTPAPI": "{}"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-A": "a\r\nBcc: b@example.com"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": "not a list"}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": [f"a{n}@example.com" for n in range(1000)]}}, Reason.MESSAGE_INVALID),
    ],
)
async def test_what_must_not_be_sent_is_refused_before_it_is(changes, reason):
    channel = build(base_url="http://127.0.0.1:9")
    outcome = await channel.send(letter(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    await channel.aclose()


async def test_a_message_beyond_thirty_megabytes_is_refused_before_it_is_sent():
    big = Attachment(filename="a", content_type="text/plain", content=bytes(23_000_000))
    channel = build(base_url="http://127.0.0.1:9")
    outcome = await channel.send(letter(content=Content(text="x", attachments=(big,))))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.TOO_LARGE
    await channel.aclose()


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (Reply(200, json={"scopes": ["mail.send", "stats.read"]}), True),
        (Reply(200, json={"scopes": ["stats.read"]}), False),
        (Reply(401, json={"errors": [{"message": "authorization required"}]}), False),
    ],
)
async def test_check_says_whether_the_key_may_send(answer, ok):
    async with HttpServer({"GET /v3/scopes": answer}) as server:
        channel = build(base_url=server.url)
        assert (await channel.check()).ok is ok
        await channel.aclose()


# --- callbacks ------------------------------------------------------------------------------------------------------

# Published by SendGrid with its own library (sendgrid-python, test/unit/test_eventwebhook.py).
VENDORS_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpigl"
    "SI8eNEc6wEA3F+g=="
)
VENDORS_SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
VENDORS_BODY = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)


def posted(body: bytes, signature: str = "", timestamp: str = "") -> Callback:
    headers = {
        "x-twilio-email-event-webhook-signature": signature,
        "x-twilio-email-event-webhook-timestamp": timestamp,
    }
    return Callback(url="https://example.com/cb", method="POST", headers=headers, query={}, body=body)


def vendors(now: float = 1_600_112_600.0) -> SendGridChannel:
    settings = SendGridSettings(api_key="k", webhook_public_key=VENDORS_KEY)
    return SendGridChannel(settings, Recorder(now=lambda: now).tools)


def test_the_vendors_own_example_is_believed_and_read():
    channel = vendors()
    callback = posted(VENDORS_BODY, VENDORS_SIGNATURE, "1600112502")
    channel.verify(callback)
    (event,) = channel.parse(callback)
    assert (event.type, event.reason, event.at) == (EventType.FAILED, Reason.ADDRESS_DEAD, 1_600_112_492.0)
    assert (event.provider_id, event.address) == ("LRzXl_NHStOGhQ4kofSm_A", "hello@world.com")


@pytest.mark.parametrize(
    "callback",
    [
        posted(VENDORS_BODY.strip(), VENDORS_SIGNATURE, "1600112502"),
        posted(VENDORS_BODY, VENDORS_SIGNATURE, "1600112503"),
        posted(VENDORS_BODY, VENDORS_SIGNATURE, "timestamp"),
        posted(VENDORS_BODY, VENDORS_SIGNATURE, ""),
        posted(VENDORS_BODY, "", "1600112502"),
        posted(VENDORS_BODY, "ü", "1600112502"),
        posted(VENDORS_BODY, "AAAA", "1600112502"),
    ],
)
def test_a_forged_callback_is_refused(callback):
    with pytest.raises(CallbackRefused) as caught:
        vendors().verify(callback)
    assert not caught.value.unreadable


@pytest.mark.parametrize("now", [1_600_112_502.0 + 26 * 3600, 1_600_112_502.0 - 600])
def test_an_old_or_future_signature_is_refused(now):
    with pytest.raises(CallbackRefused):
        vendors(now).verify(posted(VENDORS_BODY, VENDORS_SIGNATURE, "1600112502"))


def test_without_a_key_nothing_is_believed():
    with pytest.raises(CallbackRefused):
        build().verify(posted(VENDORS_BODY, VENDORS_SIGNATURE, "1600112502"))


def test_a_key_of_our_own_signs_and_another_does_not():
    own, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    channel = build(webhook_public_key=public(own))
    stamp, body = str(int(NOW)), b"[]"
    signed = {
        key: base64.b64encode(key.sign(stamp.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
        for key in (own, other)
    }
    channel.verify(posted(body, signed[own], stamp))
    with pytest.raises(CallbackRefused):
        channel.verify(posted(body, signed[other], stamp))


def public(key) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


@pytest.mark.parametrize("key", ["no base64!", "AAAA", public(rsa.generate_private_key(65537, 2048))])
def test_a_verification_key_that_is_none_is_a_fault_of_the_settings(key):
    with pytest.raises(SettingsFault) as caught:
        build(webhook_public_key=key)
    assert caught.value.field == "webhook_public_key"


@pytest.mark.parametrize(
    ("event", "type_", "reason"),
    [
        ({"event": "processed"}, EventType.SENT, None),
        ({"event": "deferred", "response": "400 try again later"}, EventType.DEFERRED, None),
        ({"event": "delivered", "response": "250 OK"}, EventType.DELIVERED, None),
        ({"event": "open"}, EventType.OPENED, None),
        ({"event": "click", "url": "https://example.com"}, EventType.CLICKED, None),
        ({"event": "spamreport"}, EventType.COMPLAINED, None),
        ({"event": "unsubscribe"}, EventType.UNSUBSCRIBED, None),
        ({"event": "group_unsubscribe", "asm_group_id": 10}, EventType.UNSUBSCRIBED, None),
        ({"event": "group_resubscribe", "asm_group_id": 10}, EventType.RESUBSCRIBED, None),
        ({"event": "bounce", "type": "bounce", "status": "5.1.1"}, EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ({"event": "bounce", "type": "bounce", "status": 550}, EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ({"event": "bounce", "type": "bounce", "status": "5.7.1"}, EventType.BOUNCED, Reason.POLICY),
        (
            {"event": "bounce", "type": "bounce", "bounce_classification": "Invalid Address"},
            EventType.BOUNCED,
            Reason.ADDRESS_DEAD,
        ),
        (
            {"event": "bounce", "type": "bounce", "bounce_classification": "Mailbox Unavailable"},
            EventType.BOUNCED,
            Reason.INVALID_ADDRESS,
        ),
        (
            {"event": "bounce", "type": "blocked", "bounce_classification": "Reputation"},
            EventType.BOUNCED,
            Reason.POLICY,
        ),
        (
            {"event": "bounce", "type": "blocked", "bounce_classification": "Invalid Address"},
            EventType.BOUNCED,
            Reason.POLICY,
        ),
        ({"event": "bounce", "type": "blocked"}, EventType.BOUNCED, Reason.POLICY),
        ({"event": "dropped", "reason": "Bounced Address"}, EventType.FAILED, Reason.ADDRESS_DEAD),
        ({"event": "dropped", "reason": "Unsubscribed Address"}, EventType.FAILED, Reason.OPTED_OUT),
        ({"event": "dropped", "reason": "Spam Reporting Address"}, EventType.FAILED, Reason.COMPLAINED),
        (
            {"event": "dropped", "reason": "Spam Content (if spam checker app enabled)"},
            EventType.FAILED,
            Reason.CONTENT_REFUSED,
        ),
        ({"event": "dropped", "reason": "Invalid"}, EventType.FAILED, Reason.INVALID_ADDRESS),
        ({"event": "dropped", "reason": "something new"}, EventType.FAILED, None),
    ],
)
def test_events_are_normalised(event, type_, reason):
    whole = {
        "email": "ann@example.com",
        "timestamp": 1513299569,
        "sg_event_id": "e1",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001.16648.5515E0B88.0",
        "category": ["orders"],
        "gateway_message_id": "dlv_1",
        **event,
    }
    (found,) = build().parse(posted(msgspec.json.encode([whole])))
    assert (found.type, found.reason) == (type_, reason)
    assert (found.message_id, found.provider_id) == ("dlv_1", "14c5d75ce93.dfd.64b469")
    assert (found.at, found.event_id, found.address) == (1513299569.0, "e1", "ann@example.com")
    assert found.detail == (event.get("reason") or event.get("response"))


def test_events_that_are_no_affair_of_a_message_are_left_out():
    body = msgspec.json.encode([{"event": "account_status_change", "type": "compliance_suspend", "timestamp": 1}])
    assert build().parse(posted(body)) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b"[" * 5000])
def test_an_unreadable_callback_is_refused_as_such(body):
    with pytest.raises(CallbackRefused) as caught:
        build().parse(posted(body))
    assert caught.value.unreadable
