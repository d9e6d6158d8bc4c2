"""Renders: finds the template's version, the reader's locale and the channel's parts, and makes the content of it.

The one door of this package. Owns the versions known in memory and the cache; refuses to know where versions are stored
and to whom a message goes. Used from one thread: rendering never waits, so it runs in the event loop.
"""

from __future__ import annotations

import importlib.resources
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from jinja2 import Template as Compiled
from markupsafe import Markup

from channels.contract import Content
from channels.markdown import read
from gateway.model.requests import Action, ContentRequest
from gateway.render import digest, markdown, parts
from gateway.render.cache import RenderCache
from gateway.render.fitting import fitting_faults
from gateway.render.formats import Refused, babel_locale, time_zone
from gateway.render.inbox import inbox_content
from gateway.render.sandbox import RenderFailed, Workshop, escape_markdown
from gateway.render.source import CONTENT_KEY, MEDIA, SHARED, Slot, TemplateFault, TemplateSource, read_folder
from gateway.render.styles import inline_whole
from gateway.render.template import Layout, Part, Template, TemplateBroken, compile_template, warnings_of

__all__ = ["Person", "RenderFailed", "Rendered", "Renderer", "channels_of", "shipped_folder"]

Rendered = Content

PREHEADER_CHARS: Final = 140
_UNTITLED: Final = "sms"
"""The channel whose messages have no place for a title of their own."""
"""What a mailbox shows beside the subject; the rest is cut anyway."""

_encode = msgspec.json.Encoder().encode

Made = TypeVar("Made")


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """What a template may know of the reader. `timezone` is an IANA name: dates are shown in it."""

    name: str | None = None
    locale: str | None = None
    timezone: str | None = None


def shipped_folder() -> Path:
    """Find the templates that come with the gateway: in the package, or in the checkout of an editable install."""
    package = Path(str(importlib.resources.files("gateway")))
    packed = package / "shipped_templates"
    return packed if packed.is_dir() else package.parent / "templates"


class _Scene(msgspec.Struct, frozen=True):
    """Everything but the parts that one rendering needs."""

    template: Template
    channel: str
    locale: str
    spoken: Any  # Babel's locale: the reader's region where the language is the template's
    zone: Any
    values: dict[str, Any]


class _Words(msgspec.Struct, frozen=True):
    """A message as words, before any channel shapes it. `body` is Markdown."""

    title: str
    body: str
    url: str | None = None
    image_url: str | None = None
    actions: Sequence[Action] = ()


