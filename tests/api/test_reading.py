"""Bodies and query strings: whatever comes, the answer is a value, a 400, a 413 or a 422 that lists every fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Meta, UnsetType

from gateway.api.listings import Time
from gateway.api.reading import (
    BODY_SMALL,
    BodyBudget,
    ClientGone,
    Query,
    QueryReader,
    check_media_type,
    decode_body,
    read_body,
)
from gateway.errors import Code, Problem
from gateway.model.requests import SendRequest
from gateway.model.states import Status

SEND = msgspec.json.Decoder(SendRequest)


def decode(raw: bytes) -> SendRequest:
    return decode_body(raw, SEND, SendRequest)


def caught(work: Callable[[], object]) -> Problem | None:
    """Do it; anything but a `Problem` comes through."""
    try:
        work()
    except Problem as problem:
        return problem
    return None


def refusal(raw: bytes) -> Problem:
    with pytest.raises(Problem) as refused:
        decode(raw)
    return refused.value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"to":{"email":"a@example.com"},"data":{"x":NaN}}',
        b'{"to":{"email":"a@example.com"},"data":{"x":Infinity}}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"to":{"email":"\xff"}}',
        b'{"to":{"email":"\xed\xa0\x80"}}',
        b'{"to":{"email":"\\ud800"}}',
        b'{"to":{"email":"\\ud800\\u0041"}}',
        b'{"to":{"email":"\x00"}}',
        b'{"to":{"email":"a@example.com"}} trailing',
        b'{"to":{},"data":{"x":' + b"[" * 65 + b"]" * 65 + b"}}",
        b'{"to":{},"data":{"x":' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}}",
        b"[" * 100_000,
        b'{"to":{},"data":' + b"[" * 100_000,
        b'{"unknown":' + b"[" * 300 + b"]" * 300 + b"}",
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_what_is_not_json_is_a_400(raw):
    assert refusal(raw).type.status == 400


def test_depth_counts_nesting_and_not_brackets_in_text():
    raw = json.dumps({"to": {"email": "a@example.com"}, "data": {"x": "[{" * 500, "y": [[]] * 200, "z": '\\"[' * 90}})
    assert decode(raw.encode()).data["x"] == "[{" * 500


def test_every_fault_is_listed_at_once():
    raw = b'{"to":[{"emial":"x"},{"email":7}],"content":{"title":""},"tags":["a",1],"strategy":"some","priority":null}'
    found = {(fault.field, fault.code) for fault in refusal(raw).faults}
    assert found == {
        ("to[0].emial", Code.UNKNOWN_FIELD),
        ("to[1].email", Code.WRONG_TYPE),
        ("content.title", Code.TOO_SHORT),
        ("tags[1]", Code.WRONG_TYPE),
        ("strategy", Code.INVALID),
    }


def test_a_nul_character_is_named_with_its_path():
    problem = refusal(b'{"to":{"email":"a@example.com"},"data":{"a":[{"b":"x\\u0000"}],"\\u0000":1}}')
    assert [fault.code for fault in problem.faults] == [Code.INVALID, Code.INVALID]
    assert problem.faults[0].field == "data.a[0].b"


def test_an_escaped_backslash_before_u0000_is_no_nul():
    assert decode(b'{"to":{"email":"a@example.com"},"data":{"a":"\\\\u0000"}}').data == {"a": "\\u0000"}


def test_a_number_too_large_to_read_is_a_422():
    assert refusal(b'{"to":{"email":"a@example.com"},"data":{"x":1e999}}').type.status == 422


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_a_request_or_refused_with_reasons(value: Any):
    problem = caught(lambda: decode(json.dumps(value).encode()))
    assert problem is None or problem.type.status == 400 or (problem.type.status == 422 and problem.faults)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(raw: bytes):
    problem = caught(lambda: decode(raw))
    assert problem is None or problem.type.status in (400, 422)


class Stream:
    """A caller that sends pieces; counts how many were asked for."""

    def __init__(self, *pieces: bytes, gone: bool = False) -> None:
        self.pieces = list(pieces)
        self.gone = gone
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if not self.pieces:
            return {"type": "http.disconnect"}
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.gone}


async def test_a_body_in_pieces_is_put_together():
    assert await read_body(Stream(b"ab", b"", b"c"), {}, 3, BodyBudget(1000)) == b"abc"


async def test_a_body_declared_too_large_is_refused_unread():
    stream = Stream(b"x" * 11)
    with pytest.raises(Problem) as refused:
        await read_body(stream, {b"content-length": b"11"}, 10, BodyBudget(1000))
    assert (refused.value.type.status, stream.asked) == (413, 0)


async def test_an_endless_body_is_refused_as_soon_as_it_passes_the_limit():
    stream = Stream(*[b"x" * 4] * 1000)
    with pytest.raises(Problem) as refused:
        await read_body(stream, {}, 10, BodyBudget(1000))
    assert (refused.value.type.status, stream.asked) == (413, 3)


async def test_one_large_piece_without_a_declared_length_is_refused():
    with pytest.raises(Problem) as refused:
        await read_body(Stream(b"x" * 11), {}, 10, BodyBudget(1000))
    assert refused.value.type.status == 413


async def test_a_caller_who_hangs_up_gets_no_answer():
    with pytest.raises(ClientGone):
        await read_body(Stream(b"ab", gone=True), {}, 10, BodyBudget(1000))


async def test_a_body_that_never_ends_in_time_is_given_up():
    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(Problem) as refused:
        await read_body(never, {}, 10, BodyBudget(1000), timeout_s=0.01)
    assert refused.value.type.status == 400


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "APPLICATION/JSON; charset=UTF-8", 'application/json;charset="utf-8"', "application/x+json"],
)
def test_json_in_every_spelling_is_taken(media_type):
    check_media_type({b"content-type": media_type.encode()})


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-type": b"text/plain"},
        {b"content-type": b"application/x-www-form-urlencoded"},
        {b"content-type": b"application/json; charset=utf-16"},
        {b"content-type": b""},
        {b"content-type": b"application/json", b"content-encoding": b"gzip"},
    ],
)
def test_everything_else_is_a_415(headers):
    with pytest.raises(Problem) as refused:
        check_media_type(headers)
    assert refused.value.type.status == 415


class Filters(Query, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    status: Status | UnsetType = UNSET
    to: Annotated[str, Meta(min_length=1, max_length=10)] | UnsetType = UNSET
    since: Time | UnsetType = UNSET


READER = QueryReader(Filters)


def test_a_query_is_read_into_its_types():
    query = READER.read(b"limit=7&status=sent&to=a%40b&since=2026-11-23T09%3A00%3A00%2B02%3A00")
    assert query == Filters(limit=7, status=Status.SENT, to="a@b", since=msgspec.convert("2026-11-23T07:00:00Z", Time))


def test_a_plus_that_was_not_escaped_is_understood():
    query = READER.read(b"to=+155501&since=2026-11-23T09:00:00+02:00")
    assert (query.to, query.since.utcoffset().total_seconds()) == ("+155501", 7200)  # type: ignore[union-attr] # given


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        (b"nope=1", "nope", Code.UNKNOWN_FIELD),
        (b"limit=0", "limit", Code.OUT_OF_RANGE),
        (b"limit=201", "limit", Code.OUT_OF_RANGE),
        (b"limit=99999999999999999999999", "limit", Code.WRONG_TYPE),
        (b"limit=1.0", "limit", Code.WRONG_TYPE),
        (b"limit=", "limit", Code.WRONG_TYPE),
        (b"limit=1&limit=2", "limit", Code.INVALID),
        (b"status=null", "status", Code.INVALID),
        (b"to=", "to", Code.TOO_SHORT),
        (b"to=aaaaaaaaaaa", "to", Code.TOO_LONG),
        (b"to=%00", "to", Code.INVALID),
        (b"since=2026-11-23T09:00:00", "since", Code.INVALID),
        (b"since=1700000000", "since", Code.INVALID),
        (b"to=%ff", "", Code.INVALID),
        (b"to=\xff", "", Code.INVALID),
        (b"&".join(b"a%d=1" % number for number in range(101)), "", Code.INVALID),
    ],
)
def test_a_wrong_parameter_is_named(query, field, code):
    with pytest.raises(Problem) as refused:
        READER.read(query)
    assert [(fault.field, fault.code) for fault in refused.value.faults] == [(field, code)]


@given(st.binary(max_size=100))
def test_any_query_string_is_read_or_refused(query):
    problem = caught(lambda: READER.read(query))
    assert problem is None or problem.type.status == 422


async def test_large_bodies_together_are_bounded_and_counted_until_done():
    budget = BodyBudget(3 * BODY_SMALL)
    large = b"x" * (BODY_SMALL + 1)
    first = await read_body(Stream(large), {}, 10**6, budget)
    second = await read_body(Stream(large[:10], large[10:]), {}, 10**6, budget)
    for stream in (Stream(large), Stream(large[:BODY_SMALL], large)):
        with pytest.raises(Problem) as refused:
            await read_body(stream, {}, 10**6, budget)
        assert (refused.value.type.status, refused.value.retry_after_s) == (503, 1)
    assert await read_body(Stream(b"sm", b"all"), {}, 10**6, budget) == b"small"
    budget.done(first)
    budget.done(second)
    for _ in range(5):
        with pytest.raises(ClientGone):
            await read_body(Stream(large, gone=True), {}, 10**6, budget)
        with pytest.raises(Problem):
            await read_body(Stream(large, large), {}, BODY_SMALL + 2, budget)
    assert len(await read_body(Stream(large, large[:-2]), {}, 10**6, budget)) == 2 * BODY_SMALL
