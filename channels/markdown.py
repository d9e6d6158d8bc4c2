"""Markdown, read into tokens: for mail's HTML and text and for each chat's own marks.

Owns the reading: CommonMark with tables and `~~strikethrough~~`, by pulldown-cmark (pyromark). HTML is words here:
`<b>` is shown, and Markdown within it is Markdown. Refuses to know who writes: a token has no marks, no escapes and no
judgement of addresses, so whoever writes it must make its words harmless and ask `is_link`. Pure; linear in the text;
nothing recurses, and what a writer has open at once is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from pyromark import Markdown, Options

__all__ = ["MOST_DEPTH", "Token", "is_link", "read"]

MOST_DEPTH: Final = 20
"""How many lists, quotes and marks may be open at once. What nests deeper loses its marks and keeps its words."""

_ANY_CASE: Final = re.IGNORECASE | re.ASCII  # Unicode's long s is a case of ours, and no letter of a scheme
_LINK: Final = re.compile(r"(?:https?://|mailto:)[!-~]+", _ANY_CASE).fullmatch


def is_link(text: str) -> bool:
    """Say whether a text is an address that may stand behind a link: http, https or mailto."""
    return _LINK(text) is not None


Token: TypeAlias = tuple[str, str, str, str]
"""One piece of what was read: its kind, text, address and title.

The kind is the name of HTML's element, and with a slash before it what ends there: `p`, `/p`. Every end has its
beginning. These have no end: `text`, `code` (within a line), `pre`, `img`, `hr`, `br`, and `soft`, a line break of the
source. A tight list's items hold words without a `p`. The text is raw: words, code, an image's words, a line break, and
an `ol`'s first number. The address (of `a` and `img`) is percent-encoded and may be of any scheme, or none.
"""


_READER: Final = Markdown(options=Options.ENABLE_TABLES | Options.ENABLE_STRIKETHROUGH)


def read(markdown: str) -> list[Token]:
    """Read Markdown. Every text is some Markdown: there are no errors."""
    if _ODD(markdown) is None:
        tokens = _tokens(_READER.events(markdown))
    else:
        tokens = _tokens(_READER.events(_hidden(markdown)))
        tokens = [(kind, _shown(text), address, _shown(title)) for kind, text, address, title in tokens]
    return tokens if len(tokens) <= 2 * MOST_DEPTH else _bounded(tokens)


# pulldown-cmark reads HTML, whose insides it hands over as they stand (with the backslashes before data), and takes one
# tilde for strikethrough, which "~5 minutes, ~10 at most" does not mean. Those characters go by other names through it:
# two rare marks of punctuation, since whether `**` opens depends on whether punctuation stands beside it.

_ODD: Final = re.compile("[<~\u2329\0\ud800-\udfff]").search
_NAMES: Final = {"<": "\u2329\u2329", "~": "\u2329\u232a", "\u2329": "\u2329\u2016"}
_MEANT: Final = re.compile(
    # An escape, two tildes and more, a link's address in brackets, an address that is a link by itself …
    r"(\\[\\<~]|~~+|(?<=\]\()<(?=(?:[^<>\n\\]|\\.)*>[ \n)])"
    r"|<(?!(?:javascript|vbscript|file|data):)[a-z][a-z0-9+.-]{1,31}:[^\x00-\x20<>]*>"
    r"|<[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9.-]+>)"
    # … and what is no such thing.
    "|[<~\u2329]",
    _ANY_CASE,
)
_A_NAME: Final = re.compile("\u2329([\u2329\u232a\u2016])")
_MEANINGS: Final = {name[1]: meant for meant, name in _NAMES.items()}


def _hidden(text: str) -> str:
    text = text.replace("\0", "\ufffd").encode(errors="replace").decode()  # CommonMark 2.3; a lone surrogate is no text
    return _MEANT.sub(lambda found: _within(found[1]) if found[1] else _NAMES[found[0]], text)


def _within(kept: str) -> str:
    return kept.replace("\u2329", _NAMES["\u2329"])


def _shown(text: str) -> str:
    return _A_NAME.sub(lambda found: _MEANINGS[found[1]], text) if "\u2329" in text else text


_SOFT: Final[Token] = ("soft", "\n", "", "")
_ALONE: Final[Mapping[str, Token]] = {"SoftBreak": _SOFT, "HardBreak": ("br", "\n", "", ""), "Rule": ("hr", "", "", "")}
_KINDS: Final = {
    "Paragraph": "p",
    "Strong": "strong",
    "Emphasis": "em",
    "Strikethrough": "s",
    "Item": "li",
    "Link": "a",
}
_BEGINNINGS: Final[Mapping[str, Token]] = {name: (kind, "", "", "") for name, kind in _KINDS.items()}
_ENDS: Final[Mapping[str, Token]] = {name: ("/" + kind, "", "", "") for name, kind in _KINDS.items()}


def _tokens(events: Iterable[Any]) -> list[Token]:
    """Make tokens of pulldown-cmark's events: `{"Text": words}`, `{"Start": tag}`, `{"End": tag}` and bare names."""
    reading = _Reading()
    tokens = reading.tokens
    for event in events:
        if type(event) is str:
            tokens.append(_ALONE[event])
            continue
        ((name, value),) = event.items()
        if name == "Text":
            tokens.append(("text", value, "", ""))
        elif name == "Start":
            if type(value) is str and value in _BEGINNINGS:
                tokens.append(_BEGINNINGS[value])
            else:
                reading.begin(value)
        elif name == "End":
            if type(value) is str and value in _ENDS:
                tokens.append(_ENDS[value])
            else:
                reading.end(value)
        else:
            tokens.append(("code" if name == "Code" else "text", value, "", ""))
    return tokens


