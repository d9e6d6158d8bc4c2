"""Pages that watch inboxes: who is to be told that something changed.

Owns the one question that is asked for all of them, once a second and at once after a change in this process. Refuses
to know what changed and how it is written: whoever is woken asks the store, so that a slow page holds nothing here but
its place, and hears of several changes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gateway.errors import GatewayError
from gateway.storage.contract import Store, StoreUnavailable

POLL_S: Final = 1.0
"""How soon a page hears of what another process did."""

_BREATH_S: Final = 0.02
"""How long changes of this process are gathered before the question is asked: a burst is one."""


class TooMany(GatewayError):
    """There is no place for another page. `of_user`: this person has too many, not the process."""

    def __init__(self, *, of_user: bool) -> None:
        super().__init__("too many pages watch")
        self.of_user = of_user


class Watcher:
    """One page. `changed` is set when its inbox may have changed, or when it must end."""

    __slots__ = ("changed", "user_id", "version")

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.version = 0
        self.changed = asyncio.Event()


class LiveInboxes:
    """One per process; used from one event loop."""

    def __init__(
        self,
        *,
        store: Store,
        most: int,
        most_per_user: int,
        log: Any,
        pause: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._most = most
        self._most_per_user = most_per_user
        self._log = log
        self._pause = pause
        self._watchers: dict[str, set[Watcher]] = {}
        self._count = 0
        self._poke = asyncio.Event()
        self.closed = False

    @property
    def watched(self) -> int:
        """Count the pages."""
        return self._count

    def open(self, user_id: str) -> Watcher:
        """Take a place; raises `TooMany`. Whoever takes one gives it back with `leave`."""
        own = self._watchers.get(user_id, ())
        if self._count >= self._most:
            raise TooMany(of_user=False)
        if len(own) >= self._most_per_user:
            raise TooMany(of_user=True)
        watcher = Watcher(user_id)
        self._watchers.setdefault(user_id, set()).add(watcher)
        self._count += 1
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Give a place back. May be called twice."""
        own = self._watchers.get(watcher.user_id, set())
        if watcher not in own:
            return
        own.remove(watcher)
        self._count -= 1
        if not own:
            del self._watchers[watcher.user_id]

    def announce(self) -> None:
        """Say that this process changed some inbox. Never blocks."""
        if self._count:
            self._poke.set()

    def close(self) -> None:
        """Let every page go: the process stops, and must not wait for them. May be called twice."""
        self.closed = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.changed.set()

    async def run(self) -> None:
        """Look after the pages until cancelled; asks nothing while there are none."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._poke.wait()
                await self._pause(_BREATH_S)
            except TimeoutError:
                pass
            self._poke.clear()
            if self._watchers:
                await self.look()

    async def look(self) -> None:
        """Ask how far the watched inboxes have come, and wake the pages of those that went on."""
        try:
            versions = await self._store.inbox_versions(self._watchers.keys())
        except StoreUnavailable as error:
            self._log.warning("inbox_watch_failed", error=str(error))
            return
        for user_id, watchers in self._watchers.items():
            version = versions.get(user_id, 0)
            for watcher in watchers:
                if watcher.version != version:
                    watcher.version = version
                    watcher.changed.set()
