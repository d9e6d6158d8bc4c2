"""Style sheets of HTML mail: says which style a tag gets from its name and classes alone.

Mail programs want CSS on the tag itself. Inlining it into every finished message costs as much as rendering it, so a
sheet whose selectors look only at a tag's name and its classes is applied once, to the template's source. css-inline
does both: the quick way asks it about one tag, the slow way hands it the whole message, and a test holds them equal.
"""

from __future__ import annotations

import html
import re
from typing import Final

import css_inline

STYLE: Final = re.compile(r"<style(?P<attributes>[^>]*)>(?P<css>.*?)</style\s*>", re.IGNORECASE | re.DOTALL)
"""A style element. One marked `data-css-inline="ignore"` stays as it is: dark mode, narrow screens."""

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_SIMPLE = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9]*)?(?:\.[a-zA-Z_][\w-]*)*")
_STYLE_ATTRIBUTE = re.compile(r'\sstyle="([^"]*)"')

_WHOLE_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False, keep_at_rules=True)

_SURROUNDINGS: Final = {
    "td": "<table><tbody><tr>{}</td></tr></tbody></table>",
    "th": "<table><tbody><tr>{}</th></tr></tbody></table>",
    "tr": "<table><tbody>{}</tr></tbody></table>",
    "tbody": "<table>{}</tbody></table>",
    "thead": "<table>{}</thead></table>",
    "tfoot": "<table>{}</tfoot></table>",
    "caption": "<table>{}</caption></table>",
    "html": "{}<body></body></html>",
    "body": "<html>{}</body></html>",
}
"""Where a tag must stand for an HTML parser to keep it."""


def inline_whole(document: str) -> str:
    """Inline the slow way: the whole message, every time. Never loads anything."""
    kept: list[str] = []

    def hold(element: re.Match[str]) -> str:
        # css-inline drops what it is told to ignore, so the style elements for dark mode and the like wait outside.
        if not is_kept(element["attributes"]):
            return element.group()
        kept.append(element.group())
        return f"<!--kept-style-{len(kept) - 1}-->"

    inlined = _WHOLE_INLINER.inline(STYLE.sub(hold, document))
    for number, element in enumerate(kept):
        inlined = inlined.replace(f"<!--kept-style-{number}-->", element, 1)
    return inlined


def is_kept(attributes: str) -> bool:
    """Say whether a style element with these attributes stays as it is."""
    return "data-css-inline" in attributes


def split_at_rules(css: str) -> tuple[str, str]:
    """Part a sheet into plain rules and at-rules (media queries), which only a style element can hold."""
    css = _COMMENT.sub("", css)
    plain: list[str] = []
    kept: list[str] = []
    position = 0
    while (start := css.find("@", position)) >= 0:
        plain.append(css[position:start])
        position = _end_of_rule(css, start)
        kept.append(css[start:position])
    plain.append(css[position:])
    return "".join(plain).strip(), "\n".join(kept)


def _end_of_rule(css: str, start: int) -> int:
    depth = 0
    for index in range(start, len(css)):
        if css[index] == "{":
            depth += 1
        elif css[index] == "}":
            depth -= 1
            if depth == 0:
                return index + 1
        elif css[index] == ";" and depth == 0:
            return index + 1
    return len(css)


def is_simple(plain: str) -> bool:
    """Say whether every selector of a sheet without at-rules looks at nothing but a tag's name and classes."""
    selectors = (selector.strip() for rule in plain.split("}") for selector in rule.split("{")[0].split(","))
    return all(_SIMPLE.fullmatch(selector) for selector in selectors)


class Sheet:
    """One simple sheet; remembers what it has been asked."""

    def __init__(self, plain: str) -> None:
        self.plain = plain
        self._known: dict[tuple[str, str, str], str] = {}

    def style(self, tag: str, classes: str, style: str) -> str:
        """Answer the whole style of a tag that has these classes and this style of its own. As HTML text, unescaped."""
        asked = (tag, classes, style)
        if asked not in self._known:
            self._known[asked] = self._ask(tag, classes, style) if self.plain else style
        return self._known[asked]

    def _ask(self, tag: str, classes: str, style: str) -> str:
        own = f' style="{html.escape(style)}"' if style else ""
        start = f'<{tag} class="{html.escape(classes)}" id="asked"{own}>'
        document = _SURROUNDINGS.get(tag, "<html><body>{}</body></html>").format(start)
        head = f"<style>{self.plain}</style>"
        answer = css_inline.inline(head + document, load_remote_stylesheets=False)
        found = re.search(rf'<{tag}\b[^>]*\bid="asked"[^>]*>', answer)
        styled = _STYLE_ATTRIBUTE.search(found.group()) if found else None
        return html.unescape(styled[1]) if styled else ""
