"""Markdown as HTML: tags of our own alone, held to what a sanitiser would make of it; and data shown as given."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.markdown import is_link, read
from gateway.render.markdown import TAGS, Dress, html, plain
from gateway.render.sandbox import clean, escape_markdown

BARE = Dress({})
WORN = Dress({tag: f'font-family: "{tag}", a<b & c' for tag in TAGS})
PIECES = st.one_of(
    st.sampled_from(
        [
            *"ab*_~`[]()<>!#-|>1. \n\t\\&:'\"=+",
            "\n\n", "  \n", "    ", "- ", "7. ", "> ", "**", "~~", "```\n", "\n---\n", "# ",
            "\n|a|b|\n|-|:-:|\n|c|d|\n",
            "[a](https://a.example/b?c=d&e='f')", "[b](mailto:b@b.example \"t<'&quot;\")", "<https://c.example>",
            "![i](https://i.example/i.png 'u')", "![j](http://i.example/i.png)", "[x](javascript:x)", "[y](/y)",
            "<script>", "<!--", "<img src=x onerror=x>", "&nbsp;", "&#13;", "&#10;", "&lt;", "\xa0", "\u2329", "é",
            "\ufffe",
        ]
    ),
    st.text(max_size=3),
)  # fmt: skip
MARKDOWN = st.lists(PIECES, max_size=40).map("".join)
ADDRESS = re.compile(r' (?:href|src)="([^"]*)"')


@settings(max_examples=500, deadline=None)
@given(MARKDOWN)
def test_a_sanitiser_would_change_nothing_but_addresses_that_cannot_be_opened(markdown):
    for dress in (BARE, WORN):
        written = html(read(markdown), dress)
        cleaned = dress.clean(written)
        assert ADDRESS.sub("", cleaned) == ADDRESS.sub("", written)
        addresses = [found.replace("&amp;", "&") for found in ADDRESS.findall(written)]
        assert all(map(is_link, addresses))
        assert set(ADDRESS.findall(cleaned)) <= set(ADDRESS.findall(written))


@pytest.mark.parametrize(
    "markdown",
    [
        "[a](https://a.example/b?c=d&e='f'~%20 \"t <'&quot;&\")",
        "![a <b> \"c\"](https://a.example/b.png 'd')",
        "<ada@b.example> <http://localhost:8080/>",
        "3. a\n\n   ```\n\n   b\n   ```\n4. > c\n\n- - a\n  - b\n",
        "a\n\n|b|c|\n|-|-:|\n|d|*e*  `f`|\n\n***\n\n# g&nbsp;\\\nh  \ni",
    ],
)
def test_a_sanitiser_would_change_nothing_at_all(markdown):
    written = html(read(markdown), WORN)
    assert WORN.clean(written) == written


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("a\nb  \nc", "<p>a\nb<br>\nc</p>\n"),
        ("- a\n  - b\n- c\n\n  d", "<ul><li>\n<p>a</p>\n<ul><li>b</li></ul></li><li>\n<p>c</p>\n<p>d</p>\n</li></ul>"),
        ("2. a\n3. ```\n   b\n   ```", '<ol start="2"><li>a</li><li>\n<pre>b\n</pre>\n</li></ol>'),
        ("> # a\n> ***b** ~~c~~*", "<blockquote><h1>a</h1><p><em><strong>b</strong> <s>c</s></em></p></blockquote>\n"),
        ("|a|\n|-|", "<table><thead><tr><th>a</th></tr></thead></table>"),
        ("<div>**a**</div>", "<p>&lt;div&gt;<strong>a</strong>&lt;/div&gt;</p>\n"),
        ("[a](ftp://a.example) [b](/c)", "<p>a b</p>\n"),
        ("![a](http://b.example/c.png) ![](d)", "<p>a </p>\n"),
    ],
)  # fmt: skip
def test_each_mark_has_its_tag(markdown, written):
    shown = html(read(markdown), Dress({})).replace("\n<", "<").replace(">\n", ">")
    shown = re.sub(r' class="md-\w+"', "", shown)
    assert shown == written.replace("\n<", "<").replace(">\n", ">")


class Words(HTMLParser):
    """The words of a document, a line for each line break."""

    def __init__(self, written):
        super().__init__()
        self.found = ""
        self.tags = []
        self.feed(written)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.found += data


def lines(text):
    """Say how data is shown: line by line, with no white space at the edges, no tabs and no control characters."""
    found = [line.strip() for line in clean(re.sub("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "\n", text)).split("\n")]
    return [line.replace("\t", " ") for line in found if line]


DATA = st.text(
    st.one_of(st.sampled_from("ab*_~`[]()<>!#-+=|.:&'\"\\1 \n\t\r\u2028\u2329\u232a\xa0"), st.characters(codec=None)),
    max_size=30,
)
PLACES = ["{}", "- {}", "> {}", "1. {}", "- a\n  - {}", "- b\n\n  {}", "**{}**", "c {} d", "<div>{}</div>", "{}\n\ne"]


@settings(max_examples=300, deadline=None)
@given(data=DATA, place=st.sampled_from(PLACES))
def test_escaped_data_is_shown_exactly_as_given(data, place):
    shown = lines(data) or ["x"]
    tokens = read(clean(place.format(escape_markdown(data if lines(data) else "x"))))
    like = read(place.format("x"))
    page, plain_page = Words(html(tokens, BARE)), Words(html(like, BARE))
    assert [tag for tag in page.tags if tag != "br"] == plain_page.tags
    assert lines(page.found) == lines(plain_page.found.replace("x", "\n".join(shown)))
    bare = [line.lstrip(">-1. ") for line in lines(plain(tokens).replace("\n> ", "\n"))]
    wanted = [line.lstrip(">-1. ") for line in lines(plain(like).replace("x", "\n".join(shown)))]
    assert bare == wanted


@pytest.mark.parametrize(
    "piece",
    ["[", "![a](https://b.example) ", "**a *b ", "> ", "- ", "- a\n", "`", "<", "|a", "|a|\n|-|\n", "[a](b ", "~~a"],
)
def test_writing_is_linear_and_never_recurses(piece):
    start = time.process_time()
    tokens = read(piece * (50_000 // len(piece)))
    assert html(tokens, BARE).count("<") < 200_000
    assert len(plain(tokens)) < 500_000
    assert time.process_time() - start < 3.0
