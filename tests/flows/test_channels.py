"""One request, every channel: each through its own adapter to its provider's test server, and none of it in staging."""

from __future__ import annotations

import asyncio
import base64
from datetime import datetime
from pathlib import Path
from typing import Any

from channels.testing_server import HttpServer, Reply
from tests.support.every_channel import CHANNELS, ROUTES, TOKEN, answering, config, everyone
from tests.support.gateway import running_gateway


async def test_one_request_reaches_every_channel(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        people = everyone(server.url)
        answer = await gw.send(people, channels=CHANNELS, strategy="all")
        found = {}
        for one in answer["deliveries"]:
            found[one["channel"]] = await gw.final(one["id"])
        assert {channel: one["status"] for channel, one in found.items()} == dict.fromkeys(CHANNELS, "sent"), found
        paths = [request.target.partition("?")[0] for request in server.requests]
        assert sorted(path for path in paths if path != TOKEN) == sorted(ROUTES)


async def test_a_rate_limited_one_waits_exactly_as_told_and_holds_up_no_other(tmp_path: Path):
    told = iter([Reply(429, {"Retry-After": "7"}, json={"ok": False, "error": "ratelimited"})])

    def busy(request: Any) -> Reply:
        return (
            next(told, ROUTES["/api/chat.postMessage"]) if "chat.postMessage" in request.target else answering(request)
        )

    async with HttpServer(busy) as server:
        wanted = config(server.url)
        async with running_gateway(tmp_path, wanted) as gw:
            before = gw.clock()
            answer = await gw.send(everyone(server.url), channels=CHANNELS, strategy="all")
            ids = {one["channel"]: one["id"] for one in answer["deliveries"]}
            held = await gw.held(ids.pop("slack"), "retry", attempts=1)
            for id_ in ids.values():
                assert (await gw.final(id_))["status"] == "sent"
            due = datetime.fromisoformat(held["due_at"]).timestamp() * 1000
            assert 7000 <= due - before <= 7700 + (gw.clock() - before), "seven seconds, and at most a tenth more"
            assert held["attempts"][0]["reason"] == "rate_limited"
            gw.clock.advance(6.5)
            await asyncio.sleep(0)
            assert (await gw.delivery(held["id"]))["status"] == "held", "not before it was told"
            gw.clock.advance(2)
            assert (await gw.final(held["id"]))["status"] == "sent"


async def test_a_destination_is_written_by_its_name_and_never_by_what_stands_behind_it(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        delivery = await gw.final(await gw.send({"slack": "ops"}, channels=["slack"]))
        assert (delivery["status"], delivery["address"]) == ("sent", "ops")
        [request] = server.requests
        assert request.json()["channel"] == "C7"


async def test_in_staging_no_channel_lets_anything_out(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url, "staging")) as gw:
        people = everyone(server.url)
        answer = await gw.send(people, channels=CHANNELS)
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"captured": len(CHANNELS)}
        assert server.requests == []
        captured = (await gw.get("/v1/captured"))["items"]
        assert {one["channel"] for one in captured} == set(CHANNELS)


async def test_a_providers_report_moves_the_delivery_on(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        sent = await gw.until(await gw.send(), {"sent"})
        report = {
            "RecordType": "Bounce",
            "MessageID": "pm-1",
            "Type": "HardBounce",
            "TypeCode": 1,
            "Email": "ada@example.com",
            "BouncedAt": "2027-01-15T08:00:00Z",
            "Description": "The server was unable to deliver your message",
            "Metadata": {},
        }
        path = "/v1/callbacks/postmark"
        assert (await gw.client.post(path, json=report)).status_code == 401
        signed = {"Authorization": "Basic " + base64.b64encode(b"postmark:a-long-callback-password").decode()}
        for expected in (1, 0):
            answer = await gw.client.post(path, json=report, headers=signed)
            assert (answer.status_code, answer.json()) == (200, {"changed": expected})
        assert (await gw.delivery(sent["id"]))["status"] == "bounced"
        listed = (await gw.get("/v1/suppressions"))["items"]
        assert [(one["address"], one["source"]) for one in listed] == [("ada@example.com", "postmark")]
        again = await gw.final(await gw.send())
        assert (again["status"], again["reason"]) == ("skipped", "suppressed")


async def test_a_channel_is_told_what_the_caller_said_in_its_own_terms(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        overrides = {"slack": {"thread_ts": "1.1"}, "email": {"subject": "Only in the mail"}}
        await gw.final(await gw.send({"slack": "ops"}, channels=["slack"], overrides=overrides))
        [request] = server.requests
        assert request.json()["thread_ts"] == "1.1"
        assert "Only in the mail" not in request.body.decode()


async def test_only_a_configured_sender_may_be_named(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.post(
            {"phone": "+4915112345678"}, channels=["sms"], overrides={"sms": {"from": "+15550100066"}}
        )
        assert answer.status_code == 422
        assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [
            ("overrides.sms.from", "not_allowed"),
        ]


async def test_a_number_that_is_none_is_refused_at_once(tmp_path: Path):
    async with HttpServer(answering) as server, running_gateway(tmp_path, config(server.url)) as gw:
        answer = await gw.post({"phone": "0151 1234"}, channels=["sms"])
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["errors"]] == ["to[0].phone"]
