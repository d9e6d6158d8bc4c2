"""Sending to stored people: from a profile to the wire."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway import RunningGateway, body, merged, parsed, running_gateway, smtp
from tests.support.smtp_server import Behaviour, SmtpServer

DEVELOPMENT: dict[str, Any] = {"environment": "development", "channels": {"mobile_push": {}, "sms": {}}}


async def store(gw: RunningGateway, id_: str, **profile: Any) -> Any:
    answer = await gw.client.put(f"/v1/users/{id_}", json=profile)
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()


async def test_a_send_to_a_user_reaches_the_stored_address_in_the_stored_name(tmp_path, database):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        await store(
            gw, "a%2F42", name="Ada Lovelace", email="Ada@Example.com", locale="de-AT", timezone="Europe/Vienna"
        )
        answer = await gw.send({"user": "a/42"})
        [planned] = answer["deliveries"]
        assert planned["address"] == "Ada@example.com"
        assert planned["recipient"] == {
            "user": "a/42",
            "name": "Ada Lovelace",
            "locale": "de-AT",
            "timezone": "Europe/Vienna",
        }
        sent = await gw.final(answer)
        assert (sent["status"], sent["recipient"]) == ("sent", planned["recipient"])
        [mail] = server.messages
        assert parsed(mail)["to"] == "Ada Lovelace <Ada@example.com>"
        await gw.send("bob@example.com")
        for user, found in (("a/42", [answer["id"]]), ("nobody", [])):
            assert [one["id"] for one in (await gw.get("/v1/notifications", user=user))["items"]] == found


async def test_unknown_users_are_refused_wherever_they_are_named(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await store(gw, "42", email="ada@example.com")
        wanted = body([{"user": "42"}, {"user": "43"}, {"user": "42", "topic": "x"}])
        for path in ("/v1/notifications", "/v1/notifications/explain"):
            answer = await gw.client.post(path, json=wanted)
            assert answer.status_code == 422
            faults = [(one["field"], one["code"]) for one in answer.json()["errors"]]
            assert faults == [("to[1].user", "unknown_user"), ("to[2].topic", "exclusive")]
        batch = {"notifications": [body({"user": "42"}), body({"user": "43"}), body({"user": "42"})]}
        results = (await gw.client.post("/v1/notifications/batch", json=batch)).json()["results"]
        assert [one["status"] for one in results] == [202, 422, 202]
        assert results[1]["error"]["errors"][0]["field"] == "to[0].user"


async def test_each_device_gets_its_own_delivery_at_the_same_place(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        devices = [{"channel": "mobile_push", "address": f"token-number-{n}", "label": f"phone {n}"} for n in range(3)]
        await store(gw, "42", email="ada@example.com", addresses=devices)
        answer = await gw.send([{"email": "bob@example.com"}, {"user": "42"}], channels=["email", "mobile_push"])
        found = [(one["channel"], one["address"], one["status"]) for one in answer["deliveries"]]
        assert found == [
            ("email", "bob@example.com", "queued"),
            ("mobile_push", None, "skipped"),
            ("email", "ada@example.com", "queued"),
            *[("mobile_push", f"token-number-{n}", "queued") for n in range(3)],
        ]
        assert (await gw.all_final(answer["id"]))["counts"] == {"captured": 5, "skipped": 1}
        once = await gw.send({"user": "42"}, channels=["mobile_push"], strategy="first_success")
        assert len(once["deliveries"]) == 3, "several devices are one channel, not several in turn"


async def test_what_a_request_says_of_a_user_lies_over_what_is_stored(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await store(gw, "42", name="Ada", email="ada@example.com", phone="+15550100007", locale="en", timezone="UTC")
        to = {"user": "42", "email": "other@example.com", "name": "Countess", "locale": "de"}
        answer = await gw.send(to, channels=["email", "sms"])
        assert [one["address"] for one in answer["deliveries"]] == ["other@example.com", "+15550100007"]
        for one in answer["deliveries"]:
            assert one["recipient"] == {"user": "42", "name": "Countess", "locale": "de", "timezone": "UTC"}
        again = await gw.send([{"user": "42"}, {"user": "42"}, {"user": "42", "data": {"a": 1}}], channels=["email"])
        assert [one["status"] for one in again["deliveries"]] == ["queued", "skipped", "queued"]


async def test_a_user_without_an_address_is_skipped_and_says_so(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await store(gw, "42", name="Ada")
        skipped = await gw.final(await gw.send({"user": "42"}))
        assert (skipped["status"], skipped["reason"], skipped["recipient"]["user"]) == ("skipped", "no_address", "42")


async def test_a_pattern_of_users_lets_their_stored_addresses_out_and_never_one_given_on_the_spot(tmp_path):
    staging = {"staging": {"allow": ["user:qa-*"]}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, environment="staging", **staging)) as gw:
        for id_ in ("qa-1", "qa-2", "jane"):
            await store(gw, id_, email=f"{id_}@example.org")
        cases: list[tuple[dict[str, str], str]] = [
            ({"user": "qa-1"}, "sent"),
            ({"user": "jane"}, "captured"),
            ({"user": "qa-1", "email": "jane@example.org"}, "captured"),
            ({"user": "qa-1", "email": "qa-1@example.org"}, "captured"),
            ({"email": "qa-1@example.org"}, "captured"),
        ]
        for to, status in cases:
            decision = (await gw.explain(to))["decision"]
            assert decision == ("send" if status == "sent" else "capture"), to
            assert (await gw.final(await gw.send(to)))["status"] == status, to
        assert [mail.rcpt_tos for mail in server.messages] == [("qa-1@example.org",)]


async def test_what_waited_in_the_table_still_knows_whether_its_address_was_stored(tmp_path, database):
    staging = smtp(SmtpServer(), environment="staging", staging={"allow": ["user:qa-*"]})
    async with SmtpServer() as server:
        config = merged(staging, smtp(server, environment="staging"))
        async with running_gateway(tmp_path, config, work=False, database=database) as gw:
            await store(gw, "qa-1", email="qa-1@example.org")
            stored = await gw.send({"user": "qa-1"})
            given = await gw.send({"user": "qa-1", "email": "jane@example.org"})
        async with running_gateway(tmp_path, config, database=database) as gw:
            assert (await gw.final(stored))["status"] == "sent"
            assert (await gw.final(given))["status"] == "captured"


async def test_a_dead_address_is_retired_with_the_settlement_and_used_no_more(tmp_path, database):
    dead = Behaviour(rcpt={"Ada@example.com": "550 5.1.1 no such user"})
    async with SmtpServer(dead) as server, running_gateway(tmp_path, smtp(server), database=database) as gw:
        await store(gw, "42", email="Ada@example.com", addresses=[{"channel": "email", "address": "two@example.com"}])
        await store(gw, "43", email="ada@example.com")
        first = await gw.send({"user": "42"})
        assert [one["address"] for one in first["deliveries"]] == ["Ada@example.com", "two@example.com"]
        assert (await gw.all_final(first["id"]))["counts"] == {"failed": 1, "sent": 1}
        found = {one["address"]: one for one in (await gw.get("/v1/users/42/addresses"))["items"]}
        assert found["Ada@example.com"]["retired_reason"] == "address_dead"
        assert found["Ada@example.com"]["retired_at"] is not None
        assert found["two@example.com"]["retired_at"] is None
        [left] = (await gw.send({"user": "42"}))["deliveries"]
        assert left["address"] == "two@example.com"
        [other] = (await gw.get("/v1/users/43/addresses"))["items"]
        assert other["retired_at"] is None, "known of one person's address; the suppression holds for both"


async def test_requests_without_users_ask_the_store_nothing_more(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT, work=False) as gw:
        asked: list[Any] = []
        real = gw.gateway.store.users_of

        async def counted(ids: Any) -> Any:
            asked.append(ids)
            return await real(ids)

        gw.gateway.accepting._store.users_of = counted  # type: ignore[method-assign] # counts, and does the real thing
        await store(gw, "42", email="ada@example.com")
        await gw.send("ada@example.com")
        await gw.client.post("/v1/notifications/batch", json={"notifications": [body()] * 3})
        assert asked == []
        await gw.client.post("/v1/notifications/batch", json={"notifications": [body({"user": "42"})] * 3})
        assert asked == [{"42"}], "one look for a whole batch"


@pytest.mark.parametrize("scopes", [("send",), ("send", "read")])
async def test_who_may_not_read_sees_a_users_address_masked(tmp_path, scopes):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        await store(gw, "42", name="Ada", email="ada@example.com")
        client = await gw.new_client(*scopes)
        [planned] = (await gw.send({"user": "42"}, client=client))["deliveries"]
        explained = await gw.explain({"user": "42"}, client=client)
        for one in (planned, explained):
            assert one["address"] == ("ada@example.com" if "read" in scopes else "a***@example.com")
            assert ("name" in one["recipient"]) is ("read" in scopes)


async def test_a_person_is_told_about_and_erased_and_their_address_still_not_written_to(tmp_path, database):
    async with running_gateway(tmp_path, DEVELOPMENT, database=database) as gw:
        await store(gw, "a%2F42", name="Ada", email="ada@example.com")
        await gw.client.post("/v1/suppressions", json={"channel": "sms", "address": "+15550100007"})
        sent = await gw.send({"user": "a/42"}, idempotency_key="once", reference="order-1")
        await gw.final(sent)
        await gw.final(await gw.send("ada@example.com"))
        told = await gw.get("/v1/users/a%2F42/export")
        assert told["user"]["email"] == "ada@example.com"
        assert [one["status"] for one in told["deliveries"]] == ["captured", "captured"]
        assert [one["to"] for one in told["captured"]] == ["ada@example.com", "ada@example.com"]
        first = await gw.get("/v1/users/a%2F42/export", limit=1)
        second = await gw.get("/v1/users/a%2F42/export", limit=1, cursor=first["next_cursor"])
        assert [*first["deliveries"], *second["deliveries"]] == told["deliveries"]
        assert second["next_cursor"] is None

        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        gone = await gw.client.delete("/v1/users/a%2F42")
        assert gone.status_code == 200, gone.text
        answer = gone.json()
        assert (answer["id"], answer["erased"], answer["scrubbed"]) == ("a/42", True, True)
        counted = {"users": 1, "addresses": 1, "deliveries": 2, "captured": 2, "suppressions": 1, "idempotency": 1}
        assert answer["removed"].items() >= counted.items()
        for path in ("/v1/users/a%2F42", "/v1/users/a%2F42/export"):
            assert (await gw.client.get(path)).status_code == 404
        assert (await gw.client.delete("/v1/users/a%2F42")).status_code == 404
        assert (await gw.get("/v1/captured"))["items"] == []
        shown = await gw.get(f"/v1/notifications/{sent['id']}")
        assert (shown["reference"], shown["deliveries"][0]["address"]) == (None, None)
        again = await gw.post({"user": "a/42"}, idempotency_key="once", reference="order-1")
        assert again.headers["idempotency-replayed"] == "true"
        assert "ada@example.com" not in again.text

        skipped = await gw.final(await gw.send("Ada@example.com"))
        assert (skipped["status"], skipped["reason"]) == ("skipped", "suppressed")
        assert (await gw.get("/v1/suppressions"))["items"][0]["channel"] == "sms"
        query = {"channel": "email", "address": "ADA@example.com"}
        [known] = (await gw.get("/v1/suppressions", **query))["items"]
        assert (known["reason"], known["detail"]) == ("suppressed", None)
        assert (await gw.client.delete("/v1/suppressions/email/ada%40example.com")).status_code == 200
        assert (await gw.get("/v1/suppressions", **query))["items"] == []
