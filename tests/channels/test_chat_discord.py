"""Discord webhooks: embeds from words, files, threads, every documented error, and the two kinds of rate limit."""

from __future__ import annotations

import email
import json
from contextlib import asynccontextmanager
from email.policy import HTTP
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.chat_discord import DiscordChannel, DiscordSettings
from channels.contract import Accepted, Attachment, Content, Message, Reason, Rejected, Retry
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, HttpFacing, Recorder
from tests.support.http_server import HttpServer, Reply

HOOK = "https://discord.com/api/webhooks/223704706495545344/private-address"
PATH = "/api/webhooks/223704706495545344/private-address?wait=true"
POSTED = Reply(200, json={"id": "1101", "channel_id": "77", "content": "x"})
QUIET = {"parse": []}
NOW = 1_795_000_000.0


def discord(number=1, *, to=HOOK, text="private-body", options=None, **content):
    return Message(
        id=f"dlv_{number}",
        kind="discord",
        to=to,
        content=Content(text=text, **content),
        idempotency_key=f"key-{number}",
        options=options or {},
    )


def fault(status, code, message="said", **more):
    return Reply(status, json={"code": code, "message": message, **more})


def refused(status, code, reason):
    return GoldenAnswer(str(code), fault(status, code), Rejected, reason, detail=str(code))


class Redirected:
    """The channel under test, its messages' webhook URLs led to the test's server."""

    def __init__(self, channel, url):
        self._channel, self._url = channel, url
        self.kind, self.Settings, self.limits = channel.kind, channel.Settings, channel.limits

    async def send(self, message):
        to = message.to.replace("https://discord.com", self._url)
        return await self._channel.send(msgspec.structs.replace(message, to=to))

    async def aclose(self):
        await self._channel.aclose()


@asynccontextmanager
async def facing(behaviour, now=lambda: NOW, short=HttpChannelContract.short):
    async with HttpServer(behaviour) as server:
        settings = msgspec.convert({"webhook_origins": [server.url], **short}, DiscordSettings)
        channel = DiscordChannel(settings, Recorder(now=now).tools)
        try:
            yield HttpFacing(Redirected(channel, server.url), server, lambda request: request.method == "POST")
        finally:
            await channel.aclose()


