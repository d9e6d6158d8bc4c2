"""What is wrong with a configuration: every fault at once, each with its path and, where it stands in a file, its line.

No message carries a value: values may be secrets.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.errors import GatewayError


class ConfigFault(msgspec.Struct, frozen=True):
    """One fault: `path` is a key such as `providers.smtp-main.port`, empty for the file as a whole."""

    path: str
    line: int | None
    message: str


class ConfigurationFaults(GatewayError):
    """The configuration cannot be used. `str()` lists every fault, one a line, ready for an operator's terminal."""

    def __init__(self, faults: list[ConfigFault], file: Path | None = None) -> None:
        super().__init__(f"{len(faults)} fault(s) in the configuration")
        self.faults = faults
        self.file = file

    def __str__(self) -> str:
        return "\n".join(self._line(fault) for fault in self.faults)

    def _line(self, fault: ConfigFault) -> str:
        where = f"{self.file}:{fault.line}" if self.file is not None and fault.line is not None else ""
        return ": ".join(part for part in (where, fault.path, fault.message) if part)


class AdapterFault(GatewayError):
    """An adapter that cannot be had: no such name, or its code cannot be imported. The text says which and why."""
