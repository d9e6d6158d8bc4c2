"""Twilio: requests and answers as its pages document them, over a real server; callbacks judged by its own library."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar
from urllib.parse import urlencode

import msgspec
import pytest
from twilio.request_validator import RequestValidator

from channels.contract import (
    Accepted,
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
from channels.sms_twilio import TwilioChannel, TwilioSettings
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import HttpServer, Reply

NOW = 1_795_000_000.0
ACCOUNT = "AC" + "0123456789abcdef" * 2
SERVICE = "MG" + "0123456789abcdef" * 2
TOKEN = "s3cret-token-of-the-account"
CALLBACK = "https://notify.example.com/v1/callbacks/twilio-main"
PATH = f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
SETTINGS = {
    "account_sid": ACCOUNT,
    "auth_token": TOKEN,
    "sender": "+15550100000",
    "callback_url": CALLBACK,
    "countries": ["1", "49"],
}


def sms(text: str | None = "private-body", *, to: str = "+15550100001", number: int = 1, **more) -> Message:
    more.setdefault("content", Content(text=text))
    return Message(id=f"dlv_{number}", kind="sms", to=to, idempotency_key=f"dlv_{number}", **more)


def fault(status: int, code: int, message: str = "no") -> Reply:
    return Reply(status, json={"code": code, "message": message, "more_info": "", "status": status})


def built(**changes) -> TwilioChannel:
    return TwilioChannel(msgspec.convert({**SETTINGS, **changes}, TwilioSettings), Recorder(now=lambda: NOW).tools)


def rejected(status: int, code: int, reason: Reason) -> GoldenAnswer:
    return GoldenAnswer(f"{code}", fault(status, code), Rejected, reason, detail=str(code))


def later(status: int, code: int, reason: Reason, after: str | None = None) -> GoldenAnswer:
    reply = fault(status, code)
    if after is not None:
        reply.headers["Retry-After"] = after
    return GoldenAnswer(f"{code}", reply, Retry, reason, None if after is None else float(after), detail=str(code))


class TestTwilio(HttpChannelContract):
    channel = TwilioChannel
    settings: ClassVar = SETTINGS
    secrets = ("auth_token",)
    private_address = "5550100001"
    short: ClassVar = {**HttpChannelContract.short, "connect_timeout_s": 2.5, "total_timeout_s": 4.0}
    accepted = Reply(201, json={"sid": "SM1", "status": "queued", "error_code": None, "num_segments": "1"})
    answers = (
        GoldenAnswer("queued", accepted, Accepted, provider_id="SM1", detail="1 segment GSM-7"),
        GoldenAnswer(
            "created and failed at once",
            Reply(201, json={"sid": "SM1", "status": "failed", "error_code": 30005, "error_message": "Unknown"}),
            Rejected,
            Reason.ADDRESS_DEAD,
        ),
        GoldenAnswer("created without an id", Reply(201, json={"status": "queued"}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer(
            "not a number",
            fault(400, 21211, "Invalid 'To' Phone Number: +1 555 010 0001"),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="Invalid 'To' Phone Number: [address]",
        ),
        rejected(400, 21614, Reason.ADDRESS_DEAD),
        rejected(400, 21635, Reason.ADDRESS_DEAD),
        rejected(400, 30005, Reason.ADDRESS_DEAD),
        rejected(400, 30006, Reason.ADDRESS_DEAD),
        rejected(400, 21610, Reason.OPTED_OUT),
        rejected(400, 21612, Reason.INVALID_ADDRESS),
        rejected(400, 30004, Reason.INVALID_ADDRESS),
        rejected(400, 63024, Reason.INVALID_ADDRESS),
        rejected(403, 21408, Reason.POLICY),
        rejected(400, 21608, Reason.POLICY),
        rejected(400, 63016, Reason.POLICY),
        rejected(400, 21602, Reason.MESSAGE_INVALID),
        rejected(400, 21617, Reason.TOO_LARGE),
        rejected(400, 30007, Reason.CONTENT_REFUSED),
        rejected(401, 20003, Reason.ACCOUNT_PROBLEM),
        rejected(403, 20005, Reason.ACCOUNT_PROBLEM),
        rejected(403, 20006, Reason.ACCOUNT_PROBLEM),
        rejected(404, 20404, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21212, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21603, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21606, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21659, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21660, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21661, Reason.ACCOUNT_PROBLEM),
        rejected(400, 63007, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21703, Reason.ACCOUNT_PROBLEM),
        rejected(400, 21704, Reason.ACCOUNT_PROBLEM),
        rejected(400, 30002, Reason.ACCOUNT_PROBLEM),
        rejected(400, 30032, Reason.ACCOUNT_PROBLEM),
        rejected(400, 30034, Reason.ACCOUNT_PROBLEM),
        rejected(403, 99999, Reason.ACCOUNT_PROBLEM),
        later(429, 20429, Reason.RATE_LIMITED, "3"),
        later(429, 63038, Reason.RATE_LIMITED),
        later(400, 63018, Reason.RATE_LIMITED),
        later(400, 21611, Reason.RATE_LIMITED),
        later(400, 30001, Reason.RATE_LIMITED),
        later(400, 30003, Reason.RETRY),
        later(400, 30008, Reason.RETRY),
        later(400, 30410, Reason.TIMED_OUT),
        later(429, 99999, Reason.RATE_LIMITED),
        later(400, 99999, Reason.RETRY),
        GoldenAnswer("401 without words", Reply(401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("500", fault(500, 20500), Unknown, Reason.TIMED_OUT, detail="20500"),
        GoldenAnswer("503: no idempotency", Reply(503, {"Retry-After": "7"}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("504", Reply(504), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "from a number",
            sms("Grüße & mehr", expires_at=NOW + 600),
            PATH,
            form={
                "To": "+15550100001",
                "From": "+15550100000",
                "Body": "Grüße & mehr",
                "ValidityPeriod": "600",
                "StatusCallback": f"{CALLBACK}?delivery=dlv_1",
            },
            headers={"content-type": "application/x-www-form-urlencoded"},
        ),
        GoldenRequest(
            "the caller's sender, no expiry to speak of",
            sms("x", sender="Example", expires_at=NOW + 36_000),
            PATH,
            form={
                "To": "+15550100001",
                "From": "Example",
                "Body": "x",
                "StatusCallback": f"{CALLBACK}?delivery=dlv_1",
            },
        ),
        GoldenRequest(
            "WhatsApp, with a prepared template",
            sms(
                to="+4915112345678",
                options={
                    "from": "whatsapp:+15550100009",
                    "content_sid": "HX0123456789abcdef0123456789abcdef",
                    "content_variables": {"1": "Ada"},
                },
            ),
            PATH,
            form={
                "To": "whatsapp:+4915112345678",
                "From": "whatsapp:+15550100009",
                "ContentSid": "HX0123456789abcdef0123456789abcdef",
                "ContentVariables": '{"1":"Ada"}',
                "StatusCallback": f"{CALLBACK}?delivery=dlv_1",
            },
        ),
        GoldenRequest(
            "nearly expired, from a request's content",
            sms(
                expires_at=NOW + 0.4,
                content=Content(subject="T", data={"title": "Title", "body": "Body", "url": "https://example.com/"}),
            ),
            PATH,
            form={
                "To": "+15550100001",
                "From": "+15550100000",
                "Body": "Title\nBody\nhttps://example.com/",
                "ValidityPeriod": "1",
                "StatusCallback": f"{CALLBACK}?delivery=dlv_1",
            },
        ),
    )

    def message(self, number):
        return sms(number=number)

    async def test_answers_nobody_documented_follow_the_house_rules(self):
        """As everywhere, but for 503: creating a message cannot be repeated safely, so no 5xx is Retry."""
        replies = [Reply(418), Reply(599), Reply(429, {"Retry-After": "7"}), Reply(302, {"Location": "/elsewhere"})]
        teapot, broken, many, moved = await self._outcomes(replies, Recorder())
        assert isinstance(teapot, Retry)
        assert isinstance(broken, Unknown)
        assert isinstance(many, Retry)
        assert many.after == 7
        assert not isinstance(moved, Accepted)


async def test_a_messaging_service_chooses_the_sender_and_an_api_key_signs_in():
    async with HttpServer(TestTwilio.accepted) as server:
        channel = built(
            base_url=server.url,
            proxy="direct",
            sender=None,
            messaging_service_sid=SERVICE,
            api_key_sid="SK1",
            api_key_secret="key-secret",
            callback_url=None,
        )
        outcome = await channel.send(sms("я" * 71))
        await channel.aclose()
    assert outcome == Accepted("SM1", "2 segments UCS-2")
    assert server.requests[0].form() == {"To": "+15550100001", "Body": "я" * 71, "MessagingServiceSid": SERVICE}
    assert server.requests[0].headers["authorization"] == "Basic U0sxOmtleS1zZWNyZXQ="


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (sms(options={"from": "+15550109999"}), Reason.MESSAGE_INVALID),
        (sms(sender="+15550109999"), Reason.ACCOUNT_PROBLEM),
    ],
)
async def test_a_wrong_sender_stops_the_provider_only_if_the_configuration_chose_it(message, reason):
    async with HttpServer(fault(400, 21606)) as server:
        channel = built(base_url=server.url, proxy="direct")
        outcome = await channel.send(message)
        await channel.aclose()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert server.requests[0].form()["From"] == "+15550109999"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (sms(to="+33612345678"), Reason.POLICY),
        (sms(to="whatsapp:+33612345678"), Reason.POLICY),
        (sms(to="5550100001"), Reason.INVALID_ADDRESS),
        (sms(to="+1555010000\n1"), Reason.INVALID_ADDRESS),
        (sms("a" * 1601), Reason.TOO_LARGE),
        (sms(" \n"), Reason.MESSAGE_INVALID),
        (sms(None), Reason.MESSAGE_INVALID),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    async with HttpServer(TestTwilio.accepted) as server:
        channel = built(base_url=server.url, proxy="direct")
        outcome = await channel.send(message)
        await channel.aclose()
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason
    assert server.requests == []


@pytest.mark.parametrize(
    ("changes", "rate", "receipts"),
    [
        ({}, "1/s", True),
        ({"sender": "12345"}, "100/s", True),
        ({"sender": "Example", "callback_url": None}, "10/s", False),
        ({"sender": "whatsapp:+15550100000"}, "80/s", True),
        ({"messaging_service_sid": SERVICE}, None, True),
    ],
)
def test_the_rate_is_that_of_the_sender(changes, rate, receipts):
    limits = built(**changes).limits
    assert (limits.rate, limits.receipts, limits.text_chars) == (rate, receipts, 1600)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account_sid": "x"}, "account_sid"),
        ({"auth_token": ""}, "auth_token"),
        ({"api_key_sid": "SK1"}, "api_key_secret"),
        ({"sender": None}, "sender"),
        ({"messaging_service_sid": "VA1"}, "messaging_service_sid"),
        ({"callback_url": "notify.example.com"}, "callback_url"),
        ({"callback_url": "https://notify.example.com:x/"}, "callback_url"),
        ({"countries": ["DE"]}, "countries"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, field):
    with pytest.raises(SettingsFault) as caught:
        built(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("reply", "ok", "said"),
    [
        (Reply(200, json={"status": "active"}), True, "active"),
        (Reply(200, json={"status": "suspended"}), False, "suspended"),
        (fault(401, 20003, "Authenticate"), False, "20003 Authenticate"),
        (Reply(200, body="<html>"), False, "200"),
    ],
)
async def test_check_asks_for_the_account(reply, ok, said):
    async with HttpServer({f"GET /2010-04-01/Accounts/{ACCOUNT}.json": reply}) as server:
        channel = built(base_url=server.url, proxy="direct")
        check = await channel.check()
        await channel.aclose()
    assert check.ok is ok
    assert said in check.detail


# --- callbacks ------------------------------------------------------------------------------------------------------

INTERNAL = "http://10.0.0.7:8080/v1/callbacks/twilio-main"


def status_fields(status: str, **more: str) -> dict[str, str]:
    return {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "From": "+15550100000",
        "MessageSid": "SM1",
        "MessageStatus": status,
        "SmsSid": "SM1",
        "SmsStatus": status,
        "To": "+15550100001",
        **more,
    }


def incoming_fields(body: str, **more: str) -> dict[str, str]:
    return {
        "AccountSid": ACCOUNT,
        "Body": body,
        "From": "+15550100001",
        "MessageSid": "SM9",
        "SmsMessageSid": "SM9",
        "SmsStatus": "received",
        "To": "+15550100000",
        **more,
    }


def called(fields, *, query: str = "delivery=dlv_1", token: str = TOKEN, url: str = CALLBACK) -> Callback:
    """Make the callback as it reaches us behind a proxy, signed by Twilio's own library over the public address."""
    signed = f"{url}?{query}" if query else url
    signature = RequestValidator(token).compute_signature(signed, fields)
    return Callback(
        url=f"{INTERNAL}?{query}" if query else INTERNAL,
        method="POST",
        headers={"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature},
        query=dict(pair.split("=", 1) for pair in query.split("&")) if query else {},
        body=urlencode(fields).encode(),
    )


def test_a_callback_signed_over_the_public_address_is_taken():
    built().verify(called(status_fields("delivered")))


def test_twilio_signs_with_the_port_or_without():
    built().verify(called(status_fields("delivered"), url=CALLBACK.replace(".com/", ".com:443/")))


def test_without_a_callback_url_the_address_of_the_request_counts():
    built(callback_url=None).verify(called(status_fields("sent"), url=INTERNAL))


def test_fields_left_empty_and_fields_repeated_are_part_of_the_signature():
    callback = called(status_fields("delivered", Body=""))
    built().verify(callback)
    twice = msgspec.structs.replace(callback, body=callback.body + b"&MessageStatus=failed")
    with pytest.raises(CallbackRefused):
        built().verify(twice)


@pytest.mark.parametrize(
    "changed",
    [
        lambda callback: msgspec.structs.replace(callback, body=callback.body.replace(b"delivered", b"failed")),
        lambda callback: msgspec.structs.replace(callback, body=b""),
        lambda callback: msgspec.structs.replace(callback, body=b"\xff"),
        lambda callback: msgspec.structs.replace(callback, headers={}),
        lambda callback: msgspec.structs.replace(callback, headers={**callback.headers, "x-twilio-signature": "é"}),
        lambda callback: msgspec.structs.replace(callback, url=callback.url.replace("dlv_1", "dlv_2")),
        lambda callback: msgspec.structs.replace(
            callback, headers={**callback.headers, "content-type": "application/json"}
        ),
    ],
    ids=["body", "no body", "not text", "no signature", "odd signature", "other delivery", "as JSON"],
)
def test_a_changed_callback_is_refused(changed):
    with pytest.raises(CallbackRefused) as caught:
        built().verify(changed(called(status_fields("delivered"))))
    assert not caught.value.unreadable


def test_a_callback_signed_by_somebody_else_is_refused():
    with pytest.raises(CallbackRefused):
        built().verify(called(status_fields("delivered"), token="another"))


def test_json_is_signed_through_its_hash_in_the_address():
    body = json.dumps({"MessageSid": "SM1", "MessageStatus": "delivered"}).encode()
    query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
    callback = called({}, query=query)
    headers = {**callback.headers, "content-type": "application/json; charset=utf-8"}
    whole = msgspec.structs.replace(callback, body=body, headers=headers)
    built().verify(whole)
    assert built().parse(whole)[0].type is EventType.DELIVERED
    with pytest.raises(CallbackRefused):
        built().verify(msgspec.structs.replace(whole, body=body.replace(b"delivered", b"failed")))


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        ("sent", None, EventType.SENT, None),
        ("delivered", None, EventType.DELIVERED, None),
        ("read", None, EventType.READ, None),
        ("undelivered", "30003", EventType.BOUNCED, Reason.RETRY),
        ("undelivered", "30005", EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ("undelivered", "30006", EventType.BOUNCED, Reason.ADDRESS_DEAD),
        ("undelivered", "30007", EventType.BOUNCED, Reason.CONTENT_REFUSED),
        ("failed", "21610", EventType.FAILED, Reason.OPTED_OUT),
        ("failed", "63007", EventType.FAILED, Reason.ACCOUNT_PROBLEM),
        ("failed", "not a number", EventType.FAILED, None),
        ("canceled", None, EventType.FAILED, None),
    ],
)
def test_a_status_becomes_an_event(status, code, kind, reason):
    fields = status_fields(status) if code is None else status_fields(status, ErrorCode=code)
    (event,) = built().parse(called(fields))
    assert (event.type, event.reason, event.provider_id, event.message_id) == (kind, reason, "SM1", "dlv_1")
    assert (event.address, event.at, event.event_id) == ("+15550100001", NOW, f"SM1:{status}")


