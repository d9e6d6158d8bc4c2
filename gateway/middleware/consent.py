"""Whether a delivery may be sent at all, and now: the address, the person, the hour.

Owns the order of these questions, asked when a delivery is planned and again just before it is sent: suppressions,
preferences, the deadline, quiet hours. Refuses to know how a message looks and where it goes. Pure; times are Unix
milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from gateway.config.settings import QuietHoursSettings
from gateway.middleware.contract import Dropped, Held
from gateway.model.preferences import Cell, Choices, words
from gateway.model.quiet import QuietHours, quiet_until, read_clock, write_clock, zone_of
from gateway.model.states import Priority, Status, Why
from gateway.storage.contract import SuppressionRow

_SILENT: Final = frozenset({"inbox"})
"""Channels that ring nowhere: who looks into their inbox is awake."""


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of quiet hours. `channels`: which are quiet; `None`: all that ring."""

    default: QuietHours | None = None
    timezone: str = "UTC"
    channels: Collection[str] | None = None

    @classmethod
    def of(cls, settings: QuietHoursSettings) -> Quiet:
        """Read the settings."""
        default = None
        if settings.start is not None and settings.end is not None:
            default = QuietHours(start=read_clock(settings.start), end=read_clock(settings.end))
        channels = None if settings.channels is None else frozenset(settings.channels)
        return cls(default=default, timezone=settings.timezone, channels=channels)

    def hours_for(self, choices: Choices, *, channel: str, priority: Priority, heeds: bool) -> QuietHours | None:
        """Say whose quiet hours a delivery has to heed: the person's own, else the default; `None`: nobody's.

        What is critical passes, and a category that does not heed them (`quiet_hours = false`).
        """
        hours = choices.quiet_hours or self.default
        if hours is None or not heeds or priority is Priority.CRITICAL:
            return None
        rings = channel not in _SILENT if self.channels is None else channel in self.channels
        return hours if rings else None

    def until(self, hours: QuietHours | None, timezone: str | None, now: int) -> Held | None:
        """Hold what would come in quiet hours. `timezone` is where the person is, if that is known.

        A zone that belongs to the hours themselves counts first.
        """
        if hours is None:
            return None
        zone = zone_of(hours.timezone, timezone, self.timezone)
        until = quiet_until(hours, zone, now)
        if until is None:
            return None
        detail = f"quiet hours from {write_clock(hours.start)} to {write_clock(hours.end)}, {zone.key}"
        return Held(until=until, reason=Why.QUIET_HOURS, detail=detail)


def decide(
    *,
    suppression: SuppressionRow | None,
    cell: Cell,
    quiet: Held | None,
    deadline_at: int,
    now: int,
) -> Dropped | Held | None:
    """Answer `None` when the delivery may be sent, else why not, or not yet.

    A suppressed address is never written to, whatever was chosen: `required` passes opt-outs, not suppressions. The
    reason is `suppressed`; why the address is on the list stands in `detail`. `cell` says whether its category may use
    its channel, and whose word that is. What `quiet` hours would hold beyond the deadline expires, and says why.
    """
    if suppression is not None:
        return Dropped(status=Status.SKIPPED, reason=Why.SUPPRESSED, detail=_because(suppression))
    if not cell.allowed:
        return Dropped(status=Status.SKIPPED, reason=Why.OPTED_OUT, detail=words(cell))
    if now >= deadline_at:
        return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED)
    if quiet is not None and quiet.until >= deadline_at:
        return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED, detail=f"{quiet.detail}, outlast its deadline")
    return quiet


def _because(suppression: SuppressionRow) -> str:
    """Say why an address is on the list and who put it there: `address_dead (smtp-main): 550 5.1.1 …`."""
    origin = f"{suppression.reason.value} ({suppression.source})"
    return origin if suppression.detail is None else f"{origin}: {suppression.detail}"
