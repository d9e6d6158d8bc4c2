"""Providers that fail: the next one takes over only where nothing was sent, and what waits goes out after recovery."""

from __future__ import annotations

import asyncio

from tests.support.gateway import body, delivery_id, message_ids, running_gateway, smtp
from tests.support.smtp_server import Behaviour, Do, SmtpServer

LOGIN = {"providers": {"smtp-1": {"username": "gateway", "password": "wrong"}}}


def state_of(gw, name: str) -> str:
    [found] = [handle.breaker.state for handle in gw.gateway.providers.all() if handle.name == name]
    return found.value


async def in_state(gw, name: str, state: str) -> None:
    for _ in range(1000):
        if state_of(gw, name) == state:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{name} is {state_of(gw, name)}")


async def test_a_wrong_login_stops_the_provider_and_the_next_one_takes_over(tmp_path):
    locked = Behaviour(users={"gateway": "right"})
    async with (
        SmtpServer(locked) as first,
        SmtpServer() as second,
        running_gateway(tmp_path, smtp(first, second, **LOGIN)) as gw,
    ):
        sent = await gw.final(await gw.send())
        assert (sent["status"], sent["provider"]) == ("sent", "smtp-2")
        assert [(one["provider"], one["outcome"], one["reason"]) for one in sent["attempts"]] == [
            ("smtp-1", "rejected", "account_problem"),
            ("smtp-2", "accepted", None),
        ]
        before = len(first.commands)
        others = [await gw.final(await gw.send(f"user{number}@example.com")) for number in range(3)]
        assert {one["provider"] for one in others} == {"smtp-2"}
        assert all(len(one["attempts"]) == 1 for one in others)
        assert len(first.commands) == before, "a stopped provider is left alone"


async def test_a_wrong_login_alone_holds_the_delivery_until_it_is_mended(tmp_path):
    users = {"gateway": "right"}
    async with SmtpServer(Behaviour(users=users)) as server, running_gateway(tmp_path, smtp(server, **LOGIN)) as gw:
        answer = await gw.send()
        held = await gw.held(answer, "retry")
        assert "account_problem" in held["detail"]
        assert state_of(gw, "smtp-1") == "stopped"
        users["gateway"] = "wrong"  # somebody mends it
        gw.clock.advance(300)
        assert (await gw.final(answer))["status"] == "sent"


async def test_a_refused_connection_fails_over_at_once(tmp_path):
    gone, second = SmtpServer(), SmtpServer()
    async with gone:
        pass
    async with second, running_gateway(tmp_path, smtp(gone, second)) as gw:
        sent = await gw.final(await gw.send())
        assert (sent["status"], sent["provider"]) == ("sent", "smtp-2")
        assert [(one["provider"], one["outcome"], one["reason"]) for one in sent["attempts"]] == [
            ("smtp-1", "retry", "provider_down"),
            ("smtp-2", "accepted", None),
        ]


async def test_a_lost_answer_never_fails_over(tmp_path):
    losing = Behaviour(on={"dot": Do.DROP})
    careful = {"categories": {"careful": {"on_unknown": "hold"}}}
    async with (
        SmtpServer(losing) as first,
        SmtpServer() as second,
        running_gateway(tmp_path, smtp(first, second, **careful)) as gw,
    ):
        lost = await gw.final(await gw.send(category="careful"))
        assert (lost["status"], lost["provider"], len(lost["attempts"])) == ("unknown", "smtp-1", 1)
        held = await gw.held(await gw.send(), "retry")
        assert [one["provider"] for one in held["attempts"]] == ["smtp-1"]
        assert second.messages == []


async def test_a_wait_beyond_the_deadline_goes_to_the_next_provider(tmp_path):
    full = Behaviour(on={"mail": "452 4.3.1 quota"})  # asks for half a minute
    async with SmtpServer(full) as first, SmtpServer() as second:
        config = smtp(first, second, categories={"quick": {"expires_after_s": 10}})
        async with running_gateway(tmp_path, config) as gw:
            patient = await gw.held(await gw.send(), "retry")
            assert [one["provider"] for one in patient["attempts"]] == ["smtp-1"]
            quick = await gw.final(await gw.send(category="quick"))
            assert (quick["status"], quick["provider"]) == ("sent", "smtp-2")


