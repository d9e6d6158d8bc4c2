"""The installed adapters, by name: found through entry points, the built-in ones too, and imported when asked for.

Owns the way from the word after `use` to a class. Refuses to know any adapter: nothing here names one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from channels.contract import Channel, Tools
from gateway.config.faults import AdapterFault
from gateway.config.settings import Provider
from gateway.model.collect import suggestion

GROUP: Final = "gateway.channels"
_PROMISED: Final = ("kind", "Settings", "send", "aclose")


class Registry:
    """The adapters of one installation. Finding them imports nothing; each is imported once, when first asked for."""

    def __init__(self, entries: Iterable[EntryPoint]) -> None:
        self._entries: dict[str, list[EntryPoint]] = {}
        self._adapters: dict[str, type[Channel]] = {}
        for entry in entries:
            same = self._entries.setdefault(entry.name, [])
            # An editable install may be seen twice, with the same target: that is one adapter.
            if all(entry.value != other.value for other in same):
                same.append(entry)

    @classmethod
    def load(cls) -> Registry:
        """Find what is installed in this Python."""
        return cls(entry_points(group=GROUP))

    def names(self) -> tuple[str, ...]:
        """List the adapters by name, importing none."""
        return tuple(sorted(self._entries))

    def adapter(self, name: str) -> type[Channel]:
        """Import an adapter; raises `AdapterFault` that says which package to look at."""
        if name not in self._adapters:
            self._adapters[name] = _imported(self._entry(name))
        return self._adapters[name]

    def kind(self, name: str) -> str:
        """Tell the channel an adapter serves, importing it."""
        return self.adapter(name).kind

    def kinds(self) -> frozenset[str]:
        """List the channels that installed adapters serve, importing all of them; broken ones are left out."""
        found: set[str] = set()
        for name in self._entries:
            try:
                found.add(self.kind(name))
            except AdapterFault:
                continue  # reported when somebody uses it
        return frozenset(found)

    def build(self, provider: Provider, tools: Tools) -> Channel:
        """Make the adapter of a configured provider. Raises `AdapterFault`, and the adapter's own `SettingsFault`."""
        return self.adapter(provider.use)(provider.settings, tools)

    def _entry(self, name: str) -> EntryPoint:
        same = self._entries.get(name)
        if same is None:
            raise AdapterFault(f"There is no adapter {name}{suggestion(name, self.names())}")
        if len(same) > 1:
            packages = " and ".join(sorted(_package(entry) for entry in same))
            raise AdapterFault(f"The adapter {name} is brought by {packages}: uninstall one of them.")
        return same[0]


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else f"the module {entry.module}"


def _imported(entry: EntryPoint) -> type[Channel]:
    try:
        found = entry.load()
    except Exception as error:  # whatever an import raises, it is that package's fault, and must name it
        words = f"{type(error).__name__}: {error}"
        raise AdapterFault(f"The adapter {entry.name} of {_package(entry)} cannot be imported: {words}.") from error
    missing = [name for name in _PROMISED if not hasattr(found, name)]
    if missing:
        words = ", ".join(missing)
        raise AdapterFault(f"The adapter {entry.name} of {_package(entry)} is no channel: it lacks {words}.")
    return found


def by_name(entries: Mapping[str, str]) -> Registry:
    """Make a registry of given adapters (`{"email_smtp": "channels.email_smtp:SmtpChannel"}`), for tests and tools."""
    return Registry(EntryPoint(name, value, GROUP) for name, value in entries.items())
