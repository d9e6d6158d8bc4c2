"""One version of one template, compiled: its contract with the caller and its parts by locale and channel.

Owns what is checked when a template is read, so that a fault shows in `gateway templates check` and not in a mailbox.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from jinja2 import Template as Compiled
from jinja2 import TemplateError, TemplateSyntaxError

from gateway.errors import Code, GatewayError
from gateway.render import markup
from gateway.render.markdown import TAGS, Dress, class_of
from gateway.render.sandbox import Workshop
from gateway.render.source import (
    CONTENT_HTML,
    CONTENT_TEXT,
    MEDIA,
    RESERVED,
    SHARED,
    WORDS,
    Edition,
    Manifest,
    Medium,
    Slot,
    TemplateFault,
    TemplateSource,
    Variable,
    edition_of,
    is_text,
    part_name,
    read_manifest,
)
from gateway.render.styles import Sheet, is_simple

if TYPE_CHECKING:
    from gateway.render.liquid import LiquidPart

_VARYING: Final = ("recipient", "reference", "category", "unsubscribe_url", "preferences_url")
"""Names whose value differs from delivery to delivery; what a template does not mention need not part the cache."""

_MOST_DEPTH: Final = 20
"""Layouts within layouts: deeper than this is a circle."""


class TemplateBroken(GatewayError):
    """A source that makes no template; lists every fault."""

    def __init__(self, faults: list[TemplateFault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


class Part:
    """One file. `whole_inline`: its styles depend on the finished message, so they are written there.

    Given as what compiles it, it is compiled when it is first shown: a start, which has read and checked it,
    does not wait for code that it may never run.
    """

    __slots__ = ("_made", "path", "whole_inline")

    def __init__(
        self, path: str, made: Compiled | LiquidPart | Callable[[], Compiled], *, whole_inline: bool = False
    ) -> None:
        self.path = path
        self.whole_inline = whole_inline
        self._made = made

    @property
    def compiled(self) -> Compiled | LiquidPart:
        """The code."""
        if callable(self._made):
            self._made = self._made()
        return self._made


class Layout(msgspec.Struct, frozen=True):
    """What `content` is shown in; `dress` is what Markdown wears in it."""

    html: Part
    text: Part
    dress: Dress


class Template:
    """A version of a template, ready to render. Built by `compile_template`; never changes."""

    def __init__(
        self,
        *,
        source: TemplateSource,
        manifest: Manifest,
        parts: Mapping[str, Mapping[tuple[str, Slot], Part]],
        layout: Layout | None,
        words: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.source = source
        self.key = source.key
        self.version = source.version
        self.category = manifest.category
        self.description = manifest.description
        self.edition = manifest if isinstance(manifest, Edition) else None
        self.variables: tuple[Variable, ...] = manifest.variables
        self.locales: tuple[str, ...] = tuple(sorted(parts))
        self.channels: tuple[str, ...] = tuple(
            sorted({each for own in parts.values() for channel, _ in own if channel for each in _members(channel)})
        )
        self.layout = layout
        self.words = words
        self.mentions: frozenset[str] = frozenset(
            name for name in _VARYING if any(name in text for path, text in source.files.items() if is_text(path))
        )
        self._parts = parts
        self._declared = frozenset(variable.name for variable in manifest.variables)

    def __repr__(self) -> str:
        return f"Template({self.key!r}, {self.version[:15]}…)"

    def face(self, locale: str, channel: str) -> Mapping[Slot, Part]:
        """List the parts `channel` has of its own in `locale` (one of `locales`), or in its language at large.

        A channel's own come before those it shares with its like.
        """
        own = self._faces(locale, channel)
        return own if channel not in SHARED or "data" in own else {**self._faces(locale, SHARED[channel]), **own}

    def generic(self, locale: str) -> Mapping[Slot, Part]:
        """List the parts for every channel that has none of its own."""
        return self._faces(locale, "")

    def _faces(self, locale: str, channel: str) -> dict[Slot, Part]:
        found: dict[Slot, Part] = {}
        for name in _family(locale):
            for (whose, slot), part in self._parts.get(name, {}).items():
                if whose == channel:
                    found.setdefault(slot, part)
        return found

    def data_faults(self, data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """List what keeps `data` from this template, as (code, field, message): missing and undeclared variables."""
        faults = [
            (
                Code.MISSING_VARIABLE.value,
                f"data.{variable.name}",
                f"The template {self.key!r} needs the variable {variable.name!r}.",
            )
            for variable in self.variables
            if variable.required and variable.name not in data
        ]
        faults += [
            (
                Code.UNDECLARED_VARIABLE.value,
                f"data.{name}",
                f"The template {self.key!r} declares no variable {name!r}.",
            )
            for name in data
            if name not in self._declared
        ]
        return faults

    def values(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Lay `data` over the defaults. What is not declared is left out, so nothing can pose as a built-in name."""
        return {
            variable.name: data.get(variable.name, variable.default)
            for variable in self.variables
            if variable.name in data or not variable.required
        }

    def examples(self) -> dict[str, Any] | None:
        """Collect the variables' examples; None unless every required variable has one."""
        if any(variable.required and variable.example is None for variable in self.variables):
            return None
        return {variable.name: variable.example for variable in self.variables if variable.example is not None}


