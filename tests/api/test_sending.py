"""`POST /v1/notifications`, `/batch` and `/explain`: the border of sending."""

from __future__ import annotations

import asyncio
import functools
import json

import pytest

from gateway.config.settings import LimitSettings, Rate
from tests.api.conftest import Api, open_api

SEND = "/v1/notifications"


async def test_a_send_is_accepted_and_can_be_read_back(api: Api, email):
    client = api.client()
    answer = await client.post(SEND, json=email(reference="order-1", metadata={"a": 1}, tags=["x"]))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["id"].startswith("ntf_")
    assert body["status"] == "processing"
    assert body["status_url"].endswith(f"/v1/notifications/{body['id']}")
    [delivery] = body["deliveries"]
    assert (delivery["channel"], delivery["address"]) == ("email", "ada@example.com")

    read = (await client.get(f"/v1/notifications/{body['id']}")).json()
    assert (read["id"], read["reference"], read["metadata"], read["tags"]) == (body["id"], "order-1", {"a": 1}, ["x"])
    assert read["counts"] == {delivery["status"]: 1}
    assert [one["id"] for one in read["deliveries"]] == [delivery["id"]]
    one = (await client.get(f"/v1/deliveries/{delivery['id']}")).json()
    assert one["notification_id"] == body["id"]


async def test_the_same_key_and_body_give_the_first_answer_again(api: Api, email):
    client = api.client()
    headers = {"Idempotency-Key": "order-1842"}
    first = await client.post(SEND, json=email(), headers=headers)
    again = await client.post(SEND, json=email(), headers=headers)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (202, first.content)

    other = await client.post(SEND, json=email(reference="other"), headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/errors/idempotency-key-reused")
    assert other.json()["errors"][0]["code"] == "idempotency_key_reused"


async def test_fifty_at_once_under_one_key_are_one_notification(api: Api, email):
    client = api.client()
    headers = {"Idempotency-Key": "at once"}
    answers = await asyncio.gather(*[client.post(SEND, json=email(), headers=headers) for _ in range(50)])
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49


@pytest.mark.parametrize(
    ("key", "code"),
    [(b"", "too_short"), (b"k" * 256, "too_long"), (b"k\xff", "invalid"), (b"k\tk", "invalid")],
)
async def test_a_wrong_idempotency_key_is_named(api: Api, email, key, code):
    answer = await api.client().post(SEND, json=email(), headers=[(b"Idempotency-Key", key)])
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("Idempotency-Key", code)]


async def test_a_bad_item_of_a_batch_does_not_sink_the_others(api: Api, email):
    batch = [
        email(reference="good", idempotency_key="b1"),
        email(unknown=1),
        email(to="no address"),
        {"to": {"email": "a@example.com"}, "template": "no-such-template"},
        7,
        email(data={"a": "\0"}),
        email(data={"a": functools.reduce(lambda inner, _: [inner], range(70), 1)}),
        email(reference="good", idempotency_key="b1"),
    ]
    answer = await api.client().post(f"{SEND}/batch", json={"notifications": batch})
    assert answer.status_code == 202, answer.text
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [202, 422, 422, 422, 422, 422, 400, 202]
    assert results[0]["notification_status"] == "processing"
    assert results[0]["reference"] == "good"
    assert results[1]["error"]["errors"][0] == {
        "field": "unknown",
        "code": "unknown_field",
        "message": "There is no such field.",
    }
    assert results[3]["error"]["errors"][0]["code"] == "unknown_template"
    assert results[5]["error"]["errors"][0]["field"] == "data.a"
    assert results[-1]["id"] == results[0]["id"]
    assert results[-1]["replayed"] is True
    assert results[1]["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("end", [b"", b"]" * 100_000 + b"]}"])
async def test_a_batch_nested_without_end_is_refused(api: Api, end):
    json_type = {"content-type": "application/json"}
    raw = b'{"notifications":[' + b"[" * 100_000 + end
    answer = await api.client().post(f"{SEND}/batch", content=raw, headers=json_type)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize(
    ("body", "code"),
    [({"notifications": []}, "too_short"), ({}, "required"), ({"notifications": [{}] * 4}, "too_many")],
)
async def test_the_size_of_a_batch_is_bounded(tmp_path, body, code):
    async with open_api(tmp_path, LimitSettings(batch=3)) as api:
        answer = await api.client().post(f"{SEND}/batch", json=body)
    assert answer.status_code == 422
    assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("notifications", code)]


async def test_explain_tells_and_stores_nothing(api: Api, email):
    client = api.client()
    answer = await client.post(f"{SEND}/explain", json=email())
    assert answer.status_code == 200, answer.text
    [delivery] = answer.json()["deliveries"]
    assert delivery["rendered"]["subject"] == "Hello"
    assert (await client.get(SEND)).json()["items"] == []


async def test_a_key_without_read_sees_masked_addresses(api: Api, email):
    send_only = api.client(await api.key("send"))
    answer = await send_only.post(SEND, json=email("ada.lovelace@example.com"))
    assert answer.status_code == 202
    assert "ada.lovelace" not in answer.text
    assert answer.json()["deliveries"][0]["address"] == "a***@example.com"
    explained = await send_only.post(f"{SEND}/explain", json=email("ada.lovelace@example.com"))
    assert explained.json()["deliveries"][0]["address"] == "a***@example.com"


async def test_over_the_rate_of_a_key_is_a_429_that_says_when(tmp_path, email):
    async with open_api(tmp_path, LimitSettings(team=Rate(2, 3600))) as api:
        client = api.client(await api.key("send", mode="team"))
        statuses = [(await client.post(SEND, json=email())).status_code for _ in range(2)]
        refused = await client.post(SEND, json=email())
        own = api.client(await api.key("send", mode="team", rate="1/h"))
        await own.post(SEND, json=email())
        own_refused = await own.post(SEND, json=email())
    assert statuses == [202, 202]
    assert (refused.status_code, refused.json()["type"], refused.json()["retryable"]) == (
        429,
        "/errors/rate-limited",
        True,
    )
    assert int(refused.headers["retry-after"]) >= 1
    assert "q=2" in refused.headers["ratelimit-policy"]
    assert "r=0" in refused.headers["ratelimit"]
    assert "q=1" in own_refused.headers["ratelimit-policy"]


async def test_a_large_body_is_refused_where_attachments_are_not_allowed(tmp_path, email):
    limits = LimitSettings(body_bytes=500, attachment_body_bytes=2000)
    async with open_api(tmp_path, limits) as api:
        client = api.client()
        large = json.dumps(email(data={"x": "y" * 600})).encode()
        preview = await client.post("/v1/templates/welcome/preview", content=large)
        sent = await client.post(SEND, content=large, headers={"Content-Type": "application/json"})
        too_large = await client.post(SEND, content=b" " * 2001)
    assert (preview.status_code, preview.json()["type"]) == (413, "/errors/too-large")
    assert sent.status_code == 202, sent.text
    assert too_large.status_code == 413
