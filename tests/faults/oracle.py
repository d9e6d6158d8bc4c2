"""The one oracle: what got a 202, what arrived, what is reported as final.

**accepted - arrived - reported as final = ∅**, and duplicates are counted.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable

import httpx

from tests.support.gateway import body
from tests.support.smtp_server import SmtpServer

_NAME = re.compile(rb"^Message-ID: <[^>]*(dlv_[0-9a-f]{32})", re.MULTILINE | re.IGNORECASE)


class Ledger:
    """A list of accepted deliveries that is kept outside the gateway."""

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}  # delivery → category
        self.refused = 0
        self.cut = 0

    async def load(
        self, client: httpx.AsyncClient, clients: int = 12, *, categories: Iterable[str] = ("default",)
    ) -> None:
        """Send as fast as answers come, from several clients at once, until cancelled or cut off."""
        names = list(categories)
        await asyncio.gather(*[self._one(client, number, names[number % len(names)]) for number in range(clients)])

    async def _one(self, client: httpx.AsyncClient, number: int, category: str) -> None:
        count = 0
        while True:
            count += 1
            try:
                answer = await client.post(
                    "/v1/notifications", json=body(f"user{number}.{count}@example.com", category=category)
                )
            except httpx.TransportError:
                self.cut += 1
                return
            if answer.status_code == 202:
                for one in answer.json()["deliveries"]:
                    self.accepted[one["id"]] = category
            else:
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) >= 1
                self.refused += 1
                await asyncio.sleep(0.02)

    async def until_accepted(self, count: int, within_s: float = 20) -> None:
        """Wait until so many are accepted."""
        ends = time.monotonic() + within_s
        while len(self.accepted) < count:
            assert time.monotonic() < ends, f"only {len(self.accepted)} accepted"
            await asyncio.sleep(0.005)


def arrived(server: SmtpServer) -> Counter[str]:
    """Count what arrived, by delivery."""
    found: Counter[str] = Counter()
    for mail in server.messages:
        name = _NAME.search(mail.content)
        assert name is not None, mail.content[:500]
        found[name[1].decode()] += 1
    return found


def first_arrivals(server: SmtpServer) -> dict[str, float]:
    """Tell when each delivery came for the first time, in Unix seconds."""
    found: dict[str, float] = {}
    for mail in server.messages:
        name = _NAME.search(mail.content)
        assert name is not None, mail.content[:500]
        found.setdefault(name[1].decode(), mail.at)
    return found


def duplicates(server: SmtpServer) -> int:
    """Count the copies beyond the first."""
    return sum(count - 1 for count in arrived(server).values())


async def all_settled(client: httpx.AsyncClient, within_s: float = 20) -> None:
    """Wait until nothing is waiting or being sent."""
    await few_left(client, 0, within_s=within_s)


async def few_left(client: httpx.AsyncClient, most: int, *, within_s: float) -> None:
    """Wait until nothing is left; after so long so many may be, and a busy machine may take longer still."""
    enough = time.monotonic() + within_s
    ends = enough + 30
    while True:
        query = {"status": "processing", "limit": most + 1}
        items = (await client.get("/v1/notifications", params=query)).json()["items"]
        if not items or (time.monotonic() > enough and len(items) <= most):
            return
        assert time.monotonic() < ends, items
        await asyncio.sleep(0.05)


async def final(client: httpx.AsyncClient, ids: Iterable[str]) -> dict[str, str]:
    """Ask for the status of each, a few at a time."""
    statuses: dict[str, str] = {}
    left = iter(list(ids))

    async def ask() -> None:
        for id_ in left:
            answer = await client.get(f"/v1/deliveries/{id_}")
            statuses[id_] = answer.json()["status"] if answer.status_code == 200 else f"HTTP {answer.status_code}"

    await asyncio.gather(*[ask() for _ in range(8)])
    return statuses
