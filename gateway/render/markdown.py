"""Markdown as mail HTML and as plain text, and the addresses that a `content` request may carry.

Owns what Markdown may become: links to http, https and mailto only, images over https only, and every other character
escaped between tags of our own. `channels.markdown` reads it, to whom HTML is words. The text form is for people: it
keeps lists and quotes readable and writes a link's address beside its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

import nh3

from channels.markdown import Token, is_link
from gateway.model.requests import ContentRequest

TAGS: Final = (
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
)  # fmt: skip
"""What Markdown can become, and `del`. A layout styles each by the class `md-<tag>`."""

_NO_CLASS: Final = frozenset({"br", "em", "s", "del", "strong", "tbody", "thead", "tr"})
"""Tags that nobody styles go without a class: they are many, and mailbox programs cut long messages."""
_MARKS: Final = frozenset({"em", "s", "strong", "/em", "/s", "/strong"})
_WITH_WORDS: Final = frozenset({"a", "code", "img", "ol", "pre"})
"""Tags that are not the same every time."""
_LINES: Final = frozenset(TAGS) - {"a", "br", "code", "em", "img", "s", "del", "strong"}
"""Tags that begin a line of the source, and whose end ends one."""


def class_of(tag: str) -> str:
    """Name the class a layout styles a Markdown tag by; empty where it has none."""
    return "" if tag in _NO_CLASS else f"md-{tag}"


class Dress:
    """What Markdown's HTML wears in one layout: the attributes written on each tag, and the sanitiser that knows them.

    The sanitiser is for HTML that somebody else wrote, and lets exactly these values through. It would change nothing
    in what `html` writes, but addresses that no browser could open: a test holds the two to each other.
    """

    def __init__(self, styles: Mapping[str, str]) -> None:
        """Take the style of each tag; a tag without one wears only its class."""
        worn: dict[str, dict[str, str]] = {}
        for tag in TAGS:
            found = {"class": class_of(tag), "style": styles.get(tag, "")}
            worn[tag] = {name: value for name, value in found.items() if value}
        self.clean = nh3.Cleaner(
            tags=set(TAGS),
            attributes={"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}},
            tag_attribute_values={
                tag: {name: {value} for name, value in pairs.items()} for tag, pairs in worn.items() if pairs
            },
            url_schemes={"http", "https", "mailto"},
            url_relative="deny",
            link_rel="noopener noreferrer",
        ).clean
        self.attributes: Final = {
            tag: "".join(f' {name}="{_quoted(value)}"' for name, value in pairs.items()) for tag, pairs in worn.items()
        }
        """What stands behind each tag's name."""
        self.written: Final = {"soft": "\n"}
        """What tokens without words become."""
        for tag, attributes in self.attributes.items():
            if tag in _WITH_WORDS:
                continue
            self.written["/" + tag] = f"</{tag}>\n" if tag in _LINES else f"</{tag}>"
            self.written[tag] = f"<{tag}{attributes}>\n" if tag in {"br", "hr"} else f"<{tag}{attributes}>"


def html(tokens: Iterable[Token], dress: Dress) -> str:
    """Write HTML in which nothing but tags of our own is a tag. A link that may lead nowhere is its words."""
    pieces = ["\n"]
    linked = False
    for kind, text, address, title in tokens:
        if kind == "text":
            pieces.append(_escaped(text))
        elif kind == "a":
            linked = is_link(address)
            if linked:
                attributes = f'{_titled(title)}{dress.attributes["a"]} rel="noopener noreferrer"'
                pieces.append(f'<a href="{_quoted(address)}"{attributes}>')
        elif kind == "/a":
            pieces.append("</a>" if linked else "")
        else:
            if kind in _LINES and pieces[-1][-1:] != "\n":
                pieces.append("\n")
            known = dress.written.get(kind)
            pieces.append(_with_words(kind, text, address, title, dress) if known is None else known)
    return "".join(pieces[1:])


def _with_words(kind: str, text: str, address: str, title: str, dress: Dress) -> str:
    worn = dress.attributes[kind.removeprefix("/")]
    match kind:
        case "code":
            return f"<code{worn}>{_escaped(text)}</code>"
        case "pre":
            # Without the usual <code> inside: mail programs need styles on the tag, and inline code has a frame of its
            # own. A line break at the beginning is none to HTML (its section 13.1.2.5).
            return f"<pre{worn}>{_escaped(text.removeprefix(_BREAK))}</pre>\n"
        case "ol":
            return f"<ol{worn}>" if text == "1" else f'<ol start="{text}"{worn}>'
        case "img" if is_link(address) and address.lower().startswith("https://"):
            return f'<img src="{_quoted(address)}" alt="{_quoted(text)}"{_titled(title)}{worn}>'
        case "img":
            return _escaped(text)
        case _:
            return f"</{kind[1:]}>\n"


