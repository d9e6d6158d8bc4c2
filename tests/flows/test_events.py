"""Our events to services: a real receiver on loopback, judged by the Standard Webhooks reference implementation."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from gateway.router.relay import FAILING_MS
from tests.support.gateway import RunningGateway, body, merged, running_gateway
from tests.support.http_server import Do, HttpServer, Received, Reply
from tests.support.patience import PATIENCE_S

OWN = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PRODUCTION = {"environment": "production", "outbound": {"allow_private": ["127.0.0.1/32"]}}
DELIVERED = {"email": "delivered@simulator.invalid"}
DAY_S = 86_400


async def listen(gw: RunningGateway, url: str, *events: str, client: Any = None, **more: Any) -> dict[str, Any]:
    wanted = {"url": url, "events": list(events or ["*"]), **more}
    answer = await (client or gw.client).post("/v1/webhooks", json=wanted)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def simulated(gw: RunningGateway, name: str = "delivered", **more: Any) -> Any:
    return await gw.send(f"{name}@simulator.invalid", channels=["email"], **more)


async def heard(server: HttpServer, count: int, *, within_s: float = PATIENCE_S) -> list[Received]:
    ends = time.monotonic() + within_s
    while len(server.requests) < count:
        assert time.monotonic() < ends, f"heard {[told(one)['type'] for one in server.requests]}"
        await asyncio.sleep(0.005)
    return server.requests


async def webhook(gw: RunningGateway, made: dict[str, Any]) -> dict[str, Any]:
    return await gw.get(f"/v1/webhooks/{made['id']}")


async def carried(gw: RunningGateway, made: dict[str, Any]) -> list[Any]:
    """List the notifications that carried events to an endpoint."""
    return (await gw.get("/v1/notifications", category="_events", reference=made["id"], limit=200))["items"]


def told(request: Received) -> dict[str, Any]:
    return request.json()


def judged(request: Received, secret: str) -> dict[str, Any]:
    """Have the reference implementation verify a request; it raises for whatever is not right."""
    return Webhook(secret).verify(request.body, dict(request.headers))


async def test_a_service_hears_of_a_bounce_with_what_the_caller_gave(tmp_path, database):
    async with HttpServer(Reply(204)) as server, running_gateway(tmp_path, PRODUCTION, database=database) as gw:
        made = await listen(gw, f"{server.url}/hook", "delivery.*", "notification.completed")
        answer = await simulated(gw, "bounced", reference="order-7", metadata={"shop": {"id": 3}}, tags=["a"])
        [delivery] = answer["deliveries"]
        requests = await heard(server, 4)
        events = [judged(request, made["secret"]) for request in requests]
        in_order = sorted(events, key=lambda one: (one["at"], one["id"]))
        assert [one["type"] for one in in_order] == [
            "delivery.queued",
            "delivery.sent",
            "delivery.bounced",
            "notification.completed",
        ], "whichever way they came, they can be put in order"
        for one in events:
            assert (one["notification_id"], one["reference"]) == (answer["id"], "order-7")
            assert one["metadata"] == {"shop": {"id": 3}}
        [bounced] = [one for one in events if one["type"] == "delivery.bounced"]
        assert (bounced["delivery_id"], bounced["status"]) == (delivery["id"], "bounced")
        shown = await gw.events(answer["id"])
        assert sorted(events, key=_id) == sorted(shown, key=_id), "an endpoint reads what the API shows"
        assert len({request.headers["webhook-id"] for request in requests}) == 4
        assert all(request.headers["webhook-id"].startswith("dlv_") for request in requests)


async def test_deliveries_of_events_are_like_any_other_but_make_no_events_and_are_in_nobodys_list(tmp_path):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "*")
        answer = await simulated(gw)
        await heard(server, 4)
        for request in list(server.requests):
            found = await gw.final(request.headers["webhook-id"])
            assert (found["channel"], found["status"], found["provider"]) == ("webhook", "sent", "event-webhooks")
            assert (found["address"], found["recipient"]) == (server.url, {"webhook": made["id"]})
            assert [one["outcome"] for one in found["attempts"]] == ["accepted"]
        await gw.gateway.relay.round()
        assert not (await gw.gateway.store.outbox_state(FAILING_MS)).noted
        assert [one["id"] for one in (await gw.get("/v1/notifications"))["items"]] == [answer["id"]]
        assert {one["id"] for one in (await gw.get("/v1/deliveries"))["items"]} == {answer["deliveries"][0]["id"]}
        assert len(await carried(gw, made)) == 4
        assert len(server.requests) == 4, "no event is about the delivery of an event"


async def test_another_projects_events_never_arrive(tmp_path, database):
    async with (
        HttpServer(Reply(200)) as ours,
        HttpServer(Reply(200)) as theirs,
        running_gateway(tmp_path, PRODUCTION, database=database) as gw,
    ):
        us = await gw.new_client("admin", project="ours")
        them = await gw.new_client("admin", project="theirs")
        await listen(gw, ours.url, "*", client=us)
        await listen(gw, theirs.url, "*", client=them)
        first = await simulated(gw, client=us)
        second = await simulated(gw, client=them)
        assert {told(one)["notification_id"] for one in await heard(ours, 4)} == {first["id"]}
        assert {told(one)["notification_id"] for one in await heard(theirs, 4)} == {second["id"]}


async def test_what_was_committed_survives_a_death_before_the_relay_ran(tmp_path, database):
    async with HttpServer(Reply(200)) as server:
        async with running_gateway(tmp_path, PRODUCTION, work=False, database=database) as gw:
            made = await listen(gw, server.url, "delivery.queued")
            answers = [await simulated(gw) for _ in range(3)]
        assert server.requests == []
        async with running_gateway(tmp_path, PRODUCTION, database=database):
            requests = await heard(server, 3)
        events = [judged(request, made["secret"]) for request in requests]
        assert sorted(one["notification_id"] for one in events) == sorted(one["id"] for one in answers)


async def test_two_processes_relay_each_event_once(tmp_path, database):
    async with (
        HttpServer(Reply(200)) as server,
        running_gateway(tmp_path, PRODUCTION, database=database) as one,
        running_gateway(tmp_path, PRODUCTION, database=database) as two,
    ):
        made = await listen(one, server.url, "delivery.queued", "delivery.delivered")
        wanted = [body(DELIVERED, channels=["email"], reference=f"r-{number}") for number in range(100)]
        for gw, half in ((one, wanted[:50]), (two, wanted[50:])):
            await gw.client.post("/v1/notifications/batch", json={"notifications": half})
        requests = await heard(server, 200)
        assert len({told(request)["id"] for request in requests}) == 200
        for gw in (one, two):
            await gw.gateway.relay.round()
        assert len(await carried(one, made)) == 200
        assert len(server.requests) == 200


async def test_an_event_right_after_the_creation_in_another_process_is_not_missed(tmp_path, database):
    async with (
        HttpServer(Reply(200)) as server,
        running_gateway(tmp_path, PRODUCTION, database=database) as one,
        running_gateway(tmp_path, PRODUCTION, database=database) as two,
    ):
        await simulated(two)  # it has looked, and knows of no endpoint
        for number in range(1, 6):
            made = await listen(one, f"{server.url}/{number}", "delivery.queued")
            await simulated(two)
            await heard(server, number)
            assert (await one.client.delete(f"/v1/webhooks/{made['id']}")).status_code == 200


async def test_a_refused_event_is_tried_again_under_the_same_id(tmp_path):
    answers = [Reply(500, body="<html>trouble inside</html>"), Do.CLOSE, Reply(200)]
    async with HttpServer(answers) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered", secret=OWN)
        assert made["secret"] == OWN
        await simulated(gw)
        await heard(server, 1)
        name = server.requests[0].headers["webhook-id"]
        for attempt in (1, 2):
            held = await gw.held(name, "retry", attempts=attempt)
            assert "trouble" not in json.dumps(held), "an endpoint's words are shown to nobody"
            assert (await webhook(gw, made))["consecutive_failures"] == attempt
            gw.clock.advance(30)
        assert (await gw.final(name))["status"] == "sent"
        assert {request.headers["webhook-id"] for request in server.requests} == {name}
        assert len({request.body for request in server.requests}) == 1
        for request in server.requests:
            at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)
            assert request.headers["webhook-signature"] == Webhook(OWN).sign(name, at, request.body.decode())
        shown = await webhook(gw, made)
        assert (shown["consecutive_failures"], shown["first_failure_at"]) == (0, None)
        assert shown["last_success_at"] > shown["last_failure_at"]


async def test_an_event_is_tried_for_days_and_pure_failure_switches_the_endpoint_off(tmp_path):
    async with HttpServer(Reply(500)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        await heard(server, 1)
        name = server.requests[0].headers["webhook-id"]
        attempts = 1
        while (found := await gw.until(name, {"held", "failed", "unknown"}))["status"] == "held":
            attempts = len(found["attempts"])
            due = datetime.fromisoformat(found["due_at"]).timestamp() - gw.clock() / 1000
            gw.clock.advance(max(due, 0) + 0.01)
            await heard(server, attempts + 1)
        first, last = (datetime.fromisoformat(found["attempts"][place]["started_at"]) for place in (0, -1))
        assert timedelta(days=4) < last - first <= timedelta(days=5)
        assert 12 <= len(found["attempts"]) <= 24
        assert (await webhook(gw, made))["enabled"], "five days are not over"
        gw.clock.advance(DAY_S)
        with structlog.testing.capture_logs() as lines:
            await simulated(gw)
            await heard(server, len(found["attempts"]) + 1)
            await _until(lambda: _is_off(gw, made))
        [line] = [line for line in lines if line["event"] == "webhook_switched_off"]
        assert (line["log_level"], line["webhook_id"], line["reason"]) == ("warning", made["id"], "failing")
        assert server.url not in str(line)
        shown = await webhook(gw, made)
        assert (shown["enabled"], shown["disabled_reason"]) == (False, "failing")
        assert shown["disabled_at"] is not None
        await _nothing_new(gw, server)
        answer = await gw.client.patch(f"/v1/webhooks/{made['id']}", json={"enabled": True})
        assert (answer.status_code, answer.json()["enabled"], answer.json()["consecutive_failures"]) == (200, True, 0)
        before = len(server.requests)
        await simulated(gw)
        await heard(server, before + 1)


async def test_an_endpoint_that_is_gone_is_switched_off_at_once_and_its_queue_is_called_back(tmp_path):
    async with HttpServer([Reply(500), Reply(410)]) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        first = (await heard(server, 1))[0].headers["webhook-id"]
        await gw.held(first, "retry")
        await simulated(gw)
        gone = (await heard(server, 2))[1].headers["webhook-id"]
        assert (await gw.final(gone))["reason"] == "address_dead"
        shown = await webhook(gw, made)
        assert (shown["enabled"], shown["disabled_reason"]) == (False, "gone")
        gw.clock.advance(30)
        waiting = await gw.final(first)
        assert (waiting["status"], waiting["reason"]) == ("unknown", "cancelled"), "who answers 500 may have taken it"
        await _nothing_new(gw, server)
        assert (await gw.get("/v1/suppressions"))["items"] == [], "it can be switched on again"


async def test_what_an_endpoint_may_have_got_before_it_was_deleted_is_not_called_unsent(tmp_path):
    async with HttpServer(Reply(500)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        event = (await heard(server, 1))[0].headers["webhook-id"]
        waiting = await gw.held(event, "retry")
        assert [one["outcome"] for one in waiting["attempts"]] == ["unknown"]
        assert (await gw.client.delete(f"/v1/webhooks/{made['id']}")).status_code == 200
        gw.clock.advance(30)
        found = await gw.final(event)
        assert (found["status"], found["reason"]) == ("unknown", "cancelled")
        assert found["detail"].startswith("the webhook was deleted; an earlier attempt's answer was lost")
        await _nothing_new(gw, server)


async def test_events_of_an_erased_person_that_wait_are_sent_and_say_nothing_of_them(tmp_path, database):
    canary = "canary4711"
    async with HttpServer(Reply(500)) as server, running_gateway(tmp_path, PRODUCTION, database=database) as gw:
        await listen(gw, server.url, "delivery.bounced", "suppression.created")
        await gw.client.put("/v1/users/42", json={"email": "bounced@simulator.invalid"})
        sent = await gw.send({"user": "42"}, channels=["email"], reference=canary, metadata={"who": canary})
        row = {"channel": "email", "address": "bounced@simulator.invalid", "detail": canary}
        assert (await gw.client.post("/v1/suppressions", json=row)).status_code == 201
        first = list(await heard(server, 2))
        assert canary in str([told(one) for one in first])
        for one in first:
            await gw.held(one.headers["webhook-id"], "retry")
        export = await gw.get("/v1/users/42/export")
        shown = [one["event"] for one in export["webhook_events"]]
        assert sorted(shown, key=_id) == sorted(map(told, first), key=_id)
        assert {one["status"] for one in export["webhook_events"]} == {"held"}
        erased = await gw.client.delete("/v1/users/42")
        assert erased.json()["removed"]["echoes"] == 2
        gw.clock.advance(30)
        later = (await heard(server, 4))[2:]
        assert {one.headers["webhook-id"] for one in later} == {one.headers["webhook-id"] for one in first}
        by_type = {told(one)["type"]: told(one) for one in later}
        bounced, suppressed = by_type["delivery.bounced"], by_type["suppression.created"]
        assert (bounced["notification_id"], bounced["status"]) == (sent["id"], "bounced")
        assert (bounced["detail"], bounced["reference"], bounced["metadata"]) == (None, None, {})
        assert (suppressed["channel"], suppressed["address"], suppressed["detail"]) == ("email", None, None)
        assert canary not in str(await gw.get("/v1/notifications", category="_events", limit=200))


async def test_one_that_hangs_or_fails_is_asked_by_one_event_at_a_time_and_delays_nobody_else(tmp_path):
    async with (
        HttpServer(Reply(500)) as bad,
        HttpServer(Reply(200)) as good,
        running_gateway(tmp_path, PRODUCTION) as gw,
    ):
        await listen(gw, bad.url, "delivery.queued")
        await listen(gw, good.url, "delivery.queued")
        wanted = [body(DELIVERED, channels=["email"]) for _ in range(100)]
        await gw.client.post("/v1/notifications/batch", json={"notifications": wanted})
        await heard(good, 100)
        await _until(lambda: _all_held(gw, 100))
        held = await _held(gw)
        unasked = [one for one in held if not one["attempts"]]
        assert {one["reason"] for one in unasked} == {"provider_down"}
        assert len(bad.requests) + len(unasked) == 100
        assert len(bad.requests) < 50, "it was not asked a hundred times to fail a hundred times"
        before = len(bad.requests)
        gw.clock.advance(121)
        await heard(bad, before + 1)


async def test_a_deleted_endpoint_hears_nothing_and_is_not_found(tmp_path):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url)
        answer = await gw.client.delete(f"/v1/webhooks/{made['id']}")
        assert (answer.status_code, answer.json()) == (200, {"id": made["id"], "deleted": True})
        await _nothing_new(gw, server)
        assert (await gw.client.get(f"/v1/webhooks/{made['id']}")).status_code == 404


async def test_a_replay_sends_again_what_happened_since_to_that_endpoint_only(tmp_path, database):
    async with (
        HttpServer(Reply(200)) as missed,
        HttpServer(Reply(200)) as other,
        running_gateway(tmp_path, PRODUCTION, database=database) as gw,
    ):
        early = await simulated(gw, reference="early")
        await gw.all_final(early["id"])
        gw.clock.advance(3600)
        since = datetime.fromtimestamp(gw.clock() / 1000, UTC)
        gw.clock.advance(1)
        late = [await simulated(gw, reference=f"late-{number}") for number in range(5)]
        for one in late:
            await gw.all_final(one["id"])
        made = await listen(gw, missed.url, "delivery.*")
        await listen(gw, other.url, "delivery.*")
        for again in (1, 2):
            answer = await gw.client.post(f"/v1/webhooks/{made['id']}/replay", json={"since": since.isoformat()})
            assert answer.status_code == 202, answer.text
            events = [told(request) for request in await heard(missed, 15 * again)][-15:]
            assert {one["reference"] for one in events} == {f"late-{number}" for number in range(5)}
            shown = [event for one in late for event in await gw.events(one["id"]) if event["delivery_id"]]
            by_id = {one["id"]: one for one in shown}
            assert {one["id"]: one for one in events} == by_id
            await _until(lambda: _finished(gw, made))
        assert len({request.headers["webhook-id"] for request in missed.requests}) == 30
        assert other.requests == []


async def test_both_secrets_sign_while_receivers_change_over(tmp_path):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        path = f"/v1/webhooks/{made['id']}"
        answer = await gw.client.post(f"{path}/rotate")
        assert answer.status_code == 200, answer.text
        new = answer.json()["secret"]
        assert new != made["secret"]
        await simulated(gw)
        [request] = await heard(server, 1)
        assert judged(request, new) == judged(request, made["secret"])
        gw.clock.advance(DAY_S + 1)
        await simulated(gw)
        last = (await heard(server, 2))[1]
        at = datetime.fromtimestamp(int(last.headers["webhook-timestamp"]), UTC)
        expected = Webhook(new).sign(last.headers["webhook-id"], at, last.body.decode())
        assert last.headers["webhook-signature"] == expected, "the old one has ceased to sign"
        for shown in (await webhook(gw, made), await gw.get("/v1/webhooks")):
            assert "whsec_" not in json.dumps(shown), "a secret is shown once"


async def test_a_forged_body_or_secret_is_not_what_was_signed(tmp_path):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        [request] = await heard(server, 1)
        with pytest.raises(WebhookVerificationError):
            Webhook(made["secret"]).verify(request.body + b" ", dict(request.headers))
        with pytest.raises(WebhookVerificationError):
            Webhook(OWN).verify(request.body, dict(request.headers))


@pytest.mark.parametrize("allowed", [True, False])
async def test_outside_production_an_event_leaves_only_to_an_allowlisted_address(tmp_path, allowed):
    async with HttpServer(Reply(200)) as server:
        allow = [f"webhook:{server.url}/qa/*"] if allowed else ["webhook:https://hooks.example.com/*"]
        config = merged(PRODUCTION, {"environment": "staging", "staging": {"allow": allow}})
        async with running_gateway(tmp_path, config) as gw:
            made = await listen(gw, f"{server.url}/qa/hook", "delivery.delivered")
            answer = await simulated(gw, reference="order-9")
            if allowed:
                assert told((await heard(server, 1))[0])["reference"] == "order-9"
                return
            kept = await gw.get("/v1/captured/wait", channel="webhook", timeout_s=10)
            assert kept["data"]["notification_id"] == answer["id"]
            assert made["secret"] not in json.dumps(kept), "what is captured carries no secret"
            assert "secrets" not in kept["headers"]
            assert server.requests == []


async def test_services_hear_of_suppressions_whoever_made_them(tmp_path, database):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION, database=database) as gw:
        await listen(gw, server.url, "suppression.created")
        wanted = {"channel": "email", "address": "ada@example.com", "detail": "Asked by phone."}
        for _ in range(2):
            assert (await gw.client.post("/v1/suppressions", json=wanted)).status_code == 201
        [request] = await heard(server, 1)
        event = told(request)
        assert event.pop("id").startswith("evt_")
        assert event.pop("at")
        assert event == {
            "type": "suppression.created",
            "notification_id": None,
            "delivery_id": None,
            "status": None,
            "reason": "suppressed",
            "detail": "Asked by phone.",
            "reference": None,
            "metadata": {},
            "channel": "email",
            "address": "ada@example.com",
            "source": "api",
        }
        skipped = await gw.send("ada@example.com", channels=["email"])
        assert skipped["deliveries"][0]["status"] == "skipped"
        await gw.gateway.relay.round()
        assert len(server.requests) == 1, "an address that was there already is no news"


async def test_a_skipped_delivery_is_told_though_it_was_final_when_planned(tmp_path):
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        await listen(gw, server.url, "delivery.skipped", "notification.completed")
        await gw.send("ada@example.com", channels=["email"])
        events = {told(one)["type"]: told(one) for one in await heard(server, 2)}
        assert events["delivery.skipped"]["reason"] == "suppressed"
        assert set(events) == {"delivery.skipped", "notification.completed"}


async def test_retention_takes_events_with_their_deliveries_away(tmp_path):
    config = merged(PRODUCTION, {"retention": {"notifications_days": 2, "contents_days": 1}})
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, config) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        name = (await heard(server, 1))[0].headers["webhook-id"]
        await gw.final(name)
        gw.clock.advance(1.5 * DAY_S)
        await gw.keep_house()
        assert (await gw.delivery(name))["recipient"] == {}, "contents go first"
        gw.clock.advance(DAY_S)
        await gw.keep_house()
        assert (await gw.client.get(f"/v1/deliveries/{name}")).status_code == 404
        assert await carried(gw, made) == []


async def test_a_failed_event_can_be_sent_again_by_hand_and_no_callers_filter_touches_it(tmp_path):
    async with HttpServer([Reply(410), Reply(200)]) as server, running_gateway(tmp_path, PRODUCTION) as gw:
        made = await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        name = (await heard(server, 1))[0].headers["webhook-id"]
        assert (await gw.final(name))["status"] == "failed"
        many = await gw.client.post("/v1/deliveries/retry", json={"status": "failed"})
        assert (many.status_code, many.json()) == (202, {"deliveries": []})
        await gw.client.patch(f"/v1/webhooks/{made['id']}", json={"enabled": True})
        answer = await gw.client.post(f"/v1/deliveries/{name}/retry")
        assert answer.status_code == 202, answer.text
        assert (await gw.final(answer.json()["id"]))["status"] == "sent"
        first, second = (told(request) for request in server.requests)
        assert first == second


async def test_a_configured_provider_posts_events_in_place_of_the_built_in_one(tmp_path):
    own = {"providers": {"hooks": {"use": "hook_signed", "connections": 2}}}
    async with HttpServer(Reply(200)) as server, running_gateway(tmp_path, merged(PRODUCTION, own)) as gw:
        await listen(gw, server.url, "delivery.delivered")
        await simulated(gw)
        name = (await heard(server, 1))[0].headers["webhook-id"]
        assert (await gw.final(name))["provider"] == "hooks"
        assert gw.gateway.providers.named("event-webhooks") is None


def _id(event: dict[str, Any]) -> str:
    return event["id"]


async def _nothing_new(gw: RunningGateway, server: HttpServer) -> None:
    """Let something happen, and see that nobody is told."""
    before = len(server.requests)
    answer = await simulated(gw)
    await gw.all_final(answer["id"])
    assert not (await gw.gateway.store.outbox_state(FAILING_MS)).noted
    assert len(server.requests) == before


async def _finished(gw: RunningGateway, made: dict[str, Any]) -> bool:
    return not (await webhook(gw, made))["replaying"]


async def _held(gw: RunningGateway) -> list[Any]:
    return (await gw.get("/v1/deliveries", category="_events", status="held", limit=200))["items"]


async def _all_held(gw: RunningGateway, count: int) -> bool:
    return len(await _held(gw)) == count


async def _is_off(gw: RunningGateway, made: dict[str, Any]) -> bool:
    return not (await webhook(gw, made))["enabled"]


async def _until(true: Callable[[], Awaitable[bool]], *, within_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)
