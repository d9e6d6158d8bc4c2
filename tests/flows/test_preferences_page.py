"""The preference page: from a link in a captured message to a changed choice, and to what is not sent any more."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gateway.router.links import Reader
from tests.support.axe import violations
from tests.support.browser import chromium_or_skip, open_browser
from tests.support.gateway import ADMIN, RunningGateway, body, parsed, running_gateway, smtp, write_config
from tests.support.process import serving
from tests.support.smtp_server import SmtpServer

CONFIG: dict[str, Any] = {
    "environment": "development",
    "public_url": "https://notify.example.com",
    "channels": {"email": {}, "sms": {}},
    "categories": {
        "marketing": {"unsubscribe": True, "title": {"en": "Offers", "de": "Angebote"}, "description": "Now and then"},
        "news": {"unsubscribe": True},
        "orders": {},
        "sign-in": {"required": True},
        "alerts": {"locked": {"sms": False}},
    },
}
ADA = {"name": "Ada", "email": "ada@example.com", "phone": "+15550109999", "timezone": "Europe/Vienna"}


PHONE: Any = {"width": 360, "height": 640}
SMALL_TARGETS = """[...document.querySelectorAll("button, a, label.row, input[type=time]")]
    .filter(one => one.getBoundingClientRect().height < 44).map(one => one.outerHTML)"""


class Form(HTMLParser):
    """The page's first form, as a browser without scripts would send it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fields: list[tuple[str, str]] = []
        self.boxes: dict[str, bool] = {}
        self.disabled: dict[str, bool] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        name, value = own.get("name"), own.get("value") or ""
        if tag != "input" or name is None:
            return
        if own.get("type") != "checkbox":
            self.fields.append((name, value))
        elif "disabled" in own:
            self.disabled[value] = "checked" in own
        else:
            self.boxes[value] = "checked" in own

    def filled(self, **quiet: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"on": [key for key, on in self.boxes.items() if on]}
        for name, value in self.fields:
            found.setdefault(name, []).append(quiet.get(name, value))
        return found


async def path_in(gw: RunningGateway, to: Any, category: str = "marketing") -> str:
    """Send a message, and read the path of its preference link out of the captured text: at night, too."""
    answer = await gw.send(to, category=category, channels=["email"], priority="critical")
    await gw.final(answer)
    [captured] = (await gw.get("/v1/captured", notification_id=answer["id"]))["items"]
    found = re.search(r"https://notify\.example\.com(/preferences/[\w-]+)", captured["text"])
    assert found is not None, captured["text"]
    assert found[1] in captured["html"]
    return found[1]


async def form_at(gw: RunningGateway, path: str) -> Form:
    page = await gw.client.get(path)
    assert page.status_code == 200, page.text
    return Form(page.text)


async def post(gw: RunningGateway, path: str, form: Form, **quiet: str) -> httpx.Response:
    return await gw.client.post(path, data=form.filled(**quiet))


async def saved(gw: RunningGateway, path: str, form: Form, **quiet: str) -> None:
    answer = await post(gw, path, form, **quiet)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?saved=1")
    page = await gw.client.get(answer.headers["location"])
    assert "Your choices are saved." in page.text


async def ada(gw: RunningGateway, **choices: Any) -> str:
    """Store her, and answer the path of her page."""
    assert (await gw.client.put("/v1/users/42", json=ADA)).status_code == 201
    if choices:
        assert (await gw.client.put("/v1/users/42/preferences", json=choices)).status_code == 200
    return await path_in(gw, {"user": "42"}) if not choices else whole(gw)


