"""Markdown as mail HTML and as plain text, and the addresses that a `content` request may carry.

Owns what Markdown may become: no raw HTML, links to http, https and mailto only, images over https only. The text
form is for people: it keeps lists and quotes readable and writes a link's address beside its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

from gateway.model.requests import ContentRequest

TAGS: Final = (
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "img", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
)  # fmt: skip
"""What Markdown can become. A layout styles each by the class `md-<tag>`."""

_NO_CLASS: Final = frozenset({"br", "em", "s", "del", "strong", "tbody", "thead", "tr"})
"""Tags that nobody styles go without a class: they are many, and mailbox programs cut long messages."""
_TAG_OF: Final = {"fence": "pre", "code_block": "pre"}
"""Tokens that are shown by another tag than they name."""
_WITH_ADDRESS: Final = frozenset({"link_open", "image"})
MOST_DEPTH: Final = 20
"""How deep lists and quotes may nest: markdown-it answers deeper ones as text instead of by recursion."""


def class_of(tag: str) -> str:
    """Name the class a layout styles a Markdown tag by; empty where it has none."""
    return "" if tag in _NO_CLASS else f"md-{tag}"


class Markdown:
    """One reader of Markdown, and one cleaner of HTML per set of styles."""

    def __init__(self) -> None:
        self._reader = MarkdownIt("commonmark", {"html": False, "maxNesting": MOST_DEPTH})
        self._reader.enable(["table", "strikethrough"])
        self._reader.disable(["html_block", "html_inline"])  # they would only look, and answer no
        for kind in ("fence", "code_block"):
            self._reader.add_render_rule(kind, _code_block)

    def parse(self, text: str) -> list[Token]:
        """Read Markdown; images that are not https become their own words."""
        tokens = self._reader.parse(text)
        for token in tokens:
            if token.type == "inline" and token.children and any(child.type == "image" for child in token.children):
                token.children = [_safe_image(child) for child in token.children]
        return tokens

    def html(self, tokens: Sequence[Token], dress: Dress) -> str:
        """Write HTML, and hold what carries an address to the allowlist once more. Changes the tokens.

        Without links and images nothing of the text becomes more than escaped text between tags of our own, and
        cleaning it would cost as much as reading it.
        """
        dress.put_on(tokens)
        written = self._reader.renderer.render(tokens, self._reader.options, {})
        return dress.clean(written) if _carries_address(tokens) else written

    def text(self, tokens: Sequence[Token]) -> str:
        """Write plain text."""
        return _Plain().write(tokens)


def _carries_address(tokens: Sequence[Token]) -> bool:
    return any(
        child.type in _WITH_ADDRESS for token in tokens if token.children is not None for child in token.children
    )


class Dress:
    """What Markdown's HTML wears in one layout: the attributes written on each tag, and the sanitiser that knows them.

    The sanitiser lets exactly these values through. It does not write them itself, since its attributes come in another
    order in every process, and one message should have the same bytes at every attempt.
    """

    def __init__(self, styles: Mapping[str, str]) -> None:
        """Take the style of each tag; a tag without one wears only its class."""
        self.attributes: dict[str, dict[str, str]] = {}
        for tag in TAGS:
            worn = {"class": class_of(tag), "style": styles.get(tag, "")}
            self.attributes[tag] = {name: value for name, value in worn.items() if value}
        self.clean = nh3.Cleaner(
            tags=set(TAGS),
            attributes={"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}},
            tag_attribute_values={
                tag: {name: {value} for name, value in worn.items()} for tag, worn in self.attributes.items() if worn
            },
            url_schemes={"http", "https", "mailto"},
            url_relative="deny",
            link_rel="noopener noreferrer",
        ).clean

    def put_on(self, tokens: Iterable[Token]) -> None:
        """Write the attributes on the tokens."""
        for token in tokens:
            if token.nesting >= 0 and token.tag:
                # Over whatever stands there: a table's cells come with a style of their own.
                token.attrs.update(self.attributes.get(_TAG_OF.get(token.type, token.tag), {}))
            if token.children:
                self.put_on(token.children)


def _code_block(_renderer: object, tokens: Sequence[Token], index: int, _options: object, _env: object) -> str:
    # Without the usual <code> inside: mail programs need styles on the tag, and inline code has a frame of its own.
    attributes = "".join(f' {name}="{escapeHtml(str(value))}"' for name, value in tokens[index].attrs.items())
    return f"<pre{attributes}>{escapeHtml(tokens[index].content)}</pre>\n"


def _safe_image(token: Token) -> Token:
    if token.type != "image" or str(token.attrs.get("src", "")).lower().startswith("https://"):
        return token
    return Token("text", "", 0, content=token.content)


class _Plain:
    """Writes tokens as text. `prefix` is what every line of the open blocks starts with."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.prefix: list[str] = []
        self.marker = ""
        self.counters: list[int | None] = []
        self.cells: list[str] = []
        self.tight = 0

    def write(self, tokens: Sequence[Token]) -> str:
        for token in tokens:
            action = getattr(self, "_" + token.type, None)
            if action is not None:
                action(token)
        return "\n".join(self.lines).strip("\n")

    def _put(self, text: str) -> None:
        for line in text.split("\n"):
            prefix = "".join(self.prefix)
            if self.marker:
                # The item's first line carries its mark in the place of the indentation.
                prefix = prefix[: len(prefix) - len(self.marker)] + self.marker
                self.marker = ""
            self.lines.append((prefix + line).rstrip())

    def _gap(self) -> None:
        blank = "".join(self.prefix).rstrip()
        if self.lines and self.lines[-1] != blank and not self.marker:
            self.lines.append(blank)

    def _paragraph_open(self, token: Token) -> None:
        if not token.hidden:
            self._gap()

    def _heading_open(self, _token: Token) -> None:
        self._gap()

    def _inline(self, token: Token) -> None:
        text = _inline_text(token.children or [])
        if self.cells and self.cells[-1] == "":
            self.cells[-1] = text
        else:
            self._put(text)

    def _fence(self, token: Token) -> None:
        self._gap()
        self._put("\n".join("    " + line for line in token.content.rstrip("\n").split("\n")))

    def _code_block(self, token: Token) -> None:
        self._fence(token)

    def _hr(self, _token: Token) -> None:
        self._gap()
        self._put("-" * 20)

    def _blockquote_open(self, _token: Token) -> None:
        self._gap()
        self.prefix.append("> ")

    def _blockquote_close(self, _token: Token) -> None:
        self.prefix.pop()

    def _bullet_list_open(self, _token: Token) -> None:
        if not self.counters:
            self._gap()
        self.counters.append(None)

    def _ordered_list_open(self, token: Token) -> None:
        if not self.counters:
            self._gap()
        self.counters.append(int(token.attrs.get("start", 1)))

    def _bullet_list_close(self, _token: Token) -> None:
        self.counters.pop()

    def _ordered_list_close(self, _token: Token) -> None:
        self.counters.pop()

    def _list_item_open(self, _token: Token) -> None:
        number = self.counters[-1]
        self.marker = "- " if number is None else f"{number}. "
        if number is not None:
            self.counters[-1] = number + 1
        self.prefix.append(" " * len(self.marker))

    def _list_item_close(self, _token: Token) -> None:
        self.marker = ""
        self.prefix.pop()

    def _table_open(self, _token: Token) -> None:
        self._gap()

    def _tr_open(self, _token: Token) -> None:
        self.cells = []

    def _th_open(self, _token: Token) -> None:
        self.cells.append("")

    def _td_open(self, _token: Token) -> None:
        self.cells.append("")

    def _tr_close(self, _token: Token) -> None:
        cells, self.cells = self.cells, []
        self._put(" | ".join(cells))


