"""How long a provider asks us to wait: the `Retry-After` header, read. Pure."""

from __future__ import annotations

import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["parse_retry_after"]

_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+").fullmatch
_HEADER_MOST: Final = 64  # characters: no date is longer


def parse_retry_after(text: str, now: float) -> float | None:
    """Read a `Retry-After` header (RFC 9110 10.2.3) into seconds from `now` (Unix time in seconds).

    Whole seconds, a fraction (which providers send against the RFC) or an HTTP date; a date gone by is zero. `None` for
    what is negative or not understood: then our own schedule holds. Absurd values are returned as they are (`inf` at
    the end): they lie beyond every deadline, and the schedule says so.
    """
    text = text.strip()
    if len(text) > _HEADER_MOST:
        return math.inf if text.isascii() and text.isdigit() else None
    if _SECONDS(text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    try:
        return max(0.0, at.timestamp() - now)
    except (OverflowError, ValueError):
        return None
