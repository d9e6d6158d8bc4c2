"""The four templates that come with the gateway, and the layout of `content`, as readers meet them."""

from __future__ import annotations

from html.parser import HTMLParser

import msgspec
import pytest
from slack_sdk.models.blocks import Block

from channels.contract import Message
from channels.sms_segments import count_segments
from gateway.model.requests import Action, ContentRequest
from tests.support.adapters import raw_of
from tests.support.browser import open_browser

KEYS = ["incident-alert", "order-shipped", "password-reset", "welcome"]
LONG = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2
CONTENT = ContentRequest(
    title=f"A title {LONG}",
    body=f"{LONG} `{LONG}`\n\n```\n{LONG}\n```\n\n| {LONG} | b |\n|---|---|\n| c | {LONG} |\n\n- {LONG}\n\n> {LONG}",
    url="https://example.com/" + "a" * 300,
    actions=[Action(label="A rather long label for a button in a mail" * 1, url="https://example.com")] * 3,
)


class Page(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_four_templates_are_shipped_and_all_render_with_their_examples(shipped):
    assert [template.key for template in shipped.templates()] == KEYS
    assert all(template.locales == ("de", "en") for template in shipped.templates())
    assert all(template.examples() is not None for template in shipped.templates())
    assert shipped.try_examples() == []


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("locale", ["en", "de"])
def test_shipped_mail_is_accessible(shipped, render, key, locale):
    content = render(shipped, key, shipped.current(key).examples(), locale=locale)
    page = Page(content.html)
    assert ("html", {"lang": locale, "dir": "ltr"}) in page.found
    assert sum(tag == "h1" for tag, _ in page.found) == 1
    assert all("alt" in attributes for tag, attributes in page.found if tag == "img")
    rows = [attributes for tag, attributes in page.found if tag == "table"]
    data_tables = content.html.count('scope="row"') + content.html.count('scope="col"')
    assert sum("role" not in attributes for attributes in rows) <= (1 if data_tables else 0)
    assert content.html.count('class="preheader"') == 1
    assert len(content.subject) <= 78
    assert content.text.count("http") >= 1


@pytest.mark.parametrize("key", KEYS)
def test_text_part_carries_every_link_of_the_mail(shipped, render, key):
    content = render(shipped, key, shipped.current(key).examples(), unsubscribe_url="https://example.com/unsubscribe")
    links = {attributes["href"] for tag, attributes in Page(content.html).found if tag == "a"}
    assert links
    assert all(link in content.text for link in links)


@pytest.mark.parametrize("key", KEYS)
def test_optional_variables_may_be_left_out(shipped, render, key):
    template = shipped.current(key)
    needed = {variable.name: variable.example for variable in template.variables if variable.required}
    assert template.data_faults(needed) == []
    for locale in template.locales:
        for channel in ("email", "slack"):
            shown = render(shipped, key, needed, locale=locale, channel=channel)
            assert "None" not in (shown.text or "") + (shown.html or "")


CHANNELS = [
    "discord", "email", "inbox", "mobile_push", "slack", "sms", "teams", "telegram", "web_push", "webhook",
]  # fmt: skip


def cases(template):
    examples = template.examples()
    needed = {one.name: examples[one.name] for one in template.variables if one.required}
    return [(locale, data) for locale in template.locales for data in (examples, needed)]


@pytest.mark.parametrize("key", KEYS)
def test_every_channel_has_parts_of_its_own_that_fit_it(shipped, render, key):
    template = shipped.current(key)
    assert list(template.channels) == CHANNELS
    for locale, data in cases(template):
        shown = {channel: render(shipped, key, data, locale=locale, channel=channel) for channel in CHANNELS}
        assert 1 <= count_segments(shown["sms"].text).segments <= 2
        assert "http" in shown["sms"].text
        for push in (shown["web_push"], shown["mobile_push"]):
            assert 5 <= len(push.subject) <= 65
            assert 20 <= len(push.text) <= 180
            assert push.data["url"].startswith("https://")
        assert shown["inbox"].data["body"]
        assert shown["inbox"].data["actions"]
        assert shown["webhook"].data["type"].count(".") == 1
        assert not any("None" in str(content.text) for content in shown.values())


@pytest.mark.parametrize("key", KEYS)
def test_slack_takes_the_blocks_and_every_chat_adapter_its_message(shipped, render, key):
    template = shipped.current(key)
    for locale, data in cases(template):
        for channel in ("slack", "discord", "teams", "telegram"):
            content = render(shipped, key, data, locale=locale, channel=channel, reference="INC-412")
            raw = raw_of(channel, Message(id="dlv_1", kind=channel, to="1", content=content, idempotency_key="k"))
            posted = msgspec.json.decode(raw)
            if channel == "slack":
                # slack_sdk's own models check lengths, numbers and forms as they write themselves.
                assert [block.to_dict() for block in Block.parse_all(posted["blocks"])] == posted["blocks"]
            if channel == "teams":
                card = posted["attachments"][0]["content"]
                assert card["type"] == "AdaptiveCard"
                assert all(action["url"].startswith("https://") for action in card["actions"])
            if channel == "discord":
                assert posted["allowed_mentions"] == {"parse": []}
            if channel == "telegram":
                assert posted["parse_mode"] == "HTML"


def test_an_alert_in_slack_is_acknowledged_by_its_button_and_a_resolved_one_has_none(shipped, render):
    data = shipped.current("incident-alert").examples()

    def buttons(severity):
        content = render(shipped, "incident-alert", data | {"severity": severity}, channel="slack")
        message = Message(id="dlv_7", kind="slack", to="C1", content=content, idempotency_key="k")
        blocks = msgspec.json.decode(raw_of("slack", message))["blocks"]
        return {one["action_id"]: one["value"] for one in blocks[-1]["elements"]}

    assert buttons("critical") == {"acknowledge": "dlv_7", "gateway_open_0": "dlv_7", "gateway_open_1": "dlv_7"}
    assert "acknowledge" not in buttons("resolved")


@pytest.mark.parametrize("key", KEYS)
def test_generic_parts_are_short_enough_for_a_push(shipped, render, key):
    shown = render(shipped, key, shipped.current(key).examples(), channel="web_push")
    assert len(shown.subject) < 80
    assert shown.data["url"].startswith("https://")


@pytest.mark.browser
async def test_no_mail_is_wider_than_its_screen_and_all_text_has_contrast(shipped, render):
    mails = {}
    for key in KEYS:
        for locale in ("en", "de"):
            data = shipped.current(key).examples()
            mails[key, locale] = render(
                shipped, key, data, locale=locale, name="Ada", unsubscribe_url="https://example.com/u", reference=LONG
            ).html
            long = {name: LONG if isinstance(value, str) and " " in value else value for name, value in data.items()}
            mails[key, locale, "long"] = render(shipped, key, long, locale=locale, name=LONG).html
    mails["content"] = render(shipped, CONTENT).html
    async with open_browser() as browser:
        for scheme in ("light", "dark"):
            context = await browser.new_context(
                viewport={"width": 360, "height": 640}, color_scheme=scheme, java_script_enabled=True, offline=True
            )
            page = await context.new_page()
            for which, html in mails.items():
                for width in (360, 600, 1024):
                    await page.set_viewport_size({"width": width, "height": 640})
                    await page.set_content(html)
                    assert await page.evaluate("document.documentElement.scrollWidth") <= width, (which, width)
                assert await page.evaluate(CONTRAST) == [], (which, scheme)
            await context.close()


# WCAG 2.1, 1.4.3: at least 4.5 to 1 between text and what is behind it.
CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const e of document.body.querySelectorAll('*')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!own || e.closest('.preheader') || !e.offsetWidth) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${e.className}: ${ratio.toFixed(2)}`);
  }
  return bad;
}"""
