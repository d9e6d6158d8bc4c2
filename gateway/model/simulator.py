"""Addresses that answer by themselves: the whole path runs, nothing leaves, and how it ends is known beforehand.

Owns which addresses those are. Refuses to know how a simulated provider answers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

DOMAIN: Final = "simulator.invalid"
LATE_S: Final = 30
"""How long after the send the event of `late` comes, in seconds (`API.md`)."""


class Simulated(StrEnum):
    """How a delivery to a simulator address ends."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    """Delivered, then complained about."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    LATE = "late"
    """Delivered, told `LATE_S` later."""


_BY_NAME: Final = {outcome.value: outcome for outcome in Simulated}
_BY_PHONE: Final = {f"+1500555{number:04d}": outcome for number, outcome in enumerate(Simulated, start=1)}
_SEPARATORS: Final = str.maketrans("", "", " -().")


def outcome_of(channel: str, address: str) -> Simulated | None:
    """Say how a send to `address` is to end, or `None` for an address that is none of the simulator's.

    Takes the address as written or normalised. A label keeps test runs apart: `bounced+run7@simulator.invalid`.
    """
    if channel == "email":
        local, _, domain = address.rpartition("@")
        if len(domain) != len(DOMAIN) or domain.lower() != DOMAIN:
            return None
        return _BY_NAME.get(local.partition("+")[0].lower())
    if channel == "sms":
        return _BY_PHONE.get(address.translate(_SEPARATORS))
    return None
