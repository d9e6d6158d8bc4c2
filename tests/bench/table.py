"""The table a bench prints: rows of figures, each with its baseline, its target and whether that is met.

Owns the form only. Refuses to know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

_HEADINGS: Final = ("row", "measured", "baseline", "ratio", "target", "met")
_LEFT: Final = frozenset({"row", "target", "met"})
_GAP: Final = "  "


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A bound on a row's ratio or on what it measured; `unit` is for showing."""

    of: Literal["ratio", "measured"]
    least: float | None = None
    most: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        sign, bound = ("≥", self.least) if self.least is not None else ("≤", self.most)
        subject = "ratio " if self.of == "ratio" else ""
        return f"{subject}{sign} {bound:,g}{_joined(self.unit)}"

    def holds(self, value: float) -> bool:
        """Say whether a value is within the bound."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line. `measured` is `None` where measuring failed; notes follow below the table."""

    name: str
    measured: float | None = None
    baseline: float | None = None
    unit: str = ""
    ratio: float | None = None
    target: Target | None = None
    notes: tuple[str, ...] = ()

    @property
    def met(self) -> bool | None:
        """Whether the target holds; `None` without one. What could not be measured is not met."""
        if self.target is None:
            return None
        value = self.ratio if self.target.of == "ratio" else self.measured
        return value is not None and self.target.holds(value)


def render(rows: Sequence[Row], header: Sequence[tuple[str, str]] = ()) -> str:
    """Write header, table and notes as text."""
    lines = [*_header(header), *_table([_cells(row) for row in rows])]
    for row in rows:
        if row.notes:
            lines += ["", f"{row.name}:", *(f"  {note}" for note in row.notes)]
    return "\n".join(lines)


def all_met(rows: Sequence[Row]) -> bool:
    """Say whether no target was missed."""
    return all(row.met is not False for row in rows)


def _header(facts: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in facts), default=0)
    lines = [f"{name.ljust(width)}{_GAP}{value}" for name, value in facts]
    return [*lines, ""] if lines else []


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        "failed" if row.measured is None else _number(row.measured, row.unit),
        "" if row.baseline is None else _number(row.baseline, row.unit),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        "" if row.target is None else str(row.target),
        {True: "yes", False: "no", None: ""}[row.met],
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    columns = list(zip(_HEADINGS, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    rule = _GAP.join("-" * width for width in widths)

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.ljust(width) if heading in _LEFT else cell.rjust(width)
            for heading, cell, width in zip(_HEADINGS, cells, widths, strict=True)
        ]
        return _GAP.join(padded).rstrip()

    return [line(_HEADINGS), rule, *(line(row) for row in rows)]


def _number(value: float, unit: str) -> str:
    """Write three significant digits at least, thousands apart."""
    size = abs(value)
    shown = f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
    return shown + _joined(unit)


def _joined(unit: str) -> str:
    return unit if unit.startswith("/") else f" {unit}".rstrip()
