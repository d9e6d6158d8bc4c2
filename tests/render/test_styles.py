"""Styles written on the source must come out as css-inline writes them on the whole message."""

from __future__ import annotations

import re

import css_inline
import pytest

from gateway.model.requests import Action, ContentRequest
from gateway.render.renderer import Renderer
from gateway.render.styles import Sheet, is_simple, split_at_rules

READ = css_inline.CSSInliner(inline_style_tags=False, keep_style_tags=True, load_remote_stylesheets=False)
TAG = re.compile(r"<([a-z0-9]+)((?:\s[^<>]*)?)>")
ATTRIBUTE = re.compile(r'[\w-]+(?:="[^"]*")?')


def tree(html):
    """Write HTML as one parser reads it: equal trees give equal text. White space and order mean nothing here."""
    html = re.sub(r"\s+", " ", READ.inline(html))
    html = re.sub(r">\s+<", "><", html).replace("<style> ", "<style>").replace(" </style>", "</style>")
    return TAG.sub(lambda found: f"<{found[1]} {' '.join(sorted(ATTRIBUTE.findall(found[2])))}>", html)


def both_ways(folder, call):
    results = []
    for quick in (True, False):
        renderer = Renderer(folder, public_url="https://notify.example.com", product="Shop", inline_source=quick)
        assert renderer.load() == []
        results.append((call(renderer).html, renderer))
    return results


@pytest.mark.parametrize("key", ["incident-alert", "order-shipped", "password-reset", "welcome"])
@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("others", [{}, {"unsubscribe_url": "https://example.com/u?a=1&b=2", "reference": "R<1>"}])
def test_shipped_templates_come_out_as_css_inline_would_write_them(shipped, render, key, locale, others):
    data = shipped.current(key).examples()
    (quick, renderer), (slow, _) = both_ways(
        None, lambda r: render(r, key, data, locale=locale, name="Ada & Bob", **others)
    )
    part = renderer.current(key).face(locale, "email")["html"]
    assert part.whole_inline is False
    assert tree(quick) == tree(slow)


@pytest.mark.parametrize("severity", ["critical", "major", "minor", "resolved", "something else"])
def test_every_branch_of_a_template_is_styled(shipped, render, severity):
    data = {**shipped.current("incident-alert").examples(), "severity": severity, "runbook_url": None, "details": None}
    (quick, _), (slow, _) = both_ways(None, lambda r: render(r, "incident-alert", data))
    assert tree(quick) == tree(slow)


def test_content_comes_out_as_css_inline_would_write_it(render):
    body = "# A\n\n## B\n\ntext **b** *i* `c` ~~s~~ [l](https://example.com)  \nbr\n\n- a\n  1. b\n\n> q\n\n---\n\n"
    body += "| a | b |\n|---|:-:|\n| c | d |\n\n    code\n\n![alt](https://img.example.com/a.png)\n\n###### six"
    request = ContentRequest(
        title="Title <1>",
        body=body,
        image_url="https://img.example.com/b.png",
        url="https://example.com/a",
        actions=[Action(label=f"Go & {n}", url=f"https://example.com/{n}?a&b") for n in range(3)],
    )
    (quick, renderer), (slow, _) = both_ways(None, lambda r: render(r, request))
    assert renderer.find(renderer.content_version).layout.html.whole_inline is False
    assert tree(quick) == tree(slow)


def mail(source, **layouts):
    files = {"t/template.toml": "[variables.x]\ndefault = 'a'\n", "t/en/email.subject.txt": "S {{ x }}"}
    files |= {f"_layouts/{name}.html": text for name, text in layouts.items()}
    return {**files, "t/en/email.html": source}


CSS = "<style>.a{color:red;margin:0}p{margin:1px}p.a{padding:2px}.b{color:blue !important}</style>"


