"""Every fault of a value against a type, at once: msgspec stops at the first, and callers deserve the whole list.

Owns the walk over `msgspec.inspect` types and the words of each fault. Refuses to decide: `msgspec.convert` alone says
whether a value is good, and this module is only asked which parts of it are not. No message repeats a value, since
values may be secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from functools import cache
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import inspect

from gateway.errors import Code, Fault

_NAME_SHOWN: Final = 64
"""Characters of a caller's own key that a path repeats: paths must stay short whatever was sent."""
_NAME_COMPARED: Final = 40
"""Longest unknown name that gets a suggestion: comparing is quadratic in its length."""
_PLAIN_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]*")
_WHERE: Final = re.compile(r" - at `(?:key in )?\$(?P<path>.*)`$")

_Listed = inspect.ListType | inspect.SetType | inspect.FrozenSetType | inspect.VarTupleType
_Numeric = inspect.IntType | inspect.FloatType
_Fielded = inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType

_KINDS: Final[tuple[tuple[Any, str], ...]] = (
    (type(None), "null"),
    (bool, "boolean"),  # before int, whose subclass it is
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (Mapping, "object"),
    ((list, tuple, set, frozenset), "array"),
)
_KIND_WORDS: Final = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_SCALARS: Final[Mapping[type[inspect.Type], frozenset[str]]] = {
    inspect.NoneType: frozenset({"null"}),
    inspect.BoolType: frozenset({"boolean"}),
    inspect.IntType: frozenset({"integer"}),
    inspect.FloatType: frozenset({"integer", "number"}),
    inspect.StrType: frozenset({"string"}),
    inspect.BytesType: frozenset({"string", "bytes"}),
    inspect.ByteArrayType: frozenset({"string", "bytearray"}),
    inspect.MemoryViewType: frozenset({"string", "memoryview"}),
    inspect.DateTimeType: frozenset({"string", "datetime"}),
    inspect.DateType: frozenset({"string", "date"}),
    inspect.TimeType: frozenset({"string", "time"}),
    inspect.TimeDeltaType: frozenset({"string", "timedelta"}),
    inspect.UUIDType: frozenset({"string", "UUID"}),
    inspect.DecimalType: frozenset({"string", "integer", "number", "Decimal"}),
}


class _Notation(msgspec.Struct, frozen=True):
    """A leaf with a notation of its own: the type that reads it, and what to say to one that cannot be read."""

    type: Any
    words: str


_BASE64: Final = _Notation(bytes, "Must be base64 text (RFC 4648, with padding).")
_NOTATIONS: Final[Mapping[type[inspect.Type], _Notation]] = {
    inspect.BytesType: _BASE64,
    inspect.ByteArrayType: _BASE64,
    inspect.MemoryViewType: _BASE64,
    inspect.DateTimeType: _Notation(datetime, "Must be a time in RFC 3339, such as 2026-11-23T09:00:00Z."),
    inspect.DateType: _Notation(date, "Must be a date such as 2026-11-23."),
    inspect.TimeType: _Notation(time, "Must be a time of day such as 09:00:00."),
    inspect.TimeDeltaType: _Notation(timedelta, "Must be a duration in ISO 8601, such as PT30S."),
    inspect.UUIDType: _Notation(UUID, "Must be a UUID."),
    inspect.DecimalType: _Notation(Decimal, "Must be a decimal number."),
}


def collect_faults(value: Any, type_: Any, *, most: int = 200) -> list[Fault]:
    """List what keeps decoded JSON (or TOML) `value` from being a `type_`: empty exactly if `msgspec.convert` takes it.

    Paths are written `to[0].email`; the value itself is the empty path. At most `most` faults are listed, so that the
    answer to a large bad body stays small. Instances of a type in place of their JSON form are taken as they are.
    """
    try:
        msgspec.convert(value, type_, str_keys=True)
    except (msgspec.ValidationError, TypeError) as error:
        return walk(value, type_, most=most) or [_said_by_msgspec(error)]
    return []


def walk(value: Any, type_: Any, *, most: int = 200) -> list[Fault]:
    """List the faults that types and constraints show; `collect_faults` adds those only msgspec knows of."""
    faults: list[Fault] = []
    for fault in _check(value, _inspected(type_), ""):
        faults.append(fault)
        if len(faults) == most:
            break
    return faults


