"""The inbox as services and people use it: sent, shown, marked; what it means for other channels; who may look."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.gateway import ADMIN, RunningGateway, running_gateway

DEVELOPMENT: dict[str, Any] = {}
STAGING = {"environment": "staging", "staging": {"allow": ["user:qa-*"]}}
PRODUCTION = {"environment": "production"}
WORDS = {
    "title": "Your parcel\nis here",
    "body": "Come **quickly** to [the shop](https://shop.example.com/a?b=1&c=2).\n\n<script>alert(1)</script>",
    "url": "https://shop.example.com/orders/7",
    "image_url": "https://shop.example.com/parcel.png",
    "actions": [{"label": "Show", "url": "https://shop.example.com/orders/7"}],
}


async def know(gw: RunningGateway, user: str = "42", **profile: Any) -> None:
    answer = await gw.client.put(f"/v1/users/{user}", json=profile)
    assert answer.status_code in {200, 201}, answer.text


async def visitor(gw: RunningGateway, user: str = "42", **asked: Any) -> httpx.AsyncClient:
    """Mint a token and speak with it."""
    answer = await gw.client.post(f"/v1/users/{user}/inbox/token", json=asked)
    assert answer.status_code == 201, answer.text
    return gw.with_key(answer.json()["token"])


async def delivered(gw: RunningGateway, user: str = "42", **more: Any) -> Any:
    """Send to a person's inbox, and answer the item."""
    answer = await gw.send({"user": user}, channels=["inbox"], **more)
    assert (await gw.final(answer))["status"] == "delivered"
    return (await gw.get(f"/v1/users/{user}/inbox"))["items"][0]


async def test_what_is_sent_to_the_inbox_lies_there(tmp_path, database):
    async with running_gateway(tmp_path, PRODUCTION, database=database) as gw:
        await know(gw)
        answer = await gw.send({"user": "42"}, channels=["inbox"], content=WORDS)
        delivery = await gw.final(answer)
        assert (delivery["status"], delivery["provider"], delivery["address"]) == ("delivered", "inbox", "42")
        page = await gw.get("/v1/users/42/inbox")
        [item] = page["items"]
        assert (page["unread"], page["next_cursor"]) == (1, None)
        assert item["title"] == "Your parcel is here"
        assert "Come quickly to the shop" in item["text"]
        assert "<strong>quickly</strong>" in item["html"]
        assert 'href="https://shop.example.com/a?b=1&amp;c=2"' in item["html"]
        assert "<script" not in item["html"]
        assert (item["url"], item["image_url"], item["actions"]) == (
            WORDS["url"], WORDS["image_url"], WORDS["actions"],
        )  # fmt: skip
        assert item["delivery_id"] == delivery["id"]
        assert delivery["attempts"][0]["provider_id"] == item["id"]


async def test_reading_in_the_inbox_stops_the_mail_that_would_have_followed(tmp_path, database):
    async with running_gateway(tmp_path, DEVELOPMENT, database=database) as gw:
        await know(gw, email="ada@example.com")
        strategy = {"channels": ["inbox", "email"], "strategy": "escalate", "escalate_after_s": 60}
        # An item that has arrived is not yet noticed: the mail waits until somebody looks, or its time comes.
        for looks, ending in ((True, "skipped"), (False, "captured")):
            answer = await gw.send({"user": "42"}, **strategy)
            await gw.final(answer["deliveries"][0])
            mail = answer["deliveries"][1]
            if looks:
                token = await visitor(gw)
                item = (await gw.get("/v1/users/42/inbox"))["items"][0]
                assert (await gw.delivery(mail))["status"] == "held"
                assert (await token.post(f"/v1/users/42/inbox/{item['id']}/read")).status_code == 200
            else:
                gw.clock.advance(61)
            assert (await gw.final(mail))["status"] == ending
            engaged = (await gw.delivery(answer["deliveries"][0]))["engagement"]
            assert set(engaged) == ({"seen", "read"} if looks else set())


async def test_the_inbox_is_used_only_where_it_is_named(tmp_path):
    config = {"categories": {"orders": {"channels": ["inbox", "email"]}}}
    async with running_gateway(tmp_path, config) as gw:
        await know(gw, email="ada@example.com")
        plain = await gw.send({"user": "42"})
        assert [one["channel"] for one in plain["deliveries"]] == ["email"]
        named = await gw.send({"user": "42"}, category="orders")
        assert [one["channel"] for one in named["deliveries"]] == ["inbox", "email"]


