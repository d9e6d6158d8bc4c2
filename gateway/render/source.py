"""The text of templates: reads the folder, names each state of it by its content, packs it for the database.

Owns the folder's layout (`<key>/template.toml`, `<key>/<locale>/<part>`, `_layouts/`) and the version, a hash over
everything a template can reach. Refuses to know how a part becomes a message.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
import zlib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from jinja2 import Environment, TemplateSyntaxError, meta

from gateway.errors import GatewayError

CONTENT_KEY: Final = "_content"
"""The key under which the layout of `content` requests is versioned; no folder can have it."""
CONTENT_HTML: Final = "_layouts/content.html"
CONTENT_TEXT: Final = "_layouts/content.txt"
WORDS: Final = "_layouts/words.toml"
"""The few words that layouts say themselves, per locale."""
EDITION: Final = "edit.json"
"""Stands in the place of `template.toml` in what was edited through the API; no folder can have it."""

MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of text one template may consist of, unpacked: far above any real one, and a bound for a damaged row."""

RESERVED: Final = frozenset(
    {
        "category",
        "content",
        "gateway",
        "locale",
        "preferences_url",
        "preheader",
        "recipient",
        "reference",
        "subject",
        "unsubscribe_url",
        "words",
    }
)
"""Names every template may use without declaring them, so no variable can take them."""

KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
LOCALE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PART = re.compile(r"(?P<channel>[a-z][a-z0-9_]*)(\.(?P<slot>[a-z_]+))?\.(?P<medium>txt|html|md|json)")

Medium = Literal["txt", "html", "md", "json"]
Slot = Literal["subject", "text", "html", "data", "body", "url", "image_url", "actions"]

_GENERIC: Final[dict[str, Slot]] = {
    "title.txt": "subject",
    "body.md": "body",
    "url.txt": "url",
    "image_url.txt": "image_url",
    "actions.json": "actions",
}
_PLAIN_SLOT: Final[dict[str, Slot]] = {"txt": "text", "html": "html", "json": "data", "md": "body"}
_HEADLINES: Final = frozenset({"subject", "title"})

MEDIA: Final = (
    "email",
    "slack",
    "discord",
    "teams",
    "telegram",
    "sms",
    "web_push",
    "mobile_push",
    "inbox",
    "webhook",
)
"""The channels a template is checked and previewed on, whatever it has parts for: none of them may show nothing."""
SHARED: Final = {"web_push": "push", "mobile_push": "push"}
"""Channels that read the same few words: their parts may be written once, `push.title.txt` and `push.txt`."""


class TemplateFault(msgspec.Struct, frozen=True):
    """One thing wrong with one file: `path` is relative to the folder, `line` counts from 1 where it is known."""

    path: str
    message: str
    line: int | None = None
    severity: Literal["error", "warning"] = "error"
    undeclared: bool = False
    """Whether it is a variable that nobody declared."""

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{where}: {self.severity}: {self.message}"


class SourceDamaged(GatewayError):
    """Stored bytes that are no template, or not the one their version names."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """What a template asks its caller for. TOML knows no null, so a `default` of None means there is none."""

    name: str
    required: bool = True
    default: Any = None
    description: str = ""
    example: Any = None


class PartName(msgspec.Struct, frozen=True):
    """What a file in a locale's folder is: `channel` is empty for the generic parts."""

    channel: str
    slot: Slot
    medium: Medium


class TemplateSource(msgspec.Struct, frozen=True, kw_only=True):
    """A template as text: enough to build it again later, whatever has become of the folder.

    `files` maps paths relative to the templates folder (shared layouts too) to their text.
    """

    key: str
    version: str
    files: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `template.toml` says."""

    category: str | None = None
    description: str = ""
    variables: tuple[Variable, ...] = ()


class Edition(Manifest, frozen=True, kw_only=True):
    """What the API knows of a version edited through it; `number` is unique for a project's key."""

    project: str
    number: int


class _VariableTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    required: bool | None = None
    default: Any = None
    description: str = ""
    example: Any = None


class _ManifestTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    category: str | None = None
    description: str = ""
    variables: dict[str, _VariableTable] = {}


def version_of(key: str, files: dict[str, str]) -> str:
    """Name this exact text. JSON keeps names and texts apart, so no two different sets share their bytes.

    An edition's name begins with its number, so that whoever has the name can show the number.
    """
    digest = "sha256:" + hashlib.sha256(msgspec.json.encode([key, sorted(files.items())])).hexdigest()
    edition = edition_of(key, files)
    return digest if edition is None else f"{edition.number}@{digest}"


