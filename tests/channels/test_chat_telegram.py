"""Telegram: HTML from words, every documented error by its words, moved groups, updates and credentials."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.chat_telegram import TelegramChannel, TelegramSettings
from channels.contract import Accepted, Content, Message, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.testing import GoldenAnswer, GoldenRequest, HttpChannelContract, Recorder
from tests.support.http_server import Do, HttpServer, Reply

TOKEN = "123456:ABC-s3cret_DEF"
PATH = f"/bot{TOKEN}/sendMessage"
SENT = Reply(json={"ok": True, "result": {"message_id": 7, "date": 1, "chat": {"id": -100123, "type": "group"}}})
NO_PREVIEW = {"is_disabled": True}


def telegram(number=1, *, to="-100123", text="private-body", options=None, **content):
    return Message(
        id=f"dlv_{number}",
        kind="telegram",
        to=to,
        content=Content(text=text, **content),
        idempotency_key=f"key-{number}",
        options=options or {},
    )


def fault(status, description, **parameters):
    more = {"parameters": parameters} if parameters else {}
    return Reply(status, json={"ok": False, "error_code": status, "description": description, **more})


def refused(status, description, reason):
    return GoldenAnswer(description, fault(status, description), Rejected, reason, detail=description)


class TestTelegram(HttpChannelContract):
    channel = TelegramChannel
    settings: ClassVar = {"token": TOKEN, "base_url": "https://api.telegram.org"}
    secrets = ("token",)
    private_address = "-100123"
    accepted = SENT
    answers = (
        GoldenAnswer("sent", SENT, Accepted, provider_id="-100123:7"),
        refused(403, "Forbidden: bot was blocked by the user", Reason.ADDRESS_DEAD),
        refused(403, "Forbidden: user is deactivated", Reason.ADDRESS_DEAD),
        refused(403, "Forbidden: bot was kicked from the supergroup chat", Reason.ADDRESS_DEAD),
        refused(400, "Bad Request: chat not found", Reason.ADDRESS_DEAD),
        refused(403, "Forbidden: the group chat was deleted", Reason.ADDRESS_DEAD),
        refused(403, "Forbidden: bot can't initiate conversation with a user", Reason.INVALID_ADDRESS),
        refused(403, "Forbidden: bot can't send messages to the user", Reason.INVALID_ADDRESS),
        refused(403, "Forbidden: bot is not a member of the channel chat", Reason.INVALID_ADDRESS),
        refused(403, "Forbidden: something that nobody has seen", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: user not found", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: PEER_ID_INVALID", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: not enough rights to send text messages to the chat", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: have no rights to send a message", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: need administrator rights in the channel chat", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: CHAT_WRITE_FORBIDDEN", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: TOPIC_CLOSED", Reason.INVALID_ADDRESS),
        refused(400, "Bad Request: message is too long", Reason.TOO_LARGE),
        refused(400, "Bad Request: MESSAGE_TOO_LONG", Reason.TOO_LARGE),
        refused(400, "Bad Request: message text is empty", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: can't parse entities: unsupported start tag", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: BUTTON_URL_INVALID", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: inline keyboard expected", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: inline keyboard button URL is invalid: Wrong HTTP URL", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: wrong HTTP URL specified", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: message thread not found", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: message to be replied not found", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: message to edit not found", Reason.MESSAGE_INVALID),
        refused(400, "Bad Request: message can't be edited", Reason.MESSAGE_INVALID),
        GoldenAnswer("an update that changes nothing", fault(400, "Bad Request: message is not modified: x"), Accepted),
        GoldenAnswer("a 400 nobody documented", fault(400, "Bad Request: new"), Retry, Reason.RETRY),
        refused(401, "Unauthorized", Reason.ACCOUNT_PROBLEM),
        refused(404, "Not Found", Reason.ACCOUNT_PROBLEM),
        GoldenAnswer(
            "429", fault(429, "Too Many Requests: retry after 14", retry_after=14), Retry, Reason.RATE_LIMITED, 14.0
        ),
        GoldenAnswer("429, negative", fault(429, "Too Many Requests", retry_after=-1), Retry, Reason.RATE_LIMITED),
        GoldenAnswer("500", fault(500, "Internal Server Error"), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("502", Reply(502, body="<html>"), Unknown, Reason.TIMED_OUT),
        GoldenAnswer("ok, and no message", Reply(json={"ok": True, "result": True}), Unknown, Reason.TIMED_OUT),
    )
    requests = (
        GoldenRequest(
            "text",
            telegram(text="a < b & <b>c</b>"),
            PATH,
            json={
                "chat_id": -100123,
                "text": "a &lt; b &amp; &lt;b&gt;c&lt;/b&gt;",
                "parse_mode": "HTML",
                "link_preview_options": NO_PREVIEW,
            },
            headers={"content-type": "application/json"},
        ),
        GoldenRequest(
            "words",
            telegram(
                to="@acme_ops",
                data={
                    "title": "Disk <full>",
                    "body": "On **db-1**: see [the graph](https://example.com/g?a=1&b=2).\n\n- one\n- two",
                    "url": "https://example.com/alerts/7",
                    "image_url": "https://example.com/graph.png",
                    "actions": [{"label": "Runbook", "url": "https://example.com/runbook"}],
                },
            ),
            PATH,
            json={
                "chat_id": "@acme_ops",
                "text": "<b>Disk &lt;full&gt;</b>\n\n"
                'On <b>db-1</b>: see <a href="https://example.com/g?a=1&amp;b=2">the graph</a>.\n\n'
                "• one\n• two\n\nhttps://example.com/alerts/7",
                "parse_mode": "HTML",
                "link_preview_options": {
                    "url": "https://example.com/graph.png",
                    "prefer_large_media": True,
                    "show_above_text": True,
                },
                "reply_markup": {"inline_keyboard": [[{"text": "Runbook", "url": "https://example.com/runbook"}]]},
            },
        ),
        GoldenRequest(
            "a template's text, quietly, in a topic",
            telegram(
                data={"text": "*hi*", "parse_mode": "MarkdownV2"},
                options={"disable_notification": True, "message_thread_id": 5},
            ),
            PATH,
            json={
                "chat_id": -100123,
                "text": "*hi*",
                "parse_mode": "MarkdownV2",
                "link_preview_options": NO_PREVIEW,
                "disable_notification": True,
                "message_thread_id": 5,
            },
        ),
        GoldenRequest(
            "an update",
            telegram(options={"update_message_id": "-100123:7", "disable_notification": True}),
            f"/bot{TOKEN}/editMessageText",
            json={
                "message_id": 7,
                "chat_id": -100123,
                "text": "private-body",
                "parse_mode": "HTML",
                "link_preview_options": NO_PREVIEW,
            },
        ),
    )

    def message(self, number):
        return telegram(number)


# --- what is shown --------------------------------------------------------------------------------------------------


def built():
    return TelegramChannel(TelegramSettings(token=TOKEN), Recorder().tools)


def text_of(message):
    return json.loads(built().raw(message))["text"]


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("**b** *i* ~~s~~ `a<b`", "<b>b</b> <i>i</i> <s>s</s> <code>a&lt;b</code>"),
        ("# Head", "<b>Head</b>"),
        ("> a\n>\n> > b", "<blockquote>a\nb</blockquote>"),
        ("```\nx < y\n```", "<pre>x &lt; y</pre>"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("[bank.example](https://evil.example)", '<a href="https://evil.example">https://evil.example</a>'),
        ('[x](https://example.com/?a="><b>)', '<a href="https://example.com/?a=%22%3E%3Cb%3E">x</a>'),
        ("[![i](https://example.com/i.png)](https://example.com)", '<a href="https://example.com">i</a>'),
    ],
)
def test_markdown_becomes_telegrams_html(markdown, html):
    assert text_of(telegram(data={"body": markdown})) == html


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        assert tag in {"b", "i", "s", "a", "code", "pre", "blockquote"}
        assert [name for name, _ in attrs] == (["href"] if tag == "a" else [])
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@settings(deadline=None)  # the machine may be busy with other tests
@given(
    st.lists(
        st.sampled_from(
            ["<b>", "</b>", "*", "**", "`", "~~", "> ", "# ", "[", "](https://e.com)", "&", '"', "x", "\n", "- "]
        )
    )
)
def test_whatever_is_written_is_html_that_telegram_takes(pieces):
    raw = built().raw(telegram(data={"body": "".join(pieces)}))
    if raw:
        tags = Tags()
        tags.feed(json.loads(raw)["text"])
        tags.close()
        assert tags.open == []


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (telegram(text="x" * 4097), Reason.TOO_LARGE),
        (telegram(text="\U0001f600" * 2049), Reason.TOO_LARGE),
        (telegram(text=None), Reason.MESSAGE_INVALID),
        (telegram(text=" \n "), Reason.MESSAGE_INVALID),
        (telegram(to="ada"), Reason.INVALID_ADDRESS),
        (telegram(to="@a b"), Reason.INVALID_ADDRESS),
        (telegram(to="1 2"), Reason.INVALID_ADDRESS),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_the_wire(message, reason):
    outcome = await built().send(message)
    assert isinstance(outcome, Rejected)
    assert outcome.reason is reason


def test_marks_and_entities_do_not_count_as_characters():
    assert len(text_of(telegram(text="<" * 4096))) == 4 * 4096


@pytest.mark.parametrize("token", ["", "123", "123:a/../b", "bot123:abc", "123:abc\n"])
def test_a_token_that_is_none_is_a_fault_of_the_settings_that_does_not_repeat_it(token):
    with pytest.raises(SettingsFault) as caught:
        TelegramChannel(TelegramSettings(token=token), Recorder().tools)
    assert caught.value.field == "token"
    assert not re.search(r"123|abc", str(caught.value))


# --- moved groups, credentials --------------------------------------------------------------------------------------


@asynccontextmanager
async def bot(answering):
    async with HttpServer(answering) as server:
        channel = TelegramChannel(TelegramSettings(token=TOKEN, base_url=server.url, proxy="direct"), Recorder().tools)
        try:
            yield channel, server
        finally:
            await channel.aclose()


MOVED = fault(400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=-1009)


async def test_a_group_that_moved_is_written_to_where_it_is_now():
    async with bot([MOVED, SENT]) as (channel, server):
        outcome = await channel.send(telegram())
        assert [request.json()["chat_id"] for request in server.requests] == [-100123, -1009]
    assert isinstance(outcome, Accepted)
    assert "-1009" in (outcome.detail or "")


async def test_a_group_that_moves_for_ever_is_not_followed():
    async with bot(MOVED) as (channel, server):
        assert isinstance(await channel.send(telegram()), Retry)
        assert len(server.requests) == 2


async def test_a_lost_answer_after_the_move_is_unknown():
    async with bot([MOVED, Do.CLOSE]) as (channel, _):
        assert isinstance(await channel.send(telegram()), Unknown)


async def test_check_asks_which_bot_it_is():
    async with bot({f"GET /bot{TOKEN}/getMe": Reply(json={"ok": True, "result": {"id": 1}})}) as (channel, _):
        assert (await channel.check()).ok
    async with bot(fault(401, "Unauthorized")) as (channel, _):
        found = await channel.check()
        assert (found.ok, found.detail) == (False, "HTTP 401: Unauthorized")
    async with bot(Do.REFUSE) as (channel, _):
        found = await channel.check()
        assert not found.ok
        assert TOKEN not in found.detail
