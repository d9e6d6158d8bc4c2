"""The configured providers while they run: adapter, breaker, pace and door in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from channels.contract import Channel
from gateway.middleware.breaker import Breaker
from gateway.middleware.rate_limit import Pace
from gateway.router.gate import Gate


class ProviderHandle(msgspec.Struct, frozen=True, kw_only=True):
    """One provider at work. `pace` is `None` where nothing limits it."""

    name: str
    adapter: Channel
    breaker: Breaker
    gate: Gate
    pace: Pace | None
    receipts: bool
    idempotent: bool


class Providers:
    """All of them, by name and by channel."""

    def __init__(self, handles: Sequence[ProviderHandle], by_channel: Mapping[str, Sequence[str]]) -> None:
        self._by_name = {handle.name: handle for handle in handles}
        self._by_channel = {
            channel: tuple(self._by_name[name] for name in names) for channel, names in by_channel.items()
        }

    def of(self, channel: str) -> tuple[ProviderHandle, ...]:
        """List a channel's providers, first to last."""
        return self._by_channel.get(channel, ())

    def named(self, name: str) -> ProviderHandle | None:
        """Find one by its name."""
        return self._by_name.get(name)

    def all(self) -> list[ProviderHandle]:
        """List every provider."""
        return list(self._by_name.values())

    async def aclose(self) -> None:
        """Close every adapter; one that fails to close does not keep the others open."""
        for handle in self._by_name.values():
            await handle.adapter.aclose()
