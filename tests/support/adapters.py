"""The built-in chat adapters, built without an account: for tests that ask them what they would post."""

from __future__ import annotations

from functools import cache

from channels.chat_discord import DiscordChannel, DiscordSettings
from channels.chat_slack import SlackChannel, SlackSettings
from channels.chat_teams import TeamsChannel, TeamsSettings
from channels.chat_telegram import TelegramChannel, TelegramSettings
from channels.contract import Message, Tools

_TOOLS = Tools(provider="test", now=lambda: 0.0, log=lambda *_, **__: None, random=lambda: 0.5)
_ADAPTERS = {
    "slack": lambda: SlackChannel(SlackSettings(), _TOOLS),
    "discord": lambda: DiscordChannel(DiscordSettings(), _TOOLS),
    "teams": lambda: TeamsChannel(TeamsSettings(), _TOOLS),
    "telegram": lambda: TelegramChannel(TelegramSettings(token="1:abc"), _TOOLS),
}


@cache
def _built(channel: str):
    return _ADAPTERS[channel]()


def raw_of(channel: str, message: Message) -> bytes:
    """Show what the channel's adapter would post; empty where it would refuse."""
    return _built(channel).raw(message)
