"""Bounce mail is read for what it claims: whose it is, which message it returns, and what its codes really say."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from channels.bounce_mail import read_bounce_mail
from channels.contract import CallbackRefused, EventType, Reason, StatusEvent
from channels.mail_codes import Code, first_code, is_policy, permanent
from tests.channels import bounce_samples as samples
from tests.channels.bounce_samples import DELIVERY, TO, crlf

NOW = 1_795_000_000.0


def read(text: str, **changes: str) -> list[StatusEvent]:
    return read_bounce_mail(crlf(text, **changes), NOW)


@pytest.mark.parametrize("name", ["POSTFIX", "EXIM", "EXCHANGE", "GMAIL", "QMAIL"])
def test_a_mailbox_that_is_not_there_is_dead_whoever_says_it(name):
    (event,) = read(getattr(samples, name))
    assert (event.type, event.reason) == (EventType.BOUNCED, Reason.ADDRESS_DEAD)
    assert (event.message_id, event.address, event.at, event.provider_id) == (DELIVERY, TO, NOW, None)
    assert TO not in (event.detail or "")
    assert "5.1.1" in (event.detail or "")


def test_line_ends_of_a_mailbox_file_and_its_first_line_do_no_harm():
    raw = b"From MAILER-DAEMON Tue Feb  3 10:15:02 2026\n" + crlf(samples.POSTFIX).replace(b"\r\n", b"\n")
    (event,) = read_bounce_mail(raw, NOW)
    assert (event.message_id, event.reason) == (DELIVERY, Reason.ADDRESS_DEAD)


def test_each_recipient_of_a_report_is_told_apart():
    found = {event.address: (event.type, event.reason) for event in read(samples.SEVERAL)}
    assert found == {
        "ada@example.com": (EventType.BOUNCED, Reason.ADDRESS_DEAD),
        "bob@example.com": (EventType.DEFERRED, None),
        "cyd@example.com": (EventType.DELIVERED, None),
        "dan@example.com": (EventType.DELIVERED, None),
        "list@example.com": (EventType.SENT, None),
        "eve@example.com": (EventType.BOUNCED, Reason.RETRY),  # 5.2.2: full, not dead
    }


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        ("5.1.1", "550 5.1.1 User unknown", Reason.ADDRESS_DEAD),
        ("5.1.1", "550 User unknown", Reason.ADDRESS_DEAD),
        ("5.0.0", "550 5.1.1 User unknown", Reason.ADDRESS_DEAD),
        ("5.1.2", "550 Host not found", Reason.ADDRESS_DEAD),
        ("5.1.1", "550 5.7.1 Blocked by policy", Reason.POLICY),
        ("5.7.1", "550 5.1.1 User unknown", Reason.POLICY),
        ("5.7.26", "550-5.7.26 unauthenticated", Reason.POLICY),
        ("5.2.2", "552 5.2.2 Mailbox full", Reason.RETRY),
        ("5.0.0", "552 5.2.2 Over quota", Reason.RETRY),
        ("5.2.1", "550 5.2.1 disabled", Reason.INVALID_ADDRESS),
        ("5.3.4", "552 5.3.4 too big", Reason.TOO_LARGE),
        ("5.4.1", "550 5.4.1 Access denied", Reason.INVALID_ADDRESS),
        ("5.1.1", "550 5.4.1 Access denied", Reason.INVALID_ADDRESS),  # the other server's word is the nearer one
        ("4.4.7", "delivery time expired", Reason.TIMED_OUT),
        ("5.4.7", "450 4.7.1 Greylisted", Reason.TIMED_OUT),
        ("5.0.0", "554 Transaction failed", None),
        ("5.0.0", "550 rejected by 192.5.1.1", None),
    ],
)
def test_what_a_failures_codes_say(status, said, reason):
    changes = {"Status: 5.1.1": f"Status: {status}"}
    changes[f"smtp; 550 5.1.1 <{TO}>: Recipient address rejected: User\n    unknown"] = f"smtp; {said}"
    (event,) = read(samples.POSTFIX, **changes)
    assert (event.type, event.reason) == (EventType.BOUNCED, reason)


def test_forwarded_mail_is_about_the_address_we_wrote_to():
    forwarded = {f"Final-Recipient: rfc822; {TO}": "Final-Recipient: rfc822; other@example.net"}
    (event,) = read(samples.POSTFIX, **forwarded)
    assert event.address == TO
    without = {f"Original-Recipient: rfc822;{TO}": "Original-Recipient: rfc822;"}
    (event,) = read(samples.POSTFIX, **forwarded, **without)
    assert event.address == "other@example.net"  # which is not that delivery's: the gateway will not believe it


def test_a_report_cut_off_in_the_returned_message_is_read():
    raw = crlf(samples.GMAIL)
    assert len(read_bounce_mail(raw[: raw.index(b"Subject: Your order")], NOW)) == 1
    assert len(read_bounce_mail(raw + b"x" * 2_000_000, NOW)) == 1


def test_without_the_returned_message_the_report_says_what_it_answers_to():
    raw = crlf(samples.GMAIL)
    (event,) = read_bounce_mail(raw[: raw.index(b"--000000000000c0ffee05\r\nContent-Type: message/rfc822")], NOW)
    assert (event.message_id, event.reason) == (DELIVERY, Reason.ADDRESS_DEAD)


def test_a_report_that_names_no_message_says_nothing():
    assert read(samples.POSTFIX, **{f"Message-ID: <{DELIVERY}@shop.example.com>": "X-Nothing: here"}) == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("abuse", (EventType.COMPLAINED, Reason.COMPLAINED)),
        ("Fraud", (EventType.COMPLAINED, Reason.COMPLAINED)),
        ("opt-out", (EventType.UNSUBSCRIBED, Reason.OPTED_OUT)),
        ("not-spam", None),
        ("virus", None),
        ("auth-failure", None),
    ],
)
def test_a_feedback_report_is_a_complaint_by_its_kind(kind, expected):
    events = read(samples.COMPLAINT, **{"Feedback-Type: abuse": f"Feedback-Type: {kind}"})
    assert [(event.type, event.reason) for event in events] == ([] if expected is None else [expected])
    assert all((event.message_id, event.address) == (DELIVERY, TO) for event in events)


def test_a_complaint_that_hides_the_address_is_its_only_recipients():
    hidden = {f"Original-Rcpt-To: <{TO}>": "X-Hidden: yes"}
    (event,) = read(samples.COMPLAINT, **hidden)
    assert event.address == TO
    assert read(samples.COMPLAINT, **hidden, **{f"To: <{TO}>": f"To: <{TO}>\nCc: bob@example.com"}) == []


def test_an_old_bounce_without_a_code_kills_nobody():
    (event,) = read(samples.EXIM_PLAIN)  # the code in the subject is ours, and nobody's answer
    assert (event.type, event.reason, event.message_id) == (EventType.BOUNCED, Reason.INVALID_ADDRESS, DELIVERY)


def test_an_old_bounce_for_policy_is_policy():
    (event,) = read(samples.QMAIL, **{"(#5.1.1)": "(#5.7.1)"})
    assert event.reason is Reason.POLICY


@pytest.mark.parametrize("name", ["OUT_OF_OFFICE", "ADVERTISING"])
def test_other_mail_says_nothing(name):
    assert read(getattr(samples, name)) == []


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"\r\nno header", b"not a mail", b"\x00\xff\xfe", b"{}"])
def test_what_is_no_mail_is_unreadable(raw):
    with pytest.raises(CallbackRefused) as caught:
        read_bounce_mail(raw, NOW)
    assert caught.value.unreadable


def quiet(raw: bytes) -> list[StatusEvent]:
    try:
        return read_bounce_mail(raw, NOW)
    except CallbackRefused as refused:
        if not refused.unreadable:
            raise
        return []


ALL = [crlf(text) for text in vars(samples).values() if isinstance(text, str) and text.startswith("\n")]


@given(st.binary(max_size=2000))
@example(b"Content-Type: multipart/report; boundary=b\n\n--b\n" * 100)
@example(b"Content-Type: text/plain; charset=nonsense\nIn-Reply-To: <dlv_1@x>\n\n\xff")
@example(b"Content-Type: message/delivery-status\nIn-Reply-To: <dlv_1@x>\n\nStatus: 5.1.1\nFinal-Recipient: \xff\xfe@x")
def test_no_bytes_raise_anything_else(raw):
    quiet(raw)


@given(st.sampled_from(ALL), st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_damage_to_real_mail_raises_anything_else_or_names_another_message(raw, data):
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(damaged) - 1)))
        damaged[at : at + data.draw(st.integers(0, 60))] = data.draw(st.binary(max_size=40))
    for event in quiet(bytes(damaged)):
        assert event.message_id
        assert "@" in event.address
        assert not re.search(r"\w@\w", event.detail or "")


def test_what_is_left_of_an_address_is_no_address():
    """Of reports that lost some of the line with their recipient, and of the next one."""
    header = b"X-Failed-Recipients: "
    for raw in (one for one in ALL if header in one):
        begins = raw.index(header)
        for at in range(begins, begins + 40):
            for event in quiet(raw[:at] + raw[at + 42 :]):
                assert re.fullmatch(r"[^@\s]+@[^@\s]+", event.address), at


def test_mail_that_is_made_to_be_slow_is_not():
    head = b"Content-Type: text/plain\r\nIn-Reply-To: <dlv_1@x>\r\n\r\n"
    for piece in (b"\n", b" ", b">", b"<", b"Message-ID: <", b"5.1.", b"@", b"a@b "):
        quiet(head + piece * (400_000 // len(piece)))
    quiet(
        b"Content-Type: multipart/report; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 5000
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("550 5.1.1 unknown", (5, 1, 1)),
        ("550-5.7.26.", (5, 7, 26)),
        ("(#4.4.1)", (4, 4, 1)),
        ("at 192.5.1.1", None),
        ("5.1.1.1", None),
        ("15.1.1", None),
        ("3.1.1", None),
        ("", None),
    ],
)
def test_a_code_is_found_and_no_other_number(text, code):
    assert first_code(text) == (None if code is None else Code(*code))


def test_policy_is_known_and_what_is_said_of_the_sender_kills_nobody():
    assert is_policy("5.7.1")
    assert not is_policy("4.7.1")
    assert not is_policy(None)
    assert permanent(1, 1) is Reason.ADDRESS_DEAD
    assert permanent(1, 1, about_sender=True) is Reason.POLICY
    assert permanent(1, 8) is Reason.POLICY
    assert permanent(0, 0) is None
