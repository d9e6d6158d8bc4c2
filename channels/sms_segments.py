"""What a text message says, and how many SMS it becomes: what is paid for, and what `explain` shows.

Owns the choice of the text, the default alphabet of GSM and the sizes of segments. Refuses to know providers and
numbers. Pure.

3GPP TS 23.038 6.2.1 has the alphabet; TS 23.040 9.2.3.24.1 the header of six octets that concatenated segments begin
with, which leaves 153 of 160 septets and 67 of 70 UTF-16 units to each.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from channels.contract import Content

__all__ = ["Segments", "count_segments", "text_of"]

_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION: Final = frozenset("\f^{}\\[~]|€")
_ALPHABET: Final = _BASIC | _EXTENSION
"""Each is an escape and a second septet (TS 23.038 6.2.1.1)."""

_GSM_ONE: Final = 160  # septets in 140 octets
_GSM_EACH: Final = 153
_UCS_ONE: Final = 70  # UTF-16 units in 140 octets
_UCS_EACH: Final = 67
_BMP_LAST: Final = "\uffff"


class Segments(msgspec.Struct, frozen=True, kw_only=True):
    """What a text costs. `units` are septets in GSM-7 and UTF-16 units in UCS-2; `segments` is at least one."""

    encoding: Literal["GSM-7", "UCS-2"]
    units: int
    segments: int

    def __str__(self) -> str:
        return f"{self.segments} segment{'' if self.segments == 1 else 's'} {self.encoding}"


def text_of(content: Content) -> str:
    """Give the text to send: the rendered one, else the words of a `content` request, else nothing."""
    if content.text:
        return content.text
    lines = (content.data.get("title") or content.subject, content.data.get("body"), content.data.get("url"))
    return "\n".join(str(line) for line in lines if line)


def count_segments(text: str) -> Segments:
    """Count as networks do: one character outside the alphabet (a curly quote, an emoji) makes all of it UCS-2.

    A character of two units is never cut in half, so a segment may end one unit early.
    """
    if _BASIC.issuperset(text):  # most texts
        return Segments(encoding="GSM-7", units=len(text), segments=_even(len(text)))
    if _ALPHABET.issuperset(text):
        widths = [2 if char in _EXTENSION else 1 for char in text]
        return Segments(encoding="GSM-7", units=sum(widths), segments=_filled(widths, _GSM_ONE, _GSM_EACH))
    widths = [2 if char > _BMP_LAST else 1 for char in text]
    return Segments(encoding="UCS-2", units=sum(widths), segments=_filled(widths, _UCS_ONE, _UCS_EACH))


def _even(units: int) -> int:
    """Count the segments of characters of one unit each."""
    return 1 if units <= _GSM_ONE else -(-units // _GSM_EACH)


def _filled(widths: list[int], one: int, each: int) -> int:
    if sum(widths) <= one:
        return 1
    segments, used = 1, 0
    for width in widths:
        if used + width > each:
            segments, used = segments + 1, 0
        used += width
    return segments
