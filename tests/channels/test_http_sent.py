"""Not sent and maybe sent are never confused: every way a connection can fail, with real servers."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import warnings
from functools import partial

import aiohttp.abc
import httpx
import pytest
import uvloop

from channels.contract import Reason, Tools
from channels.http import Answer, MaybeSent, NotSent, Wire, WireSettings, result_of
from channels.http_transport import Connections
from tests.support.http_server import Do, Held, HttpServer, Listener, Reply
from tests.support.tls import make_certificates

TOOLS = Tools(provider="test", now=lambda: 1_795_000_000.0, log=lambda *_, **__: None, random=lambda: 0.5)
SECRET = "s3cret-token"
PERSON = "ada@example.com"
BEFORE = (Do.REFUSE, Do.HANG_UP, Do.NO_HANDSHAKE)
AFTER = (Do.CLOSE, Do.RESET, Do.HALF_HEAD, Do.HALF_BODY, Do.GARBAGE, Do.SILENCE, Do.STALL, Do.ENDLESS_HEAD)


def wire_to(url, *, resolver=None, environ=None, **settings):
    short = {"connect_timeout_s": 1.0, "read_timeout_s": 0.3, "total_timeout_s": 2.0, "connections": 2, **settings}
    return Wire(
        WireSettings(**short),
        TOOLS,
        base_url=url,
        headers={"Authorization": f"Bearer {SECRET}"},
        resolver=resolver,
        environ=environ or {},
    )


async def post(url, *, body=None, **settings):
    wire = wire_to(url, **settings)
    try:
        async with asyncio.timeout(10):
            return await wire.post(f"/send/{SECRET}", json=body or {"to": PERSON})
    finally:
        await wire.aclose()


def assert_says_nothing_private(result, server):
    assert SECRET not in result.detail
    assert PERSON not in result.detail
    assert "127.0.0.1" not in result.detail
    assert str(server.port) not in result.detail
    assert result.detail


# --- not sent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", BEFORE)
async def test_what_fails_before_a_connection_is_ready_is_not_sent(how):
    async with HttpServer(how) as server:
        result = await post(server.url, connect_timeout_s=0.3)
    assert isinstance(result, NotSent)
    assert server.requests == []
    assert_says_nothing_private(result, server)


async def test_a_bad_certificate_is_not_sent_and_a_good_one_is_answered(tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    ours, others = make_certificates(good), make_certificates(bad)
    async with HttpServer(tls=ours.server_context()) as server:
        assert isinstance(await post(server.url, ca_file=str(ours.ca_file)), Answer)
        arrived = len(server.requests)
        untrusted = await post(server.url, ca_file=str(others.ca_file))
        system = await post(server.url)
        unverified = await post(server.url, verify=False)
    assert untrusted == system == NotSent("TLS: the certificate is not trusted")
    assert isinstance(unverified, Answer)
    assert (arrived, len(server.requests)) == (1, 2)


async def test_a_certificate_for_another_name_is_not_sent(tmp_path):
    certificates = make_certificates(tmp_path, hosts=("elsewhere.example.com",))
    async with HttpServer(tls=certificates.server_context()) as server:
        result = await post(server.url, ca_file=str(certificates.ca_file))
    assert isinstance(result, NotSent)
    assert server.requests == []


class Names(aiohttp.abc.AbstractResolver):
    """Answers with what the test says: addresses, an error, or an event to wait for."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = 0

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        self.asked += 1
        if isinstance(self.answer, asyncio.Event):
            await self.answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return [
            {"hostname": host, "host": each, "port": port, "family": socket.AF_INET, "proto": 6, "flags": 0}
            for each in self.answer
        ]

    async def close(self):
        pass


