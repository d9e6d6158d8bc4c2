"""Rates, schedules, deadlines, cancelling and retrying, with a clock that is moved."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from tests.support.gateway import message_ids, running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer


def at(gw, seconds: float) -> str:
    return datetime.fromtimestamp(gw.clock() / 1000 + seconds, UTC).isoformat()


def ms(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


async def test_a_providers_rate_paces_and_loses_nothing(tmp_path):
    config = {"providers": {"smtp-1": {"rate": "20/s"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        answer = await gw.send([{"email": f"user{number}@example.com"} for number in range(12)])
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"sent": 12}
        assert len(server.messages) == 12
        started = sorted(ms(one["attempts"][0]["started_at"]) for one in done["deliveries"])
        # 20 a second is two in 100 ms, the first two at once: each may be late, none early.
        late = [at - ms(answer["created_at"]) - 100 * (place // 2) for place, at in enumerate(started)]
        assert all(one >= 0 for one in late), late


async def test_a_recipients_rate_holds_what_is_too_much_and_says_until_when(tmp_path):
    config = {"channels": {"email": {"per_recipient": "2/h"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        for _ in range(2):
            assert (await gw.final(await gw.send("ada@example.com")))["status"] == "sent"
        answer = await gw.send("ADA@example.com")
        held = await gw.held(answer, "rate_limited")
        due = datetime.fromisoformat(held["due_at"]).timestamp()
        assert 3590 <= due - gw.clock() / 1000 <= 3600
        assert held["attempts"] == []
        assert held["provider"] is None, "no provider has seen it"
        assert (await gw.final(await gw.send("bob@example.com")))["status"] == "sent"
        gw.clock.advance(3601)
        assert (await gw.final(answer))["status"] == "sent"
        assert len(server.messages) == 4


async def test_a_send_in_the_future_waits_for_its_time(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send(send_at=at(gw, 3600))
        assert answer["status"] == "scheduled"
        [planned] = answer["deliveries"]
        assert (planned["status"], planned["reason"]) == ("held", "scheduled")
        assert planned["due_at"] is not None
        assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "scheduled"
        gw.clock.advance(3590)
        assert (await gw.delivery(answer))["status"] == "held"
        gw.clock.advance(11)
        assert (await gw.final(answer))["status"] == "sent"
        assert len(server.messages) == 1


async def test_a_send_scheduled_beyond_the_retry_budget_is_still_tried_again(tmp_path):
    busy = Behaviour(on={"mail": ["450 4.2.1 busy", "250 2.1.0 OK"]})
    config = {"channels": {"email": {"retry": {"budget_s": 600}}}}
    async with SmtpServer(busy) as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        answer = await gw.send(send_at=at(gw, 3600))
        gw.clock.advance(3601)
        await gw.held(answer, "retry", attempts=1)
        gw.clock.advance(60)
        assert (await gw.final(answer))["status"] == "sent"


async def test_what_is_too_late_expires_unsent(tmp_path):
    busy = Behaviour(on={"mail": "450 4.2.1 busy"})
    async with SmtpServer(busy) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send(expires_at=at(gw, 60))
        await gw.held(answer, "retry")
        gw.clock.advance(61)
        await gw.keep_house()
        late = await gw.final(answer)
        assert (late["status"], late["reason"]) in {("expired", "expired"), ("failed", "gave_up")}
        assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "completed"
        early = await gw.send(expires_at=at(gw, -1))
        [dead] = early["deliveries"]
        assert (dead["status"], dead["reason"], early["status"]) == ("expired", "expired", "completed")
        assert server.messages == []


async def test_a_cancelled_notification_is_not_sent_and_cancelling_again_changes_nothing(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send([{"email": "a@example.com"}, {"email": "b@example.com"}], send_at=at(gw, 60))
        cancelled = (await gw.client.post(f"/v1/notifications/{answer['id']}/cancel")).json()
        assert [(one["status"], one["changed"]) for one in cancelled["deliveries"]] == [("cancelled", True)] * 2
        again = await gw.client.post(f"/v1/notifications/{answer['id']}/cancel")
        assert again.status_code == 200
        assert [one["changed"] for one in again.json()["deliveries"]] == [False, False]
        gw.clock.advance(120)
        await gw.keep_house()
        found = await gw.get(f"/v1/notifications/{answer['id']}")
        assert (found["status"], found["counts"]) == ("cancelled", {"cancelled": 2})
        sent = await gw.send()
        await gw.final(sent)
        late = await gw.client.post(f"/v1/notifications/{sent['id']}/cancel")
        assert [(one["status"], one["changed"]) for one in late.json()["deliveries"]] == [("sent", False)]
        assert len(server.messages) == 1


async def test_what_failed_is_sent_again_once_and_what_has_not_failed_is_not(tmp_path):
    refusing = Behaviour(rcpt={"ada@example.com": ["550 5.7.1 not today", "250 2.1.5 OK"]})
    async with SmtpServer(refusing) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send()
        failed = await gw.final(answer)
        assert failed["status"] == "failed"
        again = await gw.client.post(f"/v1/deliveries/{failed['id']}/retry")
        assert (again.status_code, again.json()["retry_of"]) == (202, failed["id"])
        assert (await gw.final(again.json()))["status"] == "sent"
        found = await gw.get(f"/v1/notifications/{answer['id']}")
        assert (found["status"], found["counts"]) == ("completed", {"failed": 1, "sent": 1})
        refused = await gw.client.post(f"/v1/deliveries/{again.json()['id']}/retry")
        assert (refused.status_code, refused.json()["type"]) == (409, "/errors/conflict")
        many = await gw.client.post("/v1/deliveries/retry", json={"notification_id": answer["id"]})
        assert (many.status_code, many.json()["deliveries"]) == (202, []), "it was sent again already"
        assert len(server.messages) == 1


async def test_all_that_failed_is_sent_again_by_a_filter(tmp_path):
    behaviour = Behaviour(on={"mail": ["550 5.7.1 no"] * 5 + ["250 2.1.0 OK"]})
    one_connection = {"providers": {"smtp-1": {"connections": 1}}}
    async with SmtpServer(behaviour) as server, running_gateway(tmp_path, smtp(server, **one_connection)) as gw:
        answer = await gw.send([{"email": f"user{number}@example.com"} for number in range(6)])
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"failed": 5, "sent": 1}
        made = await gw.client.post("/v1/deliveries/retry", json={"reason": "policy", "since": at(gw, -60)})
        assert len(made.json()["deliveries"]) == 5
        for one in made.json()["deliveries"]:
            assert (await gw.final(one))["status"] == "sent"
        assert len(set(message_ids(server.messages))) == 6


@pytest.mark.parametrize("times", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
async def test_absurd_times_are_refused_or_shown_but_never_a_fault(tmp_path, times):
    async with running_gateway(tmp_path, {"environment": "development"}) as gw:
        for name in ("send_at", "expires_at"):
            answer = await gw.post(**{name: times})
            assert answer.status_code in {202, 422}, (name, answer.text)
            if answer.status_code == 202:
                await gw.get(f"/v1/notifications/{answer.json()['id']}")
                await gw.delivery(answer.json())
            explained = await gw.client.post(
                "/v1/notifications/explain",
                json={"to": {"email": "ada@example.com"}, "content": {"title": "x"}, name: times},
            )
            assert explained.status_code in {200, 422}, (name, explained.text)


async def test_events_tell_the_story_in_order(tmp_path):
    busy = Behaviour(on={"mail": ["450 4.2.1 busy", "250 2.1.0 OK"]})
    async with SmtpServer(busy) as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send(reference="order-7", metadata={"shop": "north"})
        await gw.held(answer, "retry")
        gw.clock.advance(10)
        await gw.final(answer)
        events = await gw.events(answer["id"])
        assert [one["type"] for one in events] == [
            "delivery.queued",
            "delivery.held",
            "delivery.sent",
            "notification.completed",
        ]
        assert [one["status"] for one in events] == ["queued", "held", "sent", "completed"]
        assert all(one["reference"] == "order-7" and one["metadata"] == {"shop": "north"} for one in events)
        assert all(before["at"] <= after["at"] for before, after in itertools.pairwise(events))
        assert {one["delivery_id"] for one in events[:-1]} == {answer["deliveries"][0]["id"]}
        assert len({one["id"] for one in events}) == len(events)


async def test_what_went_over_a_channel_that_is_configured_no_more_is_not_retryable(tmp_path):
    async with running_gateway(tmp_path, {"environment": "production", "channels": {"sms": {}}}) as gw:
        failed = await gw.final(await gw.send({"phone": "+15550100001"}, channels=["sms"]))
        assert (failed["status"], failed["reason"]) == ("failed", "account_problem")
    async with running_gateway(tmp_path, {"environment": "production"}) as gw:
        one = await gw.client.post(f"/v1/deliveries/{failed['id']}/retry")
        assert (one.status_code, one.json()["errors"][0]["code"]) == (409, "not_retryable")
        many = await gw.client.post("/v1/deliveries/retry", json={"ids": [failed["id"]]})
        assert (many.status_code, many.json()["deliveries"]) == (202, [])


async def test_what_waits_for_a_channel_that_is_configured_no_more_ends_at_its_deadline(tmp_path):
    config = {"environment": "production", "channels": {"sms": {}}}
    async with running_gateway(tmp_path, config, work=False) as gw:
        answer = await gw.send({"phone": "+15550100001"}, channels=["sms"])
    async with running_gateway(tmp_path, {"environment": "production"}) as gw:
        gw.clock.advance(86_401)
        await gw.keep_house()
        late = await gw.final(answer)
        assert (late["status"], late["reason"]) == ("expired", "expired")
