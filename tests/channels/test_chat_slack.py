"""Slack: Block Kit from words, both ways to post, every documented error, updates, look-ups and button presses."""

from __future__ import annotations

import hashlib
import hmac
import json
from contextlib import asynccontextmanager
from typing import ClassVar
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from channels.chat_markup import words_of
from channels.chat_slack import SlackChannel, SlackSettings
from channels.contract import (
    Accepted,
    Callback,
    CallbackRefused,
    Check,
    Content,
    EventType,
    Message,
    Reason,
    Rejected,
    Retry,
    StatusEvent,
    Unknown,
)
from channels.slack_blocks import blocks
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, HttpFacing, Recorder
from tests.support.http_server import Do, HttpServer, Reply

TOKEN = "xoxb-1-s3cret"
SIGNING = "8f742231b10e8888abcd99yyyzzz85a5"
NOW = 1_795_000_000.0
POSTED = Reply(json={"ok": True, "channel": "C7", "ts": "1503435956.000247", "message": {"text": "x"}})
HOOK = "https://hooks.slack.com/services/T0/B0/private-address"

NATIVE = {
    "title": "Disk is full",
    "body": "On **db-1**: 99 %. See [the graph](https://example.com/g?a=1&b=2).\n\n- one\n- two",
    "url": "https://example.com/alerts/7",
    "image_url": "https://example.com/graph.png",
    "actions": [{"label": "Runbook", "url": "https://example.com/runbook"}],
}
NATIVE_TEXT = (
    "Disk is full\nOn db-1: 99 %. See the graph (https://example.com/g?a=1&amp;b=2).\n- one\n- two\n"
    "Runbook: https://example.com/runbook\nhttps://example.com/alerts/7"
)
NATIVE_BLOCKS = [
    {"type": "header", "text": {"type": "plain_text", "text": "Disk is full"}},
    {
        "type": "section",
        "text": {
            "type": "mrkdwn",
            "text": "On *db-1*: 99 %. See <https://example.com/g?a=1&amp;b=2|the graph>.\n\n• one\n• two",
            "verbatim": True,
        },
    },
    {"type": "image", "image_url": "https://example.com/graph.png", "alt_text": "Disk is full"},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "text": {"type": "plain_text", "text": "Runbook"},
                "action_id": "gateway_open_0",
                "url": "https://example.com/runbook",
                "value": "dlv_1",
            },
            {
                "type": "button",
                "text": {"type": "plain_text", "text": "Acknowledge"},
                "action_id": "acknowledge",
                "value": "dlv_1",
            },
        ],
    },
    {
        "type": "context",
        "elements": [
            {
                "type": "mrkdwn",
                "text": "<https://example.com/alerts/7|https://example.com/alerts/7>",
                "verbatim": True,
            }
        ],
    },
]


def slack(number=1, *, to="C-private-address", text="private-body", options=None, **content):
    return Message(
        id=f"dlv_{number}",
        kind="slack",
        to=to,
        content=Content(text=text, **content),
        idempotency_key=f"key-{number}",
        options=options or {},
    )


def section(text):
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def error(code, status=200, headers=None, **more):
    return Reply(status, headers, json={"ok": False, "error": code, **more})


def refused(code, reason):
    return GoldenAnswer(code, error(code), Rejected, reason, detail=code)


