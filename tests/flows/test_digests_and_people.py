"""Digests beside what else decides when and to whom: quiet hours, and topics. Always one message, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.flows.test_digests import TO, config, fates, text_of
from tests.router.house import soon
from tests.support.gateway import RunningGateway, body, parsed, running_gateway
from tests.support.smtp_server import SmtpServer

ADA = {"user": "42"}


async def quiet(gw: RunningGateway, begin_h: float, end_h: float, user: str = "42") -> datetime:
    """Store a person whose quiet hours begin and end so many hours from now; answers when they end."""
    now = datetime.fromtimestamp(gw.clock() // 60_000 * 60, UTC)
    start, end = now + timedelta(hours=begin_h), now + timedelta(hours=end_h)
    answer = await gw.client.put(f"/v1/users/{user}", json={"email": f"{user}@example.com", "timezone": "UTC"})
    assert answer.status_code in {200, 201}, answer.text
    hours = {"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}
    answer = await gw.client.put(f"/v1/users/{user}/preferences", json={"quiet_hours": hours})
    assert answer.status_code == 200, answer.text
    return end


def until(gw: RunningGateway, moment: datetime) -> float:
    """Count the seconds to a moment."""
    return moment.timestamp() - gw.clock() / 1000


def shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


async def test_what_comes_in_quiet_hours_is_one_mail_when_they_end(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        end = await quiet(gw, -1, 3)
        sent = []
        for number in range(4):
            sent.append(await gw.send(ADA, content={"title": f"Piece {number}"}, **TO))
            gw.clock.advance(1800)
        for one in sent:
            waiting = await gw.held(one, "quiet_hours")
            assert waiting["due_at"] == shown(end)
        explained = await gw.explain(ADA, **TO)
        assert (explained["decision"], explained["reason"], explained["until"]) == ("hold", "quiet_hours", shown(end))
        assert {rule["rule"]: rule["result"] for rule in explained["rules"]}["digest"] == "hold"
        gw.clock.advance(until(gw, end) - 60)
        assert server.messages == []
        gw.clock.advance(61)
        assert sorted(await fates(gw, sent)) == [("sent", None), *[("skipped", "digest")] * 3]
        [mail] = server.messages
        assert parsed(mail)["subject"] == "News: 4 new"
        assert [number for number in range(4) if f"Piece {number}" not in text_of(mail)] == []


async def test_a_window_that_ends_in_quiet_hours_waits_for_their_end_with_all_that_comes(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        end = await quiet(gw, 0.1, 3)
        sent = [await gw.send(ADA, content={"title": "Before"}, **TO)]
        await gw.held(sent[0], "digest")
        gw.clock.advance(700)
        held = await gw.held(sent[0], "quiet_hours")
        assert held["due_at"] == shown(end)
        sent.append(await gw.send(ADA, content={"title": "Within"}, **TO))
        gw.clock.advance(until(gw, end) + 1)
        assert sorted(await fates(gw, sent)) == [("sent", None), ("skipped", "digest")]
        [mail] = server.messages
        assert parsed(mail)["subject"] == "News: 2 new"


async def test_a_window_that_outlasts_quiet_hours_is_waited_for(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        end = await quiet(gw, -1, 1)
        gw.clock.advance(until(gw, end) - 120)
        first = await gw.send(ADA, content={"title": "Within"}, **TO)
        await gw.held(first, "digest")
        gw.clock.advance(300)
        assert server.messages == []
        second = await gw.send(ADA, content={"title": "After"}, **TO)
        gw.clock.advance(301)
        assert sorted(await fates(gw, [first, second])) == [("sent", None), ("skipped", "digest")]
        assert len(server.messages) == 1


async def test_two_processes_send_one_mail_when_quiet_hours_end(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as one:
        (tmp_path / "other").mkdir()
        other = running_gateway(tmp_path / "other", config(server), database=database, clock=one.clock)
        async with other as two:
            end = await quiet(one, -1, 3)
            wanted = [
                gw.client.post("/v1/notifications", json=body(ADA, content={"title": f"Piece {number:02}"}, **TO))
                for number in range(20)
                for gw in [two if number % 2 else one]
            ]
            sent = [answer.json() for answer in await asyncio.gather(*wanted)]
            one.clock.advance(until(one, end) + 1)
            assert sorted(await fates(one, sent)) == [("sent", None), *[("skipped", "digest")] * 19]
            [mail] = server.messages
            assert parsed(mail)["subject"] == "News: 20 new"
            assert [number for number in range(20) if f"Piece {number:02}" not in text_of(mail)] == []


async def subscribed(gw: RunningGateway, number: int) -> list[str]:
    users = [f"u{place}" for place in range(number)]
    for user in users:
        await gw.client.put(f"/v1/users/{user}", json={"email": f"{user}@example.com"})
    answer = await gw.client.post("/v1/topics/garden/subscribers", json={"users": users})
    assert answer.json()["added"] == number, answer.text
    return users


async def expanded(gw: RunningGateway, sent: list[Any], number: int) -> None:
    """Wait until every subscriber is planned."""
    async with asyncio.timeout(10):
        for one in sent:
            while True:
                found = await gw.get(f"/v1/notifications/{one['id']}")
                if not found["expanding"]:
                    break
                await asyncio.sleep(0.01)
            assert found["counts"] == {"held": number}


async def test_each_subscriber_of_a_topic_gets_a_digest_of_their_own(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as one:
        (tmp_path / "other").mkdir()
        other = running_gateway(tmp_path / "other", config(server), database=database, clock=one.clock)
        async with other as two:
            users = await subscribed(one, 6)
            sent: list[Any] = []
            for number in range(3):
                gw = two if number % 2 else one
                sent.append(await gw.send({"topic": "garden"}, content={"title": f"Piece {number}"}, **TO))
            await expanded(one, sent, len(users))
            beside = await two.send({"user": "u3"}, content={"title": "Only for one"}, **TO)
            one.clock.advance(601)
            for notification in [*sent, beside]:
                assert (await one.all_final(notification["id"]))["status"] == "completed"
            counts = Counter[str]()
            for notification in sent:
                counts.update((await one.get(f"/v1/notifications/{notification['id']}"))["counts"])
            counts.update((await one.get(f"/v1/notifications/{beside['id']}"))["counts"])
            assert counts == {"sent": 6, "skipped": 13}
            subjects = {mail.rcpt_tos[0]: parsed(mail)["subject"] for mail in server.messages}
            assert len(server.messages) == len(users)
            assert subjects == {f"{user}@example.com": f"News: {4 if user == 'u3' else 3} new" for user in users}
            for mail in server.messages:
                missing = [number for number in range(3) if f"Piece {number}" not in text_of(mail)]
                assert missing == []
                assert ("Only for one" in text_of(mail)) is (mail.rcpt_tos[0] == "u3@example.com")


async def test_a_subscriber_with_quiet_hours_waits_for_their_end_and_the_others_do_not(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        await subscribed(gw, 3)
        end = await quiet(gw, -1, 3, user="u1")
        sent = [await gw.send({"topic": "garden"}, content={"title": f"Piece {number}"}, **TO) for number in range(2)]
        await expanded(gw, sent, 3)
        gw.clock.advance(601)
        await soon(lambda: len(server.messages) == 2)
        assert {mail.rcpt_tos[0] for mail in server.messages} == {"u0@example.com", "u2@example.com"}
        gw.clock.advance(until(gw, end) + 1)
        for one in sent:
            await gw.all_final(one["id"])
        assert Counter(mail.rcpt_tos[0] for mail in server.messages) == {f"u{n}@example.com": 1 for n in range(3)}
        assert {parsed(mail)["subject"] for mail in server.messages} == {"News: 2 new"}
