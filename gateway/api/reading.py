"""Reads bodies and query strings, and says everything that is wrong with them at once.

Owns the limits of reading (size, time, nesting) and the way from bytes to a request's type. Which types there are is
`gateway.model.requests`' affair; what they mean is the router's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar, cast, get_type_hints
from urllib.parse import parse_qsl

import msgspec

from gateway.api.exchange import JSON_TYPE, Line, Receive
from gateway.errors import MALFORMED, TOO_LARGE, UNAVAILABLE, UNSUPPORTED_MEDIA_TYPE, Code, Fault, Problem, invalid
from gateway.model.collect import child, collect_faults

T = TypeVar("T")

BODY_TIMEOUT_S: Final = 60
"""A megabyte over a slow line takes a few seconds; who takes longer holds a place that others wait for."""
BODY_SMALL: Final = 65_536
"""What a connection buffers anyway (uvicorn's high-water mark)."""
_BUSY_RETRY_S: Final = 1
_MOST_FAULTS: Final = 200
_WHOLE_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_JSON_TYPE: Final = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_NUL_ESCAPED: Final = b"\\u0000"
_MOST_DEPTH: Final = 64
"""No real request is nested so deeply; what is could exhaust the stack of whoever walks it later."""
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_LOST_PLUS: Final = re.compile(r"^ (?=[0-9]{4,15}$)|(?<=[0-9]) (?=[0-9]{2}:[0-9]{2}$)")
"""`+` means a space in a query string; phone numbers and time offsets that were pasted unescaped get theirs back."""


class ClientGone(Exception):  # not a GatewayError: it never becomes an answer
    """The caller hung up before the body was complete: there is nobody to answer."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape every query string shares: strict; what is not given is `UNSET`."""


class BodyBudget:
    """Bounds what all large bodies of one process hold in memory together: callers are many, and each has its limit.

    A body of up to `BODY_SMALL` bytes is not counted; a larger one is from its first piece until its answer.
    """

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, size: int) -> None:
        """Count `size` bytes; raises the 503 when they are too many."""
        if size > self._left:
            raise Problem(UNAVAILABLE, "Too many large requests are under way.", retry_after_s=_BUSY_RETRY_S)
        self._left -= size

    def give(self, size: int) -> None:
        """Give them back."""
        self._left += size

    def done(self, body: bytes) -> None:
        """Give back what `read_body` counted for `body`."""
        if len(body) > BODY_SMALL:
            self._left += len(body)


async def read_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    limit: int,
    budget: BodyBudget,
    *,
    line: Line | None = None,
    timeout_s: float = BODY_TIMEOUT_S,
) -> bytes:
    """Read the body, refusing as soon as it is known to be larger than `limit` bytes, or late.

    Tell `budget.done` when the body is no longer held.
    """
    declared = headers.get(b"content-length")
    if declared is not None and (not declared.isdigit() or int(declared) > limit):
        raise _too_large(limit)
    if line is not None and (body := line.take()) is not None:
        return _weighed(body, limit, budget)
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                return _weighed(message.get("body", b""), limit, budget)
            return await _read_on(receive, message, limit, budget)
    except TimeoutError:
        raise Problem(MALFORMED, f"The body was not complete within {timeout_s} seconds.") from None


def _weighed(body: bytes, limit: int, budget: BodyBudget) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    if len(body) > BODY_SMALL:
        budget.take(len(body))
    return body


async def _read_on(receive: Receive, message: Any, limit: int, budget: BodyBudget) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while message["type"] == "http.request":
            part = message.get("body", b"")
            if size + len(part) > limit:
                raise _too_large(limit)  # noqa: TRY301 # the same
            budget.take(len(part))
            size += len(part)
            parts.append(part)
            if not message.get("more_body", False):
                break
            message = await receive()
        else:
            raise ClientGone  # noqa: TRY301 # the budget is given back in one place
    except BaseException:
        budget.give(size)
        raise
    if size <= BODY_SMALL:
        budget.give(size)
    return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(TOO_LARGE, f"The body may have at most {limit} bytes.")


def check_media_type(headers: Mapping[bytes, bytes]) -> None:
    """Refuse what is said not to be plain JSON. Compressed bodies are never unpacked, so none can be a bomb."""
    media_type = headers.get(b"content-type", JSON_TYPE)
    if media_type != JSON_TYPE and _JSON_TYPE.fullmatch(media_type) is None:
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body as application/json in UTF-8.")
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send the body without a content encoding.")


