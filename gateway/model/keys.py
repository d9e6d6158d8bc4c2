"""API keys as text: how one is made, recognised and remembered.

A key is `ntfg_live_` and 38 letters and digits: 32 of chance, 6 of checksum, so that a mistyped key, or one found by a
scanner in somebody's repository, can be told from other text without a look into the database. Stored is only a hash:
with 190 bits of chance a plain SHA-256 is enough, and nothing slower is affordable on every request.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable
from typing import Final

from gateway.model.states import Mode

PREFIX: Final = "ntfg"
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CHANCE: Final = 32
_CHECKSUM: Final = 6
"""Digits of base 62 that hold 32 bits."""
_FAIR: Final = 4 * len(_DIGITS)
"""Bytes from here on are thrown away, or the first digits would come more often than the last."""
_HINT: Final = 4
_FORM: Final = re.compile(
    rf"({PREFIX}_(?:live|team|test)_[0-9A-Za-z]{{{_CHANCE}}})([0-9A-Za-z]{{{_CHECKSUM}}})"
).fullmatch


def make_key(mode: Mode, random: Callable[[int], bytes]) -> str:
    """Make a new key; `random(count)` gives unguessable bytes (`secrets.token_bytes`)."""
    digits = ""
    while len(digits) < _CHANCE:
        digits += "".join(_DIGITS[byte % len(_DIGITS)] for byte in random(_CHANCE) if byte < _FAIR)
    body = f"{PREFIX}_{mode.value}_{digits[:_CHANCE]}"
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Say whether this was made by `make_key`. A bootstrap key need not be."""
    found = _FORM(key)
    return found is not None and found[2] == _checksum(found[1])


def hash_key(key: str) -> bytes:
    """Give what is stored and looked up. Takes any text that a header can carry, and never fails."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def hint(key: str) -> str:
    """Give the last four characters, by which people tell their keys apart."""
    return key[-_HINT:]


def _checksum(body: str) -> str:
    number = zlib.crc32(body.encode())
    digits = ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
