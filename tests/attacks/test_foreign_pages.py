"""What a foreign page, a proxy or a link scanner can make a browser ask: it changes nothing and learns nothing."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import httpx
import pytest

from gateway.api.operation import Operation
from tests.attacks.conftest import House, a_send
from tests.attacks.every_operation import EVERY, PARAMETER, path_of

READING = [one for one in EVERY if one.method == "GET"]
# Written by the gateway on its own, whoever asks for what.
_OWN_AFFAIRS = re.compile(r'INSERT INTO "?(?:api_keys|provider_reports|queue|pacing|sqlite_\w+)"?')


def _state(house: House) -> list[str]:
    with sqlite3.connect(house.folder / "state" / "gateway.db") as connection:
        return [line for line in connection.iterdump() if not _OWN_AFFAIRS.match(line)]


@pytest.fixture(scope="module")
def things(house: House) -> dict[str, str]:
    """One of each thing, by the path's beginning."""
    sent = house.client.post("/v1/notifications", json=a_send(reference="reading")).json()
    captured = house.client.get("/v1/captured/wait", params={"reference": "reading", "timeout_s": 20}).json()
    return {
        "/v1/notifications/{id}": sent["id"],
        "/v1/deliveries/{id}": sent["deliveries"][0]["id"],
        "/v1/captured/{id}": captured["id"],
    }


def _params(operation: Operation, things: dict[str, str]) -> dict[str, str]:
    return next(({"id": id_} for path, id_ in things.items() if operation.path.startswith(path)), {})


def test_no_get_and_no_head_changes_anything(house: House, things: dict[str, str]):
    before = _state(house)
    asked = 0
    for operation in READING:
        path = path_of(operation, _params(operation, things))
        query = {"timeout_s": 1} if path.endswith("/wait") else {}
        for method in ("GET", "HEAD"):
            answer = house.client.request(method, path, params=query)
            assert answer.status_code < 500, path
            asked += answer.status_code == 200
    assert asked > len(READING)
    assert _state(house) == before


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_no_header_turns_a_get_into_something_else(house: House, header: str):
    before = _state(house)
    answer = house.client.get("/v1/captured", headers={header: "DELETE"})
    assert answer.status_code == 200
    assert house.client.get("/v1/captured", params={"_method": "DELETE"}).status_code == 422
    assert _state(house) == before


def test_no_answer_invites_a_foreign_page_and_no_cookie_is_ever_set(house: House, things: dict[str, str]):
    foreign = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
        "Cookie": "session=1",
    }
    for operation in EVERY:
        path = path_of(operation, _params(operation, things))
        for method in ("OPTIONS", operation.method) if operation.method == "GET" else ("OPTIONS",):
            query = {"timeout_s": 1} if path.endswith("/wait") else {}
            answer = house.client.request(method, path, headers=foreign, params=query)
            shared = path == "/inbox/notification-inbox.js"  # a file that is everybody's, and knows nobody
            assert shared or not [name for name in answer.headers if name.startswith("access-control-")], path
            assert "set-cookie" not in answer.headers
            assert method != "OPTIONS" or answer.status_code == 405


