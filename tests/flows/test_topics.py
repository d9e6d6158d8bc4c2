"""Sending to topics: from subscribers to the wire, in slices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.router.expanding import SLICE
from gateway.storage.contract import AddressPut, UserPut
from tests.support.gateway import RunningGateway, body, merged, parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

TOPIC = "release-notes"
DEVELOPMENT: dict[str, Any] = {"environment": "development", "channels": {"sms": {}}}


def one(number: int, **more: Any) -> UserPut:
    """Make a person, `u0007` at `u0007@example.com`."""
    id_ = f"u{number:04}"
    place = AddressPut(channel="email", address=f"{id_}@example.com", key=f"{id_}@example.com", profile=True)
    values: dict[str, Any] = {"name": f"Number {number}", "locale": None, "timezone": None, "attributes": b"{}"}
    return UserPut(**({"id": id_, "addresses": (place,), "now": 5} | values | more))


async def fill(gw: RunningGateway, count: int, topic: str = TOPIC, first: int = 0) -> list[str]:
    """Store people and subscribe them."""
    people = [one(number) for number in range(first, first + count)]
    await gw.gateway.store.put_users(people)
    users = [person.id for person in people]
    for start in range(0, count, 1000):
        answer = await gw.client.post(f"/v1/topics/{topic}/subscribers", json={"users": users[start : start + 1000]})
        assert answer.status_code == 200, answer.text
    return users


async def expanded(gw: RunningGateway, answer: Any, *, within_s: float = 20) -> Any:
    """Wait until everybody is planned; answers the notification."""
    ends = time.monotonic() + within_s
    while True:
        found = await gw.get(f"/v1/notifications/{answer['id']}")
        if not found["expanding"]:
            return found
        assert time.monotonic() < ends, found["counts"]
        await asyncio.sleep(0.01)


def recipients_of(server: SmtpServer) -> Counter[str]:
    return Counter(recipient for mail in server.messages for recipient in mail.rcpt_tos)


async def test_a_send_to_a_topic_reaches_each_of_some_thousand_subscribers_once(tmp_path, database):
    number = 2 * SLICE + 300
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        users = await fill(gw, number)
        answer = await gw.send({"topic": TOPIC, "locale": "de"}, reference="4.2", idempotency_key="once")
        assert (answer["deliveries"], answer["expanding"], answer["status"]) == ([], True, "processing")
        again = await gw.post({"topic": TOPIC, "locale": "de"}, reference="4.2", idempotency_key="once")
        assert (again.json(), again.headers["idempotency-replayed"]) == (answer, "true")
        done = await gw.all_final(answer["id"], within_s=60)
        assert (done["status"], done["expanding"], done["counts"]) == ("completed", False, {"sent": number})
        assert len(done["deliveries"]) == 1000
        first = done["deliveries"][0]
        assert first["recipient"] == {"user": "u0000", "name": "Number 0", "locale": "de"}
        assert recipients_of(server) == {f"{user}@example.com": 1 for user in users}
        mail = next(mail for mail in server.messages if mail.rcpt_tos == ("u0007@example.com",))
        assert parsed(mail)["to"] == "Number 7 <u0007@example.com>"
        shown = await gw.get("/v1/notifications", user="u0007")
        assert [row["id"] for row in shown["items"]] == [answer["id"]]


async def test_the_same_person_gets_one_however_often_they_are_meant(tmp_path, database):
    async with running_gateway(tmp_path, DEVELOPMENT, database=database) as gw:
        await fill(gw, 4, "one")
        await fill(gw, 4, "two", first=2)
        shared = AddressPut(channel="email", address="U0005@example.com", key="u0005@example.com")
        await gw.gateway.store.put_users([one(6, addresses=(shared,))])
        await fill_more(gw, "two", "u0006")
        to = [
            {"topic": "one"},
            {"user": "u0003", "data": {"greeting": "you first"}},
            {"email": "u0001@example.com"},
            {"topic": "two"},
            {"topic": "one"},
        ]
        answer = await gw.send(to)
        assert [delivery["address"] for delivery in answer["deliveries"]] == ["u0003@example.com", "u0001@example.com"]
        assert answer["expanding"] is True
        await expanded(gw, answer)
        done = await gw.all_final(answer["id"])
        found = [(row["recipient"].get("user"), row["status"], row["reason"]) for row in done["deliveries"]]
        assert sorted(found, key=str) == sorted(
            [
                (None, "captured", "not_allowed"),
                ("u0000", "captured", "not_allowed"),
                ("u0001", "skipped", "not_needed"),
                ("u0002", "captured", "not_allowed"),
                ("u0003", "captured", "not_allowed"),
                ("u0004", "captured", "not_allowed"),
                ("u0005", "captured", "not_allowed"),
                ("u0006", "skipped", "not_needed"),
            ],
            key=str,
        )
        captured = (await gw.get("/v1/captured", limit=200))["items"]
        assert Counter(one["to"].lower() for one in captured) == {f"u000{n}@example.com": 1 for n in range(6)}


async def fill_more(gw: RunningGateway, topic: str, user: str) -> None:
    answer = await gw.client.put(f"/v1/topics/{topic}/subscribers/{user}")
    assert answer.status_code == 201, answer.text


async def test_an_unknown_topic_is_accepted_and_reaches_nobody(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        answer = await gw.send({"topic": "nobody-yet"})
        done = await gw.all_final(answer["id"])
        assert (done["status"], done["counts"], done["deliveries"]) == ("completed", {}, [])
        assert [event["type"] for event in await gw.events(answer["id"])] == ["notification.completed"]


async def test_a_topic_is_not_mixed_with_addresses_of_its_own(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        wanted = body([{"topic": TOPIC, "email": "ada@example.com", "name": "Ada"}, {"topic": "a\nb"}])
        answer = await gw.client.post("/v1/notifications", json=wanted)
        assert answer.status_code == 422
        faults = [(fault["field"], fault["code"]) for fault in answer.json()["errors"]]
        assert faults == [("to[0].name", "exclusive"), ("to[0].email", "exclusive"), ("to[1].topic", "invalid")]


async def test_each_subscriber_is_planned_by_the_rules_of_every_send(tmp_path):
    marketing = {"categories": {"marketing": {"unsubscribe": True, "channels": ["email", "sms"]}}}
    async with running_gateway(tmp_path, merged(DEVELOPMENT, marketing)) as gw:
        await fill(gw, 3)
        phone = AddressPut(channel="sms", address="+15550100009", key="+15550100009")
        await gw.gateway.store.put_users([one(3, addresses=(phone,)), one(4, addresses=())])
        await fill_more(gw, TOPIC, "u0003")
        await fill_more(gw, TOPIC, "u0004")
        for path, address in (("suppressions", "u0001@example.com"),):
            answer = await gw.client.post(f"/v1/{path}", json={"channel": "email", "address": address})
            assert answer.status_code == 201
        answer = await gw.send({"topic": TOPIC}, category="marketing", strategy="first_success")
        done = await gw.all_final(answer["id"])
        found: dict[str, list[Any]] = {}
        for row in done["deliveries"]:
            found.setdefault(row["recipient"]["user"], []).append((row["channel"], row["status"], row["reason"]))
        nowhere = ("sms", "skipped", "no_address")
        assert found == {
            "u0000": [("email", "captured", "not_allowed"), nowhere],
            "u0001": [("email", "skipped", "suppressed"), nowhere],
            "u0002": [("email", "captured", "not_allowed"), nowhere],
            "u0003": [("email", "skipped", "no_address"), ("sms", "captured", "not_allowed")],
            "u0004": [("email", "skipped", "no_address"), nowhere],
        }
        explained = await gw.client.post(
            "/v1/notifications/explain",
            json=body({"topic": TOPIC}, category="marketing", strategy="first_success"),
        )
        assert explained.status_code == 200
        shown = explained.json()
        assert shown["topics"] == [{"topic": TOPIC, "subscribers": 5, "explained": 5}]
        decisions = [(row["recipient"]["user"], row["channel"], row["decision"]) for row in shown["deliveries"]]
        assert decisions[:4] == [
            ("u0000", "email", "capture"),
            ("u0000", "sms", "skip"),
            ("u0001", "email", "skip"),
            ("u0001", "sms", "skip"),
        ]


async def test_explain_shows_the_first_few_and_counts_the_others(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await fill(gw, 12)
        answer = await gw.client.post(
            "/v1/notifications/explain", json=body([{"user": "u0001"}, {"topic": TOPIC}, {"topic": "nobody"}])
        )
        shown = answer.json()
        assert shown["topics"] == [
            {"topic": TOPIC, "subscribers": 12, "explained": 4},
            {"topic": "nobody", "subscribers": 0, "explained": 0},
        ]
        assert [row["recipient"]["user"] for row in shown["deliveries"]] == [
            "u0001", "u0000", "u0002", "u0003", "u0004",
        ]  # fmt: skip
        assert "topics" not in (await gw.client.post("/v1/notifications/explain", json=body())).json()


async def test_a_scheduled_one_goes_to_whoever_is_on_the_topic_then(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await fill(gw, 2)
        at = gw.clock() + 3_600_000
        send_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at / 1000))
        answer = await gw.send({"topic": TOPIC}, send_at=send_at)
        called_off = await gw.send({"topic": TOPIC}, send_at=send_at)
        assert (answer["status"], answer["expanding"]) == ("scheduled", True)
        shown = await gw.get(f"/v1/notifications/{answer['id']}")
        assert (shown["status"], shown["expanding"], shown["counts"]) == ("scheduled", True, {})
        cancelled = await gw.client.post(f"/v1/notifications/{called_off['id']}/cancel")
        assert cancelled.json()["deliveries"] == []
        assert (await gw.get(f"/v1/notifications/{called_off['id']}"))["status"] == "cancelled"
        assert (await gw.client.delete(f"/v1/topics/{TOPIC}/subscribers/u0000")).status_code == 200
        await gw.gateway.store.put_users([one(7)])
        await fill_more(gw, TOPIC, "u0007")
        gw.clock.advance(3601)
        done = await gw.all_final(answer["id"])
        assert [row["recipient"]["user"] for row in done["deliveries"]] == ["u0001", "u0007"]
        assert done["counts"] == {"captured": 2}


async def test_what_expired_before_it_could_be_planned_is_not_sent(tmp_path):
    config = merged(DEVELOPMENT, {"categories": {"flash": {"expires_after_s": 60}}})
    async with running_gateway(tmp_path, config, work=False) as accepting:
        await fill(accepting, 2)
        answer = await accepting.send({"topic": TOPIC}, category="flash")
        accepting.clock.advance(61)
        assert await accepting.gateway.expander.step()
        done = await accepting.get(f"/v1/notifications/{answer['id']}")
        assert (done["status"], done["counts"]) == ("completed", {"expired": 2})


async def test_erasing_and_exporting_know_topics(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await fill(gw, 2)
        await gw.all_final((await gw.send({"topic": TOPIC}))["id"])
        export = await gw.get("/v1/users/u0000/export")
        assert [row["topic"] for row in export["topics"]] == [TOPIC]
        assert len(export["deliveries"]) == 1
        removed = (await gw.client.delete("/v1/users/u0000")).json()["removed"]
        assert removed["subscriptions"] == 1
        left = (await gw.get(f"/v1/topics/{TOPIC}/subscribers"))["items"]
        assert [row["user"] for row in left] == ["u0001"]


@pytest.mark.parametrize(("waiting", "planned"), [(0, SLICE), (100, 100)])
async def test_it_is_planned_in_smaller_slices_while_many_callers_wait(tmp_path: Path, waiting: int, planned: int):
    async with running_gateway(tmp_path, DEVELOPMENT, work=False) as gw:
        await fill(gw, SLICE)
        await gw.send({"topic": TOPIC})
        gw.gateway.accepting._callers.waiting += waiting
        assert await gw.gateway.expander.step()
        [depth] = await gw.gateway.store.depths(gw.clock())
        assert depth.waiting == planned
