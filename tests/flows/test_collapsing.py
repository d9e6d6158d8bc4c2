"""`collapse_key`, end to end: a newer message replaces an unsent older one, and the shown one where the medium can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from channels.contract import Accepted, Reason, Retry
from channels.testing_server import HttpServer, Reply
from gateway.model.states import Status, Why
from tests.flows.test_channels import config
from tests.router.house import Scripted, dispatching, house, soon
from tests.support.gateway import body, parsed, running_gateway, smtp
from tests.support.smtp_server import SmtpServer

KEY = {"collapse_key": "order-7", "channels": ["email"]}


async def test_after_an_outage_only_the_newest_arrives(tmp_path: Path, database: str):
    server = SmtpServer()
    async with server:
        pass
    async with running_gateway(tmp_path, smtp(server), database=database) as gw:
        older = [await gw.send(content={"title": f"State {number}"}, **KEY) for number in range(3)]
        for one in older[:2]:
            assert (await gw.final(one))["reason"] == "collapsed"
        await gw.held(older[2], "retry")
        other = await gw.send(content={"title": "Another key"}, collapse_key="order-8", channels=["email"])
        newest = await gw.send(content={"title": "State 3"}, **KEY)
        replaced = await gw.final(older[2])
        assert (replaced["status"], replaced["reason"]) == ("skipped", "collapsed")
        assert replaced["detail"] == f"replaced by {newest['id']}"
        async with server:
            gw.clock.advance(600)
            assert (await gw.final(newest, within_s=10))["status"] == "sent"
            assert (await gw.final(other, within_s=10))["status"] == "sent"
            titles = sorted(parsed(mail)["subject"] for mail in server.messages)
            assert titles == ["Another key", "State 3"]


async def test_of_a_batch_the_last_of_a_key_is_sent(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server), work=False) as gw:
        wanted = [body(content={"title": f"State {number}"}, **KEY) for number in range(10)]
        results = (await gw.client.post("/v1/notifications/batch", json={"notifications": wanted})).json()["results"]
        found = [await gw.delivery(one) for one in results]
        assert [one["reason"] for one in found] == ["collapsed"] * 9 + [None]


async def test_one_that_was_in_hand_when_it_was_replaced_is_not_tried_again(tmp_path: Path):
    slow = Scripted(Retry(Reason.PROVIDER_DOWN), Accepted("ok"))
    async with house(tmp_path, slow) as place, dispatching(place):
        slow.open.clear()
        older = await place.send(collapse_key="order-7")
        await soon(lambda: slow.now_in == 1)
        newer = await place.send(collapse_key="order-7")
        slow.open.set()
        await soon(lambda: len(place.settled) == 2)
        assert (await place.view(newer)).status is Status.SENT
        assert (await place.view(older)).status is Status.HELD
        place.clock.advance(60)
        await soon(lambda: len(place.settled) == 3)
        found = await place.view(older)
        assert (found.status, found.reason, found.detail) == (Status.SKIPPED, Why.COLLAPSED, "replaced by a newer one")
        assert len(slow.seen) == 2


class Slack:
    """Slack as far as it matters here: every message has a place of its own, and can be changed there."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}

    def __call__(self, request: Any) -> Reply:
        said = request.json()
        ts = said.get("ts") or f"1.{len(self.shown) + 1}"
        self.shown[ts] = said["text"].partition("\n")[0]
        return Reply(200, json={"ok": True, "channel": "C7", "ts": ts})


async def test_slack_shows_the_newest_in_the_place_of_the_older_one(tmp_path: Path, database: str):
    slack = Slack()
    async with HttpServer(slack) as server, running_gateway(tmp_path, config(server.url), database=database) as gw:
        for number in range(3):
            title = {"title": f"Disk {number}"}
            sent = await gw.send({"slack": "ops"}, channels=["slack"], collapse_key="disk", content=title)
            assert (await gw.final(sent))["status"] == "sent"
        foreign = {"overrides": {"slack": {"replaces": "C9:1.1"}}, "content": {"title": "No key"}}
        refused = await gw.post({"slack": "ops"}, channels=["slack"], **foreign)
        assert refused.status_code == 422, "a caller cannot name what is replaced"
        plain = await gw.send({"slack": "ops"}, channels=["slack"], content={"title": "No key"})
        await gw.final(plain)
        assert [one.target.rpartition(".")[2] for one in server.requests] == [
            "postMessage", "update", "update", "postMessage",
        ]  # fmt: skip
        assert list(slack.shown.values()) == ["Disk 2", "No key"]


async def test_an_email_hears_nothing_of_its_key(tmp_path: Path):
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server)) as gw:
        await gw.final(await gw.send(**KEY))
        [mail] = server.messages
        assert b"order-7" not in mail.content
