"""What the preference page shows, and what is meant when it comes back.

Pure. Owns which cells a reader may see and turn. A form says what its page showed beside what was chosen, so that only
what the reader changed is a change: two pages, or a page and a service, do not undo each other. Refuses to know HTML,
languages and storage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.model.inbox import INBOX
from gateway.model.preferences import EVERY, NO_CHOICES, Cell, Choice, Source, resolve
from gateway.model.quiet import QuietHours, zone_of
from gateway.router.rules import DEFAULT_CATEGORY, CategoryRule, Rules
from gateway.storage.contract import PreferencesRow

_FIXED: Final = frozenset({Source.LOCK, Source.REQUIRED})


class Toggle(msgspec.Struct, frozen=True, kw_only=True):
    """One cell, or a whole channel (`category` is `EVERY`)."""

    category: str
    channel: str
    on: bool
    fixed: bool = False
    by_channel: bool = False
    """Off because the person said no to the channel, and not to this."""

    @property
    def choice(self) -> Choice:
        """What turning it is about."""
        return (self.category, self.channel)


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One category."""

    category: str
    required: bool
    toggles: tuple[Toggle, ...]


class Quiet(msgspec.Struct, frozen=True, kw_only=True):
    """The hours that hold for a person, their own or the default; `hours` is `None` where there are none."""

    hours: QuietHours | None
    zone: str
    by_default: bool


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """All that one page shows. `channels` and `quiet` only where it is about a person as a whole."""

    sections: tuple[Section, ...]
    channels: tuple[Toggle, ...] = ()
    quiet: Quiet | None = None

    @property
    def optional(self) -> tuple[Toggle, ...]:
        """The cells that can be turned."""
        return tuple(toggle for section in self.sections for toggle in section.toggles if not toggle.fixed)


def person_sheet(
    rules: Rules, row: PreferencesRow, resolved: Mapping[str, Mapping[str, Cell]], *, only: str | None
) -> Sheet:
    """Show a person's settings, on the channels they have addresses on; `only`: on one channel and nothing more."""
    reached = {one.channel for one in row.user.addresses if one.retired_at is None} | {
        INBOX
    }  # whoever is stored has one
    channels = [name for name in rules.channels if name in reached and only in (None, name)]
    sections = tuple(_sections(rules, channels, resolved))
    if only is not None:
        return Sheet(sections=sections)
    cells = row.user.choices.cells
    used = {toggle.channel for section in sections for toggle in section.toggles if not toggle.fixed}
    return Sheet(
        sections=sections,
        channels=tuple(
            Toggle(category=EVERY, channel=name, on=cells.get((EVERY, name)) is not False)
            for name in channels
            if name in used
        ),
        quiet=_quiet(rules, row),
    )


def address_sheet(rules: Rules, channel: str, left: Collection[str]) -> Sheet:
    """Show what can be said for an address that no person is stored for: the categories it may leave, and `left`.

    What needs a yes is not shown: an address cannot say it, since only a person's choices are kept.
    """
    resolved = {
        name: {channel: resolve(NO_CHOICES, rule.terms, channel, opted_out=name in left)}
        for name, rule in rules.categories.items()
        if rule.settings.unsubscribe or rule.terms.required
    }
    closed = {name for name, cells in resolved.items() if cells[channel].source is Source.CATEGORY_DEFAULT}
    shown = {name: cells for name, cells in resolved.items() if name not in closed}
    return Sheet(sections=tuple(_sections(rules, [channel], shown)))


def changes(sheet: Sheet, was: Collection[Choice], was_not: Collection[Choice], on: Collection[Choice]) -> set[Toggle]:
    """List the toggles that the reader turned, as they are now: what was shown on or off, and is the other now."""
    turned = {choice for choice in was if choice not in on} | {choice for choice in was_not if choice in on}
    return {
        msgspec.structs.replace(toggle, on=toggle.choice in on)
        for toggle in (*sheet.optional, *sheet.channels)
        if toggle.choice in turned
    }


def as_choices(turned: Collection[Toggle], before: Mapping[Choice, bool]) -> dict[Choice, bool | None]:
    """Say what a person's choices become; `None` takes one back.

    A channel that is turned off is off: what they once asked for on it by name would pass otherwise.
    """
    found: dict[Choice, bool | None] = {}
    for toggle in turned:
        if toggle.category == EVERY and not toggle.on:
            found |= dict.fromkeys((one for one, yes in before.items() if one[1] == toggle.channel and yes), None)
    return found | {toggle.choice: toggle.on for toggle in turned}


def nothing_optional(
    rules: Rules, sheet: Sheet, before: Mapping[Choice, bool], *, only: str | None
) -> dict[Choice, bool | None]:
    """Say what "unsubscribe from everything" makes of a person's choices: no to each category that may be refused.

    It says so of the category as a whole, so that it holds for devices that come later; on `only` one channel, of that.
    """
    optional = [name for name, rule in rules.categories.items() if not rule.terms.required]
    if only is not None:
        return {toggle.choice: False for toggle in sheet.optional}
    named: dict[Choice, bool | None] = dict.fromkeys(one for one in before if one[0] in optional and one[1] != EVERY)
    return {**named, **dict.fromkeys(((name, EVERY) for name in optional), False)}


def _sections(rules: Rules, channels: Sequence[str], resolved: Mapping[str, Mapping[str, Cell]]) -> Iterator[Section]:
    # The default category is what is left over, so it stands last.
    for name in sorted(rules.categories, key=lambda one: one == DEFAULT_CATEGORY):
        cells = resolved.get(name)
        if cells is None:
            continue
        rule = rules.categories[name]
        toggles = tuple(_toggle(name, channel, cells[channel]) for channel in channels if _uses(rule, channel))
        if toggles:
            yield Section(category=name, required=rule.terms.required, toggles=toggles)


def _toggle(category: str, channel: str, cell: Cell) -> Toggle:
    return Toggle(
        category=category,
        channel=channel,
        on=cell.allowed,
        fixed=cell.source in _FIXED,
        by_channel=cell.source is Source.CHANNEL and not cell.allowed,
    )


def _uses(rule: CategoryRule, channel: str) -> bool:
    """Say whether a category may use a channel; the inbox only where it is named, as with a send."""
    return channel != INBOX if rule.channels is None else channel in rule.channels


def _quiet(rules: Rules, row: PreferencesRow) -> Quiet:
    own = row.user.choices.quiet_hours
    hours = own or rules.quiet.default
    zone = zone_of(None if hours is None else hours.timezone, row.user.timezone, rules.quiet.timezone)
    never = hours is None or hours.start == hours.end
    return Quiet(hours=None if never else hours, zone=zone.key, by_default=rules.quiet.default is not None)
