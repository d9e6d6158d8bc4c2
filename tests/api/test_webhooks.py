"""`/v1/webhooks`: what may be an endpoint, who may keep one, and what is shown of it."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.router.webhooks import PER_PROJECT
from tests.api.conftest import Api

URL = "https://hooks.example.com/in"
ASKED = {"url": URL, "events": ["delivery.*", "notification.completed", "suppression.created"]}


def secret_of(octets: int) -> str:
    return "whsec_" + base64.b64encode(bytes(octets)).decode()


def faults(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/errors/validation"
    return [(fault["field"], fault["code"]) for fault in answer.json()["errors"]]


async def test_one_is_made_shown_listed_and_deleted(api: Api):
    client = api.client()
    answer = await client.post("/v1/webhooks", json=ASKED)
    assert answer.status_code == 201
    made = answer.json()
    secret = made.pop("secret")
    assert made["id"].startswith("whk_")
    assert (made["project"], made["url"], made["events"], made["enabled"]) == ("default", URL, ASKED["events"], True)
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    path = f"/v1/webhooks/{made['id']}"
    assert (await client.get(path)).json() == made
    assert (await client.get("/v1/webhooks")).json() == {"items": [made], "next_cursor": None}
    deleted = await client.delete(path)
    assert (deleted.status_code, deleted.json()) == (200, {"id": made["id"], "deleted": True})
    for gone in (await client.get(path), await client.delete(path), await client.patch(path, json={"enabled": True})):
        assert (gone.status_code, gone.json()["type"]) == (404, "/errors/not-found")


async def test_the_list_goes_on_from_its_cursor(api: Api):
    client = api.client()
    made = [(await client.post("/v1/webhooks", json=ASKED)).json()["id"] for _ in range(3)]
    first = (await client.get("/v1/webhooks", params={"limit": 2})).json()
    second = (await client.get("/v1/webhooks", params={"cursor": first["next_cursor"]})).json()
    assert [one["id"] for one in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize("scope", ["send", "read", "manage"])
async def test_only_admin_keys_keep_endpoints(api: Api, scope: str):
    client = api.client(await api.key(scope))
    id_ = "whk_" + "0" * 32
    for method, path in (
        ("GET", "/v1/webhooks"),
        ("POST", "/v1/webhooks"),
        ("GET", f"/v1/webhooks/{id_}"),
        ("PATCH", f"/v1/webhooks/{id_}"),
        ("DELETE", f"/v1/webhooks/{id_}"),
        ("POST", f"/v1/webhooks/{id_}/rotate"),
        ("POST", f"/v1/webhooks/{id_}/replay"),
    ):
        assert (await client.request(method, path)).status_code == 403, path
        assert (await api.client(None).request(method, path)).status_code == 401, path


async def test_an_endpoint_belongs_to_the_project_of_the_key_that_made_it(api: Api):
    made = (await api.client(await api.key("admin", project="shop")).post("/v1/webhooks", json=ASKED)).json()
    assert made["project"] == "shop"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/in",
        "https://127.0.0.1/in",
        "http://127.0.0.1:9000/in",
        "https://localhost/in",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://good.example@127.0.0.1/",
        "https://metadata.google.internal/",
        "https://hooks.example.com:22/",
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "javascript:alert(1)",
    ],
)
async def test_an_address_that_may_not_be_called_is_refused(api: Api, url: str):
    answer = await api.client().post("/v1/webhooks", json={**ASKED, "url": url})
    assert faults(answer) == [("url", "not_allowed")]
    assert (await api.client().get("/v1/webhooks")).json()["items"] == []


async def test_every_private_address_is_refused_in_the_same_words(api: Api):
    addresses = ("https://10.1.2.3/", "https://127.0.0.1/", "https://[fe80::1]/", "https://169.254.169.254/")
    answers = [await api.client().post("/v1/webhooks", json={**ASKED, "url": url}) for url in addresses]
    assert len({answer.json()["errors"][0]["message"] for answer in answers}) == 1


async def test_every_fault_is_told_at_once_and_no_secret_is_repeated(api: Api):
    wanted = {"url": "https://10.0.0.1/", "events": ["delivery.sent", "delivery.send", "*.*"], "secret": "whsec_short!"}
    answer = await api.client().post("/v1/webhooks", json=wanted)
    assert faults(answer) == [
        ("url", "not_allowed"),
        ("events[1]", "invalid"),
        ("events[2]", "invalid"),
        ("secret", "invalid"),
    ]
    assert "short!" not in answer.text


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"url": URL}, "events", "required"),
        ({"url": URL, "events": []}, "events", "too_short"),
        ({"events": ["*"]}, "url", "required"),
        ({**ASKED, "name": "x"}, "name", "unknown_field"),
        ({**ASKED, "secret": secret_of(23)}, "secret", "invalid"),
        ({**ASKED, "secret": secret_of(65)}, "secret", "invalid"),
        ({**ASKED, "secret": secret_of(32).removeprefix("whsec_")}, "secret", "invalid"),
    ],
)
async def test_a_body_that_breaks_the_contract_is_refused(api: Api, body: Any, field: str, code: str):
    assert (field, code) in faults(await api.client().post("/v1/webhooks", json=body))


@pytest.mark.parametrize("octets", [24, 64])
async def test_a_callers_own_secret_is_taken(api: Api, octets: int):
    answer = await api.client().post("/v1/webhooks", json={**ASKED, "secret": secret_of(octets)})
    assert (answer.status_code, answer.json()["secret"]) == (201, secret_of(octets))


async def test_a_wider_pattern_swallows_narrower_ones(api: Api):
    for written, kept in (
        (["delivery.sent", "delivery.*", "delivery.*"], ["delivery.*"]),
        (["delivery.sent", "*"], ["*"]),
        (["delivery.sent", "notification.*"], ["delivery.sent", "notification.*"]),
    ):
        answer = await api.client().post("/v1/webhooks", json={"url": URL, "events": written})
        assert answer.json()["events"] == kept


async def test_switching_off_and_on_and_other_events(api: Api):
    client = api.client()
    path = f"/v1/webhooks/{(await client.post('/v1/webhooks', json=ASKED)).json()['id']}"
    off = (await client.patch(path, json={"enabled": False})).json()
    assert (off["enabled"], off["disabled_reason"]) == (False, "by_hand")
    assert off["disabled_at"] is not None
    again = (await client.patch(path, json={"enabled": False})).json()
    assert again == off
    on = (await client.patch(path, json={"enabled": True, "events": ["delivery.bounced"]})).json()
    assert (on["enabled"], on["disabled_reason"], on["disabled_at"]) == (True, None, None)
    assert on["events"] == ["delivery.bounced"]
    assert faults(await client.patch(path, json={"events": ["x"]})) == [("events[0]", "invalid")]
    assert faults(await client.patch(path, json={"url": URL})) == [("url", "unknown_field")]


async def test_secrets_are_shown_once_and_stored_sealed(api: Api):
    client = api.client()
    made = (await client.post("/v1/webhooks", json=ASKED)).json()
    path = f"/v1/webhooks/{made['id']}"
    chosen = await client.post(f"{path}/rotate", json={"secret": secret_of(40)})
    assert (chosen.status_code, chosen.json()["secret"]) == (200, secret_of(40))
    new = (await client.post(f"{path}/rotate")).json()["secret"]
    assert len({made["secret"], secret_of(40), new}) == 3
    for answer in (await client.get(path), await client.get("/v1/webhooks"), await client.patch(path, json={})):
        assert "whsec_" not in answer.text

    def stored(conn: Connection) -> bytes:
        return conn.exec_driver_sql("SELECT secrets FROM webhooks").scalar_one()

    sealed = await api.gateway.store._db.read(stored)
    for secret in (made["secret"], new):
        assert secret.encode() not in sealed
        assert base64.b64decode(secret.removeprefix("whsec_")) not in sealed
    assert faults(await client.post(f"{path}/rotate", json={"secret": "whsec_"})) == [("secret", "invalid")]


async def test_a_replay_begins_no_earlier_than_what_is_kept_and_not_in_the_future(api: Api):
    client = api.client()
    path = f"/v1/webhooks/{(await client.post('/v1/webhooks', json=ASKED)).json()['id']}"
    answer = await client.post(f"{path}/replay", json={"since": "2001-01-01T00:00:00Z"})
    assert answer.status_code == 202
    since, until = (datetime.fromisoformat(answer.json()[name]) for name in ("since", "until"))
    assert (until - since).days == api.context.settings.retention.notifications_days
    assert abs((until - datetime.now(UTC)).total_seconds()) < 60
    assert faults(await client.post(f"{path}/replay", json={"since": "2901-01-01T00:00:00Z"})) == [
        ("since", "out_of_range")
    ]
    assert faults(await client.post(f"{path}/replay", json={"since": "yesterday"}))[0][0] == "since"
    await client.patch(path, json={"enabled": False})
    off = await client.post(f"{path}/replay", json={"since": "2001-01-01T00:00:00Z"})
    assert (off.status_code, off.json()["type"]) == (409, "/errors/conflict")
    missing = await client.post(f"/v1/webhooks/whk_{'0' * 32}/replay", json={"since": "2001-01-01T00:00:00Z"})
    assert missing.status_code == 404


async def test_a_project_has_so_many_and_no_more(api: Api):
    client = api.client()
    for _ in range(PER_PROJECT):
        assert (await client.post("/v1/webhooks", json=ASKED)).status_code == 201
    assert faults(await client.post("/v1/webhooks", json=ASKED)) == [("url", "too_many")]
    assert (await api.client(await api.key("admin", project="b")).post("/v1/webhooks", json=ASKED)).status_code == 201


async def test_no_caller_can_send_as_an_event(api: Api):
    body = {"to": {"webhook": URL}, "content": {"title": "x"}, "category": "_events"}
    assert ("category", "unknown_category") in faults(await api.client().post("/v1/notifications", json=body))
    body = {"to": {"email": "ada@example.com"}, "content": {"title": "x"}, "channels": ["_events"]}
    assert faults(await api.client().post("/v1/notifications", json=body))[0][1] == "unknown_channel"
    assert "_events" not in json.dumps((await api.client().get("/v1/notifications")).json())