@pytest.mark.parametrize(
    ("source", "layouts", "quick"),
    [
        (CSS + '<p class="a">x</p><p>y</p><td class="a">z</td>', {}, True),
        (CSS + '<p class="a b" style="color: green; border: 0">x</p>', {}, True),
        (CSS + "<table><tr><td class='a'>x<td class=b>y</table>", {}, True),
        (CSS + '<p class="a"/><br class="a"/><img alt="" class="b" />', {}, True),
        (CSS + "{% for i in 'abc' %}<p class='a'>{{ i }}</p>{% endfor %}", {}, True),
        (CSS + '<p class="{{ x }}">x</p>', {}, False),
        ("{% if x %}" + CSS + '{% endif %}<p class="a">x</p>', {}, False),
        ("<style>p > b { color: red }</style><p><b>x</b></p>", {}, False),
        ("<style>p:first-child { color: red }</style><p>x</p><p>y</p>", {}, False),
        ("<style>#x { color: red }</style><p id='x'>x</p>", {}, False),
        ("<style>@media print { p { color: red } } p { color: blue }</style><p>x</p>", {}, True),
        (
            (
                '{% extends "_layouts/l.html" %}{% block h %}<style>.a{color:green}</style>{% endblock %}'
                '{% block m %}<p class="a">x</p>{% endblock %}'
            ),
            {"l": CSS + '{% block h %}{% endblock %}<div class="a">{% block m %}{% endblock %}</div>'},
            True,
        ),
        (
            (
                '{% extends "_layouts/l.html" %}{% block h %}<style>.a{color:green}</style>{% endblock %}'
                '{% block m %}<p class="a">x</p>{% endblock %}'
            ),
            {"l": "{% block h %}{% endblock %}" + CSS + "{% block m %}{% endblock %}"},
            False,
        ),
        (
            (
                '{% extends "_layouts/l.html" %}{% block h %}{% include "_layouts/i.html" %}{% endblock %}'
                '{% block m %}<p class="a">x</p>{% endblock %}'
            ),
            {"l": CSS + "{% block h %}{% endblock %}{% block m %}{% endblock %}", "i": "<style>p.a{top:0}</style>"},
            True,
        ),
        (
            '{% import "_layouts/i.html" as i %}{{ i.m() }}',
            {"i": "{% macro m() %}" + CSS + '<p class="a">x</p>{% endmacro %}'},
            False,
        ),
        ('{% extends "_layouts/l.html" %}', {"l": "{% block h %}" + CSS + '{% endblock %}<p class="a">x</p>'}, False),
    ],
)
def test_quick_way_equals_slow_way_and_is_taken_only_where_it_can(write, render, source, layouts, quick):
    folder = write(mail(source, **layouts))
    (one, renderer), (other, _) = both_ways(folder, lambda r: render(r, "t"))
    assert renderer.current("t").face("en", "email")["html"].whole_inline is not quick
    assert tree(one) == tree(other)


def test_styles_for_dark_mode_and_narrow_screens_stay_a_style_element(shipped, render):
    html = render(shipped, "welcome", shipped.current("welcome").examples()).html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media (max-width: 599px)" in html
    assert '<h1 class="headline" style="margin: 0 0 16px' in html
    assert ".headline { margin" not in html


def test_nothing_is_loaded_from_outside(make, render):
    source = '<link rel="stylesheet" href="http://127.0.0.1:9/x.css"><style>p > b {color:red}</style><p><b>x</b></p>'
    assert "x" in render(make(mail(source)), "t").html


def test_line_numbers_survive_the_styles(write):
    source = "<style>\n.a { color: red }\n\n</style>\n<p\nclass='a'>\n{{ x.nothing }}</p>"
    renderer = Renderer(write(mail(source)), public_url="https://notify.example.com")
    assert renderer.load() == []
    (fault,) = renderer.try_examples()
    assert "t/en/email.html line 7" in fault.message


def test_at_rules_are_told_from_plain_rules():
    css = "@charset 'x'; p{a:b} /* @media { */ @media (x) { p { c: d } q { e: f } } td{g:h}"
    plain, kept = split_at_rules(css)
    assert re.sub(r"\s", "", plain) == "p{a:b}td{g:h}"
    assert re.sub(r"\s", "", kept) == "@charset'x';@media(x){p{c:d}q{e:f}}"
    assert is_simple(plain)


def test_sheet_answers_for_every_tag_a_mail_has():
    sheet = Sheet(".a { color: red }")
    tags = "html body table thead tbody tfoot tr td th caption p a h1 ul li img br hr span div center blockquote pre"
    assert {tag: sheet.style(tag, "a", "") for tag in tags.split()} == dict.fromkeys(tags.split(), "color: red;")
