"""The shipped contract for REST adapters, held against a small adapter, and against broken ones that it must catch."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from channels.contract import Accepted, Content, Limits, Message, Outcome, Reason, Rejected, Retry, Tools, Unknown
from channels.http import Answer, Wire, WireSettings, judge, words
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract
from tests.support.http_server import Reply

# --- the smallest whole adapter -------------------------------------------------------------------------------------


class PigeonSettings(WireSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    base_url: str = "https://api.example.com"
    token: str


class _Created(msgspec.Struct):
    id: str


class _Fault(msgspec.Struct):
    code: str
    message: str = ""


class PigeonChannel:
    kind = "pigeon"
    Settings = PigeonSettings

    def __init__(self, settings: PigeonSettings, tools: Tools) -> None:
        self.limits = Limits(text_chars=160, concurrency=settings.connections, idempotent=True)
        authorization = {"Authorization": f"Bearer {settings.token}"}
        self._wire = Wire(settings, tools, base_url=settings.base_url, headers=authorization)

    async def send(self, message: Message) -> Outcome:
        result = await self._wire.post(
            "/v1/messages",
            json={"to": message.to, "text": message.content.text},
            headers={"Idempotency-Key": message.idempotency_key},
        )
        return judge(result, _read)

    async def aclose(self) -> None:
        await self._wire.aclose()


def _read(answer: Answer) -> Outcome | None:
    if answer.ok and (created := answer.decode(_Created)) is not None:
        return Accepted(created.id)
    if answer.status == 422 and (fault := answer.decode(_Fault)) is not None:
        said = words(answer, fault.code, fault.message)
        return Rejected(Reason.ADDRESS_DEAD if fault.code == "loft_gone" else Reason.MESSAGE_INVALID, said)
    return None


# --- its test -------------------------------------------------------------------------------------------------------


def pigeon(number: int = 1, text: str = "private-body") -> Message:
    return Message(
        id=f"dlv_{number}",
        kind="pigeon",
        to="private-address",
        content=Content(text=text),
        idempotency_key=f"key-{number}",
    )


class TestPigeon(HttpChannelContract):
    channel = PigeonChannel
    settings: ClassVar = {"token": "s3cret-of-the-loft"}
    secrets = ("token",)
    accepted = Reply(202, json={"id": "m1"})
    answers = (
        GoldenAnswer("taken", Reply(202, json={"id": "m7"}), Accepted, provider_id="m7"),
        GoldenAnswer(
            "gone",
            Reply(422, json={"code": "loft_gone", "message": "a@example.com flew"}),
            Rejected,
            Reason.ADDRESS_DEAD,
            detail="loft_gone [address] flew",
        ),
        GoldenAnswer("fault", Reply(422, json={"code": "too_heavy"}), Rejected, Reason.MESSAGE_INVALID),
        GoldenAnswer("unread fault", Reply(422, body="no"), Retry, Reason.RETRY),
        GoldenAnswer("not ours", Reply(401), Rejected, Reason.ACCOUNT_PROBLEM),
        GoldenAnswer("slow", Reply(429, {"Retry-After": "12"}), Retry, Reason.RATE_LIMITED, 12.0),
        GoldenAnswer("broken", Reply(500), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "text",
            pigeon(text="coo"),
            "/v1/messages",
            json={"to": "private-address", "text": "coo"},
            headers={
                "authorization": "Bearer s3cret-of-the-loft",
                "content-type": "application/json",
                "idempotency-key": "key-1",
                "user-agent": "notification-gateway",
            },
        ),
    )

    def message(self, number):
        return pigeon(number)


# --- what it must catch ---------------------------------------------------------------------------------------------


class Trusting(PigeonChannel):
    """Takes every 2xx for success, and every failure for worth another try."""

    async def send(self, message: Message) -> Outcome:
        result = await self._wire.post("/v1/message", json={"to": message.to, "n": message.attempt})
        if isinstance(result, Answer) and result.ok:
            return Accepted()
        return Retry(Reason.PROVIDER_DOWN)


class Broken(TestPigeon):
    __test__ = False
    channel = Trusting


@pytest.mark.parametrize(
    ("test", "words_of_it"),
    [
        ("test_every_failure_on_the_wire_is_the_right_value", "closed_after_sending"),
        ("test_documented_answers_are_read_as_documented", "gone"),
        ("test_answers_are_read_to_the_last_word", "m7"),
        ("test_requests_are_what_the_provider_documents", "/v1/message, expected"),
        ("test_answers_nobody_documented_follow_the_house_rules", "599"),
        ("test_a_page_instead_of_an_answer_is_not_success", "200 with HTML"),
        ("test_the_same_message_is_the_same_request_at_every_attempt", "attempts differ"),
    ],
)
async def test_the_contract_catches_an_adapter_that(test, words_of_it):
    with pytest.raises(AssertionError, match=words_of_it):
        await getattr(Broken(), test)()
