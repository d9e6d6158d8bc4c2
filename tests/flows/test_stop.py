"""STOP and START: a person's word to one of our numbers and what follows from it; signed by Twilio's library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from channels.testing_server import HttpServer, Reply
from tests.support.callbacks import OURS, PUBLIC, TO, TWILIO_ACCOUNT, TWILIO_TOKEN, Posted, twilio_said
from tests.support.gateway import RunningGateway, running_gateway

ADA, OTHER = TO["sms"], "+15550100008"
SERVICE = "MG" + "0123456789abcdef" * 2
TAKEN = Reply(201, json={"sid": "SM1", "status": "queued", "error_code": None})
REFUSED = Reply(400, json={"code": 21610, "message": "Attempt to send to unsubscribed recipient", "status": 400})


def config(url: str, *senders: dict[str, str]) -> dict[str, Any]:
    names = ["reporter", "second"][: len(senders)]
    return {
        "environment": "production",
        "public_url": PUBLIC,
        "providers": {
            name: {
                "use": "sms_twilio",
                "account_sid": TWILIO_ACCOUNT,
                "auth_token": TWILIO_TOKEN,
                "base_url": url,
                "callback_url": f"{PUBLIC}/v1/callbacks/{name}",
                **sender,
            }
            for name, sender in zip(names, senders, strict=True)
        },
        "channels": {"sms": {"providers": names, "senders": [OURS, OTHER]}},
    }


async def post(gw: RunningGateway, posted: Posted) -> Any:
    answer = await gw.client.post("/v1/callbacks/reporter", content=posted.body, headers=dict(posted.headers))
    assert answer.status_code == 200, answer.text
    return answer.json()["changed"]


async def text(gw: RunningGateway, who: str = ADA, **more: Any) -> Any:
    return await gw.until(await gw.send({"phone": who}, channels=["sms"], **more), {"sent", "skipped", "failed"})


async def listed(gw: RunningGateway) -> list[tuple[str, str | None, str, str]]:
    items = (await gw.get("/v1/suppressions", channel="sms"))["items"]
    return [(one["address"], one["sender"], one["reason"], one["source"]) for one in items]


async def test_stop_holds_for_that_sender_until_start(tmp_path: Path, database: str):
    async with (
        HttpServer(TAKEN) as server,
        running_gateway(tmp_path, config(server.url, {"sender": OURS}), database=database) as gw,
    ):
        assert (await text(gw))["status"] == "sent"
        stop = twilio_said("Stop", "SM10")
        assert [await post(gw, stop) for _ in range(3)] == [1, 0, 0]
        assert await listed(gw) == [(ADA, OURS, "opted_out", "reporter")]
        stopped = await text(gw)
        assert (stopped["status"], stopped["reason"]) == ("skipped", "opted_out")
        assert (await text(gw, "+15550100002"))["status"] == "sent"
        assert await post(gw, twilio_said("HELP", "SM11")) == 0
        assert await post(gw, twilio_said("what is this?", "SM12")) == 0
        assert (await text(gw))["status"] == "skipped"
        assert await post(gw, twilio_said("START", "SM13")) == 1
        assert await post(gw, stop) == 0  # it comes again, late
        assert await listed(gw) == []
        assert (await text(gw))["status"] == "sent"
        assert [request.form()["To"] for request in server.requests] == [ADA, "+15550100002", ADA]


async def test_start_lifts_no_suppression_by_hand(tmp_path: Path):
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, {"sender": OURS})) as gw:
        await gw.client.post("/v1/suppressions", json={"channel": "sms", "address": ADA})
        assert [await post(gw, twilio_said(word, word)) for word in ("STOP", "START")] == [1, 1]
        assert await listed(gw) == [(ADA, None, "suppressed", "api")]
        again = await text(gw)
        assert (again["status"], again["reason"]) == ("skipped", "suppressed")


async def test_deleting_the_suppression_takes_every_senders_off(tmp_path: Path):
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, {"sender": OURS})) as gw:
        await post(gw, twilio_said("STOP", "SM10"))
        assert (await gw.client.delete(f"/v1/suppressions/sms/{ADA}")).status_code == 200
        assert (await gw.client.delete(f"/v1/suppressions/sms/{ADA}")).status_code == 404
        assert (await text(gw))["status"] == "sent"


async def test_the_sender_that_the_caller_names_is_the_one_that_counts(tmp_path: Path):
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, {"sender": OURS})) as gw:
        await post(gw, twilio_said("STOP", "SM10"))
        for sender, status in ((OURS, "skipped"), (OTHER, "sent")):
            assert (await text(gw, overrides={"sms": {"from": sender}}))["status"] == status
        assert [request.form()["From"] for request in server.requests] == [OTHER]


async def test_another_provider_with_another_sender_goes_on(tmp_path: Path):
    senders = ({"sender": OURS}, {"sender": OTHER})
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, *senders)) as gw:
        await post(gw, twilio_said("STOP", "SM10"))
        explained = await gw.explain({"phone": ADA}, channels=["sms"])
        assert (explained["decision"], explained["provider"]) == ("send", "second")
        assert ["sender", "skip"] in [[rule["rule"], rule["result"]] for rule in explained["rules"]]
        sent = await text(gw)
        assert (sent["status"], sent["provider"]) == ("sent", "second")
        await post(gw, twilio_said("STOP", "SM11", to=OTHER))
        explained = await gw.explain({"phone": ADA}, channels=["sms"])
        assert (explained["decision"], explained["reason"], explained["provider"]) == ("skip", "opted_out", None)
        assert (await text(gw))["status"] == "skipped"
        assert [request.form()["From"] for request in server.requests] == [OTHER]


async def test_a_stop_to_a_number_of_a_service_stops_the_service(tmp_path: Path):
    sender = {"messaging_service_sid": SERVICE}
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, sender)) as gw:
        assert await post(gw, twilio_said("STOP", "SM10", to="+15550100077", MessagingServiceSid=SERVICE)) == 2
        assert {sender for _, sender, _, _ in await listed(gw)} == {SERVICE, "+15550100077"}
        assert (await text(gw))["status"] == "skipped"
        assert await post(gw, twilio_said("START", "SM11", to="+15550100077", MessagingServiceSid=SERVICE)) == 2
        assert (await text(gw))["status"] == "sent"


@pytest.mark.parametrize("others", [0, 1])
async def test_what_twilio_refuses_for_stop_is_remembered_for_that_sender(tmp_path: Path, others: int):
    senders = ({"sender": OURS}, {"sender": OTHER})[: others + 1]

    def answer(request: Any) -> Reply:
        return REFUSED if request.form()["From"] == OURS else TAKEN

    async with HttpServer(answer) as server, running_gateway(tmp_path, config(server.url, *senders)) as gw:
        first = await text(gw)
        assert first["status"] == ("sent" if others else "failed")
        assert first["reason"] == (None if others else "opted_out")
        assert await listed(gw) == [(ADA, OURS, "opted_out", "reporter")]
        second = await text(gw)
        assert second["status"] == ("sent" if others else "skipped")
        assert [request.form()["From"] for request in server.requests] == [OURS, *([OTHER, OTHER] if others else [])]
        assert await post(gw, twilio_said("START", "SM10")) == 1
        assert await listed(gw) == []


async def test_a_forged_stop_changes_nothing(tmp_path: Path):
    async with HttpServer(TAKEN) as server, running_gateway(tmp_path, config(server.url, {"sender": OURS})) as gw:
        genuine = twilio_said("STOP", "SM10")
        for forged in (genuine.altered(), genuine.without("x-twilio-signature")):
            answer = await gw.client.post(
                "/v1/callbacks/reporter", content=forged.body, headers={"accept": "*/*", **forged.headers}
            )
            assert answer.status_code == 401
        assert await listed(gw) == []
        assert (await text(gw))["status"] == "sent"


async def test_in_development_a_stopped_number_is_skipped_as_it_would_be(tmp_path: Path):
    async with HttpServer(TAKEN) as server:
        staging = {**config(server.url, {"sender": OURS}), "environment": "staging"}
        async with running_gateway(tmp_path, staging) as gw:
            await post(gw, twilio_said("STOP", "SM10"))
            found = await gw.final(await gw.send({"phone": ADA}, channels=["sms"]))
            assert (found["status"], found["reason"]) == ("skipped", "opted_out")
            assert server.requests == []
