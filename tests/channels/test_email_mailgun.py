"""The Mailgun adapter against its documented answers; its forms are read by the standard library's parser."""

from __future__ import annotations

import hashlib
import hmac
from email import message_from_bytes
from email.policy import HTTP
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
from channels.email_mailgun import MailgunChannel, MailgunSettings
from channels.testing import GoldenAnswer, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply
from tests.support.published import faults, schema

NOW = 1_795_000_000.0
QUEUED = Reply(200, json={"id": "<20261123.1.ABC@mg.example.com>", "message": "Queued. Thank you."})


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


def fault(message: str, status: int = 400) -> Reply:
    return Reply(status, json={"message": message})


class TestMailgun(HttpChannelContract):
    channel = MailgunChannel
    settings: ClassVar = {"api_key": "key-s3cret", "domain": "mg.example.com"}
    secrets = ("api_key",)
    accepted = QUEUED
    answers = (
        GoldenAnswer("queued", QUEUED, Accepted, provider_id="20261123.1.ABC@mg.example.com"),
        GoldenAnswer(
            "the recipient",
            fault("to parameter is not a valid address. please check documentation"),
            Rejected,
            Reason.INVALID_ADDRESS,
            detail="to parameter is not a valid address",
        ),
        GoldenAnswer("the sender", fault("from parameter is not a valid address."), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a copy", fault("cc parameter is not a valid address."), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("a 400 nobody can read", Reply(400, body="Bad Request"), Retry, Reason.RETRY),
        GoldenAnswer("no key", Reply(401, body="Forbidden"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("no access", fault("Domain is not allowed to send", 403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("404 can pass", fault("Domain not found: mg.example.com", 404), Retry, Reason.RETRY),
        GoldenAnswer("413", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("429", Reply(429, {"Retry-After": "30"}), Retry, Reason.RATE_LIMITED, 30.0),
        GoldenAnswer("500 may have sent", fault("Internal Error", 500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("503", Reply(503), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer("200 without an id", Reply(200, json={"message": "?"}), Unknown, Reason.TIMED_OUT),
    )

    def message(self, number):
        return letter(number)


def build(**settings) -> MailgunChannel:
    whole = {"api_key": "k", "domain": "mg.example.com", **settings}
    return MailgunChannel(msgspec.convert(whole, MailgunSettings), Recorder(now=lambda: NOW).tools)


async def sent(message: Message):
    """Send, and read the form that arrived with another's parser: names, values and file names in order."""
    async with HttpServer(QUEUED) as server:
        channel = build(base_url=server.url)
        outcome = await channel.send(message)
        assert isinstance(outcome, Accepted), outcome
        await channel.aclose()
    (request,) = server.requests
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    parsed = message_from_bytes(head + request.body, policy=HTTP)
    parts = []
    for part in parsed.iter_parts():
        name = part.get_param("name", header="content-disposition")
        parts.append((name, part.get_filename(), part.get_payload(decode=True)))
    assert not faults("mailgun", as_published(parts))
    return request, parts


def as_published(parts):
    """Show a form as Mailgun's schema speaks of it: what may come several times is a list, a file is text."""
    listed = {name for name, one in schema("mailgun")["properties"].items() if one.get("type") == "array"}
    form = {}
    for name, _, content in parts:
        text = content.decode("latin-1")
        form[name] = [*form.get(name, ()), text] if name in listed else text
    return form


@pytest.mark.parametrize("part", [("o:tags", None, b"x"), ("h:X Y", None, b"x"), ("o:tracking", None, b"perhaps")])
async def test_the_judge_of_forms_would_notice(part):
    _, parts = await sent(letter())
    assert faults("mailgun", as_published([*parts, part]))


async def test_a_plain_message_is_the_documented_form():
    request, parts = await sent(letter(to_name='Ann "A" O\'Hara'))
    assert (request.method, request.target) == ("POST", "/v3/mg.example.com/messages")
    assert request.headers["authorization"] == "Basic YXBpOms="  # api:k
    assert parts == [
        ("from", None, b"Shop <no-reply@example.com>"),
        ("to", None, b'"Ann \\"A\\" O\'Hara" <private-address@example.com>'),
        ("subject", None, b"Order shipped"),
        ("text", None, b"private-body"),
        ("h:Message-Id", None, b"<dlv_1@example.com>"),
        ("o:tag", None, b"default"),
        ("v:gateway_message_id", None, b"dlv_1"),
    ]


async def test_copies_headers_tags_and_files_are_in_the_form():
    message = letter(
        content=Content(
            subject="Bestellung ✓",
            text="Hi",
            html="<img src='cid:logo'>",
            attachments=(
                Attachment(filename="a.pdf", content_type="application/pdf", content=b"%PDF\r\n--x"),
                Attachment(filename="logo.png", content_type="image/png", content=b"PNG", content_id="logo"),
            ),
        ),
        category="orders",
        tags=("vip", "ünicode", "orders"),
        options={
            "metadata": {"order": "42", "gateway_message_id": "dlv_of_another"},
            "cc": ["Bob <bob@example.com>", "c@example.com"],
            "bcc": ["audit@example.com"],
            "reply_to": "help@example.com",
            "headers": {"X-Order": "42"},
            "list_unsubscribe": "https://example.com/u/1",
        },
    )
    _, parts = await sent(message)
    assert parts[2:] == [
        ("cc", None, b"Bob <bob@example.com>"),
        ("cc", None, b"c@example.com"),
        ("bcc", None, b"audit@example.com"),
        ("subject", None, "Bestellung ✓".encode()),
        ("text", None, b"Hi"),
        ("html", None, b"<img src='cid:logo'>"),
        ("h:List-Unsubscribe", None, b"<https://example.com/u/1>"),
        ("h:List-Unsubscribe-Post", None, b"List-Unsubscribe=One-Click"),
        ("h:X-Order", None, b"42"),
        ("h:Reply-To", None, b"help@example.com"),
        ("h:Message-Id", None, b"<dlv_1@example.com>"),
        ("o:tag", None, b"orders"),
        ("o:tag", None, b"vip"),
        ("v:order", None, b"42"),
        ("v:gateway_message_id", None, b"dlv_1"),
        ("attachment", "a.pdf", b"%PDF\r\n--x"),
        ("inline", "logo", b"PNG"),
    ]


async def test_a_template_of_mailguns_takes_the_place_of_the_content():
    options = {"template": {"id": "order", "variables": {"n": 42}}}
    _, parts = await sent(letter(options=options))
    names = [name for name, _, _ in parts]
    assert "text" not in names
    assert ("template", None, b"order") in parts
    assert ("t:variables", None, b'{"n":42}') in parts


async def test_an_empty_message_still_has_a_part():
    _, parts = await sent(letter(content=Content()))
    assert ("subject", None, b"") in parts
    assert "text" in [name for name, _, _ in parts]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "no address"}, Reason.INVALID_ADDRESS),
        ({"to": "a@example.com, b@example.com"}, Reason.INVALID_ADDRESS),
        ({"sender": None}, Reason.MESSAGE_INVALID),
        ({"content": Content(subject="a\nb", text="x")}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-Mailgun-Drop-Message": "yes"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-A": "a\r\nBcc: b@example.com"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": "not a list"}}, Reason.MESSAGE_INVALID),
        ({"content": Content(text="x" * 25_000_001)}, Reason.TOO_LARGE),
    ],
)
async def test_what_must_not_be_sent_is_refused_before_it_is(changes, reason):
    channel = build(base_url="http://127.0.0.1:9")
    outcome = await channel.send(letter(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    await channel.aclose()


@pytest.mark.parametrize("domain", ["a/b", "a?b", "a b", "../x", "ü.example.com"])
def test_a_domain_that_would_change_the_path_is_a_fault_of_the_settings(domain):
    with pytest.raises(SettingsFault) as caught:
        build(domain=domain)
    assert caught.value.field == "domain"


@pytest.mark.parametrize(
    ("answer", "ok"),
    [
        (Reply(200, json={"domain": {"name": "mg.example.com", "state": "active"}}), True),
        (Reply(200, json={"domain": {"name": "mg.example.com", "state": "unverified"}}), False),
        (Reply(401, body="Forbidden"), False),
    ],
)
async def test_check_says_whether_the_domain_may_send(answer, ok):
    async with HttpServer({"GET /v4/domains/mg.example.com": answer}) as server:
        channel = build(base_url=server.url)
        assert (await channel.check()).ok is ok
        await channel.aclose()


# --- callbacks ------------------------------------------------------------------------------------------------------

KEY = "signing-key"


def signature(*, timestamp: str = str(int(NOW)), token: str = "t" * 50, key: str = KEY) -> dict[str, str]:
    made = hmac.new(key.encode(), (timestamp + token).encode(), hashlib.sha256).hexdigest()
    return {"timestamp": timestamp, "token": token, "signature": made}


def posted(event: dict | None = None, signed: dict | None = None, body: bytes | None = None) -> Callback:
    whole = {
        "event": "delivered",
        "timestamp": 1770920772.5,
        "id": "CCXMjJ7nQi2N3BPigGOdgQ",
        "recipient": "ann@example.com",
        "message": {"headers": {"message-id": "20261123.1.ABC@mg.example.com"}},
        "user-variables": {"gateway_message_id": "dlv_1"},
        **(event or {}),
    }
    made = msgspec.json.encode({"signature": signed or signature(), "event-data": whole}) if body is None else body
    return Callback(url="https://example.com/cb", method="POST", headers={}, query={}, body=made)


def test_a_signed_event_is_believed_and_read():
    channel = build(webhook_signing_key=KEY)
    channel.verify(posted())
    (event,) = channel.parse(posted())
    assert event.type is EventType.DELIVERED
    assert (event.provider_id, event.message_id) == ("20261123.1.ABC@mg.example.com", "dlv_1")
    assert (event.at, event.event_id) == (1770920772.5, "CCXMjJ7nQi2N3BPigGOdgQ")
    assert event.address == "ann@example.com"


@pytest.mark.parametrize(
    "signed",
    [
        signature(key="another"),
        {**signature(), "token": "u" * 50},
        {**signature(), "timestamp": str(int(NOW) + 1)},
        {**signature(), "signature": ""},
        {**signature(), "signature": "ü"},
        signature(timestamp=str(int(NOW) - 13 * 3600)),
        signature(timestamp=str(int(NOW) + 600)),
        signature(timestamp="yesterday"),
    ],
)
def test_a_forged_or_old_callback_is_refused(signed):
    with pytest.raises(CallbackRefused) as caught:
        build(webhook_signing_key=KEY).verify(posted(signed=signed))
    assert not caught.value.unreadable


def test_without_a_key_nothing_is_believed():
    with pytest.raises(CallbackRefused):
        build().verify(posted())


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"signature": {}, "event-data": {}}', b"[" * 5000])
def test_an_unreadable_callback_is_refused_as_such(body):
    channel = build(webhook_signing_key=KEY)
    for judge in (channel.verify, channel.parse):
        with pytest.raises(CallbackRefused) as caught:
            judge(posted(body=body))
        assert caught.value.unreadable


def failed(reason: str, severity: str = "permanent", **status) -> dict:
    return {"event": "failed", "severity": severity, "reason": reason, "delivery-status": status}


@pytest.mark.parametrize(
    ("event", "type_", "reason"),
    [
        ({"event": "accepted"}, EventType.SENT, None),
        ({"event": "opened"}, EventType.OPENED, None),
        ({"event": "clicked"}, EventType.CLICKED, None),
        ({"event": "unsubscribed"}, EventType.UNSUBSCRIBED, None),
        ({"event": "complained"}, EventType.COMPLAINED, None),
        ({"event": "rejected", "reject": {"reason": "Sandbox subdomains"}}, EventType.FAILED, Reason.POLICY),
        (failed("generic", "temporary", code=450), EventType.DEFERRED, None),
        (failed("bounce", code=550), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (failed("bounce", code=550, **{"enhanced-code": "5.1.1"}), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (failed("bounce", code=550, **{"enhanced-code": "5.7.1"}), EventType.BOUNCED, Reason.POLICY),
        (failed("bounce", code=552, **{"enhanced-code": "5.2.2"}), EventType.BOUNCED, Reason.INVALID_ADDRESS),
        (failed("bounce", code=550, **{"bounce-type": "soft"}), EventType.BOUNCED, Reason.INVALID_ADDRESS),
        (failed("espblock", code=554), EventType.BOUNCED, Reason.POLICY),
        (failed("old", code=602), EventType.BOUNCED, Reason.TIMED_OUT),
        (failed("generic", code=498), EventType.BOUNCED, None),
        (failed("suppress-bounce", code=605), EventType.FAILED, Reason.ADDRESS_DEAD),
        (failed("suppress-complaint", code=607), EventType.FAILED, Reason.COMPLAINED),
        (failed("suppress-unsubscribe", code=606), EventType.FAILED, Reason.OPTED_OUT),
    ],
)
def test_events_are_normalised(event, type_, reason):
    (found,) = build().parse(posted(event))
    assert (found.type, found.reason) == (type_, reason)


def test_the_servers_words_are_kept_without_addresses_and_control_characters():
    event = failed("bounce", code=550, message="5.1.1 <ann@example.com> no\r\nsuch user")
    (found,) = build().parse(posted(event))
    assert found.detail == "bounce 550 5.1.1 <[address]> no such user"


def test_events_without_our_id_or_of_no_message_do_no_harm():
    (found,) = build().parse(posted({"user-variables": []}))
    assert found.message_id is None
    assert build().parse(posted({"event": "stored"})) == []