async def test_what_waits_through_an_outage_goes_out_after_it_once_each(tmp_path):
    server = SmtpServer(Behaviour())
    async with server:
        port = server.port
    config = smtp(server, channels={"email": {"breaker": {"failures": 3, "first_s": 5, "most_s": 60}}})
    async with running_gateway(tmp_path, config) as gw:
        wanted = [body(f"user{number}@example.com") for number in range(60)]
        answers = (await gw.client.post("/v1/notifications/batch", json={"notifications": wanted})).json()["results"]
        ids = [delivery_id(one) for one in answers]
        await in_state(gw, "smtp-1", "open")
        down = [await gw.delivery(id_) for id_ in ids]
        assert {one["status"] for one in down} <= {"queued", "held", "sending"}
        tries = sum(len(one["attempts"]) for one in down)
        assert tries <= 40, "a dead provider is not asked by every delivery"
        assert server.port == port
        async with server:
            for _ in range(20):
                gw.clock.advance(61)
                await asyncio.sleep(0.05)
                if len(server.messages) >= 60:
                    break
            done = [await gw.final(id_) for id_ in ids]
            assert {one["status"] for one in done} == {"sent"}
            assert len(server.messages) == len(set(message_ids(server.messages))) == 60


async def test_a_simulated_and_a_captured_message_do_not_wait_for_a_dead_provider(tmp_path):
    gone = SmtpServer()
    async with gone:
        pass
    config = smtp(gone, channels={"email": {"breaker": {"failures": 1, "first_s": 3600, "most_s": 3600}}})
    async with running_gateway(tmp_path, config) as gw:
        await gw.held(await gw.send(), "retry")
        assert state_of(gw, "smtp-1") == "open"
        assert (await gw.final(await gw.send("delivered@simulator.invalid")))["status"] == "delivered"
        test = await gw.new_client("send", "read", mode="test")
        assert (await gw.final(await gw.send("bob@example.com", client=test)))["status"] == "captured"


async def test_a_server_that_never_greets_is_left_for_the_next_one(tmp_path):
    silent = Behaviour(on={"banner": Do.SILENCE})
    quick = {"providers": {"smtp-1": {"connect_timeout_s": 0.1}}}
    async with (
        SmtpServer(silent) as first,
        SmtpServer() as second,
        running_gateway(tmp_path, smtp(first, second, **quick)) as gw,
    ):
        sent = await gw.final(await gw.send())
        assert [(one["provider"], one["outcome"], one["reason"]) for one in sent["attempts"]] == [
            ("smtp-1", "retry", "timed_out"),
            ("smtp-2", "accepted", None),
        ]


async def test_a_server_that_is_silent_after_the_dot_may_have_taken_it(tmp_path):
    silent = Behaviour(on={"dot": Do.SILENCE})
    more = {"providers": {"smtp-1": {"data_timeout_s": 0.1}}, "categories": {"careful": {"on_unknown": "hold"}}}
    async with (
        SmtpServer(silent) as first,
        SmtpServer() as second,
        running_gateway(tmp_path, smtp(first, second, **more)) as gw,
    ):
        lost = await gw.final(await gw.send(category="careful"))
        assert (lost["status"], lost["provider"]) == ("unknown", "smtp-1")
        assert second.messages == []


async def test_a_provider_that_keeps_everybody_waiting_does_not_keep_what_stays_in_the_house(tmp_path):
    silent = Behaviour(on={"mail": Do.SILENCE})
    brief = {"server": {"drain_s": 1}}
    async with SmtpServer(silent) as server, running_gateway(tmp_path, smtp(server, **brief)) as gw:
        await gw.client.post(
            "/v1/notifications/batch",
            json={"notifications": [body("a@example.com", reference=str(n)) for n in range(100)]},
        )
        urgent = await gw.send("delivered@simulator.invalid", priority="critical")
        assert (await gw.final(urgent))["status"] == "delivered"
