"""Data on its way through a JSON part: held aside while the template is rendered, so that it is never taken for JSON.

A JSON part puts a mark where data belongs. What the template wrote can then be read as JSON on its own, and each piece
of data is written where its mark stands, by rules of that place (`gateway.render.parts`). Used from one thread.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from jinja2 import pass_context
from jinja2.runtime import Context, Undefined

from gateway.render.formats import MOST_CHARS, Refused

MARK: Final = re.compile("\ue000(\\d+)\ue001")
"""Private-use characters, as in `gateway.render.markup`; what looks like a mark in data is data all the same."""

_encode = msgspec.json.Encoder().encode


class Ledger:
    """The data of the part that is being rendered now, by the numbers of their marks."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._chars = 0

    def begin(self) -> None:
        """Forget the last part's data."""
        self._values = []
        self._chars = 0

    def hold(self, value: Any) -> str:
        """Keep a value and answer its mark. Raises `Refused` for more than a message can carry."""
        if isinstance(value, Undefined):
            str(value)  # raises, with the name
        if isinstance(value, str):
            # A macro's result holds marks of its own: what they stand for is data, and so is the whole.
            value = self._text(str(value))
        elif value is not None and type(value) not in (int, float, bool):
            value = msgspec.json.decode(_encode(value))
        self._chars += len(value) if isinstance(value, str) else len(_encode(value))
        if self._chars > MOST_CHARS:
            raise Refused(f"it gets longer than {MOST_CHARS} characters")
        self._values.append(value)
        return f"\ue000{len(self._values) - 1}\ue001"

    @pass_context
    def finalize(self, context: Context, value: Any) -> str:
        """Hold what a template puts out. With a context, so that Jinja does not do it once, when it compiles."""
        del context
        return self.hold(value)

    def value(self, number: str) -> Any:
        """Find what a mark stands for; a number nobody gave out is an empty text."""
        place = int(number)
        return self._values[place] if place < len(self._values) else ""

    def _text(self, text: str) -> str:
        if "\ue000" not in text:
            return text
        pieces: list[str] = []
        size = at = 0
        for found in MARK.finditer(text):
            pieces += [text[at : found.start()], as_text(self.value(found[1]))]
            at = found.end()
            size += len(pieces[-1])
            if size > MOST_CHARS:
                raise Refused(f"it gets longer than {MOST_CHARS} characters")
        return "".join([*pieces, text[at:]])


def as_text(value: Any) -> str:
    """Write a value within a string: text as it is, nothing for none, the rest as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else _encode(value).decode()
