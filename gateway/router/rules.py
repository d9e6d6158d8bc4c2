"""The configuration as the router needs it: defaults resolved once, at start.

Owns which channels exist, which of them a category may use, and what a lost answer means where. Refuses to know people
and providers' health.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.config.settings import CategorySettings, ChannelSettings, Environment, RetrySettings, Settings
from gateway.middleware.consent import Quiet
from gateway.model.events import EVENT_CATEGORY
from gateway.model.inbox import INBOX
from gateway.model.preferences import Terms
from gateway.model.states import Mode, OnUnknown, Priority, Strategy
from gateway.router.events import CHANNEL as EVENT_CHANNEL
from gateway.router.events import RETRY as EVENT_RETRY

DEFAULT_CATEGORY: Final = "default"

_COSTLY: Final = frozenset({"sms"})
"""Channels where a second copy costs money and trust: a lost answer is held there unless somebody says otherwise."""

_BUILT_IN: Final = ("email", INBOX)

EVENT_PROVIDER: Final = "event-webhooks"
"""The provider that posts our events where no `hook_signed` is configured."""
EVENT_ADAPTER: Final = "hook_signed"


class ChannelRule(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's rules; `providers` in failover order, empty where none is configured."""

    name: str
    settings: ChannelSettings
    providers: tuple[str, ...]
    sender: str | None

    @property
    def retry(self) -> RetrySettings:
        """When a delivery on this channel is tried again."""
        return self.settings.retry


class CategoryRule(msgspec.Struct, frozen=True, kw_only=True):
    """A category's rules. `channels` is `None` where every channel with a provider and an address is meant."""

    name: str
    settings: CategorySettings
    terms: Terms
    channels: tuple[str, ...] | None
    strategy: Strategy
    priority: Priority
    expires_after_ms: int | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    environment: Environment
    channels: Mapping[str, ChannelRule]
    categories: Mapping[str, CategoryRule]
    events: ChannelRule
    """How our events to services are sent: over the channel `webhook`, in lanes and by rules of their own.
    No caller can name it."""
    quiet: Quiet

    @classmethod
    def build(cls, settings: Settings) -> Rules:
        """Resolve the configuration. E-mail and the inbox always exist: a gateway without a file can be tried."""
        names = dict.fromkeys([*_BUILT_IN, *settings.channels])
        channels = {name: _channel(name, settings) for name in names}
        categories = {name: _category(name, one) for name, one in settings.categories.items()}
        categories.setdefault(DEFAULT_CATEGORY, _category(DEFAULT_CATEGORY, CategorySettings()))
        return cls(
            environment=settings.environment,
            channels=channels,
            categories=categories,
            quiet=Quiet.of(settings.quiet_hours),
            events=_events(settings),
        )

    def of_lane(self, lane: str) -> ChannelRule | None:
        """Find the rules of a lane's channel; `None` for one that is configured no more."""
        name = lane.rpartition(":")[0]
        return self.events if name == EVENT_CATEGORY else self.channels.get(name)

    def usable(self, mode: Mode) -> tuple[str, ...]:
        """List the channels that a request without a wish may use.

        In production those with a provider; elsewhere, and for test keys, all, since what has no provider is captured.
        The inbox only where it is named: nobody should find in their page what was meant for their mailbox.
        """
        if self.environment is Environment.PRODUCTION and mode is not Mode.TEST:
            return tuple(name for name, rule in self.channels.items() if rule.providers)
        return tuple(name for name in self.channels if name != INBOX)

    def on_unknown(self, category: CategoryRule, channel: str) -> OnUnknown:
        """Say what follows a lost answer: the category's word, else the channel's, else the medium's nature."""
        if category.settings.on_unknown is not None:
            return category.settings.on_unknown
        configured = self.channels[channel].settings.on_unknown
        if configured is not None:
            return configured
        return OnUnknown.HOLD if channel in _COSTLY else OnUnknown.RESEND


def _events(settings: Settings) -> ChannelRule:
    """Let the first configured `hook_signed` post events, the channel's own order first; else one is built in."""
    signed = [name for name, provider in settings.providers.items() if provider.use == EVENT_ADAPTER]
    ordered = settings.channels.get(EVENT_CHANNEL, ChannelSettings()).providers
    chosen = next((name for name in (*ordered, *signed) if name in signed), EVENT_PROVIDER)
    return ChannelRule(
        name=EVENT_CATEGORY,
        settings=ChannelSettings(providers=[chosen], retry=EVENT_RETRY),
        providers=(chosen,),
        sender=None,
    )


def said_in(language: str, text: str | Mapping[str, str]) -> str:
    """Read what the configuration says, perhaps by language."""
    if isinstance(text, str):
        return text
    for name in (language, language.partition("-")[0], "en"):
        if name in text:
            return text[name]
    return next(iter(text.values()), "")


def _channel(name: str, settings: Settings) -> ChannelRule:
    configured = settings.channels.get(name, ChannelSettings())
    return ChannelRule(
        name=name,
        settings=configured,
        providers=tuple(configured.providers),
        sender=configured.sender,
    )


def _category(name: str, settings: CategorySettings) -> CategoryRule:
    return CategoryRule(
        name=name,
        settings=settings,
        terms=Terms(name=name, required=settings.required, locked=settings.locked, default=settings.default),
        channels=None if settings.channels is None else tuple(settings.channels),
        strategy=settings.strategy,
        priority=settings.priority,
        expires_after_ms=None if settings.expires_after_s is None else settings.expires_after_s * 1000,
    )
