"""Markdown read into tokens: what each mark becomes, that HTML is words, and that no text is too much."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import chat_escapes
from channels.markdown import MOST_DEPTH, is_link, read

MARKS = "ab*_~`[]()<>!#-|>1. \n\\&:/\u2329\u2016"
PIECES = st.sampled_from(
    [*MARKS, "> ", "- ", "**", "~~", "```", "<b>", "<https://a.example>", "[a](https://b.example)", "|a|\n|-|\n"]
)


def kinds(markdown):
    return " ".join(kind for kind, *_ in read(markdown))


def words(markdown):
    return "".join(text for kind, text, *_ in read(markdown) if kind != "ol")


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("", ""),
        ("a\nb", "p text soft text /p"),
        ("a  \nb", "p text br text /p"),
        ("a\\\nb", "p text br text /p"),
        ("# a\n###### b", "h1 text /h1 h6 text /h6"),
        ("**a** *b* ~~c~~ `d`", "p strong text /strong text em text /em text s text /s text code /p"),
        ("- a\n- b", "ul li text /li li text /li /ul"),
        ("- a\n\n- b", "ul li p text /p /li li p text /p /li /ul"),
        ("7) a\n   - b", "ol li text ul li text /li /ul /li /ol"),
        ("> a\n\n---", "blockquote p text /p /blockquote hr"),
        ("    a\n\n~~~x\nb\n~~~", "pre pre"),
        ("![a *b* ![c](d)](e)", "p img /p"),
        ("|a|\n|-|", "table thead tr th text /th /tr /thead /table"),
        ("|a|\n|-|\n|b|", "table thead tr th text /th /tr /thead tbody tr td text /td /tr /tbody /table"),
        ("<div>\n\n<!-- **a** -->\n", "p text /p p text strong text /strong text /p"),
    ],
)
def test_markdown_becomes_tokens(markdown, found):
    assert kinds(markdown) == found


@pytest.mark.parametrize(
    ("markdown", "token"),
    [
        ("3. a", ("ol", "3", "", "")),
        ("    a\n     b", ("pre", "a\n b\n", "", "")),
        ("```\n```", ("pre", "", "", "")),
        ("![a *b* `c`](/d 'e')", ("img", "a b c", "/d", "e")),
        ("[a](<https://a.example/b c> '<d>')", ("a", "", "https://a.example/b%20c", "<d>")),
        ("[a](https://b.BÜCHER.example/ä?%20%q)", ("a", "", "https://b.xn--bcher-kva.example/%C3%A4?%20%25q", "")),
        ("[a](https://b.example/~c`d)", ("a", "", "https://b.example/~c%60d", "")),
        ("<ada@b.example>", ("a", "", "mailto:ada@b.example", "")),
        ("<HTTPS://a.example/~b>", ("a", "", "HTTPS://a.example/~b", "")),
        ("[a][b]\n\n[b]: https://b.example", ("a", "", "https://b.example", "")),
    ],
)  # fmt: skip
def test_tokens_say_what_the_marks_do_not(markdown, token):
    assert token in read(markdown)


@pytest.mark.parametrize(
    "text",
    [
        "<b>a</b>",
        "<script>a</script>",
        "<!-- a -->",
        "<![CDATA[a]]>",
        "<?a?>",
        "</a >",
        "<a href='b'>c",
        "a < b",
        "<javascript:a>",
        "[a](<b>c",
        "~5 minutes, ~10 at most",
        "https://a.example/~b/~c",
        "\u2329a\u2329\u2329b\u232a\u2016<",
    ],
)
def test_html_and_lone_tildes_are_words(text):
    assert kinds(text) == "p text /p"
    assert words(text) == text


def test_markdown_within_html_is_markdown_and_data_there_shows_no_backslash():
    assert kinds("<div>**x**</div>") == "p text strong text /strong text /p"
    assert words("<p title='" + chat_escapes.markdown("a*b_c") + "'>") == "<p title='a*b_c'>"
    assert words("`<b>~a`") == "<b>~a"


def test_no_text_at_all_is_refused():
    assert words("a\0b") == "a\ufffdb"
    assert words("a\ud800b") == "a?b"
    assert words("a\r\nb\rc") == "a\nb\nc"
    assert words("&#0;&lt;&nosuch;") == "\ufffd<&nosuch;"


@given(st.lists(PIECES, max_size=80).map("".join))
def test_every_end_has_its_beginning_and_little_is_open_at_once(markdown):
    opened = []
    for kind, *_ in read(markdown):
        if kind.startswith("/"):
            assert opened.pop() == kind[1:]
        elif kind not in {"text", "code", "pre", "img", "hr", "br", "soft"}:
            opened.append(kind)
            assert sum(one in {"ul", "ol", "blockquote", "strong", "em", "s"} for one in opened) <= MOST_DEPTH
    assert opened == []


@pytest.mark.parametrize(
    ("begins", "ends"), [("> ", ""), ("- ", ""), ("1. ", ""), ("> - ", ""), ("*a **a ", " a** a*"), ("~~*a ", " a*~~")]
)
def test_what_nests_too_deep_keeps_its_words(begins, ends):
    found = read(begins * 2 * MOST_DEPTH + "deep" + ends * 2 * MOST_DEPTH)
    assert sum(kind in {"ul", "ol", "blockquote", "strong", "em", "s"} for kind, *_ in found) == MOST_DEPTH
    assert "deep" in "".join(text for _, text, *_ in found)


def test_items_too_deep_are_still_lines_of_their_own():
    inside = "".join("  " * depth + "- a\n" for depth in range(MOST_DEPTH + 1)) + "  " * MOST_DEPTH + "- b\n"
    found = [(kind, text) for kind, text, *_ in read(inside)]
    assert found[-2 * MOST_DEPTH - 4 : -2 * MOST_DEPTH] == [
        ("soft", "\n"),
        ("text", "a"),
        ("soft", "\n"),
        ("text", "b"),
    ]


@pytest.mark.parametrize(
    "piece",
    [
        "[", "]", "![", "[a](", "[a]", "[a][b]", "[a]: /b\n", "*a ", "a**b", "*_", "_a", "~~a", "`", "<", "<a ", "<!--",
        "a<b@", "<https:", "> ", "- ", "- a\n", "1. ", "|", "|a", "|a|\n", "&", "\\", "\\<", "(", "[](", "#", "```\n",
    ],
)  # fmt: skip
def test_reading_is_linear_in_any_repetition(piece):
    start = time.process_time()
    read(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 3.0  # a tenth of that; were it quadratic, minutes


@pytest.mark.parametrize(
    ("address", "is_one"),
    [
        ("https://a.example/b", True),
        ("HTTP://a.example", True),
        ("mailto:a@b.example", True),
        ("http\u017f://a.example", False),
        ("https://a b", False),
        ("javascript:x", False),
        ("//a.example", False),
        ("tel:+1", False),
        ("", False),
    ],
)
def test_addresses_behind_links_are_of_three_schemes(address, is_one):
    assert is_link(address) is is_one


@given(st.text(max_size=60))
def test_escaped_data_is_read_as_it_is(data):
    shown = " ".join(data.replace("\0", "\ufffd").split())
    assert words(f"- {chat_escapes.markdown(data)}") == shown
    assert kinds(f"- {chat_escapes.markdown(data)}") in {"ul li text /li /ul", "ul li /li /ul"}


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40).map("https://a.example/{}".format))
def test_every_address_becomes_a_link_of_plain_characters(address):
    [found] = [token for token in read(f"[a](<{chat_escapes.markdown(address)}>)") if token[0] == "a"]
    assert is_link(found[2])
