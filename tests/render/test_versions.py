"""A version names its text: what was accepted renders the same after any deploy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.requests import ContentRequest
from gateway.render.renderer import Renderer
from gateway.render.source import SourceDamaged, decode, encode, make_source, read_folder, version_of

FILES = {
    "t/template.toml": "[variables.x]\n",
    "t/en/email.subject.txt": "One {{ x }}",
    "t/en/email.html": '{% extends "_layouts/own.html" %}{% block main %}{{ x }}{% endblock %}',
    "t/en/email.txt": "One {{ x }}",
    "_layouts/own.html": '{% include "_layouts/deep.html" %}<p>{% block main %}{% endblock %}</p>',
    "_layouts/deep.html": "<h1>deep</h1>",
    "_layouts/unrelated.html": "<p>unrelated</p>",
}


def version(write, files):
    sources, faults = read_folder(write(files))
    assert [fault for fault in faults if not fault.path.startswith("_layouts/content")] == []
    return next(source.version for source in sources if source.key == "t")


def test_same_folder_has_the_same_version(write):
    assert version(write, FILES) == version(write, FILES)
    assert version(write, FILES).startswith("sha256:")
    assert len(version(write, FILES)) == len("sha256:") + 64


@pytest.mark.parametrize("path", [path for path in FILES if path != "_layouts/unrelated.html"])
def test_any_changed_byte_within_reach_is_another_version(write, path):
    before = version(write, FILES)
    assert version(write, FILES | {path: FILES[path] + " "}) != before


def test_what_is_out_of_reach_changes_nothing(write):
    before = version(write, FILES)
    assert version(write, FILES | {"_layouts/unrelated.html": "changed", "other/en/title.txt": "x"}) == before


def test_line_endings_of_a_checkout_do_not_count(write, tmp_path):
    before = version(write, FILES)
    path = tmp_path / "templates" / "t" / "template.toml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert version(write, {}) == before


def test_old_version_still_renders_after_a_reload(write, make, render):
    renderer = make(FILES)
    old = renderer.current("t")
    write({"t/en/email.subject.txt": "Two {{ x }}", "_layouts/deep.html": "<h1>changed</h1>"})
    assert renderer.load() == []
    new = renderer.current("t")
    assert new.version != old.version
    assert render(renderer, "t", {"x": "a"}).subject == "Two a"
    pinned = renderer.find(old.version)
    assert render(renderer, pinned, {"x": "a"}).subject == "One a"
    assert "<h1>deep</h1>" in render(renderer, pinned, {"x": "a"}).html


def test_version_renders_in_a_process_that_never_saw_the_folder(make, tmp_path, render):
    first = make(FILES)
    packed = encode(first.current("t").source)
    (tmp_path / "empty").mkdir()
    second = Renderer(tmp_path / "empty", public_url="https://notify.example.com", product="Example Shop")
    assert second.load() == []
    assert second.find(first.current("t").version) is None
    template = second.add(decode(packed))
    assert second.find(template.version) is template
    assert second.current("t") is None
    assert render(second, template, {"x": "<b>"}) == render(first, "t", {"x": "<b>"})


def test_layout_of_content_is_pinned_too(write, make, render):
    renderer = make(
        {"_layouts/content.html": "<p>old {{ content.body }}</p>", "t/en/title.txt": "x", "t/en/body.md": "y"}
    )
    request = ContentRequest(title="T", body="words")
    old = renderer.content_version
    packed = encode(renderer.content_source)
    before = render(renderer, request)
    write({"_layouts/content.html": "<p>new {{ content.body }}</p>"})
    assert renderer.load() == []
    assert renderer.content_version != old
    assert "new" in render(renderer, request).html
    assert render(renderer, request, layout=renderer.find(old)) == before
    fresh = Renderer(None, public_url="https://notify.example.com", product="Example Shop")
    assert render(fresh, request, layout=fresh.add(decode(packed))) == before


def test_deleted_template_is_current_no_more(write, make, render):
    renderer = make(FILES)
    old = renderer.current("t")
    folder = write({})
    for path in sorted((folder / "t").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / "t").rmdir()
    assert renderer.load() == []
    assert renderer.current("t") is None
    assert render(renderer, renderer.find(old.version), {"x": "a"}).subject == "One a"


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=5), st.text(max_size=10))
def test_packing_loses_nothing(files, key):
    source = make_source(key, files)
    assert decode(encode(source)) == source


@given(
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=3),
)
def test_different_texts_have_different_versions(one, other):
    assert (version_of("k", one) == version_of("k", other)) == (one == other)


def test_damaged_bytes_are_refused():
    packed = encode(make_source("k", {"a": "b"}))
    for bad in (
        b"",
        b"nonsense",
        packed[:-5],
        encode(make_source("k", {"a": "b"}).__class__(key="k", version="x", files={})),
    ):
        with pytest.raises(SourceDamaged):
            decode(bad)
