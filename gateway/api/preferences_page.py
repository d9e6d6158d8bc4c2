"""`/preferences/{token}`: the page on which people choose what they get, behind the link in a message.

`GET` and `HEAD` never change anything. `POST` saves what the reader changed and answers with a redirection to the page,
so that going back or reloading sends nothing twice. For a stored person it shows and keeps the choices that the API
shows and keeps; for an address that no person is stored for, which categories the address has left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply
from gateway.api.operation import NoQuery, Operation
from gateway.api.people_pages import Pages, Visit, operation, read_form
from gateway.model.preferences import EVERY, Choice
from gateway.model.quiet import QuietHours, read_clock, write_clock
from gateway.router.links import ChooseLink, Reader, Unusable
from gateway.router.rules import said_in
from gateway.router.sheet import (
    Quiet,
    Section,
    Sheet,
    Toggle,
    address_sheet,
    as_choices,
    changes,
    nothing_optional,
    person_sheet,
)
from gateway.storage.contract import AddressChange, AddressRow, ChosenBy, PreferencesChange, PreferencesRow

_SEE_OTHER: Final = 303
_ALL: Final = "*"
"""Stands for every category in the form: a name of a category never does."""
_NEVER: Final = QuietHours(start=0, end=0)


class _Desk(msgspec.Struct, frozen=True, kw_only=True):
    """A reader at their page. `row` is `None` for an address that no person is stored for."""

    visit: Visit
    link: ChooseLink
    row: PreferencesRow | None
    sheet: Sheet

    @property
    def only(self) -> str | None:
        """The one channel that the link opens, where it opens no more."""
        return None if self.link.whole else self.link.reader.channel


class _Form(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: what the page had shown, and what was chosen."""

    was: frozenset[Choice]
    was_not: frozenset[Choice]
    on: frozenset[Choice]
    quiet_was: str
    quiet_start: str
    quiet_end: str


