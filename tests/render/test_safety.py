"""Data is trusted with nothing: not in HTML, not in links, not in Markdown; templates only with the sandbox."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urlsplit

import nh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.requests import Action, ContentRequest
from gateway.render import markdown
from gateway.render.markdown import content_faults
from gateway.render.renderer import Renderer, RenderFailed

PAGE = """{% extends "_layouts/email.html" %}
{% block main %}
<p title="{{ x }}" class='copy'>{{ x }}</p>
<img src="https://img.example.com/{{ y }}" alt='{{ x }}'>
<!-- {{ x }} -->
{% endblock %}
"""
MARKDOWN = "# {{ x }}\n\n{{ x }}\n\n- {{ x }}\n\n> {{ x }}\n\n**{{ x }}** [go](https://example.com/?q={{ y }})\n"


class Structure(HTMLParser):
    """The tags and attribute names of a document: what data must not be able to change."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.words = []
        self.links = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag):
        self.tags.append(("/" + tag, ()))

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    manifest = "[variables.x]\n[variables.y]\ndefault = 'y'\n"
    files = {
        "page/template.toml": manifest,
        "page/en/email.subject.txt": "S {{ x }}{{ y }}",
        "page/en/email.html": PAGE,
        "page/en/email.txt": "T {{ x }}",
        "mark/template.toml": manifest,
        "mark/en/title.txt": "T {{ x }}",
        "mark/en/body.md": MARKDOWN,
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    renderer = Renderer(folder, public_url="https://notify.example.com")
    assert renderer.load() == []
    return renderer


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "--><script>alert(1)</script><!--",
    "</title></style><script>",
    "&lt;script&gt;",
    "{{ 7 * 7 }}{% raw %}",
    "]]>",
    "a\x00b<b",
    "\ud800",
    "\ue0000\ue001",
]


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("key", ["page", "mark"])
def test_hostile_data_changes_no_tag(page, render, key, hostile):
    plain = Structure(render(page, key, {"x": "word"}).html)
    attacked = render(page, key, {"x": hostile})
    assert Structure(attacked.html).tags == plain.tags
    assert "\x00" not in attacked.html
    attacked.html.encode()


@given(x=st.text(st.characters(codec=None), max_size=60), y=st.text(st.characters(codec=None), max_size=20))
def test_no_data_breaks_out_of_html(page, render, x, y):
    content = render(page, "page", {"x": x, "y": y})
    assert Structure(content.html).tags == Structure(render(page, "page", {"x": "word", "y": "y"}).html).tags
    assert len(content.subject.splitlines()) == 1
    for text in (content.subject, content.text, content.html):
        text.encode()


@given(x=st.text(st.sampled_from("ab \n\t#*_`[](){}<>!&|~-+=.1:/\\'\"@"), max_size=40))
def test_no_data_writes_markdown(page, render, x):
    # Line breaks are kept (as <br>, and as a paragraph behind a heading); every other tag is the template's own.
    def tags(html):
        return [tag for tag in Structure(html).tags if tag[0] not in {"br", "p", "/p"}]

    shown = render(page, "mark", {"x": x or "a"}).html
    plain = tags(render(page, "mark", {"x": "word"}).html)
    if x.strip():
        assert tags(shown) == plain
        body = nh3.clean(shown, tags=set(), clean_content_tags={"style", "title"})
        visible = "".join(Structure(body).words)
        assert "".join(x.split()) in "".join(visible.split())


@pytest.mark.parametrize(
    "hostile",
    [
        "[click](https://evil.example)",
        "![x](https://evil.example/pixel.png)",
        "<https://evil.example>",
        "\n\n# Big\n\n---\n",
        "\n[x]: https://evil.example\n",
        "\n\n    code",
        "\t\tcode",
        "**bold** `code` ~~gone~~",
        "| a | b |\n|---|---|\n| c | d |",
        "1. one\n2. two",
        "\n> quoted",
        "&lt;b&gt; &#60;i&#62;",
    ],
)
def test_markdown_in_data_is_shown_as_it_is(page, render, hostile):
    content = render(page, "mark", {"x": f"a {hostile}"})
    tags = {tag for tag, _ in Structure(content.html).tags}
    assert not tags & {"code", "pre", "del", "s", "h2", "hr"}
    assert "evil.example/pixel" not in "".join(str(link) for link in Structure(content.html).links)
    links = [link for link in Structure(content.html).links if "evil" in str(link)]
    assert links == []


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "java\tscript:alert(1)",
        "\x01javascript:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "//evil.example",
        "/relative",
        "https:evil",
        "",
        "https://a.example/ onclick=x",
        'https://a.example/"x',
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize(
    "source",
    [
        '<a href="{{ x }}">x</a>',
        "<a HREF = '{{ x|trim }}'>x</a>",
        '<a href="{% if true %}{{ x }}{% else %}#{% endif %}">x</a>',
        '<!--[if mso]><a href="{{ x }}">x</a><![endif]-->',
        '{% macro b(u) %}<a href="{{ u }}">x</a>{% endmacro %}{{ b(x) }}',
        '<img alt="" src="{{ x }}">',
    ],
)
def test_link_from_data_must_be_a_web_address(make, render, source, url):
    renderer = make({"t/template.toml": "[variables.x]\n", "t/en/email.subject.txt": "S", "t/en/email.html": source})
    with pytest.raises(RenderFailed, match="must start with"):
        render(renderer, "t", {"x": url})


