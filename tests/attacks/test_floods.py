"""More than can be done: who asks too much is told so quickly and when to come back, and nobody else pays for it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.attacks.conftest import House, a_house, a_send
from tests.support.gateway import ADMIN


def _speaking(house: House, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=str(house.process.url), headers=headers, timeout=30, limits=limits)


async def _sends(client: httpx.AsyncClient, count: int, name: str) -> list[tuple[httpx.Response, float]]:
    """Send as many at once as there are connections; answers what came back, and after how long."""

    async def one(number: int) -> tuple[httpx.Response, float]:
        began = time.monotonic()
        answer = await client.post("/v1/notifications", json=a_send(f"{name}-{number}@example.com"))
        return answer, time.monotonic() - began

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def _all_finished(client: httpx.AsyncClient, ids: list[str]) -> None:
    async with asyncio.timeout(30):
        for id_ in ids:
            while (await client.get(f"/v1/notifications/{id_}")).json()["status"] != "completed":  # noqa: ASYNC110 # asked
                await asyncio.sleep(0.05)


async def test_a_key_that_asks_ten_times_its_rate_is_told_to_wait_and_its_neighbour_notices_nothing(house: House):
    key = house.key("send", "read", rate="20/s")
    async with _speaking(house, key) as greedy, _speaking(house, house.key("send", "read")) as modest:
        began = time.monotonic()
        flood = asyncio.create_task(_sends(greedy, 200, "greedy"))
        calm = await _sends(modest, 20, "modest")
        answers = [answer for answer, _ in await flood]
        took = time.monotonic() - began
        codes = Counter(answer.status_code for answer in answers)
        assert set(codes) == {202, 429}
        assert 20 <= codes[202] <= 20 * (took + 1) + 1
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["type"] == "/errors/rate-limited"
                assert answer.json()["retryable"] is True
                assert int(answer.headers["retry-after"]) >= 1
                assert "ratelimit" in answer.headers
                assert "ratelimit-policy" in answer.headers
        assert [answer.status_code for answer, _ in calm] == [202] * 20
        accepted = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    async with _speaking(house, ADMIN) as client:
        await _all_finished(client, accepted)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A gateway that takes on very little at once, and hears few callers."""
    limits = {"pending_accepts": 8, "connections": 16}
    with a_house(tmp_path_factory.mktemp("narrow"), limits=limits) as house:
        yield house


async def test_what_is_too_much_for_the_store_is_a_quick_503_and_everything_accepted_is_done(narrow: House):
    async with _speaking(narrow, narrow.key("send", "read")) as client:
        client.timeout = httpx.Timeout(30)
        answers = await _batches(client, 60)
        codes = Counter(status for status, _, _ in answers)
        assert set(codes) <= {202, 503}
        assert codes[202] > 0
        for status, answer, took in answers:
            if status == 503:
                assert answer.json()["type"] == "/errors/unavailable"
                assert int(answer.headers["retry-after"]) >= 1
                assert took < 10
        results = [one for status, answer, _ in answers if status == 202 for one in answer.json()["results"]]
        ids = [one["id"] for one in results if "id" in one]
        refused = [one for one in results if "id" not in one]
        assert {one["status"] for one in refused} <= {503}
        assert codes[503] + len(refused) > 0, "nothing was too much: this test shows nothing"
        assert len(set(ids)) == len(ids) > 0
        await _all_finished(client, ids)
    assert narrow.is_well()


async def _batches(client: httpx.AsyncClient, count: int) -> list[tuple[int, httpx.Response, float]]:
    """Ask in batches of five from as many tasks; a connection that had to give way is asked again, as callers do."""

    async def one(number: int) -> tuple[int, httpx.Response, float]:
        batch = {"notifications": [a_send(f"b{number}-{item}@example.com") for item in range(5)]}
        began = time.monotonic()
        while True:
            try:
                answer = await client.post("/v1/notifications/batch", json=batch)
            except httpx.TransportError:
                continue
            return answer.status_code, answer, time.monotonic() - began

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def test_idle_connections_beyond_the_limit_keep_nobody_out(narrow: House):
    idle = [await asyncio.open_connection("127.0.0.1", narrow.port) for _ in range(100)]
    for _ in range(3):
        async with httpx.AsyncClient(base_url=str(narrow.process.url), timeout=5) as client:
            assert (await client.get("/health/ready")).status_code == 200
    for _, writer in idle:
        writer.close()


async def test_fifty_at_once_with_one_idempotency_key_are_one_notification_over_real_connections(house: House):
    async with _speaking(house, house.key("send", "read")) as client:
        headers = {"Idempotency-Key": "fifty"}

        async def one(body: dict[str, object]) -> httpx.Response:
            return await client.post("/v1/notifications", json=body, headers=headers)

        answers = await asyncio.gather(*(one(a_send("fifty@example.com")) for _ in range(50)))
        good = [answer for answer in answers if answer.status_code == 202]
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
        assert len({answer.content for answer in good}) == 1
        assert sum("idempotency-replayed" not in answer.headers for answer in good) == 1
        other = await one(a_send("another@example.com"))
        assert (other.status_code, other.json()["type"]) == (422, "/errors/idempotency-key-reused")
        found = (await client.get("/v1/notifications", params={"address": "fifty@example.com"})).json()["items"]
        assert len(found) == 1
