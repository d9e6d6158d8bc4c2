"""Templates edited through the API: what their Liquid may do, and that data in it is data on every medium."""

from __future__ import annotations

import re

import pytest
from babel import Locale
from hypothesis import given
from hypothesis import strategies as st

from gateway.render.edition import Edit, EditedVariable, edition_source
from gateway.render.formats import Turn
from gateway.render.ledger import Ledger
from gateway.render.liquid import Liquid
from gateway.render.renderer import Renderer, RenderFailed
from gateway.render.source import decode, encode, shown_version


@pytest.fixture(scope="module")
def liquid():
    return Liquid(Turn(), Ledger(), {"gateway": {"product": "Shop"}})


def run(liquid, text, medium="txt", **values):
    return liquid.part("k/en/x", medium, text).run(values, Locale("en"), None, "k")


@pytest.mark.parametrize(
    ("text", "medium", "values", "shown"),
    [
        ("Hi {{ a }} of {{ gateway.product }}", "txt", {"a": "<b>"}, "Hi <b> of Shop"),
        ("{{ a }}", "html", {"a": "<b>\"'&"}, "&lt;b&gt;&#34;&#39;&amp;"),
        ('<a href="{{ a }}">x</a>', "html", {"a": "https://x.example/?a=b"}, '<a href="https://x.example/?a=b">x</a>'),
        ("{{ a }}", "md", {"a": "*x* [y](z)"}, r"\*x\* \[y\]\(z\)"),
        ("{% capture c %}<i>{{ a }}</i>{% endcapture %}{{ c }}", "html", {"a": "<b>"}, "<i>&lt;b&gt;</i>"),
        ("{% for i in a %}{{ i.n }};{% endfor %}", "txt", {"a": [{"n": 1}, {"n": 2}]}, "1;2;"),
        ("{% if a.b %}x{% endif %}{{ none | default: 'y' }}", "txt", {"a": {"b": None}, "none": None}, "y"),
        ("{{ a | date: 'full' }}", "txt", {"a": "2026-12-03"}, "Thursday, December 3, 2026"),
        ("{{ a | datetime: 'short', zone: true }}", "txt", {"a": "2026-12-03T10:00Z"}, "12/3/26, 10:00\u00a0AM UTC"),
        ("{{ a | money: 'EUR' }} {{ b | number }}", "txt", {"a": "9.5", "b": 1200}, "€9.50 1,200"),
        ("{{ a | join: ', ' }} {{ b | replace: 'x', 'y' | upcase }}", "txt", {"a": ["p", "q"], "b": "xx"}, "p, q YY"),
        ("{# no comment #}{% raw %}{{ a }}{% endraw %}", "txt", {"a": 1}, "{# no comment #}{{ a }}"),
    ],
)  # fmt: skip
def test_data_is_written_for_its_medium(liquid, text, medium, values, shown):
    assert run(liquid, text, medium, **values) == shown


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{% for i in (1..1000000) %}x{% endfor %}", {}),
        ("{% for i in (1..200) %}{% for j in (1..200) %}x{% endfor %}{% endfor %}", {}),
        ("{{ (1..100000000) | reverse | size }}", {}),
        ("{{ (1..100000000) | join }}", {}),
        ("{% assign r = a %}{% for i in (1..99) %}{% assign r = r | append: r %}{% endfor %}{{ r }}", {"a": "xx"}),
        ("{% assign r = 9 %}{% for i in (1..99) %}{% assign r = r | times: r %}{% endfor %}{{ r }}", {}),
        ("{{ a | replace: '', a }}", {"a": "x" * 5_000}),
        ("{% for i in (1..2000) %}{{ a }}{% endfor %}", {"a": "x" * 1_000}),
        ("{{ a.nothing }}", {"a": {}}),
        ("{{ a.__class__ }}{{ a.__init__ }}", {"a": "x"}),
        ("{{ a.items }}", {"a": {"b": 1}}),
        ("{{ a | date }}", {"a": "secret"}),
        ("{{ a | divided_by: 0 }}", {"a": 1}),
    ],
)  # fmt: skip
def test_bombs_and_what_is_not_there_end_quickly_and_tell_no_data(liquid, text, values):
    with pytest.raises(RenderFailed) as failed:
        run(liquid, text, **values)
    assert failed.value.detail.startswith("k: k/en/x")
    assert "secret" not in failed.value.detail


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", " ", "//evil.example"])
def test_a_link_from_data_is_a_link(liquid, address):
    with pytest.raises(RenderFailed, match="a link must start with"):
        run(liquid, '<a href="{{ a }}">x</a>', "html", a=address)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% include 'etc/passwd' %}", "unexpected tag 'include'"),
        ("{% render 'x' %}", "unexpected tag 'render'"),
        ("{% echo a %}", "unexpected tag 'echo'"),
        ("{% cycle a, 'b' %}", "unexpected tag 'cycle'"),
        ("{% tablerow i in a %}{% endtablerow %}", "unexpected tag 'tablerow'"),
        ("{% increment a %}", "unexpected tag 'increment'"),
        ("{% liquid\necho a %}", "unexpected tag 'liquid'"),
        ("{{ a | safe }}", "there is no filter 'safe'"),
        ("{{ a | base64_decode }}", "there is no filter 'base64_decode'"),
        ("x\n{{ b }}", "the variable 'b' is used and not declared"),
        ("{% if a %}", "expected tag endif"),
        ("{% if a %}" * 50, "block nesting limit reached"),
    ],
)  # fmt: skip
def test_what_may_not_be_is_a_fault_before_anything_is_sent(liquid, text, message):
    [fault] = liquid.faults(text, "txt", frozenset({"a"}))
    assert message in fault.message
    assert fault.line == (2 if text.startswith("x\n") else fault.line)