def _inline_text(tokens: Sequence[Token]) -> str:
    pieces: list[str] = []
    links: list[tuple[int, str]] = []
    for token in tokens:
        match token.type:
            case "text" | "code_inline" | "text_special":
                pieces.append(token.content)
            case "softbreak" | "hardbreak":
                pieces.append("\n" if token.type == "hardbreak" else " ")
            case "image":
                pieces.append(token.content)
            case "link_open":
                links.append((len(pieces), str(token.attrs.get("href", ""))))
            case "link_close" if links:
                start, target = links.pop()
                words = "".join(pieces[start:])
                pieces[start:] = [_with_target(words, target)]
            case _:
                pass
    return "".join(pieces)


def _with_target(words: str, target: str) -> str:
    plain = target.removeprefix("mailto:")
    return words if words in {target, plain} else f"{words} ({plain})" if words else plain


_WEB: Final = frozenset({"http", "https"})
_UNFIT = re.compile(r"[\s<>\"'\\\x00-\x1f\x7f]")


def is_web_address(url: str) -> bool:
    """Say whether `url` is an absolute http or https address that needs no guessing."""
    if _UNFIT.search(url):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in _WEB and bool(parts.hostname)


def content_faults(content: ContentRequest) -> list[tuple[str, str]]:
    """List the addresses in a `content` request that are no http or https addresses, each with its field."""
    sentence = "must be an absolute http:// or https:// address"
    fields = [("content.url", content.url), ("content.image_url", content.image_url)]
    fields += [(f"content.actions[{index}].url", action.url) for index, action in enumerate(content.actions)]
    return [(field, sentence) for field, url in fields if url is not None and not is_web_address(url)]