def decode_body(raw: bytes, decoder: msgspec.json.Decoder[T], type_: Any, *, whole: bool = True) -> T:
    """Decode a body; raises the 400 for what is not JSON and the 422 that lists every fault for what is.

    Not `whole` is a body with parts that are left raw: each of them comes here itself, and has its own fate.
    """
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError:
        raise invalid(_faults_of(raw, type_)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None
    if not whole:
        return value
    if raw.count(b"[") + raw.count(b"{") > _MOST_DEPTH and not _is_shallow(raw):
        raise _malformed(RecursionError())
    if _NUL_ESCAPED in raw:
        faults = list(_nul_faults(_decode_any(raw), ""))
        if faults:
            raise invalid(faults[:_MOST_FAULTS])
    return value


def _is_shallow(raw: bytes) -> bool:
    """Say whether valid JSON is nested at most `_MOST_DEPTH` deep, at the speed of `bytes.replace`."""
    left = _STRING.sub(b"", raw).translate(None, _NOT_BRACKETS)
    for _ in range(_MOST_DEPTH):
        if not left:
            return True
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    return not left


def _faults_of(raw: bytes, type_: Any) -> list[Fault]:
    value = _decode_any(raw)
    if not _is_shallow(raw):
        raise _malformed(RecursionError())
    faults = [*collect_faults(value, type_), *(_nul_faults(value, "") if _NUL_ESCAPED in raw else ())]
    return faults[:_MOST_FAULTS] or [Fault("", Code.INVALID, "The body breaks the contract.")]


def _decode_any(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:
        raise invalid([Fault("", Code.OUT_OF_RANGE, "A number in the body is too large.")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> Problem:
    match error:
        case RecursionError():
            return Problem(MALFORMED, "The body is nested too deeply.")
        case UnicodeDecodeError():
            return Problem(MALFORMED, "The body is not valid UTF-8.")
        case _:
            return Problem(MALFORMED, f"The body is not valid JSON: {error}.")


def _nul_faults(value: Any, path: str) -> Iterator[Fault]:
    """Find NUL characters: no medium can carry one, and PostgreSQL cannot store one."""
    match value:
        case str() if "\0" in value:
            yield Fault(path, Code.INVALID, "Must not contain the character NUL.")
        case dict():
            for name, item in cast("dict[str, Any]", value).items():
                if "\0" in name:
                    yield Fault(child(path, name), Code.INVALID, "The name must not contain the character NUL.")
                yield from _nul_faults(item, child(path, name))
        case list():
            for index, item in enumerate(cast("list[Any]", value)):
                yield from _nul_faults(item, f"{path}[{index}]")
        case _:
            return


class QueryReader:
    """Reads query strings into one type. Unknown and repeated parameters are faults, as is an empty value."""

    def __init__(self, type_: type[Query]) -> None:
        self._type = type_
        hints = get_type_hints(type_)
        self._whole = frozenset(name for name, hint in hints.items() if int in _members(hint))
        self._plus = frozenset(name for name, hint in hints.items() if datetime in _members(hint)) | {"to", "address"}

    def read(self, query_string: bytes) -> Query:
        """Read; raises the 422 that lists every fault."""
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for name, text in _pairs(query_string):
            if name in values:
                faults.append(Fault(child("", name), Code.INVALID, "Must be given once."))
            elif "\0" in text or "\0" in name:
                faults.append(Fault(child("", name), Code.INVALID, "Must not contain the character NUL."))
            values[name] = self._value(name, text)
        faults += collect_faults(values, self._type)
        if faults:
            raise invalid(faults[:_MOST_FAULTS])
        return msgspec.convert(values, self._type)

    def _value(self, name: str, text: str) -> Any:
        if name in self._whole and _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        return _LOST_PLUS.sub("+", text) if name in self._plus else text


def _members(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", (hint,))


def _pairs(query_string: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=100,
        )
    except ValueError as error:  # not UTF-8 once unescaped, not ASCII, or too many of them
        fault = Fault("", Code.INVALID, "The query string must be percent-encoded UTF-8 of at most 100 parameters.")
        raise invalid([fault]) from error
