"""People over HTTP: stored whole, listed, many at once, and where they are reached."""

from __future__ import annotations

import pytest

from tests.api.conftest import Api

WHOLE = {
    "name": "Ada Lovelace",
    "email": "Ada@Example.COM",
    "phone": "+1 (555) 010-0001",
    "locale": "en-GB",
    "timezone": "Europe/London",
    "addresses": [{"channel": "mobile_push", "address": "token-of-her-phone", "label": "Pixel 9"}],
    "attributes": {"plan": "pro", "since": {"year": 2024}},
}
SUBSCRIPTION = {
    "endpoint": "https://fcm.googleapis.com/fcm/send/abc",
    "expirationTime": None,
    "keys": {
        "p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",
        "auth": "tBHItJI5svbpez7KI4CCXg",
    },
}


async def test_a_person_is_stored_whole_shown_and_replaced(api: Api):
    client = api.client()
    made = await client.put("/v1/users/42", json=WHOLE)
    assert made.status_code == 201, made.text
    shown = made.json()
    assert {key: shown[key] for key in ("id", "name", "email", "phone", "locale", "timezone", "attributes")} == {
        "id": "42",
        "name": "Ada Lovelace",
        "email": "Ada@example.com",
        "phone": "+15550100001",
        "locale": "en-GB",
        "timezone": "Europe/London",
        "attributes": {"plan": "pro", "since": {"year": 2024}},
    }
    found = {one["channel"]: one for one in shown["addresses"]}
    assert {channel: one["profile"] for channel, one in found.items()} == {
        "email": True,
        "sms": True,
        "mobile_push": False,
    }
    assert found["mobile_push"]["label"] == "Pixel 9"
    assert found["mobile_push"]["id"].startswith("adr_")
    assert (await client.get("/v1/users/42")).json() == shown

    again = await client.put("/v1/users/42", json={"email": "ada@example.com"})
    assert again.status_code == 200
    small = again.json()
    assert (small["name"], small["phone"], small["attributes"]) == (None, None, {})
    assert [one["id"] for one in small["addresses"]] == [found["email"]["id"]]
    assert (small["email"], small["created_at"]) == ("ada@example.com", shown["created_at"])
    assert (await client.get("/v1/users/43")).status_code == 404


@pytest.mark.parametrize("id_", ["a%2Fb", "%C3%A4%F0%9F%98%80", "a%20b%3Fc%23d", "%25", "a%2Fb%2F", "%2F", "a+b@c"])
async def test_any_printable_id_finds_its_way_through_a_path(api: Api, id_: str):
    client = api.client()
    made = await client.put(f"/v1/users/{id_}", json={"email": "a@example.com"})
    assert made.status_code == 201, made.text
    added = await client.post(f"/v1/users/{id_}/addresses", json={"channel": "mobile_push", "address": "t"})
    assert added.status_code == 201, added.text
    shown = (await client.get(f"/v1/users/{id_}")).json()
    assert {one["channel"] for one in shown["addresses"]} == {"email", "mobile_push"}
    assert (await client.delete(f"/v1/users/{id_}/addresses/{added.json()['id']}")).status_code == 200
    [listed] = (await client.get("/v1/users")).json()["items"]
    assert listed["id"] == made.json()["id"] == shown["id"]


@pytest.mark.parametrize("id_", ["%00", "a%0Ab", "%E2%80%A8", "x" * 101])
async def test_what_is_no_id_is_refused_and_not_found(api: Api, id_: str):
    client = api.client()
    answer = await client.put(f"/v1/users/{id_}", json={})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "user_id")
    for path in (f"/v1/users/{id_}", f"/v1/users/{id_}/addresses"):
        assert (await client.get(path)).status_code == 404
    body = {"channel": "mobile_push", "address": "t"}
    assert (await client.post(f"/v1/users/{id_}/addresses", json=body)).status_code == 404


async def test_every_fault_is_listed_with_its_path(api: Api):
    answer = await api.client().put(
        "/v1/users/42",
        json={
            "name": "Ada\r\nBcc: x@example.com",
            "email": "no address",
            "phone": "555",
            "locale": "de_AT",
            "timezone": "Mars/Olympus",
            "addresses": [
                {"channel": "email", "address": "x@"},
                {"channel": "pigeon", "address": "x"},
                {"channel": "slack", "address": "a\nb"},
                {"channel": "mobile_push", "address": {"a": 1}, "label": "a\u2028b"},
                {"channel": "web_push", "address": "text"},
                {"channel": "web_push", "address": {**SUBSCRIPTION, "endpoint": "http://push.example.com/x"}},
                {"channel": "web_push", "address": {**SUBSCRIPTION, "endpoint": "https://127.0.0.1/x"}},
                {"channel": "web_push", "address": {"endpoint": SUBSCRIPTION["endpoint"]}},
                {"channel": "webhook", "address": "https://169.254.169.254/latest"},
                {"channel": "mobile_push", "address": "x" * 2001},
            ],
            "attributes": {"a": "x" * 20_000},
        },
    )
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [
        ("name", "header_injection"),
        ("locale", "invalid"),
        ("timezone", "invalid"),
        ("attributes", "too_long"),
        ("email", "invalid"),
        ("phone", "invalid"),
        ("addresses[0].address", "invalid"),
        ("addresses[1].channel", "unknown_channel"),
        ("addresses[2].address", "header_injection"),
        ("addresses[3].label", "invalid"),
        ("addresses[3].address", "wrong_type"),
        ("addresses[4].address", "wrong_type"),
        ("addresses[5].address", "invalid"),
        ("addresses[6].address", "invalid"),
        ("addresses[7].address", "invalid"),
        ("addresses[8].address", "invalid"),
        ("addresses[9].address", "too_long"),
    ]
    assert "127.0.0.1" not in answer.text
    unknown = await api.client().put("/v1/users/42", json={"mail": "a@example.com"})
    assert [(one["field"], one["code"]) for one in unknown.json()["errors"]] == [("mail", "unknown_field")]


