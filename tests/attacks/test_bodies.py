"""Bodies that are not what they should be, at every operation that takes one: refused at once, and never a 500."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import time
import zlib
from typing import Any

import pytest

from gateway.api.operation import Operation
from tests.attacks.conftest import House, a_send
from tests.attacks.every_operation import EVERY, path_of
from tests.support.gateway import ADMIN

TAKERS = [one for one in EVERY if one.body is not None]
AUTHORISED = {"Authorization": f"Bearer {ADMIN}"}
JSON = {**AUTHORISED, "Content-Type": "application/json"}

NO_JSON: dict[str, bytes] = {
    "NaN": b'{"data": {"x": NaN}}',
    "infinity": b'{"data": {"x": -Infinity}}',
    "a number too large": b'{"data": {"x": 1e999}}',
    "an integer without end": b'{"data": {"x": ' + b"9" * 5000 + b"}}",
    "a lone surrogate": b'{"reference": "\\ud800"}',
    "a surrogate pair the wrong way round": b'{"reference": "\\udc00\\ud800"}',
    "a surrogate in UTF-8": b'{"reference": "\xed\xa0\x80"}',
    "overlong UTF-8": b'{"reference": "\xc0\xaf"}',
    "Latin-1": '{"reference": "é"}'.encode("latin-1"),
    "UTF-16": '{"reference": "e"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NUL, escaped": b'{"reference": "a\\u0000b", "name": "a\\u0000b"}',
    "NUL, bare": b'{"reference": "a\x00b"}',
    "a control character": b'{"reference": "a\x01b"}',
    "too deep, lists": b'{"data": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "too deep, objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "never closed": b"[" * 100_000,
    "two documents": b"{}{}",
    "a scalar": b'"text"',
    "null": b"null",
    "nothing": b" ",
}


def _post(house: House, operation: Operation, body: bytes, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
    try:
        connection.request(operation.method, path_of(operation), body, headers)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(answer.read()), found
    finally:
        connection.close()


@pytest.mark.parametrize("operation", TAKERS, ids=lambda one: one.id)
def test_what_is_no_request_is_refused_with_a_reason(house: House, operation: Operation):
    for name, body in NO_JSON.items():
        status, problem, headers = _post(house, operation, body, JSON)
        assert (status, problem["type"]) in {(400, "/errors/malformed"), (422, "/errors/validation")}, (name, problem)
        assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("operation", TAKERS, ids=lambda one: one.id)
def test_a_packed_body_is_never_unpacked(house: House, operation: Operation):
    bomb = gzip.compress(b" " * 50_000_000)  # 50 MB in 50 kB
    for encoding, body in {
        "gzip": bomb,
        "deflate": zlib.compress(b" " * 1_000_000),
        "br": b"x",
        "identity, gzip": bomb,
    }.items():
        status, problem, _ = _post(house, operation, body, {**JSON, "Content-Encoding": encoding})
        assert (status, problem["type"]) == (415, "/errors/unsupported-media-type"), encoding
    for coding in ("gzip, chunked", "gzip"):
        with socket.create_connection(("127.0.0.1", house.port), timeout=20) as line:
            head = f"{operation.method} {path_of(operation)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
            line.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: {coding}\r\n\r\n".encode())
            line.sendall(b"%x\r\n" % len(bomb) + bomb + b"\r\n0\r\n\r\n")
            assert 400 <= int(line.recv(4096).split(b" ")[1]) < 500, coding


@pytest.mark.parametrize("operation", TAKERS, ids=lambda one: one.id)
def test_a_body_is_taken_only_as_json_which_no_form_of_a_foreign_page_can_send(house: House, operation: Operation):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", ""):
        status, problem, _ = _post(house, operation, b"{}", {**AUTHORISED, "Content-Type": kind})
        assert (status, problem["type"]) == (415, "/errors/unsupported-media-type"), kind


@pytest.mark.parametrize("operation", TAKERS, ids=lambda one: one.id)
def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(house: House, operation: Operation):
    assert operation.body is not None
    limit = 15_728_640 if operation.body.attachments else 1_048_576
    status, problem, _ = _post(house, operation, b" " * (limit + 1), JSON)
    assert (status, problem["type"]) == (413, "/errors/too-large")
    with socket.create_connection(("127.0.0.1", house.port), timeout=20) as line:
        head = f"{operation.method} {path_of(operation)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
        line.sendall(f"{head}Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n".encode())
        # All of it is written before the answer is looked for, as most clients do: it must not be lost to a reset.
        line.sendall(b"%x\r\n" % (limit + 1_000_001) + b" " * (limit + 1_000_001) + b"\r\n0\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_hundred_thousand_recipients_are_refused_quickly_and_nothing_is_stored(house: House):
    before = house.client.get("/v1/stats").json()["items"]
    many = [{"email": f"a{number}@example.com"} for number in range(100_000)]
    began = time.monotonic()
    answer = house.client.post("/v1/notifications", json=a_send(many))
    assert (answer.status_code, {one["code"] for one in answer.json()["errors"]}) == (422, {"too_many"})
    copies = a_send(overrides={"email": {"cc": [one["email"] for one in many]}})
    answer = house.client.post("/v1/notifications", json=copies)
    assert (answer.status_code, {one["code"] for one in answer.json()["errors"]}) == (422, {"too_many"})
    assert time.monotonic() - began < 10
    assert house.client.get("/v1/stats").json()["items"] == before


def test_the_same_address_a_thousand_times_and_in_many_spellings_is_written_to_once(house: House):
    spellings = ["ada@example.com", "ada@EXAMPLE.com", "ada@Example.Com"]
    many = [{"email": spellings[number % len(spellings)]} for number in range(1000)]
    answer = house.client.post("/v1/notifications", json=a_send(many))
    assert answer.status_code == 202, answer.text[:500]
    written_to = [one for one in answer.json()["deliveries"] if one["status"] != "skipped"]
    assert len(written_to) == 1


def test_the_gateway_is_well_after_all_that(house: House):
    assert house.is_well()