class Renderer:
    """Renders templates and `content`; knows the current templates and recent versions of them."""

    def __init__(
        self,
        folder: Path | None,
        *,
        default_locale: str = "en",
        public_url: str,
        product: str = "Notifications",
        cache_entries: int = 4096,
        cache_bytes: int = 8 * 1024 * 1024,
        most_versions: int = 500,
        inline_source: bool = True,
    ) -> None:
        """Keep the settings; `load` reads the folder (None: the shipped one). `product` is the name mails show.

        `most_versions` are kept compiled beside the current ones, some 100 KB each: the database has them all.
        `inline_source=False` writes styles on every finished message, slowly: tests hold the quick way to it.
        """
        self._folder = folder if folder is not None else shipped_folder()
        self._default_locale = default_locale
        self._most_versions = most_versions
        self._inline_source = inline_source
        self._workshop = Workshop({"gateway": {"public_url": public_url, "product": product}})
        self._current: dict[str, Template] = {}
        self._known: OrderedDict[str, Template] = OrderedDict()
        self._cache = RenderCache(most_entries=cache_entries, most_bytes=cache_bytes)

    def load(self) -> list[TemplateFault]:
        """Read the folder anew; answer every fault and warning.

        A template that cannot be used keeps its last good version as the current one; what is gone is current no more,
        and can still be rendered by its version.
        """
        sources, faults = read_folder(self._folder, layouts=shipped_folder())
        present = {source.key: source for source in sources}
        current: dict[str, Template] = {
            key: template
            for key, template in self._current.items()
            if key == CONTENT_KEY or (self._folder / key).is_dir()
        }
        for key, source in present.items():
            try:
                current[key] = self.add(source)
            except TemplateBroken as error:
                faults += [fault for fault in error.faults if fault not in faults]
        self._current = current
        for template in current.values():
            faults += warnings_of(template)
        return faults

    def try_examples(self) -> list[TemplateFault]:
        """Render every template on every channel, with its variables' examples and with no more than it needs.

        Answers what failed, what a service would refuse and what fits its medium badly.
        """
        return [
            fault
            for template in self.templates()
            for locale in template.locales
            for fault in self.try_locale(template, locale)
        ]

    def try_locale(self, template: Template, locale: str) -> list[TemplateFault]:
        """Try one in one locale; nothing for a template whose required variables have no examples."""
        faults: dict[TemplateFault, None] = {}
        data = template.examples()
        if data is None:
            return []
        needed = {one.name: data[one.name] for one in template.variables if one.required}
        cases = {"with its examples": data} | ({} if needed == data else {"with what it needs alone": needed})
        for channel in channels_of(template):
            for case, given in cases.items():
                faults |= dict.fromkeys(self._try(template, locale, channel, given, case))
        return list(faults)

    def compile(self, source: TemplateSource) -> Template:
        """Compile a version without making it known. Raises `TemplateBroken`."""
        return compile_template(source, self._workshop, self._default_locale, inline_source=self._inline_source)

    def _try(
        self, template: Template, locale: str, channel: str, data: Mapping[str, Any], case: str
    ) -> list[TemplateFault]:
        try:
            content = self.render(
                template=template,
                content=None,
                channel=channel,
                data=data,
                person=Person(name="Ada Example", locale=locale),
                category=template.category or "default",
                reference=None,
                unsubscribe_url=None,
            )
        except RenderFailed as error:
            return [TemplateFault(template.key, f"{case}: {error.detail}")]
        where = f"{template.key}/{locale}"
        return [
            TemplateFault(where, f"{channel}, {case}: {message}", severity=severity)
            for severity, message in fitting_faults(channel, content)
        ]

    def templates(self) -> list[Template]:
        """List the current templates, sorted by key."""
        return [self._current[key] for key in sorted(self._current) if key != CONTENT_KEY]

    def current(self, key: str) -> Template | None:
        """Find the version new notifications get."""
        return self._current.get(key)

    @property
    def content_version(self) -> str:
        """The version of the layout that `content` is shown in now."""
        return self._content_template().version

    @property
    def content_source(self) -> TemplateSource:
        """The text of that version, for storage."""
        return self._content_template().source

    def _content_template(self) -> Template:
        template = self._current.get(CONTENT_KEY)
        if template is None:
            raise RenderFailed("the layout for content is missing or broken")
        return template

    def find(self, version: str) -> Template | None:
        """Find any version that is known in memory."""
        template = self._known.get(version)
        if template is not None:
            self._known.move_to_end(version)
            return template
        return next((template for template in self._current.values() if template.version == version), None)

    def add(self, source: TemplateSource) -> Template:
        """Make a version known (one from the database). Raises `TemplateBroken`."""
        template = self.find(source.version)
        if template is None:
            template = self.compile(source)
            self._known[source.version] = template
            while len(self._known) > self._most_versions:
                self._known.popitem(last=False)
        return template

    def locale_for(self, template: Template, locale: str | None) -> str:
        """Choose the template's locale for a reader: `de-AT`, then `de`, then the default, then whatever there is."""
        if locale:
            wanted = locale.replace("_", "-").lower()
            by_name = {name.lower(): name for name in template.locales}
            while wanted:
                if wanted in by_name:
                    return by_name[wanted]
                wanted = wanted.rpartition("-")[0]
        if self._default_locale in template.locales or not template.locales:
            return self._default_locale
        return template.locales[0]

    def render(
        self,
        *,
        template: Template | None,
        content: ContentRequest | None,
        channel: str,
        data: Mapping[str, Any],
        person: Person,
        category: str,
        reference: str | None,
        unsubscribe_url: str | None,
        preferences_url: str | None = None,
        subject: str | None = None,
    ) -> Content:
        """Make what `channel` shows. Raises `RenderFailed`.

        With `content`, `template` is the pinned version of its layout, or None for the current one. `subject` stands
        in the place of the template's own.
        """
        if template is None:
            template = self._content_template()
        uses = template.mentions
        key = _key(
            (
                template.version,
                channel,
                person.name if "recipient" in uses else None,
                person.locale,
                person.timezone,
                category if "category" in uses else None,
                reference if "reference" in uses else None,
                unsubscribe_url if "unsubscribe_url" in uses else None,
                preferences_url if "preferences_url" in uses else None,
                subject,
                data,
                content,
            )
        )
        if key is not None and (known := self._cache.get(key)) is not None:
            return known
        scene = self._scene(
            template=template,
            channel=channel,
            person=person,
            category=category,
            reference=reference,
            unsubscribe_url=unsubscribe_url,
            preferences_url=preferences_url,
            data=data if content is None else None,
        )
        if content is not None:
            body = content.body if channel != _UNTITLED else _titled(content.title, content.body)
            words = _Words(content.title, body, content.url, content.image_url, content.actions)
            rendered = self._show(scene, words, subject)
        else:
            rendered = self._render_template(scene, subject)
        if key is not None:
            self._cache.put(key, rendered, more_bytes=len(key) if rendered.data else 0)
        return rendered

    def for_inbox(self, content: Content) -> Content:
        """Make of what was rendered for the inbox what lies in it: clean HTML and text, and web addresses alone."""
        return inbox_content(content)

    def item(
        self,
        *,
        template: Template,
        content: ContentRequest | None,
        channel: str,
        data: Mapping[str, Any],
        person: Person,
        category: str,
        reference: str | None,
        created_at: str,
    ) -> digest.Item:
        """Say what a message would have said on `channel`, to be one of several in a digest.

        One that cannot be rendered any more keeps its place, with the name of its template.
        """
        words: _Words
        if content is not None:
            words = _Words(content.title, content.body, content.url)
        else:
            scene = self._scene(
                template=template,
                channel=channel,
                person=person,
                category=category,
                reference=reference,
                unsubscribe_url=None,
                preferences_url=None,
                data=data,
            )
            own, generic = template.face(scene.locale, channel), template.generic(scene.locale)
            try:
                words = self._as_words(scene, own, generic, self._headline(scene, own, generic, None))
            except RenderFailed:
                words = _Words(template.description or template.key, "")
        return digest.Item(
            title=one_line(words.title),
            body=words.body,
            url=words.url,
            data=data,
            created_at=created_at,
            reference=reference,
        )

    def digest(
        self,
        *,
        items: Sequence[digest.Item],
        count: int,
        channel: str,
        person: Person,
        category: str,
        described: str,
        unsubscribe_url: str | None,
        preferences_url: str | None = None,
    ) -> Content:
        """Make one message of several, in the built-in layout. `count` of them there were, the newest are `items`."""
        template = self._content_template()
        scene = self._scene(
            template=template,
            channel=channel,
            person=person,
            category=category,
            reference=None,
            unsubscribe_url=unsubscribe_url,
            preferences_url=preferences_url,
            data=None,
        )
        own: Mapping[str, str] = scene.values["words"]
        title, body = digest.title_of(own, described, count), digest.body_of(own, channel, items, count)
        if channel == _UNTITLED:
            body = _titled(title, body)
        shown = self._show(scene, _Words(title, body), None)
        return msgspec.structs.replace(shown, data={**shown.data, **digest.data_of(channel, items, count)})

    def _scene(
        self,
        *,
        template: Template,
        channel: str,
        person: Person,
        category: str,
        reference: str | None,
        unsubscribe_url: str | None,
        preferences_url: str | None,
        data: Mapping[str, Any] | None,
    ) -> _Scene:
        if data is not None:
            locale = self.locale_for(template, person.locale)
        else:
            locale = _closest(template.words, person.locale) or self._default_locale
        same = person.locale is not None and _language(person.locale) == _language(locale)
        values = {
            **(template.values(data) if data is not None else {}),
            "recipient": {"name": person.name, "locale": person.locale},
            "category": category,
            "reference": reference,
            "unsubscribe_url": unsubscribe_url,
            "preferences_url": preferences_url,
            "locale": locale,
            "preheader": "",
            "words": self._words(template, locale),
        }
        spoken = babel_locale(person.locale if same and person.locale else locale)
        return _Scene(template, channel, locale, spoken, time_zone(person.timezone), values)

    def _words(self, template: Template, locale: str) -> Mapping[str, str]:
        chosen = _closest(template.words, locale) or self._default_locale
        return {**template.words.get(self._default_locale, {}), **template.words.get(chosen, {})}

    def _render_template(self, scene: _Scene, subject: str | None) -> Content:
        own = scene.template.face(scene.locale, scene.channel)
        generic = scene.template.generic(scene.locale)
        title = self._headline(scene, own, generic, subject)
        scene.values["subject"] = title
        if "data" in own:
            return self._own_structure(scene, own, generic, title)
        if "html" in own or "text" in own:
            message = self._own_message(scene, own, title)
            return message if scene.channel == "email" else self._with_words(scene, generic, message)
        return self._show(scene, self._as_words(scene, own, generic, title), None)

    def _headline(
        self, scene: _Scene, own: Mapping[Slot, Part], generic: Mapping[Slot, Part], subject: str | None
    ) -> str:
        if subject is not None:
            return one_line(subject)
        part = own.get("subject") or generic.get("subject")
        if part is None:
            part = next(
                (
                    face["subject"]
                    for channel in scene.template.channels
                    if "subject" in (face := scene.template.face(scene.locale, channel))
                ),
                None,
            )
        return one_line(self._run(scene, part)) if part is not None else ""

    def _own_message(self, scene: _Scene, own: Mapping[Slot, Part], title: str) -> Content:
        html = self._html(scene, own["html"]) if "html" in own else None
        text = tidy(self._run(scene, own["text"])) if "text" in own else self._text_of(scene, html or "")
        return Content(subject=title or None, text=text, html=html)

    def _text_of(self, scene: _Scene, html: str) -> str:
        # A chat's HTML has no paragraphs: its line breaks are the text's own.
        return text_of(html if scene.channel == "email" else f"<pre>{html}</pre>")

    def _own_structure(
        self, scene: _Scene, own: Mapping[Slot, Part], generic: Mapping[Slot, Part], title: str
    ) -> Content:
        """Make the channel's structure, and beside it the words: for clients and readers that show nothing else."""
        part, ledger = own["data"], self._workshop.ledger
        data = self._read(scene, part, lambda rendered: parts.structure(rendered, ledger, scene.channel))
        if "text" in own:
            text = self._run(scene, own["text"]).strip()
        elif (body := own.get("body") or generic.get("body")) is not None:
            text = markdown.plain(read(self._run(scene, body)))
        else:
            text = self._read(scene, part, lambda rendered: parts.words_in(parts.unwoven(rendered, ledger)))
        return Content(subject=title or None, text=text or None, data=data)

    def _with_words(self, scene: _Scene, generic: Mapping[Slot, Part], message: Content) -> Content:
        """Put the generic parts that are no text beside a channel's own text."""
        url, image_url = self._line(scene, generic.get("url")), self._line(scene, generic.get("image_url"))
        text = (message.text or "").strip()
        if scene.channel == "sms":
            text = text.replace("\u00a0", " ")  # dates and sums bring it, and it alone would make every segment dearer
        return msgspec.structs.replace(
            message,
            text=text,
            data=parts.beside(
                message.subject or "",
                text,
                url=url,
                image_url=image_url,
                actions=self._actions(scene, generic),
                always=scene.channel in SHARED,
            ),
        )

    def _line(self, scene: _Scene, part: Part | None) -> str | None:
        return None if part is None else one_line(self._run(scene, part)) or None

    def _actions(self, scene: _Scene, generic: Mapping[Slot, Part]) -> tuple[Action, ...]:
        part, ledger = generic.get("actions"), self._workshop.ledger
        return () if part is None else self._read(scene, part, lambda rendered: parts.actions(rendered, ledger))

    def _read(self, scene: _Scene, part: Part, read: Callable[[str], Made]) -> Made:
        try:
            return read(self._run(scene, part))
        except Refused as refusal:
            raise RenderFailed(f"{_whose(scene)}: {part.path}: {refusal}") from None

    def _as_words(self, scene: _Scene, own: Mapping[Slot, Part], generic: Mapping[Slot, Part], title: str) -> _Words:
        """Gather what a channel without parts of its own shows: the generic parts, or else another channel's text."""
        part = own.get("body") or generic.get("body")
        body = self._run(scene, part) if part is not None else self._borrowed_body(scene)
        return _Words(
            title or scene.template.description or scene.template.key,
            _titled(title, body) if title and scene.channel == _UNTITLED else body,
            self._line(scene, generic.get("url")),
            self._line(scene, generic.get("image_url")),
            self._actions(scene, generic),
        )

    def _borrowed_body(self, scene: _Scene) -> str:
        # E-mail says most; after it the order is only that of names, so that it is always the same.
        channels = sorted(scene.template.channels, key=lambda channel: (channel != "email", channel))
        faces = [scene.template.face(scene.locale, channel) for channel in channels]
        for face in faces:
            if "body" in face:
                return self._run(scene, face["body"])
        for face in faces:
            if "text" in face:
                return escape_markdown(tidy(self._run(scene, face["text"])).strip())
        for face in faces:
            if "html" in face:
                return escape_markdown(text_of(self._html(scene, face["html"])))
        ledger = self._workshop.ledger
        for face in faces:
            if "data" in face:
                words = self._read(
                    scene, face["data"], lambda rendered: parts.words_in(parts.unwoven(rendered, ledger))
                )
                return escape_markdown(words)
        return ""

    def _show(self, scene: _Scene, words: _Words, subject: str | None) -> Content:
        """Show words in the layout (e-mail), or hand them to the channel to show natively."""
        title = one_line(subject if subject is not None else words.title)
        tokens = read(words.body)
        text = markdown.plain(tokens)
        if scene.channel != "email":
            return Content(subject=title, text=_with_links(text, words), data=_native(title, words))
        layout = scene.template.layout
        if layout is None:
            return Content(subject=title, text=_with_links(text, words))
        html = markdown.html(tokens, layout.dress)
        return self._in_layout(scene=scene, layout=layout, words=words, subject=title, text=text, html=html)

    def _in_layout(
        self, *, scene: _Scene, layout: Layout, words: _Words, subject: str, text: str, html: str
    ) -> Content:
        shown: dict[str, Any] = {
            "title": one_line(words.title),
            "url": words.url,
            "image_url": words.image_url,
            "actions": [{"label": action.label, "url": action.url} for action in words.actions],
        }
        values = {**scene.values, "subject": subject, "preheader": one_line(text)[:PREHEADER_CHARS]}
        html_scene = msgspec.structs.replace(scene, values={**values, "content": {**shown, "body": Markup(html)}})  # noqa: S704 # escaped just before
        text_scene = msgspec.structs.replace(scene, values={**values, "content": {**shown, "body": text}})
        return Content(
            subject=subject,
            html=self._html(html_scene, layout.html),
            text=tidy(self._run(text_scene, layout.text)),
        )

    def _html(self, scene: _Scene, part: Part) -> str:
        html = self._run(scene, part)
        return inline_whole(html) if part.whole_inline else html

    def _run(self, scene: _Scene, part: Part) -> str:
        compiled = part.compiled
        if isinstance(compiled, Compiled):
            return self._workshop.run(compiled, scene.values, scene.spoken, scene.zone, _whose(scene))
        return compiled.run(scene.values, scene.spoken, scene.zone, _whose(scene))


