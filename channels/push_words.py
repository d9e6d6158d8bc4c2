"""What a push notification shows, out of rendered content: shared by every push adapter.

Owns the telling of a template's own structure from the words of a plain `content` request. Refuses to know providers.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from channels.contract import Content

__all__ = ["Action", "Shown", "own_structure", "shown"]

_WORDS: Final = frozenset({"title", "body", "url", "image_url", "actions"})


class Action(msgspec.Struct, frozen=True):
    """One button."""

    label: str
    url: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The words of one notification. `body` is plain text: no push service reads Markdown."""

    title: str | None
    body: str | None
    url: str | None = None
    image_url: str | None = None
    actions: tuple[Action, ...] = ()


def own_structure(content: Content) -> Mapping[str, Any] | None:
    """Give `content.data` if it is the channel's own structure from a template, `None` if it is just words."""
    return content.data if content.data.keys() - _WORDS else None


def shown(content: Content) -> Shown:
    """Read the words: those in `data`, else subject and text."""
    data: Mapping[str, Any] = content.data if own_structure(content) is None else {}
    actions = _actions(data.get("actions"))
    url = _word(data.get("url"))
    return Shown(
        title=_word(data.get("title")) or _word(content.subject),
        body=_plain(content.text, actions, url) or _word(data.get("body")),
        url=url,
        image_url=_word(data.get("image_url")),
        actions=actions,
    )


def _plain(text: str | None, actions: Sequence[Action], url: str | None) -> str | None:
    """Take the links off the end of the rendered text: a push has its own place for them."""
    if text is None:
        return None
    own = [url] if url and url not in {action.url for action in actions} else []
    links = "\n".join([*(f"{action.label}: {action.url}" for action in actions), *own])
    body = text.strip()
    return body.removesuffix(links).rstrip() if links else body


def _word(found: object) -> str | None:
    return found if isinstance(found, str) and found else None


def _actions(found: object) -> tuple[Action, ...]:
    if not isinstance(found, list | tuple):
        return ()
    each = [cast("Mapping[str, Any]", one) for one in cast("Sequence[object]", found) if isinstance(one, Mapping)]
    return tuple(Action(str(one.get("label", "")), str(one.get("url", ""))) for one in each)
