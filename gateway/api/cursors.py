"""Cursors: where a listing goes on, opaque to callers.

Owns the notation. A cursor names the last row seen, so rows that come in later move nothing. It carries a checksum over
its listing and filters: one that was changed, or taken from another listing, is refused instead of giving a page that
looks right. It is no secret and no permission: every page is filtered by the caller's project again.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Final

from gateway.errors import Code, Fault, Problem, invalid

_CHECK_BYTES: Final = 6
"""Enough that a changed cursor is noticed; forging one wins nothing."""


def write(listing: str, position: bytes) -> str:
    """Write a cursor after `position` in `listing` (a name with its filters)."""
    return urlsafe_b64encode(_check(listing, position) + position).rstrip(b"=").decode()


def read(listing: str, text: str) -> bytes:
    """Read the position out of a cursor; raises the 422 for anything that `write` did not make for this listing."""
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise _refused() from error
    check, position = data[:_CHECK_BYTES], data[_CHECK_BYTES:]
    if check != _check(listing, position) or write(listing, position) != text:
        raise _refused()
    return position


def _check(listing: str, position: bytes) -> bytes:
    return blake2b(position, key=blake2b(listing.encode(), digest_size=32).digest(), digest_size=_CHECK_BYTES).digest()


def _refused() -> Problem:
    message = "This is not a cursor of this listing: pass next_cursor unchanged, with the same filters."
    return invalid([Fault("cursor", Code.INVALID, message)])
