"""For development: the adapter `dev_log`. Logs that a message would go, and takes it.

Owns nothing but one line of log. Refuses to show the address and the body: logs are read by more people than messages
are, and whoever wants to see a message reads it in the capture inbox. It stands in for any channel, so its `kind` is a
setting: the class says `email`, and each one built says what its settings do.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from channels.contract import Accepted, Check, Limits, Message, Outcome, Tools

__all__ = ["DevLogChannel", "DevLogSettings"]

_AT_ONCE: Final = 500  # nothing is waited for: as many as any adapter may be given


class DevLogSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which channel it stands in for."""

    kind: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=40)] = "email"


class DevLogChannel:
    """Takes every message and tells the log so."""

    kind: str = "email"
    Settings: ClassVar[type[msgspec.Struct]] = DevLogSettings

    def __init__(self, settings: DevLogSettings, tools: Tools) -> None:
        self.limits = Limits(attachments=True, concurrency=_AT_ONCE, idempotent=True)
        self._notice = tools.notice
        self.kind = settings.kind

    async def send(self, message: Message) -> Outcome:
        """Log the message's id and its measures. Sends nothing to anyone; repeatable."""
        content = message.content
        self._notice(
            "message_logged",
            message=message.id,
            kind=message.kind,
            attempt=message.attempt,
            category=message.category,
            text_chars=len(content.text or ""),
            html_chars=len(content.html or ""),
            attachments=len(content.attachments),
        )
        return Accepted(message.id, "logged, not sent")

    async def check(self) -> Check:
        """Say that there is nothing that could fail."""
        return Check(ok=True, detail="messages are logged, not sent")

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""
