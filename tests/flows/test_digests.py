"""Digests, end to end: what comes within a window becomes one message, through a real SMTP server."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import body, parsed, running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer

NEWS = {"news": {"description": "News", "digest": {"window_s": 600}}}
TO = {"category": "news", "channels": ["email"]}


def config(*servers: SmtpServer, **more: Any) -> dict[str, Any]:
    return smtp(*servers, **({"categories": NEWS} | more))


def text_of(mail: Any, kind: str = "plain") -> str:
    part = parsed(mail).get_body((kind,))
    assert part is not None
    return part.get_content()


async def fates(gw: Any, sent: list[Any]) -> list[tuple[str, str | None]]:
    found = [await gw.final(one, within_s=10) for one in sent]
    return [(one["status"], one["reason"]) for one in found]


async def test_what_comes_within_the_window_is_one_mail_with_all_of_it(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        sent = []
        for number in range(3):
            words = {"title": f"Piece *{number}*", "body": f"Body {number}.", "url": f"https://example.com/{number}"}
            sent.append(await gw.send(content=words, **TO))
            gw.clock.advance(100)
        waiting = [await gw.held(one, "digest") for one in sent]
        assert len({one["due_at"] for one in waiting}) == 1
        assert server.messages == []
        gw.clock.advance(301)
        assert await fates(gw, sent) == [("sent", None), ("skipped", "digest"), ("skipped", "digest")]
        carried = await gw.final(sent[1])
        carrier = sent[0]["deliveries"][0]["id"]
        assert carried["detail"] == f"in the digest of {carrier}"
        for one in sent:
            assert (await gw.all_final(one["id"]))["status"] == "completed"
        [mail] = server.messages
        assert parsed(mail)["subject"] == "News: 3 new"
        plain, html = text_of(mail), text_of(mail, "html")
        for number in range(3):
            assert f"Piece *{number}*" in plain
            assert f"Body {number}." in plain
            assert f'href="https://example.com/{number}"' in html


async def test_one_alone_is_sent_as_itself(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        sent = await gw.send(content={"title": "Only one"}, **TO)
        await gw.held(sent, "digest")
        gw.clock.advance(601)
        assert (await gw.final(sent))["status"] == "sent"
        [mail] = server.messages
        assert parsed(mail)["subject"] == "Only one"


async def test_a_digest_key_another_person_and_another_mode_are_apart(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        tests = await gw.new_client("send", "read", mode="test")
        apart = [
            await gw.send(**TO),
            await gw.send(digest_key="garden", **TO),
            await gw.send("bob@example.com", **TO),
            await gw.send(client=tests, **TO),
        ]
        for one in apart:
            await gw.held(one, "digest")
        gw.clock.advance(601)
        assert [status for status, _ in await fates(gw, apart)] == ["sent", "sent", "sent", "captured"]


async def test_one_called_back_leaves_and_an_empty_digest_is_never_sent(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as gw:
        sent = [await gw.send(content={"title": f"Piece {number}"}, **TO) for number in range(4)]
        alone = await gw.send("bob@example.com", **TO)
        for one in (sent[0], alone):
            await gw.held(one, "digest")
            await gw.client.post(f"/v1/notifications/{one['id']}/cancel")
        gw.clock.advance(601)
        assert await fates(gw, [sent[0], alone]) == [("cancelled", "cancelled")] * 2
        assert await fates(gw, sent[1:]) == [("sent", None), *[("skipped", "digest")] * 2]
        [mail] = server.messages
        assert parsed(mail)["subject"] == "News: 3 new"
        assert "Piece 0" not in text_of(mail)


async def test_what_is_replaced_or_too_late_leaves_the_digest(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        older = await gw.send(content={"title": "Older"}, collapse_key="k", **TO)
        soon = datetime.fromtimestamp(gw.clock() / 1000 + 300, UTC).isoformat()
        late = await gw.send(content={"title": "Late"}, expires_at=soon, **TO)
        newer = await gw.send(content={"title": "Newer"}, collapse_key="k", **TO)
        other = await gw.send(content={"title": "Other"}, **TO)
        gw.clock.advance(601)
        assert await fates(gw, [older, late]) == [("skipped", "collapsed"), ("expired", "expired")]
        assert sorted(await fates(gw, [newer, other])) == [("sent", None), ("skipped", "digest")]
        [mail] = server.messages
        assert "Older" not in text_of(mail)
        assert "Newer" in text_of(mail)


async def test_while_the_server_is_away_it_stays_one_digest_and_one_may_still_leave(tmp_path: Path, database: str):
    server = SmtpServer()
    async with server:
        pass
    async with running_gateway(tmp_path, config(server), database=database) as gw:
        sent = [await gw.send(content={"title": f"Piece {number}"}, **TO) for number in range(5)]
        gw.clock.advance(601)
        await gw.held(sent[0], "retry", attempts=1)
        assert [len((await gw.delivery(one))["attempts"]) for one in sent[1:]] == [0] * 4
        for one in (sent[3], sent[0]):  # the second carries it: then another does, and is tried at once
            answer = await gw.client.post(f"/v1/notifications/{one['id']}/cancel")
            assert answer.json()["deliveries"][0]["status"] == "cancelled"
        async with server:
            gw.clock.advance(600)
            rest = [sent[1], sent[2], sent[4]]
            assert await fates(gw, rest) == [("sent", None), *[("skipped", "digest")] * 2]
            [mail] = server.messages
            assert parsed(mail)["subject"] == "News: 3 new"


async def test_a_digest_that_was_refused_fails_for_all_and_is_sent_again_as_one(tmp_path: Path, database: str):
    refusing = Behaviour(on={"dot": "554 5.7.1 refused"})
    async with SmtpServer(refusing) as server, running_gateway(tmp_path, config(server), database=database) as gw:
        sent = [await gw.send(content={"title": f"Piece {number}"}, **TO) for number in range(3)]
        gw.clock.advance(601)
        found = [await gw.final(one, within_s=10) for one in sent]
        assert {one["status"] for one in found} == {"failed"}
        assert len({one["reason"] for one in found}) == 1
        refusing.on.clear()
        again = await gw.client.post("/v1/deliveries/retry", json={"category": "news"})
        assert again.status_code == 202, again.text
        ids = [one["id"] for one in again.json()["deliveries"]]
        assert len(ids) == 3
        assert sorted(await fates(gw, ids)) == [("sent", None), *[("skipped", "digest")] * 2]
        [mail] = server.messages
        assert parsed(mail)["subject"] == "News: 3 new"


@pytest.mark.parametrize("more", [{"priority": "critical"}, {"overrides": {"email": {"subject": "Mine"}}}])
async def test_what_cannot_wait_or_has_terms_of_its_own_goes_by_itself(tmp_path: Path, more: dict[str, Any]):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        sent = await gw.send(**TO, **more)
        assert (await gw.final(sent))["status"] == "sent"
        assert len(server.messages) == 1


async def test_one_for_later_joins_the_digest_when_its_time_has_come(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        later = datetime.fromtimestamp(gw.clock() / 1000 + 3600, UTC).isoformat()
        first = await gw.send(send_at=later, content={"title": "For later"}, **TO)
        assert (await gw.delivery(first))["reason"] == "scheduled"
        gw.clock.advance(3601)
        await gw.held(first, "digest")
        second = await gw.send(content={"title": "Now"}, **TO)
        gw.clock.advance(601)
        assert await fates(gw, [first, second]) == [("sent", None), ("skipped", "digest")]
        assert parsed(server.messages[-1])["subject"] == "News: 2 new"


async def test_staging_keeps_the_digest_with_its_items(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, environment="staging")) as gw:
        more = {"data": {}, "reference": "r-1"}
        sent = [await gw.send(content={"title": f"Piece {number}"}, **TO, **more) for number in range(2)]
        gw.clock.advance(601)
        assert await fates(gw, sent) == [("captured", "not_allowed"), ("skipped", "digest")]
        [kept] = (await gw.get("/v1/captured"))["items"]
        assert kept["data"]["count"] == 2
        assert [one["title"] for one in kept["data"]["items"]] == ["Piece 0", "Piece 1"]
        assert {one["reference"] for one in kept["data"]["items"]} == {"r-1"}
        assert set(kept["data"]["items"][0]) == {"title", "body", "url", "data", "created_at", "reference"}


async def test_a_person_who_left_meanwhile_gets_no_digest(tmp_path: Path):
    categories = {"news": {"unsubscribe": True, "digest": {"window_s": 600}}}
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, categories=categories)) as gw:
        sent = [await gw.send(**TO) for _ in range(3)]
        suppressed = {"channel": "email", "address": "ada@example.com"}
        assert (await gw.client.post("/v1/suppressions", json=suppressed)).status_code == 201
        gw.clock.advance(601)
        assert await fates(gw, sent) == [("skipped", "suppressed")] * 3
        assert server.messages == []


async def test_a_schedule_is_the_persons_own_morning(tmp_path: Path):
    categories = {"news": {"digest": {"schedule": "08:00"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, categories=categories)) as gw:
        there = {"email": "ada@example.com", "timezone": "Asia/Kolkata"}
        answer = await gw.send(there, **TO)
        [planned] = answer["deliveries"]
        assert planned["due_at"].endswith("T02:30:00.000Z")
        explained = await gw.explain(there, **TO)
        assert (explained["decision"], explained["reason"]) == ("hold", "digest")
        assert explained["until"] == planned["due_at"]
        assert "digest" in {rule["rule"] for rule in explained["rules"]}


async def test_fifty_in_parallel_through_two_gateways_are_one_mail(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server), database=database) as one:
        (tmp_path / "other").mkdir()
        other = running_gateway(tmp_path / "other", config(server), database=database, clock=one.clock)
        async with other as two:
            wanted = [
                (two if number % 2 else one).client.post(
                    "/v1/notifications", json=body(content={"title": f"Piece {number:02}"}, **TO)
                )
                for number in range(50)
            ]
            answers = [answer.json() for answer in await asyncio.gather(*wanted)]
            one.clock.advance(601)
            found = await fates(one, answers)
            assert sorted(found) == [("sent", None), *[("skipped", "digest")] * 49]
            [mail] = server.messages
            assert parsed(mail)["subject"] == "News: 50 new"
            plain = text_of(mail)
            assert [number for number in range(50) if f"Piece {number:02}" not in plain] == []


async def test_under_first_success_the_first_channel_is_gathered_and_the_next_follows_its_refusal(tmp_path: Path):
    refusing = Behaviour(on={"dot": "554 5.7.1 refused"})
    both = {"email": "ada@example.com", "phone": "+15005550001"}
    chain = {"category": "news", "channels": ["email", "sms"], "strategy": "first_success"}
    async with SmtpServer(refusing) as server, running_gateway(tmp_path, config(server, channels={"sms": {}})) as gw:
        failed = [await gw.send(both, **chain) for _ in range(2)]
        gw.clock.advance(601)
        found = [(await gw.all_final(one["id"]))["counts"] for one in failed]
        assert found == [{"failed": 1, "delivered": 1}] * 2
        refusing.on.clear()
        sent = [await gw.send(both, **chain) for _ in range(2)]
        gw.clock.advance(601)
        ends = [(await gw.all_final(one["id"]))["deliveries"] for one in sent]
        assert sorted([(one["status"], one["reason"]) for one in end] for end in ends) == [
            [("sent", None), ("skipped", "not_needed")],
            [("skipped", "digest"), ("skipped", "not_needed")],
        ]


async def test_items_stand_in_the_order_in_which_they_came(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server)) as gw:
        for number in (3, 1, 2):
            await gw.send(content={"title": f"Piece {number}"}, **TO)
        gw.clock.advance(601)
        last = (await gw.get("/v1/notifications"))["items"][0]
        await gw.all_final(last["id"])
        plain = text_of(server.messages[0])
        assert [plain.index(f"Piece {number}") for number in (3, 1, 2)] == sorted(
            plain.index(f"Piece {number}") for number in (3, 1, 2)
        )
