"""What a template declares, what `gateway templates check` finds, what a request may carry."""

from __future__ import annotations

import pytest

from gateway.render.renderer import Renderer, RenderFailed

MANIFEST = """
category = "orders"
description = "An order."

[variables.order_id]
description = "Its number."
example = "A-1"

[variables.greeting]
default = "Hello"

[variables.note]
required = false
"""
FILES = {
    "order/template.toml": MANIFEST,
    "order/en/title.txt": "{{ greeting }} {{ order_id }}",
    "order/en/body.md": "{% if note %}{{ note }}{% endif %}",
}


def faults_of(write, files):
    renderer = Renderer(write(files), public_url="https://notify.example.com")
    return renderer, [str(fault) for fault in renderer.load()]


def test_template_shows_its_contract(make):
    template = make(FILES).current("order")
    assert (template.key, template.category, template.description) == ("order", "orders", "An order.")
    assert [(v.name, v.required, v.default) for v in template.variables] == [
        ("order_id", True, None),
        ("greeting", False, "Hello"),
        ("note", False, None),
    ]
    assert template.locales == ("en",)
    assert template.channels == ()


def test_missing_and_undeclared_variables_are_named_all_at_once(make):
    template = make(FILES).current("order")
    faults = template.data_faults({"order": 1, "recipient": "x"})
    assert [(code, name) for code, name, _ in faults] == [
        ("missing_variable", "data.order_id"),
        ("undeclared_variable", "data.order"),
        ("undeclared_variable", "data.recipient"),
    ]
    assert template.data_faults({"order_id": None, "note": "x"}) == []


def test_defaults_apply_and_data_lies_over_them(make, render):
    renderer = make(FILES)
    assert render(renderer, "order", {"order_id": "A-1"}).subject == "Hello A-1"
    assert render(renderer, "order", {"order_id": "A-1", "greeting": "Hi"}).subject == "Hi A-1"


def test_undeclared_data_cannot_pose_as_a_built_in_name(make, render):
    files = {"t/en/title.txt": "{{ gateway.public_url }} {{ category }}", "t/en/body.md": "x"}
    hostile = {"gateway": {"public_url": "https://evil.example"}, "category": "evil"}
    assert render(make(files), "t", hostile).subject == "https://notify.example.com default"


def test_missing_variable_at_render_time_names_the_place_and_no_data(make, render):
    with pytest.raises(RenderFailed) as failed:
        render(make(FILES), "order", {"greeting": "secret-value"})
    assert "order (sha256:" in failed.value.detail
    assert "order/en/title.txt line 1" in failed.value.detail
    assert "'order_id'" in failed.value.detail
    assert "secret" not in failed.value.detail


@pytest.mark.parametrize(
    "body",
    [
        "{{ order_id[note] }}",
        "{{ order_id|number }}",
        "{{ order_id|date }}",
        "{{ order_id|int + note }}",
        "{{ 5 + note }}",
        "{{ note|money(order_id) }}",
        "{{ {}[note] }}",
    ],
)
def test_failures_never_repeat_data(make, render, body):
    renderer = make({**FILES, "order/en/body.md": f"\n\n{body} {{{{ note }}}}"})
    with pytest.raises(RenderFailed) as failed:
        render(renderer, "order", {"order_id": "secret_one", "note": "secret_two"})
    assert "secret" not in failed.value.detail
    assert "order/en/body.md line 3" in failed.value.detail


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"order/en/title.txt": "x\n{{ ordr_id }}"}, "order/en/title.txt:2: error: the variable 'ordr_id' is used"),
        ({"order/en/title.txt": "{{ order_id"}, "order/en/title.txt:1: error: "),
        ({"order/en/title.txt": "{% if %}"}, "order/en/title.txt:1: error: "),
        ({"order/en/title.txt": "{{ order_id|shout }}"}, "order/en/title.txt:1: error: No filter named 'shout'"),
        ({"order/en/title.txt": "{{ order_id|safe }}"}, "order/en/title.txt:1: error: No filter named 'safe'"),
        ({"order/de/title.txt": "{{ order_id }}"}, "order/de/body.md: error: this part is missing"),
        ({"order/en/email.html.bak": "x"}, "order/en/email.html.bak: error: not a part"),
        ({"order/english/title.txt": "x"}, "order/english: error: a locale's folder"),
        ({"order/template.toml": "colour = 1"}, "order/template.toml: error: Object contains unknown field `colour`"),
        ({"order/template.toml": "x = "}, "order/template.toml: error: "),
        ({"order/template.toml": "[variables.recipient]"}, "order/template.toml: error: the variable name"),
        (
            {"order/template.toml": "[variables.a]\nrequired = true\ndefault = 1"},
            "order/template.toml: error: the variable 'a' is required and has a default",
        ),
        ({"Order/en/title.txt": "x"}, "Order: error: a template's folder is named in lower-case"),
        ({"empty/template.toml": ""}, "empty: error: there is no part"),
        ({"order/en/email.html": '{% extends "_layouts/nix.html" %}'}, "there is no '_layouts/nix.html'"),
        ({"order/en/email.html": "{% extends note %}"}, "a layout is named by a plain string"),
        ({"order/en/email.html": '{% include "other/en/title.txt" %}'}, "only files below _layouts/"),
        ({"order/en/email.html": '{% include "_layouts/../../secret" %}'}, "there is no"),
    ],
)
def test_check_names_file_and_line(write, changed, expected):
    _, faults = faults_of(write, FILES | changed)
    assert any(expected in fault for fault in faults), faults


