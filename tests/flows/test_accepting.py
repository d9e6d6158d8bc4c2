"""What a 202 stores and what it does not: idempotency, batches, projects, masks, limits."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.support.gateway import body, running_gateway, smtp
from tests.support.patience import PATIENCE_S
from tests.support.smtp_server import SmtpServer

DEVELOPMENT = {"environment": "development"}


async def test_fifty_requests_at_once_under_one_key_send_one_message(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answers = await asyncio.gather(*[gw.post(idempotency_key="order-1") for _ in range(50)])
        assert {one.status_code for one in answers} == {202}
        assert len({one.content for one in answers}) == 1, "the first answer again, byte for byte"
        replayed = [one.headers.get("Idempotency-Replayed") for one in answers]
        assert (replayed.count(None), replayed.count("true")) == (1, 49)
        await gw.final(answers[0].json())
        assert len(server.messages) == 1
        assert len((await gw.get("/v1/notifications"))["items"]) == 1
        assert sum(gw.gateway.dispatcher.in_hand().values()) == 0


async def test_a_key_used_with_another_body_is_refused_and_its_first_answer_stays(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        first = await gw.post(idempotency_key="k", reference="a")
        other = await gw.post(idempotency_key="k", reference="b")
        assert (other.status_code, other.json()["type"]) == (422, "/errors/idempotency-key-reused")
        assert other.json()["errors"][0]["code"] == "idempotency_key_reused"
        again = await gw.post(idempotency_key="k", reference="a")
        assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")


async def test_a_key_is_forgotten_after_a_day_and_belongs_to_its_api_key(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        first = (await gw.post(idempotency_key="k")).json()
        other = await gw.new_client("send", "read")
        elsewhere = await gw.post(idempotency_key="k", client=other)
        assert "Idempotency-Replayed" not in elsewhere.headers
        assert elsewhere.json()["id"] != first["id"]
        gw.clock.advance(86_399)
        assert (await gw.post(idempotency_key="k")).json()["id"] == first["id"]
        gw.clock.advance(2)
        late = await gw.post(idempotency_key="k")
        assert late.status_code == 202
        assert late.json()["id"] != first["id"]


async def test_a_refused_request_does_not_take_its_key(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        bad = await gw.post("not an address", idempotency_key="k")
        assert bad.status_code == 422
        good = await gw.post("ada@example.com", idempotency_key="k")
        assert good.status_code == 202
        assert "Idempotency-Replayed" not in good.headers


async def test_a_key_outlives_the_process(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        first = await gw.post(idempotency_key="k")
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        again = await gw.post(idempotency_key="k")
        assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")


async def test_one_bad_item_does_not_sink_a_batch(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        items = [
            body("a@example.com", reference="1"),
            body("not an address"),
            {"nonsense": True},
            body("b@example.com", idempotency_key="k"),
            body("b@example.com", idempotency_key="k"),
            body("c@example.com", idempotency_key="k"),
            body("d@example.com", template="no-such-template"),
        ]
        answer = await gw.client.post("/v1/notifications/batch", json={"notifications": items})
        assert answer.status_code == 202
        results = answer.json()["results"]
        assert [one["status"] for one in results] == [202, 422, 422, 202, 202, 422, 422]
        assert results[3]["id"] == results[4]["id"]
        assert results[1]["error"]["errors"][0]["field"] == "to[0].email"
        assert results[5]["error"]["type"] == "/errors/idempotency-key-reused"
        assert results[6]["error"]["errors"][0]["code"] == "unknown_template"
        for one in (results[0], results[3]):
            await gw.all_final(one["id"])
        assert sorted(mail.rcpt_tos[0] for mail in server.messages) == ["a@example.com", "b@example.com"]
        assert sum(gw.gateway.dispatcher.in_hand().values()) == 0


async def test_every_fault_is_told_at_once_and_nothing_is_stored(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        answer = await gw.client.post(
            "/v1/notifications",
            json={
                "to": [{"email": "nope"}, {"user": "42"}, {}],
                "content": {"title": "Hello"},
                "template": "welcome",
                "category": "no-such",
                "channels": ["carrier-pigeon", "email"],
                "overrides": {"email": {"subject": "a\r\nBcc: x@example.com", "from": "evil@example.org"}},
            },
        )
        assert answer.status_code == 422
        found = {(one["field"], one["code"]) for one in answer.json()["errors"]}
        assert {
            ("to[0].email", "invalid"),
            ("to[1].user", "unknown_user"),
            ("to[2]", "required"),
            ("content", "exclusive"),
            ("category", "unknown_category"),
            ("channels[0]", "unknown_channel"),
            ("overrides.email.subject", "header_injection"),
            ("overrides.email.from", "not_allowed"),
        } <= found, found
        assert (await gw.get("/v1/notifications"))["items"] == []


async def test_the_same_address_a_thousand_times_is_written_to_once(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        answer = await gw.send([{"email": "ada@example.com"}] * 1000)
        done = await gw.all_final(answer["id"])
        assert done["counts"] == {"sent": 1, "skipped": 999}
        assert len(server.messages) == 1


async def test_another_projects_things_are_not_there(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        north = await gw.new_client("send", "read", "manage", project="north")
        south = await gw.new_client("send", "read", "manage", project="south")
        sent = await gw.send(client=north)
        delivery = sent["deliveries"][0]["id"]
        await gw.final(sent)
        [captured] = (await north.get("/v1/captured")).json()["items"]
        paths = [
            ("GET", f"/v1/notifications/{sent['id']}"),
            ("GET", f"/v1/notifications/{sent['id']}/events"),
            ("GET", f"/v1/deliveries/{delivery}"),
            ("POST", f"/v1/notifications/{sent['id']}/cancel"),
            ("POST", f"/v1/deliveries/{delivery}/retry"),
            ("GET", f"/v1/captured/{captured['id']}"),
        ]
        for method, path in paths:
            answer = await south.request(method, path)
            assert (answer.status_code, answer.json()["type"]) == (404, "/errors/not-found"), path
        for path in ("/v1/notifications", "/v1/deliveries", "/v1/captured"):
            assert (await south.get(path)).json()["items"] == [], path
            assert len((await north.get(path)).json()["items"]) == 1, path
        many = await south.post("/v1/deliveries/retry", json={"notification_id": sent["id"], "force": True})
        assert many.json()["deliveries"] == []
        await south.delete("/v1/captured")
        assert len((await north.get("/v1/captured")).json()["items"]) == 1
        assert (await gw.get(f"/v1/notifications/{sent['id']}"))["project"] == "north", "admin sees all"


async def test_who_may_not_read_sees_masked_addresses(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        blind = await gw.new_client("send")
        to = {"email": "ada@example.com", "name": "Ada", "data": {"secret": "s"}}
        sent = await gw.send(to, client=blind)
        explained = await gw.explain(to, client=blind)
        await gw.final(sent)
        for one in (sent["deliveries"][0], explained):
            assert one["address"] == "a***@example.com"
            assert "Ada" not in str(one["recipient"])
            assert "secret" not in str(one["recipient"])
        assert (await blind.get(f"/v1/notifications/{sent['id']}")).status_code == 403
        seen = await gw.get(f"/v1/notifications/{sent['id']}")
        assert seen["deliveries"][0]["address"] == "ada@example.com"


async def test_explain_shows_no_body_more_than_a_masked_address_to_who_may_not_read(tmp_path):
    async with running_gateway(tmp_path, DEVELOPMENT) as gw:
        blind = await gw.new_client("send")
        await gw.client.post("/v1/suppressions", json={"channel": "email", "address": "ada@example.com"})
        one = await gw.explain("ada@example.com", client=blind)
        assert (one["decision"], one["reason"]) == ("skip", "suppressed")
        assert "ada@example.com" not in str(one)


async def test_a_batch_with_suppressed_addresses_is_planned_right_and_gives_its_slots_back(tmp_path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        for number in range(0, 31, 3):
            await gw.client.post("/v1/suppressions", json={"channel": "email", "address": f"user{number}@example.com"})
        items = [body([{"email": f"User{n}@example.com"}, {"email": f"user{n + 1}@example.com"}]) for n in range(30)]
        answer = await gw.client.post("/v1/notifications/batch", json={"notifications": items})
        counts: Counter[tuple[str, str | None]] = Counter()
        for number, result in enumerate(answer.json()["results"]):
            assert result["status"] == 202
            done = await gw.all_final(result["id"])
            states = [(one["status"], one["reason"]) for one in done["deliveries"]]
            wanted = [("skipped", "suppressed") if n % 3 == 0 else ("sent", None) for n in (number, number + 1)]
            assert states == wanted, number
            counts.update(states)
        assert len(server.messages) == counts["sent", None]
        assert sum(gw.gateway.dispatcher.in_hand().values()) == 0


async def test_when_too_much_waits_a_send_is_told_to_come_back_and_what_was_accepted_stays(tmp_path):
    async with running_gateway(tmp_path, {"environment": "development", "limits": {"waiting": 2}}, work=False) as gw:
        first = await gw.send([{"email": "a@example.com"}, {"email": "b@example.com"}])
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await gw.post()).status_code != 503:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["retryable"] is True
        assert (await gw.get(f"/v1/notifications/{first['id']}"))["counts"] == {"queued": 2}
