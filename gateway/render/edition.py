"""Templates edited through the API: from what a caller writes to a source like a folder's.

Owns the names of parts in a request, the file beside them that says whose edition it is, and how a version of one is
named. Refuses to know HTTP and storage. An edition's parts are Liquid; the layout that it shares with plain `content`
is the gateway's own, and is pinned with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gateway.errors import Code, Fault
from gateway.model.requests import Request
from gateway.render.source import (
    EDITION,
    LOCALE,
    MEDIA,
    RESERVED,
    SHARED,
    VARIABLE,
    Edition,
    TemplateFault,
    TemplateSource,
    Variable,
    make_source,
    part_name,
)

_MOST_CHARS: Final = 256 * 1024
"""Characters all parts together may have: far above any real template, and below what one body carries."""
_SHORT: Final = {"body": "body.md", "actions": "actions.json"}
"""Generic parts that are no plain text; every other `.txt` may be left out."""


class EditedVariable(Request, frozen=True, kw_only=True):
    """What the template asks its caller for. Required, unless it has a default or says that it is not."""

    required: bool | None = None
    default: Any = None
    description: Annotated[str, Meta(max_length=1000)] = ""
    example: Any = None


PartText = Annotated[str, Meta(max_length=131_072)]


class Edit(Request, frozen=True, kw_only=True):
    """A new draft version of a template.

    `parts` maps locales to parts by the folder's names; `.txt` may be left out, `body` is Markdown and `actions` JSON:
    `{"en": {"title": "…", "body": "…", "email.subject": "…", "email.html": "…", "sms": "…", "slack.json": "…"}}`.
    Parts are Liquid.
    """

    parts: Annotated[dict[str, dict[str, PartText]], Meta(min_length=1, max_length=100)]
    variables: Annotated[dict[str, EditedVariable], Meta(max_length=200)] = {}  # noqa: RUF012 # msgspec copies it
    category: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    description: Annotated[str, Meta(max_length=1000)] = ""


def edit_faults(edit: Edit, configured: Collection[str] = ()) -> list[Fault]:
    """List what is wrong with the names in a draft; its texts are read when it is compiled.

    `configured` are channels beside the gateway's own.
    """
    channels = {"", *MEDIA, *SHARED.values(), *configured}
    faults = [fault for name, one in edit.variables.items() for fault in _variable_faults(name, one)]
    for locale, parts in edit.parts.items():
        if not LOCALE.fullmatch(locale):
            faults.append(Fault(f"parts.{locale}", Code.INVALID, "a locale is written like en or de-AT"))
        faults += _part_faults(locale, parts, channels)
    if sum(len(text) for parts in edit.parts.values() for text in parts.values()) > _MOST_CHARS:
        faults.append(Fault("parts", Code.TOO_LONG, f"all parts together have at most {_MOST_CHARS} characters"))
    return faults


def _variable_faults(name: str, variable: EditedVariable) -> Iterator[Fault]:
    where = f"variables.{name}"
    if not VARIABLE.fullmatch(name):
        yield Fault(where, Code.INVALID, "a variable's name is letters, digits and underscores")
    elif name in RESERVED:
        yield Fault(where, Code.NOT_ALLOWED, "this name is taken: every template has it already")
    if variable.required and variable.default is not None:
        yield Fault(where, Code.EXCLUSIVE, "it is required and has a default: choose one")


def _part_faults(locale: str, parts: Mapping[str, str], channels: Collection[str]) -> Iterator[Fault]:
    if not parts:
        yield Fault(f"parts.{locale}", Code.TOO_SHORT, "there is no part in it")
    seen: set[str] = set()
    for name in parts:
        filename, where = filename_of(name), f"parts.{locale}.{name}"
        if filename is None or (known := part_name(filename)) is None or known.channel not in channels:
            message = "not a part: parts are named like title, body, email.subject, email.html, sms or slack.json"
            yield Fault(where, Code.UNKNOWN_FIELD, message)
        elif filename in seen:
            yield Fault(where, Code.EXCLUSIVE, f"{filename} is there twice")
        else:
            seen.add(filename)


def filename_of(name: str) -> str | None:
    """Find the file that a part of a request would be; None for what is no part."""
    written = _SHORT.get(name, name)
    for filename in (written, f"{written}.txt"):
        if part_name(filename) is not None:
            return filename
    return None


def edition_source(edit: Edit, *, project: str, key: str, number: int, layouts: Mapping[str, str]) -> TemplateSource:
    """Make the source of a version. Parts without a name of the folder's are left out: they are faults already."""
    edition = Edition(
        project=project,
        number=number,
        category=edit.category,
        description=edit.description,
        variables=tuple(
            Variable(
                name=name,
                required=one.default is None if one.required is None else one.required,
                default=one.default,
                description=one.description,
                example=one.example,
            )
            for name, one in edit.variables.items()
        ),
    )
    files = {f"{key}/{EDITION}": msgspec.json.encode(edition).decode(), **layouts}
    for locale, parts in edit.parts.items():
        for name, text in parts.items():
            if (filename := filename_of(name)) is not None and LOCALE.fullmatch(locale):
                files[f"{key}/{locale}/{filename}"] = text.replace("\r\n", "\n")
    return make_source(key, files)


def field_faults(edit: Edit, key: str, found: list[TemplateFault]) -> list[Fault]:
    """Say the faults of a compiled draft by the fields of the request."""
    fields = {
        f"{key}/{locale}/{filename_of(name)}": f"parts.{locale}.{name}"
        for locale, parts in edit.parts.items()
        for name in parts
    }
    return [_field_fault(fault, key, fields) for fault in found if fault.severity == "error"]


def _field_fault(fault: TemplateFault, key: str, fields: Mapping[str, str]) -> Fault:
    line = "" if fault.line is None else f"line {fault.line}: "
    if (field := fields.get(fault.path)) is not None:
        code = Code.UNDECLARED_VARIABLE if fault.undeclared else Code.TEMPLATE_ERROR
        return Fault(field, code, line + fault.message)
    place = fault.path.removeprefix(f"{key}/")
    if place.count("/") == 1:  # a part that another locale has
        return Fault(f"parts.{place.replace('/', '.')}", Code.REQUIRED, fault.message)
    return Fault("parts", Code.TEMPLATE_ERROR, f"{line}{fault.message}")
