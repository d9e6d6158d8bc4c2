"""What a message costs, and which day pays for it.

Owns the arithmetic of a channel's daily cap. Refuses to know the store, which keeps the days (`Store.spend`), and
currencies: an amount is a number of whatever the operator pays in. Pure; times are Unix milliseconds, amounts whole
millionths, so that a thousand small prices add up to what they should.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.config.settings import SpendSettings

_MILLIONTHS: Final = 1_000_000


class Day(msgspec.Struct, frozen=True):
    """A day of the operator's: when it begins, and when the next one does."""

    begins: int
    ends: int


def day_of(now: int, timezone: str) -> Day:
    """Find the day of `now`. One with a change of the clocks is an hour shorter or longer."""
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone).date()
    return Day(_midnight(today, zone), _midnight(today + timedelta(days=1), zone))


def _midnight(day: date, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, time(), zone).timestamp() * 1000)


def cost(settings: SpendSettings, address: str, segments: int) -> int:
    """Say what a message to this address costs, in millionths."""
    return round(price(settings, address) * _MILLIONTHS) * segments


def price(settings: SpendSettings, address: str) -> float:
    """Find the price of one segment: that of the longest beginning that fits the address, else the general one."""
    bare = address.removeprefix("+")
    fitting = [start for start in settings.prices if bare.startswith(start.removeprefix("+"))]
    return settings.prices[max(fitting, key=lambda start: len(start.removeprefix("+")))] if fitting else settings.price


def most(settings: SpendSettings) -> int:
    """Give the cap in millionths."""
    return round(settings.per_day * _MILLIONTHS)


def units(amount: int) -> float:
    """Turn millionths back into the operator's numbers."""
    return amount / _MILLIONTHS


def shown(amount: int) -> str:
    """Write an amount as the operator writes prices: `3.2`, `0.0079`."""
    return f"{amount / _MILLIONTHS:.6f}".rstrip("0").rstrip(".")
