"""Providers that are down, silent, flapping or lying: with SMTP the wire misbehaves, over HTTP the answers do."""

from __future__ import annotations

import asyncio

from channels.testing_server import Do as HttpDo
from channels.testing_server import HttpServer, Received, Reply
from tests.faults.frame import CONNECTIONS, Faults
from tests.faults.oracle import all_settled
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
