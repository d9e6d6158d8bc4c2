"""Providers that are down, silent, flapping or lying: with SMTP the wire misbehaves, over HTTP the answers do."""

from __future__ import annotations

import asyncio
import time

from channels.testing_server import Do as HttpDo
from channels.testing_server import HttpServer, Received, Reply
from tests.faults.frame import CONNECTIONS, LONG_ONLY, Faults, until
from tests.faults.oracle import all_settled, first_arrivals
from tests.support.gateway import body
from tests.support.process import serving
from tests.support.smtp_server import Behaviour, Do, Mail, SmtpServer

QUICK = {
    "retry": {"attempts": 40, "first_s": 0.2, "most_s": 1},
    "breaker": {"failures": 5, "first_s": 0.2, "most_s": 1},
}
LOSES_ANSWERS = Behaviour(keep_after=Do.DROP)
TROUBLE = {
    "silent banner": Behaviour(on={"banner": Do.SILENCE}),
    "closes at MAIL": Behaviour(on={"mail": Do.DROP}),
    "421 at EHLO": Behaviour(on={"ehlo": "421 4.3.2 shutting down"}),
    "greylists": Behaviour(on={"mail": ["450 4.2.0 greylisted"] * 4 + ["250 2.1.0 OK"]}),
    "cut in DATA": Behaviour(on={"body": Do.RESET}),
    "half an answer": Behaviour(on={"data": Do.HALF}),
    "452 at the end": Behaviour(on={"dot": ["452 4.3.1 full"] * 10 + ["250 2.0.0 OK"]}),
    "loses answers": LOSES_ANSWERS,
}


async def test_a_provider_that_flaps_through_every_trouble(faults: Faults):
    troubles = [*TROUBLE.values()] * faults.count(short=1, long=3)
    faults.random.shuffle(troubles)
    del troubles[faults.count(short=3, long=len(troubles)) :]
    bound = 0
    async with SmtpServer() as server:
        config = faults.config(
            server,
            await faults.database("sqlite"),
            providers={"smtp-1": {"connect_timeout_s": 1, "command_timeout_s": 1, "data_timeout_s": 1}},
            channels={"email": QUICK},
        )
        async with serving(config) as (_, client):
            for trouble in troubles:
                async with faults.load(client, 4) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + 10)
                # Cut as it changes: whoever was just being answered hears nothing, and sends again.
                bound += CONNECTIONS
                await server.stop()
                server.behaviour = trouble
                before = len(server.messages)
                async with faults.load(client, 4) as ledger:
                    await ledger.until_accepted(len(ledger.accepted) + 5)
                    await server.__aenter__()
                    await ledger.until_accepted(len(ledger.accepted) + 10)
                await asyncio.sleep(faults.random.uniform(0.2, 1))
                bound += CONNECTIONS
                await server.stop()
                if trouble is LOSES_ANSWERS:
                    bound += len(server.messages) - before
                server.behaviour = Behaviour()
                await server.__aenter__()
            await all_settled(client, within_s=40)
            # What is held after a lost answer and never arrived was cut in the middle of its message.
            await faults.judge(
                f"SMTP: {len(troubles)} troubles, in turn",
                "sqlite",
                client,
                server,
                bound=bound,
                may_miss={"unknown": len(faults.ledger.accepted)},
            )


class Liar:
    """A mail API that says what is not so, by the seed. `lies` counts what it took and did not admit."""

    def __init__(self, faults: Faults) -> None:
        self.random = faults.random
        self.messages: list[Mail] = []
        self.lies = 0
        self.honest = False

    def answer(self, request: Received) -> Reply | HttpDo:
        way = "yes" if self.honest else self.random.choice(["yes", "yes", "no", "lie"])
        if way == "no":
            return self.random.choice(
                [
                    Reply(503, body="<html>busy</html>"),
                    Reply(429, {"Retry-After": self.random.choice(["0", "-5", "0.3", "soon", ""])}),
                    Reply(200, json={"code": "internal", "message": "it says 200 and means 500"}),
                    Reply(200, body="<html>a login page</html>"),
                    Reply(302, {"Location": "/elsewhere"}),
                ]
            )
        name = request.headers["idempotency-key"]
        self.messages.append(Mail(mail_from="", rcpt_tos=(), content=f"Message-ID: <{name}@liar>".encode()))
        if way == "yes":
            return Reply(200, json={"id": f"m{len(self.messages)}"})
        self.lies += 1
        return self.random.choice(
            [Reply(500), HttpDo.CLOSE, HttpDo.RESET, HttpDo.HALF_BODY, HttpDo.GARBAGE, HttpDo.STALL]
        )


async def test_a_provider_that_lies_about_what_it_took(faults: Faults):
    liar = Liar(faults)
    async with HttpServer(liar.answer) as http, SmtpServer() as unused:
        api = {"use": "email_json", "base_url": http.url, "api_key": "k" * 20, "read_timeout_s": 1}
        config = faults.config(
            unused,
            await faults.database("sqlite"),
            providers={"api": api},
            channels={"email": {**QUICK, "providers": ["api"]}},
        )
        async with serving(config) as (_, client):
            async with faults.load(client, 4) as ledger:
                await ledger.until_accepted(faults.count(short=40, long=400))
            await asyncio.sleep(2)
            liar.honest = True
            await all_settled(client, within_s=40)
            most = len(faults.ledger.accepted)
            await faults.judge(
                "HTTP: lies about what it took", "sqlite", client, liar, bound=liar.lies, may_miss={"unknown": most}
            )
            assert liar.lies > 0


