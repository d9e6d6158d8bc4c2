"""Killed between claiming a digest and settling it: everybody still gets exactly one message, with all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.configured import config_in
from tests.faults.oracle import all_settled
from tests.router.house import soon
from tests.support.gateway import body, parsed, write_config
from tests.support.process import serving
from tests.support.smtp_server import SmtpServer

PEOPLE = 8
EACH = 10
WINDOW_S = 2


async def test_every_digest_is_sent_though_the_gateway_is_killed_while_it_sends(tmp_path: Path):
    async with SmtpServer() as mail:
        more = {
            "categories": {"news": {"digest": {"window_s": WINDOW_S}, "on_unknown": "resend"}},
            "server": {"lease_s": 2, "poll_s": 0.05},
        }
        config = write_config(tmp_path / "gateway.toml", config_in(tmp_path, mail, **more))
        async with serving(config) as (process, client):
            wanted = [
                body(f"p{person}@example.com", category="news", content={"title": f"Piece {number}."})
                for number in range(EACH)
                for person in range(PEOPLE)
            ]
            answer = await client.post("/v1/notifications/batch", json={"notifications": wanted})
            sent = [one["id"] for one in answer.json()["results"]]
            await soon(lambda: bool(mail.messages), within_s=WINDOW_S + 10)
            process.kill()
        async with serving(config) as (_, client):
            await all_settled(client, within_s=40)
            found = await asyncio.gather(*(client.get(f"/v1/notifications/{id_}") for id_ in sent))
    endings = [one.json()["deliveries"][0]["status"] for one in found]
    assert endings.count("sent") == PEOPLE
    assert endings.count("skipped") == PEOPLE * (EACH - 1)
    whole: dict[str, list[str]] = {}
    for one in mail.messages:
        whole.setdefault(one.rcpt_tos[0], []).append(one.content.decode())
    assert len(whole) == PEOPLE
    # What was on the wire when it was killed may come again, as the category says, under the same Message-ID.
    assert len({parsed(one)["message-id"] for one in mail.messages}) == PEOPLE
    for copies in whole.values():
        for text in copies:
            assert [number for number in range(EACH) if f"Piece {number}." not in text] == []
