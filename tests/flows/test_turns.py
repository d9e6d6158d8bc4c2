"""Channels in turn, from the request to the wire: the next one only if it is needed, and then without delay."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier

from channels.testing_server import HttpServer, Reply
from tests.flows.test_channels import answering, everyone
from tests.flows.test_channels import config as all_channels
from tests.support.gateway import merged, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

CHANNELS = ["email", "sms", "slack"]
SLOW = {"server": {"poll_s": 600}}
"""Nobody looks into the table by himself: what goes on was woken."""
POSTMARK = {"Authorization": "Basic " + base64.b64encode(b"postmark:a-long-callback-password").decode()}
SIGNING = "a-slack-signing-secret"


def config(url: str, **more: Any) -> dict[str, Any]:
    secret = {"providers": {"slack-bot": {"signing_secret": SIGNING}}}
    return merged(merged(all_channels(url), secret), more)


def people(url: str) -> dict[str, Any]:
    return {**everyone(url), "phone": "+4915112345678"}


def by_channel(notification: Any) -> dict[str, Any]:
    return {one["channel"]: one for one in notification["deliveries"]}


def standing(notification: Any) -> list[tuple[str, str | None]]:
    return [(one["status"], one["reason"]) for one in notification["deliveries"]]


async def report(gw: Any, kind: str, **more: Any) -> None:
    told = {
        "RecordType": kind,
        "MessageID": "pm-1",
        "Recipient": "ada@example.com",
        "Email": "ada@example.com",
        "DeliveredAt": "2027-01-15T08:00:00Z",
        "ReceivedAt": "2027-01-15T08:00:00Z",
        "BouncedAt": "2027-01-15T08:00:00Z",
        "Details": "told",
        "Metadata": {},
        **more,
    }
    answer = await gw.client.post("/v1/callbacks/postmark", json=told, headers=POSTMARK)
    assert (answer.status_code, answer.json()) == (200, {"changed": 1}), answer.text


async def acknowledge(gw: Any, delivery_id: str) -> None:
    press = {
        "type": "block_actions",
        "actions": [{"action_id": "acknowledge", "action_ts": str(time.time()), "value": delivery_id}],
        "container": {"channel_id": "C7", "message_ts": "1.2"},
        "user": {"id": "U1"},
    }
    body = urlencode({"payload": json.dumps(press)})
    at = str(int(gw.clock() / 1000))
    signature = SignatureVerifier(SIGNING).generate_signature(timestamp=at, body=body)
    headers = {
        "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": str(signature),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    answer = await gw.client.post("/v1/callbacks/slack-bot", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"changed": 1}), answer.text


async def test_a_dead_mail_server_fails_over_to_the_next_channel_at_once(tmp_path: Path):
    gone = SmtpServer()
    async with gone:
        pass
    async with HttpServer(answering) as server:
        impatient = {"channels": {"email": {"providers": ["smtp-1"], "retry": {"attempts": 1}}}, **SLOW}
        mail = smtp(gone)
        made = merged(merged(config(server.url), {"providers": mail["providers"]}), impatient)
        async with running_gateway(tmp_path, made) as gw:
            answer = await gw.send(people(server.url), channels=["email", "slack", "sms"], strategy="first_success")
            assert standing(answer)[1:] == [("held", "fallback"), ("held", "fallback")]
            assert [one["due_at"] for one in answer["deliveries"]] == [None, None, None]
            done = await gw.all_final(answer["id"])
            found = by_channel(done)
            assert (found["email"]["status"], found["email"]["reason"]) == ("failed", "gave_up")
            assert (found["slack"]["status"], found["slack"]["provider"]) == ("sent", "slack-bot")
            assert (found["sms"]["status"], found["sms"]["reason"]) == ("skipped", "not_needed")
            assert found["sms"]["detail"] == f"slack ({found['slack']['id']}): sent"
            assert {request.target for request in server.requests} == {"/api/chat.postMessage"}
            told = [(one["type"], one["detail"]) for one in await gw.events(answer["id"])]
            assert ("delivery.held", "only if email fails") in told
            assert ("delivery.queued", f"email ({found['email']['id']}): failed (gave_up)") in told
            assert told[-1][0] == "notification.completed"


async def test_a_bounce_that_is_told_later_moves_on_and_wakes_the_dispatcher(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url, **SLOW)) as gw:
        answer = await gw.send(people(server.url), channels=CHANNELS, strategy="first_success")
        await gw.until(answer["deliveries"][0]["id"], {"sent"})
        assert standing(await gw.get(f"/v1/notifications/{answer['id']}"))[1:] == [("held", "fallback")] * 2
        await report(gw, "Bounce", Type="HardBounce", TypeCode=1)
        found = by_channel(await gw.all_final(answer["id"]))
        assert [found[channel]["status"] for channel in CHANNELS] == ["bounced", "sent", "skipped"]


async def test_what_arrived_needs_nobody_else(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.send(people(server.url), channels=CHANNELS, strategy="first_success")
        await gw.until(answer["deliveries"][0]["id"], {"sent"})
        await report(gw, "Delivery")
        done = await gw.all_final(answer["id"])
        assert standing(done) == [("delivered", None), ("skipped", "not_needed"), ("skipped", "not_needed")]
        assert [request.target for request in server.requests] == ["/email"]


@pytest.mark.parametrize("strategy", ["first_success", "escalate"])
async def test_in_staging_one_message_is_captured_and_the_chain_ends(tmp_path: Path, strategy: str):
    staging = {"environment": "staging"}
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url, **staging)) as gw:
        answer = await gw.send(people(server.url), channels=CHANNELS, strategy=strategy, escalate_after_s=60)
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"captured": 1, "skipped": 2}
        assert server.requests == []


async def test_escalating_takes_its_time_and_stops_when_the_mail_is_read(tmp_path: Path):
    category = {"categories": {"alerts": {"strategy": "escalate", "escalate_after_s": 300, "channels": CHANNELS}}}
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url, **category)) as gw:
        answer = await gw.send(people(server.url), category="alerts")
        times = [one["due_at"] and datetime.fromisoformat(one["due_at"]).timestamp() for one in answer["deliveries"]]
        start = datetime.fromisoformat(answer["created_at"]).timestamp()
        assert times == [None, pytest.approx(start + 300), pytest.approx(start + 600)]
        mail, sms, slack = (one["id"] for one in answer["deliveries"])
        await gw.until(mail, {"sent"})
        gw.clock.advance(299)
        assert (await gw.delivery(sms))["status"] == "held"
        gw.clock.advance(2)
        await gw.until(sms, {"sent"})
        await report(gw, "Open", FirstOpen=True)
        off = await gw.delivery(slack)
        assert (off["status"], off["reason"], off["detail"]) == ("skipped", "not_needed", f"email ({mail}): opened")
        gw.clock.advance(600)
        assert [request.target.rpartition("/")[2] for request in server.requests] == ["email", "Messages.json"]


async def test_an_acknowledged_alert_calls_nobody_else(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        chain = ["slack", "sms", "email"]
        answer = await gw.send(
            people(server.url),
            channels=chain,
            strategy="escalate",
            escalate_after_s=60,
            overrides={"slack": {"acknowledge": "Mine"}},
        )
        slack = answer["deliveries"][0]["id"]
        await gw.until(slack, {"sent"})
        await acknowledge(gw, slack)
        done = await gw.all_final(answer["id"])
        assert standing(done) == [("sent", None), ("skipped", "not_needed"), ("skipped", "not_needed")]
        assert done["deliveries"][0]["engagement"] == ["acknowledged"]


async def test_a_refused_address_is_passed_over_and_a_missing_one_too(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        to = {"email": "ada@example.com", "phone": "+4915112345678"}
        answer = await gw.send(to, channels=["slack", "email", "sms"], strategy="first_success")
        done = await gw.all_final(answer["id"])
        assert standing(done) == [("skipped", "no_address"), ("skipped", "suppressed"), ("sent", None)]


async def test_explain_tells_the_plan_that_a_send_then_follows(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        for strategy in ("first_success", "escalate"):
            more = {"channels": CHANNELS, "strategy": strategy, "escalate_after_s": 60}
            wanted = {"to": people(server.url), "content": {"title": "Hello"}, **more}
            told = (await gw.client.post("/v1/notifications/explain", json=wanted)).json()["deliveries"]
            answer = await gw.send(people(server.url), **more)
            assert [(one["decision"], one["reason"]) for one in told] == [
                ("send", None),
                ("hold", "fallback"),
                ("hold", "fallback"),
            ]
            assert [one["until"] is None for one in told] == [one["due_at"] is None for one in answer["deliveries"]]
            assert all("turn" in [rule["rule"] for rule in one["rules"]] for one in told)
            assert all(one["rendered"] for one in told)


async def test_escalating_without_a_time_is_refused_and_turns_are_not(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        for channels in (CHANNELS, ["slack"]):
            answer = await gw.post(people(server.url), channels=channels, strategy="escalate")
            assert answer.status_code == 422
            assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [
                ("escalate_after_s", "required"),
            ]
        assert (await gw.post(people(server.url), channels=CHANNELS, strategy="first_success")).status_code == 202


async def test_what_one_process_lets_go_another_one_sends(tmp_path: Path, database: str):
    async with (
        HttpServer(answering) as server,
        running_gateway(tmp_path, config(server.url), database=database) as works,
        running_gateway(tmp_path, config(server.url), database=database, work=False) as listens,
    ):
        answer = await listens.send(people(server.url), channels=CHANNELS, strategy="first_success")
        await works.until(answer["deliveries"][0]["id"], {"sent"})
        await report(listens, "Bounce", Type="HardBounce", TypeCode=1)
        found = by_channel(await works.all_final(answer["id"]))
        assert [found[channel]["status"] for channel in CHANNELS] == ["bounced", "sent", "skipped"]


async def test_a_retry_of_a_failed_step_stands_outside_the_chain(tmp_path: Path):
    routes = {"/email": Reply(422, json={"ErrorCode": 300, "Message": "Invalid email request"}), "*": answering}
    async with HttpServer(routes) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.send(people(server.url), channels=CHANNELS, strategy="first_success")
        done = by_channel(await gw.all_final(answer["id"]))
        assert [done[channel]["status"] for channel in CHANNELS] == ["failed", "sent", "skipped"]
        again = await gw.client.post(f"/v1/deliveries/{done['email']['id']}/retry")
        assert again.status_code == 202, again.text
        await gw.until(again.json()["id"], {"failed"})
        after = await gw.all_final(answer["id"])
        assert after["counts"] == {"failed": 2, "sent": 1, "skipped": 1}
