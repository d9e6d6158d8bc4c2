"""Teams workflows: Adaptive Cards from words, every documented answer, and which URLs are workflows at all."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import ClassVar

import msgspec
import pytest

from channels.chat_teams import TeamsChannel, TeamsSettings
from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, SettingsFault
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, HttpFacing, Recorder
from tests.support.http_server import HttpServer, Reply

HOOK = "https://prod-12.westeurope.logic.azure.com:443/workflows/private-address/triggers/manual/paths/invoke?sig=x"
PATH = "/workflows/private-address/triggers/manual/paths/invoke?sig=x"


def teams(number=1, *, to=HOOK, text="private-body", options=None, **content):
    return Message(
        id=f"dlv_{number}",
        kind="teams",
        to=to,
        content=Content(text=text, **content),
        idempotency_key=f"key-{number}",
        options=options or {},
    )


def enveloped(card):
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


def carded(body, **more):
    return {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": body,
        "msteams": {"width": "Full"},
        **more,
    }


def block(text, **more):
    return {"type": "TextBlock", "text": text, "wrap": True, **more}


def refused(status, code, outcome, reason):
    reply = Reply(status, json={"error": {"code": code, "message": "private-body"}})
    return GoldenAnswer(code, reply, outcome, reason, detail=code)


class Redirected:
    """The channel under test, its messages' webhook URLs led to the test's server."""

    def __init__(self, channel, url):
        self._channel, self._url = channel, url
        self.kind, self.Settings, self.limits = channel.kind, channel.Settings, channel.limits

    async def send(self, message):
        to = message.to.replace("https://prod-12.westeurope.logic.azure.com:443", self._url)
        return await self._channel.send(msgspec.structs.replace(message, to=to))

    async def aclose(self):
        await self._channel.aclose()


class TestTeams(HttpChannelContract):
    channel = TeamsChannel
    settings: ClassVar = {}
    accepted = Reply(202, {"x-ms-workflow-run-id": "0858"})
    callers_endpoint = True
    answers = (
        GoldenAnswer("started", accepted, Accepted, provider_id="0858"),
        GoldenAnswer("answered by the workflow itself", Reply(200), Accepted),
        refused(404, "WorkflowNotFound", Rejected, Reason.ADDRESS_DEAD),
        refused(404, "WorkflowTriggerNotFound", Rejected, Reason.ADDRESS_DEAD),
        refused(401, "DirectApiAuthorizationRequired", Rejected, Reason.INVALID_ADDRESS),
        refused(401, "DirectApiInvalidAuthorizationScheme", Rejected, Reason.INVALID_ADDRESS),
        refused(403, "AuthorizationFailed", Rejected, Reason.INVALID_ADDRESS),
        refused(400, "TriggerInputSchemaMismatch", Rejected, Reason.MESSAGE_INVALID),
        refused(400, "InvalidRequestContent", Rejected, Reason.MESSAGE_INVALID),
        refused(413, "RequestEntityTooLarge", Rejected, Reason.TOO_LARGE),
        refused(400, "WorkflowTriggerIsNotEnabled", Retry, Reason.RETRY),
        GoldenAnswer("gone", Reply(410), Rejected, Reason.ADDRESS_DEAD),
        GoldenAnswer("413 without a code", Reply(413), Rejected, Reason.TOO_LARGE),
        GoldenAnswer("429", Reply(429, {"Retry-After": "9"}), Retry, Reason.RETRY, 9.0),
        GoldenAnswer(
            "429 with a code",
            Reply(429, {"Retry-After": "9"}, json={"error": {"code": "WorkflowTriggerRequestRateLimitExceeded"}}),
            Retry,
            Reason.RETRY,
            9.0,
        ),
        GoldenAnswer("401 is no account's affair", Reply(401), Retry, Reason.RETRY),
        GoldenAnswer("a 404 without a code suppresses nobody", Reply(404), Retry, Reason.RETRY),
    )
    requests = (
        GoldenRequest(
            "text",
            teams(text="a *b*\n\n# c"),
            PATH,
            json=enveloped(carded([block(r"a \*b\*"), block("\u200b# c")])),
            headers={"content-type": "application/json"},
        ),
        GoldenRequest(
            "words become a card",
            teams(
                data={
                    "title": "Disk_full",
                    "body": "On **db-1**: see [the graph](https://example.com/g).\n\n- one\n- two",
                    "url": "https://example.com/alerts/7",
                    "image_url": "https://example.com/graph.png",
                    "actions": [{"label": "Runbook", "url": "https://example.com/runbook"}],
                }
            ),
            PATH,
            json=enveloped(
                carded(
                    [
                        block(r"Disk\_full", size="Large", weight="Bolder", style="heading"),
                        block("On **db-1**: see [the graph](https://example.com/g)."),
                        block("- one\n- two"),
                        {
                            "type": "Image",
                            "url": "https://example.com/graph.png",
                            "altText": "Disk_full",
                            "size": "Stretch",
                        },
                    ],
                    actions=[
                        {"type": "Action.OpenUrl", "title": "Runbook", "url": "https://example.com/runbook"},
                        {"type": "Action.OpenUrl", "title": "Disk_full", "url": "https://example.com/alerts/7"},
                    ],
                )
            ),
        ),
        GoldenRequest(
            "a template's card",
            teams(data={"type": "AdaptiveCard", "version": "1.5", "body": [{"type": "TextBlock"}]}),
            PATH,
            json=enveloped({"type": "AdaptiveCard", "version": "1.5", "body": [{"type": "TextBlock"}]}),
        ),
        GoldenRequest(
            "a caller's card",
            teams(data={"title": "x"}, options={"card": {"type": "AdaptiveCard", "body": [block("mine")]}}),
            PATH,
            json=enveloped({"type": "AdaptiveCard", "body": [block("mine")]}),
        ),
    )

    def message(self, number):
        return teams(number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        async with HttpServer(behaviour) as server:
            settings = msgspec.convert({"webhook_origins": [server.url], **self.short}, TeamsSettings)
            channel = TeamsChannel(settings, recorder.tools)
            try:
                yield HttpFacing(Redirected(channel, server.url), server, self.counts)
            finally:
                await channel.aclose()


def built(**settings):
    return TeamsChannel(TeamsSettings(**settings), Recorder().tools)


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("**b** *i* ~~s~~ `a*b`", r"**b** _i_ s a\*b"),
        ("# Head **x**", "**Head x**"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("one\ntwo", "one\n\ntwo"),
        ("\\[no link\\](https://evil.example)", r"\[no link\](https://evil.example)"),
        ("[bank.example](https://evil.example)", "[https://evil.example](https://evil.example)"),
        ("<at>Ada</at>", "<at>Ada</at>"),
    ],
)
def test_markdown_is_written_as_cards_read_it(markdown, said):
    made = json.loads(built().raw(teams(data={"body": markdown})))
    assert made["attachments"][0]["content"]["body"] == [block(said)]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (teams(text="x" * 28_672), Reason.TOO_LARGE),
        (teams(text=None), Reason.MESSAGE_INVALID),
        (teams(to="https://logic.azure.com.evil.example/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://evil-logic.azure.com/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://logic.azure.com/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://prod-12.westeurope.logic.azure.com:8443/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://a.logic.azure.com@evil.example/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://a.logic.azure.com#@evil.example/workflows/x"), Reason.INVALID_ADDRESS),
        (teams(to="https://a.logic.azure.com/" + "x" * 2048), Reason.INVALID_ADDRESS),
        (teams(to="https://169.254.169.254/"), Reason.INVALID_ADDRESS),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    outcome = await built().send(message)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


@pytest.mark.parametrize("origin", ["https://*", "example.com", "https://a.example.com/path", "https://u@example.com"])
def test_an_origin_that_is_none_is_a_fault_of_the_settings(origin):
    with pytest.raises(SettingsFault) as caught:
        built(webhook_origins=(origin,))
    assert caught.value.field == "webhook_origins"