@pytest.mark.parametrize("raw", [b'{"name": "a\\u0000b"}', b'{"name": "\\ud800"}', b'{"attributes": {"a\\u0000": 1}}'])
async def test_what_no_database_can_hold_is_refused(api: Api, raw: bytes):
    headers = {"content-type": "application/json"}
    answer = await api.client().put("/v1/users/42", content=raw, headers=headers)
    assert answer.status_code in {400, 422}, answer.text


async def test_devices_come_and_go(api: Api):
    client = api.client()
    await client.put("/v1/users/42", json={"email": "ada@example.com"})
    body = {"channel": "web_push", "address": SUBSCRIPTION, "label": "Firefox"}
    added = await client.post("/v1/users/42/addresses", json=body)
    assert added.status_code == 201, added.text
    assert added.json()["address"] == SUBSCRIPTION
    again = await client.post("/v1/users/42/addresses", json=body | {"label": "Firefox at work"})
    assert again.json() == added.json() | {"label": "Firefox at work"}
    listed = (await client.get("/v1/users/42/addresses")).json()
    assert [one["channel"] for one in listed["items"]] == ["email", "web_push"]
    assert listed["next_cursor"] is None
    path = f"/v1/users/42/addresses/{added.json()['id']}"
    gone = await client.delete(path)
    assert (gone.status_code, gone.json()) == (
        200,
        {"id": added.json()["id"], "channel": "web_push", "deleted": True},
    )
    assert (await client.delete(path)).status_code == 404
    assert (await client.delete("/v1/users/42/addresses/nonsense")).status_code == 404
    assert (await client.post("/v1/users/43/addresses", json=body)).status_code == 404


async def test_many_are_stored_in_one_call_each_with_its_own_fate(api: Api):
    client = api.client()
    await client.put("/v1/users/u1", json={"email": "old@example.com"})
    users = [{"id": f"u{n}", "email": f"u{n}@example.com"} for n in range(4)]
    users[2] = {"id": "u2", "email": "nonsense", "locale": "!"}
    users[3] = {"email": "no-id@example.com"}
    answer = await client.post("/v1/users/batch", json={"users": users})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [(one["status"], one.get("id")) for one in results] == [(201, "u0"), (200, "u1"), (422, None), (422, None)]
    faults = [[(one["field"], one["code"]) for one in result["error"]["errors"]] for result in results[2:]]
    assert faults == [[("locale", "invalid"), ("email", "invalid")], [("id", "required")]]
    assert (await client.get("/v1/users/u1")).json()["email"] == "u1@example.com"
    thousand = [{"id": f"v{n}", "email": f"v{n}@example.com", "phone": "+15550100001"} for n in range(1000)]
    answer = await client.post("/v1/users/batch", json={"users": thousand})
    assert {one["status"] for one in answer.json()["results"]} == {201}
    for wrong in ([], [{"id": "x"}] * 1001):
        assert (await client.post("/v1/users/batch", json={"users": wrong})).status_code == 422


async def test_people_are_listed_page_by_page_and_found_by_address(api: Api):
    client = api.client()
    for n in range(5):
        body = {"email": f"U{n}@example.com"} | ({"phone": "+15550100001"} if n % 2 else {})
        await client.put(f"/v1/users/u{n}", json=body)
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = (await client.get("/v1/users", params=query)).json()
        seen += [one["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert sorted(seen) == [f"u{n}" for n in range(5)]
    for params, wanted in [
        ({"address": "u3@EXAMPLE.com"}, ["u3"]),
        ({"address": "+1 555 010 0001"}, ["u3", "u1"]),
        ({"channel": "sms"}, ["u3", "u1"]),
        ({"channel": "sms", "address": "u3@example.com"}, []),
        ({"since": "2199-01-01T00:00:00Z"}, []),
    ]:
        answer = (await client.get("/v1/users", params=params)).json()
        assert sorted(one["id"] for one in answer["items"]) == sorted(wanted), params
    assert (await client.get("/v1/users", params={"address": "U123"})).json()["errors"][0]["field"] == "channel"


async def test_a_key_that_may_not_read_sees_addresses_masked_and_one_that_may_not_manage_changes_nothing(api: Api):
    await api.client().put("/v1/users/42", json=WHOLE)
    await api.client().post("/v1/users/42/addresses", json={"channel": "web_push", "address": SUBSCRIPTION})
    manage = api.client(await api.key("manage"))
    read = api.client(await api.key("read", project="other"))
    send = api.client(await api.key("send"))
    shown = (await manage.get("/v1/users/42")).json()
    assert (shown["email"], shown["phone"]) == ("A***@example.com", "+1555***0001")
    assert [one["address"] for one in shown["addresses"]] == [
        "A***@example.com",
        "+1555***0001",
        "toke***",
        {"endpoint": "https://fcm.googleapis.com/***"},
    ]
    stored = await manage.put("/v1/users/42", json={"email": "ada@example.com"})
    assert (stored.status_code, stored.json()["email"]) == (200, "a***@example.com")
    assert (await read.get("/v1/users/42")).json()["email"] == "ada@example.com", "people are shared by all projects"
    assert (await send.get("/v1/users/42")).status_code == 403
    for client in (read, send):
        assert (await client.put("/v1/users/42", json={})).status_code == 403
        assert (await client.post("/v1/users/batch", json={"users": [{"id": "1"}]})).status_code == 403