def child(path: str, name: str) -> str:
    """Write the path of a key below `path`: `child("to[0]", "email") == "to[0].email"`."""
    shown = name if _PLAIN_NAME.fullmatch(name) else repr(name)[1:-1]
    if len(shown) > _NAME_SHOWN:
        shown = shown[:_NAME_SHOWN] + "…"
    return f"{path}.{shown}" if path else shown


def suggestion(name: str, known: Sequence[str]) -> str:
    """End a sentence about an unknown name: `; did you mean …?` if a known one is close, else a full stop."""
    close = get_close_matches(name, known, n=1) if len(name) <= _NAME_COMPARED else []
    return f"; did you mean {close[0]}?" if close else "."


@cache
def _inspected(type_: Any) -> inspect.Type:
    return inspect.type_info(type_)


def _check(value: Any, type_: inspect.Type, path: str) -> Iterator[Fault]:
    match type_:
        case inspect.Metadata():
            yield from _check(value, type_.type, path)
        case inspect.AnyType() | inspect.RawType():
            return
        case inspect.UnionType():
            yield from _check_union(value, type_, path)
        case _ if not _fits(value, type_):
            yield Fault(path, Code.WRONG_TYPE, f"Must be {_words([type_])}, not {_word_of(value)}.")
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
            yield from _check_fields(value, type_, path)
        case inspect.DictType():
            yield from _check_dict(value, type_, path)
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            yield from _check_list(value, type_, path)
        case inspect.TupleType():
            yield from _check_tuple(value, type_.item_types, path)
        case _:
            yield from _check_scalar(value, type_, path)


def _check_scalar(value: Any, type_: inspect.Type, path: str) -> Iterator[Fault]:
    match type_:
        case inspect.StrType():
            yield from _check_length(value, type_.min_length, type_.max_length, path)
            if type_.pattern is not None and re.search(type_.pattern, value) is None:
                yield Fault(path, Code.INVALID, f"Must match the pattern {type_.pattern}.")
        case inspect.IntType() | inspect.FloatType():
            yield from _check_range(value, type_, path)
        case inspect.EnumType() | inspect.LiteralType():
            yield from _check_choice(value, type_, path)
        case _:
            yield from _check_leaf(value, type_, path)


def _check_union(value: Any, type_: inspect.UnionType, path: str) -> Iterator[Fault]:
    """Judge by the member of the value's own JSON kind; msgspec allows one per kind, tagged structs aside."""
    members = [_plain(member) for member in type_.types]
    fitting = [member for member in members if _fits(value, member)]
    if not fitting:
        yield Fault(path, Code.WRONG_TYPE, f"Must be {_words(members)}, not {_word_of(value)}.")
        return
    tagged = [member for member in fitting if isinstance(member, inspect.StructType) and member.tag_field is not None]
    if len(tagged) > 1 and _kind_of(value) == "object":
        yield from _check_tagged(value, tagged, path)
        return
    tries = [list(_check(value, member, path)) for member in fitting]
    yield from min(tries, key=len)


def _check_tagged(value: Mapping[str, Any], members: Sequence[inspect.StructType], path: str) -> Iterator[Fault]:
    tag_field = members[0].tag_field or "type"
    chosen = next((member for member in members if member.tag == value.get(tag_field)), None)
    if chosen is not None:
        yield from _check_fields(value, chosen, path)
    elif tag_field not in value:
        yield Fault(child(path, tag_field), Code.REQUIRED, "This field is required.")
    else:
        choices = ", ".join(str(member.tag) for member in members)
        yield Fault(child(path, tag_field), Code.INVALID, f"Must be one of {choices}.")


def _check_fields(value: Any, type_: _Fielded, path: str) -> Iterator[Fault]:
    if isinstance(type_, inspect.StructType | inspect.DataclassType) and isinstance(value, type_.cls):
        return
    if _kind_of(value) != "object":
        types = [field.type for field in type_.fields]
        required = sum(field.required for field in type_.fields)
        # What a struct written as an array does not know is ignored, unless it says otherwise.
        open_ended = isinstance(type_, inspect.StructType) and not type_.forbid_unknown_fields
        known = value[: len(types)] if open_ended else value
        yield from _check_tuple(known, types, path, required=required)
        return
    for field in type_.fields:
        if field.encode_name in value:
            yield from _check(value[field.encode_name], field.type, child(path, field.encode_name))
        elif field.required:
            yield Fault(child(path, field.encode_name), Code.REQUIRED, "This field is required.")
    if isinstance(type_, inspect.StructType):
        yield from _check_tag(value, type_, path)
        if type_.forbid_unknown_fields:
            yield from _check_names(value, type_, path)