async def test_a_name_that_does_not_resolve_is_not_sent():
    names = Names(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    assert await post("http://nowhere.example", resolver=names) == NotSent("the name does not resolve")


async def test_dns_that_hangs_is_not_sent_after_the_time_to_connect():
    never = asyncio.Event()
    result = await post("http://slow.example", resolver=Names(never), connect_timeout_s=0.2)
    assert result == NotSent("no connection within 0.2 s", Reason.TIMED_OUT)
    never.set()


async def test_a_name_is_dialled_where_it_resolves_to_and_the_host_header_keeps_the_name():
    async with HttpServer() as server:
        result = await post(f"http://api.example.com:{server.port}", resolver=Names(["127.0.0.1"]))
    assert isinstance(result, Answer)
    assert server.requests[0].headers["host"] == f"api.example.com:{server.port}"


async def test_waiting_for_a_free_connection_in_vain_is_not_sent():
    release = asyncio.Event()
    async with HttpServer(Held(release, Reply())) as server:
        wire = wire_to(server.url, connections=1, connect_timeout_s=0.3, read_timeout_s=5, total_timeout_s=5)
        first = asyncio.ensure_future(wire.post("/first"))
        await asyncio.wait_for(server.arrived.wait(), 5)
        second = await wire.post("/second")
        release.set()
        assert isinstance(await first, Answer)
        await wire.aclose()
    assert second == NotSent("no connection within 0.3 s", Reason.TIMED_OUT)
    assert [request.path for request in server.requests] == ["/first"]


async def test_a_closed_wire_sends_nothing():
    async with HttpServer() as server:
        wire = wire_to(server.url)
        await wire.post("/before")
        await wire.aclose()
        await wire.aclose()
        assert isinstance(await wire.post("/after"), NotSent)
        assert [request.path for request in server.requests] == ["/before"]


async def test_a_header_that_cannot_be_written_is_not_sent_and_never_worth_another_try():
    async with HttpServer() as server:
        wire = wire_to(server.url)
        result = await wire.post("/", json={}, headers={"X-Key": "a\r\nX-Evil: b"})
        after = await wire.post("/", json={})
        await wire.aclose()
    assert isinstance(result, NotSent)
    assert result.reason is Reason.MESSAGE_INVALID
    assert isinstance(after, Answer)
    assert len(server.requests) == 1


async def test_a_path_with_line_breaks_cannot_smuggle_a_request():
    async with HttpServer() as server:
        wire = wire_to(server.url)
        await wire.post("/a HTTP/1.1\r\nHost: evil\r\n\r\nPOST /b", json={})
        await wire.aclose()
        assert len(server.requests) <= 1
        assert all(request.path != "/b" for request in server.requests)


# --- maybe sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", AFTER)
async def test_what_fails_after_the_request_went_out_may_have_been_sent(how):
    async with HttpServer(how) as server:
        result = await post(server.url)
        assert isinstance(result, MaybeSent)
        assert len(server.requests) == 1
        assert_says_nothing_private(result, server)


@pytest.mark.parametrize(
    ("how", "words"),
    [(Do.SILENCE, "sent; no answer for 0.2 s"), (Do.STALL, "the answer (HTTP 200) broke off")],
)
async def test_silence_ends_long_before_the_total_time(how, words):
    async with HttpServer(how) as server:
        started = asyncio.get_running_loop().time()
        assert await post(server.url, read_timeout_s=0.2, total_timeout_s=30) == MaybeSent(words)
        assert asyncio.get_running_loop().time() - started < 5


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("how", [Do.CLOSE, Do.RESET])
async def test_nothing_is_ever_sent_a_second_time(method, how):
    # aiohttp does that for these methods where a kept connection breaks.
    async with HttpServer([Reply(), how, Reply()]) as server:
        wire = wire_to(server.url)
        assert isinstance(await wire.request(method, "/"), Answer)
        assert isinstance(await wire.request(method, "/"), MaybeSent)
        await wire.aclose()
        assert len(server.requests) == 2


async def test_a_server_that_closes_without_reading_is_never_called_answered():
    # Whether our bytes were on their way when it closed depends on the moment; both words are true then.
    async with HttpServer(Do.CLOSE_AT_ONCE) as server:
        results = [await post(server.url) for _ in range(20)]
        assert all(isinstance(result, NotSent | MaybeSent) for result in results)
        assert server.requests == []
        assert server.connections == 20


async def test_a_fresh_connection_that_ended_before_it_was_used_is_not_sent():
    listener = socket.create_server(("127.0.0.1", 0))
    closed = asyncio.Event()

    def hang_up(connection, _address):
        connection.close()
        closed.set()

    async def accept_and_close():
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        hang_up(*await loop.sock_accept(listener))

    accepting = asyncio.ensure_future(accept_and_close())
    flights = Connections(size=1, connect_s=1, silence_s=1, total_s=2, idle_s=5, environ={})
    session = flights._open()
    connector = session.connector
    opened = connector._create_connection

    async def slowly(*given, **named):
        protocol = await opened(*given, **named)
        await closed.wait()
        await protocol.closed
        return protocol

    connector._create_connection = slowly
    result = await flights.exchange(
        "POST", f"http://127.0.0.1:{listener.getsockname()[1]}/", headers={}, body=b"{}", limit=1024
    )
    await accepting
    await flights.aclose()
    listener.close()
    assert result == NotSent("the connection ended before anything was sent")


async def test_an_answer_that_trickles_ends_with_the_total_time():
    async with HttpServer(Do.TRICKLE) as server:
        started = asyncio.get_running_loop().time()
        result = await post(server.url, read_timeout_s=1.0, total_timeout_s=0.5)
        took = asyncio.get_running_loop().time() - started
    assert result == MaybeSent("the answer (HTTP 200) broke off")
    assert 0.4 < took < 3


async def test_a_large_body_that_nobody_reads_may_have_been_sent_when_the_time_is_over():
    async def look_away(_reader, _writer):
        await asyncio.Event().wait()

    async with Listener(look_away) as server:
        wire = wire_to(f"http://127.0.0.1:{await server.start('127.0.0.1', 0, limit=1024)}", total_timeout_s=0.5)
        result = await wire.post("/", content=b"x" * 20_000_000)
        await wire.aclose()
    assert isinstance(result, MaybeSent)


async def test_a_large_body_arrives_whole():
    body = bytes(range(256)) * 12_000
    async with HttpServer() as server:
        wire = wire_to(server.url)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert isinstance(await wire.post("/", content=body), Answer)
        await wire.aclose()
        assert server.requests[0].body == body


async def test_an_answer_before_the_body_was_read_is_the_answer_and_ends_the_connection():
    async def refuse_early(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with Listener(refuse_early) as server:
        wire = wire_to(f"http://127.0.0.1:{await server.start('127.0.0.1', 0, limit=1024)}", connections=1)
        for _ in range(2):  # the second finds a free slot
            result = await asyncio.wait_for(wire.post("/", content=b"x" * 20_000_000), 5)
            assert isinstance(result, Answer)
            assert result.status == 413
        await wire.aclose()


# --- kept connections -----------------------------------------------------------------------------------------------


async def test_connections_are_kept():
    async with HttpServer() as server:
        wire = wire_to(server.url)
        for _ in range(5):
            await wire.post("/", json={})
        await wire.aclose()
        assert server.connections == 1


async def test_connections_with_tls_are_kept_and_replaced_too(tmp_path):
    certificates = make_certificates(tmp_path)
    async with HttpServer(tls=certificates.server_context()) as server:
        wire = wire_to(server.url, ca_file=str(certificates.ca_file))
        for _ in range(5):
            await wire.post("/", json={})
        assert server.connections == 1
        server.cut()
        await asyncio.wait_for(server.left.wait(), 5)
        assert isinstance(await wire.post("/", json={}), Answer)
        await wire.aclose()
        assert (server.connections, len(server.requests)) == (2, 6)


async def test_kept_connections_that_the_server_closed_are_replaced_unseen():
    async with HttpServer() as server:
        wire = wire_to(server.url, connections=4)
        await asyncio.gather(*[wire.post("/", json={}) for _ in range(4)])
        opened = server.connections
        server.cut()
        results = await asyncio.gather(*[wire.post("/again", json={}) for _ in range(4)])
        await wire.aclose()
        assert all(isinstance(result, Answer) for result in results)
        assert len(server.requests) == 8
        assert server.connections > opened


async def test_a_close_that_our_loop_has_not_heard_of_yet_is_noticed_before_writing():
    # The server's end is closed by hand and no turn of the loop lets asyncio see it: only the kernel knows.
    async with HttpServer() as server:
        wire = wire_to(server.url, connections=1)
        await wire.post("/", json={})
        raw = next(iter(server._writers)).get_extra_info("socket")
        with socket.socket(fileno=os.dup(raw.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
        result = await wire.post("/again", json={})
        await wire.aclose()
        assert isinstance(result, Answer)
        assert [request.path for request in server.requests] == ["/", "/again"]
        assert server.connections == 2


async def test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one():
    # Load balancers say 408 on idle connections; what lies in wait must not become another message's answer.
    async with HttpServer(Reply(200)) as server:
        wire = wire_to(server.url, connections=1)
        await wire.post("/", json={})
        writer = next(iter(server._writers))
        writer.write(Reply(408).octets())
        await writer.drain()
        result = await wire.post("/again", json={})
        await wire.aclose()
        assert isinstance(result, Answer)
        assert result.status == 200


async def test_idle_connections_are_closed_by_us():
    async with HttpServer() as server:
        wire = wire_to(server.url, idle_s=0.05)
        await wire.post("/", json={})
        assert server.open == 1
        await asyncio.wait_for(server.left.wait(), 5)
        assert server.open == 0
        await wire.aclose()


async def test_cancelled_requests_lose_no_slot():
    release = asyncio.Event()
    async with HttpServer(lambda _request: Reply() if release.is_set() else Held(release, Reply())) as server:
        wire = wire_to(server.url, connections=3, read_timeout_s=5, total_timeout_s=5)
        for _ in range(20):
            batch = [asyncio.ensure_future(wire.post("/", json={})) for _ in range(6)]
            await asyncio.wait_for(server.arrived.wait(), 5)
            server.arrived.clear()
            for request in batch:
                request.cancel()
            results = await asyncio.gather(*batch, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
        release.set()
        results = await asyncio.gather(*[wire.post("/", json={}) for _ in range(9)])
        assert all(isinstance(result, Answer) for result in results)
        await wire.aclose()


async def test_a_closed_wire_leaves_nothing_open():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        async with HttpServer([Reply(), Do.CLOSE, Reply()]) as server:
            wire = wire_to(server.url)
            for _ in range(3):
                await wire.post("/", json={})
            await wire.client.get("/")
            await wire.aclose()
            del wire
            gc.collect()
        assert [str(each.message) for each in seen if issubclass(each.category, ResourceWarning)] == []


# --- the httpx client for SDKs --------------------------------------------------------------------------------------


async def test_the_httpx_client_shares_the_connections_and_the_headers():
    async with HttpServer(Reply(201, {"X-Rate": "5"}, json={"id": "m1"})) as server:
        wire = wire_to(server.url, connections=1)
        await wire.post("/ours", json={})
        answer = await wire.client.post("/theirs", data={"To": "x", "Body": "ü & y"}, auth=("user", "password"))
        await wire.aclose()
    assert (answer.status_code, answer.json(), answer.headers["x-rate"]) == (201, {"id": "m1"}, "5")
    assert server.connections == 1
    assert server.requests[1].form() == {"To": "x", "Body": "ü & y"}
    assert server.requests[1].headers["authorization"].startswith("Basic ")
    assert server.requests[1].headers["user-agent"] == "notification-gateway"


@pytest.mark.parametrize(
    ("how", "expected"),
    [(Do.REFUSE, NotSent), (Do.HANG_UP, NotSent), (Do.CLOSE, MaybeSent), (Do.HALF_BODY, MaybeSent)],
)
async def test_the_httpx_client_does_not_confuse_them_either(how, expected):
    async with HttpServer(how) as server:
        wire = wire_to(server.url)
        with pytest.raises(httpx.RequestError) as caught:
            await wire.client.post("/", json={"to": PERSON})
        await wire.aclose()
    result = result_of(caught.value)
    assert isinstance(result, expected)
    assert_says_nothing_private(result, server)


async def test_the_httpx_client_neither_follows_redirects_nor_keeps_cookies_nor_reads_without_end():
    answers = [Reply(302, {"Location": "/elsewhere", "Set-Cookie": "a=b"}), Reply(), Do.ENDLESS_BODY]
    async with HttpServer(answers) as server:
        wire = wire_to(server.url)
        assert (await wire.client.get("/")).status_code == 302
        assert (await wire.client.get("/again")).status_code == 200
        with pytest.raises(httpx.ReadError):
            await wire.client.get("/endless")
        await wire.aclose()
        assert [request.path for request in server.requests] == ["/", "/again", "/endless"]


# --- the other event loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "scenario",
    [
        *(partial(test_what_fails_before_a_connection_is_ready_is_not_sent, how) for how in BEFORE),
        *(partial(test_what_fails_after_the_request_went_out_may_have_been_sent, how) for how in AFTER),
        test_a_fresh_connection_that_ended_before_it_was_used_is_not_sent,
        test_kept_connections_that_the_server_closed_are_replaced_unseen,
        test_a_close_that_our_loop_has_not_heard_of_yet_is_noticed_before_writing,
        test_an_answer_nobody_asked_for_is_not_taken_for_the_next_one,
        test_an_answer_before_the_body_was_read_is_the_answer_and_ends_the_connection,
        test_cancelled_requests_lose_no_slot,
        test_a_large_body_arrives_whole,
    ],
    ids=lambda scenario: getattr(scenario, "__name__", None) or scenario.args[0],
)
def test_the_same_holds_on_the_loop_that_the_gateway_runs_on(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
