"""The configured providers while they run: adapter, breaker, pace and door in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from channels.contract import Channel
from gateway.config.settings import Rate
from gateway.middleware.breaker import Breaker
from gateway.middleware.rate_limit import Pace
from gateway.router.batches import Batches
from gateway.router.gate import Gate
from gateway.router.standing import Standing


class ProviderHandle(msgspec.Struct, frozen=True, kw_only=True):
    """One provider at work. `pace` is `None` where nothing limits it."""

    name: str
    adapter: Channel
    breaker: Breaker
    gate: Gate
    pace: Pace | None
    receipts: bool
    idempotent: bool
    use: str = ""
    rate: Rate | None = None
    """As configured or published; `pace` is what it comes to."""
    batches: Batches | None = None
    """Where the provider has a batch call."""
    paced_calls: bool = False
    """Whether its rate counts calls: then `batches` waits for it, once a call."""
    secrets: tuple[str, ...] = ()
    """What its words are rid of before anybody sees them: some providers repeat the key that they refuse."""
    standing: Standing = msgspec.field(default_factory=Standing)
    replaces: bool = False
    """Whether a message can be changed once it is shown."""

    def senders(self, chosen: str | None) -> Sequence[str]:
        """Name the senders a message would go out under that people can stop; none for most adapters."""
        ask = getattr(self.adapter, "senders", None)
        return () if ask is None else ask(chosen)


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

    def place_of(self, name: str) -> tuple[str, int] | None:
        """Tell which channel a provider serves and as which in order, from 1; `None` where no channel names it."""
        for channel, handles in self._by_channel.items():
            for place, handle in enumerate(handles, 1):
                if handle.name == name:
                    return channel, place
        return None

    def channels(self) -> tuple[str, ...]:
        """List the channels that have providers."""
        return tuple(channel for channel, handles in self._by_channel.items() if handles)

    def named(self, name: str) -> ProviderHandle | None:
        """Find one by its name."""
        return self._by_name.get(name)

    def all(self) -> list[ProviderHandle]:
        """List every provider."""
        return list(self._by_name.values())

    async def aclose(self) -> None:
        """Close every adapter; one that fails to close does not keep the others open."""
        for handle in self._by_name.values():
            if handle.batches is not None:
                await handle.batches.aclose()
            await handle.adapter.aclose()
