"""What the chat adapters share: words read from `content`, Markdown in each medium's own marks, and callers' URLs.

Owns the reading of `Content` into words, the writing of Markdown and the rule which URLs are a service's webhooks.
Refuses to know any service: each adapter gives its `Dialect` and its hosts. What stands in a message is data: every
letter of it passes the dialect's `text`, so that nothing in it can mention, link or format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

import msgspec

from channels.contract import Content, SettingsFault
from channels.markdown import is_link, read

__all__ = [
    "Action",
    "Dialect",
    "HookHosts",
    "Words",
    "blocks_of",
    "chosen",
    "cut",
    "plain_of",
    "reads_as_address",
    "words_of",
]

_WEB: Final = re.compile(r"https?://[!-~]+", re.IGNORECASE).fullmatch
# Words that begin like an address, or are nothing but a host's name (README.md is one, to a browser).
_READS_AS_ADDRESS: Final = re.compile(
    r"(?:.*\s)?(?:[a-z][a-z0-9+.-]*://|www\.).*|\s*(?:[a-z0-9-]+\.)+[a-z]{2,}(?:[/:?#]\S*)?\s*",
    re.IGNORECASE | re.DOTALL,
).fullmatch
_ELLIPSIS: Final = "…"


def reads_as_address(text: str) -> bool:
    """Say whether a link's words look like an address, so that they must be its own."""
    return _READS_AS_ADDRESS(text) is not None


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A button that opens an address."""

    label: str
    url: str


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said. `markdown` is the body; without it `text` is, as plain text. Addresses are http or https."""

    title: str | None = None
    markdown: str | None = None
    text: str | None = None
    url: str | None = None
    image_url: str | None = None
    actions: tuple[Action, ...] = ()


def words_of(content: Content) -> Words:
    """Read the words that the renderer hands over in `data`, or else subject and text. Other addresses are left out."""
    data = content.data
    body = data.get("body")
    return Words(
        title=_one_line(data.get("title")) or _one_line(content.subject),
        markdown=body if isinstance(body, str) else None,
        text=content.text,
        url=_web(data.get("url")),
        image_url=_web(data.get("image_url")),
        actions=_actions(data.get("actions")),
    )


def _actions(found: Any) -> tuple[Action, ...]:
    if not isinstance(found, list | tuple):
        return ()
    actions: list[Action] = []
    for each in cast("Sequence[Any]", found):
        if isinstance(each, Mapping):
            named = cast("Mapping[str, Any]", each)
            label, url = _one_line(named.get("label")), _web(named.get("url"))
            if label and url:
                actions.append(Action(label=label, url=url))
    return tuple(actions)


def _web(found: Any) -> str | None:
    return found if isinstance(found, str) and _WEB(found) else None


def _one_line(found: Any) -> str | None:
    return " ".join(found.split()) or None if isinstance(found, str) else None


