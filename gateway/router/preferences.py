"""From what a person chooses, as a service writes it, to what can be kept, or every fault of it at once; and back.

Owns the checks that types cannot say, and what `resolved` shows. Which word decides is `model.preferences`'s to say.
Refuses to know storage and HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from gateway.errors import Code, Fault, invalid
from gateway.model.addresses import timezone_fault
from gateway.model.collect import child
from gateway.model.people import PreferencesRequest, QuietHoursRequest
from gateway.model.preferences import EVERY, Cell, Choice, resolve
from gateway.model.quiet import QuietHours, read_clock
from gateway.router.people import KNOWN_CHANNELS
from gateway.router.rules import Rules
from gateway.storage.contract import ChosenBy, PreferencesPut, PreferencesRow

_NEVER: Final = QuietHours(start=0, end=0)


class Preferences:
    """Reads choices, and resolves them, by the configured categories and channels."""

    def __init__(self, *, rules: Rules) -> None:
        self._rules = rules
        self._channels = KNOWN_CHANNELS | {"inbox"} | rules.channels.keys()

    @property
    def rules(self) -> Rules:
        """The configured categories and channels."""
        return self._rules

    def put(self, user_id: str, written: PreferencesRequest, source: ChosenBy, now: int) -> PreferencesPut:
        """Read all choices of a person; raises the 422 with every fault."""
        faults = [*self._channel_faults("channels", written.channels), *self._category_faults(written)]
        faults += _quiet_faults(written.quiet_hours)
        if faults:
            raise invalid(faults)
        return PreferencesPut(
            user_id=user_id,
            cells=dict(_cells(written)),
            quiet_hours=_quiet_hours(written.quiet_hours),
            source=source,
            now=now,
        )

    def resolved(self, row: PreferencesRow) -> dict[str, dict[str, Cell]]:
        """Decide every configured category on every channel that is configured or that the person spoke of.

        An address that left a category closes it only where the person has no other on that channel.
        """
        spoken_of = {channel for _, channel in row.user.choices.cells if channel != EVERY}
        channels = [*self._rules.channels, *sorted(spoken_of - self._rules.channels.keys())]
        return {
            name: {
                channel: resolve(
                    row.user.choices,
                    rule.terms,
                    channel,
                    opted_out=rule.settings.unsubscribe and _left(row, name, channel),
                )
                for channel in channels
            }
            for name, rule in self._rules.categories.items()
        }

    def shown_categories(self, row: PreferencesRow) -> Iterator[str]:
        """List the configured categories that the person spoke of; what is said of others could not be written back."""
        spoken_of = {category for category, _ in row.user.choices.cells}
        return (name for name in self._rules.categories if name in spoken_of)

    def _category_faults(self, written: PreferencesRequest) -> Iterator[Fault]:
        for name, chosen in written.categories.items():
            path = child("categories", name)
            if name not in self._rules.categories:
                known = ", ".join(sorted(self._rules.categories))
                yield Fault(path, Code.UNKNOWN_CATEGORY, f"There is no such category; there are {known}.")
            yield from self._channel_faults(f"{path}.channels", chosen.channels)

    def _channel_faults(self, path: str, channels: Collection[str]) -> Iterator[Fault]:
        known = ", ".join(sorted(self._channels))
        for name in channels:
            if name not in self._channels:
                yield Fault(child(path, name), Code.UNKNOWN_CHANNEL, f"There is no such channel; there are {known}.")


def _cells(written: PreferencesRequest) -> Iterator[tuple[Choice, bool]]:
    for channel, allowed in written.channels.items():
        yield (EVERY, channel), allowed
    for category, chosen in written.categories.items():
        if chosen.enabled is not None:
            yield (category, EVERY), chosen.enabled
        for channel, allowed in chosen.channels.items():
            yield (category, channel), allowed


def _quiet_faults(written: QuietHoursRequest | None) -> Iterator[Fault]:
    if written is None:
        return
    if written.enabled:
        for name, clock in (("start", written.start), ("end", written.end)):
            if clock is None:
                yield Fault(f"quiet_hours.{name}", Code.REQUIRED, "Quiet hours need both a start and an end.")
    if written.start is not None and written.start == written.end:
        message = 'Must differ from start; write {"enabled": false} for no quiet hours at all.'
        yield Fault("quiet_hours.end", Code.INVALID, message)
    if written.timezone is not None and (fault := timezone_fault(written.timezone)) is not None:
        yield Fault("quiet_hours.timezone", Code.INVALID, fault)


def _quiet_hours(written: QuietHoursRequest | None) -> QuietHours | None:
    if written is None:
        return None
    if not written.enabled or written.start is None or written.end is None:
        return _NEVER
    return QuietHours(start=read_clock(written.start), end=read_clock(written.end), timezone=written.timezone)


def _left(row: PreferencesRow, category: str, channel: str) -> bool:
    keys = [one.key for one in row.user.addresses if one.channel == channel and one.retired_at is None]
    return bool(keys) and all((channel, key, category) in row.opt_outs for key in keys)
