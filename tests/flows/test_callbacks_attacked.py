"""Forged, altered, repeated, reordered, cut and endless callbacks, to every adapter that takes callbacks.

Each is a real request to `/v1/callbacks/{provider}`, signed by the vendor's own library where there is one. What is
refused changes nothing; what comes again changes nothing more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from channels.testing_server import HttpServer, Reply
from tests.support import callbacks
from tests.support.callbacks import CERTIFICATE, PUBLIC, TO, Posted, Reporter, reporters
from tests.support.gateway import RunningGateway, running_gateway
from tests.support.smtp_server import SmtpServer

NAMES = sorted(reporters("http://127.0.0.1:1", 25))
PATH = "/v1/callbacks/reporter"


def answering(request: Any) -> Reply:
    """Answer as whichever provider lives at this path: it takes every message."""
    path = request.target.partition("?")[0]
    if path.endswith(".pem"):
        return Reply(200, body=CERTIFICATE)
    taken = {
        "id": "re-1",
        "MessageID": "pm-1",
        "ErrorCode": 0,
        "Message": "OK",
        "messageId": "<br-1@x>",
        "MessageId": "ses-1",
        "sid": "SM1",
        "status": "queued",
        "ok": True,
        "channel": TO["slack"],
        "ts": "1.2",
    }
    if path == "/v3/mail/send":
        return Reply(202, {"X-Message-Id": "sg-1"})
    return Reply(200, json=taken)


class Scene:
    """A gateway with one provider, a delivery that it was sent, and what can be asked about it."""

    def __init__(self, gateway: RunningGateway, reporter: Reporter, delivery: str) -> None:
        self.gateway = gateway
        self.reporter = reporter
        self.delivery = delivery

    def report(self, at: float | None = None, to: str | None = None, delivery: str | None = None) -> Posted:
        whom = TO[self.reporter.channel] if to is None else to
        return self.reporter.post(
            self.delivery if delivery is None else delivery, time.time() if at is None else at, whom
        )

    async def post(self, posted: Posted) -> httpx.Response:
        target = f"{PATH}?{posted.query}" if posted.query else PATH
        headers = {"authorization": "", **posted.headers}
        return await self.gateway.client.post(target, content=posted.body, headers=headers)

    async def state(self) -> Any:
        """Read all that a callback could change."""
        found = await self.gateway.delivery(self.delivery)
        events = await self.gateway.events(found["notification_id"])
        listed = (await self.gateway.get("/v1/suppressions"))["items"]
        return found["status"], found["engagement"], [event["type"] for event in events], listed


@contextlib.asynccontextmanager
async def scene(folder: Path, name: str) -> AsyncIterator[Scene]:
    async with HttpServer(answering) as server, SmtpServer() as smtp:
        reporter = reporters(server.url, smtp.port)[name]
        config = {
            "environment": "production",
            "public_url": PUBLIC,
            "providers": {"reporter": {"use": reporter.use, **reporter.settings}},
            "channels": {reporter.channel: {"providers": ["reporter"]}},
        }
        if reporter.channel == "email":
            config["channels"]["email"]["sender"] = "Shop <shop@example.com>"
        async with running_gateway(folder, config) as gw:
            key = "phone" if reporter.channel == "sms" else reporter.channel
            sent = await gw.until(await gw.send({key: TO[reporter.channel]}, channels=[reporter.channel]), {"sent"})
            yield Scene(gw, reporter, sent["id"])


@pytest.mark.parametrize("name", NAMES)
async def test_a_genuine_report_is_believed_once(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        genuine = one.report()
        answer = await one.post(genuine)
        assert (answer.status_code, answer.json()) == (200, {"changed": 1})
        status, engagement, events, listed = after = await one.state()
        assert status == one.reporter.becomes
        assert engagement == (["acknowledged"] if name == "slack" else [])
        assert len(events) >= 2
        assert [(row["address"], row["source"], row["reason"], row["sender"]) for row in listed] == (
            [(TO[one.reporter.channel], "reporter", "address_dead", None)] if one.reporter.suppresses else []
        )
        for _ in range(2):  # the same bytes again
            answer = await one.post(genuine)
            assert (answer.status_code, answer.json()) == (200, {"changed": 0})
        assert await one.state() == after


def attacks(one: Scene) -> dict[str, Posted]:
    """Everything a forger may try who has seen a genuine report, but no secret."""
    genuine = one.report()
    found = {
        "nothing at all": Posted(b""),
        "no proof": genuine.without(*(each for each in genuine.headers if each != "content-type")),
        "cut in half": dataclasses.replace(genuine, body=genuine.body[: len(genuine.body) // 2]),
        "another's bearer token": Posted(genuine.body, {**genuine.headers, "authorization": "Bearer guessed"}),
        "another's password": Posted(
            genuine.body, {**genuine.headers, "authorization": callbacks.basic("x", "guessed")}
        ),
        "garbage": Posted(b"\x00\xff{[<" * 50, dict(genuine.headers), genuine.query),
        "json of another kind": Posted(b'[[[{"event-data": 1}]]]', dict(genuine.headers), genuine.query),
        "deep": Posted(b"[" * 100_000, dict(genuine.headers), genuine.query),
    }
    if one.reporter.sealed:
        found["altered"] = genuine.altered()
        found["another query"] = dataclasses.replace(genuine, query="delivery=dlv_1")
    if "authorization" in genuine.headers or name_of(one) == "mailgun":
        found.pop("cut in half")  # a password covers no bytes: that test is below
    if "authorization" not in genuine.headers:
        found.pop("another's bearer token")
        found.pop("another's password")
    if name_of(one) != "twilio":
        found.pop("another query", None)  # only Twilio signs it
    if name_of(one) == "smtp":
        found.pop("json of another kind")  # with the secret it is mail, of which nothing can be made
    if name_of(one) == "mailgun":
        found.pop("no proof")  # its proof stands in the body
        found["no proof"] = Posted(genuine.body.replace(b'"signature": "', b'"signature": "0'), genuine.headers)
    if name_of(one) == "ses":
        found.pop("no proof")
        found["no proof"] = Posted(genuine.body.replace(b'"Signature": "', b'"Signature": "AA'), genuine.headers)
    return found


def name_of(one: Scene) -> str:
    return one.reporter.use.partition("_")[2]


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_forged_or_damaged_is_refused_and_changes_nothing(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        before = await one.state()
        for what, posted in attacks(one).items():
            answer = await one.post(posted)
            assert answer.status_code in {400, 401}, (what, answer.text)
            assert answer.json()["type"] in {"/errors/malformed", "/errors/unauthorized"}, what
            assert await one.state() == before, what
        assert (await one.post(one.report())).json() == {"changed": 1}  # and the genuine one is still believed


@pytest.mark.parametrize("name", NAMES)
async def test_an_endless_body_is_refused_before_it_is_read(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        before = await one.state()
        genuine = one.report()
        answer = await one.post(dataclasses.replace(genuine, body=genuine.body + b" " * 1_100_000))
        assert answer.status_code == 413
        assert await one.state() == before


@pytest.mark.parametrize("name", ["mailgun", "resend", "sendgrid", "ses", "slack"])
async def test_what_was_signed_long_ago_or_tomorrow_is_refused(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        before = await one.state()
        for offset_s in (-3 * 86_400, 86_400):
            assert (await one.post(one.report(time.time() + offset_s))).status_code == 401
        assert await one.state() == before


@pytest.mark.parametrize("name", NAMES)
async def test_a_report_about_a_delivery_that_is_not_ours_changes_nothing(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        before = await one.state()
        for foreign in ("dlv_00000000000070008000000000000001", "dlv_1", "ntf_x", "", "'; DROP TABLE deliveries; --"):
            answer = await one.post(one.report(delivery=foreign))
            assert answer.status_code == 200, foreign
            assert answer.json() == {"changed": 0}, foreign
        assert await one.state() == before


@pytest.mark.parametrize("name", [name for name in NAMES if name != "slack"])
async def test_a_report_about_somebody_else_changes_nothing(tmp_path: Path, name: str):
    async with scene(tmp_path, name) as one:
        before = await one.state()
        copied = "+15550100002" if one.reporter.channel == "sms" else "boss@example.com"  # who was sent a copy, say
        answer = await one.post(one.report(to=copied))
        assert (answer.status_code, answer.json()) == (200, {"changed": 0})
        assert await one.state() == before


async def test_a_callback_for_one_provider_is_no_proof_to_another(tmp_path: Path):
    async with scene(tmp_path, "postmark") as one:
        before = await one.state()
        for name in NAMES:
            posted = reporters("http://127.0.0.1:1", 25)[name].post(one.delivery, time.time(), TO["email"])
            if name != "postmark":
                assert (await one.post(posted)).status_code in {400, 401}, name
        for path in ("/v1/callbacks/nobody", "/v1/callbacks/simulator"):
            posted = one.report()
            answer = await one.gateway.client.post(path, content=posted.body, headers=dict(posted.headers))
            assert answer.status_code == 404
        assert await one.state() == before