def edition_of(key: str, files: dict[str, str]) -> Edition | None:
    """Read what the API noted of an edition; None for a folder's template. Raises `SourceDamaged`."""
    text = files.get(f"{key}/{EDITION}")
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Edition)
    except msgspec.DecodeError as error:
        raise SourceDamaged("A stored edition cannot be read.") from error


def shown_version(version: str) -> int | str:
    """Show a version as callers know it: an edition by its number, a folder's content by its hash."""
    number, at, _ = version.partition("@")
    return int(number) if at else version


def is_text(path: str) -> bool:
    """Say whether a file of a source is a part or a layout, and not what is noted about them."""
    return not path.endswith((".toml", f"/{EDITION}"))


def make_source(key: str, files: dict[str, str]) -> TemplateSource:
    """Give `files` their version."""
    return TemplateSource(key=key, version=version_of(key, files), files=files)


def encode(source: TemplateSource) -> bytes:
    """Pack for storage."""
    return zlib.compress(msgspec.msgpack.encode(source))


def decode(packed: bytes) -> TemplateSource:
    """Unpack what `encode` made. Raises `SourceDamaged` unless the text still is what its version says."""
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(packed, MOST_BYTES)
        source = msgspec.msgpack.decode(plain, type=TemplateSource)
    except (zlib.error, msgspec.DecodeError) as error:
        raise SourceDamaged(f"A stored template cannot be read: {type(error).__name__}.") from error
    if source.version != version_of(source.key, source.files):
        raise SourceDamaged(f"The stored template {source.key!r} is not what its version {source.version} names.")
    return source


def part_name(filename: str) -> PartName | None:
    """Read a part's file name: `email.subject.txt`, `email.html`, `slack.json`, `title.txt`; None for anything else."""
    found = _PART.fullmatch(filename)
    if found is None:
        return None
    medium: Medium = found["medium"]  # pyright: ignore[reportAssignmentType] # the pattern admits only these four
    if filename in _GENERIC:
        return PartName("", _GENERIC[filename], medium)
    if found["slot"] is None:
        lost = filename.split(".", 1)[0] in {"title", "body", "url", "image_url", "actions"}
        lost = lost or (found["channel"] in SHARED.values() and medium == "json")  # their structures differ
        return None if lost else PartName(found["channel"], _PLAIN_SLOT[medium], medium)
    return PartName(found["channel"], "subject", "txt") if found["slot"] in _HEADLINES and medium == "txt" else None


def read_manifest(text: str) -> Manifest:
    """Read `template.toml`. Raises `ValueError` with a sentence for what is wrong."""
    try:
        table = msgspec.convert(tomllib.loads(text), _ManifestTable)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from error
    variables: list[Variable] = []
    for name, entry in table.variables.items():
        if not VARIABLE.fullmatch(name):
            raise ValueError(f"a variable's name is letters, digits and underscores, not {name!r}")
        if name in RESERVED:
            raise ValueError(f"the variable name {name!r} is taken: every template has it already")
        if entry.required and entry.default is not None:
            raise ValueError(f"the variable {name!r} is required and has a default: choose one")
        required = entry.default is None if entry.required is None else entry.required
        variables.append(
            Variable(
                name=name,
                required=required,
                default=entry.default,
                description=entry.description,
                example=entry.example,
            )
        )
    return Manifest(category=table.category, description=table.description, variables=tuple(variables))


def read_folder(folder: Path, *, layouts: Path | None = None) -> tuple[list[TemplateSource], list[TemplateFault]]:
    """Read every template below `folder`, sorted by key, and every fault found on the way.

    A layout that `folder` lacks is looked for in `layouts` (the shipped ones). A template with a fault is left out;
    the layout for `content` comes as a source with the key `_content`.
    """
    reader = _Reader(folder, layouts)
    if not folder.is_dir():
        return [], [TemplateFault(str(folder), "there is no such folder")]
    sources = [reader.template(entry) for entry in sorted(folder.iterdir()) if _is_template(entry)]
    sources.append(reader.content())
    good = [source for source in sources if source is not None]
    return sorted(good, key=lambda source: source.key), reader.faults


