"""Not too often: how much of a category one person gets, and what is gathered into one message.

Owns who counts as one person, what is never gathered and why, and until when a digest waits. Refuses to know the store,
which counts and gathers for all processes. Pure; times are Unix milliseconds.

A throttle counts what is about to be sent to one person (the stored user, else the address) on one channel; what shows
on devices is counted for each device. What is captured counts too, so that a rehearsal shows what production would do,
but test keys have counts of their own.
"""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from gateway.config.settings import CategorySettings, DigestSettings, Rate, ThrottleThen
from gateway.middleware.rate_limit import Pace, recipient_key
from gateway.model.schedule import Schedule, zone_of
from gateway.model.states import Mode, Priority, Strategy

_DEVICES: Final = frozenset({"web_push", "mobile_push"})
"""Where one message to one person shows on each of their devices."""

_ENCODE: Final = msgspec.json.Encoder().encode


def throttle_pace(rate: Rate) -> Pace:
    """Keep the rate exactly as written: never more than `count` within any such time."""
    return Pace(rate.count, rate.per_s * 1000)


def throttle_key(category: str, mode: Mode, channel: str, user: str | None, address: str, *, secret: bytes) -> str:
    """Name what a person has had of a category, without storing who it is. `address` in its form for matching."""
    whose = (user or "", "" if user and channel not in _DEVICES else address)
    words = _ENCODE(("throttle", category, mode is Mode.TEST, *whose)).decode()
    return recipient_key(channel, words, secret=secret)


def digest_name(
    *, project: str, mode: Mode, category: str, channel: str, user: str | None, address: str, digest_key: str | None
) -> str:
    """Name what is gathered together: one category to one person, at one address, under one `digest_key`.

    It holds an address: the store keeps a keyed hash of it.
    """
    return _ENCODE((project, mode, category, channel, user, address, digest_key)).decode()


def gathers_all(settings: CategorySettings) -> bool:
    """Say whether a category gathers whatever it can, and not only what is too much for a person."""
    return settings.digest is not None and not gathers_rest(settings)


def gathers_rest(settings: CategorySettings) -> bool:
    """Say whether what is too much for a person is gathered."""
    return settings.throttle is not None and settings.throttle.then is ThrottleThen.DIGEST


def alone_because(*, strategy: Strategy, step: int, priority: Priority, own_terms: bool, files: bool) -> str | None:
    """Say why a message is never put into a digest; `None` where it may be."""
    if priority is Priority.CRITICAL:
        return "critical ones do not wait"
    if strategy is Strategy.ESCALATE:
        return "what escalates does not wait"
    if step > 0:
        return "it has waited for another channel already"
    if files:
        return "it carries attachments"
    if own_terms:
        return "it has overrides for this channel"
    return None


def digest_due(settings: DigestSettings, timezone: str | None, now: int) -> int:
    """Tell when a digest that begins now is sent."""
    if settings.schedule is None:
        return now + (settings.window_s or 0) * 1000
    return Schedule.parse(settings.schedule).after(now, _zone(settings, timezone))


def waits_until(settings: CategorySettings, timezone: str | None, start: int) -> int:
    """Tell until when these rules may hold a message back that could be sent at `start`: its retries begin then."""
    latest = start
    if settings.throttle is not None and settings.throttle.then is ThrottleThen.HOLD:
        latest += settings.throttle.rate.per_s * 1000
    if settings.digest is not None:
        latest = digest_due(settings.digest, timezone, latest)
        if settings.digest.schedule is not None:  # the first moment may pass before its turn comes
            latest = digest_due(settings.digest, timezone, latest)
    return latest


def _zone(settings: DigestSettings, timezone: str | None) -> ZoneInfo:
    return zone_of(timezone, settings.timezone)