def _titled(title: str, body: str) -> str:
    """Put a title before a body, as Markdown: for a medium that has no place of its own for it."""
    return f"{escape_markdown(title)}\n\n{body}" if body else escape_markdown(title)


def channels_of(template: Template) -> list[str]:
    """List what a template is checked and previewed on: every medium, and what else it has parts for."""
    return [*MEDIA, *(channel for channel in template.channels if channel not in MEDIA)]


def _key(depends: tuple[object, ...]) -> bytes | None:
    """Make a cache key: everything the result depends on, as bytes. None for data that is no JSON."""
    try:
        return _encode(depends)
    except (TypeError, ValueError):
        return None


def _whose(scene: _Scene) -> str:
    return f"{scene.template.key} ({scene.template.version[:19]})"


def _language(locale: str) -> str:
    return locale.replace("_", "-").split("-")[0].lower()


def _closest(words: Mapping[str, object], locale: str | None) -> str | None:
    if not locale:
        return None
    name = locale.replace("_", "-")
    return name if name in words else _language(name) if _language(name) in words else None


def one_line(text: str) -> str:
    """Make one line of `text`: every kind of line break becomes a space, so nothing after it can pose as a header."""
    return " ".join(text.split())


def tidy(text: str) -> str:
    """Bring a text part into shape: no trailing spaces, at most one empty line in a row, a final line break."""
    lines: list[str] = []
    for line in text.split("\n"):
        kept = line.rstrip()
        if kept or (lines and lines[-1]):
            lines.append(kept)
    return "\n".join(lines).rstrip("\n") + "\n"


def text_of(html: str) -> str:
    """Derive the text part from HTML: what is hidden stays hidden, a link shows its address."""
    # Imported here: only a template without a text part pays for lxml, at start and in memory.
    from inscriptis import get_text  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] # it has none
    from inscriptis.model.config import ParserConfig  # noqa: PLC0415 # pyright: ignore[reportMissingTypeStubs] # it has none

    return tidy(get_text(html, ParserConfig(display_links=True, display_images=True))) if html.strip() else ""


def _with_links(text: str, words: _Words) -> str:
    lines = [f"{action.label}: {action.url}" for action in words.actions]
    lines += [words.url] if words.url and words.url not in {action.url for action in words.actions} else []
    return "\n\n".join(block for block in (text, "\n".join(lines)) if block)


def _native(title: str, words: _Words) -> dict[str, Any]:
    """Hand the words over for an adapter to show in its own way; `body` is Markdown."""
    return {
        "title": title,
        "body": words.body,
        "url": words.url,
        "image_url": words.image_url,
        "actions": [{"label": action.label, "url": action.url} for action in words.actions],
    }