def _is_template(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(("_", "."))


class _Reader:
    """One pass over the folder; keeps what it has read, so that a layout is read and searched once."""

    def __init__(self, folder: Path, layouts: Path | None) -> None:
        self.folder = folder
        self.layouts = layouts
        self.faults: list[TemplateFault] = []
        self._environment = Environment(autoescape=True)  # only parses: nothing is rendered with it
        self._texts: dict[str, str | None] = {}
        self._references: dict[str, tuple[str, ...]] = {}

    def template(self, home: Path) -> TemplateSource | None:
        before = len(self.faults)
        key = home.name
        if not KEY.fullmatch(key):
            self._fault(key, "a template's folder is named in lower-case letters, digits, '.', '_' and '-'")
            return None
        files = self._own_files(home)
        parts = [name for path in files if (name := part_name(path.rsplit("/", 1)[-1])) is not None]
        if not parts:
            self._fault(key, "there is no part in any locale, such as en/email.html or en/body.md")
        wanted = [reference for path in files for reference in self._reach(path, key)]
        if not any(part.channel == "email" and part.slot in {"html", "text"} for part in parts):
            wanted += self._content_layouts()
        self._add(files, wanted)
        return make_source(key, files) if len(self.faults) == before else None

    def content(self) -> TemplateSource | None:
        before = len(self.faults)
        files: dict[str, str] = {}
        self._add(files, self._content_layouts())
        return make_source(CONTENT_KEY, files) if len(self.faults) == before else None

    def _content_layouts(self) -> list[str]:
        return [name for path in (CONTENT_HTML, CONTENT_TEXT) for name in (path, *self._reach(path, CONTENT_KEY))]

    def _add(self, files: dict[str, str], wanted: list[str]) -> None:
        for path in [*wanted, WORDS] if wanted else []:
            text = self._text(path)
            if text is not None:
                files[path] = text

    def _own_files(self, home: Path) -> dict[str, str]:
        files: dict[str, str] = {}
        manifest = f"{home.name}/template.toml"
        text = self._text(manifest)
        if text is None:
            self._fault(manifest, "every template needs this file")
        else:
            files[manifest] = text
            try:
                read_manifest(text)
            except ValueError as error:
                self._fault(manifest, str(error))
        for place in sorted(entry for entry in home.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
            if not LOCALE.fullmatch(place.name):
                self._fault(f"{home.name}/{place.name}", "a locale's folder is named like 'en' or 'de-AT'")
                continue
            for path in sorted(entry for entry in place.iterdir() if not entry.name.startswith(".")):
                self._take_part(f"{home.name}/{place.name}/{path.name}", files)
        return files

    def _take_part(self, path: str, files: dict[str, str]) -> None:
        if part_name(path.rsplit("/", 1)[-1]) is None:
            self._fault(path, "not a part: parts are named like email.subject.txt, email.html, slack.json or body.md")
            return
        text = self._text(path)
        if text is not None:
            files[path] = text

    def _reach(self, path: str, key: str) -> list[str]:
        """List the layouts `path` extends, includes or imports, and theirs in turn."""
        found: dict[str, None] = {}
        waiting = [path]
        while waiting:
            for name in self._references_of(waiting.pop()):
                if not name.startswith(("_layouts/", f"{key}/")):
                    self._fault(path, f"only files below _layouts/ can be shared, not {name!r}")
                elif self._text(name) is None:
                    self._fault(path, f"there is no {name!r}")
                elif name not in found:
                    found[name] = None
                    waiting.append(name)
        return list(found)

    def _references_of(self, path: str) -> tuple[str, ...]:
        if path not in self._references:
            self._references[path] = tuple(self._search(path))
        return self._references[path]

    def _search(self, path: str) -> list[str]:
        text = self._text(path)
        if text is None or path.endswith(".toml"):
            return []
        try:
            names = list(meta.find_referenced_templates(self._environment.parse(text)))
        except TemplateSyntaxError as error:
            self._fault(path, error.message or "this cannot be read", error.lineno)
            return []
        if None in names:
            self._fault(path, "a layout is named by a plain string, so that its version can be pinned")
        return [name for name in names if name is not None]

    def _text(self, path: str) -> str | None:
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path]

    def _read(self, path: str) -> str | None:
        if ".." in path.split("/"):
            return None
        places = [self.folder, self.layouts] if path.startswith("_layouts/") and self.layouts else [self.folder]
        for place in places:
            file = place / path
            if file.is_file():
                try:
                    # Line endings are made one, or a checkout on another system would be another version.
                    return file.read_text(encoding="utf-8").replace("\r\n", "\n")
                except (OSError, UnicodeDecodeError) as error:
                    self._fault(path, f"this cannot be read as UTF-8 text: {type(error).__name__}")
                    return None
        return None

    def _fault(self, path: str, message: str, line: int | None = None) -> None:
        fault = TemplateFault(path, message, line)
        if fault not in self.faults:
            self.faults.append(fault)
