"""The pages behind links: their headers, their languages, and that nobody learns anything by trying links."""

from __future__ import annotations

import re
from string import Formatter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.people_pages import FOLDER, accepted_languages, choose_language, read_words
from gateway.router.links import Reader
from gateway.router.rules import said_in
from tests.api.conftest import Api

WORDS = read_words(FOLDER / "words")
READER = Reader(channel="email", address="ada@example.com")


def flat(texts: Any, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in texts.items():
        found |= {prefix + key: value} if isinstance(value, str) else flat(value, f"{prefix}{key}.")
    return found


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def paths(api: Api) -> list[str]:
    links, until = api.gateway.links, api.gateway.clock() // 1000 + 60
    return [links.leave_path(READER, "marketing", until), links.choose_path(READER, until, whole=True)]


@pytest.mark.parametrize("language", sorted(WORDS))
def test_every_language_says_everything_with_the_same_words_to_fill_in(language: str):
    english, other = flat(WORDS["en"]), flat(WORDS[language])
    assert other.keys() == english.keys()
    assert {key: fields(text) for key, text in other.items()} == {key: fields(text) for key, text in english.items()}
    assert all(text.strip() and "<" not in text for text in other.values())


def test_no_sentence_lies_unused():
    used = "".join(path.read_text() for path in [*FOLDER.glob("*.html"), *FOLDER.parents[1].glob("*page*.py")])
    used += (FOLDER.parents[1] / "unsubscribe.py").read_text() + "link_foreign link_expired"
    unused = {key.removesuffix("_help") for key in WORDS["en"] if key != "channel"}
    assert {key for key in unused if not re.search(rf"\b{key}\b", used)} == set()


async def test_a_page_is_sealed_kept_by_nobody_and_loads_nothing_from_outside(api: Api):
    for path in paths(api):
        page = await api.client(None).get(path)
        assert page.status_code == 200
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self';")
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-robots-tag"].startswith("noindex")
        assert "set-cookie" not in page.headers
        assert not re.search(r"<script|\sstyle=|\son[a-z]+=\"|https?://", page.text)
        assert "ada@example.com" not in page.text


@pytest.mark.parametrize(
    ("locale", "headers", "query", "language"),
    [
        ("de-AT", {"accept-language": "en"}, "", "de"),
        (None, {"accept-language": "fr, de-CH;q=0.8, en;q=0.5"}, "", "de"),
        ("fr", {}, "", "en"),
        ("de", {}, "?lang=en", "en"),
        ("de", {}, "?lang=../../x&utm_source=a", "de"),
    ],
)
async def test_the_language_is_the_one_asked_for_then_the_readers_then_the_browsers(
    api: Api, locale: str | None, headers: dict[str, str], query: str, language: str
):
    reader = Reader(channel="email", address="ada@example.com", locale=locale)
    path = api.gateway.links.leave_path(reader, "marketing", api.gateway.clock() // 1000 + 60)
    page = await api.client(None).get(path + query, headers=headers)
    assert f'<html lang="{language}" dir="ltr">' in page.text
    assert (WORDS[language]["unsubscribe_ask"] in page.text) is True


@pytest.mark.parametrize("place", ["unsubscribe", "preferences"])
@pytest.mark.parametrize("token", ["zzz9", "%00", "..%2F..", "A" * 500])
async def test_a_link_that_opens_nothing_says_so_in_the_readers_language(api: Api, place: str, token: str):
    for language in ("en", "de"):
        for method in ("GET", "POST"):
            headers = {"accept-language": language}
            page = await api.client(None).request(method, f"/{place}/{token}", headers=headers)
            assert page.status_code == 404
            assert WORDS[language]["link_foreign"] in page.text
            assert token not in page.text


async def test_a_link_of_one_page_does_not_open_the_other(api: Api):
    leave, choose = paths(api)
    swapped = [leave.replace("unsubscribe", "preferences"), choose.replace("preferences", "unsubscribe")]
    assert [(await api.client(None).get(path)).status_code for path in swapped] == [404, 404]


async def test_a_link_of_a_person_who_was_erased_stores_nothing_and_says_so(api: Api):
    reader = Reader(channel="email", address="ada@example.com", user="42")
    until = api.gateway.clock() // 1000 + 60
    for path in (
        api.gateway.links.leave_path(reader, "marketing", until),
        api.gateway.links.choose_path(reader, until, whole=True),
    ):
        for method in ("GET", "POST"):
            page = await api.client(None).request(method, path)
            assert (page.status_code, WORDS["en"]["person_gone"] in page.text) == (410, True)
    assert not await api.gateway.store.opted_out([("email", "ada@example.com", "marketing")])


@given(st.text(max_size=200))
def test_any_accept_language_is_read(header: str):
    assert choose_language([*accepted_languages(header), "en"], WORDS) in WORDS


def test_what_the_configuration_says_may_be_written_by_language():
    said = {"en": "Orders", "de": "Bestellungen"}
    assert [said_in(language, said) for language in ("de", "de-at", "fr")] == ["Bestellungen", "Bestellungen", "Orders"]
    assert said_in("de", "Orders") == "Orders"
    assert said_in("de", {"fr": "Commandes"}) == "Commandes"


async def test_a_form_or_a_query_without_end_is_not_read(api: Api):
    _, choose = paths(api)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await api.client(None).post(choose, content="on=&" * 10_001, headers=headers)).status_code == 413
    assert (await api.client(None).post("/preferences/x", content="on=&" * 10_001, headers=headers)).status_code == 404
    assert (await api.client(None).get(f"{choose}?{'a=&' * 10_001}")).status_code == 200
