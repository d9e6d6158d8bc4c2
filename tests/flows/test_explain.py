"""What `explain` says is what then happens: the same request, first explained, then sent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.gateway import parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

BECOMES = {
    "send": {"sent"},
    "redirect": {"sent"},
    "capture": {"captured"},
    "skip": {"skipped", "failed", "expired"},
    "hold": {"held"},
}

STAGING = {"environment": "staging", "staging": {"allow": ["*@example.com"]}}
REDIRECT = {
    "environment": "staging",
    "staging": {"allow": ["*@example.com"], "otherwise": "redirect", "redirect": {"email": "qa@example.com"}},
}
SKIP = {"environment": "staging", "staging": {"otherwise": "skip"}}
PEOPLE = ["ada@example.com", "bob@example.org", "dead@example.com"]


@pytest.mark.parametrize("config", [{}, STAGING, REDIRECT, SKIP], ids=["production", "capture", "redirect", "skip"])
@pytest.mark.parametrize("mode", ["live", "team", "test"])
async def test_the_decision_is_what_happens(tmp_path, config, mode):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        client = await gw.new_client("send", "read", mode=mode)
        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "dead@example.com"})
        past = datetime.fromtimestamp(gw.clock() / 1000 - 3600, UTC).isoformat()
        asks = [{}, {"overrides": {"email": {"cc": ["cc@example.org", "cc@example.com"]}}}, {"expires_at": past}]
        for address in PEOPLE:
            soon = datetime.fromtimestamp(gw.clock() / 1000 + 3600, UTC).isoformat()
            for ask in [*asks, {"send_at": soon}]:
                before = len(server.messages)
                told = await gw.explain(address, client=client, **ask)
                answer = await gw.send(address, client=client, **ask)
                if "send_at" in ask:
                    [planned] = answer["deliveries"]
                    if told["decision"] in {"capture", "skip"}:
                        gw.clock.advance(3601)
                        found = await gw.final(answer)
                    else:
                        found = planned
                        await gw.client.post(f"/v1/notifications/{answer['id']}/cancel")
                else:
                    found = await gw.final(answer)
                case = (address, ask, told["decision"], told["reason"], found["status"], found["reason"])
                assert found["status"] in BECOMES[told["decision"]], case
                assert told["reason"] == found["reason"], case
                if found["status"] == "sent":
                    assert told["provider"] == found["provider"] == "smtp-1", case
                    mail = server.messages[before]
                    assert mail.rcpt_tos[0] == told["address"], case
                    assert parsed(mail)["subject"] == told["rendered"]["subject"], case
                    shown = parsed(mail).get_body(("html",)).get_content().replace("\r\n", "\n").strip()
                    assert shown == told["rendered"]["html"].strip(), case
                else:
                    assert len(server.messages) == before, case
                if told["decision"] in {"send", "redirect", "capture"}:
                    assert told["size_bytes"] > 100
                    assert {one["rule"] for one in told["rules"]} >= {"address", "suppression", "deadline", "staging"}


async def test_explain_tells_a_recipients_rate_and_takes_nothing_from_it(tmp_path):
    config = {"channels": {"email": {"per_recipient": "1/h"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        for _ in range(3):
            assert (await gw.explain())["decision"] == "send"
        assert (await gw.final(await gw.send()))["status"] == "sent"
        told = await gw.explain()
        held = await gw.held(await gw.send(), "rate_limited")
        assert (told["decision"], told["reason"]) == ("hold", "rate_limited")
        assert abs((datetime.fromisoformat(told["until"]) - datetime.fromisoformat(held["due_at"])).total_seconds()) < 1


async def test_explain_stores_nothing(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        await gw.explain()
        assert (await gw.get("/v1/notifications"))["items"] == []
        assert server.connections == 0


async def test_explain_knows_a_provider_that_is_left_alone(tmp_path):
    gone = SmtpServer()
    async with gone:
        pass
    breaker = {"channels": {"email": {"breaker": {"failures": 1, "first_s": 60}}}}
    async with running_gateway(tmp_path, smtp(gone, **breaker)) as gw:
        await gw.held(await gw.send(), "retry")
        told = await gw.explain()
        assert (told["decision"], told["reason"], told["provider"]) == ("hold", "provider_down", None)
        assert told["until"] is not None
