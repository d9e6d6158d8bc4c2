"""How requests come and answers leave: in one piece where they can, a stream's head at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from gateway.api.exchange import LINE, AsgiApp, Line, Receive, Scope, Send
from gateway.bootstrap.connections import Connection, House
from tests.support.serving import served


class Writes:
    """A transport that counts how often it is written to, and passes everything on."""

    def __init__(self, transport: asyncio.Transport, sizes: list[int]) -> None:
        self._transport = transport
        self._sizes = sizes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._sizes.append(len(data))
        self._transport.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        whole = b"".join(pieces)
        self._sizes.append(len(whole))
        self._transport.write(whole)


class Counted(Connection):
    def __init__(self, sizes: list[int], **more: Any) -> None:
        super().__init__(**more)
        self._sizes = sizes

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(Writes(transport, self._sizes))  # type: ignore[arg-type] # passes for one


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the path says: a body, no body, or a stream whose pieces come when somebody asks for them."""
    match scope["path"]:
        case "/stream":
            headers = [(b"transfer-encoding", b"chunked")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while b"never" in scope["query_string"] and (await receive())["type"] != "http.disconnect":
                pass
            await asyncio.sleep(0)
            for piece in (b"one", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/none":
            await send({"type": "http.response.start", "status": 204, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
        case _:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say the body again, by the line alone; by ASGI's messages, and in capitals, where the line cannot."""
    line: Line = scope[LINE]
    body = line.take()
    if body is not None:
        assert line.say(200, b"content-length: %d\r\n" % len(body), body)
        assert not line.say(200, b"content-length: 0\r\n", b""), "an answer is said once"
        assert (await receive())["type"] == "http.disconnect", "there is nothing more to come"
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.upper()})


async def asked(requests: bytes, *, ends: bytes, app: AsgiApp = answer) -> tuple[bytes, list[int]]:
    """Send requests over one connection and read until `ends`; answers what came, and the sizes of the writes."""
    sizes: list[int] = []
    made: Any = partial(Counted, sizes, house=House(100), request_id=lambda: "req_1")
    async with served(app, http=made) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(requests)
        said = await reader.readuntil(ends)
        writer.close()
    return said, sizes


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_head_and_body_leave_in_one_piece(more):
    said, sizes = await asked(b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n" % more, ends=b"ok")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert sizes == [len(said)]


@pytest.mark.parametrize("request_line", [b"HEAD / HTTP/1.1", b"GET /none HTTP/1.1"])
@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_a_head_without_a_body_leaves_as_well(request_line, more):
    said, _ = await asked(b"%b\r\nHost: x\r\n%b\r\n" % (request_line, more), ends=b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 20")


async def test_what_was_asked_in_one_go_is_answered_in_order():
    requests = (
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    said, _ = await asked(requests, ends=b"ok")
    assert [line for line in said.split(b"\r\n") if line.startswith(b"HTTP")] == [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 200 OK",
    ]


async def test_a_streams_head_does_not_wait_for_its_first_piece():
    said, _ = await asked(b"GET /stream?never HTTP/1.1\r\nHost: x\r\n\r\n", ends=b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_streams_pieces_leave_one_by_one():
    said, sizes = await asked(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", ends=b"0\r\n\r\n")
    assert said.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert len(sizes) == 4


def post(body: bytes, more: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n%b" % (len(body), more, body)


async def test_what_comes_in_one_piece_is_answered_in_one():
    said, sizes = await asked(post(b"one") + post(b"") + post(b"two"), ends=b"two", app=echo)
    [_, first, second, third] = said.split(b"HTTP/1.1 200 OK\r\n")
    assert (first[-3:], second[-4:], third[-3:]) == (b"one", b"\r\n\r\n", b"two")
    assert b"date: " in first
    assert b"connection: close" not in said
    assert len(sizes) == 3


@pytest.mark.parametrize("request_", [post(b"one", b"Connection: close\r\n"), post(b"one").replace(b"/1.1", b"/1.0")])
async def test_a_line_that_is_not_kept_is_closed_after_the_answer(request_):
    sizes: list[int] = []
    made: Any = partial(Counted, sizes, house=House(100), request_id=lambda: "req_1")
    async with served(echo, http=made) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request_)
        said = await reader.read()
        writer.close()
    assert said.endswith(b"connection: close\r\n\r\none")
    assert sizes == [len(said)]


async def test_a_body_that_comes_late_or_is_waited_for_goes_the_long_way():
    made: Any = partial(Counted, [], house=House(100), request_id=lambda: "req_1")
    async with served(echo, http=made) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"", b"Expect: 100-continue\r\n").replace(b"Length: 0", b"Length: 3"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"two")
        assert (await reader.readuntil(b"TWO")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.write(post(b"one"))
        assert (await reader.readuntil(b"one")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
