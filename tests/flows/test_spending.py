"""The daily cap of a channel, end to end: never above it, held to the next day, given back where nothing was sent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from channels.testing_server import Do, HttpServer, Reply
from tests.support.clock import MovableClock
from tests.support.gateway import merged, running_gateway

TAKEN = Reply(202, json={"id": "m1"})


def config(url: str, **spend: Any) -> dict[str, Any]:
    return {
        "environment": "production",
        "providers": {
            "sms-1": {"use": "sms_json", "base_url": url, "key": "k", "sender": "Shop", "read_timeout_s": 0.3},
        },
        "channels": {
            "sms": {
                "providers": ["sms-1"],
                "retry": {"attempts": 2, "first_s": 1, "budget_s": 259_200},
                "spend": {"per_day": 1.0, "price": 0.1, **spend},
            },
        },
    }


def at_noon() -> MovableClock:
    """Begin far from midnight, so that no test runs over into the next day."""
    clock = MovableClock()
    clock.advance(43_200 - clock() / 1000 % 86_400)
    return clock


def text(number: int, **more: Any) -> dict[str, Any]:
    return {"to": {"phone": f"+4915112345{number:03}"}, "channels": ["sms"], **more}


async def sent_to(gw: Any, number: int, **more: Any) -> Any:
    asked = text(number, **more)
    return await gw.send(asked.pop("to"), **asked)


async def test_a_burst_stops_at_the_cap_and_the_rest_goes_the_next_day(tmp_path: Path, database: str):
    clock = at_noon()
    async with (
        HttpServer(TAKEN) as server,
        running_gateway(tmp_path, config(server.url), database=database, clock=clock) as gw,
    ):
        answers = await asyncio.gather(*[sent_to(gw, number) for number in range(25)])
        found = [await gw.until(one, {"sent", "held"}) for one in answers]
        assert [one["status"] for one in found].count("sent") == 10
        assert len(server.requests) == 10
        held = [one for one in found if one["status"] == "held"]
        assert {one["reason"] for one in held} == {"rate_limited"}
        assert {one["due_at"][10:] for one in held} == {"T00:00:00.000Z"}
        assert gw.gateway.metrics.value("gateway_spent", {"channel": "sms"}) == pytest.approx(1.0)
        assert gw.gateway.metrics.value("gateway_spend_refused_total", {"channel": "sms"}) == 15


async def test_two_processes_share_the_cap(tmp_path: Path, database: str):
    clock = at_noon()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        HttpServer(TAKEN) as server,
        running_gateway(tmp_path / "a", config(server.url), database=database, clock=clock) as one,
        running_gateway(tmp_path / "b", config(server.url), database=database, clock=clock) as other,
    ):
        answers = await asyncio.gather(*[sent_to((one, other)[number % 2], number) for number in range(30)])
        found = [await one.until(answer, {"sent", "held"}) for answer in answers]
        assert [each["status"] for each in found].count("sent") == 10
        assert len(server.requests) == 10


async def test_the_next_day_has_its_own_money(tmp_path: Path):
    clock = at_noon()
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url), clock=clock) as gw:
        answers = [await sent_to(gw, number) for number in range(11)]
        last = await gw.held(answers[-1], "rate_limited")
        clock.advance(86_400)
        assert (await gw.final(last["id"]))["status"] == "sent"


async def test_what_was_certainly_not_sent_costs_nothing_and_a_lost_answer_does(tmp_path: Path):
    clock = at_noon()
    odd = Reply(422, json={"code": "odd"})
    async with (
        HttpServer([odd, odd, Reply(413), Do.SILENCE, TAKEN]) as server,
        running_gateway(tmp_path, config(server.url), clock=clock) as gw,
    ):
        tried = await gw.held(await sent_to(gw, 0), "retry", attempts=1)
        gw.clock.advance(5)
        assert (await gw.final(tried["id"]))["status"] == "failed"
        assert (await gw.final(await sent_to(gw, 1)))["reason"] == "too_large"
        assert (await gw.final(await sent_to(gw, 2)))["status"] == "unknown"
        for number in range(3, 14):
            await gw.until(await sent_to(gw, number), {"sent", "held"})
        assert len(server.requests) - 4 == 9, "nine tenths went to what was taken, and one to the lost answer"


async def test_a_message_that_could_not_go_before_its_deadline_expires_at_once(tmp_path: Path):
    clock = at_noon()
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url), clock=clock) as gw:
        for number in range(10):
            await gw.final(await sent_to(gw, number))
        soon = gw.gateway.clock() / 1000 + 60
        late = await gw.final(await sent_to(gw, 11, expires_at=datetime.fromtimestamp(soon, UTC).isoformat()))
        assert (late["status"], late["detail"]) == ("expired", "[channels.sms] spend has no room in time")
        assert len(server.requests) == 10


async def test_one_that_costs_more_than_a_day_may_fails(tmp_path: Path):
    clock = at_noon()
    wanted = config("http://127.0.0.1:9", prices={"+49": 5.0})
    async with running_gateway(tmp_path, wanted, clock=clock) as gw:
        found = await gw.final(await sent_to(gw, 1))
        assert (found["status"], found["reason"]) == ("failed", "policy")
        assert found["detail"] == "it costs 5, more than the channel may in a day"


async def test_explain_counts_segments_and_names_the_rule(tmp_path: Path):
    clock = at_noon()
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url), clock=clock) as gw:
        asked = text(1, content={"title": "Hello", "body": "long " * 70})
        one = await gw.explain(asked.pop("to"), **asked)
        assert (one["decision"], one["segments"]) == ("send", 3)
        assert {"rule": "spend", "result": "pass", "detail": "0.3, and 0 of 1 is spent today"} in one["rules"]
        for number in range(8):
            await gw.final(await sent_to(gw, number))
        asked = text(1, content={"title": "Hello", "body": "long " * 70})
        one = await gw.explain(asked.pop("to"), **asked)
        assert (one["decision"], one["reason"]) == ("hold", "rate_limited")
        assert one["until"].endswith("T00:00:00.000Z")
        assert {"rule": "spend", "result": "hold", "detail": "0.3, and 0.8 of 1 is spent today"} in one["rules"]


async def test_what_is_captured_or_simulated_costs_nothing(tmp_path: Path):
    clock = at_noon()
    wanted = merged(config("http://127.0.0.1:9"), {"environment": "staging"})
    async with running_gateway(tmp_path, wanted, clock=clock) as gw:
        for number in range(12):
            assert (await gw.final(await sent_to(gw, number)))["status"] == "captured"
        for _ in range(12):
            assert (await gw.final(await gw.send({"phone": "+15005550001"}, channels=["sms"])))["status"] != "held"
        assert gw.gateway.metrics.value("gateway_spent", {"channel": "sms"}) is None
