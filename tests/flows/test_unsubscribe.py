"""The link in a message: a page with a button, one click for mailbox providers, and nothing without a click."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.router.answers import utc
from gateway.router.links import Reader
from tests.support.browser import chromium_or_skip, open_browser
from tests.support.gateway import ADMIN, RunningGateway, body, running_gateway, write_config
from tests.support.process import serving

CONFIG = {
    "environment": "development",
    "public_url": "https://notify.example.com",
    "templates": {"product": "Blue & Sons"},
    "categories": {
        "marketing": {"unsubscribe": True},
        "news": {"unsubscribe": True},
        "sign-in": {"unsubscribe": True, "required": True},
    },
}


async def link_in(gw: RunningGateway, category: str, to: str = "Ada@example.com") -> str:
    """Send a message of a category, and read the path of its unsubscribe link."""
    answer = await gw.send(to, category=category)
    await gw.final(answer)
    captured = (await gw.client.get("/v1/captured", params={"notification_id": answer["id"]})).json()["items"]
    url = captured[0]["headers"]["list_unsubscribe"]
    assert url.startswith("https://notify.example.com/unsubscribe/")
    return url.removeprefix("https://notify.example.com")


async def outcome(gw: RunningGateway, category: str, to: str = "ada@example.com") -> tuple[str, str | None]:
    delivery = await gw.final(await gw.send(to, category=category))
    return delivery["status"], delivery["reason"]


async def test_looking_at_the_link_changes_nothing(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await link_in(gw, "marketing")
        page = await gw.client.get(path)
        assert (await gw.client.head(path)).status_code == page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "script" not in page.text
        assert "a…@example.com" in page.text
        assert "ada@example.com" not in page.text.lower()
        assert "Blue &amp; Sons" in page.text
        assert await outcome(gw, "marketing") == ("captured", "not_allowed")


async def test_one_click_takes_the_address_off_this_category_alone(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await link_in(gw, "marketing")
        for _ in range(2):
            done = await gw.client.post(path, data={"List-Unsubscribe": "One-Click"})
            assert done.status_code == 200
        assert await outcome(gw, "marketing") == ("skipped", "opted_out")
        assert await outcome(gw, "news") == ("captured", "not_allowed")
        assert await outcome(gw, "marketing", "bob@example.com") == ("captured", "not_allowed")


async def test_a_message_that_is_always_sent_promises_no_way_out(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        answer = await gw.send("ada@example.com", category="sign-in")
        await gw.final(answer)
        [captured] = (await gw.get("/v1/captured", notification_id=answer["id"]))["items"]
        assert "list_unsubscribe" not in captured["headers"]
        assert "/unsubscribe/" not in captured["text"] + captured["html"]


async def test_a_link_into_a_category_that_became_required_says_so_and_does_nothing(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        reader = Reader(channel="email", address="ada@example.com")
        path = gw.gateway.links.leave_path(reader, "sign-in", gw.clock() // 1000 + 60)
        page = await gw.client.post(path)
        assert (page.status_code, "always sent" in page.text) == (200, True)
        assert not await gw.gateway.store.opted_out([("email", "ada@example.com", "sign-in")])
        assert await outcome(gw, "sign-in") == ("captured", "not_allowed")


async def test_a_mistake_can_be_taken_back(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await link_in(gw, "marketing")
        done = await gw.client.post(path)
        assert f'action="{path}/undo"' in done.text
        assert (await gw.client.get(f"{path}/undo")).status_code == 405
        assert (await gw.client.post(f"{path}/undo")).status_code == 200
        assert await outcome(gw, "marketing") == ("captured", "not_allowed")


async def test_who_unsubscribes_while_a_message_waits_does_not_get_it(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await link_in(gw, "marketing")
        waiting = await gw.send("ada@example.com", category="marketing", send_at=utc(gw.clock() + 3_600_000))
        await gw.client.post(path)
        gw.clock.advance(3601)
        delivery = await gw.final(waiting)
        assert (delivery["status"], delivery["reason"]) == ("skipped", "opted_out")


async def test_explain_names_the_opt_out(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        await gw.client.post(await link_in(gw, "marketing"))
        body = {"to": {"email": "ada@example.com"}, "content": {"title": "x"}, "category": "marketing"}
        [one] = (await gw.client.post("/v1/notifications/explain", json=body)).json()["deliveries"]
        assert (one["decision"], one["reason"]) == ("skip", "opted_out")
        [rule] = [rule for rule in one["rules"] if rule["rule"] == "preference"]
        assert (rule["result"], rule["detail"].partition(":")[0]) == ("skip", "opt_out")


@pytest.mark.parametrize("token", ["x", "WyJlbWFpbCJd.aaaa.bbbb", "%00", "a/b"])
async def test_a_forged_link_gets_a_clear_page_and_does_nothing(tmp_path: Path, token: str):
    async with running_gateway(tmp_path, CONFIG) as gw:
        for method in ("GET", "POST"):
            answer = await gw.client.request(method, f"/unsubscribe/{token}")
            assert answer.status_code == 404


async def test_another_gateways_link_is_not_valid_here(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as one:
        path = await link_in(one, "marketing")
    async with running_gateway(tmp_path, {**CONFIG, "secret_key": "another-secret-of-32-characters!"}) as two:
        answer = await two.client.post(path)
        assert answer.status_code == 404
        assert "This link does not work" in answer.text


async def test_a_link_works_for_sixty_days_and_then_says_that_it_is_old(tmp_path: Path):
    async with running_gateway(tmp_path, CONFIG) as gw:
        path = await link_in(gw, "marketing")
        gw.clock.advance(60 * 86_400)
        assert (await gw.client.get(path)).status_code == 200
        gw.clock.advance(2 * 86_400)
        for method in ("GET", "POST"):
            page = await gw.client.request(method, path)
            assert (page.status_code, "too old" in page.text) == (410, True)


@pytest.mark.browser
async def test_a_person_unsubscribes_with_one_button_and_without_javascript(tmp_path: Path):
    chromium_or_skip()
    config = write_config(
        tmp_path / "gateway.toml",
        {
            "database": f"sqlite:///{tmp_path}/gateway.db",
            "bootstrap_key": ADMIN,
            "categories": {"marketing": {"unsubscribe": True}},
        },
    )
    async with serving(config) as (process, client), open_browser() as browser:
        await client.post("/v1/notifications", json=body("ada@example.com", category="marketing"))
        captured = (await client.get("/v1/captured/wait", params={"to": "ada@example.com"})).json()
        page = await browser.new_page(java_script_enabled=False, viewport={"width": 360, "height": 640})
        await page.goto(str(process.url) + urlsplit(captured["headers"]["list_unsubscribe"]).path)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        await page.get_by_role("button", name="Unsubscribe").click()
        await page.get_by_role("heading", name="You are unsubscribed").wait_for()
        await page.close()
        sent = await client.post("/v1/notifications", json=body("ada@example.com", category="marketing"))
        assert sent.json()["deliveries"][0]["reason"] == "opted_out"
