"""What would have gone out, and waiting for it."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import msgspec

from gateway.api.captured import captured_answer
from gateway.storage.contract import CapturedFilter, Page
from tests.api.conftest import Api

SEND = "/v1/notifications"
WAIT = "/v1/captured/wait"


async def test_a_waiter_is_answered_when_the_message_comes(working_api: Api, email):
    client = working_api.client()
    waiting = asyncio.create_task(client.get(WAIT, params={"to": "ada@example.com", "timeout_s": 20}))
    await asyncio.sleep(0)
    sent = (await client.post(SEND, json=email(reference="r1"))).json()
    answer = await waiting
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["notification_id"] == sent["id"]
    assert (found["subject"], found["channel"], found["reference"]) == ("Hello", "email", "r1")
    assert found["raw_encoding"] == "text"
    assert "Subject: Hello" in found["raw"]

    at_once = await client.get(WAIT, params={"reference": "r1", "contains": "WORKS", "timeout_s": 0})
    assert at_once.json()["id"] == found["id"]


async def test_a_gateway_that_stops_does_not_wait_for_its_waiters(api: Api):
    waiting = asyncio.create_task(api.client().get(WAIT, params={"timeout_s": 60}))
    await asyncio.sleep(0)
    api.context.captured_hub.close()
    async with asyncio.timeout(10):
        answer = await waiting
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_nothing_captured_is_a_404_of_its_own(api: Api):
    answer = await api.client().get(WAIT, params={"to": "nobody@example.com", "timeout_s": 0})
    assert (answer.status_code, answer.json()["type"]) == (404, "/errors/nothing-captured")
    assert answer.json()["retryable"] is True
    too_long = await api.client().get(WAIT, params={"timeout_s": 61})
    assert too_long.json()["errors"][0]["code"] == "out_of_range"


async def test_captured_messages_are_listed_shown_and_cleared_by_project(working_api: Api, email):
    api = working_api
    attachments = [{"filename": "a.txt", "content_type": "text/plain", "content": b64encode(b"hello").decode()}]
    ours = api.client(await api.key("send", "read", project="ours"))
    theirs = api.client(await api.key("send", "read", project="theirs"))
    await ours.post(SEND, json=email("one@example.com", attachments=attachments))
    one = (await ours.get(WAIT, params={"to": "one@example.com"})).json()
    await ours.post(SEND, json=email("two@example.com"))
    two = (await ours.get(WAIT, params={"to": "two@example.com"})).json()

    first = (await ours.get("/v1/captured", params={"limit": 1})).json()
    second = (await ours.get("/v1/captured", params={"limit": 1, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for page in (first, second) for item in page["items"]] == [two["id"], one["id"]]
    assert "raw" not in second["items"][0]
    assert "content" not in second["items"][0]["attachments"][0]

    shown = (await ours.get(f"/v1/captured/{one['id']}")).json()
    assert shown["attachments"][0]["content"] == b64encode(b"hello").decode()
    assert "raw" in shown

    assert (await theirs.get(f"/v1/captured/{one['id']}")).status_code == 404
    assert (await theirs.get("/v1/captured")).json()["items"] == []
    assert (await theirs.get(WAIT, params={"timeout_s": 0})).status_code == 404
    assert (await theirs.delete("/v1/captured")).json() == {"deleted": 0}
    assert (await ours.delete("/v1/captured")).json() == {"deleted": 2}
    assert (await ours.get("/v1/captured")).json()["items"] == []


async def test_since_and_notification_narrow(working_api: Api, email):
    client = working_api.client()
    sent = (await client.post(SEND, json=email())).json()
    found = (await client.get(WAIT, params={"notification_id": sent["id"]})).json()
    assert found["notification_id"] == sent["id"]
    for params in ({"since": "2099-01-01T00:00:00Z"}, {"notification_id": "ntf_" + "0" * 32}, {"channel": "sms"}):
        assert (await client.get("/v1/captured", params=params)).json()["items"] == []
    assert (await client.get("/v1/captured", params={"notification_id": "x"})).status_code == 422


async def test_raw_bytes_that_are_no_text_come_in_base64(working_api: Api, email):
    client = working_api.client()
    await client.post(SEND, json=email())
    found = (await client.get(WAIT, params={"to": "ada@example.com"})).json()
    row = (await working_api.gateway.store.captured(CapturedFilter(), Page(limit=1)))[0]
    answer = captured_answer(msgspec.structs.replace(row, raw=b"\xff\x00"), whole=True)
    assert (answer.raw, answer.raw_encoding, answer.id) == (b64encode(b"\xff\x00").decode(), "base64", found["id"])
