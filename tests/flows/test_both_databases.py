"""What processes share through the database, on SQLite and on PostgreSQL: two whole gateways over one database."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.support.clock import MovableClock
from tests.support.gateway import body, message_ids, running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer


async def test_one_idempotency_key_at_two_gateways_at_once_sends_one_message(tmp_path, database):
    async with (
        SmtpServer() as server,
        running_gateway(tmp_path, smtp(server), database=database) as one,
        running_gateway(tmp_path, smtp(server), database=database) as two,
    ):
        answers = await asyncio.gather(
            *[(one, two)[number % 2].post(idempotency_key="order-1") for number in range(50)]
        )
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.content for answer in answers}) == 1
        await one.final(answers[0].json())
        assert len(server.messages) == 1


async def test_what_one_accepts_another_may_send_and_each_is_sent_once(tmp_path, database):
    async with (
        SmtpServer() as server,
        running_gateway(tmp_path, smtp(server), database=database) as one,
        running_gateway(tmp_path, smtp(server), database=database) as two,
    ):
        wanted = [body(f"user{number}@example.com", priority=("bulk", "normal")[number % 2]) for number in range(200)]
        halves = [
            gw.client.post("/v1/notifications/batch", json={"notifications": half})
            for gw, half in ((one, wanted[:100]), (two, wanted[100:]))
        ]
        for answer in await asyncio.gather(*halves):
            for result in answer.json()["results"]:
                assert (await one.all_final(result["id"]))["counts"] == {"sent": 1}
        assert len(server.messages) == len(set(message_ids(server.messages))) == 200


async def test_a_recipients_rate_is_one_rate_for_all_processes(tmp_path, database):
    config = {"channels": {"email": {"per_recipient": "3/h"}}}
    clock = MovableClock()
    async with (
        SmtpServer() as server,
        running_gateway(tmp_path, smtp(server, **config), database=database, clock=clock) as one,
        running_gateway(tmp_path, smtp(server, **config), database=database, clock=clock) as two,
    ):
        answers = await asyncio.gather(*[(one, two)[number % 2].send() for number in range(8)])
        found = [await one.until(answer, {"sent", "held"}) for answer in answers]
        states = sorted((delivery["status"], delivery["reason"]) for delivery in found)
        assert states == [("held", "rate_limited")] * 5 + [("sent", None)] * 3
        assert len(server.messages) == 3
        clock.advance(2 * 3600 + 1)
        for answer in answers:
            assert (await one.until(answer, {"sent"}))["status"] == "sent"
        assert len(server.messages) == 8


async def test_retries_schedules_and_events_are_kept(tmp_path, database):
    busy = Behaviour(on={"mail": ["450 4.2.1 busy", "250 2.1.0 OK"]})
    async with SmtpServer(busy) as server:
        clock = MovableClock()
        async with running_gateway(tmp_path, smtp(server), database=database, clock=clock) as gw:
            at = datetime.fromtimestamp(clock() / 1000 + 60, UTC).isoformat()
            answer = await gw.send(send_at=at, reference="r", tags=["a", "b"])
        clock.advance(61)
        async with running_gateway(tmp_path, smtp(server), database=database, clock=clock) as gw:
            held = await gw.held(answer, "retry", attempts=1)
            assert held["attempts"][0]["outcome"] == "retry"
        clock.advance(30)
        async with running_gateway(tmp_path, smtp(server), database=database, clock=clock) as gw:
            sent = await gw.final(answer)
            assert [one["outcome"] for one in sent["attempts"]] == ["retry", "accepted"]
            assert [one["type"] for one in await gw.events(answer["id"])] == [
                "delivery.held",
                "delivery.held",
                "delivery.sent",
                "notification.completed",
            ]
            [listed] = (await gw.get("/v1/notifications", reference="r", tag="b", status="completed"))["items"]
            assert listed["id"] == answer["id"]


async def test_cancelling_and_sending_meet_in_one_outcome(tmp_path, database):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        answers = await asyncio.gather(*[gw.send(f"user{number}@example.com") for number in range(30)])
        cancels = await asyncio.gather(*[gw.client.post(f"/v1/notifications/{one['id']}/cancel") for one in answers])
        assert {one.status_code for one in cancels} == {200}
        done = [await gw.final(one) for one in answers]
        sent = {one["id"] for one in done if one["status"] == "sent"}
        assert {one["status"] for one in done} <= {"sent", "cancelled"}
        assert len(server.messages) == len(sent)
        for cancel, one in zip(cancels, done, strict=True):
            [told] = cancel.json()["deliveries"]
            assert told["changed"] is (one["status"] == "cancelled")


@pytest.mark.parametrize("text", ["a\x00b", "\u2028\u202e", "😀" * 50, "'; DROP TABLE queue; --"])
async def test_odd_characters_in_a_callers_own_fields_do_no_harm(tmp_path, database, text):
    async with running_gateway(tmp_path, {"environment": "development"}, database=database) as gw:
        odd = {"reference": text, "tags": [text[:20]], "metadata": {text: text}, "collapse_key": text}
        to = {"email": "ada@example.com", "name": "Ada", "data": {text: text}}
        for more in (odd, {"category": text}, {"template": text}, {"channels": [text]}):
            answer = await gw.post(to, **more)
            assert answer.status_code in {202, 422}, (more, answer.text)
        for path, query in [
            ("/v1/notifications", {"reference": text}),
            ("/v1/notifications", {"tag": text[:20]}),
            ("/v1/notifications", {"address": text}),
            ("/v1/deliveries", {"provider": text}),
            ("/v1/captured", {"to": text}),
            ("/v1/suppressions", {"address": text}),
        ]:
            answer = await gw.client.get(path, params=query)
            assert answer.status_code in {200, 422}, (path, query, answer.text)
        listed = await gw.client.post("/v1/suppressions", json={"channel": "slack", "address": text})
        assert listed.status_code in {201, 200, 422}, listed.text