async def show(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show the page."""
    desk = await _desk(pages, context, call)
    return desk if isinstance(desk, Reply) else _page(pages, desk)


async def save(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Keep what the reader changed, or everything off."""
    desk = await _desk(pages, context, call)
    if isinstance(desk, Reply):
        return desk
    fields = read_form(call)
    if "everything" in fields:
        return await _turned_off(pages, desk)
    form = _read(fields)
    turned = changes(desk.sheet, form.was, form.was_not, form.on)
    if desk.row is None:
        await _keep_address(desk, turned)
        return _saved(desk)
    quiet = _quiet_chosen(form, desk)
    if isinstance(quiet, str):
        return _page(pages, desk, form=form, fault=str(pages.text(desk.visit, quiet)))
    cells = as_choices(turned, desk.row.user.choices.cells)
    return await _keep(pages, desk, cells, quiet)


async def _desk(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> _Desk | Reply:
    """Read the link and look up what it opens, or answer why it leads nowhere."""
    link = context.links.choosing(call.path["token"], context.clock())
    if isinstance(link, Unusable):
        return pages.unusable(pages.visit(context, call, None), link)
    reader = link.reader
    visit = pages.visit(context, call, reader.locale)
    if reader.user is None:
        sheet = await _address_sheet(context, reader)
        return _Desk(visit=visit, link=link, row=None, sheet=sheet)
    row = await context.store.preferences(reader.user)
    if row is None:
        return pages.notice(visit, "person_gone", status=410)
    only = None if link.whole else reader.channel
    sheet = person_sheet(context.preferences.rules, row, context.preferences.resolved(row), only=only)
    return _Desk(visit=visit, link=link, row=row, sheet=sheet)


async def _address_sheet(context: ApiContext, reader: Reader) -> Sheet:
    rules = context.preferences.rules
    asked = [(reader.channel, reader.address, name) for name in rules.categories]
    left = {category for _, _, category in await context.store.opted_out(asked)}
    return address_sheet(rules, reader.channel, left)


async def _turned_off(pages: Pages, desk: _Desk) -> Reply:
    if desk.row is None:
        await _keep_address(desk, {msgspec.structs.replace(toggle, on=False) for toggle in desk.sheet.optional})
        return _saved(desk)
    rules = desk.visit.context.preferences.rules
    cells = nothing_optional(rules, desk.sheet, desk.row.user.choices.cells, only=desk.only)
    return await _keep(pages, desk, cells, UNSET)


async def _keep_address(desk: _Desk, turned: Iterable[Toggle]) -> None:
    context, reader = desk.visit.context, desk.link.reader
    turned = list(turned)
    await context.store.change_address(
        AddressChange(
            channel=reader.channel,
            address=reader.address,
            leaves={toggle.category for toggle in turned if not toggle.on},
            comes_back={toggle.category for toggle in turned if toggle.on},
            source=ChosenBy.PAGE.value,
            now=context.clock(),
        ),
    )


async def _keep(
    pages: Pages, desk: _Desk, cells: dict[Choice, bool | None], quiet: QuietHours | UnsetType | None
) -> Reply:
    context, reader = desk.visit.context, desk.link.reader
    change = PreferencesChange(
        user_id=reader.user or "",
        cells=cells,
        quiet_hours=quiet,
        address=(reader.channel, reader.address),
        source=ChosenBy.PAGE,
        now=context.clock(),
    )
    if await context.store.change_preferences(change) is None:
        return pages.notice(desk.visit, "person_gone", status=410)
    return _saved(desk)


def _saved(desk: _Desk) -> Reply:
    visit = desk.visit
    more = f"{visit.in_language}&saved=1" if visit.in_language else "?saved=1"
    where = f"{visit.root}/preferences/{visit.token}{more}"
    return Reply(status=_SEE_OTHER, body=b"", headers=((b"location", where.encode("ascii")),), media_type=b"text/plain")


def _read(fields: Mapping[str, Sequence[str]]) -> _Form:
    def choices(name: str) -> frozenset[Choice]:
        return frozenset(_choice(value) for value in fields.get(name, ()))

    def one(name: str) -> str:
        return next(iter(fields.get(name, ())), "").strip()

    return _Form(
        was=choices("was"),
        was_not=choices("was_not"),
        on=choices("on"),
        quiet_was=one("quiet_was"),
        quiet_start=one("quiet_start"),
        quiet_end=one("quiet_end"),
    )


def _key(toggle: Toggle) -> str:
    return f"{toggle.category if toggle.category != EVERY else _ALL}/{toggle.channel}"


def _choice(key: str) -> Choice:
    category, _, channel = key.partition("/")
    return (EVERY if category == _ALL else category, channel)


def _quiet_chosen(form: _Form, desk: _Desk) -> QuietHours | UnsetType | str | None:
    """Read the quiet hours: `UNSET` where they were not changed, a key of the words where they cannot be read."""
    quiet = desk.sheet.quiet
    start, end = form.quiet_start[:5], form.quiet_end[:5]  # some browsers send seconds
    if quiet is None or f"{start}-{end}" == form.quiet_was:
        return UNSET
    if not start and not end:
        return _NEVER if quiet.by_default else None
    if not _is_clock(start) or not _is_clock(end):
        return "quiet_both"
    if start == end:
        return "quiet_equal"
    zone = None if quiet.hours is None else quiet.hours.timezone
    return QuietHours(start=read_clock(start), end=read_clock(end), timezone=zone)


def _is_clock(text: str) -> bool:
    hours, colon, minutes = text.partition(":")
    if not colon or not (hours + minutes).isascii() or not (hours + minutes).isdigit():
        return False
    return len(hours) == 2 == len(minutes) and int(hours) < 24 and int(minutes) < 60  # noqa: PLR2004 - a clock's


def _page(pages: Pages, desk: _Desk, *, form: _Form | None = None, fault: str | None = None) -> Reply:
    """Make the page: as things stand, or as the reader left it where something has to be mended first."""
    visit, sheet, reader = desk.visit, desk.sheet, desk.link.reader
    every = (*sheet.optional, *sheet.channels)
    # A page that comes back still says what the first one showed, else the reader's changes would look like none.
    shown_on = {toggle.choice for toggle in every if toggle.on} if form is None else form.was

    def as_left(toggle: Toggle) -> Toggle:
        return toggle if form is None or toggle.fixed else msgspec.structs.replace(toggle, on=toggle.choice in form.on)

    narrow = desk.row is None or desk.only is not None
    address = pages.hint(visit, reader.channel, reader.address)
    return pages.page(
        visit,
        "preferences",
        "preferences",
        status=200 if fault is None else 422,
        again=fault is None,
        whose=pages.text(visit, "whose_address" if narrow else "whose", address=address),
        enough=pages.text(visit, "everything_hint_here" if narrow else "everything_hint", address=address),
        saved="saved" in visit.query and form is None,
        fault=fault,
        action=f"{visit.root}/preferences/{visit.token}{visit.in_language}",
        key=_key,
        shown_on={_key(toggle) for toggle in every if toggle.choice in shown_on},
        sections=[_section(pages, visit, section, as_left) for section in sheet.sections],
        channels=[(as_left(one), *_master(pages, desk, one)) for one in sheet.channels],
        quiet=None if sheet.quiet is None else _quiet_words(sheet.quiet, form),
        anything=bool(sheet.optional),
    )


def _section(pages: Pages, visit: Visit, section: Section, as_left: Any) -> dict[str, Any]:
    settings = visit.context.settings.categories.get(section.category)
    return {
        "title": pages.category(visit, section.category),
        "description": "" if settings is None else said_in(visit.language, settings.description),
        "required": section.required,
        "rows": [
            (as_left(toggle), _capital(pages.channel(visit, toggle.channel)), _note(pages, visit, section, toggle))
            for toggle in section.toggles
        ],
    }


def _note(pages: Pages, visit: Visit, section: Section, toggle: Toggle) -> str:
    if toggle.fixed and not section.required:
        return pages.text(visit, "fixed_on" if toggle.on else "fixed_off")
    if toggle.by_channel:
        return pages.text(visit, "channel_off_here", channel=pages.channel(visit, toggle.channel))
    return ""


def _master(pages: Pages, desk: _Desk, toggle: Toggle) -> tuple[str, str]:
    visit, row = desk.visit, desk.row
    addresses: tuple[AddressRow, ...] = () if row is None else row.user.addresses
    hints = [
        one.label or pages.hint(visit, one.channel, one.address)
        for one in addresses
        if one.channel == toggle.channel and one.retired_at is None
    ]
    return _capital(pages.channel(visit, toggle.channel)), ", ".join(hints)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _quiet_words(quiet: Quiet, form: _Form | None) -> dict[str, str]:
    start = "" if quiet.hours is None else write_clock(quiet.hours.start)
    end = "" if quiet.hours is None else write_clock(quiet.hours.end)
    if form is None:
        return {"quiet_start": start, "quiet_end": end, "was": f"{start}-{end}", "zone": quiet.zone}
    return {
        "quiet_start": form.quiet_start,
        "quiet_end": form.quiet_end,
        "was": form.quiet_was,
        "zone": quiet.zone,
    }


def page_operations(pages: Pages) -> tuple[Operation, ...]:
    """List the page's operations."""
    return (
        operation("GET", "/preferences/{token}", "Choose what you get", partial(show, pages)),
        operation("POST", "/preferences/{token}", "Save it", partial(save, pages)),
    )
