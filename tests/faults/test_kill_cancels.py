"""Killed while a large send is being called back: nothing of it goes out any more, and another finishes it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx

from tests.faults.configured import config_in
from tests.faults.test_kill_topics import NUMBER, TOPIC, fill, planned
from tests.router.house import soon
from tests.support.gateway import body, write_config
from tests.support.process import serving
from tests.support.smtp_server import SmtpServer


def begun(file: Path) -> bool:
    """Look into the database, from outside, whether a cancellation is under way."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as conn:
        return bool(conn.execute("SELECT count(*) FROM cancellations").fetchone()[0])


async def called_back(client: httpx.AsyncClient, id_: str) -> Any:
    """Wait until it is cancelled; answers it."""
    ends = time.monotonic() + 60
    while True:
        found = (await client.get(f"/v1/notifications/{id_}")).json()
        if found["status"] == "cancelled":
            return found
        assert time.monotonic() < ends, found["counts"]
        await asyncio.sleep(0.2)


async def test_killed_in_the_middle_of_a_cancellation_another_finishes_it(tmp_path: Path):
    # What waits for a digest is planned, and due after this test.
    categories = {"news": {"digest": {"window_s": 3600}}}
    async with SmtpServer() as server:
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, server, categories=categories))
        async with serving(config) as (process, client):
            await fill(client)
            answer = await client.post("/v1/notifications", json=body({"topic": TOPIC}, category="news"))
            sent = answer.json()["id"]
            assert (await planned(client, sent, NUMBER, every_s=0.5))["counts"] == {"held": NUMBER}
            asked = asyncio.create_task(client.post(f"/v1/notifications/{sent}/cancel", timeout=60))
            await soon(lambda: begun(tmp_path / "gateway.db"))
            process.kill()
            assert isinstance((await asyncio.gather(asked, return_exceptions=True))[0], httpx.TransportError)
        async with serving(config) as (_, client):
            before = (await client.get(f"/v1/notifications/{sent}")).json()
            assert 0 < before["counts"]["cancelled"] < NUMBER, "it was killed in the middle"
            urgent = await client.post("/v1/notifications", json=body("urgent@example.com", priority="critical"))
            assert urgent.status_code == 202
            await soon(lambda: bool(server.messages))
            found = await called_back(client, sent)
            again = (await client.post(f"/v1/notifications/{sent}/cancel", timeout=60)).json()
    assert found["counts"] == {"cancelled": NUMBER}
    assert {(one["status"], one["changed"]) for one in again["deliveries"]} == {("cancelled", False)}
    assert len(again["deliveries"]) == NUMBER
    assert [mail.rcpt_tos[0] for mail in server.messages] == ["urgent@example.com"]
