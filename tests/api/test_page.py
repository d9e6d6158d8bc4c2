"""The API page in a real browser: it shows every operation, breaks no rule of its policy and asks nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import uvicorn

from gateway.api.app import operations
from tests.api.conftest import Api
from tests.support.browser import open_browser

pytestmark = pytest.mark.browser


@pytest.fixture
async def url(api: Api) -> AsyncIterator[str]:
    config = uvicorn.Config(api.app, port=0, http="httptools", ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign] # pytest keeps its own
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110 # uvicorn tells it in no other way
            await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


async def test_the_page_shows_every_operation_and_asks_nobody_else(url: str):
    async with open_browser() as browser:
        page = await browser.new_page()
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        await page.goto(f"{url}/schema")
        await page.wait_for_selector("#operations-Notifications-sendNotification")
        shown = await page.locator(".opblock").count()
        await page.locator("#operations-Notifications-sendNotification .opblock-summary-control").click()
        await page.wait_for_selector("text=Idempotency-Key")
    assert shown == len(operations())
    assert said == []
    assert [one for one in asked if not one.startswith((url, "data:"))] == []
