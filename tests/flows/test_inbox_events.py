"""The inbox's stream: what is told when, who has a place, and how it ends. Spoken in ASGI, as a server would."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from gateway.api.exchange import AsgiApp, Exchange, Stream, send_stream
from gateway.bootstrap import api
from tests.support.gateway import ADMIN, RunningGateway, running_gateway


class Reader:
    """Who reads a stream. `hang_up` is the browser's tab being closed."""

    def __init__(self, app: AsgiApp, path: str, key: str, last_event: str | None, method: str) -> None:
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._gone = asyncio.Event()
        self._text = ""
        headers = [(b"authorization", f"Bearer {key}".encode())]
        headers += [] if last_event is None else [(b"last-event-id", last_event.encode())]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": headers, "http_version": "1.1", "scheme": "http", "root_path": "",
            "client": None, "server": None,
        }  # fmt: skip
        self.task = asyncio.create_task(app(scope, self._receive, self._pieces.put))  # type: ignore[arg-type] # ASGI's words

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    def hang_up(self) -> None:
        self._gone.set()

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self._pieces.get()

    async def event(self) -> tuple[str, int, Any]:
        """Wait for the next event: its kind, its id and what it says."""
        while "data: " not in self._text or "\n\n" not in self._text.partition("data: ")[2]:
            self._text += (await self.next())["body"].decode()
        before, _, rest = self._text.partition("data: ")
        data, _, self._text = rest.partition("\n\n")
        said = dict(line.split(": ", 1) for line in before.splitlines() if ": " in line)
        return said["event"], int(said["id"]), json.loads(data)

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await self.task


@contextlib.asynccontextmanager
async def reading(
    gw: RunningGateway, key: str = ADMIN, *, last_event: str | None = None, method: str = "GET"
) -> AsyncIterator[tuple[int, Reader]]:
    reader = Reader(api(gw.gateway), "/v1/users/42/inbox/events", key, last_event, method)
    start = await reader.next()
    try:
        yield start["status"], reader
    finally:
        reader.hang_up()
        await reader.ended()


async def send(gw: RunningGateway) -> Any:
    answer = await gw.send({"user": "42"}, channels=["inbox"])
    await gw.final(answer)
    return (await gw.get("/v1/users/42/inbox"))["items"][0]


@contextlib.asynccontextmanager
async def house(tmp_path: Any, **config: Any) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path, config) as gw:
        await gw.client.put("/v1/users/42", json={})
        yield gw


async def test_a_page_is_told_what_comes_and_what_is_done(tmp_path):
    async with house(tmp_path) as gw:
        await send(gw)
        async with reading(gw) as (status, reader):
            assert status == 200
            assert await reader.event() == ("ready", 1, {"unread": 1})
            item = await send(gw)
            kind, _, news = await reader.event()
            assert (kind, news["unread"], [one["id"] for one in news["items"]]) == ("change", 2, [item["id"]])
            await gw.client.post(f"/v1/users/42/inbox/{item['id']}/read")
            kind, id_, news = await reader.event()
            assert (kind, news["unread"], news["items"][0]["read_at"] is not None) == ("change", 1, True)
        async with reading(gw, last_event=str(id_ - 2)) as (_, again):
            assert (await again.event())[:2] == ("ready", id_)
            kind, _, news = await again.event()
            assert (kind, [one["id"] for one in news["items"]]) == ("change", [item["id"]])
        async with reading(gw, last_event="999") as (_, lost):
            await lost.event()
            assert (await lost.event())[0] == "reset"
        assert gw.gateway.live_inboxes.watched == 0


async def test_what_another_process_puts_in_is_told_at_the_next_look(tmp_path):
    async with house(tmp_path) as gw, running_gateway(tmp_path, {}) as other, reading(gw) as (_, reader):
        assert (await reader.event())[0] == "ready"
        item = await send(other)
        await gw.gateway.live_inboxes.look()
        kind, _, news = await reader.event()
        assert (kind, news["items"][0]["id"]) == ("change", item["id"])


async def test_what_was_replaced_is_told_to_be_gone(tmp_path):
    async with house(tmp_path) as gw:
        gone = (await gw.final(await gw.send({"user": "42"}, channels=["inbox"], collapse_key="k")))["attempts"]
        async with reading(gw) as (_, reader):
            await reader.event()
            await gw.send({"user": "42"}, channels=["inbox"], collapse_key="k")
            _, _, news = await reader.event()
            assert (news["removed"], len(news["items"]), news["unread"]) == ([gone[0]["provider_id"]], 1, 1)


async def test_places_are_counted_and_given_back(tmp_path):
    async with house(tmp_path, inbox={"streams": 2, "streams_per_user": 1}) as gw:
        async with reading(gw) as (status, _):
            assert status == 200
            async with reading(gw) as (refused, _):
                assert refused == 429
        async with reading(gw, method="HEAD") as (status, reader):
            assert (status, (await reader.next())["body"]) == (200, b"")
        assert gw.gateway.live_inboxes.watched == 0
        await gw.client.put("/v1/users/other", json={})
        live = gw.gateway.live_inboxes
        held = [live.open(name) for name in ("a", "b")]
        async with reading(gw) as (refused, _):
            assert refused == 503
        for one in held:
            live.leave(one)
        async with reading(gw) as (status, _):
            assert status == 200


async def test_a_stream_ends_with_the_process_and_with_its_token(tmp_path):
    async with house(tmp_path) as gw:
        minted = await gw.client.post("/v1/users/42/inbox/token", json={"ttl_s": 60})
        async with reading(gw, minted.json()["token"]) as (_, reader):
            await reader.event()
            gw.clock.advance(61)
            await send(gw)  # wakes it, and it finds that its time is over
            while (await reader.next())["more_body"]:
                pass
            await reader.ended()
        async with reading(gw) as (_, reader):
            await reader.event()
            gw.gateway.live_inboxes.close()
            while (await reader.next())["more_body"]:
                pass
            await reader.ended()


async def test_a_reader_that_takes_nothing_is_let_go():
    ended: list[bool] = []

    async def pieces() -> Any:
        while True:
            yield b"x"

    async def never(message: Any) -> None:
        if message["type"] != "http.response.start":
            await asyncio.Event().wait()

    async def stays() -> Any:
        await asyncio.Event().wait()

    stream = Stream(pieces=pieces(), ended=lambda: ended.append(True), media_type=b"text/event-stream")
    async with asyncio.timeout(5):
        await send_stream(never, stays, Exchange("req_1"), stream, slow_s=0.01)
    assert ended == [True]
