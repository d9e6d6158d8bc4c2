"""Preferences over HTTP: what a person chooses, and what follows from it."""

from __future__ import annotations

import httpx
import pytest

from tests.api.conftest import Api
from tests.support.gateway import RunningGateway, running_gateway

WHOLE = {
    "channels": {"sms": False},
    "categories": {"marketing": {"enabled": True, "channels": {"email": False}}},
    "quiet_hours": {"start": "22:00", "end": "07:00"},
}
CONFIG = {
    "channels": {"sms": {}},
    "categories": {
        "marketing": {"unsubscribe": True},
        "sign-in": {"required": True},
        "tips": {"default": False},
        "orders": {"locked": {"sms": False}, "default": {"email": True}},
    },
}
PATH = "/v1/users/42/preferences"


async def known(gw: RunningGateway, **profile: object) -> httpx.AsyncClient:
    await gw.client.put("/v1/users/42", json={"email": "ada@example.com", **profile})
    return gw.client


async def test_choices_are_replaced_whole_and_each_cell_says_who_decided(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        client = await known(gw)
        empty = (await client.get(PATH)).json()
        assert (empty["channels"], empty["categories"], empty["quiet_hours"]) == ({}, {}, None)
        answer = await client.put(PATH, json=WHOLE)
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        assert {key: shown[key] for key in WHOLE} == WHOLE
        assert (await client.get(PATH)).json() == shown
        cells = {
            (category, channel): (cell["allowed"], cell["source"])
            for category, by_channel in shown["resolved"].items()
            for channel, cell in by_channel.items()
        }
        assert cells == {
            ("marketing", "email"): (False, "category_channel"),
            ("marketing", "sms"): (False, "channel"),
            ("sign-in", "email"): (True, "required"),
            ("sign-in", "sms"): (True, "required"),
            ("tips", "email"): (False, "category_default"),
            ("tips", "sms"): (False, "channel"),
            ("orders", "email"): (True, "category_default"),
            ("orders", "sms"): (False, "lock"),
            ("default", "email"): (True, "default"),
            ("default", "sms"): (False, "channel"),
            ("marketing", "inbox"): (True, "category"),
            ("sign-in", "inbox"): (True, "required"),
            ("tips", "inbox"): (False, "category_default"),
            ("orders", "inbox"): (True, "default"),
            ("default", "inbox"): (True, "default"),
        }
        small = (await client.put(PATH, json={"categories": {"tips": {"enabled": True}, "orders": {}}})).json()
        assert (small["channels"], small["categories"]) == ({}, {"tips": {"enabled": True, "channels": {}}})
        assert small["resolved"]["tips"]["sms"] == {"allowed": True, "source": "category"}
        # What can be chosen before its channel is set up is shown, too.
        await client.put(PATH, json={"channels": {"web_push": False}})
        assert (await client.get(PATH)).json()["resolved"]["tips"].keys() == {"email", "sms", "inbox", "web_push"}


@pytest.mark.parametrize(
    "hours",
    [
        {"start": "22:00", "end": "07:00"},
        {"start": "12:30", "end": "13:00", "timezone": "Asia/Kathmandu"},
        {"enabled": False},
        None,
    ],
)
async def test_quiet_hours_are_shown_as_they_were_written(api: Api, hours: object):
    client = api.client()
    await client.put("/v1/users/42", json={})
    assert (await client.put(PATH, json={"quiet_hours": hours})).json()["quiet_hours"] == hours
    told = (await client.get("/v1/users/42/export")).json()
    assert told["quiet_hours"] == hours


async def test_every_fault_is_told_at_once_with_its_path(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        client = await known(gw)
        wrong = {
            "channels": {"smoke": True},
            "categories": {"marketing": {"channels": {"e-mail": False}}, "spam": {"enabled": False}},
            "quiet_hours": {"start": "22:00", "end": "22:00", "timezone": "Mars/Olympus"},
        }
        answer = await client.put(PATH, json=wrong)
        assert answer.status_code == 422
        assert {(fault["field"], fault["code"]) for fault in answer.json()["errors"]} == {
            ("channels.smoke", "unknown_channel"),
            ("categories.marketing.channels.e-mail", "unknown_channel"),
            ("categories.spam", "unknown_category"),
            ("quiet_hours.end", "invalid"),
            ("quiet_hours.timezone", "invalid"),
        }
        for hours, field, code in (
            ({"start": "22:00"}, "quiet_hours.end", "required"),
            ({"start": "24:00", "end": "07:00"}, "quiet_hours.start", "invalid"),
            ({"start": "22:00", "end": "07:00", "zone": "x"}, "quiet_hours.zone", "unknown_field"),
        ):
            found = (await client.put(PATH, json={"quiet_hours": hours})).json()["errors"]
            assert (field, code) in {(fault["field"], fault["code"]) for fault in found}, found
        typed = (await client.put(PATH, json={"channels": {"sms": "no"}})).json()["errors"]
        assert [(fault["field"], fault["code"]) for fault in typed] == [("channels.sms", "wrong_type")]
        assert (await client.get(PATH)).json()["channels"] == {}


async def test_who_may_and_of_whom(api: Api):
    client = api.client()
    assert (await client.get(PATH)).status_code == (await client.put(PATH, json={})).status_code == 404
    assert (await client.get("/v1/users/a%00b/preferences")).status_code == 404
    assert (await client.put("/v1/users/a%00b/preferences", json={})).status_code == 404
    await client.put("/v1/users/42", json={})
    for scope, get, put in (("send", 403, 403), ("read", 200, 403), ("manage", 200, 200)):
        other = api.client(await api.key(scope))
        assert (await other.get(PATH)).status_code == get
        assert (await other.put(PATH, json={})).status_code == put


async def test_choices_are_told_with_the_rest_and_erased_with_it(api: Api):
    client = api.client()
    await client.put("/v1/users/42", json={"email": "ada@example.com"})
    await client.put(PATH, json={"channels": {"sms": False}, "categories": {"default": {"enabled": True}}})
    told = (await client.get("/v1/users/42/export")).json()["preferences"]
    assert [(one["category"], one["channel"], one["allowed"], one["source"]) for one in told] == [
        (None, "sms", False, "api"),
        ("default", None, True, "api"),
    ]
    assert (await client.delete("/v1/users/42")).json()["removed"]["preferences"] == 2
    await client.put("/v1/users/42", json={})
    assert (await client.get(PATH)).json()["channels"] == {}


async def test_an_address_that_left_closes_the_cell_only_where_it_is_the_last_one(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        other = [{"channel": "email", "address": "ada@example.org"}]
        client = await known(gw, addresses=other)
        for left, allowed in (("ada@example.com", True), ("ada@example.org", False)):
            answer = await gw.send(left, category="marketing")
            await gw.final(answer)
            captured = await gw.get("/v1/captured", notification_id=answer["id"])
            await client.post("/unsubscribe/" + captured["items"][0]["headers"]["list_unsubscribe"].rpartition("/")[2])
            cell = (await client.get(PATH)).json()["resolved"]["marketing"]["email"]
            assert cell == {"allowed": allowed, "source": "default" if allowed else "opt_out"}
