"""The onion's words: an envelope goes in, a verdict comes out.

Owns `Verdict`, what the middleware makes of an adapter's outcome. Refuses to know storage and HTTP.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from channels.contract import Message, Outcome
from gateway.model.states import Status, Why
from gateway.storage.contract import Joining


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Not now: due again at `until` (Unix ms). `granted`: the recipient's rate is already paid for that moment.

    `join` names the digest in which it waits; that one's time stands against `until`.
    """

    until: int
    reason: Why
    detail: str | None = None
    granted: bool = False
    join: Joining | None = None


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """Not at all, by rule: `status` is `skipped`, `expired`, `cancelled`, `failed` or `unknown`."""

    status: Status
    reason: Why
    detail: str | None = None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Kept in the capture inbox instead of sent."""

    message: Message
    reason: Why
    detail: str | None = None


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """Put into the person's inbox, where it means nothing any more after `until` (Unix ms)."""

    message: Message
    until: int | None = None


Verdict = Outcome | Held | Dropped | Kept | Placed
Send = Callable[[Message], Awaitable[Outcome]]
