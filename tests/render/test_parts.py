"""Parts for each medium: how data gets into a JSON part, and what a channel shows that has none of its own."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Message
from gateway.render.renderer import Person, Renderer, RenderFailed
from tests.support.adapters import raw_of

HOSTILE = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(
            [
                '"', "\\", "\n", "{", "}", "[", "]", ",", ":", "<!channel>", "<!here|x>", "<@U024BE7LH>", "<#C1>",
                "@everyone", "@here", "<@&123456789012345678>", "<@123456789012345678>", "[x](https://evil.example)",
                "`", "*", "_", "<https://evil.example|bank.example>", "https://evil.example/@everyone", "</b>",
                "<at>x</at>", "&lt;", "\ue000", "\ue001", "\ue0000\ue001", "\ue002", "\ue003", "{{ 7 }}", "\u2028",
                "\x00", "|", ">", "text",
            ]
        ),
        max_size=12,
    ).map("".join),
)  # fmt: skip
SLACK = """{
  "blocks": [
    {"type": "header", "text": {"type": "plain_text", "text": "{{ name }}"}},
    {"type": "section", "text": {"type": "mrkdwn", "text": "*Hello* {{ name }}, <https://example.com/a?b=c&amp;d|read>"}},
    {% for one in several %}
    {"type": "context", "elements": [{"type": "mrkdwn", "text": "{{ one }}"}]},
    {% endfor %}
  ],
  "unquoted": {{ name }},
  "list": {{ several }},
}"""
VARIABLES = '[variables.name]\n[variables.several]\ndefault = []\n[variables.url]\ndefault = "https://example.com"\n'


def note(part: str, text: str) -> dict[str, str]:
    return {"n/template.toml": VARIABLES, "n/en/title.txt": "T", "n/en/body.md": "B", f"n/en/{part}": text}


def shape(node):
    match node:
        case dict():
            return {name: shape(each) for name, each in node.items()}
        case list():
            return [shape(each) for each in node]
        case _:
            return type(node)


def texts(node):
    match node:
        case dict():
            yield from (text for each in node.values() for text in texts(each))
        case list():
            yield from (text for each in node for text in texts(each))
        case str():
            yield node


@pytest.fixture(scope="module")
def slack_note(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    for path, text in note("slack.json", SLACK).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    renderer = Renderer(folder, public_url="https://notify.example.com", cache_bytes=0)
    assert [fault for fault in renderer.load() if fault.severity == "error"] == []
    return renderer


def rendered(renderer, key, channel, data, locale="en"):
    return renderer.render(
        template=renderer.current(key),
        content=None,
        channel=channel,
        data=data,
        person=Person(locale=locale),
        category="default",
        reference=None,
        unsubscribe_url=None,
    )


@given(name=HOSTILE, several=st.lists(HOSTILE, max_size=3))
def test_data_never_breaks_out_of_a_json_part_and_calls_nobody(slack_note, name, several):
    made = rendered(slack_note, "n", "slack", {"name": name, "several": several}).data
    calm = rendered(slack_note, "n", "slack", {"name": "Ada", "several": ["x"] * len(several)}).data
    assert shape(made) == {**shape(calm), "list": [str] * len(several)}
    marked = [block["text"] for block in made["blocks"] if block["type"] == "section"]
    marked += [element for block in made["blocks"] if block["type"] == "context" for element in block["elements"]]
    for text in marked:
        assert text["verbatim"] is True
        assert all(re.match(r"<https?://", found) for found in re.findall(r"<[^>]*>", text["text"]))
        assert not re.search(r"<[^>]*\|(?!read>)", text["text"])


@pytest.mark.parametrize("channel", ["slack", "discord", "teams", "telegram"])
@given(words=st.lists(HOSTILE, min_size=6, max_size=6))
def test_shipped_parts_carry_any_data_and_every_adapter_takes_them(shipped_quick, channel, words):
    for template in shipped_quick.templates():
        examples = template.examples()
        free = [
            name
            for name, value in examples.items()
            if isinstance(value, str) and not name.endswith(("_url", "_at", "_date", "currency", "total", "severity"))
        ]
        data = examples | dict(zip(free, words, strict=False))
        made = rendered(shipped_quick, template.key, channel, data)
        calm = rendered(shipped_quick, template.key, channel, examples | {name: "x" for name in free if data[name]})
        assert shape(made.data) == shape(calm.data) or not all(data[name] for name in free)
        said = list(texts(made.data))
        if channel == "discord":
            assert not any(re.search(r"@everyone|@here|<@[!&]?\d", text) for text in said)
        if channel == "telegram":
            tags = set(re.findall(r"<[^>]*>", made.html or ""))
            assert all(re.fullmatch(r'</?[bia]>|<a href="https://[^"<>]*">', tag) for tag in tags)
        assert raw_of(channel, Message(id="dlv_1", kind=channel, to="x", content=made, idempotency_key="k"))


@pytest.fixture(scope="module")
def shipped_quick():
    renderer = Renderer(None, public_url="https://notify.example.com", product="Example Shop", cache_bytes=0)
    renderer.load()
    return renderer


@pytest.mark.parametrize(
    ("part", "text", "data", "said"),
    [
        ("slack.json", '{"t": "<{{ url }}|{{ name }}>"}', {"name": "a|b<c"}, "<https://example.com|a b&lt;c>"),
        ("slack.json", '{"t": "<{{ url }}|{{ name }}>"}', {"name": "bank.example"}, "<https://example.com>"),
        ("slack.json", '{"t": "<@{{ name }}>"}', {"name": "U024BE7LH"}, "<@U024BE7LH>"),
        ("slack.json", '{"t": "see {{ name }}"}', {"name": "https://a.example/x|y"}, "see <https://a.example/x>|y"),
        ("discord.json", '{"t": "[{{ name }}]({{ url }})"}', {"name": "a]b"}, r"[a\]b](https://example.com)"),
        ("discord.json", '{"t": "[{{ name }}]({{ url }})"}', {"name": "bank.example"}, "https://example.com"),
        ("discord.json", '{"t": "{{ name }}"}', {"name": "@everyone"}, "@\u200beveryone"),
        ("teams.json", '{"t": "{{ name }}"}', {"name": "# [x](https://e.example)"}, "\u200b# \\[x\\](https://e.example)"),
        ("telegram.json", '{"parse_mode": "HTML", "text": "<b>{{ name }}</b>"}', {"name": "<i>"}, "<b>&lt;i&gt;</b>"),
        ("telegram.json", '{"text": "{{ name }}"}', {"name": "<i>"}, "<i>"),
        ("webhook.json", '{"t": "{{ name }} & {{ several }}"}', {"name": "<a>", "several": [1]}, "<a> & [1]"),
    ],
)  # fmt: skip
def test_data_is_written_as_its_place_is_read(make, render, part, text, data, said):
    renderer = make_quietly(make, note(part, text))
    made = render(renderer, "n", data, channel=part.split(".")[0]).data
    assert made.get("t", made.get("text")) == said


def make_quietly(make, files):
    """Mention every variable, so that none is warned of."""
    return make(files | {"n/en/sms.txt": "{{ name }}{{ several }}{{ url }}"})


@pytest.mark.parametrize(
    ("part", "text", "data", "why"),
    [
        ("slack.json", '{"type": "{{ name }}"}', {"name": "mrkdwn"}, "type: data cannot decide this"),
        ("slack.json", '{"{{ name }}": 1}', {"name": "text"}, "data cannot name a field"),
        ("slack.json", '{"t": "<!{{ name }}>"}', {"name": "channel"}, "t: data cannot make a mention"),
        ("slack.json", '{"t": "<@{{ name }}>"}', {"name": "U1> <!here"}, "t: data in a mention must be a plain id"),
        ("slack.json", '{"t": "<{{ name }}|x>"}', {"name": "!channel"}, "t: a link must start with"),
        ("slack.json", '{"blocks": {{ several }}}', {"name": "", "several": [{"type": "x"}]}, "blocks: an object from"),
        ("slack.json", '{"url": "{{ name }}"}', {"name": "javascript:alert(1)"}, "url: a link must start with"),
        ("discord.json", '{"allowed_mentions": {"parse": ["{{ name }}"]}}', {"name": "everyone"}, "parse: data cannot"),
        ("discord.json", '{"t": "<@{{ name }}>"}', {"name": "1> @everyone"}, "t: data in a mention must be a plain id"),
        ("telegram.json", '{"parse_mode": "MarkdownV2", "text": "{{ name }}"}', {"name": "x"}, "parse_mode is HTML"),
        ("web_push.json", '{"url": "{{ name }}", "x": 1}', {"name": "javascript:alert(1)"}, "url: a link must start"),
        ("slack.json", "[1]", {"name": "x"}, "the result is no JSON object"),
        ("slack.json", '{"t": {{ name }}{{ name }}}', {"name": "x"}, "the result is no JSON"),
        ("actions.json", '[{"label": "x", "url": "{{ name }}"}]', {"name": "javascript:x"}, "a link must start with"),
        ("actions.json", '{"label": "x"}', {"name": "x"}, "no list of objects"),
    ],
)  # fmt: skip
def test_data_that_would_decide_too_much_fails_the_rendering_and_is_not_repeated(make, render, part, text, data, why):
    channel = "inbox" if part == "actions.json" else part.split(".")[0]
    with pytest.raises(RenderFailed) as failed:
        render(make_quietly(make, note(part, text)), "n", data, channel=channel)
    assert why in failed.value.detail
    assert part in failed.value.detail
    assert "alert" not in failed.value.detail


def test_what_a_macro_or_a_block_puts_together_is_data_as_a_whole(make, render):
    text = (
        "{% macro hi(who) %}hi {{ who }}{% endmacro %}{% set both %}{{ name }}!{% endset %}"
        '{"t": "{{ hi(name) }} {{ both }}", "more": [{{ hi(name)|upper }}]}'
    )
    made = render(make_quietly(make, note("slack.json", text)), "n", {"name": '<"\ue000'}, channel="slack").data
    assert made == {"t": 'hi &lt;"\ue000 &lt;"\ue000!', "more": ['HI &lt;"\ue000']}


def test_a_bomb_in_a_json_part_is_refused(make, render):
    text = '{"t": "{% for a in range(200) %}{{ name }}{% endfor %}"}'
    renderer = make_quietly(make, note("slack.json", text))
    with pytest.raises(RenderFailed, match="longer than"):
        render(renderer, "n", {"name": "x" * 10_000}, channel="slack")
    twice = '{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{"t": "{{ ' + "m(" * 30 + "name" + ")" * 30 + ' }}"}'
    with pytest.raises(RenderFailed, match="longer than"):
        render(make_quietly(make, note("slack.json", twice)), "n", {"name": "x" * 1_000}, channel="slack")


def test_generic_actions_reach_every_channel_that_has_no_structure(make, render):
    files = note("actions.json", '[{% if name %}{"label": "{{ name }}", "url": "{{ url }}"},{% endif %}]')
    made = render(make_quietly(make, files), "n", {"name": '"Go" & <x>'}, channel="inbox")
    assert made.data["actions"] == [{"label": '"Go" & <x>', "url": "https://example.com"}]
    assert made.text == 'B\n\n"Go" & <x>: https://example.com'


def test_both_kinds_of_push_share_their_words_and_one_may_differ(make, render):
    files = note("push.txt", "Hello {{ name }} {{ several|length }} {{ url }}") | {
        "n/en/push.title.txt": "Short",
        "n/en/mobile_push.title.txt": "Shorter",
        "n/en/url.txt": "{{ url }}",
    }
    renderer = make(files)
    assert renderer.current("n").channels == ("mobile_push", "web_push")
    web = render(renderer, "n", {"name": "Ada"}, channel="web_push")
    assert (web.subject, web.text) == ("Short", "Hello Ada 0 https://example.com")
    assert web.data == {"title": "Short", "url": "https://example.com"}
    assert render(renderer, "n", {"name": "Ada"}, channel="mobile_push").subject == "Shorter"


@pytest.mark.parametrize(
    ("part", "text", "shows"),
    [
        ("sms.txt", "Only *here* {{ name }}", "Only *here* Ada"),
        ("slack.json", '{"blocks": [{"type": "section", "text": {"text": "Hi {{ name }}"}}]}', "Hi Ada"),
        ("telegram.html", "<b>Hi</b> {{ name }}", "Hi Ada"),
        ("email.html", "<p>Hi {{ name }}</p>", "Hi Ada"),
    ],
)  # fmt: skip
def test_no_channel_shows_nothing_whatever_the_template_has(make, render, part, text, shows):
    files = {"n/template.toml": "[variables.name]\n", f"n/en/{part}": text}
    if part == "email.html":
        files["n/en/email.subject.txt"] = "S"
    renderer = make(files)
    for channel in ("email", "slack", "discord", "teams", "telegram", "sms", "web_push", "mobile_push", "inbox", "x"):
        made = render(renderer, "n", {"name": "Ada"}, channel=channel)
        assert shows in (made.text or ""), channel
        assert made.subject or channel in {"slack", "sms", "telegram"}


@pytest.mark.parametrize("name", ["push.json", "actions.md", "url.json", "body.txt"])
def test_names_that_mean_nothing_are_faults(write, name):
    renderer = Renderer(write(note(name, "{}")), public_url="https://notify.example.com")
    assert any(fault.path == f"n/en/{name}" and fault.severity == "error" for fault in renderer.load())


def test_a_channel_that_nobody_serves_is_warned_of(write):
    renderer = Renderer(write({"n/en/title.txt": "T", "n/en/emial.txt": "B"}), public_url="https://notify.example.com")
    assert any("'emial'" in str(fault) and fault.severity == "warning" for fault in renderer.load())


@pytest.mark.parametrize(
    ("part", "text", "severity", "why"),
    [
        ("sms.txt", "x" * 400, "warning", "3 segments GSM-7"),
        ("push.txt", "x" * 181, "warning", "the body has 181 characters"),
        ("slack.json", '{"blocks": [' + '{"type": "divider"},' * 51 + "]}", "error", "51 blocks"),
        ("slack.json", '{"blocks": [{"type": "section", "text": {"text": "%s"}}]}' % ("x" * 3001), "error", "3001"),
        ("discord.json", '{"embeds": [{"title": "%s"}]}' % ("x" * 257), "error", "257"),
        ("teams.json", '{"type": "AdaptiveCard", "body": ["%s"]}' % ("x" * 30_000), "error", "are carried"),
        ("telegram.html", "x" * 5_000, "error", "5000"),
        ("slack.json", '{"blocks": [', "error", "no JSON"),
    ],
)  # fmt: skip
def test_check_says_what_does_not_fit_its_medium(write, part, text, severity, why):
    files = {"n/template.toml": "", "n/en/title.txt": "T", "n/en/body.md": "B", f"n/en/{part}": text}
    renderer = Renderer(write(files), public_url="https://notify.example.com")
    assert [fault for fault in renderer.load() if fault.severity == "error"] == []
    found = renderer.try_examples()
    assert any(fault.severity == severity and why in fault.message for fault in found), found