def test_good_links_pass(make, render):
    files = {
        "t/template.toml": "[variables.x]\n",
        "t/en/email.subject.txt": "S",
        "t/en/email.html": '<a href="{{ x }}">{{ x }}</a>',
    }
    renderer = make(files)
    for url in ("https://example.com/?a=1&b=%20#c", "http://localhost:8080/", "mailto:a@example.com", "tel:+155501"):
        assert Structure(render(renderer, "t", {"x": url}).html).links == [url]


@pytest.mark.parametrize(
    "source",
    [
        "<p class={{ x }}>",
        "<p {{ x }}>",
        "<p {% if x %}title='a'{% endif %}>",
        '<p style="color: {{ x }}">',
        "<style>p { color: {{ x }} }</style>",
        "<p onclick='{{ x }}'>",
        "<script>{{ x }}</script>",
        "<iframe src='https://example.com'></iframe>",
        "{% autoescape false %}{{ x }}{% endautoescape %}",
    ],
)
def test_places_where_escaping_does_not_help_are_faults(write, source):
    files = {
        "t/template.toml": "[variables.x]\n",
        "t/en/email.subject.txt": "{{ x }}",
        "t/en/email.html": f"<p>\n</p>{source}",
    }
    renderer = Renderer(write(files), public_url="https://notify.example.com")
    assert ["t/en/email.html:2:" in str(fault) for fault in renderer.load()] == [True]
    assert renderer.current("t") is None


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ x|attr('__class__') }}",
        "{{ x['__class__'].__base__ }}",
        "{{ [].__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ self._TemplateReference__context }}",
        "{{ self.__init__.__globals__ }}",
        "{{ gateway.__class__ }}",
        "{{ '{0.__class__}'.format(x) }}",
        "{{ ('{0.__class__}'|format(x)) }}",
        "{% set _ = gateway.update({'public_url': 'x'}) %}",
        "{% set _ = gateway.clear() %}",
        "{% for k in (lipsum.__globals__) %}{% endfor %}",
        "{{ joiner.__init__.__globals__['__builtins__'] }}",
    ],
)
def test_sandbox_lets_no_template_out(write, render, source):
    files = {"t/template.toml": "[variables.x]\n", "t/en/title.txt": "{{ x }}", "t/en/body.md": source}
    renderer = Renderer(write(files), public_url="https://notify.example.com")
    if renderer.load():
        assert renderer.current("t") is None
        return
    with pytest.raises(RenderFailed):
        render(renderer, "t", {"x": "a"})


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(999999999) %}a{% endfor %}",
        "{% for i in range(20001) %}{% endfor %}",
        "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
        "{% for c in 'ab' * 5000 %}{% for d in 'ab' * 5000 %}{% endfor %}{% endfor %}",
        "{{ 'a' * 999999999 }}",
        "{{ 999999999 * 'a' }}",
        "{{ [1] * 999999999 }}",
        "{{ 9 ** 999999999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '1'.zfill(999999999) }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}",
        "{% macro m(s, n) %}{% if n %}{{ m(s ~ s, n - 1) }}{% endif %}{% endmacro %}{{ m('aa', 60) }}",
        "{% macro m(s, n) %}{% if n %}{{ m(s + s, n - 1) }}{% endif %}{% endmacro %}{{ m('aa', 60) }}",
        (
            "{% macro m(s, n) %}{% set t %}{{ s }}{{ s }}{% endset %}"
            "{% if n %}{{ m(t, n - 1) }}{% endif %}{% endmacro %}{{ m('aa', 60) }}"
        ),
        "{% set n = namespace(s='aa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set s = 'a' * 10000 %}{{ s|replace('a', s) }}",
        "{{ ('a' * 10000)|replace('', 'a' * 10000) }}",
        "{{ (['a' * 10000] * 10000)|join }}",
        "{% for i in range(20000) %}" + "a" * 100 + "{% endfor %}",
        "{{ 1|number(999999999) }}{{ '1e999999'|number }}",
    ],
)
def test_bombs_end_as_failed_renders(make, render, source):
    renderer = make({"t/en/title.txt": "T", "t/en/body.md": source})
    with pytest.raises(RenderFailed):
        render(renderer, "t")


