"""Topics over HTTP: subscribing, listing, leaving."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api

TOPIC = "/v1/topics/release-notes/subscribers"


async def people(api: Api, *ids: str) -> None:
    answer = await api.client().post("/v1/users/batch", json={"users": [{"id": id_} for id_ in ids]})
    assert answer.status_code == 200, answer.text


async def test_a_user_subscribes_is_shown_and_leaves(api: Api):
    client = api.client()
    await people(api, "42")
    assert (await client.get(f"{TOPIC}/42")).status_code == 404
    made = await client.put(f"{TOPIC}/42")
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["topic"], shown["user"]) == ("release-notes", "42")
    again = await client.put(f"{TOPIC}/42")
    assert (again.status_code, again.json()) == (200, shown)
    assert (await client.get(f"{TOPIC}/42")).json() == shown
    gone = await client.delete(f"{TOPIC}/42")
    assert (gone.status_code, gone.json()) == (200, {"topic": "release-notes", "user": "42", "deleted": True})
    assert (await client.delete(f"{TOPIC}/42")).status_code == 404
    assert (await client.get(f"{TOPIC}/42")).json()["type"] == "/errors/not-found"


async def test_many_subscribe_at_once_and_are_listed_page_by_page(api: Api):
    client = api.client()
    ids = [f"u{number:03}" for number in range(7)]
    await people(api, *ids)
    added = await client.post(TOPIC, json={"users": [*ids[:4], ids[0]]})
    assert (added.status_code, added.json()) == (200, {"topic": "release-notes", "added": 4, "unchanged": 0})
    assert (await client.post(TOPIC, json={"users": ids})).json() == {
        "topic": "release-notes",
        "added": 3,
        "unchanged": 4,
    }
    found: list[str] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = (await client.get(TOPIC, params=query)).json()
        found += [one["user"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == ids
    assert (await client.get("/v1/topics/another/subscribers")).json() == {"items": [], "next_cursor": None}
    stolen = await client.get("/v1/topics/another/subscribers", params={"cursor": query["cursor"]})
    assert (stolen.status_code, stolen.json()["errors"][0]["field"]) == (422, "cursor")


async def test_users_who_are_not_stored_are_refused_all_at_once(api: Api):
    client = api.client()
    await people(api, "a", "b")
    answer = await client.post(TOPIC, json={"users": ["a", "nobody", "b", "no\nbody", "nobody"]})
    assert answer.status_code == 422
    faults = [(one["field"], one["code"]) for one in answer.json()["errors"]]
    assert faults == [(f"users[{place}]", "unknown_user") for place in (1, 3, 4)]
    assert (await client.get(TOPIC)).json()["items"] == []
    answer = await client.post(TOPIC, json={"users": ["a", "no\u0000body"]})
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("users[1]", "invalid")]
    for path in (f"{TOPIC}/nobody", f"{TOPIC}/no%00body"):
        answer = await client.put(path)
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"users": []}, "too_short", "users"),
        ({"users": ["a"] * 1001}, "too_many", "users"),
        ({"users": [""]}, "too_short", "users[0]"),
        ({"users": [42]}, "wrong_type", "users[0]"),
        ({"users": ["a"], "topic": "x"}, "unknown_field", "topic"),
        ({}, "required", "users"),
    ],
)
async def test_a_body_that_breaks_the_contract_is_refused(api: Api, body: Any, code: str, field: str):
    answer = await api.client().post(TOPIC, json=body)
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [(field, code)]


@pytest.mark.parametrize("topic", ["%00", "a%0Ab", "x" * 101])
async def test_what_is_no_topic_is_refused_and_not_found(api: Api, topic: str):
    client = api.client()
    await people(api, "42")
    for answer in (
        await client.put(f"/v1/topics/{topic}/subscribers/42"),
        await client.post(f"/v1/topics/{topic}/subscribers", json={"users": ["42"]}),
        await client.get(f"/v1/topics/{topic}/subscribers"),
    ):
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "topic")
    for method in ("GET", "DELETE"):
        assert (await client.request(method, f"/v1/topics/{topic}/subscribers/42")).status_code == 404


@pytest.mark.parametrize("topic", ["a%2Fb", "%C3%A4%F0%9F%98%80", "a%20b%3Fc%23d", "%25", "batch"])
async def test_any_printable_topic_finds_its_way_through_a_path(api: Api, topic: str):
    client = api.client()
    await people(api, "a/42")
    made = await client.put(f"/v1/topics/{topic}/subscribers/a%2F42")
    assert made.status_code == 201, made.text
    assert (await client.get(f"/v1/topics/{topic}/subscribers")).json()["items"] == [made.json()]


async def test_topics_are_written_with_manage_and_read_with_either(api: Api):
    await people(api, "42")
    keys = {scope: api.client(await api.key(scope)) for scope in ("manage", "read", "send")}
    writes = [("PUT", f"{TOPIC}/42", None), ("POST", TOPIC, {"users": ["42"]}), ("DELETE", f"{TOPIC}/42", None)]
    for method, path, body in writes:
        for scope in ("read", "send"):
            assert (await keys[scope].request(method, path, json=body)).status_code == 403
    for method, path, body in writes[:2]:
        assert (await keys["manage"].request(method, path, json=body)).status_code in {200, 201}
    for path in (TOPIC, f"{TOPIC}/42"):
        assert [(await keys[scope].get(path)).status_code for scope in ("manage", "read", "send")] == [200, 200, 403]
    assert (await api.client(None).get(TOPIC)).status_code == 401
    other = api.client(await api.key("manage", project="another"))
    assert (await other.delete(f"{TOPIC}/42")).status_code == 200, "topics are one for all projects"
