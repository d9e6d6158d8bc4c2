"""The demo page of web push in a real browser: it starts, prints what a request needs, and shows what was pushed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import shlex
import threading
from collections.abc import AsyncIterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page

from channels.push_web import vapid_keys
from tests.support.browser import open_browser

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "deploy" / "web-push"
# The push service is Google's, and out of reach: what it would answer is put in the browser's mouth.
SUBSCRIBED = """
PushManager.prototype.subscribe = async (options) => ({
  toJSON: () => ({
    endpoint: "https://fcm.googleapis.com/fcm/send/it's-me",
    expirationTime: null,
    keys: { p256dh: String(options.applicationServerKey.length), auth: "x" },
  }),
});
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(FOLDER)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[tuple[Page, BrowserContext, list[str]]]:
    """Open the page with notifications allowed; the list gathers what it says on its console and asks elsewhere."""
    async with open_browser() as browser:
        context = await browser.new_context(**options)
        await context.grant_permissions(["notifications"], origin=url)
        await context.add_init_script(SUBSCRIBED)
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith((url, "data:")) else said.append(request.url))
        await page.goto(url)
        await page.wait_for_selector("#subscribe:enabled")
        yield page, context, said


async def push(context: BrowserContext, page: Page, url: str, message: str) -> None:
    """Hand a message to the service worker as the browser does when one comes in."""
    session = await context.new_cdp_session(page)
    found: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def registered(event: Any) -> None:
        for one in event["registrations"]:
            if not found.done() and one["scopeURL"].startswith(url):
                found.set_result(one["registrationId"])

    session.on("ServiceWorker.workerRegistrationUpdated", registered)
    await session.send("ServiceWorker.enable")
    async with asyncio.timeout(10):
        registration = await found
    await session.send(
        "ServiceWorker.deliverPushMessage", {"origin": url, "registrationId": registration, "data": message}
    )


async def shown(page: Page) -> list[dict[str, Any]]:
    return await page.evaluate(
        """async () => (await (await navigator.serviceWorker.ready).getNotifications())
            .map(({title, body, tag, data, actions}) => ({title, body, tag, data, actions}))"""
    )


async def test_the_page_subscribes_and_prints_a_line_that_can_be_sent(url: str):
    async with opened(url) as (page, _, said):
        await page.fill("#key", "nonsense")
        await page.click("#subscribe")
        await page.wait_for_selector("#status.wrong")
        assert "no VAPID public key" in await page.inner_text("#status")
        await page.fill("#key", vapid_keys().public_key)
        await page.click("#subscribe")
        await page.wait_for_selector("#result:visible")
        subscription = json.loads(await page.input_value("#subscription"))
        assert subscription["keys"]["p256dh"] == "65", "the key as the browser takes it: a point of 65 octets"
        words = shlex.split(await page.input_value("#curl"))
        assert words[:3] == ["curl", "-sS", "http://127.0.0.1:8080/v1/notifications"]
        sent = json.loads(words[words.index("-d") + 1])
        assert sent["to"] == {"web_push": subscription}
        assert sent["channels"] == ["web_push"]
        assert said == []


async def test_what_is_pushed_is_shown_with_its_link_and_buttons(url: str):
    message = {
        "id": "dlv_1",
        "title": "Order 7",
        "body": "On its way",
        "url": "https://shop.example.com/7",
        "tag": "order-7",
        "actions": [{"title": "Track", "url": "https://shop.example.com/7/track"}],
    }
    async with opened(url) as (page, context, said):
        await push(context, page, url, json.dumps(message))
        await page.wait_for_selector("#messages li")
        assert await page.inner_text("#messages li") == "Order 7 On its way"
        [one] = await shown(page)
        assert (one["title"], one["body"], one["tag"]) == ("Order 7", "On its way", "order-7")
        assert [(each["action"], each["title"]) for each in one["actions"]] == [("0", "Track")]
        assert one["data"]["url"] == "https://shop.example.com/7"
        assert one["data"]["urls"] == ["https://shop.example.com/7/track"]
        assert said == []


@pytest.mark.parametrize(("data", "title"), [("plain words", "plain words"), ("{}", "Notification")])
async def test_a_push_that_is_no_message_of_ours_still_shows_something(url: str, data: str, title: str):
    async with opened(url) as (page, context, _):
        await push(context, page, url, data)
        await page.wait_for_selector("#messages li")
        assert [one["title"] for one in await shown(page)] == [title]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_small_screen(url: str, scheme: Any):
    async with opened(url, viewport={"width": 360, "height": 740}, color_scheme=scheme) as (page, _, _said):
        await page.fill("#key", vapid_keys().public_key)
        await page.click("#subscribe")
        await page.wait_for_selector("#result:visible")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('input, textarea, button')].filter(one => !(one.labels?.length"
            " || one.textContent.trim())).length"
        )
        assert unnamed == 0
