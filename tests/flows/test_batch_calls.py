"""Batch calls from a request to the provider: several deliveries in one call, each with its own ending."""

from __future__ import annotations

import asyncio

from tests.support.gateway import body, delivery_id, running_gateway
from tests.support.http_server import HttpServer, Reply

DEAD = "dead@example.com"


def config(use: str, url: str, **more):
    return {
        "environment": "production",
        "providers": {"api": {"use": use, "base_url": url, "proxy": "direct", "connections": 1, **more}},
        "channels": {"email": {"providers": ["api"], "sender": "Shop <shop@example.com>"}},
    }


def postmark(request):
    """Take all but the dead."""
    messages = request.json()
    answers = [taken(each) for each in (messages if isinstance(messages, list) else [messages])]
    return Reply(200, json=answers if isinstance(messages, list) else answers[0])


def taken(message):
    if DEAD in message["To"]:
        return {"ErrorCode": 406, "Message": "inactive", "MessageID": ""}
    return {"ErrorCode": 0, "Message": "OK", "MessageID": message["Metadata"]["delivery"].replace("dlv_", "pm-")}


async def accepted(gw, addresses):
    wanted = [body(address) for address in addresses]
    answer = await gw.client.post("/v1/notifications/batch", json={"notifications": wanted})
    return [delivery_id(one) for one in answer.json()["results"]]


async def test_deliveries_share_calls_and_each_has_its_own_ending(tmp_path):
    people = [*(f"user{number}@example.com" for number in range(60)), DEAD]
    async with (
        HttpServer({"*": postmark}) as server,
        running_gateway(tmp_path, config("email_postmark", server.url, server_token="t")) as gw,
    ):
        sent = await accepted(gw, people)
        found = [await gw.until(id_, {"sent", "failed"}) for id_ in sent]
        assert [one["status"] for one in found] == ["sent"] * 60 + ["failed"]
        assert [one["attempts"][0]["provider_id"] for one in found[:60]] == [
            id_.replace("dlv_", "pm-") for id_ in sent[:60]
        ]
        assert found[60]["reason"] == "address_dead"
        assert len(server.requests) < 30, "a call carries several"
        [listed] = (await gw.get("/v1/suppressions"))["items"]
        assert listed["address"] == DEAD


async def test_a_lost_answer_leaves_all_of_the_call_unknown(tmp_path):
    careful = {"categories": {"default": {"on_unknown": "hold"}}}
    async with (
        HttpServer(Reply(500)) as server,
        running_gateway(tmp_path, {**config("email_postmark", server.url, server_token="t"), **careful}) as gw,
    ):
        sent = await accepted(gw, [f"user{number}@example.com" for number in range(5)])
        assert {(await gw.final(id_))["status"] for id_ in sent} == {"unknown"}


async def test_where_the_rate_counts_calls_one_call_takes_many_past_it(tmp_path):
    def resend(request):
        ids = [{"id": each["tags"][0]["value"]} for each in request.json()] if request.target == "/emails/batch" else []
        return Reply(200, json={"data": ids} if ids else {"id": "alone"})

    async with (
        HttpServer({"*": resend}) as server,
        running_gateway(tmp_path, config("email_resend", server.url, api_key="k", batch=True, rate="2/s")) as gw,
    ):
        began = gw.clock()
        sent = await accepted(gw, [f"user{number}@example.com" for number in range(100)])
        assert {(await gw.until(id_, {"sent"}))["status"] for id_ in sent} == {"sent"}
        calls = len(server.requests)
        assert calls <= 2 + 2 * (gw.clock() - began) / 1000, "no more calls than the rate allows"
        assert calls < 20
        [shown] = [one for one in (await gw.get("/v1/providers"))["items"] if one["use"] == "email_resend"]
        assert (shown["batch"], shown["rate"]["limit"], shown["rate"]["counts"]) == (100, "2/s", "calls")
        assert shown["idempotent"] is False


async def test_what_is_captured_waits_for_no_call(tmp_path):
    async with (
        HttpServer({"*": postmark}) as server,
        running_gateway(tmp_path, config("email_postmark", server.url, server_token="t")) as gw,
    ):
        test = await gw.new_client("send", "read", mode="test")
        answers = await asyncio.gather(*[gw.send(f"user{number}@example.com", client=test) for number in range(5)])
        assert {(await gw.final(one))["status"] for one in answers} == {"captured"}
        assert server.requests == []
