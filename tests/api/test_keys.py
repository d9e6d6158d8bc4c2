"""Keys: who is let in, what each scope opens, and the life of a key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.api.app import operations
from gateway.api.authentication import Authentication
from gateway.clock import Clock
from tests.api.conftest import ADMIN, Api

SCOPES = ("send", "read", "manage", "admin")


async def test_a_key_is_shown_once_and_works(api: Api):
    client = api.client()
    body = {"name": "shop", "mode": "live", "scopes": ["read", "read"], "project": "shop", "rate": "5/s"}
    made = await client.post("/v1/keys", json=body)
    assert made.status_code == 201
    key = made.json()["key"]
    assert key.startswith("ntfg_live_")
    assert (made.json()["scopes"], made.json()["hint"]) == (["read"], key[-4:])
    assert (await api.client(key).get("/v1/notifications")).status_code == 200
    [listed] = (await client.get("/v1/keys")).json()["items"]
    assert "key" not in listed
    assert (listed["name"], listed["project"], listed["rate"]) == ("shop", "shop", "5/s")


async def test_keys_are_listed_newest_first_in_pages(api: Api):
    for _ in range(3):
        await api.key("read")
    client = api.client()
    first = (await client.get("/v1/keys", params={"limit": 2})).json()
    second = (await client.get("/v1/keys", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    ids = [one["id"] for page in (first, second) for one in page["items"]]
    assert len(ids) == 3
    assert ids == sorted(ids, reverse=True)
    assert second["next_cursor"] is None


async def test_a_revoked_key_works_no_more_at_once(api: Api):
    key = await api.key("read")
    client = api.client(key)
    assert (await client.get("/v1/notifications")).status_code == 200
    [listed] = (await api.client().get("/v1/keys")).json()["items"]
    revoked = await api.client().delete(f"/v1/keys/{listed['id']}")
    assert (revoked.status_code, revoked.json()) == (200, {"id": listed["id"], "revoked": True})
    assert (await client.get("/v1/notifications")).status_code == 401
    assert (await api.client().delete(f"/v1/keys/{listed['id']}")).status_code == 200
    assert (await api.client().delete("/v1/keys/key_" + "0" * 32)).status_code == 404


class HandClock(Clock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0

    def __call__(self) -> int:
        return super().__call__() + self.ahead


async def test_a_key_revoked_elsewhere_works_no_more_after_five_seconds(api: Api):
    clock = HandClock()
    elsewhere = api.with_context(
        clock=clock,
        authentication=Authentication(api.gateway.store, api.context.settings.limits, None),
    )
    key = await api.key("read")
    client = elsewhere.client(key)
    assert (await client.get("/v1/notifications")).status_code == 200
    [listed] = (await api.client().get("/v1/keys")).json()["items"]
    await api.client().delete(f"/v1/keys/{listed['id']}")
    assert (await client.get("/v1/notifications")).status_code == 200
    clock.ahead = 5001
    answer = await client.get("/v1/notifications")
    assert (answer.status_code, answer.json()["detail"]) == (401, "This API key was revoked.")


async def test_an_expired_key_is_refused_even_while_it_is_believed(api: Api):
    clock = HandClock()
    later = api.with_context(clock=clock)
    expires_at = datetime.fromtimestamp((clock() + 2000) / 1000, UTC).isoformat()
    client = later.client(await api.key("read", expires_at=expires_at))
    assert (await client.get("/v1/notifications")).status_code == 200
    clock.ahead = 2001
    answer = await client.get("/v1/notifications")
    assert (answer.status_code, answer.json()["detail"]) == (401, "This API key has expired.")


async def test_the_last_use_of_a_key_is_written_down(api: Api):
    key = await api.key("read")
    await api.client(key).get("/v1/notifications")
    await api.context.authentication.flush_used()
    [listed] = (await api.client().get("/v1/keys")).json()["items"]
    assert listed["last_used_at"] is not None


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", f"Token {ADMIN}", f"Bearer {ADMIN}x", "Bearer ä" * 90],
)
async def test_without_a_good_key_it_is_a_401(api: Api, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = await api.client(None).get("/v1/notifications", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, "/errors/unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_in_the_query_string_is_not_taken(api: Api):
    for name in ("key", "api_key", "access_token", "authorization"):
        answer = await api.client(None).get("/v1/notifications", params={name: ADMIN})
        assert answer.status_code == 401


async def test_the_scheme_is_case_insensitive(api: Api):
    answer = await api.client(None).get("/v1/notifications", headers={"Authorization": f"bEARER  {ADMIN} "})
    assert answer.status_code == 200


async def test_each_scope_opens_what_the_table_says_and_nothing_else(api: Api):
    keys = {scope: await api.key(scope, rate="100000/s") for scope in SCOPES}
    for operation in operations():
        if operation.open:
            continue
        path = operation.path.replace("{id}", "x").replace("{key}", "x").replace("{channel}/{address}", "email/x")
        params = {"timeout_s": 0} if operation.id == "waitForCaptured" else {}
        for scope in SCOPES:
            answer = await api.client(keys[scope]).request(operation.method, path, params=params)
            allowed = scope == "admin" or scope in operation.scopes
            assert (answer.status_code != 403) is allowed, (operation.id, scope, answer.text)
            assert answer.status_code < 500, (operation.id, answer.text)
        assert (await api.client(None).request(operation.method, path)).status_code == 401, operation.id


async def test_the_scopes_are_the_promised_ones():
    scopes = {operation.id: set(map(str, operation.scopes)) for operation in operations() if not operation.open}
    assert scopes["sendNotification"] == scopes["explainNotification"] == scopes["cancelNotification"] == {"send"}
    assert scopes["getNotification"] == scopes["listCaptured"] == scopes["getStats"] == {"read"}
    assert scopes["addSuppression"] == scopes["deleteSuppression"] == {"manage"}
    assert scopes["createKey"] == scopes["listKeys"] == scopes["revokeKey"] == {"admin"}
    assert all(scopes.values())


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"name": ""}, "name", "too_short"),
        ({"mode": "dead"}, "mode", "invalid"),
        ({"scopes": []}, "scopes", "too_short"),
        ({"scopes": ["all"]}, "scopes[0]", "invalid"),
        ({"project": "a b"}, "project", "invalid"),
        ({"rate": "many"}, "rate", "invalid"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at", "out_of_range"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at", "invalid"),
    ],
)
async def test_a_wrong_key_request_is_named(api: Api, change, field, code):
    body = {"name": "shop", "mode": "live", "scopes": ["read"], **change}
    answer = await api.client().post("/v1/keys", json=body)
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [(field, code)]
