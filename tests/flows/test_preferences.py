"""Preferences at work: when a send is planned, when it is explained, and again just before the wire."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.router.answers import utc
from tests.support.gateway import RunningGateway, body, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

CONFIG: dict[str, Any] = {
    "environment": "development",
    "public_url": "https://notify.example.com",
    "channels": {"sms": {}},
    "categories": {
        "marketing": {"unsubscribe": True, "channels": ["email", "sms"]},
        "sign-in": {"required": True, "channels": ["email"]},
        "tips": {"default": False, "channels": ["email"]},
    },
}
TO = {"user": "42"}


async def store(gw: RunningGateway, preferences: Any = None) -> None:
    await gw.client.put("/v1/users/42", json={"email": "ada@example.com", "phone": "+15550109999"})
    await choose(gw, preferences or {})


async def choose(gw: RunningGateway, preferences: Any) -> None:
    answer = await gw.client.put("/v1/users/42/preferences", json=preferences)
    assert answer.status_code == 200, answer.text


async def explained(gw: RunningGateway, **more: Any) -> Any:
    answer = await gw.client.post("/v1/notifications/explain", json=body(TO, **more))
    assert answer.status_code == 200, answer.text
    return {one["channel"]: one for one in answer.json()["deliveries"]}


def rule(one: Any, name: str) -> tuple[str, str | None]:
    [found] = [(rule["result"], rule["detail"]) for rule in one["rules"] if rule["rule"] == name]
    return found


async def test_a_cell_that_is_closed_is_skipped_and_says_whose_word_that_is(tmp_path, database):
    async with running_gateway(tmp_path, CONFIG, database=database) as gw:
        await store(gw, {"channels": {"sms": False}})
        answer = await gw.send(TO, category="marketing")
        by_channel = {one["channel"]: one for one in answer["deliveries"]}
        assert (by_channel["sms"]["status"], by_channel["sms"]["reason"]) == ("skipped", "opted_out")
        assert by_channel["sms"]["detail"].startswith("channel: ")
        assert by_channel["email"]["status"] == "queued"
        found = await explained(gw, category="marketing")
        assert (found["sms"]["decision"], found["sms"]["reason"]) == ("skip", "opted_out")
        assert rule(found["sms"], "preference") == ("skip", by_channel["sms"]["detail"])
        assert rule(found["email"], "preference")[0] == "pass"


@pytest.mark.parametrize(
    ("category", "preferences", "status"),
    [
        ("sign-in", {"channels": {"email": False}}, "captured"),
        ("sign-in", {"categories": {"sign-in": {"enabled": False, "channels": {"email": False}}}}, "captured"),
        ("tips", {}, "skipped"),
        ("tips", {"channels": {"email": True}}, "skipped"),
        ("tips", {"categories": {"tips": {"enabled": True}}}, "captured"),
        ("default", {"categories": {"default": {"enabled": False}}}, "skipped"),
    ],
)
async def test_required_passes_choices_and_what_is_closed_by_default_needs_a_yes(
    tmp_path, category: str, preferences: Any, status: str
):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await store(gw, preferences)
        assert (await gw.final(await gw.send(TO, category=category, channels=["email"])))["status"] == status


async def test_required_does_not_pass_suppressions(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await store(gw)
        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        delivery = await gw.final(await gw.send(TO, category="sign-in"))
        assert (delivery["status"], delivery["reason"]) == ("skipped", "suppressed")


async def test_a_choice_made_while_a_message_waits_counts_either_way(tmp_path, database):
    async with running_gateway(tmp_path, CONFIG, database=database) as gw:
        await store(gw)
        waiting = await gw.send(TO, category="tips", channels=["email"])
        assert waiting["deliveries"][0]["status"] == "skipped"
        await choose(gw, {"categories": {"tips": {"enabled": True}}})
        later = utc(gw.clock() + 3_600_000)
        kept, dropped = [
            await gw.send(TO, category=one, channels=["email"], send_at=later) for one in ("tips", "default")
        ]
        await choose(gw, {"categories": {"tips": {"enabled": True}, "default": {"channels": {"email": False}}}})
        gw.clock.advance(3605)
        assert (await gw.final(kept))["status"] == "captured"
        delivery = await gw.final(dropped)
        assert (delivery["status"], delivery["reason"]) == ("skipped", "opted_out")
        assert delivery["detail"].startswith("category_channel: ")


async def test_a_simulators_address_is_on_no_list_but_its_person_has_a_say(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await gw.client.put("/v1/users/42", json={"email": "delivered@simulator.invalid"})
        later = utc(gw.clock() + 60_000)
        waits = await gw.send(TO, send_at=later)
        assert (await gw.final(await gw.send(TO)))["status"] == "delivered"
        await choose(gw, {"channels": {"email": False}})
        assert (await gw.final(await gw.send(TO)))["reason"] == "opted_out"
        gw.clock.advance(62)
        assert (await gw.final(waits))["reason"] == "opted_out"


async def test_the_link_in_a_message_to_a_user_is_their_choice_on_this_channel(tmp_path, database):
    async with running_gateway(tmp_path, CONFIG, database=database) as gw:
        await store(gw, {"categories": {"marketing": {"enabled": True}}})
        sent = await gw.send(TO, category="marketing", channels=["email"])
        await gw.final(sent)
        captured = await gw.get("/v1/captured", notification_id=sent["id"])
        path = captured["items"][0]["headers"]["list_unsubscribe"].removeprefix("https://notify.example.com")
        assert (await gw.client.post(path, data={"List-Unsubscribe": "One-Click"})).status_code == 200
        # Another address of theirs is meant too; another channel is not.
        await gw.client.put("/v1/users/42", json={"email": "new@example.com", "phone": "+15550109999"})
        answer = await gw.send(TO, category="marketing")
        assert {one["channel"]: one["status"] for one in answer["deliveries"]} == {"email": "skipped", "sms": "queued"}
        told = (await gw.get("/v1/users/42/export"))["preferences"]
        assert [one["source"] for one in told] == ["api", "link"]
        await gw.client.post(f"{path}/undo")
        answer = await gw.send(TO, category="marketing", channels=["email"])
        assert answer["deliveries"][0]["status"] == "queued"
        # A later choice made in the service lifts what the link said of the address.
        await gw.client.put("/v1/users/42", json={"email": "ada@example.com"})
        await gw.client.post(path)
        assert (await gw.send(TO, category="marketing", channels=["email"]))["deliveries"][0]["status"] == "skipped"
        await choose(gw, {"categories": {"marketing": {"channels": {"email": True}}}})
        assert (await gw.send(TO, category="marketing", channels=["email"]))["deliveries"][0]["status"] == "queued"


async def test_channels_in_turn_pass_over_what_the_person_does_not_want(tmp_path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await store(gw, {"channels": {"email": False}})
        answer = await gw.send(TO, category="marketing", strategy="first_success")
        assert [(one["channel"], one["status"]) for one in answer["deliveries"]] == [
            ("email", "skipped"),
            ("sms", "queued"),
        ]


async def test_who_chose_something_is_still_sent_to_over_the_wire(tmp_path, database):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        await gw.client.put("/v1/users/42", json={"email": "ada@example.com"})
        await choose(gw, {"channels": {"sms": False}, "quiet_hours": {"enabled": False}})
        assert (await gw.final(await gw.send(TO)))["status"] == "sent"
        assert len(server.messages) == 1
