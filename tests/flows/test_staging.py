"""Nothing reaches an address that is not allowed, whatever the route, and what is kept can be looked at."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.gateway import parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

ALLOW = {"staging": {"allow": ["*@example.com"]}}


@pytest.mark.parametrize("environment", ["development", "staging"])
async def test_what_is_not_allowed_is_captured_and_what_is_allowed_leaves(tmp_path, environment):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment=environment, **ALLOW)) as gw:
        kept = await gw.final(await gw.send("bob@example.org", reference="r"))
        assert (kept["status"], kept["reason"], kept["provider"]) == ("captured", "not_allowed", None)
        assert kept["attempts"] == []
        assert (await gw.final(await gw.send("ada@example.com")))["status"] == "sent"
        assert [mail.rcpt_tos for mail in server.messages] == [("ada@example.com",)]
        [shown] = (await gw.get("/v1/captured"))["items"]
        assert (shown["to"], shown["original_to"], shown["subject"]) == ("bob@example.org", "bob@example.org", "Hello")
        assert (shown["delivery_id"], shown["reference"]) == (kept["id"], "r")
        whole = await gw.get(f"/v1/captured/{shown['id']}")
        assert "bob@example.org" in whole["raw"]


@pytest.mark.parametrize(
    "address",
    [
        "ada@sub.example.com",
        "ada@example.com.evil.org",
        "ada@evil-example.com",
        "ada@examp1e.com",
        '"ada@example.com"@evil.org',
        "ada@EXAMPLE.ORG",
        "ada+x@example.org",
    ],
)
async def test_look_alikes_never_leave(tmp_path, address):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment="staging", **ALLOW)) as gw:
        answer = await gw.post(address)
        if answer.status_code == 202:
            assert (await gw.final(answer.json()))["status"] == "captured"
        assert server.connections == 0


async def test_copies_that_are_not_allowed_are_dropped_and_recorded(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment="staging", **ALLOW)) as gw:
        copies = {
            "cc": ["Boss <boss@example.org>", "colleague@example.com"],
            "bcc": ["spy@example.org", "audit@example.com"],
            "headers": {"X-Campaign": "7"},
        }
        sent = await gw.final(await gw.send("ada@example.com", overrides={"email": copies}))
        assert sent["status"] == "sent"
        assert "copies not allowed here and dropped" in sent["detail"]
        assert "boss@example.org" not in sent["detail"], "masked"
        [mail] = server.messages
        assert sorted(mail.rcpt_tos) == ["ada@example.com", "audit@example.com", "colleague@example.com"]
        assert b"example.org" not in mail.content


async def test_a_redirected_message_shows_for_whom_it_was_meant(tmp_path):
    redirect = {"staging": {"allow": [], "otherwise": "redirect", "redirect": {"email": "qa@example.net"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment="staging", **redirect)) as gw:
        copies = {"email": {"cc": ["boss@example.org"], "bcc": ["spy@example.org"]}}
        sent = await gw.final(await gw.send("ada@example.org", overrides=copies))
        assert (sent["status"], sent["address"]) == ("sent", "ada@example.org")
        [mail] = server.messages
        assert mail.rcpt_tos == ("qa@example.net",)
        message = parsed(mail)
        assert message["to"] == "qa@example.net"
        assert "[to ada@example.org]" in message["subject"]
        assert message["x-gateway-original-to"] == "ada@example.org"
        assert message["cc"] is None
        assert "ada@example.org" in message.get_body(("plain",)).get_content()


async def test_skip_neither_sends_nor_keeps(tmp_path):
    skip = {"staging": {"otherwise": "skip"}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment="staging", **skip)) as gw:
        skipped = await gw.final(await gw.send())
        assert (skipped["status"], skipped["reason"]) == ("skipped", "not_allowed")
        assert (await gw.get("/v1/captured"))["items"] == []
        assert server.connections == 0


async def test_a_team_key_reaches_only_the_allowed_and_a_test_key_nobody_in_production_too(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **ALLOW)) as gw:
        team = await gw.new_client("send", "read", mode="team")
        test = await gw.new_client("send", "read", mode="test")
        assert (await gw.final(await gw.send("ada@example.com", client=team)))["status"] == "sent"
        for client, address in [(team, "bob@example.org"), (test, "ada@example.com")]:
            assert (await gw.final(await gw.send(address, client=client)))["status"] == "captured"
        assert (await gw.final(await gw.send("bob@example.org")))["status"] == "sent"
        assert [mail.rcpt_tos[0] for mail in server.messages] == ["ada@example.com", "bob@example.org"]


async def test_a_rule_that_changed_between_accepting_and_sending_is_obeyed_at_the_wire(tmp_path):
    async with SmtpServer() as server:
        generous = smtp(server, environment="staging", staging={"allow": ["*@example.org"]})
        strict = smtp(server, environment="staging", **ALLOW)
        async with running_gateway(tmp_path, generous, work=False) as gw:
            answer = await gw.send("ada@example.org")
            [planned] = answer["deliveries"]
            assert planned["status"] == "queued"
        async with running_gateway(tmp_path, strict) as gw:
            assert (await gw.final(answer))["status"] == "captured"
        assert server.connections == 0


async def test_a_suppression_added_after_accepting_is_obeyed(tmp_path):
    async with SmtpServer() as server:
        config = smtp(server)
        async with running_gateway(tmp_path, config, work=False) as gw:
            answer = await gw.send("Ada@example.com")
            await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        async with running_gateway(tmp_path, config) as gw:
            skipped = await gw.final(answer)
            assert (skipped["status"], skipped["reason"]) == ("skipped", "suppressed")
        assert server.connections == 0


async def test_somebody_who_waits_for_a_captured_message_gets_it_when_it_comes(tmp_path):
    async with running_gateway(tmp_path, {"environment": "development"}) as gw:
        query = {"to": "ada@example.com", "contains": "works", "timeout_s": "5"}
        waiting = asyncio.create_task(gw.client.get("/v1/captured/wait", params=query))
        await asyncio.sleep(0)
        answer = await gw.send("ada@example.com")
        found = (await waiting).json()
        assert found["notification_id"] == answer["id"]
        late = await gw.client.get("/v1/captured/wait", params={"to": "nobody@example.com", "timeout_s": "0"})
        assert (late.status_code, late.json()["type"]) in {
            (404, "/errors/nothing-captured"),
            (422, "/errors/validation"),
        }
