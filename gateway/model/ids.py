"""Identifiers: a prefix for people and a time-ordered UUIDv7 for the database.

Inside, an id is a `uuid.UUID`; at the border it is text such as `ntf_0195…` (32 hexadecimal digits). Because a UUIDv7
begins with its millisecond, newest-first listing needs no index but the primary key.
"""

from __future__ import annotations

import os
import threading
from struct import unpack
from typing import Final
from uuid import UUID

NOTIFICATION: Final = "ntf"
DELIVERY: Final = "dlv"
EVENT: Final = "evt"
KEY: Final = "key"
WEBHOOK: Final = "whk"
CAPTURED: Final = "cap"
ADDRESS: Final = "adr"
INBOX: Final = "inb"

_VERSION_7: Final = 0x7000
_VARIANT: Final = 0x8000000000000000
_COUNTER_BITS: Final = 12
_COUNTER_MASK: Final = 0xFFF
_RANDOM_MASK: Final = 0x3FFFFFFFFFFFFFFF
_PAGE_BYTES: Final = 4096

_HEX_LENGTH: Final = 32


class Noise:
    """Random bytes from the system, fetched a page at a time.

    Each call of `os.urandom` gives the interpreter away, and under load the database's thread takes it: a call per id
    cost more than everything else about the id. Safe to call from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        """Give `count` bytes that nobody else gets."""
        with self._lock:
            end = self._at + count
            if end > len(self._page):
                self._page = os.urandom(max(_PAGE_BYTES, count))
                self._at, end = 0, count
            taken = self._page[self._at : end]
            self._at = end
            return taken


class IdSource:
    """Makes UUIDv7 values that never go backwards within one process (RFC 9562, 6.2 method 1).

    Twelve counter bits follow the millisecond; when they overflow, the millisecond is borrowed from the future, so a
    burst of thousands of ids in one millisecond stays ordered. Safe to call from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noise = Noise()
        self._last = 0
        """The millisecond and the counter of the last id, as one number: an overflow is carried over by itself."""

    def new(self, now_ms: int) -> UUID:
        """Make the next id for the time `now_ms` (Unix milliseconds)."""
        [made] = self.many(now_ms, 1)
        return made

    def many(self, now_ms: int, count: int) -> list[UUID]:
        """Make `count` ids in order."""
        noise = unpack(f">{count}Q", self._noise.take(8 * count))
        with self._lock:
            first = max(now_ms << _COUNTER_BITS, self._last + 1)
            self._last = first + count - 1
        return [
            UUID(
                int=(at >> _COUNTER_BITS << 80)
                | ((_VERSION_7 | at & _COUNTER_MASK) << 64)
                | _VARIANT
                | one & _RANDOM_MASK
            )
            for at, one in zip(range(first, first + count), noise, strict=True)
        ]

    def token(self) -> str:
        """Make 24 hexadecimal digits for a name that is no id: a request's."""
        return self._noise.take(12).hex()


def time_of(value: UUID) -> int:
    """Read the Unix milliseconds that a UUIDv7 begins with."""
    return value.int >> 80


def show(prefix: str, value: UUID) -> str:
    """Write an id for the outside: `show("ntf", …) == "ntf_0195…"`."""
    return f"{prefix}_{value.int:032x}"


def read(prefix: str, text: str) -> UUID | None:
    """Read an id from the outside; `None` for anything that `show` would not have written."""
    head, _, digits = text.partition("_")
    if head != prefix or len(digits) != _HEX_LENGTH or digits != digits.lower():
        return None
    try:
        return UUID(hex=digits) if digits.isalnum() else None
    except ValueError:
        return None