class TestSlackBot(HttpChannelContract):
    channel = SlackChannel
    settings: ClassVar = {"token": TOKEN, "signing_secret": SIGNING, "base_url": "https://slack.com/api"}
    secrets = ("token", "signing_secret")
    accepted = POSTED
    answers = (
        GoldenAnswer("posted", POSTED, Accepted, provider_id="C7:1503435956.000247"),
        *[refused(code, Reason.ADDRESS_DEAD) for code in ("is_archived", "channel_not_found", "user_not_found")],
        *[
            refused(code, Reason.INVALID_ADDRESS)
            for code in ("not_in_channel", "cannot_dm_bot", "messages_tab_disabled")
        ],
        *[
            refused(code, Reason.ACCOUNT_PROBLEM)
            for code in ("invalid_auth", "not_authed", "token_revoked", "account_inactive", "missing_scope")
        ],
        *[refused(code, Reason.POLICY) for code in ("restricted_action", "restricted_action_read_only_channel")],
        *[refused(code, Reason.TOO_LARGE) for code in ("msg_too_long", "msg_blocks_too_long")],
        *[refused(code, Reason.MESSAGE_INVALID) for code in ("no_text", "too_many_attachments", "message_not_found")],
        GoldenAnswer(
            "the fault in the blocks is told",
            error("invalid_blocks", response_metadata={"messages": ["[ERROR] missing field: text"]}),
            Rejected,
            Reason.MESSAGE_INVALID,
            detail="missing field: text",
        ),
        GoldenAnswer(
            "the missing scope is told",
            error("missing_scope", needed="chat:write"),
            Rejected,
            Reason.ACCOUNT_PROBLEM,
            detail="chat:write",
        ),
        GoldenAnswer("429", error("ratelimited", 429, {"Retry-After": "30"}), Retry, Reason.RATE_LIMITED, 30.0),
        GoldenAnswer("limited, as 200", error("ratelimited"), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("one channel's limit", error("rate_limited"), Retry, Reason.RETRY),
        GoldenAnswer("down", error("service_unavailable"), Retry, Reason.PROVIDER_DOWN),
        GoldenAnswer("perhaps done", error("fatal_error"), Unknown, Reason.TIMED_OUT, detail="fatal_error"),
        GoldenAnswer("perhaps done too", error("internal_error", 500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("an error nobody documented", error("brand_new_error"), Retry, Reason.RETRY),
        GoldenAnswer("an undocumented one with 500", error("brand_new_error", 500), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("ok, and no message", Reply(json={"ok": True}), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("401", Reply(401), Rejected, Reason.ACCOUNT_PROBLEM),
    )
    requests = (
        GoldenRequest(
            "text",
            slack(text="a < b & c"),
            "/chat.postMessage",
            json={"channel": "C-private-address", "text": "a &lt; b &amp; c", "blocks": [section("a &lt; b &amp; c")]},
            headers={
                "authorization": f"Bearer {TOKEN}",
                "content-type": "application/json;charset=utf-8",
                "user-agent": "notification-gateway",
            },
        ),
        GoldenRequest(
            "words become blocks",
            slack(text=None, data=NATIVE, options={"acknowledge": True}),
            "/chat.postMessage",
            json={"channel": "C-private-address", "text": NATIVE_TEXT, "blocks": NATIVE_BLOCKS},
        ),
        GoldenRequest(
            "blocks of a template, in a thread",
            slack(
                subject="Hi",
                data={"blocks": [{"type": "divider"}]},
                options={"thread_ts": "1.2", "reply_broadcast": True},
            ),
            "/chat.postMessage",
            json={
                "channel": "C-private-address",
                "text": "Hi\nprivate-body",
                "blocks": [{"type": "divider"}],
                "thread_ts": "1.2",
                "reply_broadcast": True,
            },
        ),
        GoldenRequest(
            "the caller's blocks win",
            slack(data={"blocks": [{"type": "divider"}]}, options={"blocks": [section("mine")]}),
            "/chat.postMessage",
            json={"channel": "C-private-address", "text": "private-body", "blocks": [section("mine")]},
        ),
        GoldenRequest(
            "attachments alone",
            slack(text=None, options={"attachments": ["of no form"]}),
            "/chat.postMessage",
            json={"channel": "C-private-address", "text": "\u200b", "attachments": ["of no form"]},
        ),
        GoldenRequest(
            "an update",
            slack(to="C7", options={"update_ts": "1503435956.000247", "thread_ts": "1.2"}),
            "/chat.update",
            json={
                "channel": "C7",
                "ts": "1503435956.000247",
                "text": "private-body",
                "blocks": [section("private-body")],
            },
        ),
        GoldenRequest(
            "a newer message of the same collapse key",
            slack(to="#ops", options={"collapse_key": "disk", "replaces": "C7:1503435956.000247"}),
            "/chat.update",
            json={
                "channel": "C7",
                "ts": "1503435956.000247",
                "text": "private-body",
                "blocks": [section("private-body")],
            },
        ),
        GoldenRequest(
            "an update by provider id",
            slack(to="C7", options={"update_ts": "C7:1503435956.000247"}),
            "/chat.update",
            json={
                "channel": "C7",
                "ts": "1503435956.000247",
                "text": "private-body",
                "blocks": [section("private-body")],
            },
        ),
    )

    def message(self, number):
        return slack(number)


class Redirected:
    """The channel under test, its messages' webhook URLs led to the test's server."""

    def __init__(self, channel, url):
        self._channel, self._url = channel, url
        self.kind, self.Settings, self.limits = channel.kind, channel.Settings, channel.limits

    async def send(self, message):
        to = message.to.replace("https://hooks.slack.com", self._url)
        return await self._channel.send(msgspec.structs.replace(message, to=to))

    async def aclose(self):
        await self._channel.aclose()


def hook_said(word, status, outcome, reason, **more):
    return GoldenAnswer(word, Reply(status, body=word), outcome, reason, detail=word, **more)


class TestSlackWebhook(HttpChannelContract):
    channel = SlackChannel
    settings: ClassVar = {}
    accepted = Reply(200, body="ok")
    callers_endpoint = True
    answers = (
        GoldenAnswer("ok", Reply(200, body="ok"), Accepted),
        hook_said("invalid_payload", 400, Rejected, Reason.MESSAGE_INVALID),
        hook_said("no_text", 400, Rejected, Reason.MESSAGE_INVALID),
        hook_said("user_not_found", 400, Rejected, Reason.INVALID_ADDRESS),
        hook_said("action_prohibited", 403, Rejected, Reason.POLICY),
        hook_said("invalid_token", 403, Rejected, Reason.INVALID_ADDRESS),
        hook_said("no_service", 404, Rejected, Reason.ADDRESS_DEAD),
        hook_said("channel_not_found", 404, Rejected, Reason.ADDRESS_DEAD),
        hook_said("channel_is_archived", 410, Rejected, Reason.ADDRESS_DEAD),
        hook_said("rollup_error", 500, Retry, Reason.RETRY),
        GoldenAnswer("429", Reply(429, {"Retry-After": "30"}, "rate_limited"), Retry, Reason.RETRY, 30.0),
        GoldenAnswer("a 403 without a word is no account's affair", Reply(403), Retry, Reason.RETRY),
        GoldenAnswer("a 404 without a word suppresses nobody", Reply(404), Retry, Reason.RETRY),
    )
    requests = (
        GoldenRequest(
            "text in a thread",
            slack(to=HOOK, text="hi", options={"thread_ts": "1.2"}),
            "/services/T0/B0/private-address",
            json={"text": "hi", "blocks": [section("hi")], "thread_ts": "1.2"},
            headers={"content-type": "application/json"},
        ),
    )

    def message(self, number):
        return slack(number, to=HOOK)

    @asynccontextmanager
    async def facing(self, behaviour, recorder):
        async with HttpServer(behaviour) as server:
            settings = msgspec.convert({"webhook_origins": [server.url], **self.short}, SlackSettings)
            channel = SlackChannel(settings, recorder.tools)
            try:
                yield HttpFacing(Redirected(channel, server.url), server, self.counts)
            finally:
                await channel.aclose()


# --- what is shown --------------------------------------------------------------------------------------------------


def built(**settings):
    return SlackChannel(SlackSettings(**settings), Recorder().tools)


def shown(message):
    return json.loads(built().raw(message))


def sections_of(body):
    return [each["text"]["text"] for each in shown(slack(data={"body": body}))["blocks"]]


@pytest.mark.parametrize(
    ("markdown", "mrkdwn"),
    [
        ("**b** *i* ~~s~~ `a<b`", "*b* _i_ ~s~ `a&lt;b`"),
        ("# Head *line*", "*Head _line_*"),
        ("> quote\n> more", "> quote\n> more"),
        ("```\nx < y\n```", "```\nx &lt; y\n```"),
        ("1. one\n2. two\n   - deep", "1. one\n2. two\n    • deep"),
        ("a\n\n---\n\nb", "a\n\n———\n\nb"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "a | b\n1 | 2"),
        ("see https://example.com/a?b=1&c=2.", "see <https://example.com/a?b=1&amp;c=2>."),
        ("![graph](https://example.com/g.png)", "<https://example.com/g.png|graph>"),
        ("[mail](mailto:ada@example.com)", "<mailto:ada@example.com|mail>"),
        ("[no](ftp://example.com)", "no"),
        ("[https://bank.example](https://evil.example)", "<https://evil.example|https://evil.example>"),
        ("[bank.example](https://evil.example)", "<https://evil.example|https://evil.example>"),
        ("<!channel> <@U123> &", "&lt;!channel&gt; &lt;@U123&gt; &amp;"),
        ("[<!here>](https://example.com)", "<https://example.com|&lt;!here&gt;>"),
        ("[x](https://example.com/|<!here>)", "<https://example.com/%7C%3C!here%3E|x>"),
    ],
)
def test_markdown_becomes_mrkdwn(markdown, mrkdwn):
    assert sections_of(markdown) == [mrkdwn]


@settings(deadline=None)  # the machine may be busy with other tests
@given(
    st.lists(
        st.sampled_from(
            [
                "<!channel>",
                "<@U1>",
                "<#C1>",
                "*",
                "`",
                "```\n",
                "[a](",
                "https://e.com/",
                ")",
                "\n",
                "> ",
                "|",
                "&lt;",
                "<",
            ]
        )
    )
)
def test_no_text_mentions_anybody(pieces):
    text = "".join(pieces)
    for message in (
        slack(data={"body": text}),
        slack(text=text),
        slack(text="x", subject=text),
        slack(data={"title": text}),
    ):
        made = json.loads(built().raw(message) or "{}")
        read = [
            made.get("text", ""),
            *(each["text"]["text"] for each in made.get("blocks", ()) if each["type"] == "section"),
        ]
        assert not any(sign in each for each in read for sign in ("<!", "<@", "<#"))


def test_a_title_is_plain_text_in_which_slack_reads_no_mentions():
    header, _ = shown(slack(subject="<!channel>", text="x"))["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "<!channel>"}
    assert shown(slack(subject="<!channel>", text="x"))["text"] == "&lt;!channel&gt;\nx"


def test_a_long_body_is_cut_into_sections_and_loses_nothing():
    words = [f"word{number}<b>" for number in range(2000)]
    sections = sections_of(" ".join(words))
    assert max(len(each) for each in sections) <= 3000
    assert " ".join(sections).split() == [word.replace("<", "&lt;").replace(">", "&gt;") for word in words]


def test_a_long_title_is_a_section_of_its_own():
    title = "t" * 151
    assert shown(slack(subject=title, text="x"))["blocks"] == [section(f"*{title}*"), section("x")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (slack(data={"blocks": [{"type": "divider"}] * 51}), Reason.TOO_LARGE),
        (slack(text="x" * 40_001), Reason.TOO_LARGE),
        (slack(text=None), Reason.MESSAGE_INVALID),
        (slack(to="https://hooks.slack.com.evil.example/services/T0/B0/x"), Reason.INVALID_ADDRESS),
        (slack(to="https://hooks.slack.com@evil.example/services"), Reason.INVALID_ADDRESS),
        (slack(to="https://hooks.slack.com:8443/services/T0/B0/x"), Reason.INVALID_ADDRESS),
        (slack(to="http://hooks.slack.com/services/T0/B0/x"), Reason.INVALID_ADDRESS),
        (slack(to="http://127.0.0.1/services"), Reason.INVALID_ADDRESS),
        (slack(to="C123"), Reason.INVALID_ADDRESS),  # no token is set
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    outcome = await built().send(message)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


# --- people, updates, credentials -----------------------------------------------------------------------------------


@asynccontextmanager
async def bot(answering, now=lambda: NOW):
    async with HttpServer(answering) as server:
        settings = SlackSettings(
            token=TOKEN, base_url=server.url + "/api", webhook_origins=(server.url,), read_timeout_s=0.3, proxy="direct"
        )
        channel = SlackChannel(settings, Recorder(now=now).tools)
        try:
            yield channel, server
        finally:
            await channel.aclose()


FOUND = Reply(json={"ok": True, "user": {"id": "U42", "name": "ada"}})
ADA = slack(to="ada+x@example.com")


async def test_a_person_is_looked_up_by_mail_once_an_hour():
    clock = [NOW]
    async with bot({"GET /api/users.lookupByEmail": FOUND, "*": POSTED}, lambda: clock[0]) as (channel, server):
        assert isinstance(await channel.send(ADA), Accepted)
        clock[0] += 3599
        assert isinstance(await channel.send(ADA), Accepted)
        assert [request.path for request in server.requests].count("/api/users.lookupByEmail") == 1
        clock[0] += 2
        assert isinstance(await channel.send(ADA), Accepted)
        look_ups = [request for request in server.requests if request.method == "GET"]
    assert len(look_ups) == 2
    assert look_ups[0].query == {"email": "ada+x@example.com"}
    assert look_ups[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert server.requests[1].json()["channel"] == "U42"


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (error("users_not_found"), Rejected, Reason.INVALID_ADDRESS),
        (error("missing_scope", needed="users:read.email"), Rejected, Reason.INVALID_ADDRESS),
        (error("invalid_auth"), Rejected, Reason.ACCOUNT_PROBLEM),
        (error("ratelimited", 429, {"Retry-After": "3"}), Retry, Reason.RATE_LIMITED),
        (error("fatal_error"), Retry, Reason.TIMED_OUT),  # a look-up posts nothing
        (Do.SILENCE, Retry, Reason.TIMED_OUT),
        (Reply(json={"ok": True}), Retry, Reason.TIMED_OUT),
    ],
)
async def test_a_look_up_that_fails_posts_nothing(answer, outcome, reason):
    async with bot({"GET /api/users.lookupByEmail": answer, "*": POSTED}) as (channel, server):
        found = await channel.send(ADA)
        assert (type(found), found.reason) == (outcome, reason)
        assert len(server.requests) == 1


@pytest.mark.parametrize("to", ["C8", "#ops", "U7"])
async def test_an_update_cannot_lead_to_another_channel_than_the_one_staging_judged(to):
    async with bot(POSTED) as (channel, server):
        outcome = await channel.send(slack(to=to, options={"update_ts": "C7:1503435956.000247"}))
    assert outcome == Rejected(Reason.MESSAGE_INVALID, "update_ts names another channel than the recipient")
    assert server.requests == []


async def test_an_error_of_a_webhook_with_an_update_says_that_it_is_a_new_message():
    async with bot(Reply(200, body="ok")) as (channel, server):
        outcome = await channel.send(slack(to=server.url + "/services/T0", options={"update_ts": "C7:1.2"}))
    assert isinstance(outcome, Accepted)
    assert "new one" in (outcome.detail or "")


REPLACING = slack(to="#ops", options={"replaces": "C7:1.2"})


@pytest.mark.parametrize("why", ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"])
async def test_what_cannot_be_changed_any_more_is_posted_anew(why):
    async with bot({"POST /api/chat.update": error(why), "*": POSTED}) as (channel, server):
        assert isinstance(await channel.send(REPLACING), Accepted)
        assert [request.target.rpartition(".")[2] for request in server.requests] == ["update", "postMessage"]


@pytest.mark.parametrize("answer", [error("ratelimited"), error("invalid_auth"), error("fatal_error"), Do.CLOSE])
async def test_any_other_end_of_a_change_is_the_outcome_and_nothing_is_posted_twice(answer):
    async with bot({"POST /api/chat.update": answer, "*": POSTED}) as (channel, server):
        assert not isinstance(await channel.send(REPLACING), Accepted)
        assert len(server.requests) == 1


async def test_an_answer_in_a_thread_is_never_changed_and_a_webhook_cannot():
    async with bot(POSTED) as (channel, server):
        await channel.send(slack(to="#ops", options={"replaces": "C7:1.2", "thread_ts": "1.1"}))
        assert [request.target.rpartition(".")[2] for request in server.requests] == ["postMessage"]
        assert channel.limits.replaces
    hooks = SlackChannel(SlackSettings(), Recorder().tools)
    assert not hooks.limits.replaces
    await hooks.aclose()


async def test_check_asks_whose_token_it_is():
    async with bot({"POST /api/auth.test": Reply(json={"ok": True, "team": "Acme"})}) as (channel, _):
        assert (await channel.check()).ok
    async with bot(error("invalid_auth")) as (channel, _):
        found = await channel.check()
        assert (found.ok, found.detail) == (False, "HTTP 200: invalid_auth")
    async with bot(Do.REFUSE) as (channel, _):
        assert not (await channel.check()).ok
    assert (await built().check()).ok


async def test_nothing_is_tried_twice():
    async with bot(Do.CLOSE) as (channel, server):
        assert isinstance(await channel.send(slack()), Unknown)
        assert len(server.requests) == 1


# --- callbacks ------------------------------------------------------------------------------------------------------


def pressed(payload=None, *, at=NOW, secret=SIGNING, body=None, **headers):
    body = urlencode({"payload": json.dumps(payload)}).encode() if body is None else body
    signature = hmac.new(secret.encode(), f"v0:{int(at)}:".encode() + body, hashlib.sha256).hexdigest()
    signed = {"x-slack-request-timestamp": str(int(at)), "x-slack-signature": f"v0={signature}"}
    return Callback(
        url="https://gateway.example.com/", method="POST", headers={**signed, **headers}, query={}, body=body
    )


PRESS = {
    "type": "block_actions",
    "user": {"id": "U42", "username": "ada"},
    "container": {"type": "message", "message_ts": "1503435956.000247", "channel_id": "C7"},
    "actions": [{"type": "button", "action_id": "acknowledge", "value": "dlv_1", "action_ts": "1795000000.123"}],
}


def with_action(**fields):
    return {**PRESS, "actions": [{**PRESS["actions"][0], **fields}]}


def test_the_example_of_slacks_own_page_verifies():
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    headers = {"x-slack-request-timestamp": "1531420618", "x-slack-signature": signature}
    channel = SlackChannel(SlackSettings(signing_secret=SIGNING), Recorder(now=lambda: 1_531_420_700.0).tools)
    channel.verify(Callback(url="", method="POST", headers=headers, query={}, body=body))
    with pytest.raises(CallbackRefused):
        channel.verify(Callback(url="", method="POST", headers=headers, query={}, body=body + b"&x=1"))


@pytest.mark.parametrize(
    "callback",
    [
        pressed(PRESS, secret="another"),
        pressed(PRESS, at=NOW - 301),
        pressed(PRESS, at=NOW + 301),
        pressed(PRESS, **{"x-slack-signature": "v0=ü"}),
        pressed(PRESS, **{"x-slack-request-timestamp": "soon"}),
        pressed(body=b"\xff\xfe"),
        Callback(url="", method="POST", headers={}, query={}, body=b""),
    ],
)
def test_a_callback_without_a_valid_signature_is_refused(callback):
    with pytest.raises(CallbackRefused) as caught:
        built(signing_secret=SIGNING).verify(callback)
    assert not caught.value.unreadable


def test_a_signed_callback_is_let_in_unless_no_secret_is_set():
    built(signing_secret=SIGNING).verify(pressed(PRESS))
    with pytest.raises(CallbackRefused):
        built().verify(pressed(PRESS))


def test_our_button_acknowledges_the_delivery():
    assert built().parse(pressed(PRESS)) == [
        StatusEvent(
            type=EventType.ACKNOWLEDGED,
            at=1_795_000_000.123,
            provider_id="C7:1503435956.000247",
            message_id="dlv_1",
            detail="by U42",
            event_id="1795000000.123:U42:acknowledge",
        )
    ]


def test_other_buttons_click_acknowledge_or_are_nobodys():
    (clicked,) = built().parse(pressed(with_action(action_id="gateway_open_0")))
    assert (clicked.type, clicked.message_id) == (EventType.CLICKED, "dlv_1")
    (own,) = built().parse(pressed(with_action(action_id="acknowledge_incident", value="INC-7")))
    assert (own.type, own.message_id, own.provider_id) == (
        EventType.ACKNOWLEDGED,
        None,
        "C7:1503435956.000247",
    )
    assert built().parse(pressed(with_action(action_id="approve"))) == []
    assert built().parse(pressed({"type": "view_submission"})) == []
    assert built().parse(pressed(body=b'{"type": "url_verification", "challenge": "x"}')) == []


@pytest.mark.parametrize(
    "callback",
    [
        pressed(body=b"payload=%7B"),
        pressed(body=b"nonsense"),
        pressed(body=b"\xff"),
        pressed([]),
        pressed(with_action(action_ts="x")),
    ],
)
def test_a_callback_that_cannot_be_read_is_refused_as_unreadable(callback):
    with pytest.raises(CallbackRefused) as caught:
        built().parse(callback)
    assert caught.value.unreadable


WORST = {
    "title": "T" * 150,
    "body": "word " * 1500,
    "url": "https://example.com/" + "u" * 2000,
    "image_url": "https://example.com/graph.png",
    "actions": [{"label": "L" * 80, "url": f"https://example.com/{n}"} for n in range(5)],
    "acknowledge": "A" * 80,
}


@pytest.mark.parametrize(
    "data", [NATIVE, WORST, {"title": "T" * 500, "body": "x"}], ids=["usual", "worst", "long title"]
)
def test_slacks_own_models_take_the_blocks_and_write_them_as_we_do(data):
    message = slack(text=None, data=data)
    made = blocks(words_of(message.content), message)
    assert [block.to_dict() for block in Block.parse_all(made)] == made  # which validates lengths and kinds, too


# --- what the message shows afterwards ---


def acknowledged(url: str | None, **more):
    blocks = [*BLOCKS_OF_AN_ALERT, {"type": "actions", "elements": [{"type": "button", "action_id": "acknowledge"}]}]
    return {**PRESS, "message": {"text": "Disk is full", "blocks": blocks}, "response_url": url, **more}


BLOCKS_OF_AN_ALERT = [
    {"type": "header", "text": {"type": "plain_text", "text": "Disk is full"}},
    {
        "type": "actions",
        "elements": [
            {"type": "button", "action_id": "gateway_open_0", "url": "https://example.com/runbook"},
            {"type": "button", "action_id": "acknowledge", "value": "dlv_1"},
        ],
    },
]


async def test_the_message_shows_who_acknowledged_it_in_place_of_the_button():
    async with HttpServer(Reply(200, body=b"ok")) as server:
        channel = built(signing_secret=SIGNING, webhook_origins=[server.url])
        assert (await channel.confirm(pressed(acknowledged(f"{server.url}/actions/T1/1/x")))).ok
        await channel.aclose()
    [request] = server.requests
    sent = request.json()
    assert (sent["replace_original"], sent["text"]) == (True, "Disk is full")
    assert sent["blocks"] == [
        BLOCKS_OF_AN_ALERT[0],
        {"type": "actions", "elements": [BLOCKS_OF_AN_ALERT[1]["elements"][0]]},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "Acknowledged by <@U42>"}]},
    ]
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.com/x",
        "http://169.254.169.254/",
        "https://hooks.slack.com.evil.example/x",
        "file:///x",
        "",
    ],
)
async def test_no_other_host_is_told(url):
    async with HttpServer(Reply(200)) as server:
        channel = built(signing_secret=SIGNING, webhook_origins=[server.url])
        assert not (await channel.confirm(pressed(acknowledged(url)))).ok
        await channel.aclose()
    assert server.requests == []


@pytest.mark.parametrize(
    "payload",
    [
        PRESS,
        acknowledged(None),
        {**acknowledged("https://hooks.slack.com/actions/x"), "actions": [{"action_id": "gateway_open_0"}]},
        {"type": "view_submission"},
    ],
)
async def test_where_there_is_nothing_to_show_nobody_is_told(payload):
    channel = built(signing_secret=SIGNING)
    assert await channel.confirm(pressed(payload)) == Check(ok=True, detail="nothing to show")
    await channel.aclose()


async def test_a_message_of_as_many_blocks_as_slack_shows_keeps_its_note():
    many = [{"type": "divider"}] * 50
    async with HttpServer(Reply(200)) as server:
        channel = built(signing_secret=SIGNING, webhook_origins=[server.url])
        press = acknowledged(f"{server.url}/x", message={"blocks": many}, user={"id": "<!channel>"})
        assert (await channel.confirm(pressed(press))).ok
        await channel.aclose()
    blocks = server.requests[0].json()["blocks"]
    assert len(blocks) == 50
    assert blocks[-1]["elements"][0]["text"] == "Acknowledged"
