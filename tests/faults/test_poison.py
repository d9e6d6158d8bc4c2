"""A message that raises, exits or eats all memory where it is sent: it ends, and its neighbours arrive."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest

from tests.faults.frame import IN_HAND, LONG_ONLY, Faults
from tests.faults.oracle import all_settled, final
from tests.support.gateway import body
from tests.support.process import GatewayProcess
from tests.support.smtp_server import SmtpServer

ATTEMPTS = 4

ADAPTER = '''
"""An adapter that dies of certain addresses."""
import os
from channels.email_smtp import SmtpChannel

class PoisonChannel(SmtpChannel):
    async def send(self, message):
        if message.to.startswith("raise"):
            raise RuntimeError("poison")
        if message.to.startswith("exit"):
            os._exit(66)
        if message.to.startswith("memory"):
            hoard = []
            while True:
                hoard.append(bytearray(16 * 1024 * 1024))
        return await super().send(message)
'''


def _install(folder: Path) -> dict[str, str]:
    """Put the adapter where the gateway finds it, as a package of somebody else's; answers the variables for that."""
    about = folder / "poison-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: poison\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[gateway.channels]\nemail_poison = poison:PoisonChannel\n")
    (folder / "poison.py").write_text(ADAPTER)
    return {"PYTHONPATH": str(folder)}


async def _accepted(client, faults: Faults, poison: str) -> str:
    """Accept one poison among sixty others, while nobody works: they are claimed together. Answers its id."""
    to = [f"user{number}@example.com" for number in range(60)]
    to.insert(faults.random.randrange(25), poison)
    items = [body(one) for one in to]
    answer = await client.post("/v1/notifications/batch", json={"notifications": items})
    ids = [one["deliveries"][0]["id"] for one in answer.json()["results"]]
    found = ids.pop(to.index(poison))
    faults.ledger.accepted = dict.fromkeys(ids, "default")
    return found


@pytest.mark.parametrize(
    ("poison", "does"),
    [
        pytest.param("raise", "raises", marks=LONG_ONLY),
        ("exit", "exits"),
        pytest.param("memory", "eats memory", marks=LONG_ONLY),
    ],
)
async def test_a_poison_message_ends_and_its_neighbours_arrive(poison, does, faults: Faults):
    variables = _install(faults.folder / "elsewhere")
    async with SmtpServer() as server:
        config = faults.config(
            server,
            await faults.database("sqlite"),
            server={"lease_s": 1, "poll_s": 0.1},
            providers={"smtp-1": {"use": "email_poison"}},
            channels={"email": {"retry": {"attempts": ATTEMPTS, "first_s": 0.2, "most_s": 0.5}}},
        )
        looking = GatewayProcess(config, "serve", "--no-work", "--port", "0", variables=variables)
        try:
            async with looking.client() as client:
                id_ = await _accepted(client, faults, f"{poison}@example.com")
                crashes = 0
                while not await _works_until_final(GatewayProcess(config, "work", variables=variables), client, id_):
                    crashes += 1
                    assert crashes <= ATTEMPTS
                await all_settled(client)
                assert await final(client, [id_]) == {id_: "unknown"}
                fault = f"a message that {does}"
                await faults.judge(fault, "sqlite", client, server, bound=crashes * IN_HAND)
        finally:
            looking.kill()
        assert crashes == (ATTEMPTS if poison == "exit" else 0)


async def _works_until_final(worker: GatewayProcess, client, id_: str) -> bool:
    """Wait until all are final (yes) or the worker is dead (no)."""
    room = 3 * 1024**3
    resource.prlimit(worker.process.pid, resource.RLIMIT_AS, (room, room))
    try:
        while worker.process.poll() is None:
            if (await final(client, [id_]))[id_] == "unknown":
                await all_settled(client)
                return True
            await asyncio.sleep(0.05)
        return False
    finally:
        worker.kill()