def compile_template(
    source: TemplateSource, workshop: Workshop, default_locale: str, *, inline_source: bool = True
) -> Template:
    """Compile every part. Raises `TemplateBroken` with all faults at once.

    Without `inline_source`, styles are written on every finished message: slower, and the same to the reader.
    """
    return _Compiler(source, workshop, default_locale, inline_source=inline_source).template()


def warnings_of(template: Template) -> list[TemplateFault]:
    """List what is no fault and still worth a look: variables that no part uses, channels that nobody here serves."""
    strange = [
        TemplateFault(
            template.key,
            f"the channel {channel!r} is none of the gateway's own: is the part's name right?",
            severity="warning",
        )
        for channel in template.channels
        if channel not in MEDIA
    ]
    texts = [text for path, text in template.source.files.items() if is_text(path)]
    return strange + [
        TemplateFault(
            f"{template.key}/template.toml", f"the variable {variable.name!r} is never used", severity="warning"
        )
        for variable in template.variables
        if not any(re.search(rf"\b{variable.name}\b", text) for text in texts)
    ]


def _members(channel: str) -> list[str]:
    """List the channels that a part's name speaks of: `push` of both kinds of push."""
    return [each for each, shared in SHARED.items() if shared == channel] or [channel]


def _medium(path: str) -> Medium:
    match path.rsplit(".", 1)[1]:
        case "html" | "md" | "json" as medium:
            return medium
        case _:
            return "txt"


def _family(locale: str) -> list[str]:
    """`de-AT` may leave out what `de` has."""
    language = locale.split("-", 1)[0]
    return [locale] if locale == language else [locale, language]