def test_all_faults_are_reported_together(write):
    _, faults = faults_of(
        write, FILES | {"a/en/title.txt": "{{ x }} {{ y }}", "b/en/title.txt": "{% if %}", "c/template.toml": "x"}
    )
    text = "\n".join(faults)
    assert all(word in text for word in ("'x' is used", "'y' is used", "b/en/title.txt:1", "c/template.toml"))


def test_mail_without_subject_is_a_fault(write):
    _, faults = faults_of(write, {"t/en/email.html": "<p>x</p>"})
    assert any("needs a subject" in fault for fault in faults)


def test_template_without_the_default_locale_is_a_fault(write):
    _, faults = faults_of(write, {"t/de/title.txt": "x", "t/de/body.md": "x"})
    assert any("default locale 'en'" in fault for fault in faults)


def test_unused_variable_is_a_warning_and_the_template_works(write):
    renderer, faults = faults_of(write, FILES | {"order/template.toml": MANIFEST + "[variables.spare]\ndefault = 1\n"})
    assert faults == ["order/template.toml: warning: the variable 'spare' is never used"]
    assert renderer.current("order") is not None


def test_broken_template_keeps_its_last_good_version(write, render):
    renderer, faults = faults_of(write, FILES)
    assert faults == []
    write({"order/en/title.txt": "{{ broken"})
    assert renderer.load() != []
    assert render(renderer, "order", {"order_id": "A-1"}).subject == "Hello A-1"


def test_broken_layout_takes_no_template_away(write, render):
    layout = {"_layouts/own.html": "<p>{% block main %}{% endblock %}</p>"}
    page = '{% extends "_layouts/own.html" %}{% block main %}x{% endblock %}'
    mails = {f"{key}/en/email.{part}": page for key in "ab" for part in ("html",)}
    renderer, faults = faults_of(write, {**layout, **mails, "a/en/title.txt": "A", "b/en/title.txt": "B"})
    assert faults == []
    write({"_layouts/own.html": "<p>{% block", "_layouts/content.html": "{% if"})
    assert any("_layouts/own.html:1" in str(fault) for fault in renderer.load())
    assert [template.key for template in renderer.templates()] == ["a", "b"]
    assert render(renderer, "b").subject == "B"
    assert renderer.content_version.startswith("sha256:")


def test_examples_find_what_only_rendering_shows(write):
    renderer, faults = faults_of(write, FILES | {"order/en/title.txt": "{{ order_id.number }} {{ greeting }}"})
    assert faults == []
    assert ["'number' is not there" in fault.message for fault in renderer.try_examples()] == [True]


def test_missing_folder_is_a_fault_and_no_crash(tmp_path):
    renderer = Renderer(tmp_path / "nowhere", public_url="https://notify.example.com")
    assert [fault.message for fault in renderer.load()] == ["there is no such folder"]
