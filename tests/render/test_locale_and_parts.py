from __future__ import annotations

import pytest

from gateway.model.requests import ContentRequest

NAME = '[variables.name]\nexample = "Ada"\n'


def greeting(*locales):
    files = {"hello/template.toml": NAME}
    for locale in locales:
        files[f"hello/{locale}/email.subject.txt"] = f"{locale} {{{{ name }}}}"
        files[f"hello/{locale}/email.html"] = f"<p>{locale} {{{{ name }}}}</p>"
        files[f"hello/{locale}/email.txt"] = f"{locale} {{{{ name }}}}"
    return files


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("de-AT", "de"),
        ("de_AT", "de"),
        ("DE", "de"),
        ("de", "de"),
        ("pt-BR", "pt-BR"),
        ("pt-br", "pt-BR"),
        ("pt", "en"),
        ("fr-FR", "en"),
        ("", "en"),
        (None, "en"),
        ("zh-Hant-TW", "en"),
        ("../../etc", "en"),
    ],
)
def test_reader_gets_the_nearest_locale(make, render, asked, given):
    renderer = make(greeting("de", "en", "pt-BR"))
    assert renderer.locale_for(renderer.current("hello"), asked) == given
    assert render(renderer, "hello", {"name": "Ada"}, locale=asked).subject == f"{given} Ada"


def test_default_locale_is_configured(make, render):
    renderer = make(greeting("de", "en"), default_locale="de")
    assert render(renderer, "hello", {"name": "Ada"}, locale="fr").subject == "de Ada"


def test_regional_folder_may_leave_out_what_its_language_has(make, render):
    files = greeting("de", "en") | {"hello/de-AT/email.subject.txt": "Servus {{ name }}"}
    content = render(make(files), "hello", {"name": "Ada"}, locale="de-AT")
    assert content.subject == "Servus Ada"
    assert content.text == "de Ada\n"


def test_channel_without_parts_of_its_own_gets_the_generic_ones(make, render):
    files = {
        "note/template.toml": NAME,
        "note/en/title.txt": "Hello {{ name }}",
        "note/en/body.md": "Read **this**, {{ name }}.",
        "note/en/url.txt": "https://example.com/{{ name }}",
    }
    renderer = make(files)
    push = render(renderer, "note", {"name": "Ada"}, channel="web_push")
    assert push.subject == "Hello Ada"
    assert push.text == "Read this, Ada.\n\nhttps://example.com/Ada"
    assert push.html is None
    assert push.data == {
        "title": "Hello Ada",
        "body": "Read **this**, Ada.",
        "url": "https://example.com/Ada",
        "image_url": None,
        "actions": [],
    }
    mail = render(renderer, "note", {"name": "Ada"})
    assert mail.subject == "Hello Ada"
    assert "<strong>this</strong>" in mail.html
    assert mail.text.startswith("Hello Ada\n\nRead this, Ada.\n")


def test_channel_without_any_part_borrows_the_text_of_another(make, render):
    content = render(make(greeting("en")), "hello", {"name": "*Ada*"}, channel="slack")
    assert content.subject == "en *Ada*"
    assert content.text == "en *Ada*"
    assert content.data["body"] == "en \\*Ada\\*"


def test_json_part_becomes_the_channels_data_and_data_stays_inside_its_string(make, render):
    files = {
        "note/template.toml": NAME + "[variables.count]\ndefault = 2\n",
        "note/en/title.txt": "T",
        "note/en/body.md": "B",
        "note/en/slack.json": '{"text": "Hello {{ name }}", "count": {{ count }}, "bold": {{ name == "Ada" }}}',
        "note/en/sms.txt": "Hi {{ name }}",
    }
    renderer = make(files)
    assert renderer.current("note").channels == ("slack", "sms")
    hostile = 'Ada", "blocks": [], "x": "\n\\'
    content = render(renderer, "note", {"name": hostile}, channel="slack")
    assert content.data == {"text": f"Hello {hostile}", "count": 2, "bold": False}
    assert render(renderer, "note", {"name": "Ada"}, channel="sms").text == "Hi Ada"


def test_text_part_is_derived_from_html_when_there_is_none(make, render):
    files = {
        "note/en/email.subject.txt": "S",
        "note/en/email.html": '{% extends "_layouts/email.html" %}{% block preheader %}hidden words{% endblock %}'
        '{% block main %}<h1>Title</h1><p>One &amp; <a href="https://example.com/a">two</a></p>{% endblock %}',
    }
    text = render(make(files), "note").text
    assert "Title" in text
    assert "One & " in text
    assert "https://example.com/a" in text
    assert "hidden words" not in text
    assert "<" not in text


def test_given_subject_stands_in_the_place_of_the_templates_own(make, render):
    assert render(make(greeting("en")), "hello", {"name": "A"}, subject="Mine\r\nBcc: x@example.com").subject == (
        "Mine Bcc: x@example.com"
    )


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r", "\u2028", "\u2029", "\x85", "\x00\n", "\x0b\n"])
def test_data_cannot_start_a_new_line_in_a_subject(make, render, line_break):
    subject = render(make(greeting("en")), "hello", {"name": f"Ada{line_break}Bcc: eve@example.com"}).subject
    assert subject == "en Ada Bcc: eve@example.com"
    assert len(subject.splitlines()) == 1


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x0b", "\x0c", "\x1c", "\x7f"])
def test_control_characters_in_data_are_dropped(make, render, control):
    content = render(make(greeting("en")), "hello", {"name": f"A{control}da"})
    assert (content.subject, content.text) == ("en Ada", "en Ada\n")


def test_null_in_data_shows_as_nothing(make, render):
    assert render(make(greeting("en")), "hello", {"name": None}).text == "en\n"


def test_data_wins_over_a_method_of_the_same_name(make, render):
    files = {
        "o/template.toml": "[variables.order]\n",
        "o/en/title.txt": "{{ order.items|length }}",
        "o/en/body.md": "{% for item in order.items %}{{ item.name }};{% endfor %}",
    }
    content = render(make(files), "o", {"order": {"items": [{"name": "a"}, {"name": "b"}]}}, channel="sms")
    assert (content.subject, content.text) == ("2", "2\n\na;b;")


@pytest.mark.parametrize(("body", "text"), [("It is **here**.", "Order *42*\n\nIt is here."), ("", "Order *42*")])
def test_a_text_message_begins_with_the_title_for_which_it_has_no_place(shipped, render, body, text):
    content = ContentRequest(title="Order *42*", body=body)
    assert render(shipped, content, channel="sms").text == text