class TestDiscord(HttpChannelContract):
    channel = DiscordChannel
    settings: ClassVar = {}
    accepted = POSTED
    callers_endpoint = True
    answers = (
        GoldenAnswer("posted", POSTED, Accepted, provider_id="77:1101"),
        refused(404, 10015, Reason.ADDRESS_DEAD),
        refused(404, 10003, Reason.ADDRESS_DEAD),
        refused(401, 50027, Reason.ADDRESS_DEAD),
        refused(403, 50013, Reason.INVALID_ADDRESS),
        refused(403, 50001, Reason.INVALID_ADDRESS),
        refused(400, 50083, Reason.INVALID_ADDRESS),
        refused(400, 50006, Reason.MESSAGE_INVALID),
        refused(400, 50109, Reason.MESSAGE_INVALID),
        refused(400, 220001, Reason.MESSAGE_INVALID),
        refused(413, 40005, Reason.TOO_LARGE),
        refused(400, 200000, Reason.CONTENT_REFUSED),
        refused(400, 240000, Reason.CONTENT_REFUSED),
        GoldenAnswer("413 of a proxy", Reply(413, body="<html>"), Rejected, Reason.TOO_LARGE),
        GoldenAnswer(
            "the field at fault is told, not its content",
            fault(400, 50035, "Invalid Form Body", errors={"embeds": {"0": {"_errors": ["private-body"]}}}),
            Rejected,
            Reason.MESSAGE_INVALID,
            detail="HTTP 400: 50035 Invalid Form Body embeds",
        ),
        GoldenAnswer("too many threads", fault(400, 30046), Retry, Reason.RETRY),
        GoldenAnswer(
            "429, in fractions",
            Reply(
                429, {"Retry-After": "65", "X-RateLimit-Scope": "user"}, json={"retry_after": 64.57, "global": False}
            ),
            Retry,
            Reason.RETRY,
            64.57,
        ),
        GoldenAnswer(
            "429, shared",
            Reply(429, {"X-RateLimit-Scope": "shared"}, json={"retry_after": 0.3, "global": False}),
            Retry,
            Reason.RETRY,
            0.3,
        ),
        GoldenAnswer(
            "429, global",
            Reply(429, {"Retry-After": "2"}, json={"retry_after": 1.5, "global": True}),
            Retry,
            Reason.RATE_LIMITED,
            1.5,
        ),
        GoldenAnswer(
            "429, global by its header",
            Reply(429, {"Retry-After": "600", "X-RateLimit-Scope": "global"}, "<html>banned</html>"),
            Retry,
            Reason.RATE_LIMITED,
            600.0,
        ),
        GoldenAnswer(
            "a wait that is none", Reply(429, {"Retry-After": "4"}, json={"retry_after": -1}), Retry, Reason.RETRY, 4.0
        ),
        GoldenAnswer("a 404 that names no webhook suppresses nobody", Reply(404), Retry, Reason.RETRY),
        GoldenAnswer("a 401 without a code is no account's affair", Reply(401), Retry, Reason.RETRY),
    )
    requests = (
        GoldenRequest(
            "text",
            discord(text="a *b* @everyone <@1>"),
            PATH,
            json={"content": r"a \*b\* \@everyone \<\@1\>", "allowed_mentions": QUIET},
            headers={"content-type": "application/json"},
        ),
        GoldenRequest(
            "words become an embed",
            discord(
                data={
                    "title": "Disk_full",
                    "body": "On **db-1**: see [the graph](https://example.com/g).",
                    "url": "https://example.com/alerts/7",
                    "image_url": "https://example.com/graph.png",
                    "actions": [{"label": "Runbook", "url": "https://example.com/runbook"}],
                }
            ),
            PATH,
            json={
                "embeds": [
                    {
                        "title": r"Disk\_full",
                        "description": "On **db-1**: see [the graph](https://example.com/g).\n\n"
                        "[Runbook](https://example.com/runbook)",
                        "url": "https://example.com/alerts/7",
                        "image": {"url": "https://example.com/graph.png"},
                    }
                ],
                "allowed_mentions": QUIET,
            },
        ),
        GoldenRequest(
            "a template's embeds, a caller's thread, name and mentions",
            discord(
                data={"embeds": [{"title": "mine"}]},
                options={"thread_id": 42, "username": "Ops", "allowed_mentions": {"parse": ["users"]}},
            ),
            PATH + "&thread_id=42",
            json={"embeds": [{"title": "mine"}], "username": "Ops", "allowed_mentions": {"parse": ["users"]}},
        ),
        GoldenRequest(
            "a thread that the URL names",
            discord(to=HOOK + "?thread_id=43&x=1", options={"content": "hi"}),
            PATH + "&thread_id=43",
            json={"content": "hi", "allowed_mentions": QUIET},
        ),
        GoldenRequest(
            "a new thread of a forum",
            discord(options={"thread_name": "Incident 7", "thread_id": "7&wait=false"}),
            PATH,
            json={"content": "private-body", "thread_name": "Incident 7", "allowed_mentions": QUIET},
        ),
    )

    def message(self, number):
        return discord(number)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        async with facing(behaviour, recorder.tools.now, self.short) as found:
            yield found


# --- what is shown --------------------------------------------------------------------------------------------------


def built(**kwargs):
    return DiscordChannel(DiscordSettings(**kwargs), Recorder().tools)


def shown(message):
    return json.loads(built().raw(message))


@pytest.mark.parametrize(
    ("markdown", "said"),
    [
        ("**b** *i* ~~s~~ `a*b`", "**b** *i* ~~s~~ `a*b`"),
        ("# Head", "### Head"),
        ("```py\nx = 1\n```", "```\nx = 1\n```"),
        ("> a\n> b", "> a\n> b"),
        ("\\# no head, a-b #1\\\n\\- no list", r"\# no head, a-b \#1" + "\n" + r"\- no list"),
        ("- one\n- two", "- one\n- two"),
        (r"\*\*not bold\*\* \|\|no spoiler\|\|", r"\*\*not bold\*\* \|\|no spoiler\|\|"),
        ("see https://example.com/a_b_c", "see https://example.com/a_b_c"),
        ("[bank.example](https://evil.example)", "https://evil.example"),
        ("[a](https://example.com/\\(x\\))", "[a](https://example.com/%28x%29)"),
    ],
)
def test_markdown_is_written_as_discord_reads_it(markdown, said):
    assert shown(discord(data={"body": markdown}))["content"] == said