def chosen(message_data: Mapping[str, Any], options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Pick a channel's own fields by name: the caller's overrides first, then what the template gave."""
    found: dict[str, Any] = {}
    for name in names:
        value = options.get(name, message_data.get(name))
        if value is not None:
            found[name] = value
    return found


def cut(text: str, most: int) -> str:
    """Shorten to `most` characters, with an ellipsis where something is missing."""
    return text if len(text) <= most else text[: most - 1] + _ELLIPSIS


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one medium marks text up. Functions get text that is marked already, except where it says raw.

    `text`, `code` and `pre` get raw text and must make it harmless; `link` gets marked words and a raw address
    (http, https or mailto, without spaces). Pairs are what stands before and after.
    """

    text: Callable[[str], str]
    strong: tuple[str, str]
    em: tuple[str, str]
    strike: tuple[str, str]
    code: Callable[[str], str]
    pre: Callable[[str], str]
    link: Callable[[str, str], str]
    heading: Callable[[str], str]
    quote: Callable[[str], str]
    bullet: str
    rule: str


_REMEMBERED: Final = 64  # bodies, of 20,000 characters at most: a message to a thousand people is read once
_EACH_PARAGRAPH: Final = re.compile(r"\n[ \t]*\n+").split


def blocks_of(words: Words, dialect: Dialect) -> list[str]:
    """Write the body, one string per block (paragraph, list, quote, …), each whole in its marks."""
    if words.markdown is not None:
        return list(_written(words.markdown, dialect))
    return [dialect.text(one) for one in _EACH_PARAGRAPH((words.text or "").strip()) if one.strip()]


@lru_cache(maxsize=_REMEMBERED)
def _written(markdown: str, dialect: Dialect) -> tuple[str, ...]:
    level = _Level("", "", "")
    outer: list[_Level] = []
    linked: list[str] = []  # the bare words since a link began
    for kind, text, address, _ in read(markdown):
        if kind == "text":
            level.line.append(dialect.text(text))
            linked.append(text)
        elif kind[0] == "/":
            inner, level = level, outer.pop()
            _close(inner, level, linked, dialect)
        elif kind in _ALONE:
            _put(level, kind, text, address, dialect)
            linked.append(text)
        else:
            if kind not in _MARKS:
                level.end_line()
            elif kind == "a":
                linked.clear()
            outer.append(level)
            level = _Level(kind, text, address)
    level.end_line()
    return tuple(block for block in level.blocks if block)


_ALONE: Final = frozenset({"code", "soft", "br", "img", "pre", "hr"})
_MARKS: Final = frozenset({"a", "strong", "em", "s"})


class _Level:
    """What was written since something was opened: whole blocks, and the pieces of the line that follows them."""

    __slots__ = ("address", "blocks", "kind", "line", "text")

    def __init__(self, kind: str, text: str, address: str) -> None:
        self.kind = kind
        self.text = text
        self.address = address
        self.blocks: list[str] = []
        self.line: list[str] = []

    def end_line(self) -> None:
        """Make a block of the words that stand between blocks: those of a tight list's items."""
        if self.line:
            self.blocks.append("".join(self.line))
            self.line.clear()


def _put(level: _Level, kind: str, text: str, address: str, dialect: Dialect) -> None:
    """Write what has no end of its own."""
    match kind:
        case "soft" | "br":
            level.line.append(text)
        case "code":
            level.line.append(dialect.code(text))
        case "img":
            level.line.append(_image(address, text or "image", dialect))
        case _:
            level.end_line()
            level.blocks.append(dialect.rule if kind == "hr" else dialect.pre(text.rstrip("\n")))


def _close(level: _Level, outer: _Level, linked: Sequence[str], dialect: Dialect) -> None:
    """Write what ends here, with its marks around it, as part of what it stands in."""
    kind = level.kind
    if kind in _MARKS:
        inside = "".join(level.line)
        if kind == "a":
            outer.line.append(_link(level.address, inside, "".join(linked), dialect))
        else:
            before, after = dialect.strong if kind == "strong" else dialect.em if kind == "em" else dialect.strike
            outer.line.append(f"{before}{inside}{after}" if inside.strip() else inside)
        return
    level.end_line()
    inside = "\n".join(level.blocks)
    match kind:
        case "p" | "td" | "th" | "table" | "ul" | "ol":
            outer.blocks.append(inside)
        case "thead" | "tbody":
            outer.blocks += level.blocks
        case "tr":
            outer.blocks.append(" | ".join(level.blocks))
        case "li":
            mark = dialect.bullet if outer.kind == "ul" else f"{int(outer.text) + len(outer.blocks)}. "
            outer.blocks.append(mark + inside.replace("\n", "\n    "))
        case "blockquote":
            outer.blocks.append(dialect.quote(inside))
        case _:
            outer.blocks.append(dialect.heading(inside))


def _link(address: str, inside: str, words: str, dialect: Dialect) -> str:
    """Write a link. One whose words read as another address than its own shows its own: no masked links."""
    if not is_link(address):
        return inside
    if reads_as_address(words) and words not in {address, address.removeprefix("mailto:")}:
        return dialect.link(dialect.text(address), address)
    return dialect.link(inside or dialect.text(address), address)


def _image(address: str, words: str, dialect: Dialect) -> str:
    return dialect.link(dialect.text(words), address) if is_link(address) else dialect.text(words)


_PLAIN: Final = Dialect(
    text=str,
    strong=("", ""),
    em=("", ""),
    strike=("", ""),
    code=str,
    pre=str,
    link=lambda words, address: words if words == address else f"{words} ({address})",
    heading=str,
    quote=str,
    bullet="- ",
    rule="",
)


def plain_of(words: Words) -> str:
    """Write everything without marks: for notifications and for clients that show nothing else. Not escaped.

    The renderer's own text has the body and the addresses already; Markdown is read once more only without it.
    """
    if words.text and words.text.strip():
        return f"{words.title}\n{words.text.strip()}" if words.title else words.text.strip()
    lines = [words.title or "", *blocks_of(words, _PLAIN), *(f"{each.label}: {each.url}" for each in words.actions)]
    return "\n".join(line for line in (*lines, words.url or "") if line)


# Which URLs that callers give are a service's webhooks.

_ORIGIN: Final = re.compile(r"(https?)://((?:\*\.)?[a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::([0-9]{1,5}))?").fullmatch
# After the host comes a port or a slash: no user, no other notation of an address, no way to end the host elsewhere.
_URL: Final = re.compile(r"(https?)://([a-zA-Z0-9.-]+)(?::([0-9]{1,5}))?(/[a-zA-Z0-9/_.~%:@!$&'()*+,;=?-]*)").fullmatch
_USUAL_PORTS: Final = {"https": 443, "http": 80}
_URL_MOST: Final = 2048  # characters


class HookHosts:
    """The origins that a service's webhooks have; `https://*.example.com` stands for every name below it.

    A URL of any other origin is never dialled, so what a caller writes cannot lead anywhere else. Raises
    `SettingsFault` for what is no origin.
    """

    def __init__(self, origins: Sequence[str], *, field: str = "webhook_origins") -> None:
        self._origins: list[tuple[str, str, int]] = []
        for origin in origins:
            found = _ORIGIN(origin.lower())
            if found is None:
                raise SettingsFault(field, "write https://host or https://*.host, with a port if it needs one")
            self._origins.append((found[1], found[2], int(found[3] or _USUAL_PORTS[found[1]])))

    def fault(self, url: str) -> str | None:
        """Say what is wrong with a webhook's URL; `None` if nothing is. Pure; repeats no input."""
        found = _URL(url) if len(url) <= _URL_MOST else None
        if found is None:
            return "not a URL of the form https://host/path"
        scheme, host, port = found[1], found[2].lower(), int(found[3] or _USUAL_PORTS[found[1]])
        for known_scheme, known_host, known_port in self._origins:
            same = host.endswith(known_host[1:]) if known_host.startswith("*.") else host == known_host
            if same and (scheme, port) == (known_scheme, known_port):
                return None
        return "not a webhook of this service"
