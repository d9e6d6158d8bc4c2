"""The SES adapter, judged by botocore's description of the service, moto's server and a second SigV4."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
from email import message_from_bytes
from email.policy import default
from typing import ClassVar

import botocore.session
import msgspec
import pytest
from botocore.validate import ParamValidator
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from channels.contract import (
    Accepted,
    Attachment,
    Callback,
    CallbackRefused,
    Check,
    Content,
    EventType,
    Message,
    Reason,
    Rejected,
    Retry,
    SettingsFault,
    Unknown,
)
from channels.email_ses import SesChannel, SesSettings, mail
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0
TOPIC = "arn:aws:sns:eu-central-1:123456789012:ses-events"
ACCOUNT = {
    "region": "eu-central-1",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
}


def letter(number: int = 1, **changes) -> Message:
    fields = {
        "id": f"dlv_{number}",
        "kind": "email",
        "to": "private-address@example.com",
        "sender": "Shop <no-reply@example.com>",
        "content": Content(subject="Order shipped ✓", text="private-body"),
        "idempotency_key": f"dlv_{number}",
        "created_at": NOW,
    }
    return Message(**{**fields, **changes})


def build(*, now: float = NOW, **settings) -> SesChannel:
    return SesChannel(msgspec.convert({**ACCOUNT, **settings}, SesSettings), Recorder(now=lambda: now).tools)


def fault(name: str, sentence: str = "", status: int = 400) -> Reply:
    """The name in the header, as the JSON protocol of AWS has it, with what follows it there."""
    return Reply(status, {"x-amzn-ErrorType": f"{name}:http://internal.amazon.com/"}, json={"message": sentence})


PLAIN_TAGS = [{"Name": "gateway_message_id", "Value": "dlv_1"}, {"Name": "category", "Value": "default"}]


class TestSes(HttpChannelContract):
    channel = SesChannel
    settings: ClassVar = {**ACCOUNT, "session_token": "s3ssion-token"}
    secrets = ("secret_access_key", "session_token")
    accepted = Reply(200, json={"MessageId": "0100-abc-000000"})
    answers = (
        GoldenAnswer("taken", accepted, Accepted, provider_id="0100-abc-000000"),
        GoldenAnswer("too fast", fault("TooManyRequestsException", status=429), Retry, Reason.RATE_LIMITED),
        GoldenAnswer(
            "too fast, as an older name",
            fault("ThrottlingException", "Maximum sending rate exceeded."),
            Retry,
            Reason.RATE_LIMITED,
            detail="Maximum sending rate exceeded.",
        ),
        GoldenAnswer(
            "too many today",
            fault("LimitExceededException", "Daily message quota exceeded."),
            Retry,
            Reason.RATE_LIMITED,
            600.0,
        ),
        GoldenAnswer("suspended", fault("AccountSuspendedException"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("paused", fault("SendingPausedException"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("MAIL FROM", fault("MailFromDomainNotVerifiedException"), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "not verified, or in the sandbox",
            fault("MessageRejected", "Email address is not verified. The following identities failed the check"),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
        ),
        GoldenAnswer(
            "content", fault("MessageRejected", "Spam"), Rejected, Reason.CONTENT_REFUSED, detail="MessageRejected"
        ),
        GoldenAnswer("invalid", fault("BadRequestException", "Illegal address"), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer(
            "no such template",
            fault("NotFoundException", "Template x does not exist", 404),
            Rejected,
            Reason.MESSAGE_INVALID,
        ),
        GoldenAnswer(
            "no such configuration set",
            fault("NotFoundException", "Configuration set <x> does not exist.", 404),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
        ),
        GoldenAnswer(
            "named in the body",
            Reply(400, json={"__type": "com.amazon.ses#BadRequestException", "Message": "Illegal address"}),
            Rejected,
            Reason.MESSAGE_INVALID,
            detail="BadRequestException Illegal address",
        ),
        GoldenAnswer("a 400 nobody knows", fault("SomethingNewException"), Retry, Reason.RETRY),
        GoldenAnswer("signature", fault("SignatureDoesNotMatch", status=403), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("413", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("500 may have sent", fault("InternalFailure", status=500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("503", fault("ServiceUnavailable", status=503), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer("200 without an id", Reply(200, json={}), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "simple",
            letter(to_name="Ann O'Hara", options={"cc": ["c@example.com"], "reply_to": "Help <help@example.com>"}),
            "/v2/email/outbound-emails",
            json={
                "FromEmailAddress": "Shop <no-reply@example.com>",
                "Destination": {
                    "ToAddresses": ["Ann O'Hara <private-address@example.com>"],
                    "CcAddresses": ["c@example.com"],
                },
                "EmailTags": PLAIN_TAGS,
                "ReplyToAddresses": ["Help <help@example.com>"],
                "Content": {
                    "Simple": {
                        "Subject": {"Data": "Order shipped ✓", "Charset": "UTF-8"},
                        "Body": {"Text": {"Data": "private-body", "Charset": "UTF-8"}},
                    }
                },
            },
            headers={"content-type": "application/json", "x-amz-security-token": "s3ssion-token"},
        ),
        GoldenRequest(
            "a template of SES's",
            letter(
                content=Content(),
                options={
                    "template": {"id": "order", "variables": {"n": 42}},
                    "metadata": {"order": "42", "note": "not a tag's letters"},
                    "headers": {"X-Order": "42"},
                    "list_unsubscribe": "https://example.com/u/1",
                },
            ),
            "/v2/email/outbound-emails",
            json={
                "FromEmailAddress": "Shop <no-reply@example.com>",
                "Destination": {"ToAddresses": ["private-address@example.com"]},
                "EmailTags": [{"Name": "order", "Value": "42"}, *PLAIN_TAGS],
                "Content": {
                    "Template": {
                        "TemplateName": "order",
                        "TemplateData": '{"n":42}',
                        "Headers": [
                            {"Name": "List-Unsubscribe", "Value": "<https://example.com/u/1>"},
                            {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
                            {"Name": "X-Order", "Value": "42"},
                        ],
                    }
                },
            },
        ),
    )

    def message(self, number):
        return letter(number)


# --- the request ----------------------------------------------------------------------------------------------------

FULL = letter(
    sender="Bücher <no-reply@example.com>",
    content=Content(
        subject="Bestellung",
        text="Hi",
        html="<img src='cid:logo'>",
        attachments=(
            Attachment(filename="a.pdf", content_type="application/pdf", content=b"%PDF"),
            Attachment(filename="logo.png", content_type="image/png", content=b"PNG", content_id="logo"),
        ),
    ),
    options={
        "cc": ["Bob <bob@example.com>"],
        "bcc": ["audit@example.com"],
        "reply_to": "help@example.com",
        "headers": {"X-Order": "42"},
        "list_unsubscribe": "https://example.com/u/1",
    },
)


def test_a_message_with_more_than_text_is_composed_by_us_and_names_every_recipient():
    request, size = mail(FULL, configuration_set="events")
    octets = base64.b64decode(request["Content"]["Raw"]["Data"])
    assert size == len(octets)
    parsed = message_from_bytes(octets, policy=default)
    assert parsed["From"] == "Bücher <no-reply@example.com>"
    assert parsed["Message-ID"] == "<dlv_1@example.com>"
    assert (parsed["X-Order"], parsed["Reply-To"]) == ("42", "help@example.com")
    assert parsed["List-Unsubscribe"] == "<https://example.com/u/1>"
    assert "audit@example.com" not in octets.decode()
    assert request["Destination"] == {
        "ToAddresses": ["private-address@example.com"],
        "CcAddresses": ["Bob <bob@example.com>"],
        "BccAddresses": ["audit@example.com"],
    }
    assert request["FromEmailAddress"] == "no-reply@example.com"
    assert request["ConfigurationSetName"] == "events"


@pytest.mark.parametrize(
    "changes",
    [
        {"sender": "Bücher <no-reply@example.com>"},
        {"to_name": "Jürgen"},
        {"options": {"headers": {"X-A": "1"}}},
        {"options": {"list_unsubscribe": "https://example.com/u"}},
        {"options": {"reply_to": "Bücher <help@example.com>"}},
        {"content": Content(text="x", attachments=(Attachment(filename="a", content_type="text/plain", content=b""),))},
    ],
)
def test_whatever_simple_cannot_say_goes_as_raw(changes):
    assert set(mail(letter(**changes))[0]["Content"]) == {"Raw"}


@pytest.mark.parametrize(
    "message", [letter(), FULL, letter(options={"template": {"id": "x"}}), letter(content=Content())]
)
def test_botocores_description_of_the_service_accepts_the_request(message):
    model = botocore.session.Session().get_service_model("sesv2").operation_model("SendEmail").input_shape
    request, _ = mail(message, configuration_set="events")
    report = ParamValidator().validate(request, model)
    assert not report.has_errors(), report.generate_report()


async def test_the_signature_is_what_a_second_implementation_makes_of_the_request():
    async with HttpServer(Reply(200, json={"MessageId": "m"})) as server:
        channel = build(base_url=server.url)
        assert isinstance(await channel.send(letter()), Accepted)
        await channel.aclose()
    (request,) = server.requests
    scheme, _, rest = request.headers["authorization"].partition(" ")
    assert scheme == "AWS4-HMAC-SHA256"
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    names = given["SignedHeaders"].split(";")
    assert {"host", "x-amz-date", "content-type"} <= set(names)
    at = request.headers["x-amz-date"]
    scope = f"{at[:8]}/eu-central-1/ses/aws4_request"
    assert given["Credential"] == f"AKIDEXAMPLE/{scope}"
    headers = "".join(f"{name}:{request.headers[name]}\n" for name in names)
    digest = hashlib.sha256(request.body).hexdigest()
    canonical = f"POST\n{request.target}\n\n{headers}\n{given['SignedHeaders']}\n{digest}"
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = b"AWS4" + ACCOUNT["secret_access_key"].encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    assert given["Signature"] == hmac.digest(key, to_sign.encode(), "sha256").hex()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"to": "no address"}, Reason.INVALID_ADDRESS),
        ({"to": "jürgen@example.com"}, Reason.INVALID_ADDRESS),
        ({"sender": None}, Reason.MESSAGE_INVALID),
        ({"sender": "jürgen@example.com"}, Reason.MESSAGE_INVALID),
        ({"content": Content(subject="a\nb", text="x")}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-SES-CONFIGURATION-SET": "x"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"headers": {"X-A": "a\r\nBcc: b@example.com"}}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": "not a list"}}, Reason.MESSAGE_INVALID),
        ({"options": {"cc": [f"a{n}@example.com" for n in range(50)]}}, Reason.MESSAGE_INVALID),
        ({"content": Content(text="x" * 40_000_001)}, Reason.TOO_LARGE),
    ],
)
async def test_what_must_not_be_sent_is_refused_before_it_is(changes, reason):
    channel = build(base_url="http://127.0.0.1:9")
    outcome = await channel.send(letter(**changes))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    await channel.aclose()


async def test_a_template_with_attachments_is_refused():
    content = Content(attachments=(Attachment(filename="a", content_type="text/plain", content=b""),))
    channel = build(base_url="http://127.0.0.1:9")
    outcome = await channel.send(letter(content=content, options={"template": {"id": "x"}}))
    assert isinstance(outcome, Rejected)
    await channel.aclose()


@pytest.mark.parametrize("region", ["", "evil.example.com/", "EU-CENTRAL-1", "eu-central-1.evil"])
def test_a_region_that_would_change_the_host_is_a_fault_of_the_settings(region):
    with pytest.raises(SettingsFault) as caught:
        build(region=region)
    assert caught.value.field == "region"


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (
            Reply(200, json={"SendingEnabled": True, "ProductionAccessEnabled": True}),
            Check(ok=True, detail="may send"),
        ),
        (
            Reply(200, json={"SendingEnabled": True, "ProductionAccessEnabled": False}),
            Check(ok=True, detail="may send, in the sandbox only"),
        ),
        (Reply(200, json={"SendingEnabled": False}), Check(ok=False, detail="sending is paused for this account")),
        (
            fault("UnrecognizedClientException", "The security token is invalid.", 403),
            Check(ok=False, detail="HTTP 403: UnrecognizedClientException The security token is invalid."),
        ),
    ],
)
async def test_check_says_how_the_account_is(answer, check):
    async with HttpServer({"GET /v2/email/account": answer}) as server:
        channel = build(base_url=server.url)
        assert await channel.check() == check
        await channel.aclose()


async def test_motos_server_takes_plain_and_composed_messages():
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - costs seconds, and only this test needs it
    from moto.ses.models import ses_backends  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    await asyncio.to_thread(server.start)
    try:
        host, port = server.get_host_and_port()
        channel = build(base_url=f"http://{host}:{port}", read_timeout_s=30.0)
        identity = msgspec.json.encode({"EmailIdentity": "no-reply@example.com"})
        created = await channel._ask("POST", "/v2/email/identities", identity)
        assert created.status == 200
        for message in (letter(), FULL):
            outcome = await channel.send(message)
            assert isinstance(outcome, Accepted), outcome
            assert outcome.provider_id
        stranger = await channel.send(letter(sender="other@example.org"))
        assert not isinstance(stranger, Accepted)
        await channel.aclose()
        plain, composed = ses_backends["123456789012"]["eu-central-1"].sent_messages
    finally:
        await asyncio.to_thread(server.stop)
    assert plain.destinations["ToAddresses"] == ["private-address@example.com"]
    assert plain.body == "private-body"
    assert "Message-ID: <dlv_1@example.com>" in composed.raw_data


# --- callbacks ------------------------------------------------------------------------------------------------------


def certificate(key, *, days: int = 365) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    since = dt.datetime.fromtimestamp(NOW, dt.UTC) - dt.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(since + dt.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


KEY = rsa.generate_private_key(65537, 2048)
PEM = certificate(KEY)
URL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"
CONFIRM = f"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=2336412f37fb687f5d51e6e2"


def posted(message: str = "{}", *, key=KEY, **changes) -> Callback:
    """Sign as SNS documents it: spelled out once more here, so that it is compared with something."""
    fields = {
        "Type": "Notification",
        "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "TopicArn": TOPIC,
        "Message": message,
        "Timestamp": "2026-11-18T11:06:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": URL,
        "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
        **changes,
    }
    if fields["Type"] == "Notification":
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
    else:
        names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    digest = hashes.SHA1() if fields["SignatureVersion"] == "1" else hashes.SHA256()
    fields.setdefault("Signature", base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), digest)).decode())
    return raw(msgspec.json.encode(fields))


def raw(body: bytes) -> Callback:
    return Callback(url="https://example.com/cb", method="POST", headers={}, query={}, body=body)


async def believes(callback: Callback, *, pem: bytes = PEM, now: float = NOW, **settings) -> list[str]:
    """Prepare and verify; answers what was fetched. Raises what they raise."""
    async with HttpServer(Reply(200, body=pem)) as server:
        channel = build(now=now, sns_base_url=server.url, **{"sns_topics": [TOPIC], **settings})
        try:
            await channel.prepare(callback)
            channel.verify(callback)
            await channel.prepare(callback)
        finally:
            await channel.aclose()
            fetched = [request.target for request in server.requests]
    return fetched


async def test_what_sns_signed_is_believed_and_its_certificate_fetched_once():
    assert await believes(posted()) == ["/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem"]
    assert len(await believes(posted(Subject="Amazon SES Email Event Notification"))) == 1


@pytest.mark.parametrize(
    "callback",
    [
        posted(key=rsa.generate_private_key(65537, 2048)),
        posted(Signature=""),
        posted(Signature="no base64!"),
        posted(Signature="AAAA"),
        posted(Timestamp="2026-11-17T11:00:00.000Z"),
        posted(Timestamp="2026-11-18T11:20:00.000Z"),
        raw(posted().body.replace(b'"{}"', b'"{ }"')),
        raw(posted(Subject="a").body.replace(b'"Subject":"a"', b'"Subject":"b"')),
    ],
)
async def test_a_forged_or_old_message_is_refused(callback):
    with pytest.raises(CallbackRefused) as caught:
        await believes(callback)
    assert not caught.value.unreadable


@pytest.mark.parametrize(
    "callback",
    [
        posted(TopicArn="arn:aws:sns:eu-central-1:999999999999:evil"),
        posted(SignatureVersion="1"),
        posted(SignatureVersion="3"),
        posted(SigningCertURL="https://evil.example.com/SimpleNotificationService-9c6465fa7f48f5ca.pem"),
        posted(SigningCertURL=URL.replace("https", "http")),
        posted(SigningCertURL=URL.replace("amazonaws.com", "amazonaws.com.evil.example")),
        posted(SigningCertURL=URL.replace("amazonaws.com", "amazonaws.com:8443")),
        posted(SigningCertURL=URL.replace("https://", "https://evil.example.com@")),
        posted(SigningCertURL=URL.replace("https://", "https://evil.example.com\\@")),
        posted(SigningCertURL=URL.replace("eu-central-1", "us-east-1")),
        posted(SigningCertURL=URL.replace("SimpleNotificationService", "evil/SimpleNotificationService")),
        posted(SigningCertURL=URL + "?x=1"),
        posted(SigningCertURL="https://[::1/x"),
        posted(
            SigningCertURL="https://sns.evil-bucket.s3.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5ca.pem"
        ),
    ],
)
async def test_what_could_not_be_believed_anyway_fetches_nothing(callback):
    async with HttpServer(Reply(200, body=PEM)) as server:
        channel = build(sns_topics=[TOPIC], sns_base_url=server.url)
        with pytest.raises(CallbackRefused):
            await channel.prepare(callback)
        with pytest.raises(CallbackRefused):
            channel.verify(callback)
        await channel.aclose()
    assert server.requests == []


async def test_version_1_is_believed_only_where_it_is_allowed():
    assert len(await believes(posted(SignatureVersion="1"), allow_sns_signature_1=True)) == 1


async def test_without_topics_nothing_is_believed():
    with pytest.raises(CallbackRefused):
        await believes(posted(), sns_topics=[])


@pytest.mark.parametrize(
    "pem",
    [b"", b"<html>", certificate(ec.generate_private_key(ec.SECP256R1())), certificate(KEY, days=1), b"x" * 100_000],
)
async def test_a_certificate_that_is_none_or_expired_proves_nothing(pem):
    with pytest.raises(CallbackRefused):
        await believes(posted(), pem=pem, now=NOW + 3600)


async def test_verify_without_its_certificate_refuses():
    channel = build(sns_topics=[TOPIC])
    with pytest.raises(CallbackRefused):
        channel.verify(posted())
    await channel.aclose()


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b"[" * 5000, posted(Type="Evil").body, posted(Timestamp="?").body]
)
async def test_an_unreadable_callback_is_refused_as_such(body):
    channel = build(sns_topics=[TOPIC])
    with pytest.raises(CallbackRefused) as caught:
        await channel.prepare(raw(body))
    assert caught.value.unreadable
    with pytest.raises(CallbackRefused) as caught:
        channel.verify(raw(body))
    assert caught.value.unreadable
    await channel.aclose()


def asked(url: str = CONFIRM) -> Callback:
    return posted("You have chosen to subscribe", Type="SubscriptionConfirmation", Token="2336", SubscribeURL=url)


async def test_a_subscription_is_confirmed_by_its_url_and_holds_no_event():
    async with HttpServer({"/": Reply(200), "*": Reply(200, body=PEM)}) as server:
        channel = build(sns_topics=[TOPIC], sns_base_url=server.url)
        await channel.prepare(asked())
        channel.verify(asked())
        assert channel.parse(asked()) == []
        assert (await channel.confirm(asked())).ok
        assert (await channel.confirm(posted())) == Check(ok=True, detail="nothing to confirm")
        await channel.aclose()
    assert [request.method for request in server.requests] == ["GET", "GET"]
    assert server.requests[1].query["TopicArn"] == TOPIC
    assert server.requests[1].query["Action"] == "ConfirmSubscription"


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/?Action=ConfirmSubscription",
        "http://169.254.169.254/",
        CONFIRM.replace("ConfirmSubscription", "DeleteTopic"),
        CONFIRM.replace("ses-events", "other"),
        CONFIRM.replace("https", "http"),
    ],
)
async def test_no_other_url_is_ever_called_to_confirm(url):
    async with HttpServer() as server:
        channel = build(sns_topics=[TOPIC], sns_base_url=server.url)
        assert not (await channel.confirm(asked(url))).ok
        await channel.aclose()
    assert server.requests == []


async def test_a_confirmation_that_sns_refuses_is_no_success():
    async with HttpServer(Reply(403)) as server:
        channel = build(sns_topics=[TOPIC], sns_base_url=server.url)
        assert await channel.confirm(asked()) == Check(ok=False, detail="HTTP 403")
        await channel.aclose()


def recipient(**more) -> dict:
    return {"emailAddress": "ann@example.com", **more}


def bounce(type_: str, sub: str = "General", **more) -> dict:
    return {
        "eventType": "Bounce",
        "bounce": {
            "bounceType": type_,
            "bounceSubType": sub,
            "bouncedRecipients": [recipient(**more)],
            "timestamp": "2026-11-18T11:06:41.000Z",
        },
    }


def complaint(**more) -> dict:
    return {"eventType": "Complaint", "complaint": {"complainedRecipients": [recipient()], **more}}


@pytest.mark.parametrize(
    ("event", "type_", "reason"),
    [
        ({"eventType": "Send", "send": {}}, EventType.SENT, None),
        ({"eventType": "Delivery", "delivery": {"recipients": ["ann@example.com"]}}, EventType.DELIVERED, None),
        ({"notificationType": "Delivery", "delivery": {"smtpResponse": "250 ok"}}, EventType.DELIVERED, None),
        ({"eventType": "Open", "open": {"userAgent": "x"}}, EventType.OPENED, None),
        ({"eventType": "Click", "click": {"link": "https://example.com"}}, EventType.CLICKED, None),
        ({"eventType": "Subscription", "subscription": {"contactList": "x"}}, EventType.UNSUBSCRIBED, None),
        (
            {
                "eventType": "DeliveryDelay",
                "deliveryDelay": {"delayType": "MailboxFull", "delayedRecipients": [recipient()]},
            },
            EventType.DEFERRED,
            None,
        ),
        ({"eventType": "Reject", "reject": {"reason": "Bad content"}}, EventType.FAILED, Reason.CONTENT_REFUSED),
        (
            {"eventType": "Rendering Failure", "failure": {"errorMessage": "Attribute 'x' is not present"}},
            EventType.FAILED,
            Reason.MESSAGE_INVALID,
        ),
        (complaint(complaintFeedbackType="abuse"), EventType.COMPLAINED, None),
        (complaint(complaintSubType="OnAccountSuppressionList"), EventType.FAILED, Reason.COMPLAINED),
        (bounce("Permanent", status="5.1.1"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (bounce("Permanent", "OnAccountSuppressionList"), EventType.BOUNCED, Reason.ADDRESS_DEAD),
        (bounce("Permanent", status="5.7.1"), EventType.BOUNCED, Reason.POLICY),
        (bounce("Transient"), EventType.BOUNCED, Reason.RETRY),
        (bounce("Transient", "MailboxFull"), EventType.BOUNCED, Reason.RETRY),
        (bounce("Transient", "MessageTooLarge"), EventType.BOUNCED, Reason.TOO_LARGE),
        (bounce("Transient", "ContentRejected"), EventType.BOUNCED, Reason.CONTENT_REFUSED),
        (bounce("Undetermined", "Undetermined"), EventType.BOUNCED, None),
    ],
)
def test_events_are_normalised(event, type_, reason):
    whole = {
        "mail": {
            "timestamp": "2026-11-18T11:06:40.000Z",
            "messageId": "0100-abc-000000",
            "destination": ["ann@example.com"],
            "tags": {"gateway_message_id": ["dlv_1"], "ses:caller-identity": ["x"]},
        },
        **event,
    }
    (found,) = build().parse(posted(msgspec.json.encode(whole).decode()))
    assert (found.type, found.reason) == (type_, reason)
    assert (found.provider_id, found.message_id) == ("0100-abc-000000", "dlv_1")
    assert found.event_id == "165545c9-2a5c-472c-8df2-7ff2be2b3b1b/0"
    assert found.at in {NOW, NOW + 1}
    assert found.address == (None if event.get("eventType") in {"Reject", "Rendering Failure"} else "ann@example.com")


def test_each_bounced_recipient_is_an_event_of_its_own():
    event = bounce("Permanent")
    event["bounce"]["bouncedRecipients"].append(
        {"emailAddress": "bob@example.com", "diagnosticCode": "smtp; 550\r\nno"}
    )
    event["mail"] = {"timestamp": "2026-11-18T11:06:40.000Z", "messageId": "m"}
    first, second = build().parse(posted(msgspec.json.encode(event).decode()))
    assert (first.address, second.address) == ("ann@example.com", "bob@example.com")
    assert first.event_id != second.event_id
    assert second.detail == "Permanent General smtp; 550 no"
    assert first.message_id is None


@pytest.mark.parametrize(
    "text",
    [
        "Successfully validated SNS topic for Amazon SES event publishing.",
        '{"eventType": "Novel", "mail": {"messageId": "m", "timestamp": "2026-11-18T11:06:40.000Z"}}',
    ],
)
def test_what_is_no_event_gives_none(text):
    assert build().parse(posted(text)) == []


@pytest.mark.parametrize(
    "text", ["", "hello", "{}", '{"eventType": "Send", "mail": {"messageId": "m", "timestamp": "yesterday"}}']
)
def test_a_message_that_is_not_ses_is_unreadable(text):
    with pytest.raises(CallbackRefused) as caught:
        build().parse(posted(text))
    assert caught.value.unreadable