def _check_tag(value: Mapping[str, Any], type_: inspect.StructType, path: str) -> Iterator[Fault]:
    """Judge the tag of a struct that stands alone: msgspec lets it be absent, never wrong."""
    if type_.tag_field is None or type_.tag_field not in value:
        return
    if value[type_.tag_field] != type_.tag:
        yield Fault(child(path, type_.tag_field), Code.INVALID, f"Must be {type_.tag}.")


def _check_names(value: Mapping[str, Any], type_: inspect.StructType, path: str) -> Iterator[Fault]:
    known = [field.encode_name for field in type_.fields]
    allowed = {*known, type_.tag_field}
    for name in value:
        if name not in allowed:
            yield Fault(child(path, name), Code.UNKNOWN_FIELD, f"There is no such field{suggestion(name, known)}")


def _check_dict(value: Mapping[str, Any], type_: inspect.DictType, path: str) -> Iterator[Fault]:
    yield from _check_count(len(value), type_.min_length, type_.max_length, path)
    for name, item in value.items():
        yield from _check_key(name, _plain(type_.key_type), child(path, name))
        yield from _check(item, type_.value_type, child(path, name))


def _check_key(name: str, type_: inspect.Type, path: str) -> Iterator[Fault]:
    """Judge a dict's key; in JSON every key is text, numbers too."""
    key: Any = name
    if isinstance(type_, _Numeric):
        number = int if isinstance(type_, inspect.IntType) else float
        try:
            key = next(iter(msgspec.convert({name: None}, dict[number, None], str_keys=True)))
        except msgspec.ValidationError:
            yield Fault(path, Code.INVALID, "The name itself must be a number.")
            return
    for fault in _check(key, type_, path):
        yield Fault(path, fault.code, f"The name itself is wrong: {fault.message}")


def _check_list(value: Sequence[Any], type_: _Listed, path: str) -> Iterator[Fault]:
    yield from _check_count(len(value), type_.min_length, type_.max_length, path)
    for index, item in enumerate(value):
        yield from _check(item, type_.item_type, f"{path}[{index}]")


def _check_tuple(
    value: Sequence[Any],
    types: Sequence[inspect.Type],
    path: str,
    *,
    required: int | None = None,
) -> Iterator[Fault]:
    yield from _check_count(len(value), len(types) if required is None else required, len(types), path)
    for index, (item, type_) in enumerate(zip(value, types, strict=False)):
        yield from _check(item, type_, f"{path}[{index}]")


def _check_length(value: str, least: int | None, most: int | None, path: str) -> Iterator[Fault]:
    if least is not None and len(value) < least:
        words = "Must not be empty." if least == 1 else f"Must be at least {least} characters long."
        yield Fault(path, Code.TOO_SHORT, words)
    if most is not None and len(value) > most:
        yield Fault(path, Code.TOO_LONG, f"Must be at most {most} characters long, not {len(value)}.")


def _check_count(count: int, least: int | None, most: int | None, path: str) -> Iterator[Fault]:
    if least is not None and count < least:
        words = "Must not be empty." if least == 1 else f"Must have at least {least} entries, not {count}."
        yield Fault(path, Code.TOO_SHORT, words)
    if most is not None and count > most:
        yield Fault(path, Code.TOO_MANY, f"Must have at most {most} entries, not {count}.")


def _check_range(value: float, type_: _Numeric, path: str) -> Iterator[Fault]:
    checks = (
        (type_.ge is None or value >= type_.ge, f"at least {type_.ge}"),
        (type_.gt is None or value > type_.gt, f"more than {type_.gt}"),
        (type_.le is None or value <= type_.le, f"at most {type_.le}"),
        (type_.lt is None or value < type_.lt, f"less than {type_.lt}"),
    )
    failed = [words for good, words in checks if not good]
    if failed:
        yield Fault(path, Code.OUT_OF_RANGE, f"Must be {' and '.join(failed)}.")
    if type_.multiple_of is not None and value % type_.multiple_of != 0:
        yield Fault(path, Code.INVALID, f"Must be a multiple of {type_.multiple_of}.")


