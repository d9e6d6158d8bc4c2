"""At most so many of a category to one person, and what becomes of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.flows.test_digests import fates, text_of
from tests.support.gateway import parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

DAY = 86_400
TO = {"category": "news", "channels": ["email"]}


def config(server: SmtpServer, then: str, rate: str = "3/d", **more: Any) -> dict[str, Any]:
    digest = {"digest": {"window_s": 600}} if then == "digest" else {}
    return smtp(server, **({"categories": {"news": {"throttle": {"rate": rate, "then": then}, **digest}}} | more))


async def test_what_is_too_much_in_a_day_is_skipped(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, "skip"), database=database) as gw:
        sent = [await gw.final(await gw.send(**TO)) for _ in range(5)]
        assert [(one["status"], one["reason"]) for one in sent] == [("sent", None)] * 3 + [
            ("skipped", "rate_limited")
        ] * 2
        assert sent[3]["detail"] == "at most 3/d of this category to one person"
        explained = await gw.explain(**TO)
        assert (explained["decision"], explained["reason"]) == ("skip", "rate_limited")
        assert {"rule": "throttle", "result": "skip", "detail": sent[3]["detail"]} in explained["rules"]
        urgent = await gw.final(await gw.send(priority="critical", **TO))
        others = [await gw.final(await gw.send("bob@example.com", **TO)), await gw.final(await gw.send())]
        assert [one["status"] for one in [urgent, *others]] == ["sent"] * 3
        gw.clock.advance(DAY + 1)
        assert (await gw.final(await gw.send(**TO)))["status"] == "sent"
        stats = (await gw.get("/v1/stats"))["items"]
        assert sum(one["count"] for one in stats if one["reason"] == "rate_limited") == 2


async def test_a_person_is_the_same_at_whichever_address(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, "skip", "1/h")) as gw:
        assert (await gw.client.put("/v1/users/42", json={"email": "ada@example.com"})).status_code == 201
        first = await gw.final(await gw.send({"user": "42"}, **TO))
        second = await gw.final(await gw.send({"user": "42", "email": "countess@example.com"}, **TO))
        stranger = await gw.final(await gw.send("ada@example.com", **TO))
        assert [one["status"] for one in (first, second, stranger)] == ["sent", "skipped", "sent"]


async def test_what_is_too_much_is_held_until_there_is_room(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, "hold", "1/h")) as gw:
        await gw.final(await gw.send(**TO))
        second = await gw.send(**TO)
        third = await gw.send(**TO)
        await gw.held(second, "rate_limited")
        await gw.held(third, "rate_limited")
        explained = await gw.explain(**TO)
        assert (explained["decision"], explained["reason"]) == ("hold", "rate_limited")
        gw.clock.advance(3601)
        assert (await gw.final(second))["status"] == "sent"
        assert (await gw.delivery(third))["status"] == "held"
        gw.clock.advance(3601)
        assert (await gw.final(third))["status"] == "sent"


async def test_what_is_too_much_is_gathered(tmp_path: Path, database: str):
    async with SmtpServer() as server, running_gateway(tmp_path, config(server, "digest"), database=database) as gw:
        singles = [await gw.send(**TO) for _ in range(3)]
        assert await fates(gw, singles) == [("sent", None)] * 3
        rest = [await gw.send(content={"title": f"Piece {number}"}, **TO) for number in range(4)]
        for one in rest:
            await gw.held(one, "digest")
        explained = await gw.explain(**TO)
        assert (explained["decision"], explained["reason"]) == ("hold", "digest")
        gw.clock.advance(601)
        assert sorted(await fates(gw, rest)) == [("sent", None), *[("skipped", "digest")] * 3]
        assert len(server.messages) == 4
        assert parsed(server.messages[-1])["subject"] == "4 new messages"
        assert [number for number in range(4) if f"Piece {number}" not in text_of(server.messages[-1])] == []


async def test_a_retry_is_counted_once(tmp_path: Path):
    server = SmtpServer()
    async with server:
        pass
    async with running_gateway(tmp_path, config(server, "skip", "2/d")) as gw:
        first = await gw.send(**TO)
        await gw.held(first, "retry", attempts=1)
        for seconds in (10, 60):
            gw.clock.advance(seconds)
            await gw.held(first, "retry")
        async with server:
            second = await gw.send(**TO)
            assert (await gw.final(second))["status"] == "sent"
            gw.clock.advance(3600)
            assert await fates(gw, [first, second]) == [("sent", None)] * 2
            assert (await gw.final(await gw.send(**TO)))["reason"] == "rate_limited"


async def test_what_is_captured_counts_and_a_test_key_counts_apart(tmp_path: Path):
    async with (
        SmtpServer() as server,
        running_gateway(tmp_path, config(server, "skip", "1/d", environment="staging")) as gw,
    ):
        tests = await gw.new_client("send", mode="test")
        first, second = [await gw.final(await gw.send(**TO)) for _ in range(2)]
        apart = [await gw.final(await gw.send(client=tests, **TO)) for _ in range(2)]
        assert [one["status"] for one in (first, second, *apart)] == ["captured", "skipped"] * 2


async def test_a_digest_counts_as_one_message(tmp_path: Path):
    categories = {"news": {"digest": {"window_s": 600}, "throttle": {"rate": "1/d"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, categories=categories)) as gw:
        first = [await gw.send(**TO) for _ in range(3)]
        gw.clock.advance(601)
        assert await fates(gw, first) == [("sent", None), ("skipped", "digest"), ("skipped", "digest")]
        second = [await gw.send(**TO) for _ in range(2)]
        gw.clock.advance(601)
        assert await fates(gw, second) == [("skipped", "rate_limited")] * 2
        assert len(server.messages) == 1
