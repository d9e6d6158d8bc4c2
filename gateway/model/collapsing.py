"""What a `collapse_key` speaks of: the messages of one key to one address, of which only the newest matters."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from gateway.model.addresses import match_key

_ENCODE: Final = msgspec.json.Encoder().encode


def place_of(project: str, collapse_key: str, channel: str, address: str) -> bytes:
    """Name the place where a newer message replaces an older one: 32 bytes, however long an address is.

    E-mail addresses that differ in case alone are one place, as they are one recipient everywhere else.
    """
    whose = match_key(address) if channel == "email" else address
    return hashlib.sha256(_ENCODE((project, collapse_key, channel, whose))).digest()