@pytest.mark.parametrize("status", ["accepted", "scheduled", "queued", "sending", "partially_delivered"])
def test_a_status_on_the_way_is_no_event(status):
    assert list(built().parse(called(status_fields(status)))) == []


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (incoming_fields("STOP"), EventType.UNSUBSCRIBED),
        (incoming_fields(" stop \n"), EventType.UNSUBSCRIBED),
        (incoming_fields("Revoke"), EventType.UNSUBSCRIBED),
        (incoming_fields("arrêt", OptOutType="STOP"), EventType.UNSUBSCRIBED),
        (incoming_fields("start"), EventType.RESUBSCRIBED),
        (incoming_fields("oui", OptOutType="START"), EventType.RESUBSCRIBED),
        (incoming_fields("HELP", OptOutType="HELP"), None),
        (incoming_fields("STOP PLEASE"), None),
        (incoming_fields("Thanks!"), None),
    ],
)
def test_an_incoming_stop_or_start_is_an_event_about_the_person(fields, kind):
    events = built().parse(called(fields, query=""))
    if kind is None:
        assert list(events) == []
        return
    (event,) = events
    assert (event.type, event.address, event.provider_id) == (kind, "+15550100001", None)
    assert event.reason is (Reason.OPTED_OUT if kind is EventType.UNSUBSCRIBED else None)
    assert (event.sender, event.message_id, event.event_id) == ("+15550100000", None, "SM9")


