"""From a table of the file to a checked struct: secrets fetched, variables read, rates parsed, every fault collected.

Owns the way of one value. Knows no key and no adapter.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import inspect

from gateway.config.document import is_list, is_table
from gateway.config.settings import Rate, Secret
from gateway.config.variables import Text, read_value
from gateway.model.collect import child, collect_faults

_SECRET_MOST_BYTES: Final = 65_536
"""Keys and passwords are short; a larger file was named by mistake."""
_WHOLE_KEY: Final = frozenset({"true", "false"})


class _Absent:
    """Stands where a value could not be had; the fault is already noted."""


_ABSENT: Final = _Absent()
_UNSET: Final = _Absent()
"""The same, because an environment variable is not set: some keys forgive that."""


class Decoder:
    """Decodes tables and gathers what is wrong with them, over one load.

    `faults` are (path, message). `references` are the paths whose values came from `{ env }` or `{ file }`.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[tuple[str, str]] = []
        self.references: set[str] = set()

    def decode(self, value: Any, type_: Any, path: str, *, unset_is_none: bool = False) -> Any:
        """Read `value` as a `type_`. `None` if it names an unset secret and `unset_is_none`.

        With faults, what remains without the faulty keys, so that the rules look at the rest too; `None` if nothing.
        """
        known = len(self.faults)
        prepared = self._prepare(value, inspect.type_info(type_), path)
        if prepared is _UNSET and unset_is_none:
            del self.faults[known:]
            return None
        self._collect(prepared, type_, path, known)
        if len(self.faults) == known:
            return msgspec.convert(prepared, type_)
        return self._remains(prepared, type_, path, known)

    def _remains(self, prepared: Any, type_: Any, path: str, known: int) -> Any:
        if not is_table(prepared):
            return None
        bad = tuple(found for found, _ in self.faults[known:])
        kept = {name: item for name, item in prepared.items() if not touched(child(path, name), bad)}
        try:
            return msgspec.convert(kept, type_)
        except msgspec.ValidationError:
            return None

    def fault(self, path: str, message: str) -> None:
        """Note a fault."""
        self.faults.append((path, message))

    def _collect(self, prepared: Any, type_: Any, path: str, known: int) -> None:
        noted = [found for found, _ in self.faults[known:]]
        for fault in collect_faults(prepared, type_):
            below = fault.field if fault.field.startswith("[") or not fault.field else f".{fault.field}"
            place = (path + below).removeprefix(".")
            if not any(touched(one, (place,)) for one in noted):
                # TOML has keys where JSON has fields, and no null.
                self.fault(place, fault.message.replace("no such field", "no such key").replace(" or null", ""))

    def _prepare(self, value: Any, type_: inspect.Type, path: str) -> Any:
        """Give the value the form its type is converted from; what does not fit is left for the collector."""
        if isinstance(type_, inspect.Metadata):
            return self._prepare(value, type_.type, path)
        if isinstance(value, Text):
            value = _read(value, type_)
        if _is_reference(value) and _takes_text(type_):
            value = self._fetch(value, path)
        if is_table(value):
            return self._prepare_table(value, type_, path)
        if is_list(value):
            inner = _item_type(type_)
            prepared = [self._prepare(item, inner, f"{path}[{index}]") for index, item in enumerate(value)]
            return [item for item in prepared if not isinstance(item, _Absent)]
        if isinstance(value, str):
            return self._prepare_text(value, type_, path)
        if isinstance(value, float) and not math.isfinite(value):
            self.fault(path, "Must be a finite number.")
        return value

    def _prepare_text(self, value: str, type_: inspect.Type, path: str) -> Any:
        match type_:
            case inspect.UnionType():
                member = next((one for one in type_.types if _takes_text(one)), type_.types[0])
                return self._prepare_text(value, member, path)
            case inspect.CustomType() if type_.cls is Secret:
                return Secret(value)
            case inspect.StructType() if type_.cls is Rate:
                try:
                    return Rate.parse(value)
                except ValueError:
                    self.fault(path, "Must be a rate: a whole number, a slash and s, m, h or d, such as 50/s.")
                    return _ABSENT
            case _:
                return str(value)

    def _prepare_table(self, table: dict[str, Any], type_: inspect.Type, path: str) -> Any:
        types: dict[str, inspect.Type] = {}
        rest: inspect.Type = inspect.AnyType()
        match type_:
            case inspect.UnionType():
                member = next((m for m in type_.types if isinstance(m, _TABLES) and not _takes_text(m)), rest)
                return self._prepare_table(table, member, path)
            case inspect.StructType() | inspect.TypedDictType() | inspect.DataclassType():
                types = {field.encode_name: field.type for field in type_.fields}
            case inspect.DictType():
                rest = type_.value_type
            case _:
                pass
        prepared = {name: self._prepare(item, types.get(name, rest), child(path, name)) for name, item in table.items()}
        return {name: item for name, item in prepared.items() if not isinstance(item, _Absent)}

    def _fetch(self, reference: Mapping[str, str], path: str) -> str | _Absent:
        """Read a secret from where `{ env = … }` or `{ file = … }` says; an empty one counts as not there."""
        self.references.add(path)
        if "env" in reference:
            name = reference["env"]
            if found := self._environ.get(name):
                return found
            self.fault(path, f"The environment variable {name} is not set.")
            return _UNSET
        return self._fetch_file(Path(reference["file"]), path)

    def _fetch_file(self, file: Path, path: str) -> str | _Absent:
        try:
            with file.open("rb") as opened:
                raw = opened.read(_SECRET_MOST_BYTES + 1)
            text = raw.decode()
        except OSError as error:
            self.fault(path, f"The file {file} cannot be read: {error.strerror}.")
            return _ABSENT
        except ValueError:
            self.fault(path, f"The file {file} is not UTF-8 text.")
            return _ABSENT
        if len(raw) > _SECRET_MOST_BYTES:
            self.fault(path, f"The file {file} is larger than {_SECRET_MOST_BYTES} bytes: this is no secret.")
            return _ABSENT
        # Editors and `echo` end a file with one line break, which nobody means to be part of a password.
        text = text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
        if not text:
            self.fault(path, f"The file {file} is empty.")
            return _ABSENT
        return text