def test_endless_data_is_bounded_too(make, render):
    files = {
        "t/template.toml": "[variables.x]\n",
        "t/en/title.txt": "T",
        "t/en/body.md": "{% for i in x %}{{ i }}{% endfor %}",
    }
    renderer = make(files)
    assert render(renderer, "t", {"x": ["a"] * 1000}, channel="sms").text == "T\n\n" + "a" * 1000
    with pytest.raises(RenderFailed, match="loops"):
        render(renderer, "t", {"x": ["a"] * 20_001})


def test_loop_variables_still_work_under_the_count(make, render):
    files = {
        "t/template.toml": "[variables.x]\n",
        "t/en/title.txt": "{% for i in x|map('upper') %}{{ loop.index }}/{{ loop.length }}{{ i }}{% endfor %}",
        "t/en/body.md": "B",
    }
    assert render(make(files), "t", {"x": ["a", "b"]}).subject == "1/2A2/2B"


def content(**fields):
    return ContentRequest(**{"title": "T", **fields})


@pytest.mark.parametrize(
    "body",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JAVASCRIPT:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](//evil.example)",
        "![x](http://insecure.example/a.png)",
        "![x](data:image/png;base64,AAAA)",
        "[x][r]\n\n[r]: vbscript:x",
        '[x](https://example.com "\\"onmouseover=alert(1)")',
        "<a href='javascript:x'>x</a>",
        "<!-- x --><style>*{display:none}</style>",
    ],
)
def test_markdown_of_content_is_held_to_the_allowlist(shipped, render, body):
    structure = Structure(render(shipped, content(body=body)).html)
    plain = Structure(render(shipped, content(body="x")).html)
    new = {tag for tag, _ in structure.tags} - {tag for tag, _ in plain.tags} - {"a", "/a"}
    assert new <= {"br"}
    assert all(str(link).startswith("https://") for link in structure.links)
    assert not any(name.startswith("on") for _, names in structure.tags for name in names)


def test_links_of_markdown_carry_rel_and_https_images_stay(shipped, render):
    html = render(shipped, content(body="[x](https://example.com/a) ![alt words](https://img.example.com/a.png)")).html
    assert 'rel="noopener noreferrer"' in html
    assert 'src="https://img.example.com/a.png"' in html
    assert 'alt="alt words"' in html


def test_deep_nesting_is_no_crash(shipped, render):
    for body in (">" * 5000 + " x", "- " * 3000 + "x", "[" * 5000, "*" * 10000 + "a", "`" * 10000, "| a " * 2000):
        assert render(shipped, content(body=body)).html


def test_addresses_of_content_must_be_web_addresses():
    bad = content(
        url="javascript:alert(1)",
        image_url="ftp://example.com/x",
        actions=[Action(label="a", url="https://example.com"), Action(label="b", url="//example.com")],
    )
    assert [field for field, _ in content_faults(bad)] == ["content.url", "content.image_url", "content.actions[1].url"]


@pytest.mark.parametrize("url", ["https://", "http:///x", "https://[::1", "https://a b", "https://a\\b", "HTTP", "x:y"])
def test_odd_addresses_are_refused(url):
    assert content_faults(content(url=url)) != []


def test_good_addresses_are_taken():
    assert content_faults(content(url="https://example.com/ä?x=1#y", image_url="HTTP://localhost:8080/a.png")) == []


@given(
    st.builds("".join, st.lists(st.sampled_from([*"htps:/.#?[]@%1a\\- ü\n\x7f<'&", "http://", "https://", "://[::1]"])))
)
def test_the_short_way_takes_no_address_that_the_long_way_would_refuse(url: str):
    if markdown._PLAINLY_WEB(url):
        parts = urlsplit(url)
        assert parts.scheme in {"http", "https"}
        assert parts.hostname
        assert not markdown._UNFIT.search(url)