@settings(deadline=None)  # the machine may be busy with other tests
@given(st.text(alphabet="<@!&#:>1*_~`|[]()\\ e", max_size=60))
def test_no_text_mentions_anybody(text):
    made = json.loads(built().raw(discord(text=text)) or "{}").get("content", "")
    unescaped = made.replace("\\\\", "").replace("\\<", "").replace("\\@", "")
    assert "<" not in unescaped
    assert "@" not in unescaped


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (discord(text="x" * 4097), Reason.TOO_LARGE),
        (discord(options={"content": "x" * 2001}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"title": "x"}] * 11}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"title": "x" * 257}]}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"fields": [{"name": "a", "value": "b" * 1025}]}]}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"fields": [{"name": "a", "value": "b"}] * 26}]}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"description": "x" * 3001}] * 2}), Reason.TOO_LARGE),
        (discord(options={"embeds": [{"footer": {"text": "x" * 6001}}]}), Reason.TOO_LARGE),
        (
            discord(attachments=(Attachment(filename="a", content_type="text/plain", content=b"x"),) * 11),
            Reason.TOO_LARGE,
        ),
        (discord(text=None), Reason.MESSAGE_INVALID),
        (discord(to="https://discord.com.evil.example/api/webhooks/1/x"), Reason.INVALID_ADDRESS),
        (discord(to="https://discord.com@evil.example/api/webhooks/1/x"), Reason.INVALID_ADDRESS),
        (discord(to="https://evil.example\\.discord.com/api/webhooks/1/x"), Reason.INVALID_ADDRESS),
        (discord(to="http://discord.com/api/webhooks/1/x"), Reason.INVALID_ADDRESS),
        (discord(to="https://[::1]/api/webhooks/1/x"), Reason.INVALID_ADDRESS),
        (discord(to="ops"), Reason.INVALID_ADDRESS),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    outcome = await built().send(message)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


def test_a_longer_text_becomes_an_embed_of_its_own():
    assert shown(discord(text="x" * 2001))["embeds"] == [{"description": "x" * 2001}]


async def test_files_go_with_the_message_as_a_form():
    attachments = (
        Attachment(filename='gr"aph.png', content_type="image/png", content=b"\x89PNG\r\n--x"),
        Attachment(filename="log.txt", content_type="text/plain", content=b"log"),
    )
    async with facing(POSTED) as found:
        assert isinstance(await found.channel.send(discord(text="hi", attachments=attachments)), Accepted)
        (request,) = found.server.requests
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    said, graph, log = email.message_from_bytes(head + request.body, policy=HTTP).iter_parts()
    assert said.get_param("name", header="content-disposition") == "payload_json"
    assert json.loads(said.get_payload(decode=True)) == {"content": "hi", "allowed_mentions": QUIET}
    assert graph.get_param("name", header="content-disposition") == "files[0]"
    assert (graph.get_content_type(), graph.get_payload(decode=True)) == ("image/png", b"\x89PNG\r\n--x")
    assert (log.get_filename(), log.get_payload(decode=True)) == ("log.txt", b"log")


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_a_webhook_without_a_turn_left_is_not_asked_until_it_has_one():
    clock = [NOW]
    used_up = Reply(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": "1.25"}, json={"id": "1"})
    async with facing([used_up, POSTED], lambda: clock[0]) as found:
        assert await found.channel.send(discord()) == Accepted("1")
        waiting = await found.channel.send(discord(2, to=HOOK + "?thread_id=5"))
        assert isinstance(waiting, Retry)
        assert (waiting.reason, waiting.after) == (Reason.RETRY, 1.25)
        assert isinstance(await found.channel.send(discord(3, to=HOOK + "-other")), Accepted)
        clock[0] += 1.25
        assert isinstance(await found.channel.send(discord(2)), Accepted)
        assert len(found.server.requests) == 3


@pytest.mark.parametrize("wait", ["", "soon", "-1", "inf", "nan"])
async def test_a_limit_nobody_can_read_stops_nothing(wait):
    odd = Reply(200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset-After": wait}, json={"id": "1"})
    async with facing(odd) as found:
        await found.channel.send(discord())
        assert isinstance(await found.channel.send(discord()), Accepted)


@pytest.mark.parametrize(
    ("reply", "good", "words"),
    [
        (Reply(200, json={"id": "223704706495545344", "token": "private-address"}), True, "200"),
        (Reply(404, json={"code": 10015, "message": "Unknown Webhook"}), False, "10015 Unknown Webhook"),
        (Reply(401, json={"code": 50027, "message": "Invalid Webhook Token"}), False, "50027"),
        (Reply(200, json=["a page of something else"]), False, "200"),
    ],
)
async def test_whether_a_webhook_is_there_is_asked_without_posting(reply, good, words):
    async with HttpServer(reply) as server:
        channel = built(webhook_origins=(server.url,), proxy="direct")
        found = await channel.check_address(f"{server.url}/api/webhooks/1/private-address?thread_id=5")
        await channel.aclose()
    assert found.ok is good
    assert words in found.detail
    assert "private-address" not in found.detail
    assert [(each.method, each.target) for each in server.requests] == [("GET", "/api/webhooks/1/private-address")]


async def test_a_destination_that_leads_elsewhere_is_not_asked():
    channel = built()
    assert (await channel.check_address("https://example.com/api/webhooks/1/x")).ok is False
    assert (await channel.check()).ok is None
    await channel.aclose()
