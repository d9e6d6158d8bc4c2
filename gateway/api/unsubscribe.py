"""`/unsubscribe/{token}`: the page behind the link in a message, and the one-click of RFC 8058.

`GET` and `HEAD` never change anything, since mail programs and scanners follow links: they show a button. `POST` does
it, at once and again without harm, whether a person or a mailbox provider sends it: a plain 200, no redirect and no
cookie (RFC 8058, 3.2). No script, no sign-in.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply
from gateway.api.operation import NoQuery, Operation
from gateway.api.people_pages import Pages, Visit, operation
from gateway.router.links import LeaveLink, Unusable
from gateway.storage.contract import UNSUBSCRIBE_LINK, OptOutRow


async def ask(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show the button."""
    visit, link = await _came(pages, context, call)
    return link if isinstance(link, Reply) else _page(pages, visit, link, "ask")


async def unsubscribe(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take the address off the category."""
    visit, link = await _came(pages, context, call)
    if isinstance(link, Reply):
        return link
    row = OptOutRow(
        channel=link.reader.channel,
        address=link.reader.address,
        category=link.category,
        source=UNSUBSCRIBE_LINK,
        created_at=context.clock(),
    )
    await context.store.leave(row, link.reader.user)
    return _page(pages, visit, link, "done")


async def undo(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Put the address back: the button on the page that follows."""
    visit, link = await _came(pages, context, call)
    if isinstance(link, Reply):
        return link
    key = (link.reader.channel, link.reader.address, link.category)
    await context.store.come_back(key, link.reader.user, context.clock())
    return _page(pages, visit, link, "back")


_HEADINGS: Final = {
    "ask": ("unsubscribe_ask", "unsubscribe_will"),
    "done": ("unsubscribe_done", "unsubscribe_no_more"),
    "back": ("unsubscribe_back", "unsubscribe_again"),
}


async def _came(pages: Pages, context: ApiContext, call: Call[NoQuery, None]) -> tuple[Visit, LeaveLink | Reply]:
    """Read the link, or answer why it leads nowhere."""
    link = context.links.leaving(call.path["token"], context.clock())
    if isinstance(link, Unusable):
        visit = pages.visit(context, call, None)
        return visit, pages.unusable(visit, link)
    visit = pages.visit(context, call, link.reader.locale)
    user = link.reader.user
    if user is not None and await context.store.user(user) is None:
        # Noting an opt-out would store an address of somebody who had all of them erased.
        return visit, pages.notice(visit, "person_gone", status=410)
    settings = context.settings.categories.get(link.category)
    if settings is not None and settings.required:
        said = pages.text(visit, "unsubscribe_cannot", category=pages.category(visit, link.category))
        return visit, pages.page(visit, "notice", "unsubscribe_always", said=said)
    return visit, link


def _page(pages: Pages, visit: Visit, link: LeaveLink, step: str) -> Reply:
    title, said = _HEADINGS[step]
    path = visit.root + visit.context.links.nearby(link.reader, visit.context.clock())
    words: dict[str, Any] = {
        "category": pages.category(visit, link.category),
        "channel": pages.channel(visit, link.reader.channel),
        "address": pages.hint(visit, link.reader.channel, link.reader.address),
    }
    return pages.page(
        visit,
        "unsubscribe",
        title,
        again=step == "ask",
        step=step,
        said=pages.text(visit, said, **words),
        undo=f"{visit.root}/unsubscribe/{visit.token}/undo{visit.in_language}",
        preferences=f"{path}{visit.in_language}",
    )


def page_operations(pages: Pages) -> tuple[Operation, ...]:
    """List the page's operations."""
    return (
        operation("GET", "/unsubscribe/{token}", "Unsubscribe?", partial(ask, pages)),
        operation("POST", "/unsubscribe/{token}", "Unsubscribe", partial(unsubscribe, pages)),
        operation("POST", "/unsubscribe/{token}/undo", "Subscribe again", partial(undo, pages)),
    )
