"""How a file and the environment become `Settings`: all is read, and every fault told, before anything starts.

Owns the order: the file, `GATEWAY__…` over it, then each section by its type, then the rules between sections. Opens no
connection and starts nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, get_type_hints

from msgspec import structs

from channels.contract import Channel, SettingsFault, Tools
from gateway.config.decode import Decoder, touched
from gateway.config.document import Document, is_table, read_document
from gateway.config.faults import AdapterFault, ConfigFault, ConfigurationFaults
from gateway.config.rules import DESTINATION_KEYS, Names, check
from gateway.config.settings import CategorySettings, ChannelSettings, Provider, Rate, Secret, Section, Settings
from gateway.config.variables import Text, overlay, read_value, sources
from gateway.model.collect import child, suggestion

__all__ = ["Adapters", "ConfigFault", "ConfigurationFaults", "load"]

DEFAULT_FILE: Final = Path("gateway.toml")
FILE_VARIABLE: Final = "GATEWAY_CONFIG"
_OWN_KEYS: Final = frozenset({"use", "rate"})
_NAMED: Final = ("providers", "channels", "categories", "destinations")
"""Sections whose keys are names the operator chose: a name is judged whatever stands below it."""


class Adapters(Protocol):
    """What loading asks of the registry (`gateway.registry.Registry`)."""

    def names(self) -> Sequence[str]:
        """List the installed adapters without importing any."""
        ...

    def adapter(self, name: str) -> type[Channel]:
        """Import one; raises `AdapterFault`."""
        ...

    def kinds(self) -> Collection[str]:
        """List the channels of all installed adapters, importing them."""
        ...


def load(path: Path | None, environ: Mapping[str, str], registry: Adapters) -> Settings:
    """Read the configuration; raises `ConfigurationFaults` with everything that is wrong.

    The file is `path`, else the one `GATEWAY_CONFIG` names, else `gateway.toml` in the working folder if there is one.
    """
    document = _document(path, environ)
    tables, faults = overlay(document.tables, environ)
    loading = _Loading(tables, Decoder(environ), registry)
    settings = loading.settings()
    from_variables = sources(tables)
    faults += [_placed(where, message, document, from_variables) for where, message in loading.decoder.faults]
    if faults:
        raise ConfigurationFaults(sorted(faults, key=_order), document.file)
    return settings


def _document(path: Path | None, environ: Mapping[str, str]) -> Document:
    named = environ.get(FILE_VARIABLE)
    if path is not None:
        return read_document(path)
    if named:
        return read_document(Path(named))
    return read_document(DEFAULT_FILE) if DEFAULT_FILE.exists() else Document()


def _placed(path: str, message: str, document: Document, from_variables: Mapping[str, str]) -> ConfigFault:
    for place, variable in from_variables.items():
        if touched(place, (path,)):
            return ConfigFault(path, None, f"{message} (set by {variable})")
    return ConfigFault(path, document.line_of(path), message)


def _order(fault: ConfigFault) -> tuple[bool, int, str]:
    return (fault.line is None, fault.line or 0, fault.path)


class _Loading:
    """One load: the tables on their way to `Settings`."""

    def __init__(self, tables: dict[str, Any], decoder: Decoder, registry: Adapters) -> None:
        self._tables = tables
        self.decoder = decoder
        self._registry = registry
        self._kinds: dict[str, str | None] = {}

    def settings(self) -> Settings:
        """Read all sections and check them together.

        A key with faults is left at its default, so that the rest of the file is checked all the same.
        """
        types: dict[str, Any] = get_type_hints(Settings, include_extras=True)
        for name in self._tables:
            if name not in types:
                self.decoder.fault(child("", name), f"There is no such key{suggestion(name, list(types))}")
        values: dict[str, Any] = {
            "providers": self._providers(),
            "channels": self._named("channels", ChannelSettings),
            "categories": self._named("categories", CategorySettings),
        }
        values["destinations"] = self._destinations(values["channels"])
        for name in types.keys() & self._tables.keys() - values.keys():
            forgiving = name == "bootstrap_key"
            found = self.decoder.decode(self._tables[name], types[name], name, unset_is_none=forgiving)
            if found is not None:
                values[name] = found
        settings = Settings(**values)
        self._check(settings)
        return settings

    def _check(self, settings: Settings) -> None:
        known = {path for path, _ in self.decoder.faults}
        named = {child(section, name) for section in _NAMED for name in getattr(settings, section)}
        names = Names(providers=self._kinds, extra_channels=self._registry.kinds)
        for path, message in check(settings, names):
            # A key with a fault stands at its default: nothing more can be said of it.
            if path in named or not touched(path, known):
                self.decoder.fault(path, message)

    def _section(self, name: str) -> dict[str, Any]:
        """Take a section whose keys are names the operator chose."""
        return self._table(self._tables.get(name, {}), name)

    def _table(self, value: Any, path: str) -> dict[str, Any]:
        table = read_value(value) if isinstance(value, Text) else value
        if is_table(table):
            return table
        self.decoder.fault(path, "Must be a table.")
        return {}

    def _named(self, section: str, type_: type[Section]) -> dict[str, Any]:
        """Read a section of named tables of one type; one with faults is left out."""
        found = {
            name: self.decoder.decode(table, type_, child(section, name))
            for name, table in self._section(section).items()
        }
        return {name: item for name, item in found.items() if item is not None}

    def _providers(self) -> dict[str, Provider]:
        providers: dict[str, Provider] = {}
        for name, table in self._section("providers").items():
            self._kinds[name] = None
            provider = self._provider(name, self._table(table, child("providers", name)))
            if provider is not None:
                providers[name] = provider
        return providers

    def _provider(self, name: str, table: Mapping[str, Any]) -> Provider | None:
        path = child("providers", name)
        if "use" not in table:
            self.decoder.fault(f"{path}.use", "Is required: which adapter, such as email_smtp.")
            return None
        use: str | None = self.decoder.decode(table["use"], str, f"{path}.use")
        rate: Rate | None = self.decoder.decode(table["rate"], Rate, f"{path}.rate") if "rate" in table else None
        try:
            adapter = None if use is None else self._registry.adapter(use)
        except AdapterFault as fault:
            self.decoder.fault(f"{path}.use", str(fault))
            adapter = None
        if adapter is None or use is None:
            return None
        self._kinds[name] = adapter.kind
        own = {key: value for key, value in table.items() if key not in _OWN_KEYS}
        settings = self._adapter_settings(name, adapter, own)
        below = f"{path}."
        secrets = frozenset(one.removeprefix(below) for one in self.decoder.references if one.startswith(below))
        return Provider(name=name, use=use, rate=rate, settings=settings, secrets=secrets)

    def _adapter_settings(self, name: str, adapter: type[Channel], table: dict[str, Any]) -> Any:
        """Read an adapter's own keys, strictly, and let it say what it cannot work with. Opens nothing."""
        path = child("providers", name)
        keys = [field.encode_name for field in structs.fields(adapter.Settings)]
        for key in table.keys() - set(keys):
            self.decoder.fault(child(path, key), f"There is no such key{suggestion(key, [*keys, *_OWN_KEYS])}")
        settings = self.decoder.decode({key: table[key] for key in keys if key in table}, adapter.Settings, path)
        if settings is not None:
            tools = Tools(provider=name, now=time.time, log=_silent, random=random.random)
            try:
                self._kinds[name] = adapter(settings, tools).kind  # which may be one of its settings
            except SettingsFault as fault:
                self.decoder.fault(child(path, fault.field) if fault.field else path, str(fault))
        return settings

    def _destinations(self, channels: Mapping[str, ChannelSettings]) -> dict[str, dict[str, dict[str, Secret | str]]]:
        found: dict[str, dict[str, dict[str, Secret | str]]] = {}
        for channel, table in self._section("destinations").items():
            path = child("destinations", channel)
            needed = channel in channels and bool(channels[channel].providers)
            keys = DESTINATION_KEYS.get(channel)
            entries = {
                name: self._destination(self._table(entry, child(path, name)), child(path, name), keys, needed=needed)
                for name, entry in self._table(table, path).items()
            }
            found[channel] = {name: entry for name, entry in entries.items() if entry}
        return found

    def _destination(
        self, table: Mapping[str, Any], path: str, keys: Sequence[str] | None, *, needed: bool
    ) -> dict[str, Secret | str]:
        """Read a destination. One whose secret is not set is left out while no provider serves its channel.

        `keys` are those that its channel knows, of which it has one; `None`: only the channel's adapter knows.
        """
        found: dict[str, Secret | str] = {}
        if keys is not None and len(table) > 1 and set(table) <= set(keys):
            self.decoder.fault(path, f"Has one address: write {' or '.join(keys)}, and not both.")
        for key, value in table.items():
            place = child(path, key)
            if keys is not None and key not in keys:
                self.decoder.fault(place, f"There is no such key{suggestion(key, keys)}")
                continue
            text: str | None = self.decoder.decode(value, str, place, unset_is_none=not needed)
            if text is not None:
                # A webhook's URL is a password: whoever has it may post.
                secret = place in self.decoder.references or "://" in text
                found[key] = Secret(text) if secret else text
        return found


def _silent(*_words: object, **_fields: object) -> None:
    """Log nothing: an adapter that is only being checked does no work worth a line."""
