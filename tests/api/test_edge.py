"""What every answer carries, whatever it is; and that no fault escapes as anything but a problem document."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from functools import partial
from typing import Any

import pytest

from gateway.api.problems import problem_reply
from gateway.bootstrap.connections import Connection, House
from gateway.errors import PROBLEM_TYPES, Problem
from gateway.storage.contract import StoreUnavailable
from tests.api.conftest import ADMIN, Api
from tests.support.serving import served

SEND = "/v1/notifications"


async def test_every_answer_carries_a_request_id_and_safe_headers(api: Api, email):
    client = api.client()
    for method, url, kwargs in [
        ("GET", "/", {}),
        ("GET", "/nope", {}),
        ("PUT", SEND, {}),
        ("POST", SEND, {"json": email()}),
        ("POST", SEND, {"content": b"{"}),
        ("GET", "/schema", {}),
        ("GET", "/metrics", {}),
    ]:
        answer = await client.request(method, url, **kwargs)
        headers = answer.headers
        assert re.fullmatch("req_[0-9a-f]{24}", headers["x-request-id"]), url
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-eval" not in headers["content-security-policy"]
        assert ("no-store" in headers["cache-control"]) is (url != "/schema")


async def test_the_callers_own_request_id_is_given_back(api: Api):
    client = api.client()
    answer = await client.get("/nope", headers={"X-Request-Id": "trace-7f"})
    assert (answer.headers["x-request-id"], answer.json()["request_id"]) == ("trace-7f", "trace-7f")
    for bad in (b"", b"x" * 129, b"a b", "ä".encode(), b"a\tb"):
        answer = await client.get("/nope", headers=[(b"X-Request-Id", bad)])
        assert answer.headers["x-request-id"].startswith("req_"), bad


async def test_a_path_that_is_no_route_is_a_404_problem(api: Api):
    for path in ("/nope", "/v1", "/v1/nope", "/v1/notifications/x/y/z", "/schema/../etc/passwd", "/schema/swagger-ui"):
        answer = await api.client().get(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found"), path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_method_that_is_none_is_a_405_that_lists_the_others(api: Api):
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        answer = await api.client().request(method, SEND)
        assert answer.status_code == 405, method
        assert answer.json()["type"] == "/errors/method-not-allowed"
        assert answer.headers["allow"] == "GET, HEAD, POST"


async def test_head_is_get_without_a_body(api: Api):
    client = api.client()
    for url in (SEND, "/health/live", "/nope", f"{SEND}/ntf_{'0' * 32}"):
        head, get = await client.head(url), await client.get(url)
        assert head.status_code == get.status_code
        if url != "/nope":
            assert head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]


async def test_a_wrong_media_type_is_a_415(api: Api):
    answer = await api.client().post(SEND, content=b"{}", headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.json()["type"]) == (415, "/errors/unsupported-media-type")


async def test_an_unknown_query_parameter_is_refused_everywhere(api: Api, email):
    answer = await api.client().post(SEND, json=email(), params={"dry_run": "1"})
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("dry_run", "unknown_field")]


class Heard:
    """A log that is remembered."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append((level, event, fields))


