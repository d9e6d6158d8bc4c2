"""How long things are kept: from the configuration's days to the store's rules."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.config.settings import CategorySettings, LimitSettings, RetentionSettings
from gateway.observe.logging import get_logger
from gateway.router.upkeep import Upkeep
from gateway.storage.contract import Kept, UpkeepReport, UpkeepRules

DAY = 86_400_000


class _Store:
    """Remembers the rules it was given."""

    def __init__(self) -> None:
        self.rules: list[UpkeepRules] = []

    async def upkeep(self, rules: UpkeepRules, now: int) -> UpkeepReport:
        self.rules.append(rules)
        return UpkeepReport()


async def test_a_category_s_own_days_stand_beside_those_of_all() -> None:
    store = _Store()
    audit = msgspec.convert({"retention": {"notifications_days": 365}}, CategorySettings)
    brief = msgspec.convert({"retention": {"notifications_days": 2, "contents_days": 1}}, CategorySettings)
    stand_in: Any = store
    upkeep = Upkeep(
        store=stand_in,
        retention=RetentionSettings(),
        categories={"audit": audit, "brief": brief, "plain": CategorySettings()},
        limits=LimitSettings(),
        clock=lambda: 1000 * DAY,
        every_s=1,
        log=get_logger("test"),
    )
    await upkeep.round()
    [rules] = store.rules
    assert rules.notifications == Kept(before=970 * DAY, by_category={"audit": 635 * DAY, "brief": 998 * DAY})
    assert rules.contents == Kept(before=993 * DAY, by_category={"brief": 999 * DAY})