def _named(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, None
    ((tag, told),) = value.items()
    return tag, told


class _Reading:
    """What has been read so far, and the tags that need more than their name's token."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.held: list[tuple[int, Any]] = []
        """Where the words of open images and code begin, and what was told of them."""
        self.cell = "td"

    def begin(self, value: Any) -> None:
        tag, told = _named(value)
        match tag:
            case "Link":
                self.tokens.append(("a", "", _address(told), told["title"]))
            case "List":
                self.tokens.append(("ul", "", "", "") if told is None else ("ol", str(told), "", ""))
            case "Image" | "CodeBlock":
                self.held.append((len(self.tokens), told))
            case "Heading":
                self.add(told["level"].lower())
            case "TableCell":
                self.add(self.cell)
            case "TableRow":
                self.add(*(("tbody", "tr") if self.tokens[-1][0] == "/thead" else ("tr",)))
            case "TableHead":
                self.cell = "th"
                self.add("thead", "tr")
            case _:
                self.add(tag.lower())

    def end(self, value: Any) -> None:
        tag, told = _named(value)
        match tag:
            case "List":
                self.add("/ol" if told else "/ul")
            case "Image":
                words, image = self.gathered()
                self.tokens.append(("img", words, _address(image), image["title"]))
            case "CodeBlock":
                words, _ = self.gathered()
                self.tokens.append(("pre", words + "\n" if words and words[-1] != "\n" else words, "", ""))
            case "Heading":
                self.add("/" + told.lower())
            case "TableCell":
                self.add("/" + self.cell)
            case "TableRow":
                self.add("/tr")
            case "TableHead":
                self.cell = "td"
                self.add("/tr", "/thead")
            case "Table":
                self.add(*(("/table",) if self.tokens[-1][0] == "/thead" else ("/tbody", "/table")))
            case _:
                self.add("/" + tag.lower())

    def add(self, *kinds: str) -> None:
        self.tokens += [(kind, "", "", "") for kind in kinds]

    def gathered(self) -> tuple[str, Any]:
        start, told = self.held.pop()
        words = "".join(text for _, text, _, _ in self.tokens[start:])
        del self.tokens[start:]
        return words, told


_NESTING: Final = frozenset({"blockquote", "ul", "ol", "strong", "em", "s"})
_NESTING_ENDS: Final = frozenset("/" + kind for kind in _NESTING)
_ITEM: Final = frozenset({"li", "/li"})
_WORDS: Final = frozenset({"text", "code", "img", "/a", "/strong", "/em", "/s"})


def _bounded(tokens: list[Token]) -> list[Token]:
    """Leave out the lists, quotes and marks beyond `MOST_DEPTH`; an item there is parted by a line break alone."""
    depth = 0
    kept: list[Token] = []
    for token in tokens:
        kind = token[0]
        ends = kind in _NESTING_ENDS
        depth += kind in _NESTING
        if depth <= MOST_DEPTH:
            kept.append(token)
        elif kind == "li" and kept[-1][0] in _WORDS:
            kept.append(_SOFT)
        elif kind not in _ITEM and not ends and kind not in _NESTING:
            kept.append(token)
        depth -= ends
    return kept


_FIT: Final = re.compile(r"(?:[!#$&'()*+,./0-9:;=?@A-Z_a-z~-]|%[0-9A-Fa-f]{2})*").fullmatch
_UNFIT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^!#$%&'()*+,./0-9:;=?@A-Z_a-z~-]")
_HOST: Final = re.compile(r"(https?://(?:[^/?#@]*@)?)([^/?#@:]+)", _ANY_CASE).match


def _address(told: Any) -> str:
    """Write an address in the characters of RFC 3986, and a host of other letters as DNS knows it (RFC 3492)."""
    given = _shown(told["dest_url"])
    if told["link_type"] == "Email":
        given = "mailto:" + given
    if _FIT(given):
        return given
    if not given.isascii() and (found := _HOST(given)):
        given = found[1] + ".".join(map(_label, found[2].split("."))) + given[found.end() :]
    return _UNFIT.sub(_percent, given)


def _label(label: str) -> str:
    return label if label.isascii() else "xn--" + label.lower().encode("punycode").decode()


def _percent(found: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in found[0].encode())
