"""Several messages as one: the built-in layout of a digest.

Pure. Owns how many messages are shown and in how many words on each medium. What it makes is a title and Markdown,
which go the same way as any other content. Refuses to know where the messages come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.render.sandbox import escape_markdown

_WHOLE: Final = frozenset({"email", "webhook", "inbox"})
"""Media with room for whole messages; chats show titles with links, and a notification on a screen titles alone."""
_BRIEF: Final = frozenset({"sms", "web_push", "mobile_push"})
_CHAT_MOST: Final = 20
_BRIEF_MOST: Final = 5
_WITHOUT_ITEMS: Final = frozenset({"web_push", "mobile_push", "inbox"})
"""A push carries 4 KB, and its adapters send what is more than words as a structure of the template's own. An inbox is
read by a person's browser, which is to see what a template says and not all that it was given."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a digest: what its own message would have been made of. `body` is Markdown."""

    title: str
    body: str
    url: str | None
    data: Mapping[str, Any]
    created_at: str
    reference: str | None


def title_of(words: Mapping[str, str], category: str, count: int) -> str:
    """Write the title: `Orders: 5 new`, or `5 new messages` for a category without a description."""
    wording = words.get("digest_of", "{category}: {count} new") if category else words.get("digest", "{count} new")
    return wording.replace("{count}", str(count)).replace("{category}", category)


def body_of(words: Mapping[str, str], channel: str, items: Sequence[Item], count: int) -> str:
    """Write the body in Markdown: the newest messages that the medium has room for, and how many there are beside."""
    if channel in _WHOLE:
        shown = items
        blocks = [_whole(one) for one in shown]
    else:
        shown = items[-(_BRIEF_MOST if channel in _BRIEF else _CHAT_MOST) :]
        blocks = ["\n".join(f"- {_title(one, link=channel not in _BRIEF)}" for one in shown)]
    if count > len(shown):
        more = words.get("digest_more", "and {count} earlier ones").replace("{count}", str(count - len(shown)))
        blocks.append(more)
    return ("\n\n---\n\n" if channel in _WHOLE else "\n\n").join(blocks)


def data_of(channel: str, items: Sequence[Item], count: int) -> dict[str, Any]:
    """Give the messages themselves to whoever reads data: receivers of webhooks, and who looks at captured messages."""
    if channel in _WITHOUT_ITEMS:
        return {}
    return {"count": count, "items": [msgspec.to_builtins(one) for one in items]}


def _whole(one: Item) -> str:
    return "\n\n".join(part for part in (f"### {_title(one, link=True)}", one.body.strip()) if part)


def _title(one: Item, *, link: bool) -> str:
    title = escape_markdown(one.title)
    if not link or one.url is None:
        return title
    return f"[{title}](<{one.url.replace('<', '%3C').replace('>', '%3E')}>)"