@pytest.mark.parametrize(
    ("settings", "chosen", "expected"),
    [
        ({}, None, ("+15550100000",)),
        ({}, "Example", ("Example",)),
        ({"messaging_service_sid": SERVICE}, None, (SERVICE, "+15550100000")),
        ({"messaging_service_sid": SERVICE, "sender": None}, None, (SERVICE,)),
    ],
)
def test_a_message_goes_out_under_what_people_can_stop(settings, chosen, expected):
    assert built(**settings).senders(chosen) == expected


def test_a_refusal_reported_later_names_the_sender_it_is_about():
    (event,) = built().parse(called(status_fields("failed", ErrorCode="21610", From="+15550100000")))
    assert (event.reason, event.sender) == (Reason.OPTED_OUT, "+15550100000")
    (event,) = built().parse(called(status_fields("failed", ErrorCode="21610", MessagingServiceSid=SERVICE, From="1")))
    assert event.sender == SERVICE


def test_a_stop_without_a_status_is_known_by_its_text():
    fields = incoming_fields("STOP")
    del fields["SmsStatus"]
    (event,) = built().parse(called(fields, query=""))
    assert event.type is EventType.UNSUBSCRIBED


def test_a_stop_on_whatsapp_names_the_bare_number_and_the_service():
    fields = incoming_fields("STOP", From="whatsapp:+15550100001", MessagingServiceSid=SERVICE)
    events = built().parse(called(fields, query=""))
    assert {event.address for event in events} == {"+15550100001"}
    assert [event.sender for event in events] == [SERVICE, "+15550100000"]
    assert [event.detail for event in events] == [f"STOP to {SERVICE}", "STOP to +15550100000"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"", "application/x-www-form-urlencoded"), (b"\xff", "text/plain"), (b"[1]", "application/json")],
)
def test_what_cannot_be_read_is_said_to_be_unreadable(body, content_type):
    with pytest.raises(CallbackRefused) as caught:
        built().parse(
            Callback(url=CALLBACK, method="POST", headers={"content-type": content_type}, query={}, body=body)
        )
    assert caught.value.unreadable
