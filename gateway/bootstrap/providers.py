"""The configured providers, built: their adapters, and what stands around each while it runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import msgspec

from channels.contract import Channel, Tools
from gateway.clock import Clock
from gateway.config.describe import secrets_of
from gateway.config.settings import BreakerSettings, Provider, Rate, Secret, Settings
from gateway.middleware.breaker import Breaker
from gateway.middleware.rate_limit import Pace, provider_key, provider_pace
from gateway.observe.logging import get_logger
from gateway.registry import Registry
from gateway.router.batches import Batches, SendsMany, no_turn
from gateway.router.checking import Checked, Checking
from gateway.router.gate import Gate
from gateway.router.providers import ProviderHandle, Providers
from gateway.router.rules import EVENT_ADAPTER, EVENT_PROVIDER, Rules
from gateway.storage.contract import Reservation, Store


def used(settings: Settings, registry: Registry) -> dict[str, Provider]:
    """List the configured providers, and the built-in one where none of them can post our events."""
    reach = settings.outbound.allow_private
    found = {name: _reaching(provider, reach) for name, provider in settings.providers.items()}
    if all(provider.use != EVENT_ADAPTER for provider in found.values()):
        own = Provider(name=EVENT_PROVIDER, use=EVENT_ADAPTER, settings=registry.adapter(EVENT_ADAPTER).Settings())
        found[EVENT_PROVIDER] = _reaching(own, reach)
    return found


def _reaching(provider: Provider, networks: list[str]) -> Provider:
    """Let an adapter that calls what callers name reach `[outbound] allow_private` beside its own networks."""
    own = provider.settings
    if not networks or not hasattr(own, "allow_private"):
        return provider
    changes: dict[str, Any] = {"allow_private": (*own.allow_private, *networks)}
    if hasattr(own, "plain_private"):
        changes["plain_private"] = True
    return msgspec.structs.replace(provider, settings=msgspec.structs.replace(own, **changes))


def refuse_of(providers: Providers, rules: Rules) -> Callable[[str], str | None]:
    """Ask the adapter that will post events whether it may call an address: one rule, at creation and when dialled."""
    [handle] = providers.of(rules.events.name)
    return cast("Any", handle.adapter).refuse


def adapters(settings: Settings, clock: Clock, log: Any) -> dict[str, Channel]:
    """Build the adapter of every configured provider; opens no connection."""
    registry = Registry.load()
    return {
        name: registry.build(
            provider,
            Tools(
                provider=name,
                now=lambda: clock() / 1000,
                log=log.bind(provider=name).debug,
                notice=log.bind(provider=name).info,
                random=random.random,
            ),
        )
        for name, provider in used(settings, registry).items()
    }


def providers_of(
    settings: Settings,
    rules: Rules,
    built: Mapping[str, Channel],
    store: Store,
    clock: Clock,
    log: Any,
) -> Providers:
    """Put breaker, door, rate and calls around each adapter."""
    breakers = {name: rule.settings.breaker for rule in rules.channels.values() for name in rule.providers}
    secrets = secrets_by_provider(settings, built)
    handles: list[ProviderHandle] = []
    known = used(settings, Registry.load())
    for name, adapter in built.items():
        provider, limits = known[name], adapter.limits
        rate = provider.rate or (None if limits.rate is None else Rate.parse(limits.rate))
        pace = None if rate is None else provider_pace(rate)
        batches = _batches(name, adapter, pace, store, clock, log)
        places = limits.concurrency if batches is None else max(limits.concurrency, batches.most)
        handles.append(
            ProviderHandle(
                name=name,
                adapter=adapter,
                breaker=Breaker(breakers.get(name, BreakerSettings()), concurrency=limits.concurrency),
                gate=Gate(places),
                pace=pace,
                receipts=limits.receipts,
                idempotent=limits.idempotent,
                replaces=limits.replaces,
                use=provider.use,
                rate=rate,
                batches=batches,
                paced_calls=batches is not None and limits.rate_counts_calls,
                secrets=secrets[name],
            ),
        )
    return Providers(handles, {rule.name: rule.providers for rule in (*rules.channels.values(), rules.events)})


def _batches(name: str, adapter: Channel, pace: Pace | None, store: Store, clock: Clock, log: Any) -> Batches | None:
    """Make what gathers deliveries into calls, for an adapter whose provider takes several at once."""
    limits = adapter.limits
    if limits.batch <= 1 or not hasattr(adapter, "send_many"):
        return None
    return Batches(
        cast("SendsMany", adapter),
        provider=name,
        most=limits.batch,
        parallel=limits.concurrency,
        clock=clock,
        log=log,
        turn=no_turn if pace is None or not limits.rate_counts_calls else _turn(name, pace, store, clock),
    )


def _turn(provider: str, pace: Pace, store: Store, clock: Clock) -> Callable[[], Awaitable[None]]:
    """Make what waits for a provider's rate before a call, shared with all processes."""

    async def turn() -> None:
        now = clock()
        key = provider_key(provider)
        at = await store.reserve(Reservation(key=key, count=pace.count, window_ms=pace.window_ms, now=now))
        if at > now:
            await asyncio.sleep((at - now) / 1000)

    return turn


def destinations_of(settings: Settings) -> dict[tuple[str, str], str]:
    """Read what stands behind each configured name: its one address, whatever the adapter calls it."""
    found: dict[tuple[str, str], str] = {}
    for channel, names in settings.destinations.items():
        for name, keys in names.items():
            for value in list(keys.values())[:1]:
                found[channel, name] = value.reveal() if isinstance(value, Secret) else value
    return found


def secrets_by_provider(settings: Settings, built: Mapping[str, Channel]) -> dict[str, tuple[str, ...]]:
    """List each provider's secrets: its own, and the addresses that stand behind its channel's configured names."""
    behind = destinations_of(settings)
    return {
        name: (
            *(secrets_of(settings.providers[name]) if name in settings.providers else ()),
            *(address for (channel, who), address in behind.items() if channel == adapter.kind and address != who),
        )
        for name, adapter in built.items()
    }


async def check_providers(settings: Settings, names: Sequence[str]) -> list[Checked]:
    """Ask these providers at once whether their credentials are good. Needs no database."""
    clock, log = Clock(), get_logger("gateway")
    built = adapters(settings, clock, log)
    secrets = secrets_by_provider(settings, built)
    checking = Checking(built, destinations_of(settings), secrets, clock=clock, log=log)
    try:
        return await asyncio.gather(*(checking.check(name) for name in names))
    finally:
        for adapter in built.values():
            await adapter.aclose()