_TABLES: Final = (inspect.StructType, inspect.DictType, inspect.TypedDictType, inspect.DataclassType)


def touched(path: str, faulty: Collection[str]) -> bool:
    """Say whether one of the faulty paths is this one or lies below it."""
    return any(one == path or one.startswith((f"{path}.", f"{path}[")) for one in faulty)


def _read(text: Text, type_: inspect.Type) -> Any:
    """Read a variable's text by what the key wants: text where it takes text, else a TOML value if it is one."""
    value = read_value(text.strip())
    if _takes_text(type_) and not isinstance(type_, inspect.AnyType):
        return value if _is_reference(value) else str(text)
    if value is None and text.strip().lower() in _WHOLE_KEY:
        return text.strip().lower() == "true"
    return str(text) if value is None else value


def _is_reference(value: Any) -> bool:
    """Say whether a value is `{ env = "NAME" }` or `{ file = "path" }` and nothing else."""
    return is_table(value) and len(value) == 1 and isinstance(value.get("env", value.get("file")), str)


def _takes_text(type_: inspect.Type) -> bool:
    """Say whether a string may stand at a key of this type."""
    match type_:
        case inspect.Metadata():
            return _takes_text(type_.type)
        case inspect.UnionType():
            return any(_takes_text(member) for member in type_.types)
        case inspect.CustomType() | inspect.StructType() | inspect.EnumType():
            return type_.cls in {Secret, Rate} or isinstance(type_, inspect.EnumType)
        case inspect.StrType() | inspect.LiteralType() | inspect.AnyType():
            return True
        case _:
            return False


def _item_type(type_: inspect.Type) -> inspect.Type:
    match type_:
        case inspect.Metadata():
            return _item_type(type_.type)
        case inspect.UnionType():
            lists = [member for member in type_.types if not isinstance(_item_type(member), inspect.AnyType)]
            return _item_type(lists[0]) if lists else inspect.AnyType()
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return type_.item_type
        case _:
            return inspect.AnyType()
