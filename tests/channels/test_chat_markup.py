"""Words from content, Markdown in a medium's marks, and which URLs are a service's webhooks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import chat_escapes
from channels.chat_markup import Action, Dialect, HookHosts, Words, blocks_of, chosen, cut, plain_of, words_of
from channels.contract import Content

MARKS = Dialect(
    text=lambda text: f"T({text})",
    strong=("<b>", "</b>"),
    em=("<i>", "</i>"),
    strike=("<s>", "</s>"),
    code=lambda text: f"C({text})",
    pre=lambda text: f"P({text})",
    link=lambda shown, address: f"L({shown} {address})",
    heading=lambda text: f"H({text})",
    quote=lambda text: f"Q({text})",
    bullet="* ",
    rule="---",
)


def written(markdown):
    return blocks_of(Words(markdown=markdown), MARKS)


@pytest.mark.parametrize(
    ("markdown", "blocks"),
    [
        ("a\nb\n\nc", ["T(a)\nT(b)", "T(c)"]),
        ("**a *b***", ["<b>T(a )<i>T(b)</i></b>"]),
        ("<script>x</script>", ["T(<script>x</script>)"]),
        ("`` a`b ``", ["C(a`b)"]),
        ("    code\n", ["P(code)"]),
        ("- a\n\n  b\n- c", ["* T(a)\n    T(b)\n* T(c)"]),
        ("3. a\n4. b", ["3. T(a)\n4. T(b)"]),
        ("> - a", ["Q(* T(a))"]),
        ("# a\n***\n", ["H(T(a))", "---"]),
        ("<https://example.com>", ["L(T(https://example.com) https://example.com)"]),
        ("<ada@example.com>", ["L(T(ada@example.com) mailto:ada@example.com)"]),
        ("[](https://example.com)", ["L(T(https://example.com) https://example.com)"]),
        ("[go to https://bank.example](https://evil.example)", ["L(T(https://evil.example) https://evil.example)"]),
        ("[www.bank.example](https://evil.example)", ["L(T(https://evil.example) https://evil.example)"]),
        ("[bank.example/login](https://evil.example)", ["L(T(https://evil.example) https://evil.example)"]),
        ("[the bank](https://bank.example)", ["L(T(the bank) https://bank.example)"]),
        ("![](https://example.com/i.png)", ["L(T(image) https://example.com/i.png)"]),
        ("![x](data:image/png;base64,AA)", ["T(x)"]),
        ("", []),
    ],
)
def test_markdown_is_walked(markdown, blocks):
    assert written(markdown) == blocks


@settings(deadline=None)  # the machine may be busy with other tests
@given(st.text(alphabet="ab*_~`[]()<>!#-|>1. \n\\&:/", max_size=120))
def test_any_markdown_can_be_written(text):
    assert all(block for block in written(text))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_escaped_data_is_shown_as_it_is_in_any_medium(text):
    shown = " ".join(text.replace("\0", "\ufffd").split())
    assert written("# " + chat_escapes.markdown(text)) == ([f"H(T({shown}))"] if shown else ["H()"])
    assert written("- a " + chat_escapes.markdown(text)) == [f"* T(a {shown})" if shown else "* T(a)"]


def test_reading_and_writing_words_is_linear():
    assert written("a " * 9999 + "*") == [f"T({'a ' * 9999}*)"]


def test_deep_nesting_ends():
    assert written("> " * 5000 + "x") == ["Q(" * 20 + "T(x)" + ")" * 20]
    assert written("- " * 5000 + "x") == ["* " * 20 + "T(x)"]
    assert written("[" * 5000) == [f"T({'[' * 5000})"]


def test_words_are_what_the_renderer_hands_over():
    data = {
        "title": "T\nU",
        "body": "*b*",
        "url": "https://example.com/",
        "image_url": "http://example.com/i.png",
        "actions": [{"label": "Go", "url": "https://example.com/go"}, {"label": "", "url": "https://x"}, {"url": 1}, 2],
    }
    assert words_of(Content(subject="S", text="t", data=data)) == Words(
        title="T U",
        markdown="*b*",
        text="t",
        url="https://example.com/",
        image_url="http://example.com/i.png",
        actions=(Action(label="Go", url="https://example.com/go"),),
    )


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//example.com", "https://a b", "https://a\n", 7]
)
def test_addresses_of_other_kinds_are_left_out(url):
    found = words_of(Content(data={"url": url, "image_url": url, "actions": [{"label": "Go", "url": url}]}))
    assert (found.url, found.image_url, found.actions) == (None, None, ())


@pytest.mark.parametrize("data", [{"actions": "x"}, {"actions": {}}, {"title": 1, "body": 2, "url": None}])
def test_data_of_another_shape_is_not_read(data):
    assert words_of(Content(subject="S", text="t", data=data)) == Words(title="S", text="t")


def test_plain_text_shows_everything_without_marks():
    words = Words(
        title="T",
        markdown="**b** [c](https://c.example)\n\n- d",
        url="https://u.example",
        actions=(Action(label="Go", url="https://g.example"),),
    )
    assert plain_of(words) == "T\nb c (https://c.example)\n- d\nGo: https://g.example\nhttps://u.example"


def test_plain_text_that_was_rendered_already_is_taken():
    assert plain_of(Words(title="T", markdown="**b**", text="b, as text\n", url="https://u.example")) == "T\nb, as text"
    assert plain_of(Words(text=" b ")) == "b"


def test_fields_are_chosen_from_overrides_before_data():
    assert chosen({"a": 1, "b": 2, "c": 3}, {"b": 4, "d": 5, "c": None}, ("a", "b", "c", "e")) == {"a": 1, "b": 4}


def test_a_text_is_cut_with_an_ellipsis():
    assert (cut("abc", 3), cut("abcd", 3)) == ("abc", "ab…")


HOSTS = HookHosts(["https://hooks.example.com", "https://*.flow.example.com", "http://127.0.0.1:8080"])


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a/b?c=d",
        "https://HOOKS.example.com:443/",
        "https://a.b.flow.example.com/@x",
        "http://127.0.0.1:8080/x",
    ],
)
def test_a_services_own_urls_are_let_through(url):
    assert HOSTS.fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "http://hooks.example.com/",
        "https://hooks.example.com:444/",
        "https://hooks.example.com./",
        "https://hooks.example.com.evil.example/",
        "https://hooks.example.com@evil.example/",
        "https://hooks.example.com:443@evil.example/",
        "https://hooks.example.com\\@evil.example/",
        "https://evil.example/https://hooks.example.com/",
        "https://evil.example#hooks.example.com/",
        "https://flow.example.com/",
        "https://evilflow.example.com/",
        "https://a.flow.example.com\n/",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\u212a",
        "https://127.0.0.1:8080/",
        "http://127.1:8080/",
        "http://2130706433:8080/",
        "//hooks.example.com/",
        "",
    ],
)
def test_no_other_url_is(url):
    assert HOSTS.fault(url) is not None
