"""The tokens of links: sealed, for one purpose, for a time, the same each time, readable by us alone."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.router.links import Links, Reader, Unusable

KEY, OTHER = b"a" * 32, b"b" * 32
ADA = Reader(channel="email", address="ada@example.com", user="42", locale="de-AT")
UNTIL_S = 1_000


def links(*keys: bytes) -> Links:
    return Links(keys or (KEY,), "https://example.com/", unsubscribe_days=60, preferences_days=30)


def leave_token(made_by: Links) -> str:
    return made_by.leave_path(ADA, "marketing", UNTIL_S).removeprefix("/unsubscribe/")


def choose_token(made_by: Links) -> str:
    return made_by.choose_path(ADA, UNTIL_S, whole=True).removeprefix("/preferences/")


def test_a_link_says_whose_it_is_and_what_for():
    left = links().leaving(leave_token(links()), 0)
    chosen = links().choosing(choose_token(links()), 0)
    assert not isinstance(left, Unusable)
    assert (left.reader, left.category) == (ADA, "marketing")
    assert not isinstance(chosen, Unusable)
    assert (chosen.reader, chosen.whole) == (ADA, True)


def test_the_link_between_the_pages_opens_one_channel_for_a_day():
    token = links().nearby(ADA, 0).removeprefix("/preferences/")
    chosen = links().choosing(token, 86_399_999)
    assert not isinstance(chosen, Unusable)
    assert not chosen.whole
    assert links().choosing(token, 86_400_000) is Unusable.EXPIRED


def test_a_token_ends_to_the_millisecond():
    assert not isinstance(links().leaving(leave_token(links()), UNTIL_S * 1000 - 1), Unusable)
    assert links().leaving(leave_token(links()), UNTIL_S * 1000) is Unusable.EXPIRED


def test_a_token_of_one_purpose_is_none_of_the_other():
    assert links().choosing(leave_token(links()), 0) is Unusable.FOREIGN
    assert links().leaving(choose_token(links()), 0) is Unusable.FOREIGN


def test_another_gateways_token_is_foreign_even_when_it_is_old():
    assert links(OTHER).leaving(leave_token(links()), UNTIL_S * 2000) is Unusable.FOREIGN


def test_links_go_on_working_after_the_key_was_exchanged():
    exchanged = links(OTHER, KEY)
    assert not isinstance(exchanged.leaving(leave_token(links()), 0), Unusable)
    assert links(KEY).leaving(leave_token(exchanged), 0) is Unusable.FOREIGN


def test_a_token_is_the_same_each_time_and_shows_no_address():
    token = leave_token(links())
    assert token == leave_token(links())
    read = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"ada" not in read
    assert b"42" not in read


def test_a_very_long_user_id_is_left_out_of_the_header():
    reader = Reader(channel="email", address="ada@example.com", user="é" * 101)
    path = links().leave_path(reader, "marketing", UNTIL_S)
    left = links().leaving(path.removeprefix("/unsubscribe/"), 0)
    assert not isinstance(left, Unusable)
    assert left.reader.user is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_no_byte_of_a_token_can_be_changed(at: int, by: int):
    token = leave_token(links())
    sealed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    sealed[at % len(sealed)] ^= by
    assert links().leaving(base64.urlsafe_b64encode(bytes(sealed)).decode().rstrip("="), 0) is Unusable.FOREIGN


@pytest.mark.parametrize("token", ["", "x", "====", "é", "\x00", "a" * 9000, "WyJlbWFpbCJd.aaaa.bbbb", "YWJj" * 9])
def test_what_is_no_token_at_all_is_foreign(token: str):
    assert links().leaving(token, 0) is Unusable.FOREIGN
    assert links().choosing(token, 0) is Unusable.FOREIGN