def whole(gw: RunningGateway) -> str:
    reader = Reader(channel="email", address="ada@example.com", user="42")
    return gw.gateway.links.choose_path(reader, gw.clock() // 1000 + 60, whole=True)


async def outcomes(gw: RunningGateway, to: Any, category: str) -> dict[str, str]:
    answer = await gw.send(to, category=category, channels=["email", "sms"])
    ends = [await gw.final(one) for one in answer["deliveries"]]
    return {one["channel"]: one["status"] + (":opted_out" if one["reason"] == "opted_out" else "") for one in ends}


@contextlib.asynccontextmanager
async def people_pages(folder: Path) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve a gateway, and answer where it is and which pages a captured message links to."""
    chromium_or_skip()
    own = {"database": f"sqlite:///{folder}/gateway.db", "bootstrap_key": ADMIN, "channels": {"email": {}}}
    config = write_config(folder / "gateway.toml", {"categories": CONFIG["categories"], **own})
    async with serving(config) as (process, client):
        await client.put("/v1/users/42", json={"name": "Ada", "email": "ada@example.com"})
        sent = body({"user": "42"}, category="marketing")
        assert (await client.post("/v1/notifications", json=sent)).status_code == 202
        captured = (await client.get("/v1/captured/wait", params={"to": "ada@example.com"})).json()
        found = re.findall(r"http://\S+?(/(?:unsubscribe|preferences)/[\w-]+)", captured["text"])
        yield str(process.url), sorted(found, key=lambda path: path.startswith("/preferences"))


async def test_what_a_person_turns_off_on_the_page_is_not_sent_any_more(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        form = await form_at(gw, path)
        assert form.boxes["marketing/email"]
        assert form.boxes["marketing/sms"]
        form.boxes["marketing/email"] = False
        await saved(gw, path, form)
        assert await outcomes(gw, {"user": "42"}, "marketing") == {"email": "skipped:opted_out", "sms": "captured"}
        assert await outcomes(gw, {"user": "42"}, "news") == {"email": "captured", "sms": "captured"}
        choices = await gw.get("/v1/users/42/preferences")
        assert choices["categories"] == {"marketing": {"enabled": None, "channels": {"email": False}}}
        again = await form_at(gw, path)
        assert not again.boxes["marketing/email"]
        assert again.boxes["marketing/sms"]


async def test_the_page_shows_what_cannot_be_turned_and_why(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        page = await gw.client.get(await ada(gw))
        form = Form(page.text)
        assert form.disabled == {"sign-in/email": True, "sign-in/sms": True, "alerts/sms": False}
        assert "Always on: you need these messages." in page.text
        assert "never sent here" in page.text
        assert "Offers" in page.text
        assert "Now and then" in page.text
        assert "a…@example.com" in page.text
        assert "+1555…9999" in page.text
        assert not re.search(r"ada@example\.com|5550109999", page.text)


async def test_a_form_cannot_turn_what_is_required_locked_or_unknown(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        keys = ["sign-in/email", "alerts/sms", "nothing/email", "marketing/pigeon", "*/pigeon", "", "//", "*/*"]
        for form in ({"was": keys}, {"was_not": keys, "on": keys}):
            assert (await gw.client.post(path, data=form)).status_code == 303
        choices = await gw.get("/v1/users/42/preferences")
        assert (choices["channels"], choices["categories"]) == ({}, {})


async def test_looking_changes_nothing_and_saving_twice_is_saving_once(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        before = await gw.get("/v1/users/42/preferences")
        form = await form_at(gw, path)
        assert (await gw.client.head(path)).status_code == 200
        assert await gw.get("/v1/users/42/preferences") == before
        form.boxes["news/email"] = False
        await saved(gw, path, form)
        once = await gw.get("/v1/users/42/preferences")
        await saved(gw, path, form)
        assert await gw.get("/v1/users/42/preferences") == once


async def test_what_a_page_did_not_change_is_not_overwritten(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        one, other = await form_at(gw, path), await form_at(gw, path)
        one.boxes["marketing/email"] = False
        await saved(gw, path, one, quiet_start="22:00", quiet_end="07:00")
        other.boxes["news/sms"] = False
        await saved(gw, path, other)
        choices = await gw.get("/v1/users/42/preferences")
        assert choices["categories"]["marketing"]["channels"] == {"email": False}
        assert choices["categories"]["news"]["channels"] == {"sms": False}
        assert choices["quiet_hours"] == {"start": "22:00", "end": "07:00"}


async def test_a_channel_that_is_turned_off_is_off_whatever_was_asked_for_on_it(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw, categories={"marketing": {"channels": {"email": True, "sms": True}}})
        form = await form_at(gw, path)
        form.boxes["*/email"] = False
        await saved(gw, path, form)
        assert await outcomes(gw, {"user": "42"}, "marketing") == {"email": "skipped:opted_out", "sms": "captured"}
        assert await outcomes(gw, {"user": "42"}, "sign-in") == {"email": "captured", "sms": "captured"}
        page = await gw.client.get(path)
        assert "is off below" in page.text
        form = Form(page.text)
        form.boxes["*/email"] = True
        await saved(gw, path, form)
        assert await outcomes(gw, {"user": "42"}, "marketing") == {"email": "captured", "sms": "captured"}


async def test_who_has_enough_of_it_all_gets_only_what_is_required(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw, categories={"news": {"channels": {"sms": True}}})
        assert (await gw.client.post(path, data={"everything": "off"})).status_code == 303
        for category in ("marketing", "news", "orders", "alerts", "default"):
            got = await outcomes(gw, {"user": "42"}, category)
            assert set(got.values()) == {"skipped:opted_out"}, category
        assert await outcomes(gw, {"user": "42"}, "sign-in") == {"email": "captured", "sms": "captured"}


async def test_a_yes_on_the_page_takes_back_the_one_click(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        answer = await gw.send({"user": "42"}, category="marketing", channels=["email"])
        await gw.final(answer)
        [captured] = (await gw.get("/v1/captured", notification_id=answer["id"]))["items"]
        leave = urlsplit(captured["headers"]["list_unsubscribe"]).path
        assert (await gw.client.post(leave, data={"List-Unsubscribe": "One-Click"})).status_code == 200
        form = await form_at(gw, path)
        assert not form.boxes["marketing/email"]
        form.boxes["marketing/email"] = True
        await saved(gw, path, form)
        assert await outcomes(gw, {"user": "42"}, "marketing") == {"email": "captured", "sms": "captured"}
        assert await outcomes(gw, "ada@example.com", "marketing") == {"email": "captured", "sms": "skipped"}


async def test_an_address_that_nobody_is_stored_for_has_a_page_of_its_own(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await path_in(gw, "bob@example.com")
        form = await form_at(gw, path)
        assert form.boxes == {"marketing/email": True, "news/email": True}
        assert form.disabled == {"sign-in/email": True}
        form.boxes["news/email"] = False
        await saved(gw, path, form)
        assert (await outcomes(gw, "bob@example.com", "news"))["email"] == "skipped:opted_out"
        assert (await outcomes(gw, "bob@example.com", "marketing"))["email"] == "captured"
        form = await form_at(gw, path)
        form.boxes["news/email"] = True
        await saved(gw, path, form)
        assert (await outcomes(gw, "bob@example.com", "news"))["email"] == "captured"
        assert (await gw.client.post(path, data={"everything": "off"})).status_code == 303
        assert (await outcomes(gw, "bob@example.com", "marketing"))["email"] == "skipped:opted_out"


async def test_an_unsubscribe_link_leads_to_no_more_than_its_own_channel(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await ada(gw)
        reader = Reader(channel="email", address="ada@example.com", user="42")
        page = await gw.client.get(gw.gateway.links.leave_path(reader, "marketing", gw.clock() // 1000 + 60))
        found = re.search(r'href="(/preferences/[\w-]+)"', page.text)
        assert found is not None
        form = await form_at(gw, found[1])
        assert all(key.endswith("/email") and not key.startswith("*") for key in form.boxes)
        assert "quiet_start" not in dict(form.fields)
        await gw.client.post(found[1], data={"was": ["marketing/sms", "*/email"], "quiet_start": "1", "quiet_end": "2"})
        assert (await gw.client.post(found[1], data={"everything": "off"})).status_code == 303
        got = await outcomes(gw, {"user": "42"}, "marketing")
        assert got == {"email": "skipped:opted_out", "sms": "captured"}
        assert (await gw.get("/v1/users/42/preferences"))["quiet_hours"] is None


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("22:00", "", "Give both times"),
        ("", "07:00", "Give both times"),
        ("ten", "seven", "Give both times"),
        ("24:00", "07:00", "Give both times"),
        ("²2:00", "07:00", "Give both times"),
        ("22:00", "22:00", "must differ"),
    ],
)
async def test_quiet_hours_that_cannot_be_read_save_nothing_and_keep_what_was_chosen(
    tmp_path: Path, start: str, end: str, said: str
):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        form = await form_at(gw, path)
        form.boxes["marketing/email"] = False
        answer = await post(gw, path, form, quiet_start=start, quiet_end=end)
        assert (answer.status_code, said in answer.text) == (422, True)
        assert (await gw.get("/v1/users/42/preferences"))["categories"] == {}
        again = Form(answer.text)
        assert not again.boxes["marketing/email"]
        assert again.boxes["news/email"]
        await saved(gw, path, again, quiet_start="22:00", quiet_end="07:00:00")
        choices = await gw.get("/v1/users/42/preferences")
        assert choices["categories"]["marketing"]["channels"] == {"email": False}
        assert choices["quiet_hours"] == {"start": "22:00", "end": "07:00"}


async def test_who_empties_the_hours_that_hold_by_default_is_never_left_alone(tmp_path: Path):
    quiet = {"quiet_hours": {"start": "21:00", "end": "08:00"}}
    async with running_gateway(tmp_path, {**CONFIG, **quiet}) as gw:
        path = await ada(gw)
        page = await gw.client.get(path)
        assert 'value="21:00"' in page.text
        assert "Europe/Vienna" in page.text
        await saved(gw, path, Form(page.text))
        assert (await gw.get("/v1/users/42/preferences"))["quiet_hours"] is None
        await saved(gw, path, Form(page.text), quiet_start="", quiet_end="")
        assert (await gw.get("/v1/users/42/preferences"))["quiet_hours"] == {"enabled": False}


async def test_a_preference_link_ends_after_thirty_days(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        gw.clock.advance(30 * 86_400)
        assert (await gw.client.get(path)).status_code == 200
        gw.clock.advance(2 * 86_400)
        assert (await gw.client.get(path)).status_code == (await gw.client.post(path)).status_code == 410


async def test_a_person_who_was_erased_has_no_page_any_more(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await ada(gw)
        assert (await gw.client.delete("/v1/users/42")).status_code == 200
        for answer in (await gw.client.get(path), await gw.client.post(path, data={"everything": "off"})):
            assert (answer.status_code, "There is nothing here any more" in answer.text) == (410, True)


async def test_a_redirected_message_carries_no_link_of_the_real_person(tmp_path: Path):
    staging = {"allow": [], "otherwise": "redirect", "redirect": {"email": "qa@example.net"}}
    config = {"environment": "staging", "staging": staging, "categories": {"marketing": {"unsubscribe": True}}}
    async with SmtpServer() as server, running_gateway(tmp_path, smtp(server, **config)) as gw:
        assert (await gw.client.put("/v1/users/42", json=ADA)).status_code == 201
        await gw.final(await gw.send({"user": "42"}, category="marketing", channels=["email"]))
        [mail] = server.messages
        text = parsed(mail).get_body(("plain",)).get_content()
        found = dict(re.findall(r"/(unsubscribe|preferences)/([\w-]+)", text))
        left = gw.gateway.links.leaving(found["unsubscribe"], gw.clock())
        chosen = gw.gateway.links.choosing(found["preferences"], gw.clock())
        qa = Reader(channel="email", address="qa@example.net")
        assert left.reader == chosen.reader == qa  # type: ignore[union-attr] # an unusable link has no reader: it fails
        assert b"list-unsubscribe" not in mail.content.lower()


async def test_explain_shows_the_very_links_and_a_second_try_sends_the_same_ones(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        assert (await gw.client.put("/v1/users/42", json=ADA)).status_code == 201
        one = await gw.explain({"user": "42"}, category="marketing", channels=["email"])
        assert "/preferences/" in one["rendered"]["text"]
        assert "/unsubscribe/" in one["rendered"]["text"]
        required = await gw.explain({"user": "42"}, category="sign-in", channels=["email"])
        assert "/preferences/" not in required["rendered"]["text"]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_suit_everyone_on_a_phone_and_without_javascript(tmp_path: Path, scheme: Any):
    async with people_pages(tmp_path) as (url, paths), open_browser() as browser:
        shown = await browser.new_context(viewport=PHONE, color_scheme=scheme)
        page = await shown.new_page()
        for path in (*paths, "/preferences/forged"):
            for language in ("en", "de"):
                await page.goto(f"{url}{path}?lang={language}")
                assert await violations(page) == []
                assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
                assert await page.evaluate(SMALL_TARGETS) == []
        await shown.close()


@pytest.mark.browser
async def test_a_person_chooses_without_javascript(tmp_path: Path):
    async with people_pages(tmp_path) as (url, (_, choose)), open_browser() as browser:
        context = await browser.new_context(viewport=PHONE, java_script_enabled=False)
        page = await context.new_page()
        await page.goto(url + choose)
        offers = page.get_by_role("group", name="Offers").get_by_label("E-mail")
        await offers.uncheck()
        await page.get_by_label("From").fill("22:00")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("alert").wait_for()
        assert not await offers.is_checked(), "what was chosen is kept"
        await page.get_by_label("Until").fill("07:00")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("status").wait_for()
        await page.reload()
        assert not await offers.is_checked()
        assert await page.get_by_label("Until").input_value() == "07:00"
        await page.get_by_role("button", name="everything optional").click()
        await page.get_by_role("status").wait_for()
        assert await page.locator("input[name=on]:checked:not(:disabled)").count() == 1, "the channel itself"
        assert await context.cookies() == []
        await context.close()


@pytest.mark.browser
async def test_a_person_chooses_with_the_keyboard_alone_and_sees_where_they_are(tmp_path: Path):
    async with people_pages(tmp_path) as (url, (_, choose)), open_browser() as browser:
        context = await browser.new_context(viewport=PHONE)
        page = await context.new_page()
        await page.goto(url + choose)
        await page.keyboard.press("Tab")
        focused = page.locator("input:focus")
        assert await focused.get_attribute("value") == "marketing/email"
        assert await focused.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
        await page.keyboard.press("Space")
        for _ in range(60):
            await page.keyboard.press("Tab")
            if await page.locator("button:focus").count():
                break
        assert await page.locator("button:focus").inner_text() == "Save"
        await page.keyboard.press("Enter")
        await page.get_by_role("status").wait_for()
        assert not await page.get_by_role("group", name="Offers").get_by_label("E-mail").is_checked()
        await context.close()
