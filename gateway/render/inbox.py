"""What the inbox shows: words, as text and as HTML that a service's page may put among its own.

Owns the form of an item's content. The HTML is what Markdown can become and no more: a template's own is
cleaned to that; addresses are http or https, or they are left out. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

from channels.contract import Content
from channels.markdown import read
from gateway.render.markdown import Dress, html, is_web_address, plain
from gateway.render.sandbox import escape_markdown

_OWN: Final = frozenset({"title", "body", "url", "image_url", "actions"})
"""What of `data` has a place of its own in an item; all else is the template's, and handed on."""
_BARE: Final = Dress({})


def inbox_content(content: Content) -> Content:
    """Make an item's content of what was rendered for it: `data` keeps `url`, `image_url`, `actions` and the rest."""
    title = content.subject or _text(content.data.get("title"))
    body = content.data.get("body")
    if isinstance(body, str):
        tokens = read(body)
        text, shown = plain(tokens), html(tokens, _BARE)
    else:
        text = content.text or ""
        shown = _BARE.clean(content.html) if content.html else html(read(escape_markdown(text)), _BARE)
    return msgspec.structs.replace(
        content, subject=title, text=text.strip(), html=shown.strip() or None, data=_data(content.data)
    )


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in data.items() if name not in _OWN}
    for name in ("url", "image_url"):
        address = data.get(name)
        found[name] = address if isinstance(address, str) and is_web_address(address) else None
    given = data.get("actions")
    found["actions"] = [action for one in cast("list[Any]", given or ()) if (action := _action(one)) is not None]
    return found


def _action(given: object) -> dict[str, str] | None:
    if not isinstance(given, Mapping):
        return None
    written = cast("Mapping[str, Any]", given)
    label, url = _text(written.get("label")), _text(written.get("url"))
    return {"label": label or url, "url": url} if url is not None and is_web_address(url) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
