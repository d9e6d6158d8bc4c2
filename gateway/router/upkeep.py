"""Housekeeping in small rounds: what is too late expires, what is old goes, what providers said late is applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from gateway.config.settings import CategorySettings, LimitSettings, RetentionSettings
from gateway.storage.contract import Kept, Store, StoreUnavailable, UpkeepReport, UpkeepRules

_DAY_MS: Final = 86_400_000
_RECEIPTS_MS: Final = 72 * 3_600_000
"""`API.md`: a `sent` delivery without a receipt becomes final after 72 hours."""


class Upkeep:
    """Runs one round every `every_s` seconds, and at once again while there is more to do."""

    def __init__(
        self,
        *,
        store: Store,
        retention: RetentionSettings,
        categories: Mapping[str, CategorySettings],
        limits: LimitSettings,
        clock: Callable[[], int],
        every_s: float,
        log: Any,
    ) -> None:
        self._store = store
        self._retention = retention
        self._categories = categories
        self._limits = limits
        self._clock = clock
        self._every_s = every_s
        self._log = log

    async def run(self) -> None:
        """Keep house until cancelled."""
        while True:
            more = False
            try:
                more = (await self.round()).more
            except Exception as error:  # noqa: BLE001 - a house that is not kept fills up unseen
                known = isinstance(error, StoreUnavailable)
                self._log.warning("upkeep_failed", error=str(error), exc_info=None if known else error)
            await asyncio.sleep(0.05 if more else self._every_s)

    async def round(self) -> UpkeepReport:
        """Do one round."""
        now = self._clock()
        rules = UpkeepRules(
            notifications=self._kept(now, self._retention.notifications_days, self._days("notifications_days")),
            contents=self._kept(now, self._retention.contents_days, self._days("contents_days")),
            captured_before=now - self._retention.captured_days * _DAY_MS,
            captured_most=self._limits.captured,
            inbox_before=now - self._retention.inbox_days * _DAY_MS,
            receipts_before=now - _RECEIPTS_MS,
            slice=self._retention.slice,
        )
        return await self._store.upkeep(rules, now)

    def _days(self, which: str) -> Mapping[str, int]:
        """Gather what categories say for themselves."""
        kept = {name: getattr(one.retention, which, None) for name, one in self._categories.items()}
        return {name: days for name, days in kept.items() if days is not None}

    def _kept(self, now: int, days: int, by_category: Mapping[str, int]) -> Kept:
        return Kept(
            before=now - days * _DAY_MS,
            by_category={name: now - own * _DAY_MS for name, own in by_category.items()},
        )
