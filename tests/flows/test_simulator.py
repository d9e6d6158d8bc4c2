"""Simulator addresses: in every environment and mode they end as promised, and nothing leaves."""

from __future__ import annotations

import pytest

from tests.support.gateway import running_gateway, smtp
from tests.support.smtp_server import SmtpServer

ENDINGS = {
    "delivered": ("delivered", None, []),
    "bounced": ("bounced", None, []),
    "complained": ("delivered", None, ["complained"]),
    "failed": ("failed", "invalid_address", []),
    "unknown": ("unknown", "timed_out", []),
}


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
async def test_each_simulator_address_ends_as_its_name_says(tmp_path, environment):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment=environment)) as gw:
        mode = "test" if environment == "staging" else "team" if environment == "development" else "live"
        client = await gw.new_client("send", "read", mode=mode)
        for name, (status, reason, engagement) in ENDINGS.items():
            answer = await gw.send(f"{name}@simulator.invalid", client=client)
            found = await gw.until(answer, {status})
            assert (found["reason"], found["provider"]) == (reason, "simulator"), name
            if engagement:
                events = [one["type"] for one in await gw.events(answer["id"])]
                assert "delivery.complained" in events
            assert (await gw.delivery(answer))["engagement"] == engagement
            assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "completed"
        assert server.messages == []
        assert server.connections == 0
        assert (await gw.get("/v1/suppressions"))["items"] == []
        assert (await gw.get("/v1/captured"))["items"] == []


async def test_the_late_one_is_delivered_half_a_minute_later(tmp_path):
    async with running_gateway(tmp_path, {"environment": "production"}) as gw:
        answer = await gw.send("late@simulator.invalid", channels=["email"])
        sent = await gw.until(answer, {"sent"})
        assert sent["status"] == "sent"
        assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "processing"
        gw.clock.advance(25)
        await gw.keep_house()
        assert (await gw.delivery(answer))["status"] == "sent"
        gw.clock.advance(6)
        await gw.keep_house()
        assert (await gw.delivery(answer))["status"] == "delivered"
        assert (await gw.get(f"/v1/notifications/{answer['id']}"))["status"] == "completed"


async def test_a_label_keeps_runs_apart_and_suppressions_do_not_count(tmp_path):
    async with running_gateway(tmp_path, {"environment": "development"}) as gw:
        made = await gw.client.post(
            "/v1/suppressions", json={"channel": "email", "address": "bounced@simulator.invalid"}
        )
        assert made.status_code in {201, 422}
        for address in ("Bounced@Simulator.Invalid", "bounced+run7@simulator.invalid"):
            assert (await gw.until(await gw.send(address), {"bounced", "skipped"}))["status"] == "bounced"
