"""Pages for people who come by a link in a message: their words, their language, their frame.

Owns what all of them share. They need no sign-in and no script, load nothing from outside, are kept by no cache and
found by no search engine, and set no cookie: the link itself says who may do what, so there is no standing sign-in that
another site could make a browser use (CSRF), and no site can know the link. Refuses to know what a page is about.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Reply
from gateway.api.operation import Act, AnswerRule, NoQuery, Operation
from gateway.errors import TOO_LARGE, Problem
from gateway.observe.masking import STARS, mask_address
from gateway.router.links import Unusable
from gateway.router.rules import DEFAULT_CATEGORY, said_in

FOLDER: Final = Path(__file__).parent / "static" / "people"

_POLICY: Final = b"default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
_HTML: Final = b"text/html; charset=utf-8"
_HEADERS: Final = ((b"cache-control", b"no-store"), (b"x-robots-tag", b"noindex, nofollow"))
_DEVICES: Final = frozenset({"web_push", "mobile_push"})
"""Channels whose addresses are no words at all."""
_RIGHT_TO_LEFT: Final = frozenset({"ar", "fa", "he", "ur"})
_RANGES_MOST: Final = 20
"""Languages of an Accept-Language header that are looked at."""
_FIELDS_MOST: Final = 10_000
"""Fields of a form or a query: far more than a page with every category on every channel has."""
_STRONG: Final = Markup("<strong>{}</strong>")
_STATUS: Final = {Unusable.FOREIGN: 404, Unusable.EXPIRED: 410}

Texts = Mapping[str, Any]


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a page: what it brought, and the language it is answered in."""

    context: ApiContext
    call: Call[NoQuery, None]
    query: Mapping[str, Sequence[str]]
    language: str

    @property
    def token(self) -> str:
        """The token in the path."""
        return self.call.path["token"]

    @property
    def root(self) -> str:
        """What stands before every path, where the gateway is not at the root of its host."""
        return urlsplit(self.context.settings.public_url).path.rstrip("/")

    @property
    def in_language(self) -> str:
        """The query that keeps a language that was asked for by hand."""
        return f"?lang={self.language}" if "lang" in self.query else ""


class Pages:
    """Makes pages of the templates and words in a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.words = read_words(folder / "words")
        self._templates = Environment(
            loader=FileSystemLoader(folder),
            auto_reload=False,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def visit(self, context: ApiContext, call: Call[NoQuery, None], locale: str | None) -> Visit:
        """Read a request. `locale` is the reader's, where the link says it; without one, the browser's counts."""
        query = _fields(call.query_string) or {}
        accepted = accepted_languages(call.headers.get(b"accept-language", b"").decode("latin-1"))
        wanted = [*query.get("lang", ()), *([] if locale is None else [locale]), *accepted]
        default = context.settings.templates.default_locale
        return Visit(
            context=context,
            call=call,
            query=query,
            language=choose_language([*wanted, default, "en"], self.words),
        )

    def page(
        self, visit: Visit, name: str, title: str, *, status: int = 200, again: bool = True, **values: Any
    ) -> Reply:
        """Make a page of the template `name`. `title` is the key of its heading.

        `again`: a GET shows it again, so it can be had in another language.
        """
        text = self._templates.get_template(f"{name}.html").render(
            title=self.text(visit, title),
            language=visit.language,
            direction="rtl" if visit.language.partition("-")[0] in _RIGHT_TO_LEFT else "ltr",
            product=visit.context.settings.templates.product,
            root=visit.root,
            narrow=name != "preferences",
            languages=[(code, texts["language"]) for code, texts in self.words.items()] if again else [],
            t=partial(self.text, visit),
            **values,
        )
        return Reply(status=status, body=text.encode(), headers=_HEADERS, media_type=_HTML, page=_POLICY)

    def notice(self, visit: Visit, key: str, *, status: int, **more: object) -> Reply:
        """Make a page that only says something: the heading `key`, and the sentence `key_help`."""
        return self.page(visit, "notice", key, status=status, said=self.text(visit, f"{key}_help", **more))

    def unusable(self, visit: Visit, why: Unusable) -> Reply:
        """Say that a link opens nothing, and to whoever tries links no more than that."""
        return self.notice(visit, f"link_{why.value}", status=_STATUS[why])

    def text(self, visit: Visit, key: str, **more: object) -> Markup:
        """Give a sentence in the page's language; what is filled in stands out, but for what is `Markup` already."""
        filled = {name: one if isinstance(one, Markup) else _STRONG.format(one) for name, one in more.items()}
        return escape(self.words[visit.language][key]).format(**filled)

    def channel(self, visit: Visit, name: str) -> Markup:
        """Name a channel as people do."""
        known: Mapping[str, str] = self.words[visit.language]["channel"]
        return escape(known.get(name, as_words(name)))

    def hint(self, visit: Visit, channel: str, address: str) -> str:
        """Say whose page it is to those who know, and to nobody else: links are passed on."""
        if channel in _DEVICES:
            return str(self.words[visit.language]["this_device"])
        return mask_address(address).replace(STARS, "…")

    def category(self, visit: Visit, name: str) -> str:
        """Name a category as people do."""
        settings = visit.context.settings.categories.get(name)
        title = "" if settings is None else said_in(visit.language, settings.title)
        if title or name != DEFAULT_CATEGORY:
            return title or as_words(name)
        return str(self.words[visit.language]["other_category"])


def read_form(call: Call[NoQuery, None]) -> Mapping[str, Sequence[str]]:
    """Read the form that was posted; raises the 413 for one that no page of ours has."""
    found = _fields(call.raw.decode("utf-8", "replace"))
    if found is None:
        raise Problem(TOO_LARGE, f"A form has at most {_FIELDS_MOST} fields.")
    return found


def _fields(text: str) -> Mapping[str, list[str]] | None:
    try:
        return parse_qs(text, keep_blank_values=True, max_num_fields=_FIELDS_MOST)
    except ValueError:
        return None


def read_words(folder: Path) -> dict[str, Texts]:
    """Read every language's file; it is named after the language."""
    return {file.stem: tomllib.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.toml"))}


def accepted_languages(header: str) -> list[str]:
    """List what an Accept-Language header asks for, most wanted first (RFC 9110, 12.5.4)."""
    found: list[tuple[float, str]] = []
    for part in header.split(",")[:_RANGES_MOST]:
        tag, _, weight = part.partition(";")
        try:
            wanted = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if tag.strip() and wanted > 0:
            found.append((-wanted, tag.strip()))
    return [tag for _, tag in sorted(found, key=lambda one: one[0])]


def choose_language(wanted: Sequence[str], known: Mapping[str, Any]) -> str:
    """Choose the first wanted language there is: `de-AT` itself, then `de`."""
    for tag in wanted:
        name = tag.replace("_", "-").lower()
        while name:
            if name in known:
                return name
            name = name.rpartition("-")[0]
    return next(iter(known))


def as_words(name: str) -> str:
    """Read a name of the configuration as words: `order-updates` is `Order updates`."""
    return name.replace("-", " ").replace("_", " ").capitalize()


def operation(method: str, path: str, summary: str, act: Act) -> Operation:
    """Make a page's operation: for people, so it takes what comes, needs no key, and the document leaves it out."""
    return Operation(
        id=f"page:{method} {path}",
        method=method,
        path=path,
        tag="Pages",
        summary=summary,
        act=act,
        open=True,
        untouched=True,
        answer=AnswerRule(type=Any),
    )
