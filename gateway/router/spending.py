"""The cap on what a channel may cost in a day: asked for before the wire, shown by `explain`.

Owns the asking and the alarm. The arithmetic is `gateway.middleware.spend`'s, the sum the store's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from channels.contract import Channel, Message
from gateway.config.settings import SpendSettings
from gateway.middleware import spend
from gateway.middleware.contract import Dropped, Held
from gateway.model.states import Status, Why
from gateway.router.plan import RuleNote
from gateway.storage.contract import Spend, Store

_RULE: Final = "spend"

Observe = Callable[[str, float, bool], None]
"""Hears the channel, an amount and whether it was granted; what is given back is negative."""


class Spending:
    """Sets money aside. `observe` counts it; the log tells once a day and process that a cap was met."""

    def __init__(self, *, store: Store, clock: Callable[[], int], observe: Observe, log: Any) -> None:
        self._store = store
        self._clock = clock
        self._observe = observe
        self._log = log
        self._told: dict[str, int] = {}

    async def ask(
        self, channel: str, settings: SpendSettings, message: Message, adapter: Channel, deadline_at: int
    ) -> Spend | Held | Dropped:
        """Set aside what a message costs, or say until when it waits: to the next day, if it then still may be sent."""
        amount = spend.cost(settings, message.to, segments_of(adapter, message) or 1)
        day = spend.day_of(self._clock(), settings.timezone)
        asked = Spend(channel=channel, day=day.begins, amount=amount, most=spend.most(settings))
        if amount > asked.most:
            detail = f"it costs {spend.shown(amount)}, more than the channel may in a day"
            return Dropped(status=Status.FAILED, reason=Why.POLICY, detail=detail)
        if await self._store.spend(asked) is not None:
            self._observe(channel, spend.units(amount), True)  # noqa: FBT003 - a metric's label
            return asked
        self._observe(channel, spend.units(amount), False)  # noqa: FBT003 - the same
        if self._told.get(channel) != day.begins:
            self._told[channel] = day.begins
            self._log.error("spend_cap_reached", channel=channel, per_day=settings.per_day, until=day.ends)
        if day.ends >= deadline_at:
            detail = f"[channels.{channel}] spend has no room in time"
            return Dropped(status=Status.EXPIRED, reason=Why.EXPIRED, detail=detail)
        return Held(until=day.ends, reason=Why.RATE_LIMITED, detail=_cap(channel, settings))

    async def give_back(self, asked: Spend) -> None:
        """Give back what was set aside for a message that was certainly not sent."""
        await self._store.spend(
            Spend(channel=asked.channel, day=asked.day, amount=-asked.amount, most=asked.most),
        )
        self._observe(asked.channel, -spend.units(asked.amount), True)  # noqa: FBT003 - a metric's label

    async def note(
        self, channel: str, settings: SpendSettings, address: str, segments: int | None, now: int
    ) -> tuple[RuleNote, int | None]:
        """Say for `explain` what a message would cost and, where there is no room, until when it would wait."""
        amount = spend.cost(settings, address, segments or 1)
        day = spend.day_of(now, settings.timezone)
        spent = await self._store.spent(channel, day.begins)
        full = spent + amount > spend.most(settings)
        detail = f"{spend.shown(amount)}, and {spend.shown(spent)} of {settings.per_day:g} is spent today"
        return RuleNote(_RULE, "hold" if full else "pass", detail), day.ends if full else None


def segments_of(adapter: Channel, message: Message) -> int | None:
    """Ask an adapter how many parts a message becomes; `None` where its medium has none."""
    count: Callable[[Message], int] | None = getattr(adapter, "segments", None)
    return None if count is None else count(message)


def _cap(channel: str, settings: SpendSettings) -> str:
    return f"[channels.{channel}] spend: {settings.per_day:g} a day is used up"
