from __future__ import annotations

import pytest

from channels.markdown import read
from gateway.model.requests import Action, ContentRequest
from gateway.render.markdown import plain


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("", ""),
        ("One\ntwo\n\nthree", "One two\n\nthree"),
        ("One  \ntwo", "One\ntwo"),
        ("# Title\ntext", "Title\n\ntext"),
        ("**b** *i* `c` ~~s~~", "b i c s"),
        ("[words](https://example.com/a)", "words (https://example.com/a)"),
        ("<https://example.com/a>", "https://example.com/a"),
        ("[a@example.com](mailto:a@example.com)", "a@example.com"),
        ("![a picture](https://example.com/a.png)", "a picture"),
        ("x\n\n- a\n- b\n  - c\n\ny", "x\n\n- a\n- b\n  - c\n\ny"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("> a\n> b\n>\n> c", "> a b\n>\n> c"),
        ("```\nx\n  y\n```", "    x\n      y"),
        ("a\n\n---\n\nb", "a\n\n--------------------\n\nb"),
        ("|a|b|\n|-|-|\n|c||", "a | b\nc |"),
        ("\\*a\\* &amp; &lt;", "*a* & <"),
    ],
)
def test_markdown_reads_well_as_text(markdown, text):
    assert plain(read(markdown)) == text


def test_text_part_of_content_says_everything(shipped, render):
    request = ContentRequest(
        title="Report",
        body="Hello **you**.",
        url="https://example.com/r",
        actions=[Action(label="Open it", url="https://example.com/o")],
    )
    shown = render(shipped, request, unsubscribe_url="https://example.com/u").text
    assert shown == (
        "Report\n\nHello you.\n\nOpen it: https://example.com/o\nOpen: https://example.com/r\n\n"
        "--\nSent by Example Shop\nUnsubscribe: https://example.com/u\n"
    )


def test_words_of_the_layout_are_in_the_readers_language(shipped, render):
    request = ContentRequest(title="T", url="https://example.com/r")
    assert "Öffnen: https://example.com/r" in render(shipped, request, locale="de-CH").text
    assert "Open: https://example.com/r" in render(shipped, request, locale="fr").text
    assert '<html lang="de"' in render(shipped, request, locale="de-CH").html


def test_other_channels_get_content_to_show_natively(shipped, render):
    request = ContentRequest(title="T\n2", body="**b**", actions=[Action(label="Go", url="https://example.com/o")])
    shown = render(shipped, request, channel="slack")
    assert shown.html is None
    assert shown.subject == "T 2"
    assert shown.text == "b\n\nGo: https://example.com/o"
    assert shown.data["body"] == "**b**"
    assert shown.data["actions"] == [{"label": "Go", "url": "https://example.com/o"}]
