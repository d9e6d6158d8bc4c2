"""The bridge to Apprise: its `json://` service against a real server, its failures never called "not sent"."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import msgspec
import pytest

from channels.bridge_apprise import AppriseChannel, AppriseSettings, library
from channels.contract import Accepted, Attachment, Content, Message, Reason, Rejected, Retry, SettingsFault, Unknown
from channels.testing import ChannelContract, Golden, HttpFacing, Recorder, Shape
from tests.support.http_server import Do, HttpServer, Reply

SHORT: Mapping[str, Any] = {
    "connections": 3,
    "connect_timeout_s": 1.0,
    "read_timeout_s": 0.5,
    "total_timeout_s": 3.0,
}
TAKEN = Reply(200, json={"status": "ok"})


def note(number: int = 1, **changes: Any) -> Message:
    fields: dict[str, Any] = {
        "id": f"dlv_{number}",
        "kind": "slack",
        "to": "private-address",
        "content": Content(subject="private-subject", text="private-body"),
        "idempotency_key": f"dlv_{number}",
    }
    return Message(**{**fields, **changes})


def built(url: str, **more: Any) -> AppriseChannel:
    settings = {"url": url, "schemas": ["json", "jsons"], **SHORT, **more}
    return AppriseChannel(msgspec.convert(settings, AppriseSettings), Recorder().tools)


def at(server: HttpServer, path: str = "/in/{to}", user: str = "me:s3cret-token@") -> str:
    scheme, _, rest = server.url.partition("://")
    return f"{'jsons' if scheme == 'https' else 'json'}://{user}{rest}{path}"


class TestApprise(ChannelContract):
    channel = AppriseChannel
    settings: ClassVar = {"url": "json://me:s3cret-token@127.0.0.1:9/in/{to}", "schemas": ["json"]}
    secrets = ("url",)
    # Within the TLS handshake and before it nothing was sent, and Apprise says as little of it as of a lost answer.
    cannot_tell = frozenset({Shape.REFUSED, Shape.CLOSED_BEFORE_SENDING, Shape.SILENT_BEFORE_SENDING})
    shapes: ClassVar = {
        Shape.ACCEPTS: TAKEN,
        Shape.REFUSED: Do.REFUSE,
        Shape.CLOSED_BEFORE_SENDING: Do.HANG_UP,
        Shape.CLOSED_AFTER_SENDING: Do.CLOSE,
        Shape.HALF_ANSWER: Do.HALF_BODY,
        Shape.GARBAGE_ANSWER: Do.GARBAGE,
        Shape.SILENT_BEFORE_SENDING: Do.NO_HANDSHAKE,
        Shape.SILENT_AFTER_SENDING: Do.SILENCE,
    }
    golden = (
        Golden("taken", TAKEN, Accepted),
        Golden("refused", Reply(400), Unknown, Reason.TIMED_OUT),
        Golden("signed in wrongly", Reply(401), Unknown, Reason.TIMED_OUT),
        Golden("too fast", Reply(429, {"Retry-After": "7"}), Unknown, Reason.TIMED_OUT),
        Golden("broken", Reply(500), Unknown, Reason.TIMED_OUT),
        Golden("a redirect is not followed", Reply(302, {"Location": "/elsewhere"}), Unknown, Reason.TIMED_OUT),
    )
    recovers: ClassVar = [Do.SILENCE, TAKEN]

    def message(self, number: int) -> Message:
        return note(number)

    @asynccontextmanager
    async def facing(self, behaviour: Any, recorder: Recorder):
        async with HttpServer(behaviour) as server:
            settings = msgspec.convert({"url": at(server), "schemas": ["json", "jsons"], **SHORT}, AppriseSettings)
            channel = AppriseChannel(settings, recorder.tools)
            try:
                yield HttpFacing(channel, server, lambda request: request.method == "POST")
            finally:
                await channel.aclose()


async def test_the_address_stands_where_the_url_says_and_nowhere_else():
    async with HttpServer(TAKEN) as server:
        await built(at(server)).send(note(to="!room:example.org"))
        [request] = server.requests
        assert request.target == "/in/!room:example.org"
        assert request.json() | {"version": ""} == {
            "version": "",
            "title": "private-subject",
            "message": "private-body",
            "attachments": [],
            "type": "info",
        }


@pytest.mark.parametrize(
    "address", ["a/b", "a,b", "a?method=GET", "a&b", "%2f", "a b", "", "ä", "../x", "..", "a#b", "a\r\nb"]
)
async def test_an_address_that_could_mean_something_in_a_url_goes_nowhere(address: str):
    async with HttpServer(TAKEN) as server:
        outcome = await built(at(server)).send(note(to=address))
        assert (type(outcome), outcome.reason) == (Rejected, Reason.INVALID_ADDRESS)
        assert server.requests == []


async def test_without_a_place_for_it_the_address_changes_nothing():
    async with HttpServer(TAKEN) as server:
        assert isinstance(await built(at(server, "/in/ops")).send(note(to="file:///etc/passwd")), Accepted)
        assert [request.target for request in server.requests] == ["/in/ops"]


async def test_files_and_html_go_where_the_service_takes_them():
    async with HttpServer(TAKEN) as server:
        channel = built(at(server))
        assert channel.limits.attachments
        file = Attachment(filename="bill.pdf", content_type="application/pdf", content=b"%PDF")
        await channel.send(note(content=Content(subject="Bill", html="<p>Here</p>", attachments=(file,))))
        [request] = server.requests
        assert request.json()["attachments"] == [
            {"filename": "bill.pdf", "base64": "JVBERg==", "mimetype": "application/pdf"}
        ]


async def test_messages_in_a_row_are_not_slowed_by_apprises_own_throttle():
    async with HttpServer(TAKEN) as server:
        channel = built(at(server))
        began = time.monotonic()
        for number in range(5):
            assert isinstance(await channel.send(note(number)), Accepted)
        assert time.monotonic() - began < 2, "json:// of Apprise's pauses half a second and more between two"


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "apprise":
            thread.join()


async def test_a_call_that_does_not_end_is_unknown_and_keeps_its_place_until_it_does():
    async with HttpServer(Do.SILENCE) as server:
        channel = built(at(server), connections=1, read_timeout_s=1.5, total_timeout_s=0.2, connect_timeout_s=0.1)
        first = await channel.send(note(1))
        assert (type(first), first.reason) == (Unknown, Reason.TIMED_OUT)
        second = await channel.send(note(2))
        assert (type(second), second.reason) == (Retry, Reason.PROVIDER_DOWN)
        assert len(server.requests) == 1
        await asyncio.to_thread(wait_for_threads)
        assert isinstance(await channel.send(note(3)), Unknown), "the place is free again"
        await asyncio.to_thread(wait_for_threads)


async def test_nothing_of_the_url_and_the_message_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).addHandler(caplog.handler)
    try:
        for behaviour in (TAKEN, Reply(500), Do.CLOSE):
            async with HttpServer(behaviour) as server:
                await built(at(server)).send(note())
    finally:
        for name in ("apprise", "urllib3.connectionpool"):
            logging.getLogger(name).removeHandler(caplog.handler)
    assert "s3cret" not in caplog.text
    assert "private" not in caplog.text


def test_the_channel_it_serves_is_a_setting():
    assert built("json://127.0.0.1:9/{to}", channel="email").kind == "email"


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("nonsense", "url"),
        ("json://", "url"),
        ("syslog://", "url"),
        ("file:///tmp/x", "url"),
        ("gotify://example.com/token", "url"),
        ("https://127.0.0.1/", "url"),
        ("json://{to}/x", "url"),
        ("json://{to}:pass@127.0.0.1/x", "url"),
        ("{to}://127.0.0.1/x", "url"),
    ],
)
def test_a_url_outside_the_allowlist_or_with_a_callers_host_is_refused(url: str, field: str):
    with pytest.raises(SettingsFault) as fault:
        built(url)
    assert fault.value.field == field
    assert "token" not in str(fault.value)


def test_without_the_package_the_fault_says_what_to_install():
    def nothing(name: str) -> Any:
        raise ImportError(name)

    with pytest.raises(SettingsFault, match=r"pip install 'notification-gateway\[apprise\]'"):
        library(nothing)
