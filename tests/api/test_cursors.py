"""Cursors are opaque, and refuse what they did not write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import cursors
from gateway.errors import Code, Problem


@given(st.text(max_size=50), st.binary(max_size=60))
def test_a_cursor_gives_its_position_back(listing, position):
    assert cursors.read(listing, cursors.write(listing, position)) == position


@given(st.binary(min_size=1, max_size=40), st.data())
def test_a_cursor_changed_in_any_character_is_refused(position, data):
    cursor = cursors.write("notifications", position)
    index = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda letter: letter != cursor[index]))
    with pytest.raises(Problem) as refused:
        cursors.read("notifications", cursor[:index] + other + cursor[index + 1 :])
    assert [fault.code for fault in refused.value.faults] == [Code.INVALID]
    assert refused.value.type.status == 422


def test_a_cursor_of_another_listing_is_refused():
    cursor = cursors.write('notifications:{"tag":"a"}', b"position")
    with pytest.raises(Problem):
        cursors.read('notifications:{"tag":"b"}', cursor)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_as_a_422(text):
    assert _status(text) in (200, 422)


def _status(text: str) -> int:
    try:
        cursors.read("notifications", text)
    except Problem as problem:
        return problem.type.status
    return 200