class _Compiler:
    """Compiles one source; keeps every fault."""

    def __init__(self, source: TemplateSource, workshop: Workshop, default_locale: str, *, inline_source: bool) -> None:
        self.inline_source = inline_source
        self.source = source
        self.workshop = workshop
        self.default_locale = default_locale
        self.faults: list[TemplateFault] = []
        self.sheet = Sheet("")
        self.edited = edition_of(source.key, source.files)
        self._own = {path: text for path, text in source.files.items() if path.startswith(f"{source.key}/")}

    def template(self) -> Template:
        manifest = self._manifest()
        self._check_texts(frozenset(variable.name for variable in manifest.variables))
        if self.faults:
            raise TemplateBroken(self.faults)
        parts: dict[str, dict[tuple[str, Slot], Part]] = {}
        for path in self._own:
            if path.count("/") != 2:  # noqa: PLR2004 # key, locale and part
                continue
            _, locale, filename = path.split("/")
            name = part_name(filename)
            if name is not None and (part := self._part(path)) is not None:
                parts.setdefault(locale, {})[name.channel, name.slot] = part
        layout = self._layout()
        words = self._words()
        if parts:
            self._check_completeness(parts)
        if self.faults:
            raise TemplateBroken(self.faults)
        return Template(source=self.source, manifest=manifest, parts=parts, layout=layout, words=words)

    def _manifest(self) -> Manifest:
        if self.edited is not None:
            return self.edited
        path = f"{self.source.key}/template.toml"
        if path not in self.source.files:
            return Manifest()
        try:
            return read_manifest(self.source.files[path])
        except ValueError as error:
            self._fault(path, str(error))
            return Manifest()

    def _words(self) -> dict[str, dict[str, str]]:
        try:
            return read_words(self.source.files.get(WORDS, ""))
        except ValueError as error:
            self._fault(WORDS, str(error))
            return {}

    def _part(self, path: str) -> Part | None:
        medium = _medium(path)
        try:
            if self.edited is not None and path in self._own:
                text = self.source.files[path]
                return Part(path, self.workshop.liquid.part(path, medium, text), whole_inline="<style" in text)
            if medium == "html":
                return self._html_part(path)
            # Its text is what `_check_texts` has seen, and compiling it again would find no more.
            return Part(path, partial(self.workshop.environment(medium, self.source.files).get_template, path))
        except TemplateSyntaxError as error:
            self._fault(error.name or path, error.message or "this cannot be read", error.lineno)
        except TemplateError as error:
            self._fault(path, error.message or type(error).__name__)
        return None

    def _html_part(self, path: str) -> Part:
        chain = self._chain(path)
        texts = {name: self.source.files[name] for name in chain}
        rules = self._rules(path, is_parent=False, depth=0)
        written = sum(text.count("<style>") for text in texts.values())
        # A style that only an import brings in (or one that comes twice) is found by nobody but the slow way.
        simple = len(rules) == written and all(is_simple(rule.plain) and not rule.uncertain for rule in rules)
        simple = self.inline_source and simple and not any(markup.has_moving_class(text) for text in texts.values())
        self.sheet = self.workshop.sheet("\n".join(rule.plain for rule in rules))
        sheet = self.sheet if simple else None
        prepared = {name: self.workshop.prepared(text, sheet) for name, text in texts.items()}
        return Part(path, self.workshop.environment("html", prepared).get_template(path), whole_inline=not simple)

    def _chain(self, path: str) -> list[str]:
        """List `path` and every file it reaches, nearest first."""
        chain: dict[str, None] = {}
        waiting = [path]
        while waiting:
            name = waiting.pop(0)
            if name in self.source.files and name not in chain:
                chain[name] = None
                waiting += self.workshop.inspect(self.source.files[name]).references
        return list(chain)

    def _rules(self, path: str, *, is_parent: bool, depth: int) -> list[markup.StyleRules]:
        """List the rules of a part in the order of the finished message: a parent's come before its child's."""
        if depth > _MOST_DEPTH or path not in self.source.files:
            return []
        rules: list[markup.StyleRules] = []
        for entry in markup.outline(self.source.files[path], is_parent=is_parent):
            match entry:
                case markup.StyleRules():
                    rules.append(entry)
                case markup.Inclusion():
                    rules += self._rules(entry.name, is_parent=is_parent or entry.extends, depth=depth + 1)
        return rules

    def _layout(self) -> Layout | None:
        if CONTENT_HTML not in self.source.files or CONTENT_TEXT not in self.source.files:
            return None
        html, text = self._part(CONTENT_HTML), self._part(CONTENT_TEXT)
        if html is None or text is None:
            return None
        styles = {} if html.whole_inline else {tag: self.sheet.style(tag, class_of(tag), "") for tag in TAGS}
        return Layout(html, text, Dress(styles))

    def _check_texts(self, declared: frozenset[str]) -> None:
        for path, text in self.source.files.items():
            if not is_text(path):
                continue
            if path.endswith(".html"):
                for fault in markup.faults(text):
                    self._fault(path, fault.message, fault.line)
            if self.edited is not None and path in self._own:
                self._check_liquid(path, text, declared)
                continue
            try:
                inspection = self.workshop.inspect(text)
            except TemplateSyntaxError as error:
                self._fault(path, error.message or "this cannot be read", error.lineno)
                continue
            for name, line in inspection.names.items():
                if name not in declared and name not in RESERVED:
                    self._fault(path, f"the variable {name!r} is used and not declared", line)

    def _check_liquid(self, path: str, text: str, declared: frozenset[str]) -> None:
        for fault in self.workshop.liquid.faults(text, _medium(path), declared | RESERVED):
            self.faults.append(TemplateFault(path, fault.message, fault.line, undeclared=fault.undeclared))

    def _check_completeness(self, parts: Mapping[str, Mapping[tuple[str, Slot], Part]]) -> None:
        key = self.source.key
        if self.default_locale not in parts:
            self._fault(key, f"the default locale {self.default_locale!r} is missing")
        everywhere = {name: part for own in parts.values() for name, part in own.items()}
        for locale in sorted(parts):
            own = {name for relative in _family(locale) for name in parts.get(relative, {})}
            for name, part in everywhere.items():
                if name not in own:
                    filename = part.path.rsplit("/", 1)[1]
                    self._fault(f"{key}/{locale}/{filename}", f"this part is missing; {part.path} is there")
        slots = set(everywhere)
        headline = ("", "subject") in slots
        if not headline and ("email", "subject") not in slots and {("email", "html"), ("email", "text")} & slots:
            self._fault(key, "an e-mail needs a subject: email.subject.txt or title.txt")
        if ("", "body") in slots and not headline and ("email", "subject") not in slots:
            self._fault(key, "body.md needs a title.txt beside it")

    def _fault(self, path: str, message: str, line: int | None = None) -> None:
        self.faults.append(TemplateFault(path, message, line))


def read_words(text: str) -> dict[str, dict[str, str]]:
    """Read `_layouts/words.toml`: a table of words per locale. Raises `ValueError`."""
    try:
        return msgspec.convert(tomllib.loads(text), dict[str, dict[str, str]])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from error
