"""The inbox in a real browser: the demo page with the web component, a real gateway, and what people do there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from gateway.bootstrap import api
from tests.support.browser import open_browser
from tests.support.gateway import ADMIN, RunningGateway, running_gateway
from tests.support.serving import served

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).parents[2] / "deploy" / "inbox-demo"
AXE = Path(__file__).parents[1] / "support" / "vendor" / "axe-core" / "axe.min.js"
SCREENS = os.environ.get("SCREENSHOTS")
"""A folder to leave pictures in, for people to look at."""

HOSTILE = {
    "title": "<img src=x onerror=alert(1)><script>window.ran = 1</script>",
    "body": "[click](javascript:alert(1)) <script>window.ran = 2</script> <b onclick=alert(3)>bold</b> **strong**",
}


def backend() -> Any:
    spec = importlib.util.spec_from_file_location("inbox_demo_backend", FOLDER / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def shop(settings: dict[str, str]) -> Any:
    server = backend().shop(0, settings)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.asynccontextmanager
async def serving(gw: RunningGateway) -> AsyncIterator[str]:
    async with served(api(gw.gateway)) as port:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            gw.gateway.live_inboxes.close()


@dataclass
class Visit:
    """One person's visit to the shop."""

    gw: RunningGateway
    page: Page
    said: list[str] = field(default_factory=list[str])

    @property
    def bell(self) -> Locator:
        return self.page.get_by_role("button", name="Notifications", exact=False).first

    @property
    def rows(self) -> Locator:
        return self.page.locator("notification-inbox li[data-id]")

    @property
    def badge(self) -> Locator:
        return self.page.locator("notification-inbox .badge")

    async def send(self, title: str = "Your parcel is here", **content: Any) -> str:
        answer = await self.gw.send(
            {"user": "42"}, channels=["inbox"], content={"title": title, "body": "It **works**.", **content}
        )
        await self.gw.final(answer)
        return answer["deliveries"][0]["id"]

    async def picture(self, name: str) -> None:
        if SCREENS:
            await self.page.screenshot(path=f"{SCREENS}/{name}.png")


@contextlib.asynccontextmanager
async def visiting(folder: Path, *, before: Any = None, **options: Any) -> AsyncIterator[Visit]:
    """Open the shop in a browser; `before` may send something first."""
    settings = {"gateway": "", "key": ADMIN, "user": "42"}
    with shop(settings) as origin:
        async with (
            running_gateway(folder, {"inbox": {"origins": [origin]}}) as gw,
            serving(gw) as url,
            open_browser() as browser,
        ):
            settings["gateway"] = url
            await gw.client.put("/v1/users/42", json={"name": "Ada"})
            page = await (await browser.new_context(**options)).new_page()
            visit = Visit(gw=gw, page=page)
            page.on("console", lambda message: visit.said.append(message.text))
            page.on("pageerror", lambda error: visit.said.append(str(error)))
            if before is not None:
                await before(visit)
            await page.goto(origin)
            await page.wait_for_function("Boolean(customElements.get('notification-inbox'))")
            yield visit
            await page.close()


async def two(visit: Visit) -> None:
    await visit.send("The older", url="https://example.com/older")
    await visit.send("The newer", actions=[{"label": "Where is it?", "url": "https://example.com/parcel"}])


async def test_the_inbox_shows_what_lies_there_and_marks_it_read(tmp_path):
    async with visiting(tmp_path, before=two) as visit:
        await expect(visit.badge).to_have_text("2")
        await visit.bell.click()
        await expect(visit.rows).to_have_count(2)
        await expect(visit.rows.first.locator("h3")).to_have_text("The newer")
        await expect(visit.rows.first.locator("strong")).to_have_text("works")
        await visit.picture("light")
        await visit.rows.first.locator(".text").click()
        await expect(visit.badge).to_have_text("1")
        await expect(visit.page.locator("#opened")).to_have_text("Read: The newer")
        await visit.page.get_by_role("button", name="Mark all as read").click()
        await expect(visit.badge).to_be_hidden()
        await visit.page.get_by_role("button", name="Archive: The older").click()
        await expect(visit.rows).to_have_count(1)
        await visit.page.reload()
        await visit.bell.click()
        await expect(visit.rows).to_have_count(1)
        page = await visit.gw.get("/v1/users/42/inbox")
        assert (page["unread"], len(page["items"])) == (0, 1)
    assert visit.said == []


async def test_what_comes_in_is_shown_and_told_at_once(tmp_path):
    async with visiting(tmp_path) as visit:
        await visit.bell.click()
        await expect(visit.page.get_by_text("Nothing here yet.")).to_be_visible()
        delivery = await visit.send("Hot news")
        await expect(visit.rows.first.locator("h3")).to_have_text("Hot news")
        await expect(visit.page.locator("notification-inbox [role=status]")).to_have_text("New notification: Hot news")
        # What is done elsewhere shows here, too; and what is on the screen has been seen.
        item = (await visit.gw.get("/v1/users/42/inbox"))["items"][0]
        await visit.gw.client.post(f"/v1/users/42/inbox/{item['id']}/read")
        await expect(visit.badge).to_be_hidden()
        engagement = (await visit.gw.get(f"/v1/deliveries/{delivery}"))["engagement"]
        assert set(engagement) == {"seen", "read"}
    assert visit.said == []


