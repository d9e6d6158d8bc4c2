"""`settle` is pure: a verdict and a claim make one settlement, and only a dead address is suppressed."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Accepted, Attachment, Content, Message, Reason, Rejected, Retry, Unknown
from gateway.middleware.contract import Dropped, Held, Kept
from gateway.model.states import FINAL, Mode, OnUnknown, Status, Why
from gateway.router.settle import Done, SenderStop, settle
from gateway.storage.contract import AttemptRow, Claimed

NOW = 1_800_000_000_000
CAPTURED = UUID(int=7)


def claim(**changes) -> Claimed:
    fields = {
        "id": UUID(int=1),
        "notification_id": UUID(int=2),
        "project": "default",
        "mode": Mode.LIVE,
        "channel": "email",
        "lane": "email:normal",
        "category": "default",
        "template_key": None,
        "template_version": None,
        "reference": "order-1",
        "request": b"{}",
        "has_attachments": False,
        "address": "Ada@example.com",
        "user_id": None,
        "recipient": b"{}",
        "status": Status.QUEUED,
        "attempts": 0,
        "token": 3,
        "lost": 0,
        "granted": False,
        "created_at": NOW - 1000,
        "due_at": NOW - 1000,
        "deadline_at": NOW + 60_000,
        "on_unknown": OnUnknown.RESEND,
        "notification_created_at": NOW - 1000,
    }
    return Claimed(**{**fields, **changes})


def settled(verdict, **done):
    return settle(claim(), Done(verdict=verdict, provider="smtp-main", **done), NOW, raw=_raw, new_id=CAPTURED)


def _raw(message: Message) -> bytes:
    return b"raw of " + message.id.encode()


def message() -> Message:
    return Message(
        id="dlv_1",
        kind="email",
        to="ada@example.com",
        sender="Shop <shop@example.com>",
        idempotency_key="dlv_1",
        content=Content(
            subject="Hello",
            text="text",
            html="<p>text</p>",
            attachments=(Attachment(filename="a.txt", content_type="text/plain", content=b"abc"),),
        ),
        options={"cc": ["boss@example.com"], "bcc": []},
    )


def test_an_accepted_message_is_sent_and_final_where_no_receipt_will_come():
    kept = settled(Accepted("250 queued"))
    assert (kept.status, kept.final, kept.provider_id, kept.token) == (Status.SENT, True, "250 queued", 3)
    assert not settled(Accepted("x"), receipts=True).final


def test_a_held_delivery_waits_and_keeps_what_it_paid():
    kept = settled(Held(until=NOW + 5000, reason=Why.RETRY, detail="421 busy", granted=True))
    assert (kept.status, kept.reason, kept.due_at, kept.final) == (Status.HELD, Why.RETRY, NOW + 5000, False)
    assert kept.granted


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (Rejected(Reason.POLICY, "550 5.7.1"), Status.FAILED, Why.POLICY),
        (Unknown(detail="closed after DATA"), Status.UNKNOWN, Why.TIMED_OUT),
        (Dropped(status=Status.SKIPPED, reason=Why.SUPPRESSED), Status.SKIPPED, Why.SUPPRESSED),
        (Dropped(status=Status.EXPIRED, reason=Why.EXPIRED), Status.EXPIRED, Why.EXPIRED),
        (Dropped(status=Status.FAILED, reason=Why.GAVE_UP), Status.FAILED, Why.GAVE_UP),
    ],
)
def test_each_ending_is_final_and_says_why(verdict, status, reason):
    kept = settled(verdict)
    assert (kept.status, kept.reason, kept.final) == (status, reason, True)


@pytest.mark.parametrize("reason", list(Reason))
def test_only_a_dead_address_is_suppressed(reason):
    row = settled(Rejected(reason, "their words")).suppress
    dead = {Reason.ADDRESS_DEAD, Reason.COMPLAINED, Reason.OPTED_OUT}
    assert (row is not None) == (reason in dead)
    if row is not None:
        assert (row.channel, row.address, row.source, row.detail) == (
            "email",
            "ada@example.com",
            "smtp-main",
            "their words",
        )


def test_a_stop_concerns_the_senders_that_were_stopped_and_no_other():
    stop = SenderStop(provider="twilio", sender="+15550100009", detail="21610", at=NOW - 5)
    kept = settled(Rejected(Reason.OPTED_OUT, "21610"), stops=(stop,))
    assert kept.suppress is None
    [row] = kept.stops
    assert (row.address, row.sender, row.reason) == ("ada@example.com", "+15550100009", Why.OPTED_OUT)
    assert (row.source, row.detail, row.created_at) == ("twilio", "21610", NOW - 5)
    accepted = settled(Accepted("theirs"), stops=(stop,))
    assert accepted.stops == kept.stops  # another sender's message went out, and the word stands all the same


@pytest.mark.parametrize("reason", [Reason.ADDRESS_DEAD, Reason.COMPLAINED, Reason.OPTED_OUT])
def test_what_is_said_of_a_redirected_message_suppresses_nobody(reason):
    stop = SenderStop(provider="twilio", sender="+15550100009", detail=None, at=NOW)
    kept = settled(Rejected(reason), stops=(stop,), redirected=True)
    assert (kept.suppress, kept.stops) == (None, ())


def test_a_refusal_for_now_never_suppresses():
    assert settled(Retry(Reason.ADDRESS_DEAD)).suppress is None


def test_a_kept_message_shows_all_of_it():
    kept = settled(Kept(message=message(), reason=Why.NOT_ALLOWED, detail="not on the list"))
    assert (kept.status, kept.final) == (Status.CAPTURED, True)
    shown = kept.captured
    assert shown is not None
    assert (shown.id, shown.to, shown.original_to) == (CAPTURED, "Ada@example.com", "Ada@example.com")
    assert (shown.subject, shown.text, shown.html) == ("Hello", "text", "<p>text</p>")
    assert shown.raw == b"raw of dlv_1"
    assert msgspec.json.decode(shown.headers)["cc"] == ["boss@example.com"]
    assert msgspec.json.decode(shown.attachments) == [
        {"filename": "a.txt", "content_type": "text/plain", "content": "YWJj", "content_id": None},
    ]


def test_attempts_and_notes_are_written_down():
    tried = AttemptRow(number=1, provider="smtp-main", started_at=NOW, took_ms=5, outcome="accepted")
    kept = settled(Accepted(detail="cc refused"), attempts=(tried,), notes=("redirected",))
    assert kept.attempts == (tried,)
    assert kept.detail == "cc refused; redirected"


verdicts = st.one_of(
    st.builds(Accepted, st.none() | st.text(max_size=5), st.none() | st.text(max_size=2000)),
    st.builds(Retry, st.sampled_from(Reason), st.none() | st.floats(0, 100)),
    st.builds(Rejected, st.sampled_from(Reason), st.none() | st.text(max_size=2000)),
    st.builds(Unknown),
    st.builds(Held, until=st.integers(NOW, NOW + 10**9), reason=st.sampled_from(Why)),
    st.builds(
        Dropped,
        status=st.sampled_from([Status.SKIPPED, Status.EXPIRED, Status.FAILED, Status.UNKNOWN]),
        reason=st.sampled_from(Why),
    ),
)


@given(verdict=verdicts, receipts=st.booleans())
def test_a_settlement_is_either_waiting_or_out_of_the_queue(verdict, receipts):
    kept = settled(verdict, receipts=receipts)
    assert kept.status is not Status.SENDING
    if kept.status is Status.HELD:
        assert not kept.final
        assert kept.due_at >= NOW
    elif kept.status is Status.SENT:
        assert kept.final is not receipts
    else:
        assert kept.final
        assert kept.status in FINAL
    assert kept.detail is None or len(kept.detail) <= 1000
