"""`/unsubscribe/{token}`: the page behind the link in a message, and the one-click of RFC 8058.

`GET` and `HEAD` never change anything, since mail programs and scanners follow links: they show a button. `POST` does
it, at once and again without harm, whether a person or a mailbox provider sends it. No script, no sign-in.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.observe.masking import mask_address
from gateway.router.unsubscribe import Expired, Link
from gateway.storage.contract import UNSUBSCRIBE_LINK, OptOutRow

_POLICY: Final = b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HTML: Final = b"text/html; charset=utf-8"

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="robots" content="noindex">
  <title>{title}</title>
  <link rel="stylesheet" href="/people/page.css">
</head>
<body>
  <main>
    <h1>{title}</h1>
    {body}
  </main>
  <footer>{product}</footer>
</body>
</html>
"""

_ASK: Final = """<p>Messages about <strong>{category}</strong> will no longer be sent to <strong>{address}</strong>.
      Messages you need, such as sign-in codes, still arrive.</p>
    <form method="post"><button type="submit">Unsubscribe</button></form>"""
_DONE: Final = """<p>No more messages about <strong>{category}</strong> will be sent to <strong>{address}</strong>.</p>
    <form method="post" action="{undo}"><button type="submit" class="quiet">That was a mistake: subscribe again</button>
    </form>"""
_BACK: Final = "<p>Messages about <strong>{category}</strong> will be sent to <strong>{address}</strong>.</p>"
_FOREIGN: Final = "<p>It may have been cut off on the way. Please open it again from the message, as a whole.</p>"
_OLD: Final = "<p>Please use the link in a newer message.</p>"


async def ask(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Show the button."""
    link = _link(context, call)
    if isinstance(link, Reply):
        return link
    return _page(context, 200, "Unsubscribe?", _words(_ASK, link))


async def unsubscribe(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Take the address off the category."""
    link = _link(context, call)
    if isinstance(link, Reply):
        return link
    row = OptOutRow(
        channel=link.channel,
        address=link.address,
        category=link.category,
        source=UNSUBSCRIBE_LINK,
        created_at=context.clock(),
    )
    await context.store.leave(row, link.user_id)
    undo = f"/unsubscribe/{escape(call.path['token'])}/undo"
    return _page(context, 200, "You are unsubscribed", _words(_DONE, link, undo=undo))


async def undo(context: ApiContext, call: Call[NoQuery, None]) -> Reply:
    """Put the address back: the button on the page that follows."""
    link = _link(context, call)
    if isinstance(link, Reply):
        return link
    key = (link.channel, link.address, link.category)
    await context.store.come_back(key, link.user_id, context.clock())
    return _page(context, 200, "You are subscribed again", _words(_BACK, link))


def _link(context: ApiContext, call: Call[Any, Any]) -> Link | Reply:
    try:
        link = context.unsubscribe_links.read(call.path["token"])
    except Expired:
        return _page(context, 410, "This link is too old", _OLD)
    return link or _page(context, 404, "This link does not work", _FOREIGN)


def _words(text: str, link: Link, **more: str) -> str:
    return text.format(category=escape(link.category), address=escape(mask_address(link.address)), **more)


def _page(context: ApiContext, status: int, title: str, body: str) -> Reply:
    product = escape(context.settings.templates.product)
    text = _PAGE.format(title=title, body=body, product=product)
    no_store = ((b"cache-control", b"no-store"),)
    return Reply(status=status, body=text.encode(), headers=no_store, media_type=_HTML, page=_POLICY)


def page_operations() -> tuple[Operation, ...]:
    """List the page's two operations. They are for people, so the document leaves them out."""
    return tuple(
        Operation(
            id=f"page:{act.__name__}",
            method=method,
            path=path,
            tag="Pages",
            summary="Unsubscribe",
            act=act,
            open=True,
            answer=AnswerRule(type=Any),
        )
        for method, path, act in (
            ("GET", "/unsubscribe/{token}", ask),
            ("POST", "/unsubscribe/{token}", unsubscribe),
            ("POST", "/unsubscribe/{token}/undo", undo),
        )
    )
