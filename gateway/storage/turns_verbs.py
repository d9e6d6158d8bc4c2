"""Telling the dispatcher of this process what came due."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def _unheard(_lane: str) -> None:
    """Stand for nobody who wants to hear."""


class TurnVerbs:
    """The part of the store that names lanes in which a turn came. Satisfies `contract.TurnStore`."""

    _hear: Callable[[str], None] = staticmethod(_unheard)

    def on_turn(self, hear: Callable[[str], None]) -> None:
        """Choose who hears of each lane."""
        self._hear = hear

    def _tell(self, lanes: Iterable[str]) -> None:
        for lane in lanes:
            self._hear(lane)
