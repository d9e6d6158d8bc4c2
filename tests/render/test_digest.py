"""Several messages as one, on each medium."""

from __future__ import annotations

from pathlib import Path

import pytest

from channels.contract import Content
from channels.sms_segments import text_of
from gateway.model.requests import ContentRequest
from gateway.render.digest import Item
from gateway.render.renderer import Person, Renderer, shipped_folder

ODD = "*Stars* [brackets](https://evil.example) <b>&"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    made = Renderer(shipped_folder(), public_url="http://localhost", product="Example")
    assert [fault for fault in made.load() if fault.severity == "error"] == []
    return made


def made_item(renderer: Renderer, title: str, channel: str = "email", body: str = "", url: str | None = None) -> Item:
    return renderer.item(
        template=renderer._content_template(),
        content=ContentRequest(title=title, body=body, url=url),
        channel=channel,
        data={"n": 1},
        person=Person(),
        category="news",
        reference="r",
        created_at="2026-11-26T08:00:00.000Z",
    )


def digest(renderer: Renderer, channel: str, items: list[Item], *, more: int = 0, locale: str = "en") -> Content:
    return renderer.digest(
        items=items,
        count=len(items) + more,
        channel=channel,
        person=Person(locale=locale),
        category="news",
        described="",
        unsubscribe_url="https://example.com/u",
    )


def test_a_title_is_text_and_never_markup(renderer: Renderer):
    items = [made_item(renderer, ODD, url="https://example.com/?a=<b>"), made_item(renderer, "Second")]
    content = digest(renderer, "email", items)
    assert content.html is not None
    assert "https://evil.example" in content.html
    assert 'href="https://evil.example"' not in content.html
    assert "<b>&" not in content.html
    assert 'href="https://example.com/?a=%3Cb%3E"' in content.html
    assert content.text is not None
    assert ODD in content.text


@pytest.mark.parametrize(
    ("channel", "most"),
    [("email", 30), ("webhook", 30), ("inbox", 30), ("slack", 20), ("sms", 5), ("web_push", 5), ("mobile_push", 5)],
)
def test_a_medium_shows_the_newest_that_it_has_room_for_and_counts_the_rest(
    renderer: Renderer, channel: str, most: int
):
    items = [made_item(renderer, f"Piece {number:02}.", channel, body="Long words.") for number in range(30)]
    text = digest(renderer, channel, items, more=2).text or ""
    assert [f"Piece {number:02}." in text for number in range(30)] == [False] * (30 - most) + [True] * most
    assert f"and {32 - most} earlier ones" in text
    assert ("Long words." in text) is (most == 30)


def test_it_speaks_the_readers_language(renderer: Renderer):
    items = [made_item(renderer, "One"), made_item(renderer, "Two")]
    content = digest(renderer, "email", items, more=1, locale="de-AT")
    assert content.subject == "3 neue Nachrichten"
    assert "und 1 frühere" in (content.text or "")
    assert "https://example.com/u" in (content.html or "")


def test_a_text_message_says_what_it_is_in_its_text(renderer: Renderer):
    items = [made_item(renderer, "One", "sms"), made_item(renderer, "Two", "sms")]
    assert text_of(digest(renderer, "sms", items)) == "2 new messages\n\n- One\n- Two"


def test_who_reads_data_gets_the_messages_and_a_push_does_not(renderer: Renderer):
    items = [made_item(renderer, "One", body="B", url="https://example.com"), made_item(renderer, "Two")]
    data = digest(renderer, "webhook", items).data
    assert data["title"] == "2 new messages"
    assert data["items"][0] == {
        "title": "One",
        "body": "B",
        "url": "https://example.com",
        "data": {"n": 1},
        "created_at": "2026-11-26T08:00:00.000Z",
        "reference": "r",
    }
    assert "items" not in digest(renderer, "web_push", items).data


def test_a_template_says_in_a_digest_what_it_says_alone(renderer: Renderer):
    template = renderer.current("order-shipped")
    assert template is not None
    data = template.examples()
    assert data is not None
    shown = renderer.item(
        template=template,
        content=None,
        channel="email",
        data=data,
        person=Person(locale="de"),
        category="orders",
        reference=None,
        created_at="x",
    )
    alone = renderer.render(
        template=template,
        content=None,
        channel="email",
        data=data,
        person=Person(locale="de"),
        category="orders",
        reference=None,
        unsubscribe_url=None,
    )
    assert shown.title == alone.subject
    assert shown.url is not None
    assert shown.url in (alone.text or "")
    assert shown.body


def test_one_that_cannot_be_rendered_any_more_keeps_its_place(renderer: Renderer):
    template = renderer.current("order-shipped")
    assert template is not None
    shown = renderer.item(
        template=template,
        content=None,
        channel="email",
        data={},
        person=Person(),
        category="orders",
        reference=None,
        created_at="x",
    )
    assert shown.title == (template.description or template.key)


def test_the_shipped_words_are_there_in_every_language():
    words = (Path(shipped_folder()) / "_layouts" / "words.toml").read_text()
    for word in ("digest", "digest_of", "digest_more"):
        assert words.count(f"\n{word} = ") == words.count('\nopen = "')
