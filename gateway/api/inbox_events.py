"""`/v1/users/{user_id}/inbox/events`: what changes in an inbox, as server-sent events (HTML standard, section 9.2).

Owns the events and when a stream ends. A stream asks the store for what came after the last version it told, so that
nothing piles up for a reader that is slow: it hears of several changes at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from gateway.api.context import ApiContext
from gateway.api.exchange import Call, Stream
from gateway.api.inbox import READERS, TAG, InboxItemAnswer, shown_item
from gateway.api.operation import AnswerRule, NoQuery, Operation
from gateway.api.users import find_user
from gateway.errors import RATE_LIMITED, UNAVAILABLE, Problem
from gateway.model import ids
from gateway.router.answers import Answer
from gateway.router.live_inboxes import TooMany, Watcher
from gateway.storage.contract import InboxNews, InboxWatch, StoreUnavailable

HEARTBEAT_S: Final = 20.0
"""How often a silent stream says that it lives: proxies let go of a connection after 30 or 60 silent seconds."""

_LONGEST_MS: Final = 3_600_000
"""How long a key's stream goes on: then its reader comes again, and the key is asked for again."""

_RETRY_S: Final = 30
_RECONNECT: Final = b"retry: 3000\n\n"
_VERSION_DIGITS: Final = 18


class StreamedEvent(Answer, frozen=True, kw_only=True):
    """One event of the stream as its reader has it; `data` is JSON: a `ReadyEvent` or a `ChangeEvent`."""

    id: str
    event: str
    data: str


class ReadyEvent(Answer, frozen=True, kw_only=True):
    """The stream has begun, or (`reset`) too much changed to tell it one by one: ask for the list."""

    unread: int


class ChangeEvent(Answer, frozen=True, kw_only=True):
    """Items that came or changed, and those that are gone (replaced or expired)."""

    items: list[InboxItemAnswer]
    removed: list[str]
    unread: int


async def watch_inbox(context: ApiContext, call: Call[NoQuery, None]) -> Stream:
    """Begin to tell what changes."""
    user = await find_user(context, call)
    live = context.live_inboxes
    try:
        watcher = live.open(user.id)
    except TooMany as fault:
        if fault.of_user:
            detail = "This person has too many pages open; ask for the list now and then instead."
            raise Problem(RATE_LIMITED, detail, retry_after_s=_RETRY_S) from None
        detail = "Too many pages are kept up to date; ask for the list now and then instead."
        raise Problem(UNAVAILABLE, detail, retry_after_s=_RETRY_S) from None
    watch = InboxWatch(user_id=user.id, project=call.caller.sees, since=_last_event(call))
    until = call.caller.until or context.clock() + _LONGEST_MS
    pieces = _pieces(context, watcher, watch, until)
    return Stream(
        pieces=pieces,
        ended=lambda: live.leave(watcher),
        media_type=b"text/event-stream; charset=utf-8",
        headers=((b"x-accel-buffering", b"no"),),
    )


def _last_event(call: Call[Any, Any]) -> int | None:
    """Read up to which version the reader knows; what is no number is no knowledge."""
    written = call.headers.get(b"last-event-id", b"")
    return int(written) if written.isdigit() and len(written) <= _VERSION_DIGITS else None


async def _pieces(context: ApiContext, watcher: Watcher, watch: InboxWatch, until: int) -> AsyncGenerator[bytes]:
    try:
        yield _RECONNECT
        news = await context.store.inbox_news(watch, context.clock())
        yield _written("ready", news, context.clock())
        if watch.since is not None and watch.since != news.version:
            yield _written("change" if news.whole else "reset", news, context.clock())
        while not context.live_inboxes.closed and (left_ms := until - context.clock()) > 0:
            if not await _changed(watcher, min(HEARTBEAT_S, left_ms / 1000)):
                yield b":\n\n"
                continue
            watch = msgspec.structs.replace(watch, since=news.version)
            news = await context.store.inbox_news(watch, context.clock())
            if news.version != watch.since:
                yield _written("change" if news.whole else "reset", news, context.clock())
    except StoreUnavailable as error:
        context.log.info("inbox_stream_ended", error=str(error))


async def _changed(watcher: Watcher, timeout_s: float) -> bool:
    """Wait for a change; `False` after silence."""
    try:
        async with asyncio.timeout(timeout_s):
            await watcher.changed.wait()
    except TimeoutError:
        return False
    watcher.changed.clear()
    return True


def _written(kind: str, news: InboxNews, now: int) -> bytes:
    """Write one event. Its data is JSON without line breaks, so that it is one line."""
    data: Answer = ReadyEvent(unread=news.unread)
    if kind == "change":
        gone = [one for one in news.items if one.expires_at is not None and one.expires_at <= now]
        here = [one for one in news.items if one.expires_at is None or one.expires_at > now]
        data = ChangeEvent(
            items=[shown_item(one) for one in here],
            removed=[ids.show(ids.INBOX, one.id) for one in gone],
            unread=news.unread,
        )
    return b"event: %b\nid: %d\ndata: %b\n\n" % (kind.encode(), news.version, msgspec.json.encode(data))


OPERATIONS: Final = (
    Operation(
        id="watchInbox",
        method="GET",
        path="/v1/users/{user_id}/inbox/events",
        tag=TAG,
        summary="Hear what changes in a person's inbox",
        description=(
            "Server-sent events: `ready` when the stream has begun, `change` with `items`, `removed` and `unread`, and "
            "`reset` after which the list is to be asked for again. Each has an `id`; who comes again with it as "
            "`Last-Event-ID` is told what happened meanwhile. A stream ends with its token, and after an hour."
        ),
        act=watch_inbox,
        scopes=READERS,
        personal=True,
        answer=AnswerRule(type=StreamedEvent, media_type="text/event-stream", description="Events, as they come."),
        problems=(RATE_LIMITED,),
    ),
)