def test_without_a_key_every_operation_but_the_open_ones_is_closed_wherever_a_key_is_put(house: House):
    key = house.key("send", "read", "manage", "admin")
    assert house.client.get("/v1/keys", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    nobody = house.speaking(None)
    for operation in (one for one in EVERY if not one.open):
        path = path_of(operation)
        for places in (
            {},
            {"params": {"key": key}},
            {"params": {"api_key": key, "access_token": key, "token": key, "authorization": f"Bearer {key}"}},
            {"headers": {"Cookie": f"key={key}; Authorization=Bearer {key}"}},
            {"headers": {"X-API-Key": key}},
            {"headers": {"Authorization": key}},
            {"headers": {"Authorization": f"Basic {key}"}},
        ):
            more: dict[str, Any] = dict(places)
            answer = nobody.request(operation.method, path, **more)
            assert (answer.status_code, answer.json()["type"]) == (401, "/errors/unauthorized"), (path, places)
    assert not [line for line in house.lines if key in line]


def test_the_operations_that_are_open_are_these_and_no_others():
    opened = {one.path for one in EVERY if one.open}
    known = re.compile(
        r"/|/health/(live|ready)|/metrics|/schema(/.*)?|/people/.*|/console(/.*)?|/unsubscribe/.*|/preferences/.*"
        r"|/v1/callbacks/{provider}|/push/.*|/inbox/notification-inbox\.js"
    )
    assert [path for path in sorted(opened) if not known.fullmatch(path)] == []


FORGED: list[dict[str, str]] = [
    {"Host": "evil.example"},
    {"Host": "evil.example:443"},
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example", "X-Forwarded-Prefix": "/evil"},
    {"Forwarded": "for=1.2.3.4;host=evil.example;proto=https"},
    {"X-Original-URL": "/v1/keys", "X-Rewrite-URL": "/v1/keys"},
    {"Origin": "https://evil.example", "Referer": "https://evil.example/"},
]


@pytest.mark.parametrize("forged", FORGED, ids=", ".join)
def test_no_link_in_an_answer_or_a_message_follows_the_request(house: House, forged: dict[str, str]):
    reference = f"host-{FORGED.index(forged)}"
    request = a_send(reference=reference, category="news")
    sent = house.client.post("/v1/notifications", json=request, headers=forged)
    assert sent.status_code == 202, sent.text
    captured = house.client.get("/v1/captured/wait", params={"reference": reference, "timeout_s": 20}).json()
    raw = house.client.get(f"/v1/captured/{captured['id']}", headers=forged)
    page = house.client.get("/schema", headers=forged)
    missing = house.client.get("/nope", headers=forged)
    token = re.search(r"/unsubscribe/([\w.-]+)", raw.text)
    assert token is not None, raw.text[:2000]
    ask = house.client.get(f"/unsubscribe/{token[1]}", headers=forged)
    assert ask.status_code == 200
    for answer in (sent, raw, page, missing, ask):
        assert "evil" not in answer.text
        assert "evil" not in str(answer.headers)


def test_no_forwarded_address_is_believed_from_who_is_no_trusted_proxy(house: House):
    before = len(house.lines)
    for header in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP"):
        answer = house.client.get("/nope", headers={header: "203.0.113.77"})
        assert answer.status_code == 404
    told = house.lines[before:]
    assert told
    assert not [line for line in told if "203.0.113.77" in line]


HOSTILE_LOG = [
    '\n{"event":"attacker"}',
    "\r\n\r\nattacker",
    "\x1b[2K attacker",
    "\u2028attacker",
    "%0aattacker",
    '","event":"attacker',
]


def test_nobody_writes_a_line_of_their_own_into_the_log(house: House):
    for text in HOSTILE_LOG:
        house.client.get(f"/v1/notifications/{httpx.URL('http://x', params={'a': text}).query.decode()[2:]}")
        house.client.post("/v1/keys", json={"name": text, "mode": "live", "scopes": ["read"], "project": text})
        made = house.client.post("/v1/keys", json={"name": text, "mode": "live", "scopes": ["send"]})
        if made.status_code == 201:
            house.client.get("/v1/keys", headers={"Authorization": f"Bearer {made.json()['key']}"})
        house.client.post("/v1/notifications", json=a_send(template=text, reference=text, metadata={"a": text}))
        house.client.post("/v1/callbacks/x", content=text.encode(), headers={"User-Agent": text.strip()[:1] + "a"})
        house.client.get("/nope", headers={"X-Request-Id": re.sub(r"[^!-~]", "", text) or "x"})
    assert len(house.lines) > len(HOSTILE_LOG)
    assert not [
        line for line in house.process.log.read_text().splitlines() if line.lstrip().startswith(("attacker", "\x1b"))
    ]


def test_every_parameter_of_a_path_is_only_that(house: House):
    for operation in (one for one in EVERY if PARAMETER.search(one.path) and one.method == "GET"):
        for text in (
            "..%2f..%2fetc%2fpasswd",
            "%00",
            "%0d%0aX-Evil:1",
            "a" * 5000,
            "%ff%fe",
            "..;/",
            "%2e%2e%2f",
            "'--",
        ):
            values = dict.fromkeys(PARAMETER.findall(operation.path), text)
            answer = house.client.get(path_of(operation, values))
            # Any printable text may name a topic, and nobody is on this one.
            nobody = operation.path == "/v1/topics/{topic}/subscribers" and answer.json().get("items") == []
            assert nobody or answer.status_code in {400, 404, 410, 422}, (operation.path, text, answer.text)
            assert "x-evil" not in answer.headers
