from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from channels.contract import Content
from gateway.model.requests import ContentRequest
from gateway.render.cache import RenderCache
from gateway.render.renderer import Renderer

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


def test_cached_message_equals_a_fresh_one(tmp_path_factory, render):
    folder = tmp_path_factory.mktemp("templates")
    (folder / "t" / "en").mkdir(parents=True)
    (folder / "t" / "template.toml").write_text("[variables.x]\n[variables.y]\n")
    (folder / "t" / "en" / "title.txt").write_text("{{ x }} {{ recipient.name }} {{ reference }}")
    (folder / "t" / "en" / "body.md").write_text("{{ y }} {{ category }}")
    cached = Renderer(folder, public_url="https://notify.example.com")
    fresh = Renderer(folder, public_url="https://notify.example.com", cache_bytes=0)
    assert cached.load() == fresh.load() == []

    @given(
        data=st.fixed_dictionaries({"x": JSON, "y": JSON}),
        name=st.sampled_from([None, "", "a", "b"]),
        locale=st.sampled_from([None, "en", "en-GB", "de"]),
        reference=st.sampled_from([None, "", "r"]),
        category=st.sampled_from(["default", "other"]),
        unsubscribe_url=st.sampled_from([None, "https://example.com/1", "https://example.com/2"]),
        subject=st.sampled_from([None, "", "S"]),
        channel=st.sampled_from(["email", "sms"]),
    )
    def same(data, **others):
        for _ in range(2):
            assert render(cached, "t", data, **others) == render(fresh, "t", data, **others)

    same()
    assert len(cached._cache) > 0
    assert len(fresh._cache) == 0


def test_second_rendering_is_the_first_one(shipped, render):
    data = shipped.current("welcome").examples()
    assert render(shipped, "welcome", data) is render(shipped, "welcome", data)
    # The template never says the category, so it does not part the cache; the link to unsubscribe does.
    assert render(shipped, "welcome", data, category="a") is render(shipped, "welcome", data, category="b")
    first = render(shipped, "welcome", data, unsubscribe_url="https://example.com/1")
    assert "https://example.com/2" in render(shipped, "welcome", data, unsubscribe_url="https://example.com/2").html
    assert "https://example.com/2" not in first.html


def test_content_and_template_never_meet_in_the_cache(shipped, render):
    one = render(shipped, ContentRequest(title="T", body="one"))
    two = render(shipped, ContentRequest(title="T", body="two"))
    assert "one" in one.html
    assert "two" in two.html


def test_cache_is_bounded_by_entries_and_by_bytes():
    few = RenderCache(most_entries=3, most_bytes=1_000_000)
    for number in range(10):
        few.put(str(number).encode(), Content(text="x"))
    assert len(few) == 3
    assert few.get(b"6") is None
    assert few.get(b"9") is not None
    small = RenderCache(most_entries=1000, most_bytes=20_000)
    for number in range(100):
        small.put(str(number).encode(), Content(text="x" * 1000))
    assert 0 < len(small) < 20
    assert small.size_bytes <= 20_000


def test_what_was_asked_for_last_stays_longest():
    cache = RenderCache(most_entries=2, most_bytes=1_000_000)
    cache.put(b"a", Content(text="a"))
    cache.put(b"b", Content(text="b"))
    cache.get(b"a")
    cache.put(b"c", Content(text="c"))
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


def test_one_huge_message_does_not_empty_the_cache():
    cache = RenderCache(most_entries=10, most_bytes=10_000)
    cache.put(b"a", Content(text="a"))
    cache.put(b"b", Content(text="x" * 100_000))
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


def test_versions_known_in_memory_are_bounded_and_the_current_one_stays(write, make):
    renderer = make({"t/en/title.txt": "0", "t/en/body.md": "y"}, most_versions=3)
    versions = [renderer.current("t").version]
    for number in range(1, 6):
        write({"t/en/title.txt": str(number)})
        assert renderer.load() == []
        versions.append(renderer.current("t").version)
    assert renderer.find(versions[0]) is None
    assert renderer.find(versions[-2]) is not None
    assert renderer.find(versions[-1]) is renderer.current("t")