def _check_choice(value: Any, type_: inspect.EnumType | inspect.LiteralType, path: str) -> Iterator[Fault]:
    if isinstance(type_, inspect.EnumType):
        if isinstance(value, type_.cls):
            return
        choices = [member.value for member in type_.cls]
    else:
        choices = list(type_.values)
    if not any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in choices):
        shown = ", ".join(str(choice) for choice in choices)
        yield Fault(path, Code.INVALID, f"Must be one of {shown}.")


def _check_leaf(value: Any, type_: inspect.Type, path: str) -> Iterator[Fault]:
    """Ask msgspec about what has a notation of its own: times, base64, UUIDs."""
    notation = _NOTATIONS.get(type(type_))
    if notation is None:
        return
    try:
        read: Any = msgspec.convert(value, notation.type)
    except msgspec.ValidationError:
        yield Fault(path, Code.INVALID, notation.words)
        return
    match type_:
        case inspect.DateTimeType(tz=bool()) | inspect.TimeType(tz=bool()) if type_.tz != (read.tzinfo is not None):
            words = "Must name its offset from UTC, such as Z or +02:00." if type_.tz else "Must not name an offset."
            yield Fault(path, Code.INVALID, words)
        case inspect.BytesType() | inspect.ByteArrayType() | inspect.MemoryViewType():
            for fault in _check_count(len(read), type_.min_length, type_.max_length, path):
                code = Code.TOO_LONG if fault.code is Code.TOO_MANY else fault.code
                yield Fault(path, code, fault.message.replace("entries", "bytes"))
        case _:
            return


def _fits(value: Any, type_: inspect.Type) -> bool:
    """Say whether the value's JSON kind is one that the type is written in."""
    if not isinstance(type_, inspect.TypedDictType) and isinstance(value, getattr(type_, "cls", ())):
        return True
    return _kind_of(value) in _kinds(type_)


def _kinds(type_: inspect.Type) -> frozenset[str]:
    """Name the JSON kinds a type may be written in."""
    match type_:
        case inspect.EnumType():
            return frozenset(_kind_of(member.value) for member in type_.cls)
        case inspect.LiteralType():
            return frozenset(_kind_of(value) for value in type_.values)
        case inspect.StructType() if type_.array_like:
            return frozenset({"array"})
        case inspect.DictType() | inspect.TypedDictType() | inspect.DataclassType() | inspect.StructType():
            return frozenset({"object"})
        case inspect.CollectionType() | inspect.TupleType() | inspect.NamedTupleType():
            return frozenset({"array"})
        case _:
            return _SCALARS.get(type(type_), frozenset(_KIND_WORDS))


def _kind_of(value: Any) -> str:
    """Name the JSON kind of a decoded value; TOML's times and whatever else there is count as kinds of their own."""
    for cls, kind in _KINDS:
        if isinstance(value, cls):
            return kind
    return type(value).__name__


def _words(types: Sequence[inspect.Type]) -> str:
    """List what is wanted: `a string or null`."""
    kinds: dict[str, None] = {}
    for type_ in types:
        kinds |= dict.fromkeys(kind for kind in _KIND_WORDS if kind in _kinds(type_))
    words = [_KIND_WORDS[kind] for kind in kinds if not (kind == "integer" and "number" in kinds)]
    return " or ".join(words) if words else "something else"


def _word_of(value: Any) -> str:
    return _KIND_WORDS.get(_kind_of(value), f"a {type(value).__name__}")


def _plain(type_: inspect.Type) -> inspect.Type:
    return _plain(type_.type) if isinstance(type_, inspect.Metadata) else type_


def _said_by_msgspec(error: Exception) -> Fault:
    """Turn msgspec's own words into a fault: for what only it knows, such as a `__post_init__` that refused."""
    text = str(error)
    found = _WHERE.search(text)
    path = found["path"].removeprefix(".") if found is not None else ""
    return Fault(path, Code.INVALID, text[: found.start()] if found is not None else text)
