"""Reads the source of an HTML part before it is compiled: holds it to what is safe, and writes styles on its tags.

Autoescaping keeps data inside a quoted attribute and inside text. What it cannot see is done here: a link's scheme, an
attribute without quotes, data in a script or a style. Works on the template's source, so a message pays nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from gateway.render.styles import STYLE, Sheet, is_kept, split_at_rules

_JINJA = re.compile(
    r"""\{\#.*?\#\}|\{\{(?:"[^"]*"|'[^']*'|[^"'])*?\}\}|\{%(?:"[^"]*"|'[^']*'|[^"'])*?%\}""",
    re.DOTALL,
)
_HELD = re.compile("\ue000(\\d+)\ue001")
"""Jinja's tags are taken out while the HTML is read; a mark of private-use characters holds each one's place."""
_TAG = re.compile(
    r"""<!--\[if[^\]]*\]>(?:<!-->)?|(?:<!--)?<!\[endif\]-->|<!--.*?-->|<style[^>]*>.*?</style\s*>"""
    r"""|<(?P<name>[a-zA-Z][a-zA-Z0-9:]*)(?P<attributes>(?:\s|"[^"]*"|'[^']*'|[^"'>\s])*)>""",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE = re.compile(r"""\s*(?P<name>[^\s=>"'/]+)(?:\s*=\s*(?P<value>"[^"]*"|'[^']*'|[^\s"'>]+))?""")
_PUTS = re.compile(r"\{\{[-+]?(?P<expression>.*?)[-+]?\}\}", re.DOTALL)

_STYLE_OR_TAG = re.compile(
    "<style(?P<attributes>[^>]*)>(?P<css>.*?)</style\\s*>|\ue000(?P<held>\\d+)\ue001", re.DOTALL | re.IGNORECASE
)
_STATEMENT = re.compile(r"""\{%[-+]?\s*(?P<word>\w+)\s*(?P<name>"[^"]*"|'[^']*')?""")
_OPENING: Final = frozenset({"block", "if", "for", "macro", "call", "filter", "with"})

_LINKS: Final = frozenset({"href", "action", "formaction", "xlink:href"})
_IMAGES: Final = frozenset({"src", "background", "poster", "srcset"})
_FORBIDDEN: Final = frozenset({"script", "iframe", "object", "embed", "base", "form"})
_TURNS_OFF_ESCAPING = re.compile(r"\{%[-+]?\s*autoescape\b")


class MarkupFault(msgspec.Struct, frozen=True):
    """What is unsafe in a source, and where."""

    message: str
    line: int


class StyleRules(NamedTuple):
    """The rules to inline of one style element, and whether they may be absent or elsewhere in the message."""

    plain: str
    uncertain: bool


class Inclusion(NamedTuple):
    """A place where another source's text comes in."""

    name: str
    extends: bool


class Held(NamedTuple):
    """A source whose Jinja tags are taken out."""

    text: str
    tags: list[str]

    def restore(self, text: str) -> str:
        """Put the Jinja tags back."""
        return _HELD.sub(lambda mark: self.tags[int(mark[1])], text)

    def line(self, position: int) -> int:
        """Count the lines up to a position, those inside Jinja's tags too."""
        return self.restore(self.text[:position]).count("\n") + 1


def hold(source: str) -> Held:
    """Take the Jinja tags out."""
    tags: list[str] = []

    def mark(found: re.Match[str]) -> str:
        tags.append(found.group())
        return f"\ue000{len(tags) - 1}\ue001"

    return Held(_JINJA.sub(mark, source.replace("\ue000", "").replace("\ue001", "")), tags)


def faults(source: str) -> list[MarkupFault]:
    """List what would let data out of its place."""
    held = hold(source)
    found = [
        MarkupFault("escaping cannot be turned off", source[: off.start()].count("\n") + 1)
        for off in _TURNS_OFF_ESCAPING.finditer(source)
    ]
    for tag in _TAG.finditer(held.text):
        name = (tag["name"] or "").lower()
        line = held.line(tag.start())
        if name in _FORBIDDEN:
            found.append(MarkupFault(f"<{name}> has no place in a message", line))
        if tag.group()[:6].lower() == "<style" and _HELD.search(tag.group()):
            found.append(MarkupFault("a style element cannot hold template tags", line))
        if name:
            found += [MarkupFault(message, line) for message in _attribute_faults(tag["attributes"], held)]
    return list(dict.fromkeys(found))


def _attribute_faults(attributes: str, held: Held) -> Iterator[str]:
    for attribute in _ATTRIBUTE.finditer(attributes):
        name, value = attribute["name"].lower(), attribute["value"] or ""
        if _HELD.search(name):
            yield "a template tag stands between attributes: write the whole tag in each case"
        if name.startswith("on"):
            yield f"the attribute {name!r} holds a script"
        if not _HELD.search(value):
            continue
        if value[0] not in "\"'":
            yield f"the value of {name!r} holds a template tag and needs quotes"
        if name == "style" and any(held.tags[int(mark[1])].startswith("{{") for mark in _HELD.finditer(value)):
            yield "data in a style can fetch and hide things: choose between classes instead"


def outline(source: str, *, is_parent: bool) -> list[StyleRules | Inclusion]:
    """List in order what decides the styles of a source: style elements, and the files it extends and includes.

    Rules are uncertain inside a condition, and in a parent inside a block or after one: a child may replace that.
    """
    held = hold(source)
    entries: list[StyleRules | Inclusion] = []
    opened: list[str] = []
    block_seen = False
    for found in _STYLE_OR_TAG.finditer(held.text):
        if found["css"] is not None:
            if not is_kept(found["attributes"]):
                uncertain = (block_seen if is_parent else False) or bool(set(opened) - {"block"})
                entries.append(StyleRules(split_at_rules(found["css"])[0], uncertain))
            continue
        tag = _STATEMENT.match(held.tags[int(found["held"])])
        if tag is None:
            continue
        word = tag["word"]
        if word in {"extends", "include"} and tag["name"] is not None:
            entries.append(Inclusion(tag["name"][1:-1], word == "extends"))
        elif word.startswith("end") and opened:
            opened.pop()
        elif word in _OPENING:
            opened.append(word)
            block_seen = block_seen or word == "block"
    return entries


def has_moving_class(source: str) -> bool:
    """Say whether a tag's class or style is only known when the message is rendered."""
    held = hold(source)
    return any(
        attribute["name"].lower() in {"class", "style"} and _HELD.search(attribute["value"] or "")
        for tag in _TAG.finditer(held.text)
        if tag["name"]
        for attribute in _ATTRIBUTE.finditer(tag["attributes"])
    )


def prepare(source: str, sheet: Sheet | None, *, piped: str = "({})|{}") -> str:
    """Write the link checks and, with a `sheet`, the styles into a source. The number of lines stays the same.

    `piped` is how the template's language puts an expression through a filter.
    """
    held = hold(source)
    inside_condition = False

    def rewrite(tag: re.Match[str]) -> str:
        nonlocal inside_condition
        text = tag.group()
        if tag["name"] is None:
            if text.startswith("<!--[if"):
                inside_condition = True
            elif text.endswith("<![endif]-->"):
                inside_condition = False
            elif text[:6].lower() == "<style" and sheet is not None:
                return _rest_of_style(text)
            return text
        return _checked_links(_styled(tag, None if inside_condition else sheet), held, piped)

    text = held.restore(_TAG.sub(rewrite, held.text))
    # Indentation is for the author; a mail program's reader pays for it in bytes.
    return text if "<pre" in text else re.sub(r"\n[ \t]+(?=\S)", "\n", text)


def _rest_of_style(element: str) -> str:
    found = STYLE.fullmatch(element)
    if found is None or is_kept(found["attributes"]):
        return element
    kept = split_at_rules(found["css"])[1]
    # A comment of Jinja's carries the removed lines, so that later faults still name the right one.
    lines = "{#" + "\n" * (element.count("\n") - kept.count("\n")) + "#}"
    return f"<style>{kept}</style>{lines}" if kept else lines


def _styled(tag: re.Match[str], sheet: Sheet | None) -> str:
    if sheet is None:
        return tag.group()
    values = {found["name"].lower(): (found["value"] or "") for found in _ATTRIBUTE.finditer(tag["attributes"])}
    classes, own = (html.unescape(values.get(name, "").strip("\"'")) for name in ("class", "style"))
    style = sheet.style(tag["name"].lower(), classes, own)
    if style == own:
        return tag.group()
    attributes = tag["attributes"]
    if "style" in values:
        attributes = re.sub(r"""\s*\bstyle\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""", "", attributes, flags=re.IGNORECASE)
    closing = "/" if attributes.rstrip().endswith("/") else ""
    attributes = attributes.rstrip().removesuffix("/").rstrip()
    return f'<{tag["name"]}{attributes} style="{html.escape(style)}"{closing}>'


def _checked_links(tag: str, held: Held, piped: str) -> str:
    def check(attribute: re.Match[str]) -> str:
        name = attribute["name"].lower()
        wanted = "link" if name in _LINKS else "image" if name in _IMAGES else None
        if wanted and attribute["value"]:
            _check_value(attribute["value"], wanted, held, piped)
        return attribute.group()

    _ATTRIBUTE.sub(check, tag)
    return tag


def _check_value(value: str, wanted: str, held: Held, piped: str) -> None:
    """Pipe what may decide the scheme through the check: all that stands before the address's first own character."""
    for mark in _HELD.finditer(value):
        written = _HELD.sub("", value[1 : mark.start()])
        index = int(mark[1])
        put = _PUTS.fullmatch(held.tags[index])
        if put and not re.search(r"[:/?#]", written):
            held.tags[index] = "{{ " + piped.format(put["expression"].strip(), wanted) + " }}"
