"""The collector and msgspec always agree on whether a value is good; the collector also says what else is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from gateway.errors import Code
from gateway.model.collect import child, collect_faults, walk
from gateway.model.requests import BatchItem, SendRequest
from gateway.model.states import Priority


class Cat(msgspec.Struct, tag="cat", forbid_unknown_fields=True):
    lives: Annotated[int, Meta(ge=1, le=9)]


class Dog(msgspec.Struct, tag="dog"):
    name: Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-z]*$")] = "rex"


class Alone(msgspec.Struct, tag=True):
    x: int = 0


class Pair(msgspec.Struct, array_like=True):
    a: int
    b: str = ""


class Point(NamedTuple):
    x: int
    y: float = 0.0


@dataclass
class Plain:
    a: int
    b: str = ""


class Typed(TypedDict):
    a: int


class Small(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    from_: str | None = msgspec.field(name="from", default=None)
    due_at: Annotated[datetime, Meta(tz=True)] | None = None
    raw: Annotated[bytes, Meta(min_length=1, max_length=4)] = b"x"
    pet: Cat | Dog | None = None
    many: Annotated[list[Annotated[int, Meta(multiple_of=3)]], Meta(min_length=1, max_length=2)] = msgspec.field(
        default_factory=list
    )
    version: int | str | None = None
    named: Annotated[dict[Annotated[str, Meta(max_length=3)], Any], Meta(max_length=2)] = {}


TYPES: list[Any] = [
    SendRequest,
    BatchItem,
    Small,
    Alone,
    Cat | Dog,
    Pair,
    Point,
    Plain,
    Typed,
    dict[int, Priority],
    dict[Annotated[int, Meta(ge=2)], int],
    dict[Priority, list[Small]],
    list[Small | list[int] | str | None],
    tuple[int, str],
    tuple[Annotated[float, Meta(gt=0, lt=5)], ...],
    set[int],
    Literal["a", "b", 1] | None,
    int | float,
    Annotated[datetime, Meta(tz=False)],
    date,
    time,
    timedelta,
    UUID,
    Decimal,
    bool | None,
    Any,
]

_texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            "critical", "a", "cat", "dog", "Alone", "1", "-2", "aGk=", "aGVsbG8=", "2026-11-23T09:00:00Z",
            "2026-11-23T09:00:00", "2026-11-23", "09:00:00", "PT30S", "0195d7a9-0000-7000-8000-000000000000", "x" * 300,
        ],
    ),
)  # fmt: skip
_names = st.one_of(
    st.sampled_from(
        [
            "to", "email", "user", "template", "content", "title", "body", "data", "send_at", "channels", "tags", "key",
            "version", "type", "lives", "name", "a", "b", "x", "y", "from", "dueAt", "raw", "pet", "many", "named",
            "attachments", "filename", "content_type", "idempotency_key", "priority", "metadata", "overrides", "1",
        ],
    ),
    st.text(max_size=4),
)  # fmt: skip
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 20),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    _texts,
)
json_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=5)),
    max_leaves=15,
)


def accepted(value: Any, type_: Any) -> bool:
    try:
        msgspec.convert(value, type_, str_keys=True)
    except msgspec.ValidationError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(value=json_values, index=st.integers(0, len(TYPES) - 1))
@example(value={"type": "cat", "lives": 3}, index=TYPES.index(Cat | Dog))
@example(value={"lives": 3}, index=TYPES.index(Cat | Dog))
@example(value={"type": 3}, index=TYPES.index(Alone))
@example(value=True, index=TYPES.index(Literal["a", "b", 1] | None))
@example(value=[0, "", None], index=TYPES.index(Pair))
@example(value={"1": "critical"}, index=TYPES.index(dict[int, Priority]))
def test_the_walk_finds_a_fault_exactly_when_msgspec_refuses(value: Any, index: int) -> None:
    assert (walk(value, TYPES[index]) == []) == accepted(value, TYPES[index])


_send = st.fixed_dictionaries(
    {"to": st.one_of(st.fixed_dictionaries({"email": _scalars}), st.lists(json_values, max_size=3))},
    optional={
        "template": json_values,
        "content": st.fixed_dictionaries({"title": _scalars}, optional={"actions": json_values, "nope": _scalars}),
        "send_at": _texts,
        "priority": _texts,
        "overrides": st.fixed_dictionaries(
            {"email": st.dictionaries(st.sampled_from(["from", "from_", "cc", "headers"]), json_values)},
        ),
        "attachments": st.lists(
            st.fixed_dictionaries({"filename": _texts, "content_type": _texts, "content": _texts}),
            max_size=2,
        ),
        "metadata": st.dictionaries(st.text(max_size=120), _scalars, max_size=3),
    },
)


@settings(max_examples=400, deadline=None)
@given(_send)
def test_the_walk_agrees_with_the_decoder_on_bodies_that_are_nearly_right(body: Any) -> None:
    wire = msgspec.json.encode(body)
    try:
        msgspec.json.decode(wire, type=SendRequest)
    except msgspec.ValidationError:
        good = False
    else:
        good = True
    assert (walk(msgspec.json.decode(wire), SendRequest) == []) == good


def test_every_fault_of_a_request_is_listed_with_its_path_and_code() -> None:
    body = {
        "to": [{"email": 5}, {"user": "", "emial": "a@example.com"}],
        "content": {"body": 1, "actions": [{"label": "x" * 81, "url": "https://example.com"}]},
        "priority": "urgent",
        "send_at": "2026-11-23T09:00:00",
        "expires_at": "tomorrow",
        "escalate_after_s": 0,
        "tags": ["x"] * 21,
        "attachments": [{"filename": "a", "content_type": "a/b", "content": "***"}],
        "overrides": {"email": {"from_": "a@example.com"}},
        "metadata": {"k" * 101: 1},
        "template": 3,
    }
    found = {(fault.field, fault.code) for fault in collect_faults(body, SendRequest)}
    assert found == {
        ("to[0].email", Code.WRONG_TYPE),
        ("to[1].user", Code.TOO_SHORT),
        ("to[1].emial", Code.UNKNOWN_FIELD),
        ("content.title", Code.REQUIRED),
        ("content.body", Code.WRONG_TYPE),
        ("content.actions[0].label", Code.TOO_LONG),
        ("priority", Code.INVALID),
        ("send_at", Code.INVALID),
        ("expires_at", Code.INVALID),
        ("escalate_after_s", Code.OUT_OF_RANGE),
        ("tags", Code.TOO_MANY),
        ("attachments[0].content", Code.INVALID),
        ("overrides.email.from_", Code.UNKNOWN_FIELD),
        (f"metadata.{'k' * 64}…", Code.TOO_LONG),
        ("template", Code.WRONG_TYPE),
    }


def test_messages_are_sentences_with_a_suggestion_and_without_the_value() -> None:
    faults = {f.field: f.message for f in collect_faults({"to": {"emial": "hidden@example.com"}}, SendRequest)}
    assert faults == {"to.emial": "There is no such field; did you mean email?"}
    [wrong] = collect_faults({"to": "hidden@example.com"}, SendRequest)
    assert wrong.message == "Must be an object or a list, not a string."
    [offset] = collect_faults({"to": {}, "send_at": "2026-11-23T09:00:00"}, SendRequest)
    assert offset.message == "Must name its offset from UTC, such as Z or +02:00."


def test_a_body_of_the_wrong_kind_has_the_empty_path() -> None:
    [fault] = collect_faults([], SendRequest)
    assert (fault.field, fault.code) == ("", Code.WRONG_TYPE)


def test_the_list_of_faults_is_bounded() -> None:
    body = {"to": [{"nope": 1}] * 5000}
    assert len(collect_faults(body, SendRequest, most=50)) == 50


def test_a_refusal_only_msgspec_knows_of_is_still_reported() -> None:
    class Picky(msgspec.Struct):
        x: int

        def __post_init__(self) -> None:
            raise ValueError("x is never right")

    [fault] = collect_faults({"deep": [{"x": 1}]}, dict[str, list[Picky]])
    assert fault.code is Code.INVALID
    assert fault.message == "x is never right"


@pytest.mark.parametrize(
    ("name", "path"),
    [("email", "to.email"), ("a\nb", r"to.a\nb"), ("\u2028", r"to.\u2028"), ("k" * 100, "to." + "k" * 64 + "…")],
)
def test_paths_are_one_short_printable_line(name: str, path: str) -> None:
    assert child("to", name) == path


def test_what_is_good_has_no_faults() -> None:
    body = {"to": {"email": "ada@example.com"}, "content": {"title": "Hello"}}
    assert collect_faults(body, SendRequest) == []
