"""Callers who keep a connection and send little, nothing or far too much: they lose their place, and nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest

from gateway.api.exchange import Receive, Scope, Send
from gateway.bootstrap.connections import HEAD_BYTES, Connection, House
from tests.attacks.conftest import House as Served
from tests.support.serving import served

PATIENCE_S = 0.25
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 8_000_000


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once with the path's size of body, without reading the request's."""
    body = LARGE if scope["path"] == "/large" else b"ok"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def listening(house: House) -> AsyncGenerator[int]:
    """Serve with the gateway's connections and little patience; answers the port."""
    made: Any = partial(Connection, house=house, request_id=lambda: "req_1")
    async with served(_answer, http=made, timeout_keep_alive=1) as port:
        yield port
    assert (house.count, house.resting) == (0, {})


async def _ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side closes; what it said before."""
    said = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65_536):
                said += more
    return said


async def _trickle(writer: asyncio.StreamWriter, octets: bytes) -> None:
    """Send a byte every 20 ms until nobody listens."""
    with contextlib.suppress(ConnectionError):
        for octet in octets:
            writer.write(bytes([octet]))
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"", id="says nothing"),
        pytest.param(b"\r\n", id="an empty line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost:", id="half a head"),
        pytest.param(GET + b"G", id="half a head after a whole request"),
        pytest.param(GET + b"\r\n", id="an empty line after a whole request"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx", id="a refused body's first byte"),
    ],
)
async def test_a_connection_that_asks_for_nothing_is_closed(first: bytes):
    house = House(100, PATIENCE_S)
    async with listening(house) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        said = await _ended(reader)
        assert (b"200 OK" in said) is (b"\r\n\r\n" in first)
        writer.close()


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-A: ", b"\r\n" * 500, b"GET /" + b"a" * 500])
async def test_a_head_that_trickles_does_not_buy_time_with_every_byte(head: bytes):
    house = House(100, PATIENCE_S)
    async with listening(house) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        trickling = asyncio.create_task(_trickle(writer, head + b"a" * 500))
        began = asyncio.get_running_loop().time()
        assert await _ended(reader) == b""
        assert asyncio.get_running_loop().time() - began < 10 * PATIENCE_S
        trickling.cancel()
        writer.close()


async def test_an_answer_that_nobody_reads_is_given_up_and_its_memory_with_it():
    house = House(100, PATIENCE_S)
    async with listening(house) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            while not house.count:  # noqa: ASYNC110 # the other side says so in no other way
                await asyncio.sleep(0.01)
            while house.count:  # noqa: ASYNC110 # the same
                await asyncio.sleep(0.01)
        writer.close()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n", b"X-A: 1\r\n" * 1000, id="endless headers"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: ", b"a" * 8000, id="one endless header"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a" * 8000, id="one endless name"),
        pytest.param(b"GET /", b"a" * 8000, id="an endless path"),
    ],
)
async def test_a_head_without_an_end_is_refused_at_its_limit(start: bytes, piece: bytes):
    async with listening(House(100)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        ended = asyncio.create_task(_ended(reader))
        writer.write(start)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while not ended.done() and sent < 100 * HEAD_BYTES:
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
                await asyncio.sleep(0.001)
        assert b" 413 " in (await ended)[:20]
        assert sent < 100 * HEAD_BYTES
        writer.close()


async def test_a_full_house_lets_those_in_who_ask_and_those_out_who_do_not():
    house = House(20)
    async with listening(house) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        async with asyncio.timeout(10):
            for _ in range(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(GET)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
                writer.close()
        assert house.count <= 21
        for _, writer in idle:
            writer.close()


async def test_what_is_not_http_is_answered_as_a_problem(house: Served):
    for sent in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"EHLO x\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(sent)
        said = await _ended(reader)
        assert said.startswith(b"HTTP/1.1 400 "), sent
        assert b"application/problem+json" in said
        assert b"x-request-id: req_" in said
        writer.close()


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: +5\r\n",
    ],
)
async def test_a_request_whose_end_can_be_read_in_two_ways_is_refused_and_the_line_closed(
    house: Served, smuggled: bytes
):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(b"POST /health/live HTTP/1.1\r\nHost: x\r\n" + smuggled + b"\r\n0\r\n\r\n" + GET)
    said = await _ended(reader)
    assert said.startswith(b"HTTP/1.1 400 "), said[:100]
    assert said.count(b"HTTP/1.1 ") == 1
    writer.close()
