"""Pausing and resuming providers: who takes over, what waits, and what goes on at once."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.router.house import soon
from tests.support.gateway import running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer

LOGIN = {"providers": {"smtp-1": {"username": "gateway", "password": "wrong"}}}


async def said(gw, word: str, name: str = "smtp-1"):
    answer = await gw.client.post(f"/v1/providers/{name}/{word}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def shown(gw, name: str = "smtp-1"):
    [found] = [one for one in (await gw.get("/v1/providers"))["items"] if one["name"] == name]
    return found


async def until_shown(gw, status: str):
    for _ in range(1000):
        if (found := await shown(gw))["status"] == status:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError(f"smtp-1 is {found['status']}")


async def test_a_paused_provider_is_passed_over(tmp_path):
    async with SmtpServer() as first, SmtpServer() as second, running_gateway(tmp_path, smtp(first, second)) as gw:
        assert (await said(gw, "pause"))["status"] == "paused"
        explained = await gw.explain()
        assert (explained["decision"], explained["provider"]) == ("send", "smtp-2")
        assert {"rule": "paused", "result": "hold", "detail": "smtp-1 is paused"} in explained["rules"]
        sent = await gw.final(await gw.send())
        assert (sent["status"], sent["provider"], len(sent["attempts"])) == ("sent", "smtp-2", 1)
        await said(gw, "resume")
        assert (await gw.final(await gw.send()))["provider"] == "smtp-1"


async def test_with_all_paused_deliveries_wait_uncounted_and_go_on_at_once(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        await said(gw, "pause")
        explained = await gw.explain()
        assert (explained["decision"], explained["reason"], explained["until"]) == ("hold", "paused", None)
        answers = [await gw.send(f"user{number}@example.com") for number in range(60)]
        for answer in answers:
            assert (await gw.held(answer, "paused"))["attempts"] == []
        events = [one["type"] for one in await gw.events(answers[0]["id"])]
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert [one["type"] for one in await gw.events(answers[0]["id"])] == events, "it is not claimed again and again"
        assert server.connections == 0
        await said(gw, "resume")
        done = [await gw.final(answer) for answer in answers]
        assert {(one["status"], len(one["attempts"])) for one in done} == {("sent", 1)}
        assert len(server.messages) == 60


async def test_many_words_at_once_end_as_the_last_one_and_break_nothing(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        await asyncio.gather(*[said(gw, word) for word in ("pause", "resume") * 10])
        await said(gw, "resume")
        assert (await shown(gw))["status"] == "ok"
        assert (await gw.final(await gw.send()))["status"] == "sent"


async def test_what_never_leaves_is_not_held(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        await said(gw, "pause")
        assert (await gw.final(await gw.send("delivered@simulator.invalid")))["status"] == "delivered"
        test = await gw.new_client("send", "read", mode="test")
        assert (await gw.explain(client=test))["decision"] == "capture"
        assert (await gw.final(await gw.send(client=test)))["status"] == "captured"


async def test_a_deadline_holds_while_paused(tmp_path):
    config = {"categories": {"quick": {"expires_after_s": 60}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        await said(gw, "pause")
        answer = await gw.send(category="quick")
        await gw.held(answer, "paused")
        gw.clock.advance(61)
        await gw.keep_house()
        assert (await gw.final(answer))["status"] == "expired"
        assert server.messages == []


async def test_a_recipients_rate_is_not_spent_on_what_waits(tmp_path):
    config = {"channels": {"email": {"per_recipient": "2/h"}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        await said(gw, "pause")
        answers = [await gw.send() for _ in range(3)]
        for answer in answers:
            await gw.held(answer, "paused")
        gw.clock.advance(1800)
        await said(gw, "resume")
        ends = [await gw.until(answer, {"sent"} if one < 2 else {"held"}) for one, answer in enumerate(answers)]
        assert sorted(one["status"] for one in ends) == ["held", "sent", "sent"]
        await gw.held(answers[2], "rate_limited")


async def test_a_pause_is_seen_by_other_processes_and_survives_them(tmp_path, database):
    async with SmtpServer() as server:
        config = smtp(server)
        async with (
            running_gateway(tmp_path, config, database=database) as one,
            running_gateway(tmp_path, config, database=database) as two,
        ):
            first = await said(one, "pause")
            await soon(lambda: two.gateway.providers.all()[0].standing.paused)
            answer = await two.send()
            await two.held(answer, "paused")
            assert (await said(two, "pause"))["paused_at"] == first["paused_at"]
        async with running_gateway(tmp_path, config, database=database) as later:
            assert (await shown(later))["status"] == "paused"
            await later.held(await later.send(), "paused")
            await said(later, "resume")
            assert (await later.final(answer))["status"] == "sent"


async def test_what_was_resumed_while_nothing_ran_goes_on_at_the_next_start(tmp_path):
    async with SmtpServer() as server:
        async with running_gateway(tmp_path, smtp(server)) as gw:
            await said(gw, "pause")
            answer = await gw.send()
            await gw.held(answer, "paused")
        async with running_gateway(tmp_path, smtp(server), work=False) as gw:
            await gw.gateway.store.resume_provider("smtp-1", gw.clock())
        async with running_gateway(tmp_path, smtp(server)) as gw:
            assert (await gw.final(answer))["status"] == "sent"


async def test_an_account_problem_is_loud_once_and_a_resumption_ends_it(tmp_path, capsys):
    users = {"gateway": "right"}
    async with SmtpServer(Behaviour(users=users)) as server, running_gateway(tmp_path, smtp(server, **LOGIN)) as gw:
        answer = await gw.send()
        await gw.held(answer, "retry")
        found = await until_shown(gw, "stopped")
        assert found["breaker"]["state"] == "stopped"
        assert found["breaker"]["until"] is not None
        assert "535" in found["breaker"]["detail"]
        assert "wrong" not in json.dumps(found)
        assert (found["last"]["outcome"], found["last"]["reason"]) == ("rejected", "account_problem")
        gw.clock.advance(180)  # a probe is refused too, which is no news
        await gw.held(answer, "retry", attempts=2)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [(one["event"], one["level"]) for one in lines] == [("provider_state", "error")]
        users["gateway"] = "wrong"  # somebody mends it
        waits = await gw.send("bob@example.com")
        assert (await said(gw, "resume"))["status"] in {"recovering", "ok"}
        assert (await gw.final(waits))["status"] == "sent"


async def test_the_figures_tell_how_a_provider_stands(tmp_path):
    async with SmtpServer() as server:
        async with running_gateway(tmp_path, smtp(server), work=False) as gw:
            await said(gw, "pause")
        async with running_gateway(tmp_path, smtp(server)) as gw:
            labels = {"provider": "smtp-1", "channel": "email"}
            value = gw.gateway.metrics.value
            await soon(lambda: value("gateway_provider_status", {**labels, "status": "paused"}) == 1)
            assert value("gateway_provider_healthy", labels) == 0
            assert value("gateway_provider_status", {**labels, "status": "ok"}) == 0


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
async def test_an_api_without_a_dispatcher_shows_what_the_workers_find(tmp_path, database):
    locked = Behaviour(users={"gateway": "right"})
    async with SmtpServer(locked) as server:
        config = smtp(server, **LOGIN)
        async with (
            running_gateway(tmp_path, config, database=database, work=False) as front,
            running_gateway(tmp_path, config, database=database),
        ):
            await front.held(await front.send(), "retry")
            found = await until_shown(front, "stopped")
            assert found["places"]["workers"] == 1
            assert found["last"]["reason"] == "account_problem"
