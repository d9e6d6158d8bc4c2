"""The API page in a real browser: it shows every operation, breaks no rule of its policy and asks nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.api.app import operations
from tests.api.conftest import Api
from tests.support.browser import open_browser
from tests.support.serving import served

pytestmark = pytest.mark.browser


@pytest.fixture
async def url(api: Api) -> AsyncIterator[str]:
    async with served(api.app) as port:
        yield f"http://127.0.0.1:{port}"


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