async def test_what_comes_while_the_page_is_in_the_background_was_not_seen(tmp_path):
    async with visiting(tmp_path) as visit:
        await visit.bell.click()
        hide = "state => Object.defineProperty(document, 'visibilityState', {value: state, configurable: true})"
        await visit.page.evaluate(hide, "hidden")
        delivery = await visit.send("Nobody looks")
        await expect(visit.rows).to_have_count(1)
        assert (await visit.gw.get(f"/v1/deliveries/{delivery}"))["engagement"] == []
        await visit.page.evaluate(hide, "visible")
        async with visit.page.expect_response("**/inbox/seen"):
            await visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        assert (await visit.gw.get(f"/v1/deliveries/{delivery}"))["engagement"] == ["seen"]


async def test_everything_can_be_done_with_the_keyboard(tmp_path):
    async with visiting(tmp_path, before=two) as visit:
        await expect(visit.badge).to_have_text("2")
        await visit.bell.focus()
        await visit.page.keyboard.press("Enter")
        await expect(visit.rows.nth(0)).to_be_focused()
        await visit.page.keyboard.press("ArrowDown")
        await expect(visit.rows.nth(1)).to_be_focused()
        await visit.page.keyboard.press("Home")
        await visit.page.keyboard.press("Enter")
        await expect(visit.badge).to_have_text("1")
        await expect(visit.rows.nth(0)).to_be_focused()
        await visit.page.keyboard.press("Delete")
        await expect(visit.rows).to_have_count(1)
        await expect(visit.rows.nth(0)).to_be_focused()
        await visit.page.keyboard.press("Escape")
        await expect(visit.page.locator("notification-inbox .panel")).to_be_hidden()
        await expect(visit.bell).to_be_focused()
    assert visit.said == []


async def test_a_button_of_an_item_acknowledges_it_and_leads_where_it_says(tmp_path):
    async with visiting(tmp_path, before=two) as visit:
        await visit.page.context.route("https://example.com/**", lambda route: route.fulfill(body="there"))
        await visit.bell.click()
        async with visit.page.context.expect_page() as opening:
            await visit.page.get_by_role("link", name="Where is it?").click()
        opened = await opening.value
        assert opened.url == "https://example.com/parcel"
        await expect(visit.badge).to_have_text("1")
        item = (await visit.gw.get("/v1/users/42/inbox"))["items"][0]
        assert "acknowledged" in (await visit.gw.get(f"/v1/deliveries/{item['delivery_id']}"))["engagement"]


async def test_what_was_sent_is_never_more_than_words(tmp_path):
    async def hostile(visit: Visit) -> None:
        await visit.send(**HOSTILE)

    async with visiting(tmp_path, before=hostile) as visit:
        visit.page.on("dialog", lambda dialog: visit.said.append(f"ran: {dialog.message}"))
        await visit.bell.click()
        row = visit.rows.first
        await expect(row.locator("h3")).to_have_text(HOSTILE["title"])
        await expect(row.locator("strong")).to_have_text("strong")
        assert await row.locator("script, [onclick], [onerror], a[href^='javascript']").count() == 0
        assert await visit.page.evaluate("window.ran") is None
    assert visit.said == []


async def test_a_long_inbox_shows_older_items_when_asked(tmp_path):
    async def many(visit: Visit) -> None:
        for number in range(23):
            await visit.send(f"Number {number}")

    async with visiting(tmp_path, before=many) as visit:
        await visit.bell.click()
        await expect(visit.rows).to_have_count(20)
        await visit.page.get_by_role("button", name="Show older").click()
        await expect(visit.rows).to_have_count(23)
        await expect(visit.rows.nth(20)).to_be_focused()
        await expect(visit.page.get_by_role("button", name="Show older")).to_be_hidden()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wide", {}),
        ("phone", {"viewport": {"width": 360, "height": 640}}),
        ("dark", {"color_scheme": "dark", "viewport": {"width": 360, "height": 640}, "locale": "de-AT"}),
    ],
)
async def test_the_page_can_be_used_by_everybody(tmp_path, name: str, options: dict[str, Any]):
    async with visiting(tmp_path, before=two, **options) as visit:
        await visit.page.evaluate("lang => document.querySelector('notification-inbox').lang = lang",
                                  "de" if name == "dark" else "en")  # fmt: skip
        await visit.page.locator("notification-inbox .bell").click()
        await expect(visit.rows).to_have_count(2)
        await visit.page.wait_for_function(
            "document.querySelector('notification-inbox').shadowRoot.getAnimations().length === 0"
        )
        await visit.picture(name)
        await visit.page.add_script_tag(path=str(AXE))
        found = await visit.page.evaluate("async () => (await axe.run()).violations")
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        assert await visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if name == "dark":
            await expect(visit.page.get_by_role("button", name="Alle als gelesen markieren")).to_be_visible()
    assert visit.said == []


async def test_a_token_that_has_ended_is_asked_for_anew(tmp_path):
    async with visiting(tmp_path, before=two) as visit:
        await visit.bell.click()
        await expect(visit.rows).to_have_count(2)
        visit.gw.clock.advance(3601)
        async with visit.page.expect_response("**/inbox-token"):
            await visit.page.get_by_role("button", name="Mark all as read").click()
        await expect(visit.badge).to_be_hidden()