SLACK = '{"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "{{ a }}"}},], "raw": {{ b }}}'
EDIT = Edit(
    variables={"a": EditedVariable(), "b": EditedVariable(default=[])},
    parts={
        "en": {
            "title": "T {{ a }}",
            "body": "B {{ a }}",
            "actions": '[{"label": "{{ a }}", "url": "https://example.com"}]',
            "email.subject": "S {{ a }}",
            "email.html": "<style>p { color: red }</style><p>{{ a }}</p>",
            "slack.json": SLACK,
            "sms": "{{ a }}",
        }
    },
)


@pytest.fixture(scope="module")
def edited():
    renderer = Renderer(None, public_url="https://notify.example.com", cache_bytes=0)
    renderer.load()
    source = edition_source(EDIT, project="p", key="k", number=3, layouts=renderer.content_source.files)
    return renderer, renderer.add(decode(encode(source)))


def test_an_edition_is_named_by_its_number_and_its_text(edited):
    _, template = edited
    assert template.version.startswith("3@sha256:")
    assert shown_version(template.version) == 3
    assert shown_version("sha256:abc") == "sha256:abc"


@given(value=st.text(max_size=40), more=st.lists(st.text(max_size=10), max_size=3))
def test_no_data_breaks_out_of_any_part_of_an_edition(edited, render, value, more):
    renderer, template = edited
    data = {"a": value, "b": more}
    slack = render(renderer, template, data, channel="slack").data
    assert list(slack) == ["blocks", "raw"]
    assert len(slack["raw"]) == len(more)
    assert not re.search(r"<(?!https?://)", slack["blocks"][0]["text"]["text"])
    mail = render(renderer, template, data).html
    assert mail.count("<") == render(renderer, template, {"a": "x"}).html.count("<")
    assert 'style="color: red' in mail
    inbox = render(renderer, template, data, channel="inbox").data
    assert [one["url"] for one in inbox["actions"]] == ["https://example.com"]
