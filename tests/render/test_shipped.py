"""The four templates that come with the gateway, and the layout of `content`, as readers meet them."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from gateway.model.requests import Action, ContentRequest
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
