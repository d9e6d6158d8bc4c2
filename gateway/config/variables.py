"""`GATEWAY__SECTION__KEY`: environment variables laid over the file's tables.

Owns how a variable's name becomes a key. What its text means is decided later, by the key's type (`decode`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.config.document import is_table
from gateway.config.faults import ConfigFault
from gateway.model.collect import child

PREFIX: Final = "GATEWAY__"
_SHORT: Final = {"GATEWAY_DATABASE_URL": "database", "GATEWAY_BOOTSTRAP_KEY": "bootstrap_key"}
"""Variables with names of their own. An empty one is one that is not set: compose files pass those."""


class Text(str):
    """What a variable holds, not yet read; `variable` is its name."""

    __slots__ = ("variable",)

    variable: str

    @classmethod
    def of(cls, variable: str, text: str) -> Text:
        """Mark `text` as the content of `variable`."""
        made = cls(text)
        made.variable = variable
        return made


def overlay(tables: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[dict[str, Any], list[ConfigFault]]:
    """Lay the variables over a copy of `tables`: first the short ones, then `GATEWAY__…`, general before specific."""
    result = _copied(tables)
    faults: list[ConfigFault] = []
    for variable, key in _SHORT.items():
        if environ.get(variable):
            result[key] = Text.of(variable, environ[variable])
    for variable, segments in _named(environ):
        if not all(segments):
            faults.append(ConfigFault("", None, f"{variable} names no key: write GATEWAY__SECTION__KEY."))
            continue
        fault = _put(result, segments, Text.of(variable, environ[variable]))
        if fault is not None:
            faults.append(fault)
    return result, faults


def sources(value: Any, path: str = "") -> dict[str, str]:
    """Tell which variable set which path: a fault there is the variable's, and stands on no line."""
    if isinstance(value, Text):
        return {path: value.variable}
    if not is_table(value):
        return {}
    found: dict[str, str] = {}
    for name, item in value.items():
        found |= sources(item, child(path, name))
    return found


def read_value(text: str) -> Any:
    """Read text as a TOML value (list, number, boolean, inline table); `None` if it is none."""
    if "\n" in text or "\r" in text:
        return None  # a second line could bring further keys
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    found = [name for name in environ if name.startswith(PREFIX)]
    for name in sorted(found, key=lambda name: (name.count("__"), name)):
        yield name, name.removeprefix(PREFIX).lower().split("__")


def _copied(value: Any) -> Any:
    if is_table(value):
        return {name: _copied(item) for name, item in value.items()}
    return value


def _put(tables: dict[str, Any], segments: list[str], text: Text) -> ConfigFault | None:
    table = tables
    path = ""
    for index, segment in enumerate(segments):
        names = [name for name in table if name.lower().replace("-", "_") == segment]
        if len(names) > 1:
            choices = " and ".join(sorted(names))
            return ConfigFault(path, None, f"{text.variable} could mean {choices}: rename one of them.")
        name = names[0] if names else segment
        path = child(path, name)
        if index == len(segments) - 1:
            table[name] = text
            return None
        inner: Any = table.setdefault(name, {})
        if isinstance(inner, Text):
            inner = table[name] = read_value(inner)
        if not is_table(inner):
            return ConfigFault(path, None, f"{text.variable} reaches below {path}, which is not a table.")
        table = inner
    return None