class Ailing:
    """A mail API that is down until it is not. It notes how many messages it had in hand as each of them came."""

    def __init__(self) -> None:
        self.messages: list[Mail] = []
        self.down = True
        self.refused = 0
        self.good = 0
        self.in_hand = 0
        self.crowds: list[tuple[int, int]] = []
        """For each message that it took: how many it had in hand with it, and had answered well before."""

    async def answer(self, request: Received) -> Reply:
        if self.down:
            self.refused += 1
            return Reply(503)
        self.in_hand += 1
        self.crowds.append((self.in_hand, self.good))
        await asyncio.sleep(0.01)  # so that those who come together meet
        name = request.headers["idempotency-key"]
        self.messages.append(Mail(mail_from="", rcpt_tos=(), content=f"Message-ID: <{name}@ailing>".encode()))
        self.in_hand -= 1
        self.good += 1
        return Reply(200, json={"id": f"m{self.good}"})


async def test_after_an_outage_it_begins_with_one_and_nobody_urgent_waits_behind_the_crowd(faults: Faults):
    waiting = faults.count(short=200, long=3000)
    ailing = Ailing()
    async with HttpServer(ailing.answer) as http, SmtpServer() as unused:
        api = {"use": "email_json", "base_url": http.url, "api_key": "k" * 20}
        config = faults.config(
            unused,
            await faults.database("sqlite"),
            providers={"api": api},
            channels={"email": {**QUICK, "providers": ["api"]}},
        )
        async with serving(config) as (_, client):
            for start in range(0, waiting, 1000):
                items = [body(f"user{number}@example.com") for number in range(start, min(waiting, start + 1000))]
                answer = await client.post("/v1/notifications/batch", json={"notifications": items})
                taken = {one["deliveries"][0]["id"]: "default" for one in answer.json()["results"]}
                faults.ledger.accepted |= taken
            await _until_probed(client, ailing)
            ailing.down = False
            await until(lambda: bool(ailing.messages))
            answer = await client.post("/v1/notifications", json=body("urgent@example.com", priority="critical"))
            before = len(ailing.messages)
            [urgent] = answer.json()["deliveries"]
            faults.ledger.accepted[urgent["id"]] = "default"
            await all_settled(client, within_s=60)
            await faults.judge(f"down, {waiting} waiting, then up", "sqlite", client, ailing, bound=0)
    too_many = [(crowd, good) for crowd, good in ailing.crowds if crowd > 1 + good]
    assert too_many == [], "each that works lets one more in"
    place = [*first_arrivals(ailing)].index(urgent["id"])
    assert place - before <= waiting // 2, "not behind the crowd"


async def _until_probed(client, ailing: Ailing) -> None:
    """Wait until it is left alone, and then until nobody comes but one at a time."""
    while True:
        before = ailing.refused
        await until(lambda so_far=before: ailing.refused > so_far)
        answer = await client.get("/v1/providers")
        [state] = [one["breaker"]["state"] for one in answer.json()["items"] if one["name"] == "api"]
        if state == "open" and ailing.refused == before + 1:
            return


BESIDE = 300
"""Messages of each channel in one round."""
BUSY_S = 0.1
"""What a busy machine may add to one message in twenty; whoever waited for the silent provider would wait seconds."""


@LONG_ONLY
async def test_a_provider_that_never_answers_costs_the_others_a_tenth_at_most(faults: Faults):
    async with HttpServer(Reply(200, json={"ok": True, "channel": "C7", "ts": "1.2"})) as slack, SmtpServer() as server:
        bot = {"use": "chat_slack", "token": "xoxb-1", "base_url": f"{slack.url}/api/", "rate": "1000/s"}
        patient = {"breaker": {"failures": 1_000_000}}  # it is asked again and again, and never left alone
        config = faults.config(
            server,
            await faults.database("sqlite"),
            providers={"bot": {**bot, "read_timeout_s": 5}},
            channels={"slack": {"providers": ["bot"], **patient}},
        )
        async with serving(config) as (_, client):
            beside_well = [await _p95_s(client, server, faults) for _ in range(3)]
            well, slack.answering = slack.answering, HttpDo.SILENCE
            beside_silent = [await _p95_s(client, server, faults) for _ in range(3)]
            assert len(slack.requests) > 3 * BESIDE, "it was asked"
            slack.answering = well
            await all_settled(client, within_s=60)
            # Noise only ever adds: the best of three rounds is what the others cost.
            ours, without = min(beside_silent), min(beside_well)
            fault = f"beside a silent provider: p95 {without * 1000:.0f} ms without, {ours * 1000:.0f} ms with"
            await faults.judge(fault, "sqlite", client, server, bound=0)
            assert ours <= 1.1 * without + BUSY_S


async def _p95_s(client, server: SmtpServer, faults: Faults) -> float:
    """Send by both channels at once, a pair every 10 ms; how long e-mail takes from its 202 to its arrival."""
    accepted_at: dict[str, float] = {}

    async def one(number: int) -> None:
        to = {"email": f"user{number}@example.com", "slack": f"C{number}"}
        answer = await client.post("/v1/notifications", json=body(to, channels=["email", "slack"], strategy="all"))
        [mail] = [one for one in answer.json()["deliveries"] if one["channel"] == "email"]
        accepted_at[mail["id"]] = time.time()

    async with asyncio.TaskGroup() as sending:
        for number in range(BESIDE):
            sending.create_task(one(number))
            await asyncio.sleep(0.01)
    await until(lambda: accepted_at.keys() <= first_arrivals(server).keys())
    faults.ledger.accepted |= dict.fromkeys(accepted_at, "default")
    arrived_at = first_arrivals(server)
    waits = sorted(max(0.0, arrived_at[id_] - at) for id_, at in accepted_at.items())
    return waits[len(waits) * 95 // 100]
