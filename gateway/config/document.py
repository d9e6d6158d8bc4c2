"""A configuration file as read: its tables, and on which line each key stands.

Owns TOML. Knows no key: what the keys mean is `gateway.config.settings`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeGuard

import msgspec

from gateway.config.faults import ConfigFault, ConfigurationFaults
from gateway.model.collect import child

_MOST_BYTES: Final = 4 * 1024 * 1024
"""A configuration is written by people; what is larger is another file, named by mistake."""
_KEY: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER: Final = re.compile(rf"\s*\[{{1,2}}\s*(?P<keys>{_DOTTED})\s*\]")
_ASSIGNED: Final = re.compile(rf"\s*(?P<keys>{_DOTTED})\s*=(?P<rest>.*)")
_ONE_KEY: Final = re.compile(_KEY)
_AT_LINE: Final = re.compile(r"\s*\(at (?:line (?P<line>\d+), column \d+|end of document)\)$")


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A file's tables and the lines its keys stand on, by path."""

    file: Path | None = None
    tables: dict[str, Any] = {}
    lines: Mapping[str, int] = {}

    def line_of(self, path: str) -> int | None:
        """Find the line of a key, or of the closest table around it; `None` if it stands in no file."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None


def is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    """Say whether a value of a file is a table; TOML's keys are always text."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Say whether a value of a file is a list."""
    return isinstance(value, list)


def read_document(file: Path) -> Document:
    """Read a file; raises `ConfigurationFaults` for one that is missing, unreadable or not TOML."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            raise _unreadable(file, f"is larger than {_MOST_BYTES} bytes: this is no configuration")
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise _unreadable(file, "does not exist") from None
    except OSError as error:
        raise _unreadable(file, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _unreadable(file, "is not UTF-8 text") from None
    try:
        return Document(file=file, tables=tomllib.loads(text), lines=locate(text))
    except tomllib.TOMLDecodeError as error:
        found = _AT_LINE.search(str(error))
        line = int(found["line"]) if found is not None and found["line"] else None
        words = str(error)[: found.start()] if found is not None else str(error)
        raise ConfigurationFaults([ConfigFault("", line, f"This is not valid TOML: {words}.")], file) from None
    except RecursionError:
        raise _unreadable(file, "is nested too deeply") from None


def _unreadable(file: Path, words: str) -> ConfigurationFaults:
    return ConfigurationFaults([ConfigFault("", None, f"The file {file} {words}.")], file)


def locate(text: str) -> dict[str, int]:
    """Find the line each table and key begins on. Best effort: a key inside an inline table has its table's line."""
    lines: dict[str, int] = {}
    section: list[str] = []
    closing: str | None = None  # the quotes that end the multi-line string we are in
    for number, line in enumerate(text.splitlines(), start=1):
        if closing is not None:
            closing = None if closing in line else closing
        elif (header := _HEADER.match(line)) is not None:
            section = _names(header["keys"])
            _note(lines, section, number)
        elif (assigned := _ASSIGNED.match(line)) is not None:
            _note(lines, [*section, *_names(assigned["keys"])], number)
            closing = next((q for q in ('"""', "'''") if assigned["rest"].count(q) % 2), None)
    return lines


def _note(lines: dict[str, int], names: list[str], number: int) -> None:
    path = ""
    for name in names:
        path = child(path, name)
        lines.setdefault(path, number)


def _names(dotted: str) -> list[str]:
    keys: list[str] = _ONE_KEY.findall(dotted)
    return [next(iter(tomllib.loads(f"{key} = 0"))) for key in keys]
