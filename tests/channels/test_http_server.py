"""The test server does what it says; whatever is judged by it depends on that."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import aiohttp
import pytest

from tests.support.http_server import Do, Held, HttpServer, Received, Reply


@pytest.fixture
async def client():
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def status(client, url, method="GET", **kwargs):
    async with client.request(method, url, **kwargs) as answer:
        return answer.status


async def drain(client, url):
    async with client.get(url) as answer:
        async for _ in answer.content.iter_any():
            pass


async def test_answers_by_method_by_path_and_for_the_rest(client):
    answering = {"POST /a": Reply(201), "/a": Reply(202), "*": Reply(404)}
    async with HttpServer(answering) as server:
        assert await status(client, server.url + "/a", "POST") == 201
        assert await status(client, server.url + "/a?x=1") == 202
        assert await status(client, server.url + "/b") == 404
    assert [(request.method, request.path, dict(request.query)) for request in server.requests] == [
        ("POST", "/a", {}),
        ("GET", "/a", {"x": "1"}),
        ("GET", "/b", {}),
    ]


async def test_a_list_is_read_to_its_last_answer_which_stays(client):
    async with HttpServer([Reply(500), Reply(200)]) as server:
        assert [await status(client, server.url) for _ in range(3)] == [500, 200, 200]


async def test_functions_see_the_request_and_may_be_async(client):
    async def later(request: Received):
        return {"/a": [Reply(201)]}

    async with HttpServer(lambda request: Reply(200, json=request.json())) as server:
        async with client.post(server.url, json={"a": [1]}) as answer:
            assert await answer.json() == {"a": [1]}
        server.answering = later
        assert await status(client, server.url + "/a") == 201


async def test_an_answer_is_held_until_its_event(client):
    event = asyncio.Event()
    async with HttpServer(Held(event, Reply(204))) as server:
        asking = asyncio.ensure_future(status(client, server.url))
        await asyncio.wait_for(server.arrived.wait(), 5)
        assert not asking.done()
        event.set()
        assert await asking == 204


async def test_chunked_bodies_and_forms_are_read(client):
    async def pieces():
        yield b"a=1&"
        yield b"b=%C3%BC"

    async with HttpServer() as server:
        await status(client, server.url, "POST", data=pieces())
    assert server.requests[0].form() == {"a": "1", "b": "ü"}


@pytest.mark.parametrize("how", [Do.CLOSE, Do.RESET, Do.HALF_HEAD, Do.HALF_BODY, Do.GARBAGE, Do.CLOSE_AT_ONCE])
async def test_ways_to_fail_fail(client, how):
    async with HttpServer(how) as server:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            async with client.post(server.url, json={}) as answer:
                await answer.read()
        assert len(server.requests) == (0 if how is Do.CLOSE_AT_ONCE else 1)


@pytest.mark.parametrize("how", [Do.SILENCE, Do.STALL, Do.TRICKLE, Do.ENDLESS_BODY])
async def test_ways_not_to_end_do_not_end(client, how):
    async with HttpServer(how) as server:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drain(client, server.url), 0.3)
        assert len(server.requests) == 1


async def test_a_reset_is_one():
    async with HttpServer(Do.RESET) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


@pytest.mark.parametrize("how", [Do.REFUSE, Do.HANG_UP])
async def test_nobody_is_there(client, how):
    async with HttpServer(how) as server:
        with pytest.raises(aiohttp.ClientConnectorError):
            await status(client, server.url)


async def test_stopping_refuses_and_cuts(client):
    async with HttpServer() as server:
        assert await status(client, server.url) == 200
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await status(client, server.url)
        assert server.open == 0


@pytest.mark.parametrize("turns", range(4))
async def test_whoever_is_let_in_while_it_stops_is_cut_off(turns: int):
    server = HttpServer(Do.SILENCE)
    await server.__aenter__()
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    rung = asyncio.Event()
    loop.add_reader(here, rung.set)
    there.send(b"x")  # heard in the same turn of the loop as the new connection, and just before it
    with here, there, socket.create_connection(("127.0.0.1", server.port)) as client:
        await rung.wait()
        loop.remove_reader(here)
        for _ in range(turns):
            await asyncio.sleep(0)
        await server.__aexit__()
        client.setblocking(False)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(client, 1) == b""
