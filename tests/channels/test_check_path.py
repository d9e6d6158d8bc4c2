"""The adapters for any JSON API: whether a key is good is asked for at a path that the operator names."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from channels.email_json import JsonEmailChannel
from channels.sms_json import JsonSmsChannel
from channels.testing import Recorder
from tests.support.http_server import HttpServer, Reply

ADAPTERS = [(JsonEmailChannel, {"api_key": "s3cret"}), (JsonSmsChannel, {"key": "s3cret", "sender": "Shop"})]


def built(adapter: Any, settings: dict[str, Any], url: str, **more: str) -> Any:
    given = {**settings, "base_url": url, "proxy": "direct", **more}
    return adapter(msgspec.convert(given, adapter.Settings), Recorder().tools)


@pytest.mark.parametrize(("adapter", "settings"), ADAPTERS)
@pytest.mark.parametrize(("status", "good"), [(200, True), (401, False), (500, False)])
async def test_a_check_asks_for_the_configured_path_with_the_key(adapter, settings, status, good):
    async with HttpServer({"GET /account": Reply(status), "*": Reply(404)}) as server:
        channel = built(adapter, settings, server.url, check_path="/account")
        found = await channel.check()
        await channel.aclose()
    assert found.ok is good
    assert str(status) in found.detail
    assert "s3cret" not in found.detail
    assert [request.method for request in server.requests] == ["GET"]
    assert server.requests[0].headers["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize(("adapter", "settings"), ADAPTERS)
async def test_without_a_path_to_ask_for_nothing_is_asked(adapter, settings):
    async with HttpServer(Reply(200)) as server:
        channel = built(adapter, settings, server.url)
        found = await channel.check()
        await channel.aclose()
    assert found.ok is None
    assert "cannot be checked without sending" in found.detail
    assert server.requests == []


@pytest.mark.parametrize(("adapter", "settings"), ADAPTERS)
async def test_a_provider_that_cannot_be_reached_is_not_good(adapter, settings):
    server = HttpServer(Reply(200))
    async with server:
        url = server.url
    channel = built(adapter, settings, url, check_path="/account")
    assert (await channel.check()).ok is False
    await channel.aclose()
