"""Reading what was accepted: one, lists, filters, cursors, events; and whose it is."""

from __future__ import annotations

from gateway.model.states import Status, Why
from gateway.storage.contract import Lease, Settlement
from tests.api.conftest import Api

SEND = "/v1/notifications"


async def sent(api: Api, body, key: str | None = None) -> dict:
    client = api.client() if key is None else api.client(key)
    answer = await client.post(SEND, json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


async def test_a_listing_is_stable_while_newer_ones_come_in(api: Api, email):
    made = [(await sent(api, email(reference=f"r{number}")))["id"] for number in range(5)]
    client = api.client()
    first = (await client.get(SEND, params={"limit": 2})).json()
    await sent(api, email(reference="newer"))
    second = (await client.get(SEND, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    third = (await client.get(SEND, params={"limit": 2, "cursor": second["next_cursor"]})).json()
    seen = [one["id"] for page in (first, second, third) for one in page["items"]]
    assert seen == made[::-1]
    assert third["next_cursor"] is None


async def test_a_cursor_that_was_changed_or_taken_elsewhere_is_a_422(api: Api, email):
    for _ in range(2):
        await sent(api, email())
    client = api.client()
    cursor = (await client.get(SEND, params={"limit": 1})).json()["next_cursor"]
    changed = ("B" if cursor[0] == "A" else "A") + cursor[1:]
    for params in ({"cursor": changed}, {"cursor": cursor, "channel": "email"}, {"cursor": "x"}):
        answer = await client.get(SEND, params=params)
        assert answer.status_code == 422, params
        assert answer.json()["errors"][0]["field"] == "cursor"


async def test_every_filter_narrows(api: Api, email):
    one = await sent(api, email("one@example.com", reference="r1", tags=["a"]))
    two = await sent(api, email("two@example.com", reference="r2", tags=["b"], send_at="2099-01-01T00:00:00+01:00"))
    client = api.client()
    for params, expected in [
        ({"reference": "r1"}, [one]),
        ({"tag": "b"}, [two]),
        ({"address": "two@example.com"}, [two]),
        ({"status": "scheduled"}, [two]),
        ({"channel": "email", "category": "default"}, [two, one]),
        ({"channel": "sms"}, []),
        ({"since": "2099-01-01T00:00:00Z"}, []),
        ({"until": "2001-01-01T00:00:00Z"}, []),
        ({"since": one["created_at"], "until": "2098-01-01T00:00:00Z"}, [two, one]),
    ]:
        answer = await client.get(SEND, params=params)
        assert answer.status_code == 200, answer.text
        assert [item["id"] for item in answer.json()["items"]] == [item["id"] for item in expected], params


async def test_events_come_oldest_first_and_in_pages(api: Api, email):
    made = await sent(api, email(send_at="2099-01-01T00:00:00Z"))
    client = api.client()
    await client.post(f"{SEND}/{made['id']}/cancel")
    url = f"{SEND}/{made['id']}/events"
    whole = (await client.get(url)).json()["items"]
    assert len(whole) >= 2
    assert whole == sorted(whole, key=lambda event: event["at"])
    assert {event["notification_id"] for event in whole} == {made["id"]}
    first = (await client.get(url, params={"limit": 1})).json()
    rest = (await client.get(url, params={"cursor": first["next_cursor"]})).json()
    assert first["items"] + rest["items"] == whole


async def test_cancelling_says_what_happened_and_may_be_repeated(api: Api, email):
    made = await sent(api, email(send_at="2099-01-01T00:00:00Z"))
    client = api.client()
    first = await client.post(f"{SEND}/{made['id']}/cancel")
    again = await client.post(f"{SEND}/{made['id']}/cancel")
    assert (first.status_code, again.status_code) == (200, 200)
    delivery = made["deliveries"][0]["id"]
    assert first.json() == {
        "id": made["id"],
        "deliveries": [{"id": delivery, "status": "cancelled", "changed": True}],
    }
    assert again.json()["deliveries"] == [{"id": delivery, "status": "cancelled", "changed": False}]
    assert (await client.get(f"{SEND}/{made['id']}")).json()["status"] == "cancelled"


async def test_what_has_not_failed_cannot_be_retried(api: Api, email):
    made = await sent(api, email(send_at="2099-01-01T00:00:00Z"))
    client = api.client()
    for kwargs in ({}, {"json": {}}, {"json": {"force": True}}):
        answer = await client.post(f"/v1/deliveries/{made['deliveries'][0]['id']}/retry", **kwargs)
        assert (answer.status_code, answer.json()["type"]) == (409, "/errors/conflict")
        assert answer.json()["errors"][0]["code"] == "not_retryable"


async def failed(api: Api, made: dict) -> None:
    """Claim what was accepted, once its first lease ran out, and settle it as failed."""
    store, later = api.gateway.store, api.context.clock() + 3_600_000
    for claimed in await store.claim({"email:normal": 10}, Lease(worker="test", until=later + 60_000), later):
        settlement = Settlement(
            id=claimed.id,
            token=claimed.token,
            status=Status.FAILED,
            final=True,
            reason=Why.GAVE_UP,
            due_at=later,
            now=later,
        )
        assert await store.settle(settlement)


async def test_what_failed_is_sent_again_by_id_and_by_filter_and_shows_masked(api: Api, email):
    key = await api.key("send")
    one, two = [await sent(api, email("ada.lovelace@example.com"), key=key) for _ in range(2)]
    await failed(api, one)
    client = api.client(key)
    by_id = await client.post(f"/v1/deliveries/{one['deliveries'][0]['id']}/retry")
    assert by_id.status_code == 202, by_id.text
    assert by_id.json()["retry_of"] == one["deliveries"][0]["id"]
    assert by_id.json()["address"] == "a***@example.com"
    by_filter = await client.post("/v1/deliveries/retry", json={"status": "failed", "channel": "email"})
    assert by_filter.status_code == 202, by_filter.text
    assert [new["retry_of"] for new in by_filter.json()["deliveries"]] == [two["deliveries"][0]["id"]]
    assert "lovelace" not in by_id.text + by_filter.text
    again = await client.post("/v1/deliveries/retry", json={"status": "failed"})
    assert again.json() == {"deliveries": []}


async def test_a_retry_by_filter_needs_a_filter_and_good_ids(api: Api):
    client = api.client()
    empty = await client.post("/v1/deliveries/retry", json={})
    wrong = await client.post("/v1/deliveries/retry", json={"ids": ["dlv_x"], "notification_id": "7", "limit": 0})
    none = await client.post("/v1/deliveries/retry", json={"status": "failed", "since": "2026-01-01T00:00:00Z"})
    several = await client.post("/v1/deliveries/retry", json={"status": ["failed", "bounced"]})
    assert (empty.status_code, empty.json()["errors"][0]["code"]) == (422, "required")
    assert wrong.status_code == 422
    assert (none.status_code, none.json()) == (202, {"deliveries": []})
    assert several.status_code == 202


async def test_another_projects_things_do_not_exist(api: Api, email):
    ours, theirs = await api.key("send", "read", project="ours"), await api.key("send", "read", project="theirs")
    made = await sent(api, email(send_at="2099-01-01T00:00:00Z"), key=ours)
    urls = [
        ("GET", f"{SEND}/{made['id']}"),
        ("GET", f"{SEND}/{made['id']}/events"),
        ("POST", f"{SEND}/{made['id']}/cancel"),
        ("GET", f"/v1/deliveries/{made['deliveries'][0]['id']}"),
        ("POST", f"/v1/deliveries/{made['deliveries'][0]['id']}/retry"),
    ]
    for method, url in urls:
        answer = await api.client(theirs).request(method, url)
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found"), url
    assert (await api.client(theirs).get(SEND)).json()["items"] == []
    assert (await api.client(theirs).get("/v1/deliveries")).json()["items"] == []
    for key in (ours, None):
        client = api.client() if key is None else api.client(key)
        assert [one["id"] for one in (await client.get(SEND)).json()["items"]] == [made["id"]]
        assert (await client.get(urls[0][1])).status_code == 200


async def test_what_is_no_id_is_a_404(api: Api):
    client = api.client()
    for text in ("x", "ntf_", "ntf_" + "0" * 31, "ntf_" + "G" * 32, "dlv_" + "0" * 32, "ntf_" + "0" * 32, "%00", "ä"):
        answer = await client.get(f"{SEND}/{text}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found"), text


async def test_deliveries_can_be_listed(api: Api, email):
    made = [await sent(api, email(f"{name}@example.com")) for name in ("a", "b")]
    client = api.client()
    first = (await client.get("/v1/deliveries", params={"limit": 1, "channel": "email"})).json()
    cursor = {"limit": 1, "channel": "email", "cursor": first["next_cursor"]}
    second = (await client.get("/v1/deliveries", params=cursor)).json()
    found = [one["id"] for page in (first, second) for one in page["items"]]
    assert found == [one["deliveries"][0]["id"] for one in reversed(made)]
    of_one = await client.get("/v1/deliveries", params={"notification_id": made[0]["id"]})
    assert [one["id"] for one in of_one.json()["items"]] == [made[0]["deliveries"][0]["id"]]
    assert (await client.get("/v1/deliveries", params={"notification_id": "x"})).status_code == 422