_BREAK: Final = "\n"
_SPECIAL: Final = re.compile('[&<>"\xa0\r]').search


def _escaped(text: str) -> str:
    """Write text as browsers do (WHATWG HTML 13.3), with no carriage return, which their readers do not keep."""
    if _SPECIAL(text) is None:
        return text
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\xa0", "&nbsp;").replace("\r", "\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', "&quot;")


def _titled(title: str) -> str:
    return f' title="{_quoted(title)}"' if title else ""


def plain(tokens: Iterable[Token]) -> str:
    """Write plain text."""
    page = _Page()
    words: list[str] = []
    link: tuple[int, str] = (0, "")
    for kind, text, address, _ in tokens:
        if kind in _WORDS:
            words.append(" " if kind == "soft" else text)
        elif kind == "a":
            link = (len(words), address)
        elif kind == "/a":
            start, target = link
            words[start:] = [_with_target("".join(words[start:]), target)]
        elif kind not in _MARKS:
            if kind in _CELL_ENDS:
                page.cells.append("".join(words))
            else:
                if words:
                    page.put("".join(words))
                page.block(kind, text)
            words.clear()
    return "\n".join(page.lines).strip("\n")


_WORDS: Final = frozenset({"text", "code", "img", "br", "soft"})
_CELL_ENDS: Final = frozenset({"/td", "/th"})


def _with_target(words: str, target: str) -> str:
    bare = target.removeprefix("mailto:")
    return words if words in {target, bare} else f"{words} ({bare})" if words else bare


class _Page:
    """The lines so far. `prefix` is what every line of the open blocks starts with."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.prefix: list[str] = []
        self.marker = ""
        self.counters: list[int | None] = []
        self.cells: list[str] = []

    def put(self, text: str) -> None:
        for line in text.split("\n"):
            prefix = "".join(self.prefix)
            if self.marker:
                # The item's first line carries its mark in the place of the indentation.
                prefix = prefix[: len(prefix) - len(self.marker)] + self.marker
                self.marker = ""
            self.lines.append((prefix + line).rstrip())

    def gap(self) -> None:
        blank = "".join(self.prefix).rstrip()
        if self.lines and self.lines[-1] != blank and not self.marker:
            self.lines.append(blank)

    def block(self, kind: str, text: str) -> None:
        """Begin or end a block, whose words are put by themselves."""
        match kind:
            case "ul" | "ol":
                if not self.counters:
                    self.gap()
                self.counters.append(int(text) if kind == "ol" else None)
            case "li":
                self._item()
            case "/ul" | "/ol":
                self.counters.pop()
            case "/li" | "/blockquote":
                self.marker = ""
                self.prefix.pop()
            case "/tr":
                self.put(" | ".join(self.cells))
                self.cells.clear()
            case _:
                if kind in _APART:
                    self.gap()
                self._whole(kind, text)

    def _item(self) -> None:
        number = self.counters[-1]
        self.marker = "- " if number is None else f"{number}. "
        if number is not None:
            self.counters[-1] = number + 1
        self.prefix.append(" " * len(self.marker))

    def _whole(self, kind: str, text: str) -> None:
        match kind:
            case "blockquote":
                self.prefix.append("> ")
            case "pre":
                self.put("\n".join("    " + line for line in text.rstrip("\n").split("\n")))
            case "hr":
                self.put("-" * 20)
            case _:
                pass


_APART: Final = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "hr", "blockquote", "table"})
"""Blocks with an empty line before them."""


_PLAINLY_WEB: Final = re.compile(
    r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]*)?(?:[/?#][!#-&(-;=?-\[\]-~]*)?"
).fullmatch
"""Most addresses: a host of ASCII, and nothing that `urlsplit` would look at twice."""
_WEB: Final = frozenset({"http", "https"})
_UNFIT = re.compile(r"[\s<>\"'\\\x00-\x1f\x7f]")


def is_web_address(url: str) -> bool:
    """Say whether `url` is an absolute http or https address that needs no guessing."""
    if _PLAINLY_WEB(url):
        return True
    if _UNFIT.search(url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _WEB and bool(parts.hostname)


def content_faults(content: ContentRequest) -> list[tuple[str, str]]:
    """List the addresses in a `content` request that are no http or https addresses, each with its field."""
    urls = (content.url, content.image_url, *[action.url for action in content.actions])
    if not [url for url in urls if url is not None and not is_web_address(url)]:
        return []
    names = ("content.url", "content.image_url", *[f"content.actions[{at}].url" for at in range(len(content.actions))])
    sentence = "must be an absolute http:// or https:// address"
    return [
        (name, sentence) for name, url in zip(names, urls, strict=True) if url is not None and not is_web_address(url)
    ]