class Failing:
    """An `Accepting` that raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def send(self, *_: Any, **__: Any) -> Any:
        raise self.error


async def test_an_unexpected_fault_is_a_500_that_tells_nothing(api: Api, email):
    heard = Heard()
    broken = api.with_context(accepting=Failing(RuntimeError("secret detail of ada@example.com")), log=heard)
    answer = await broken.client().post(SEND, json=email(), headers={"X-Request-Id": "trace-1"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/errors/internal")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    [failed] = [line for line in heard.lines if line[1] == "request_failed"]
    assert (failed[0], failed[2]["request_id"]) == ("error", "trace-1")
    assert isinstance(failed[2]["exc_info"], RuntimeError)


async def test_an_unavailable_store_is_a_503_that_says_when_to_come_back(api: Api, email):
    broken = api.with_context(accepting=Failing(StoreUnavailable("disk full at /secret/path")))
    answer = await broken.client().post(SEND, json=email())
    assert (answer.status_code, answer.json()["type"], answer.json()["retryable"]) == (503, "/errors/unavailable", True)
    assert int(answer.headers["retry-after"]) >= 1
    assert "secret" not in answer.text


async def test_every_problem_type_of_the_table_has_the_promised_form(api: Api):
    for type_ in PROBLEM_TYPES:
        document = json.loads(problem_reply(Problem(type_, "detail"), "req_1").body)
        assert set(document) == {"type", "title", "status", "detail", "request_id", "retryable", "errors"}
        assert (document["type"], document["status"]) == (f"/errors/{type_.slug}", type_.status)


async def test_health_says_what_is_wrong(api: Api):
    client = api.client(None)
    assert (await client.get("/health/live")).json() == {"status": "live"}
    assert (await client.get("/health/ready")).json() == {"status": "ready"}
    api.trouble.append("the dispatcher has stopped")
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["detail"]) == (503, "the dispatcher has stopped")
    assert (await client.get("/health/live")).status_code == 200


async def test_metrics_count_routes_and_never_paths(api: Api):
    client = api.client(None)
    await client.get("/v1/notifications/ntf_secret")
    await client.get("/secret-path")
    await client.request("BREW", "/secret-path")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'route="/v1/notifications/{id}",status="401"' in answer.text
    assert 'route="unmatched",status="404"' in answer.text
    assert "secret" not in answer.text
    assert "BREW" not in answer.text


async def test_refusals_are_logged_with_the_route_and_never_the_path(api: Api):
    heard = Heard()
    client = api.with_context(log=heard).client(None)
    await client.get("/v1/notifications/ntf_secret?token=secret", headers={"X-Request-Id": "trace-2"})
    [(level, event, fields)] = heard.lines
    assert (level, event, fields["request_id"], fields["route"], fields["status"]) == (
        "info",
        "request",
        "trace-2",
        "/v1/notifications/{id}",
        401,
    )
    assert "secret" not in str(fields)


async def test_the_page_loads_nothing_from_outside(api: Api):
    client = api.client(None)
    page = await client.get("/schema")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sources
    for source in sources:
        assert source.startswith("/schema/"), source
        assert (await client.get(source)).status_code == 200, source
    assert "<script>" not in page.text


async def test_a_file_that_the_browser_has_is_not_sent_again(api: Api):
    client = api.client(None)
    first = await client.get("/schema/swagger-ui.css")
    again = await client.get("/schema/swagger-ui.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.fixture
async def port(api: Api):
    """The API on a real socket."""
    made: Any = partial(Connection, house=House(100), request_id=lambda: "req_1")
    async with served(api.app, http=made) as port:
        yield port


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)


def _head(*more: str) -> bytes:
    lines = ["POST /v1/notifications HTTP/1.1", "Host: x", f"Authorization: Bearer {ADMIN}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_body_declared_too_large_is_refused_before_it_is_sent(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        writer.write(_head("Content-Type: application/json", "Content-Length: 99999999999"))
        status, _, body = await _answer(reader)
    assert (status, body["type"]) == (413, "/errors/too-large")
    writer.close()


async def test_after_a_refused_body_the_connection_goes_on(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = _head("Content-Type: application/json", "Content-Length: 2000000")
    async with asyncio.timeout(10):
        writer.write(head.replace(b"/v1/notifications", b"/v1/templates/welcome/preview", 1))
        status, headers, _ = await _answer(reader)
        writer.write(b" " * 2_000_000 + b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        after, _, body = await _answer(reader)
    assert (status, "connection" in headers) == (413, False)
    assert (after, body) == (200, {"status": "live"})
    writer.close()


async def test_an_endless_chunked_body_is_refused_and_its_sender_cut_off_in_the_end(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    sent = 0
    async with asyncio.timeout(20):
        writer.write(_head("Content-Type: application/json", "Transfer-Encoding: chunked"))
        answer = asyncio.create_task(_answer(reader))
        with contextlib.suppress(ConnectionError):
            while sent < 100:
                writer.write(chunk)
                await writer.drain()
                sent += 1
        status, _, body = await answer
    assert (status, body["type"]) == (413, "/errors/too-large")
    assert 16 <= sent < 100
    writer.close()


async def test_an_unauthorised_body_is_not_read(port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        writer.write(b"POST /v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        status, _, body = await _answer(reader)
    assert (status, body["type"]) == (401, "/errors/unauthorized")
    writer.close()


async def test_a_caller_who_hangs_up_in_mid_body_leaves_no_error(port: int, api: Api):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head("Content-Type: application/json", "Content-Length: 1000") + b'{"to"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        labels = {"route": "/v1/notifications", "method": "POST", "status": "499"}
        while api.gateway.metrics.value("gateway_http_requests_total", labels) != 1:  # noqa: ASYNC110 # nobody else is told
            await asyncio.sleep(0.01)
