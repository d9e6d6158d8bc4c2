"""How data is made harmless in each chat service's marks: one function per service, for adapters and for templates.

Owns the escapes. Refuses to know messages. Each takes raw text and answers what shows as that text. Pure.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "bracketed_address",
    "discord",
    "discord_data",
    "discord_marks",
    "discord_unmentioned",
    "markdown",
    "slack",
    "slack_address",
    "slack_escape",
    "slack_label",
    "teams",
]

# Slack: "&, <, and >" are its only control characters; `<!channel>` and `<@U…>` need them.
# `|` would end the address within a link; Slack reads the rest as what is to be shown.
_SLACK_IN_LINK: Final = str.maketrans({"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C"})
_SLACK_BARE: Final = re.compile(r"https?://[^\s<>|\"'`*~]+[^\s<>|\"'`*~.,;:!?)\]]")


def slack_escape(text: str) -> str:
    """Make text harmless."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def slack_address(address: str) -> str:
    """Write an address within a link's angle brackets."""
    return address.translate(_SLACK_IN_LINK)


def slack_label(text: str) -> str:
    """Write the words of a link."""
    return slack_escape(text).replace("|", " ")


def slack(text: str) -> str:
    """Escape, and link bare addresses: `verbatim` blocks link none by themselves."""
    if "://" not in text:
        return slack_escape(text)
    pieces: list[str] = []
    at = 0
    for found in _SLACK_BARE.finditer(text):
        pieces += [slack_escape(text[at : found.start()]), f"<{slack_address(found[0])}>"]
        at = found.end()
    return "".join([*pieces, slack_escape(text[at:])])


# Discord's Markdown has an escape for each of its marks. `<` begins mentions, timestamps and commands; `#` and `-`
# mean something at the beginning of a line only.
_DISCORD_MARKS: Final = re.compile(r"[\\*_~`|<>\[\]@]|(?<![^\s])[#-]")
_DISCORD_PERHAPS: Final = re.compile(r"[\\*_~`|<>\[\]@#-]").search  # a quick look, since most words have none
_DISCORD_BARE: Final = re.compile(r"https?://[^\s<>\"'`|]+")
_DISCORD_MENTION: Final = re.compile(r"\\?@(?=everyone|here|[!&]?[0-9]{15})")


def discord(text: str) -> str:
    """Escape, but leave bare addresses as they are: Discord links them, and an escape would become part of them."""
    if "://" not in text:
        return discord_marks(text)
    pieces: list[str] = []
    at = 0
    for found in _DISCORD_BARE.finditer(text):
        pieces += [discord_marks(text[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*pieces, discord_marks(text[at:])])


def discord_marks(text: str) -> str:
    """Escape alone: where addresses are not linked."""
    return _DISCORD_MARKS.sub(r"\\\g<0>", text) if _DISCORD_PERHAPS(text) else text


def discord_data(text: str) -> str:
    """Escape, and break mentions: a template may allow some of its own, and Discord finds them behind a backslash."""
    return discord_unmentioned(discord(text))


def discord_unmentioned(text: str) -> str:
    """Break mentions alone: where no marks are read."""
    return _DISCORD_MENTION.sub("@\u200b", text)


# Teams reads a subset of Markdown in every TextBlock. `<at>` mentions somebody only together with an entity beside the
# card, which no data can bring.
_TEAMS_MARKS: Final = re.compile(r"[\\*_\[\]`]|^(?=\s*(?:[-+#>]|\d+[.)])\s)", re.MULTILINE)
_TEAMS_PERHAPS: Final = re.compile(r"[\\*_\[\]`+#>-]|\d[.)]").search
_ZERO_WIDTH: Final = "\u200b"


def teams(text: str) -> str:
    """Put a zero-width space before what would begin a list or a heading, and a backslash before other marks."""
    if _TEAMS_PERHAPS(text) is None:
        return text
    return _TEAMS_MARKS.sub(lambda found: "\\" + found[0] if found[0] else _ZERO_WIDTH, text)


def bracketed_address(address: str) -> str:
    """Write an address within Markdown's `(…)` or `<…>`."""
    return address.replace("(", "%28").replace(")", "%29").replace("<", "%3C").replace(">", "%3E")


_MARKDOWN: Final = re.compile(r"[!\"#&'()*+\-.<=>\[\\\]_`|~]")


def markdown(text: str) -> str:
    """Write text within Markdown (CommonMark 2.4): a mark behind a backslash is a letter. On one line."""
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))
