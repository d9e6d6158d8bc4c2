"""Killed while a topic's subscribers are being planned: nobody is missed, nobody is planned twice, others go on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from tests.faults.configured import IN_HAND, config_in
from tests.faults.oracle import arrived
from tests.router.house import soon
from tests.support.gateway import body, write_config
from tests.support.process import GatewayProcess, serving
from tests.support.smtp_server import SmtpServer

NUMBER = 4000
TOPIC = "release-notes"


async def fill(client: httpx.AsyncClient) -> list[str]:
    ids = [f"u{number:05}" for number in range(NUMBER)]
    for start in range(0, NUMBER, 1000):
        some = ids[start : start + 1000]
        users = [{"id": id_, "email": f"{id_}@example.com"} for id_ in some]
        answer = await client.post("/v1/users/batch", json={"users": users})
        assert answer.status_code == 200, answer.text
        answer = await client.post(f"/v1/topics/{TOPIC}/subscribers", json={"users": some})
        assert answer.json()["added"] == 1000, answer.text
    return ids


async def planned(client: httpx.AsyncClient, id_: str, least: int, *, every_s: float = 0.02) -> Any:
    """Wait until so many are planned; answers the notification. Asking costs: each answer shows a thousand."""
    ends = time.monotonic() + 60
    while True:
        found = (await client.get(f"/v1/notifications/{id_}")).json()
        if sum(found["counts"].values()) >= least or not found["expanding"]:
            return found
        assert time.monotonic() < ends, found["counts"]
        await asyncio.sleep(every_s)


async def finished(client: httpx.AsyncClient, id_: str) -> Any:
    """Wait until it is completed; answers it."""
    ends = time.monotonic() + 120
    while True:
        found = (await client.get(f"/v1/notifications/{id_}")).json()
        if found["status"] == "completed":
            return found
        assert time.monotonic() < ends, found["counts"]
        await asyncio.sleep(0.5)


async def users_of(client: httpx.AsyncClient, ids: list[str], id_: str) -> Counter[str]:
    """Count the sends to each of some people that are this one, and its deliveries to them."""
    found: Counter[str] = Counter()
    for user in ids:
        page = (await client.get(f"/v1/users/{user}/export")).json()
        found[user] = len([one for one in page["deliveries"] if one["notification_id"] == id_])
    return found


async def test_whatever_is_killed_meanwhile_each_subscriber_gets_one_delivery(tmp_path: Path):
    async with SmtpServer() as server:
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, server))
        async with serving(config) as (process, client):
            ids = await fill(client)
            answer = await client.post("/v1/notifications", json=body({"topic": TOPIC}, priority="bulk"))
            sent = answer.json()["id"]
            await planned(client, sent, 1)
            process.kill()
        async with serving(config) as (process, client):
            # The lease of the dead one has to run out first; another is planned beside what waits.
            before = (await client.get(f"/v1/notifications/{sent}")).json()
            assert before["expanding"], "it was killed in the middle"
            assert before["status"] == "processing"
            await planned(client, sent, sum(before["counts"].values()) + 1)
            process.kill()
        async with serving(config) as (_, client):
            urgent = await client.post("/v1/notifications", json=body("urgent@example.com", priority="critical"))
            await soon(lambda: any("urgent@example.com" in mail.rcpt_tos for mail in server.messages))
            assert len(server.messages) < NUMBER // 2, "a topic does not stand in the way of others"
            assert urgent.status_code == 202
            await planned(client, sent, NUMBER, every_s=0.5)
            found = await finished(client, sent)
            some = await users_of(client, [*ids[:20], *ids[490:510], *ids[-20:]], sent)
    assert (found["status"], found["expanding"]) == ("completed", False)
    assert found["counts"] == {"sent": NUMBER}
    assert set(some.values()) == {1}
    reached = {address for mail in server.messages for address in mail.rcpt_tos}
    assert reached == {f"{id_}@example.com" for id_ in ids} | {"urgent@example.com"}
    by_delivery = arrived(server)
    assert len(by_delivery) == NUMBER + 1, "as many deliveries as people: nobody was planned twice"
    assert sum(by_delivery.values()) - len(by_delivery) <= 2 * IN_HAND, "what was in flight when it was killed"


async def test_two_processes_plan_a_topic_together(tmp_path: Path):
    async with SmtpServer() as server:
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, server))
        async with serving(config) as (_, client):
            ids = await fill(client)
            helper = GatewayProcess(config, "work")
            try:
                answer = await client.post("/v1/notifications", json=body([{"topic": TOPIC}, {"topic": TOPIC}]))
                sent = answer.json()["id"]
                found = await finished(client, sent)
            finally:
                assert await helper.stop() == 0
    assert (found["status"], found["counts"]) == ("completed", {"sent": NUMBER})
    assert Counter(address for mail in server.messages for address in mail.rcpt_tos) == dict.fromkeys(
        [f"{id_}@example.com" for id_ in ids], 1
    )