async def test_who_is_not_stored_has_no_inbox(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        answer = await gw.send({"email": "ada@example.com"}, channels=["inbox", "email"])
        found = [(one["channel"], one["status"], one["reason"]) for one in answer["deliveries"]]
        assert found == [("inbox", "skipped", "no_address"), ("email", "queued", None)]
        refused = await gw.client.post("/v1/users/42/addresses", json={"channel": "inbox", "address": "42"})
        assert refused.json()["errors"][0]["code"] == "unknown_channel"


async def test_outside_production_live_keys_reach_inboxes_and_others_only_what_they_may(tmp_path):
    async with running_gateway(tmp_path, STAGING) as gw:
        for user in ("42", "qa-1"):
            await know(gw, user)
        team = await gw.new_client("send", "read", mode="team")
        test = await gw.new_client("send", "read", mode="test")
        for client, user, ending in (
            (None, "42", "delivered"),
            (team, "42", "captured"),
            (team, "qa-1", "delivered"),
            (test, "qa-1", "captured"),
        ):
            answer = await gw.send({"user": user}, channels=["inbox"], client=client)
            assert (await gw.final(answer))["status"] == ending
            explained = await gw.explain({"user": user}, channels=["inbox"], client=client)
            assert explained["decision"] == {"delivered": "send", "captured": "capture"}[ending]
            if ending == "delivered":
                assert explained["provider"] == "inbox"
                assert explained["rendered"]["html"]


async def test_a_token_opens_one_inbox_and_nothing_else(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        for user in ("42", "43"):
            await know(gw, user)
        item = await delivered(gw)
        token = await visitor(gw)
        assert (await token.get("/v1/users/42/inbox")).json()["unread"] == 1
        assert (await token.post(f"/v1/users/42/inbox/{item['id']}/seen")).status_code == 200
        for method, path, status in (
            ("GET", "/v1/users/43/inbox", 403),
            ("POST", f"/v1/users/43/inbox/{item['id']}/read", 403),
            ("POST", "/v1/users/42/inbox/token", 401),
            ("GET", "/v1/users/42", 401),
            ("GET", "/v1/notifications", 401),
            ("GET", "/v1/captured", 401),
        ):
            assert (await token.request(method, path)).status_code == status, path
        forged = gw.with_key(token.headers["Authorization"].removeprefix("Bearer ")[:-3] + "abc")
        assert (await forged.get("/v1/users/42/inbox")).status_code == 401


async def test_a_token_ends(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        token = await visitor(gw, ttl_s=60)
        assert (await token.get("/v1/users/42/inbox")).status_code == 200
        gw.clock.advance(61)
        assert (await token.get("/v1/users/42/inbox")).status_code == 401
        too_long = await gw.client.post("/v1/users/42/inbox/token", json={"ttl_s": 86_401})
        assert too_long.json()["errors"][0] | {"message": ""} == {
            "field": "ttl_s", "code": "out_of_range", "message": "",
        }  # fmt: skip


async def test_each_act_needs_its_scope_and_a_project_sees_its_own_items(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        item = await delivered(gw)
        send, read, manage = [await gw.new_client(scope) for scope in ("send", "read", "manage")]
        list_, mark = "/v1/users/42/inbox", f"/v1/users/42/inbox/{item['id']}/read"
        assert [(await one.get(list_)).status_code for one in (send, read, manage)] == [403, 200, 200]
        assert [(await one.post(mark)).status_code for one in (send, read, manage)] == [403, 403, 200]
        mint = f"{list_}/token"
        assert [(await one.post(mint)).status_code for one in (send, read, manage)] == [201, 403, 201]
        other = await gw.new_client("manage", project="other")
        assert (await other.get(list_)).json()["items"] == []
        assert (await other.post(mark)).status_code == 404


async def test_a_newer_item_with_the_key_replaces_the_unsent_and_the_shown(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        for title in ("first", "second"):
            await delivered(gw, content={"title": title, "body": "x"}, collapse_key="order-7")
        page = await gw.get("/v1/users/42/inbox")
        assert ([one["title"] for one in page["items"]], page["unread"]) == (["second"], 1)


async def test_an_item_goes_when_its_request_or_its_category_says_so(tmp_path):
    config = {"categories": {"sign-in": {"channels": ["inbox"], "expires_after_s": 600}}}
    async with running_gateway(tmp_path, config) as gw:
        await know(gw)
        await gw.final(await gw.send({"user": "42"}, category="sign-in"))
        await delivered(gw)
        assert (await gw.get("/v1/users/42/inbox"))["unread"] == 2
        gw.clock.advance(601)
        page = await gw.get("/v1/users/42/inbox")
        assert (len(page["items"]), page["unread"]) == (1, 1)


async def test_marks_of_one_and_of_all(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        items = [await delivered(gw) for _ in range(3)]
        post = gw.client.post
        kept = (await post(f"/v1/users/42/inbox/{items[0]['id']}/archive")).json()
        assert (kept["unread"], kept["item"]["archived_at"] is not None) == (2, True)
        done = (await post("/v1/users/42/inbox/read", json={"up_to": items[1]["id"]})).json()
        assert done == {"changed": 1, "unread": 1}
        assert (await gw.get("/v1/users/42/inbox", unread="true"))["items"][0]["id"] == items[2]["id"]
        assert (await gw.get("/v1/users/42/inbox", archived="true"))["items"][0]["id"] == items[0]["id"]
        assert (await post("/v1/users/42/inbox/read")).json() == {"changed": 1, "unread": 0}
        for wrong in ("inb_" + "0" * 32, "nonsense"):
            refused = await post("/v1/users/42/inbox/read", json={"up_to": wrong})
            assert refused.json()["errors"][0]["field"] == "up_to"
        assert (await post(f"/v1/users/42/inbox/inb_{'0' * 32}/read")).status_code == 404
        assert (await post("/v1/users/nobody/inbox/read")).status_code == 404
        assert (await gw.client.get("/v1/users/nobody/inbox")).status_code == 404
        answered = (await post(f"/v1/users/42/inbox/{items[2]['id']}/acknowledge")).json()["item"]
        assert set((await gw.get(f"/v1/deliveries/{answered['delivery_id']}"))["engagement"]) == {
            "seen", "read", "acknowledged",
        }  # fmt: skip


async def test_pages_follow_each_other(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        made = [(await delivered(gw))["id"] for _ in range(3)]
        first = await gw.get("/v1/users/42/inbox", limit=2)
        second = await gw.get("/v1/users/42/inbox", limit=2, cursor=first["next_cursor"])
        assert [one["id"] for one in (*first["items"], *second["items"])] == made[::-1]
        assert second["next_cursor"] is None
        foreign = await gw.client.get("/v1/users/42/inbox", params={"cursor": first["next_cursor"], "unread": "true"})
        assert foreign.json()["errors"][0]["field"] == "cursor"


async def test_the_inbox_is_in_the_export_and_gone_after_the_erasure(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await know(gw)
        item = await delivered(gw)
        token = await visitor(gw)
        assert [one["id"] for one in (await gw.get("/v1/users/42/export"))["inbox"]] == [item["id"]]
        erased = (await gw.client.delete("/v1/users/42")).json()
        assert erased["removed"]["inbox_items"] == 1
        assert (await token.get("/v1/users/42/inbox")).status_code == 404
        await know(gw)
        assert (await token.get("/v1/users/42/inbox")).json()["items"] == []


async def test_only_pages_of_configured_origins_may_read_from_the_browser(tmp_path):
    config = {"inbox": {"origins": ["https://app.example.com"]}}
    async with running_gateway(tmp_path, config) as gw:
        await know(gw)
        ours, theirs = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example.com"}
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        nobody = gw.with_key("none")
        path = "/v1/users/42/inbox/read"
        allowed = await nobody.request("OPTIONS", path, headers=ours | asks)
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == ours["Origin"]
        assert "POST" in allowed.headers["access-control-allow-methods"]
        assert "authorization" in allowed.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in allowed.headers
        refused = await nobody.request("OPTIONS", path, headers=theirs | asks)
        assert refused.status_code == 405
        assert "access-control-allow-origin" not in refused.headers
        for headers, may in ((ours, True), (theirs, False), ({}, False)):
            for client in (gw.client, nobody):  # a refusal must be readable, too
                answer = await client.get("/v1/users/42/inbox", headers=headers)
                assert ("access-control-allow-origin" in answer.headers) is may
                assert answer.headers["vary"] == "origin"
        elsewhere = await gw.client.get("/v1/users/42", headers=ours)
        assert "access-control-allow-origin" not in elsewhere.headers
        assert ADMIN not in answer.text
